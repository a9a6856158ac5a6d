//! Tests that have nothing to look at on this machine. They pass, so they have to be told apart from those that looked.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "every test binary compiles this and uses a part of it; a panic in a test is an answer"
)]

use std::{env, fs::File, io::Write, path::PathBuf};

/// Says that a test is skipped: as a line of its output, and of the file that `make test` counts by.
pub fn skipped(test: &str, why: &str) {
    println!("{test}: skipped, {why}");
    if let Some(file) = env::var_os("IMAGESETD_SKIPPED") {
        let mut file = File::options()
            .append(true)
            .create(true)
            .open(file)
            .unwrap();
        // In one piece: other tests write too.
        let line = format!("{}: {test}: {why}\n", env!("CARGO_CRATE_NAME"));
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// Returns the folder of real data, or says that the test is skipped.
pub fn real_data(test: &str) -> Option<PathBuf> {
    let folder = env::var_os("IMAGESETD_REAL_DATA").map(PathBuf::from);
    match &folder {
        Some(folder) => assert!(
            folder.is_dir(),
            "IMAGESETD_REAL_DATA is {}, which is not a folder",
            folder.display()
        ),
        None => skipped(test, "IMAGESETD_REAL_DATA is not set"),
    }
    folder
}
