//! The real daemon, between real registries, as foreign clients and scripts see it: grpcurl and Python without a proto file, and the
//! JSON, the exit codes and the manual of every verb.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot arrange its stage may panic"
)]

mod support;

#[path = "support/fixture.rs"]
mod fixture;

#[path = "clients/gate.rs"]
mod gate;

#[path = "clients/site.rs"]
mod site;

#[path = "clients/shape.rs"]
mod shape;

#[path = "clients/grpcurl.rs"]
mod grpcurl;

#[path = "clients/python.rs"]
mod python;

#[path = "clients/events.rs"]
mod events;

#[path = "clients/patience.rs"]
mod patience;

#[path = "clients/unit.rs"]
mod unit;

#[path = "clients/scripts.rs"]
mod scripts;
