//! The daemon's own door, as those before it find it: who comes in with what, who is kept out and why, and what they can use up.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot arrange its stage may panic"
)]

mod support;

#[path = "support/fixture.rs"]
mod fixture;

#[path = "clients/gate.rs"]
mod gate;

#[path = "door/pki.rs"]
mod pki;

#[path = "door/house.rs"]
mod house;

#[path = "door/starting.rs"]
mod starting;

#[path = "door/callers.rs"]
mod callers;

#[path = "door/changing.rs"]
mod changing;

#[path = "door/audit.rs"]
mod audit;

#[path = "door/limits.rs"]
mod limits;
