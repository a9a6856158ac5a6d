//! The daemon as people have it: the real binary, its command line over the socket, Debian's `docker-registry` on both sides.

// A test's failure is a panic; clippy knows that of test functions, not of their helpers.
#![allow(clippy::unwrap_used)]

mod support;

#[path = "support/fixture.rs"]
mod fixture;

#[path = "daemon/gate.rs"]
mod gate;

#[path = "daemon/git.rs"]
mod git;

#[path = "daemon/site.rs"]
mod site;

#[path = "daemon/starting.rs"]
mod starting;

#[path = "daemon/following.rs"]
mod following;

#[path = "daemon/deciding.rs"]
mod deciding;

#[path = "daemon/stanzas.rs"]
mod stanzas;

#[path = "daemon/runs.rs"]
mod runs;

#[path = "daemon/sharing.rs"]
mod sharing;

#[path = "daemon/verifying.rs"]
mod verifying;

#[path = "daemon/adopting.rs"]
mod adopting;
