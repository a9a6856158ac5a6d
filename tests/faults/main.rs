//! The engine between real registries with a proxy that spoils exchanges: whatever goes wrong on the way, what lands is right, and
//! every run ends.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/fixture.rs"]
mod fixture;

mod bench;

mod sessions;

mod table;
