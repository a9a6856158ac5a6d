//! Registries as sites have them, through the real program: passwords, token services, private authorities, client certificates,
//! proxies, blob stores elsewhere, registries.conf, credential helpers. Each time the same small set is mirrored.
//!
//! Hosts have names and loopback addresses of their own; a proxy of the tests knows the names, as a site's proxy does. Every host
//! records all it gets, and a credential that is not its own fails the test.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/fixture.rs"]
mod fixture;

mod authority;

mod host;

mod proxy;

mod world;

mod credentials;

mod certificates;

mod helpers;

mod proxies;

mod sources;
