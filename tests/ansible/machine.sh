#!/bin/sh
# A machine made of namespaces: systemd is its first process, its /etc, /usr, /var, /root, /srv and /tmp are this machine's under a layer that
# goes away with it, and the rest of this machine can only be read there.
#
#   machine.sh keep FOLDER KEPT...   keeps one until stdin ends; FOLDER/pid has its first process, FOLDER/ended how that ended by itself
#   machine.sh boot FOLDER KEPT...   becomes that first process
#
# FOLDER and KEPT are there as they are here, and what is written there is written here.
set -eu

# Without the notes in /run that it would keep.
mount() { command mount -n "$@"; }

keep() {
    # It ends with stdin, thus with whoever began it, and not before: there is something to put in order.
    trap '' INT TERM HUP
    group="$1/cgroup/imagesetd-test-$$"
    mkdir "$1/cgroup"
    mount -t cgroup2 cgroup2 "$1/cgroup"
    mkdir "$group"
    {
        # shellcheck disable=SC2016 # for the other shell
        sh -c 'echo $$ >"$0/cgroup.procs" && exec unshare --cgroup --mount --pid --uts --ipc --net --fork --kill-child sh "$@"' \
            "$group" "$0" boot "$@" || true
        echo ended >"$1/ended"
    } &
    cat >/dev/null
    until [ -s "$1/pid" ] || [ -e "$1/ended" ]; do sleep 0.1; done
    # With the first process of a PID namespace all others end, and it is over when they are.
    [ -e "$1/ended" ] || kill -KILL "$(cat "$1/pid")"
    wait
    find "$group" -depth -type d -exec rmdir {} \;
}

# devices FOLDER: those that programs cannot do without; systemd adds terminals and links.
devices() {
    mkdir "$1"
    mount -t tmpfs -o mode=755 devices "$1"
    for name in null zero full random urandom tty; do
        : >"$1/$name"
        mount --bind "/dev/$name" "$1/$name"
    done
    ln -s pts/ptmx "$1/ptmx"
    mount --move "$1" /dev
}

boot() {
    # Until /proc is replaced, it says what this process is called outside.
    read -r pid _ </proc/self/stat
    echo "$pid" >"$1/pid"
    own="$1/own"
    mkdir "$own"
    mount -t tmpfs -o mode=755 run "$own"
    number=0
    for place in "$@"; do
        mkdir -p "$own/kept/$number"
        mount --bind "$place" "$own/kept/$number"
        number=$((number + 1))
    done
    mount --move "$own" /run
    for place in etc usr var root srv tmp; do
        [ -d "/$place" ] && [ ! -L "/$place" ] || continue
        mkdir -p "/run/layer/$place" "/run/aside/$place"
        mount -t overlay "$place" -o "lowerdir=/$place,upperdir=/run/layer/$place,workdir=/run/aside/$place" "/$place"
    done
    mount -o remount,bind,ro /
    number=0
    for place in "$@"; do
        mkdir -p "$place"
        mount --move "/run/kept/$number" "$place"
        number=$((number + 1))
    done
    devices /run/devices
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    # As where systemd boots a real machine: it mounts credentials from a namespace of their own.
    mount --make-rshared /
    # Nothing that this machine would start.
    rm -rf /etc/systemd /usr/lib/systemd/system/*.wants /usr/lib/systemd/system-generators
    mkdir -p /etc/systemd/system /run/systemd/system/imagesetd.service.d
    # Without one, systemd would take this for the first boot and enable what is installed.
    echo 5c1d0f7a4e0b4f6f9d1c7b1f2a3e4d5c >/etc/machine-id
    printf '[Service]\nStandardError=append:/run/agent.log\n' >/run/systemd/system/imagesetd.service.d/log.conf
    exec env -i container=machine PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        /lib/systemd/systemd --unit=multi-user.target --log-target=null --show-status=no
}

"$@"
