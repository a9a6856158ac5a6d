//! The systemd of this machine, which need not be what it was booted with.

use std::process::Command;

/// Returns its version, where it is installed.
pub fn version() -> Option<u32> {
    let output = Command::new("systemd-analyze").arg("--version").output();
    let said = String::from_utf8(output.ok()?.stdout).ok()?;
    // "systemd 252 (252.39-1~deb12u1)"
    said.split_whitespace().nth(1)?.parse().ok()
}
