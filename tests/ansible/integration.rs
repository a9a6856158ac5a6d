//! The collection's integration targets, by ansible-test, in the collection that was installed.

use std::{fs, process::Command};

use super::{
    stage::Stage,
    workshop::{self, Workshop, check},
};

#[test]
fn the_targets_pass_on_the_oldest_core() {
    pass("oldest");
}

#[test]
fn the_targets_pass_on_the_newest_core() {
    pass("newest");
}

fn pass(core: &'static str) {
    let workshop = Workshop::new(core);
    let stage = Stage::new(&[]);
    // Tests are no part of the tarball.
    let copied = Command::new("cp")
        .arg("-r")
        .arg(workshop::source().join("tests"))
        .arg(workshop.collection())
        .output();
    check("copying the targets", &copied.unwrap());
    // JSON is YAML.
    let config = workshop
        .collection()
        .join("tests/integration/integration_config.yml");
    fs::write(config, stage.words(&workshop).to_string()).unwrap();
    let script = "exec ansible-test integration --local --continue-on-error --python \"$(python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])')\" -v";
    let tested = workshop
        .command()
        .args(["sh", "-c", script])
        .current_dir(workshop.collection())
        .output()
        .unwrap();
    check("ansible-test integration", &tested);
}
