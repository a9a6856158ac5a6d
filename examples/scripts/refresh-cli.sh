#!/usr/bin/env bash
# Brings what an image set lacks, within limits, with nothing but imagesetd and jq.
#
#   refresh-cli.sh IMAGE_SET [MAX_BYTES]
#
# The connection is imagesetd's own: IMAGESETD_ENDPOINT, IMAGESETD_TOKEN_FILE, IMAGESETD_CA_FILE. A plan that drains nodes is applied where
# ALLOW_DRAIN=1. Exit codes are imagesetd's: 3 a plan that is not up to date or beyond the limits, 6 some images failed, 7 the time is over and
# the run goes on: call it again to attach.
set -euo pipefail

set=${1:?which image set?}
max_bytes=${2:-$((500 * 1024 * 1024 * 1024))}

# Runs a verb; an error is a document too, whose sentence goes to stderr.
ask() {
    local code=0
    answer=$(imagesetd "$@" --output json) || code=$?
    if jq --exit-status 'has("error")' <<<"$answer" >/dev/null; then
        jq --raw-output '"\(.error.code): \(.error.message)"' <<<"$answer" >&2
    fi
    return "$code"
}

ask plan "$set"
plan=$(jq '.plans[0]' <<<"$answer")
id=$(jq --raw-output .id <<<"$plan")
if [ "$(jq --raw-output .freshness <<<"$plan")" = applied ]; then
    echo "$set: nothing to do"
    exit 0
fi
jq --raw-output '"\(.image_set): plan \(.id[:12]), \(.step_count) images, \(.bytes) bytes"' <<<"$plan"
if [ "$(jq .bytes <<<"$plan")" -gt "$max_bytes" ]; then
    echo "$set: more than $max_bytes bytes" >&2
    exit 3
fi
if [ "${ALLOW_DRAIN:-0}" != 1 ] && [ "$(jq '.node_impact.drain // false' <<<"$plan")" = true ]; then
    echo "$set: nodes would be drained; ALLOW_DRAIN=1 lets it" >&2
    exit 3
fi

# Exactly this plan, or nothing; calling again attaches to its run.
code=0
ask apply "$id" --timeout 12h || code=$?
jq --raw-output '.run // empty | "\(.image_set): run \(.id) \(.state)", (.failures[] | "failed: \(.image): \(.cause)")' <<<"$answer"
exit "$code"
