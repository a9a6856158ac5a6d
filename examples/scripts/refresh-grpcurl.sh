#!/usr/bin/env bash
# Brings what an image set lacks, within limits, with grpcurl and jq: what a host does that has no imagesetd.
#
#   refresh-grpcurl.sh IMAGE_SET [MAX_BYTES]
#
# GRPCURL has grpcurl's words for the connection, its address last: `-plaintext -unix /run/imagesetd/imagesetd.sock` where nothing is said, or
# `-cacert ca.pem -expand-headers -H authorization:Bearer${TOKEN} mirror.example.com:7443`. A plan that drains nodes is applied where ALLOW_DRAIN=1.
# Exit codes: 0 done, 1 the run did not bring everything, 3 beyond the limits, else grpcurl's (64 and the gRPC code).
set -euo pipefail

set=${1:?which image set?}
max_bytes=${2:-$((500 * 1024 * 1024 * 1024))}
read -r -a connection <<<"${GRPCURL:--plaintext -unix /run/imagesetd/imagesetd.sock}"

# call METHOD REQUEST
call() {
    local flags=("${connection[@]:0:${#connection[@]}-1}") address=${connection[-1]}
    # grpcurl wants the address behind its flags, and the socket's path is the address of `-unix`.
    grpcurl "${flags[@]}" -emit-defaults -d "$2" "$address" "imageset.v1.MirrorService/$1"
}

plan=$(call CreatePlan "$(jq --null-input --arg set "$set" '{image_set: $set}')" | jq '.plans[0]')
if [ "$(jq --raw-output .freshness <<<"$plan")" = FRESHNESS_APPLIED ]; then
    echo "$set: nothing to do"
    exit 0
fi
# 64-bit integers are strings in the JSON of protobuf.
jq --raw-output '"\(.imageSet): plan \(.id[:12]), \(.stepCount) images, \(.bytes) bytes"' <<<"$plan"
if [ "$(jq '.bytes | tonumber' <<<"$plan")" -gt "$max_bytes" ]; then
    echo "$set: more than $max_bytes bytes" >&2
    exit 3
fi
if [ "${ALLOW_DRAIN:-0}" != 1 ] && [ "$(jq '.nodeImpact.drain // false' <<<"$plan")" = true ]; then
    echo "$set: nodes would be drained; ALLOW_DRAIN=1 lets it" >&2
    exit 3
fi

# A stream of events; the last says how the run ended.
run=$(call ApplyPlan "$(jq '{plan_id: .id}' <<<"$plan")" | jq --slurp 'last.event.finished')
jq --raw-output '"\(.imageSet): run \(.id) \(.state)", (.failures[] | "failed: \(.image): \(.cause)")' <<<"$run"
[ "$(jq --raw-output .state <<<"$run")" = RUN_STATE_SUCCEEDED ]
