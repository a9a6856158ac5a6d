//! Real registries and real tools for behaviour tests, each registry with the record of what it was asked.
//!
//! A test binary has it by `mod support;`. Servers listen on a free port of 127.0.0.1 and end with the value that holds them.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "every test binary compiles this and uses a part of it; a panic in a test is an answer"
)]

use std::path::PathBuf;

pub mod access_log;
pub mod catalog;
pub mod oci;
pub mod registry;
pub mod skopeo;
pub mod tool;

/// Returns the folder of real data, or prints that the test is skipped.
pub fn real_data(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("IMAGESETD_REAL_DATA").map(PathBuf::from);
    match &folder {
        Some(folder) => assert!(
            folder.is_dir(),
            "IMAGESETD_REAL_DATA is {}, which is not a folder",
            folder.display()
        ),
        None => println!("{test}: skipped, IMAGESETD_REAL_DATA is not set"),
    }
    folder
}
