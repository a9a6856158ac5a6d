//! Real registries and real tools for behaviour tests, each registry with the record of what it was asked.
//!
//! A test binary has it by `mod support;`. Servers listen on a free port of 127.0.0.1 and end with the value that holds them.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "every test binary compiles this and uses a part of it; a panic in a test is an answer"
)]

pub mod access_log;
pub mod catalog;
pub mod gpg;
pub mod oci;
pub mod proxy;
pub mod registry;
pub mod skip;
pub mod skopeo;
pub mod systemd;
pub mod tool;

pub use skip::real_data;
