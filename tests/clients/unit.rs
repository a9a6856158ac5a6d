//! The unit for systemd.

use std::{fs, path::Path, process::Command};

use super::support::skip;

#[test]
fn systemd_takes_the_unit_and_finds_it_shut_in() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        skip::skipped(
            "systemd_takes_the_unit_and_finds_it_shut_in",
            "systemd-analyze is not installed",
        );
        return;
    }
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/imagesetd.service");
    let text = fs::read_to_string(packaged).unwrap();
    assert!(text.contains("ExecStart=/usr/local/bin/imagesetd "));
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("imagesetd.service");
    let installed = env!("CARGO_BIN_EXE_imagesetd");
    fs::write(&unit, text.replace("/usr/local/bin/imagesetd", installed)).unwrap();
    for line in ["verify --man=no", "security --offline=yes --threshold=20"] {
        let output = Command::new("systemd-analyze")
            .args(line.split(' '))
            .arg(&unit)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{line}:\n{stdout}\n{stderr}");
        let about_it: Vec<_> = stderr
            .lines()
            .filter(|line| line.starts_with("imagesetd.service"))
            .collect();
        assert_eq!(about_it, Vec::<&str>::new(), "{line}");
    }
}
