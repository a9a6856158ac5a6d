//! Every EXAMPLES block, for real, twice.

use std::{fs, path::Path, process::Command};

use serde_json::json;

use super::{
    stage::{Stage, TOOLS},
    support::tool,
    workshop::{Workshop, check},
};

/// What begins a run or waits for one is changed the first time; nothing is the second time.
const CHANGED: [&str; 1] = ["Bring an image set into the mirror"];

#[test]
fn every_example_runs_and_changes_nothing_the_second_time() {
    let workshop = Workshop::new("newest");
    let stage = Stage::new(&[("prod/tools.yaml", &TOOLS.replace("hammer", "saw"))]);
    let site = &stage.site;
    fs::create_dir(workshop.path("review")).unwrap();
    let review = site.filled(TOOLS);
    fs::write(workshop.path("review/review.yaml"), review).unwrap();
    let words = json!({
        "connection": stage.words(&workshop)["daemon_connection"],
        "replace": {
            "/srv/imagesets": site.path("sets"), "/srv/review": workshop.path("review"),
            "/tmp/imagesetd-documents.yaml": workshop.path("documents.yaml"),
            // As much as the example's own limit allows depends on what is mirrored.
            "max_impact: reload": "max_impact: drain",
        },
    });
    fs::write(workshop.path("words.json"), words.to_string()).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ansible");
    let python = |words: &[&str]| {
        let mut command = workshop.command();
        command
            .arg("python3")
            .arg(folder.join("examples.py"))
            .args(words);
        let output = command.output().unwrap();
        check("examples.py", &output);
        String::from_utf8(output.stdout).unwrap()
    };
    python(&["write", "words.json", "examples.yml"]);
    let play = |lines: &str| -> Vec<String> {
        let output = workshop
            .command()
            .env("ANSIBLE_CALLBACK_PLUGINS", folder.join("callback"))
            .env("ANSIBLE_STDOUT_CALLBACK", "lines")
            .env("LINES", workshop.path(lines))
            .args(["ansible-playbook", "examples.yml"])
            .output()
            .unwrap();
        check("the examples", &output);
        let checked = python(&["check", lines]);
        let (tasks, rest) = checked.rsplit_once("modules\t").unwrap();
        assert_eq!(rest.trim(), "[]", "modules without examples");
        let changed = tasks.lines().filter(|line| line.ends_with("\tchanged"));
        changed
            .map(|line| line.split('\t').nth(1).unwrap().to_owned())
            .collect()
    };
    assert_eq!(play("first"), CHANGED);
    let held = Command::new(tool::find("skopeo"))
        .args(["inspect", "--tls-verify=false"])
        .arg(format!(
            "docker://{}/ocp/team/saw:v1",
            site.mirror.address()
        ))
        .output();
    check("skopeo inspect", &held.unwrap());
    assert_eq!(play("second"), Vec::<String>::new());
}
