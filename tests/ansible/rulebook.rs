//! The event source for Event-Driven Ansible, called as ansible-rulebook calls it, from the tarball.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Stdio},
};

use serde_json::{Value, json};

use super::{stage::Stage, workshop::Workshop};

struct Source {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Source {
    fn begin(workshop: &Workshop, count: u32, args: &Value) -> Source {
        let plugin = "extensions/eda/plugins/event_source/events.py";
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ansible/source.py");
        let mut child = workshop
            .command()
            .args(["python3", script])
            .arg(workshop.collection().join(plugin))
            .args([count.to_string(), args.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Source { child, lines }
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap_or_default()["imagesetd"].clone()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn events_come_and_come_again_after_the_daemon_was_away() {
    let workshop = Workshop::new("newest");
    let mut stage = Stage::new(&[]);
    let endpoint = format!("unix://{}", stage.site.socket().display());
    let args = json!({
        "endpoint": endpoint, "binary_path": env!("CARGO_BIN_EXE_imagesetd"), "retry_delay": 0.1,
        "kinds": ["plan_ready", "run_finished"],
    });
    stage.site.wait_for("the plan", |status| {
        status["image_sets"][0]["pending_reason"] == "manual"
    });
    let mut source = Source::begin(&workshop, 3, &args);
    let first = source.next();
    assert_eq!(
        (&first["kind"], &first["image_set"], &first["standing"]),
        (&json!("plan_ready"), &json!("tools"), &json!(true))
    );
    stage.site.cli("apply tools --output json");
    let second = source.next();
    assert_eq!(
        (&second["kind"], &second["image_set"]),
        (&json!("run_finished"), &json!("tools"))
    );
    stage.site.stop();
    stage
        .site
        .write("more.yaml", &super::stage::TOOLS.replace("hammer", "saw"));
    stage.site.start();
    let third = source.next();
    assert_eq!(
        (&third["kind"], &third["image_set"]),
        (&json!("plan_ready"), &json!("more"))
    );
    let wrong = json!({
        "endpoint": endpoint, "binary_path": env!("CARGO_BIN_EXE_imagesetd"), "imageset": "nothing",
    });
    let mut source = Source::begin(&workshop, 1, &wrong);
    assert_eq!(source.next(), Value::Null);
    let mut said = String::new();
    let stderr = source.child.stderr.take().unwrap();
    BufReader::new(stderr).read_line(&mut said).unwrap();
    assert!(
        said.starts_with("refused: there is no image set nothing"),
        "{said}"
    );
}
