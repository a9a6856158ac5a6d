//! The audit log: who did what, and that nobody's secret is in it.

use std::fs;

use serde_json::{Value, json};

use crate::house::{House, Shown};

/// The lines of the audit log, without what differs from run to run.
fn lines(house: &House) -> Vec<Value> {
    let lines = house.log();
    let lines = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    lines
        .filter(|line| line["target"] == "audit")
        .map(|line| {
            assert_eq!(line["level"], "INFO");
            let mut fields = line["fields"].clone();
            let from = fields["from"].as_str().unwrap().to_owned();
            if from != "unix" {
                assert!(from.starts_with("127.0.0.1:"), "{from}");
                fields["from"] = json!("ADDRESS");
            }
            fields
        })
        .collect()
}

#[test]
fn each_change_and_each_denial_is_a_line_that_says_who() {
    let mut house = House::new();
    house.token("reader", "read");
    house.token("planner", "plan");
    house.settings(&house.usual());
    // A level that hides all else does not hide who did what.
    house.start_with(&["--log-format", "json", "--log-level", "warn"]);
    let with = |name: &str| Shown::token(house.token_file(name));
    house.call(&with("reader"), "GetStatus").unwrap();
    house.call(&with("planner"), "CreatePlan").unwrap();
    let _ = house.call_with(&with("planner"), "ApplyPlan", r#"{"plan_id": "77"}"#);
    let _ = house.call(&Shown::nothing(), "GetStatus");
    let ansible = Shown::pair(house.ca.sign("ansible", ""));
    let _ = house.call_with(&ansible, "ApplyPlan", r#"{"plan_id": "7\n7"}"#);
    let _ = house.call_with(&ansible, "CancelRun", r#"{"id": "99"}"#);
    house.cli(&house.socket(), "resources retire tools --dry-run");
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    let user = format!("user {}", user.unwrap().unwrap().name);
    let line = |caller: &str, from: &str, call: &str, result: &str, more: Value| {
        let mut line = json!({
            "message": "audit", "caller": caller, "from": from, "call": call, "result": result,
        });
        for (key, value) in more.as_object().unwrap() {
            line[key] = value.clone();
        }
        line
    };
    assert_eq!(
        lines(&house),
        [
            line("token planner", "ADDRESS", "CreatePlan", "done", json!({})),
            line(
                "token planner",
                "ADDRESS",
                "ApplyPlan",
                "denied",
                json!({"reason": "RIGHTS_MISSING"})
            ),
            line(
                "unknown",
                "ADDRESS",
                "GetStatus",
                "denied",
                json!({"reason": "NO_CREDENTIALS"})
            ),
            line(
                "certificate ansible",
                "ADDRESS",
                "ApplyPlan",
                "failed",
                json!({"plan": "7\n7", "reason": "PLAN_NOT_FOUND"})
            ),
            line(
                "certificate ansible",
                "ADDRESS",
                "CancelRun",
                "failed",
                json!({"run": "99", "reason": "RUN_NOT_FOUND"})
            ),
            line(
                &user,
                "unix",
                "RetireResources",
                "failed",
                json!({"image_set": "tools", "note": "dry run", "reason": "RULES_NOT_FOUND"})
            ),
        ]
    );
}

#[test]
fn no_secret_is_in_the_log_at_its_finest() {
    let mut house = House::new();
    house.token("reader", "read");
    house.settings(&house.usual());
    house.start_with(&[
        "--log-level",
        "trace,h2=trace,hyper=trace,rustls=trace,tonic=trace",
    ]);
    let reader = Shown::token(house.token_file("reader"));
    house.call(&reader, "GetStatus").unwrap();
    let stranger = house.path("stranger.token");
    fs::write(&stranger, "imagesetd_canary").unwrap();
    let _ = house.call(&Shown::token(stranger), "GetStatus");
    let log = house.log();
    let secret = fs::read_to_string(house.token_file("reader")).unwrap();
    assert!(log.contains("TOKEN_REFUSED"), "{log}");
    for canary in [secret.trim(), "imagesetd_canary"] {
        let line = log.lines().find(|line| line.contains(canary));
        assert_eq!(line, None);
    }
}

#[test]
fn a_line_for_people_is_one_line_whatever_was_sent() {
    let house = House::open();
    let applier = Shown::token(house.token_file("applier"));
    let request = r#"{"plan_id": "7\n2026-01-01 INFO audit caller=\"token admin\""}"#;
    let _ = house.call_with(&applier, "ApplyPlan", request);
    let log = house.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("audit")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(
        lines[0].contains(r#"caller="token applier""#) && lines[0].contains(r"\n2026-01-01"),
        "{log}"
    );
}
