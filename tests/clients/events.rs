//! What happens, as those hear of it who listen: playbooks by `imagesetd events`, systemd by its socket.

use std::{
    io::{BufRead, BufReader},
    os::unix::net::UnixDatagram,
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    shape::documents,
    site::{Plot, Site},
};

const TOOLS: &str = "apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  additionalImages:
  - name: GATE/team/hammer:v1
";

/// Someone who listens, until this value ends.
struct Listener {
    child: Child,
    lines: Receiver<String>,
}

impl Listener {
    fn begin(site: &Site, more: &str) -> Listener {
        let mut child = site
            .command(&format!("events --output ndjson {more}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (told, lines) = channel();
        // Whoever waits for a line does not wait for ever.
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let _ = told.send(line);
            }
        });
        Listener { child, lines }
    }

    fn next(&mut self) -> Value {
        let line = self.lines.recv_timeout(Duration::from_secs(60)).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// The next event that is no progress: how many of those there are depends on the machine.
    fn next_step(&mut self) -> Value {
        loop {
            let event = self.next();
            if event["kind"] != "run_progress" {
                return event;
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kind_and_set(event: &Value) -> (String, String) {
    let word = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    (word("kind"), word("image_set"))
}

fn pair(kind: &str, set: &str) -> (String, String) {
    (kind.to_owned(), set.to_owned())
}

fn manual() -> Plot<'static> {
    Plot {
        settings: "apply: manual\n",
        ..Plot::default()
    }
}

#[test]
fn who_follows_hears_of_everything_in_order() {
    let mut site = Site::new(&[("tools.yaml", TOOLS)], &manual());
    let waits = site.wait_for("the plan", |status| {
        status["image_sets"][0]["pending_reason"] == "manual"
    });
    let plan = &waits["image_sets"][0]["plan_id"];
    let mut listener = Listener::begin(&site, "--follow");
    let standing = listener.next();
    assert_eq!(kind_and_set(&standing), pair("plan_ready", "tools"));
    assert_eq!(
        (
            &standing["schema"],
            &standing["standing"],
            &standing["plan"]["id"]
        ),
        (&json!(1), &json!(true), plan)
    );
    site.write("more.yaml", &TOOLS.replace("hammer", "saw"));
    let changed = listener.next_step();
    assert_eq!(kind_and_set(&changed), pair("image_set_changed", "more"));
    assert_eq!(changed["standing"], false);
    let ready = listener.next_step();
    assert_eq!(kind_and_set(&ready), pair("plan_ready", "more"));
    assert_eq!(ready["plan"]["step_count"], 1);

    let begun = site.cli("apply tools --detach --output json");
    let run = documents(&begun.stdout)[0]["run"]["id"].clone();
    let started = listener.next_step();
    assert_eq!(kind_and_set(&started), pair("run_started", "tools"));
    assert_eq!(started["run"]["id"], run);
    let now = site.cli("events tools --output ndjson");
    let now = documents(&now.stdout);
    assert_eq!(now.len(), 1, "{now:?}");
    assert_eq!(
        (&now[0]["kind"], &now[0]["standing"], &now[0]["run"]["id"]),
        (&json!("run_started"), &json!(true), &run)
    );
    site.gate.open();
    let finished = listener.next_step();
    assert_eq!(kind_and_set(&finished), pair("run_finished", "tools"));
    assert_eq!(finished["run"]["state"], "succeeded");
    let nothing = site.cli("events tools --output ndjson");
    assert_eq!(documents(&nothing.stdout), Vec::<Value>::new());

    std::fs::remove_file(site.path("sets/more.yaml")).unwrap();
    let gone = listener.next_step();
    assert_eq!(kind_and_set(&gone), pair("image_set_changed", "more"));
    let message = gone["message"].as_str().unwrap();
    assert!(message.contains("went away"), "{message}");
    site.stop();
    let last = listener.next_step();
    assert_eq!(last["error"]["code"], "SHUTTING_DOWN");
    assert_eq!(listener.child.wait().unwrap().code(), Some(5));
}

#[test]
fn kinds_and_failures_are_told_apart() {
    let site = Site::new(&[("tools.yaml", TOOLS)], &manual());
    site.wait_for("the plan", |status| {
        status["image_sets"][0]["pending_reason"] == "manual"
    });
    // What was planned is gone by the time it is asked for.
    let blobs = site.upstream.storage().join("docker/registry/v2/blobs");
    std::fs::remove_dir_all(blobs).unwrap();
    let kinds = "--follow --kind run_started --kind run_failed --kind run_finished";
    let mut listener = Listener::begin(&site, kinds);
    let begun = site.cli("apply tools --detach --output json");
    let run = &documents(&begun.stdout)[0]["run"]["id"];
    let started = listener.next();
    assert_eq!(
        (&started["kind"], &started["run"]["id"]),
        (&json!("run_started"), run)
    );
    site.gate.open();
    let over = listener.next();
    assert_eq!(
        (&over["kind"], &over["run"]["id"]),
        (&json!("run_failed"), run)
    );
    assert_eq!(over["run"]["state"], "failed", "{over}");
    let wrong = site.cli("events nothing --output ndjson");
    assert_eq!(wrong.status.code(), Some(3));
    assert_eq!(
        documents(&wrong.stdout)[0]["error"]["code"],
        "IMAGE_SET_NOT_FOUND"
    );
}

#[test]
fn systemd_hears_that_the_daemon_is_up_and_that_it_stops() {
    let mut site = Site::new(&[], &manual());
    site.stop();
    let socket = UnixDatagram::bind(site.path("notify")).unwrap();
    let patience = Some(Duration::from_secs(60));
    socket.set_read_timeout(patience).unwrap();
    let heard = || {
        let mut buffer = [0; 200];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    site.start();
    assert_eq!(heard(), "READY=1\nSTATUS=Up");
    site.stop();
    assert!(heard().starts_with("STOPPING=1\n"));
}
