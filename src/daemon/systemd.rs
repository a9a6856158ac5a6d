//! Tells systemd how the daemon is, where it was started by a unit of `Type=notify`.
//!
//! The protocol is sd_notify(3): datagrams of `KEY=VALUE` lines to the socket that `NOTIFY_SOCKET` names.

use std::{
    ffi::{OsStr, OsString},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

/// Who is told; nobody where no service manager asked for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Notify(Option<OsString>);

impl Notify {
    /// The socket of the environment.
    pub(super) fn of_environment() -> Self {
        Notify(std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()))
    }

    /// The daemon lets clients in.
    pub(super) fn ready(&self) {
        self.tell("READY=1\nSTATUS=Up");
    }

    /// The daemon ends what it does.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=Stopping: what is being transferred may finish");
    }

    /// Says that the daemon is alive, twice as often as systemd asks for; `alive` has to come back for that.
    pub(super) async fn watch(self, alive: impl Fn(), stop: CancellationToken) {
        let Some(every) = watchdog(|name| std::env::var(name).ok()) else {
            return;
        };
        let mut ticks = tokio::time::interval(every / 2);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            alive();
            self.tell("WATCHDOG=1");
        }
    }

    fn tell(&self, what: &str) {
        let Some(socket) = &self.0 else {
            return;
        };
        if let Err(error) = send(socket.as_bytes(), what) {
            tracing::warn!(%error, "systemd could not be told how the daemon is");
        }
    }
}

fn send(socket: &[u8], what: &str) -> std::io::Result<()> {
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(OsStr::from_bytes(socket))?,
    };
    UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &address)?;
    Ok(())
}

/// How often systemd wants to hear that this process is alive.
fn watchdog(variable: impl Fn(&str) -> Option<String>) -> Option<Duration> {
    let of_another = |pid: String| pid.parse() != Ok(std::process::id());
    if variable("WATCHDOG_PID").is_some_and(of_another) {
        return None;
    }
    let micros: u64 = variable("WATCHDOG_USEC")?.parse().ok()?;
    (micros > 0).then(|| Duration::from_micros(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sockets_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        Notify(Some(path.into())).ready();
        let name = format!("imagesetd-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let abstract_one = UnixDatagram::bind_addr(&address).unwrap();
        Notify(Some(format!("@{name}").into())).stopping();
        let heard = |socket: UnixDatagram| {
            let mut buffer = [0; 100];
            let count = socket.recv(&mut buffer).unwrap();
            String::from_utf8_lossy(&buffer[..count]).into_owned()
        };
        assert_eq!(heard(at_path), "READY=1\nSTATUS=Up");
        assert!(heard(abstract_one).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn a_socket_that_is_not_there_stops_nothing() {
        Notify(Some("/nowhere/notify".into())).ready();
        Notify(None).ready();
    }

    #[test]
    fn the_watchdog_is_for_this_process_alone() {
        let own = std::process::id().to_string();
        let asked = |pid: Option<&str>, micros: &str| {
            watchdog(|name| match name {
                "WATCHDOG_PID" => pid.map(str::to_owned),
                _ => Some(micros.to_owned()),
            })
        };
        assert_eq!(asked(Some(&own), "30000000"), Some(Duration::from_secs(30)));
        assert_eq!(asked(None, "5"), Some(Duration::from_micros(5)));
        assert_eq!(asked(Some("1"), "30000000"), None);
        assert_eq!(asked(None, "0"), None);
        assert_eq!(watchdog(|_| None), None);
    }
}
