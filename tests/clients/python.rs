//! Python's gRPC, built on another implementation of HTTP/2 than grpcurl's, also without a proto file.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use super::{
    shape::documents,
    site::{Plot, Site},
    support::tool,
};

const TOOLS: &str = "apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  additionalImages:
  - name: UPSTREAM/team/hammer:v1
";

fn call(address: &str, method: &str, request: &Value) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/client.py");
    let output = Command::new(tool::find_installed("python-grpc"))
        .arg(script)
        .args([address, method, &request.to_string()])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{method} at {address}: {stderr}");
    documents(&output.stdout)
}

#[test]
fn python_plans_applies_and_is_refused_at_both_doors() {
    let plot = Plot {
        settings: "apply: manual\n",
        ..Plot::default()
    };
    let site = Site::new(&[("tools.yaml", TOOLS)], &plot);
    let doors = [
        format!("unix://{}", site.socket().display()),
        site.tcp.clone(),
    ];
    let plans = doors
        .each_ref()
        .map(|door| call(door, "CreatePlan", &json!({"image_set": "tools"})));
    assert_eq!(plans[0], plans[1]);
    let plan = &plans[0][0]["plans"][0];
    assert_eq!(
        (&plan["stepCount"], &plan["freshness"]),
        (&json!("1"), &json!("FRESHNESS_FRESH"))
    );
    for door in &doors {
        let events = call(door, "ApplyPlan", &json!({"plan_id": plan["id"]}));
        let run = &events.last().unwrap()["event"]["finished"];
        assert_eq!(
            (&run["state"], &run["planId"]),
            (&json!("RUN_STATE_SUCCEEDED"), &plan["id"])
        );
    }
    site.write("tools.yaml", &TOOLS.replace("hammer", "saw"));
    let stale = call(&doors[1], "CreatePlan", &json!({}))[0]["plans"][0]["id"].clone();
    site.write("tools.yaml", &TOOLS.replace("hammer", "slow"));
    for door in &doors {
        let refused = &call(door, "ApplyPlan", &json!({"plan_id": stale}))[0];
        assert_eq!(
            (&refused["code"], &refused["reason"], &refused["details"]),
            (
                &json!("FAILED_PRECONDITION"),
                &json!("STALE_PLAN"),
                &json!([
                    {
                        "reason": "STALE_PLAN",
                        "domain": "imagesetd",
                        "metadata": {"image_set": "tools", "plan_id": stale},
                    },
                    {"imageSet": "tools", "planId": stale},
                ])
            )
        );
        let message = refused["message"].as_str().unwrap();
        assert!(
            message.ends_with("; make a new one: `imagesetd plan tools`"),
            "{message}"
        );
    }
}
