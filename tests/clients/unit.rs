//! The unit for systemd.

use std::{fs, path::Path, process::Command};

use super::support::{skip, systemd};

/// The first systemd whose `systemd-analyze security` looks at files.
const OFFLINE: u32 = 250;

#[test]
fn systemd_takes_the_unit_and_finds_it_shut_in() {
    let test = "systemd_takes_the_unit_and_finds_it_shut_in";
    match systemd::version() {
        Some(version) if version >= OFFLINE => {}
        Some(version) => {
            let why = format!("systemd {version} is older than {OFFLINE}");
            return skip::skipped(test, &why);
        }
        None => return skip::skipped(test, "systemd is not installed"),
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

/// What the role of the collection installs is what is packaged, where nothing else was asked for.
#[test]
fn the_unit_of_the_role_is_the_packaged_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packaged = fs::read_to_string(root.join("packaging/imagesetd.service")).unwrap();
    let role = "ansible/ansible_collections/imagesetd/mirror/roles/install";
    let template = root.join(role).join("templates/imagesetd.service.j2");
    let template = fs::read_to_string(template).unwrap();
    let defaults = fs::read_to_string(root.join(role).join("defaults/main.yml")).unwrap();
    let mut filled = template;
    for line in defaults.lines() {
        if let Some((name, value)) = line.split_once(": ") {
            filled = filled.replace(&format!("{{{{ {name} }}}}"), value);
        }
    }
    assert_eq!(unit_of(&filled), unit_of(&packaged));
}

/// The lines from the first section on, without those that depend on something else than defaults.
fn unit_of(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut kept = Vec::new();
    for line in text.lines().skip_while(|line| *line != "[Unit]") {
        depth += usize::from(line.starts_with("{% if"));
        if depth == 0 {
            kept.push(line);
        }
        depth -= usize::from(line.starts_with("{% endif"));
    }
    kept
}
