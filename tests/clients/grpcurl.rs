//! grpcurl, which knows nothing of the proto files, at the Unix socket and at loopback TCP.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::{Value, json};

use super::{
    shape::{documents, only, steady},
    site::{self, Plot, Site},
    support::{registry::wait_for, tool},
};

const SERVICE: &str = "imageset.v1.MirrorService";

const RPCS: [&str; 23] = [
    "AdoptResources",
    "ApplyPlan",
    "CancelRun",
    "CreatePlan",
    "ExplainImage",
    "FilterCatalog",
    "GetInstallConfig",
    "GetPlan",
    "GetResources",
    "GetRun",
    "GetStatus",
    "ListCatalog",
    "ListPlanSteps",
    "ListPlans",
    "ListRuns",
    "PublishResources",
    "PutClusterSnapshot",
    "RetireResources",
    "ValidateImageSets",
    "VerifyMirror",
    "WatchEvents",
    "WatchRun",
    "WatchStatus",
];

/// Where grpcurl knocks.
#[derive(Debug, Clone)]
struct Door(Vec<String>);

fn doors(site: &Site) -> [Door; 2] {
    let socket = site.socket().display().to_string();
    [
        Door(vec!["-unix".to_owned(), socket]),
        Door(vec![site.tcp.clone()]),
    ]
}

impl Door {
    fn command(&self, options: &[&str], what: &[&str]) -> Command {
        let mut command = Command::new(tool::find("grpcurl"));
        command
            .args(["-plaintext", "-max-time", "60"])
            .args(options)
            .args(&self.0)
            .args(what)
            .stdin(Stdio::null());
        command
    }

    fn tell(&self, what: &[&str]) -> String {
        let output = self.command(&[], what).output().unwrap();
        assert!(output.status.success(), "{what:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn calling(&self, rpc: &str, request: &Value) -> Command {
        let (request, method) = (request.to_string(), format!("{SERVICE}/{rpc}"));
        self.command(&["-emit-defaults", "-d", &request], &[&method])
    }

    /// Returns everything that a call is answered.
    fn stream(&self, rpc: &str, request: &Value) -> Vec<Value> {
        let output = self.calling(rpc, request).output().unwrap();
        assert!(
            output.status.success(),
            "{rpc} {request}: {}",
            text(&output)
        );
        documents(&output.stdout)
    }

    fn call(&self, rpc: &str, request: &Value) -> Value {
        let answers = self.stream(rpc, request);
        assert_eq!(answers.len(), 1, "{rpc} {request}: {answers:?}");
        answers.into_iter().next().unwrap()
    }

    /// Returns why a call is refused: code, reason, message and details.
    fn refusal(&self, rpc: &str, request: &Value) -> (u64, String, String, Value) {
        let (data, method) = (request.to_string(), format!("{SERVICE}/{rpc}"));
        let mut command = self.command(&["-v", "-format-error", "-d", &data], &[&method]);
        let output = command.output().unwrap();
        assert!(
            !output.status.success(),
            "{rpc} {request}: {}",
            text(&output)
        );
        let told = text(&output);
        let reason = told
            .lines()
            .find_map(|line| line.strip_prefix("imagesetd-reason: "));
        let error = only(&output.stderr);
        (
            error["code"].as_u64().unwrap(),
            reason
                .unwrap_or_else(|| panic!("no reason in {told}"))
                .to_owned(),
            error["message"].as_str().unwrap().to_owned(),
            error.get("details").cloned().unwrap_or(Value::Null),
        )
    }
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(out).into_owned() + &String::from_utf8_lossy(err)
}

/// Returns the names of messages and enums in the proto files.
fn types() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/imageset/v1");
    let files = fs::read_dir(folder).unwrap();
    let text: String = files
        .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let named = |line: &str| {
        let mut words = line.split(' ');
        let is_type = matches!(words.next(), Some("message" | "enum"));
        is_type
            .then(|| words.next())
            .flatten()
            .map(|name| format!("imageset.v1.{name}"))
    };
    text.lines().filter_map(named).collect()
}

/// Returns the types of ours that a description names.
fn names_in(description: &str) -> BTreeSet<String> {
    let words = description.split(|c: char| !(c.is_alphanumeric() || "._".contains(c)));
    words
        .filter_map(|word| word.strip_prefix('.'))
        .filter(|word| word.starts_with("imageset.v1."))
        .map(str::to_owned)
        .collect()
}

#[test]
fn service_methods_and_messages_describe_themselves() {
    let site = Site::new(&[], &Plot::default());
    for door in doors(&site) {
        let services: Vec<String> = door.tell(&["list"]).lines().map(str::to_owned).collect();
        assert_eq!(
            services,
            [
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection",
                "grpc.reflection.v1alpha.ServerReflection",
                SERVICE
            ]
        );
        let methods = door.tell(&["list", SERVICE]);
        assert_eq!(
            methods.lines().collect::<Vec<_>>(),
            RPCS.map(|rpc| format!("{SERVICE}.{rpc}"))
        );
        let method = door.tell(&["describe", &format!("{SERVICE}.ApplyPlan")]);
        assert!(
            method.contains("rpc ApplyPlan ( .imageset.v1.ApplyPlanRequest ) returns ( stream .imageset.v1.ApplyPlanResponse );"),
            "{method}"
        );
        for version in ["grpc.reflection.v1", "grpc.reflection.v1alpha"] {
            door.tell(&["describe", &format!("{version}.ServerReflection")]);
        }
    }
    let [socket, _] = doors(&site);
    let mut open: Vec<String> = vec![SERVICE.into(), "imageset.v1.ErrorDetails".into()];
    let mut described: BTreeSet<String> = open.iter().cloned().collect();
    while let Some(symbol) = open.pop() {
        let description = socket.tell(&["describe", &symbol]);
        assert!(
            description.contains("\n// "),
            "{symbol} has no comment: {description}"
        );
        let fresh = names_in(&description).into_iter();
        let fresh: Vec<_> = fresh
            .filter(|name| described.insert(name.clone()))
            .collect();
        open.extend(fresh);
    }
    described.remove(SERVICE);
    assert_eq!(described, types());
}

#[test]
fn health_is_serving_at_both_doors() {
    let site = Site::new(&[], &Plot::default());
    for door in doors(&site) {
        for service in ["", SERVICE] {
            let request = json!({"service": service}).to_string();
            let mut check = door.command(&["-d", &request], &["grpc.health.v1.Health/Check"]);
            let output = check.output().unwrap();
            assert_eq!(only(&output.stdout), json!({"status": "SERVING"}));
        }
    }
}

const BROKEN: &str = "apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  additionalImagez: []
";

const TOOLS: &str = "apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  additionalImages:
  - name: UPSTREAM/team/hammer:v1
  - name: UPSTREAM/team/saw:v1
";

const OCP: &str = "apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  platform:
    channels:
    - name: stable-4.16
      minVersion: 4.16.1
      maxVersion: 4.16.1
";

const SLOW: &str = "apiVersion: mirror.openshift.io/v2alpha1
kind: ImageSetConfiguration
mirror:
  additionalImages:
  - name: GATE/team/saw:v1
    targetRepo: slow/saw
  - name: GATE/team/slow:v1
    targetRepo: slow/slow
";

const MANUAL: Plot = Plot {
    settings: "apply: manual\n",
    password: false,
};

/// The problem of [`BROKEN`] in `file`.
fn problem(file: &str) -> Value {
    json!({
        "severity": "SEVERITY_ERROR", "file": file, "line": 4, "column": 3, "path": "mirror.additionalImagez",
        "message": "`additionalImagez` is not a key that is known here", "hint": "did you mean `additionalImages`?",
    })
}

#[test]
fn validation_answers_files_of_the_directory_and_files_sent_along() {
    let files = [("tools.yaml", TOOLS), ("prod/broken.yaml", BROKEN)];
    let site = Site::new(&files, &MANUAL);
    let at = |name: &str| site.path("sets").join(name).display().to_string();
    for door in doors(&site) {
        assert_eq!(
            door.call("ValidateImageSets", &json!({})),
            json!({
                "valid": false,
                "imageSets": [
                    {"name": "prod/broken", "file": at("prod/broken.yaml"), "valid": false},
                    {"name": "tools", "file": at("tools.yaml"), "valid": true},
                ],
                "problems": [problem(&at("prod/broken.yaml"))],
            })
        );
        let sent = json!({"files": [
            {"name": "pr/a.yaml", "content": site.filled(TOOLS)}, {"name": "pr/b.yaml", "content": BROKEN},
        ]});
        assert_eq!(
            door.call("ValidateImageSets", &sent),
            json!({
                "valid": false,
                "imageSets": [
                    {"name": "pr/a", "file": "pr/a.yaml", "valid": true},
                    {"name": "pr/b", "file": "pr/b.yaml", "valid": false},
                ],
                "problems": [problem("pr/b.yaml")],
            })
        );
    }
}

/// The plan of [`TOOLS`] before anything is mirrored.
fn plan_of_tools(site: &Site) -> Value {
    let document = site.filled(
        "apiVersion: config.openshift.io/v1\nkind: ImageTagMirrorSet\nmetadata:\n  name: tools-additional\n  labels:\n    \
         app.kubernetes.io/managed-by: imagesetd\n  annotations:\n    imagesetd.io/image-set: tools\n    \
         imagesetd.io/purpose: additional\nspec:\n  imageTagMirrors:\n    - source: \"UPSTREAM/team\"\n      mirrors:\n        \
         - \"MIRROR/ocp/team\"\n",
    );
    let bytes = tools_bytes().iter().sum::<u64>().to_string();
    json!({
        "id": "ID", "imageSet": "tools", "revision": "REVISION", "lineage": "LINEAGE", "serial": "0", "createdAt": "TIME",
        "freshness": "FRESHNESS_FRESH", "staleReason": "", "pendingReason": "PENDING_REASON_MANUAL", "runId": "",
        "wantedCount": "2", "unchangedCount": "0", "stepCount": "2", "bytes": bytes, "bytesPresent": "0",
        "unwantedCount": "0", "unwanted": [], "moved": [], "unresolvedCount": "0", "unresolved": [], "conditionalUpdates": [],
        "catalogHeads": [], "catalogHeadCount": "0", "requiredBundles": [], "requiredBundleCount": "0",
        "clusterImpacts": [], "heldDocuments": [],
        "documents": [{
            "name": "tools-additional", "fileName": "itms-tools-additional.yaml", "kind": "ImageTagMirrorSet",
            "change": "CHANGE_ADDED", "before": "", "after": document,
        }],
        "nodeImpact": {
            "reload": true, "drain": true, "unknown": false, "reboot": false, "refused": false,
            "reasons": [{
                "scope": site.filled("UPSTREAM/team"), "mirror": site.filled("MIRROR/ocp/team"), "drain": true,
                "message": site.filled("`UPSTREAM/team` is new and has a tag rule, to `MIRROR/ocp/team`"),
            }],
            "note": "going by these documents only; others in a cluster may change it",
        },
        "releaseSignaturesIgnored": false, "warnings": [], "unsupported": [],
        "kinds": [{"kind": "IMAGE_KIND_ADDITIONAL", "stepCount": "2", "bytes": bytes}],
        "attachedStepCount": "0",
        "attached": [],
    })
}

/// Bytes that the two tools download, the layer that they share at the first.
fn tools_bytes() -> [u64; 2] {
    let size = |name: &str| -> Vec<u64> {
        let blobs = site::tool(name).blobs.into_iter();
        blobs.map(|blob| blob.bytes.len() as u64).collect()
    };
    let (hammer, saw) = (size("hammer"), size("saw"));
    [hammer.iter().sum(), saw[0] + saw[2]]
}

/// A plan with the id and revision that it has replaced by words.
fn named(plan: &Value) -> Value {
    let mut plan = steady(plan);
    let id = plan["id"].as_str().unwrap().to_owned();
    assert!(
        id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()),
        "{id}"
    );
    assert!(plan["revision"].as_str().unwrap().starts_with("sha256:"));
    plan["id"] = "ID".into();
    plan["revision"] = "REVISION".into();
    plan
}

/// What a list leaves out of a plan.
fn summary(plan: &Value) -> Value {
    let mut plan = plan.clone();
    for list in ["unwanted", "moved", "unresolved", "conditionalUpdates"] {
        plan[list] = json!([]);
    }
    for list in ["documents", "warnings", "unsupported"] {
        plan[list] = json!([]);
    }
    plan["nodeImpact"] = Value::Null;
    plan
}

#[test]
fn plan_is_made_shown_listed_and_applied() {
    let files = [("tools.yaml", TOOLS), ("prod/broken.yaml", BROKEN)];
    let site = Site::new(&files, &MANUAL);
    let [socket, tcp] = doors(&site);

    let all = socket.call("CreatePlan", &json!({}));
    assert_eq!(named(&all["plans"][0]), plan_of_tools(&site));
    assert_eq!(all["plans"].as_array().unwrap().len(), 1);
    let file = site.path("sets/prod/broken.yaml").display().to_string();
    assert_eq!(
        all["unplanned"],
        json!([{
            "imageSet": "prod/broken", "reason": "ImageSetInvalid",
            "message": format!("image set prod/broken is not valid: {file}:4:3: `additionalImagez` is not a key that is known here; `imagesetd validate` lists all problems"),
        }])
    );
    assert_eq!(all["problems"], json!([problem(&file)]));

    let id = all["plans"][0]["id"].as_str().unwrap().to_owned();
    let again = tcp.call("CreatePlan", &json!({"imageSet": "tools", "refresh": true}));
    assert_eq!(
        again,
        json!({"plans": all["plans"], "unplanned": [], "problems": []})
    );
    for door in [&socket, &tcp] {
        let shown = door.call("GetPlan", &json!({"id": &id[..8]}));
        assert_eq!(shown, json!({"plan": all["plans"][0]}));
        assert_eq!(
            door.call("ListPlans", &json!({"imageSet": "tools"})),
            json!({"plans": [summary(&all["plans"][0])], "nextPageToken": ""})
        );
    }

    let step = |number: usize, name: &str, bytes: u64| {
        json!({
            "number": number.to_string(), "kind": "IMAGE_KIND_ADDITIONAL",
            "source": site.filled(&format!("UPSTREAM/team/{name}:v1")),
            "target": site.filled(&format!("MIRROR/ocp/team/{name}:v1")),
            "digest": site::tool(name).digest().to_string(), "bytes": bytes.to_string(), "blobs": "3",
            "unit": site.filled(&format!("UPSTREAM/team/{name}:v1")),
            "attached": [], "imageMirrored": false,
        })
    };
    let [hammer, saw] = tools_bytes();
    let first = tcp.call("ListPlanSteps", &json!({"planId": id, "pageSize": 1}));
    assert_eq!(first["steps"], json!([step(1, "hammer", hammer)]));
    let request = json!({"planId": id, "pageSize": 1, "pageToken": first["nextPageToken"]});
    assert_eq!(
        tcp.call("ListPlanSteps", &request),
        json!({"steps": [step(2, "saw", saw)], "nextPageToken": ""})
    );

    applied(&site, &id);
}

/// Applies the plan of the tools and looks at what is then to be seen.
fn applied(site: &Site, id: &str) {
    let [socket, tcp] = doors(site);
    let events = socket.stream("ApplyPlan", &json!({"planId": id}));
    let total = tools_bytes().iter().sum::<u64>().to_string();
    let run = |state: &str, done: &str, bytes: &str, finished: Value, blobs: [&str; 2]| {
        json!({
            "id": events[0]["event"]["run"]["id"], "imageSet": "tools", "planId": "PLAN",
            "revision": events[0]["event"]["run"]["revision"], "state": state, "trigger": "RUN_TRIGGER_REQUEST",
            "startedAt": "TIME", "finishedAt": finished,
            "progress": {
                "imagesDone": done, "imagesTotal": "2", "imagesFailed": "0", "imagesSkipped": "0", "bytesDone": bytes,
                "bytesTotal": total, "bytesPerSecond": "RATE", "blobsCopied": blobs[0], "blobsMounted": blobs[1],
                "blobsSkipped": "0",
            },
            "failures": [], "message": "",
        })
    };
    let begun = run("RUN_STATE_RUNNING", "0", "0", Value::Null, ["0", "0"]);
    assert_eq!(steady(&events[0]), json!({"event": {"run": begun}}));
    let ended = run(
        "RUN_STATE_SUCCEEDED",
        "2",
        &total,
        json!("TIME"),
        ["5", "1"],
    );
    let last = events.last().unwrap();
    assert_eq!(steady(last), json!({"event": {"finished": ended}}));
    let landed: Vec<&Value> = events
        .iter()
        .map(|e| &e["event"]["image"])
        .filter(|image| !image.is_null())
        .collect();
    let image = |name: &str, bytes: u64| {
        json!({
            "image": site.filled(&format!("UPSTREAM/team/{name}:v1")),
            "target": site.filled(&format!("MIRROR/ocp/team/{name}:v1")),
            "digest": site::tool(name).digest().to_string(), "outcome": "IMAGE_OUTCOME_LANDED",
            "bytes": bytes.to_string(), "cause": "",
        })
    };
    let [hammer, saw] = tools_bytes();
    assert_eq!(landed, [&image("hammer", hammer), &image("saw", saw)]);

    // Again, and by a run that is over: the one event `finished`, and nothing is done.
    let finished = json!({"event": {"finished": last["event"]["finished"]}});
    let id_of_run = &last["event"]["finished"]["id"];
    assert_eq!(
        tcp.stream("ApplyPlan", &json!({"planId": id})),
        std::slice::from_ref(&finished)
    );
    assert_eq!(
        tcp.stream("WatchRun", &json!({"id": id_of_run})),
        [finished]
    );
    let whole = &last["event"]["finished"];
    assert_eq!(
        tcp.call("GetRun", &json!({"id": id_of_run})),
        json!({"run": whole, "documentsHeld": ""})
    );
    assert_eq!(
        socket.call("ListRuns", &json!({})),
        json!({"runs": [whole], "nextPageToken": ""})
    );
    let plan = socket.call("GetPlan", &json!({"id": id}));
    assert_eq!(plan["plan"]["freshness"], "FRESHNESS_APPLIED");
    assert_eq!(plan["plan"]["runId"], *id_of_run);
}

#[test]
fn release_is_mirrored_by_naming_its_image_set() {
    let site = Site::new(&[("ocp.yaml", OCP)], &MANUAL);
    let [socket, tcp] = doors(&site);
    let events = tcp.stream("ApplyPlan", &json!({"imageSet": "ocp"}));
    let run = &events.last().unwrap()["event"]["finished"];
    assert_eq!(run["state"], "RUN_STATE_SUCCEEDED", "{run}");
    assert_eq!(run["progress"]["imagesDone"], "5");

    let status = site.wait_for("the release to be there", |status| {
        status["image_sets"][0]["conditions"][0]["status"] == "true"
    });
    assert_eq!(status["image_sets"][0]["images_mirrored"], 5);
    let mirrors = json!([site.filled("MIRROR/ocp/openshift")]);
    let all = socket.call("GetResources", &json!({}));
    let resource = &all["resources"][0];
    assert_eq!(
        resource["value"]["spec"],
        json!({"imageDigestMirrors": [
            {"source": site.filled("UPSTREAM/openshift-release-dev/ocp-release"), "mirrors": [format!("{}/release-images", mirrors[0].as_str().unwrap())]},
            {"source": site.filled("UPSTREAM/openshift-release-dev/ocp-v4.0-art-dev"), "mirrors": [format!("{}/release", mirrors[0].as_str().unwrap())]},
        ]})
    );
    assert_eq!(
        (
            &resource["imageSet"],
            &resource["name"],
            &resource["fileName"],
            &resource["apiVersion"],
            &resource["kind"],
            &resource["retirable"]
        ),
        (
            &json!("ocp"),
            &json!("ocp-release"),
            &json!("idms-ocp-release.yaml"),
            &json!("config.openshift.io/v1"),
            &json!("ImageDigestMirrorSet"),
            &json!([])
        )
    );
    let folder = site.path("resources/idms-ocp-release.yaml");
    assert_eq!(resource["text"], fs::read_to_string(folder).unwrap());
    // The way of a cluster to what has landed, which is unsigned here.
    let command = all["updates"][0]["command"].as_str().unwrap();
    let image = command.split(' ').nth(4).unwrap();
    let place = site.filled("MIRROR/ocp/openshift/release-images@sha256:");
    assert!(image.starts_with(&place), "{image}");
    let updates = json!([{
        "imageSet": "ocp", "version": "4.16.1", "architecture": "amd64", "image": image, "signatureFiles": [],
        "command": format!("oc adm upgrade --to-image {image} --allow-explicit-upgrade"),
    }]);
    assert_eq!(
        tcp.call("GetResources", &json!({"kinds": ["ImageTagMirrorSet"]})),
        json!({"resources": [], "updates": updates})
    );
    let nothing = json!({
        "retired": [], "documents": [],
        "nodeImpact": {
            "reload": false, "drain": false, "unknown": false, "reboot": false, "refused": false, "reasons": [],
            "note": "going by these documents only; others in a cluster may change it",
        },
    });
    for request in [
        json!({"imageSet": "ocp", "dryRun": true}),
        json!({"imageSet": "ocp"}),
    ] {
        assert_eq!(tcp.call("RetireResources", &request), nothing);
    }
    explained(&site, &tcp);
}

/// What nodes try of the release, and what the installer needs of it.
fn explained(site: &Site, door: &Door) {
    let payload = |name: &str, rest: &str| {
        let source = site.filled(&format!("UPSTREAM/openshift-release-dev/ocp-release{rest}"));
        let mirror = site.filled("MIRROR/ocp/openshift/release-images");
        match name {
            "source" => source,
            _ => mirror + rest,
        }
    };
    let plans = door.call("ListPlans", &json!({}));
    let steps = json!({"planId": plans["plans"][0]["id"]});
    let steps = door.call("ListPlanSteps", &steps)["steps"].clone();
    let steps = steps.as_array().unwrap();
    let release = steps
        .iter()
        .find(|s| s["kind"] == "IMAGE_KIND_RELEASE")
        .unwrap();
    let held = format!("@{}", release["digest"].as_str().unwrap());
    let absent = format!("@sha256:{}", "0".repeat(64));
    for (rest, present) in [(&held, true), (&absent, false)] {
        let place = |reference: String, mirror: &str| {
            let mut place = json!({"reference": reference, "mirror": mirror, "insecure": false, "refusedBy": ""});
            if !mirror.is_empty() {
                place["present"] = json!(present);
            }
            place
        };
        assert_eq!(
            door.call(
                "ExplainImage",
                &json!({"reference": payload("source", rest)})
            ),
            json!({
                "reference": payload("source", rest), "matched": payload("source", ""), "blocked": false, "invalid": "",
                "sources": [
                    place(payload("mirror", rest), &payload("mirror", "")),
                    place(payload("source", rest), ""),
                ],
            })
        );
    }
    let (code, reason, ..) = door.refusal("ExplainImage", &json!({"reference": "redis"}));
    assert_eq!((code, reason.as_str()), (3, "INVALID_REQUEST"));
    let fragment = door.call("GetInstallConfig", &json!({"version": "4.13"}));
    let text = fragment["text"].as_str().unwrap();
    let begins = format!(
        "imageContentSources:\n  - source: {}\n    mirrors:\n      - {}\n",
        quoted(&payload("source", "")),
        quoted(&payload("mirror", ""))
    );
    assert!(text.starts_with(&begins), "{text}");
    let whole = json!({"base": "a: 1 # one\n"});
    let whole = door.call("GetInstallConfig", &whole);
    let text = whole["text"].as_str().unwrap();
    assert!(
        text.starts_with("a: 1 # one\nimageDigestSources:\n"),
        "{text}"
    );
    let (code, reason, ..) = door.refusal("GetInstallConfig", &json!({"version": "3"}));
    assert_eq!((code, reason.as_str()), (3, "INVALID_REQUEST"));
}

/// An address begins with a digit, and is quoted in YAML for that.
fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

#[test]
fn what_nothing_needs_any_longer_is_retired_on_request() {
    let site = Site::new(&[("ocp.yaml", OCP), ("tools.yaml", TOOLS)], &MANUAL);
    let [socket, tcp] = doors(&site);
    tcp.stream("ApplyPlan", &json!({"imageSet": "ocp"}));
    fs::remove_file(site.path("sets/ocp.yaml")).unwrap();
    site.wait_for("the file to be missed", |status| {
        status["image_sets"][0]["conditions"]
            .to_string()
            .contains("Removed")
    });
    let rule = |source: &str, mirror: &str| {
        json!({
            "fileName": "idms-ocp-release.yaml", "kind": "ImageDigestMirrorSet",
            "source": site.filled(&format!("UPSTREAM/openshift-release-dev/{source}")),
            "mirrors": [site.filled(&format!("MIRROR/ocp/openshift/{mirror}"))],
        })
    };
    let rules = json!([
        rule("ocp-release", "release-images"),
        rule("ocp-v4.0-art-dev", "release")
    ]);
    let would = socket.call(
        "RetireResources",
        &json!({"imageSet": "ocp", "dryRun": true}),
    );
    assert_eq!(would["retired"], rules);
    assert_eq!(would["documents"][0]["change"], "CHANGE_REMOVED");
    assert_eq!(would["nodeImpact"]["drain"], true, "{would}");
    assert_eq!(
        tcp.call("RetireResources", &json!({"imageSet": "ocp"}))["retired"],
        rules
    );
    assert_eq!(
        tcp.call("GetResources", &json!({})),
        json!({"resources": [], "updates": []})
    );
}

/// A call whose answers are read one by one.
struct Talk {
    child: Child,
    answers: serde_json::StreamDeserializer<
        'static,
        serde_json::de::IoRead<std::process::ChildStdout>,
        Value,
    >,
}

impl Talk {
    fn begin(door: &Door, rpc: &str, request: &Value) -> Talk {
        let mut call = door.calling(rpc, request);
        let mut child = call.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let answers = serde_json::Deserializer::from_reader(stdout).into_iter();
        Talk { child, answers }
    }

    fn next(&mut self) -> Option<Value> {
        self.answers.next().map(Result::unwrap)
    }

    fn last(self) -> Value {
        let mut last = Value::Null;
        let mut talk = self;
        while let Some(answer) = talk.next() {
            last = answer;
        }
        last
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn run_under_way_is_watched_attached_to_and_cancelled() {
    let site = Site::new(&[("slow.yaml", SLOW)], &MANUAL);
    let [socket, tcp] = doors(&site);
    let plan = &socket.call("CreatePlan", &json!({}))["plans"][0];
    let plan = json!({"planId": plan["id"]});

    let mut first = Talk::begin(&socket, "ApplyPlan", &plan);
    let run = first.next().unwrap()["event"]["run"].clone();
    assert_eq!(run["state"], "RUN_STATE_RUNNING");
    site.gate.wait_for_knock();
    // Hanging up stops nothing, and calling again attaches to the same run.
    drop(first);
    let mut second = Talk::begin(&tcp, "ApplyPlan", &plan);
    assert_eq!(second.next().unwrap()["event"]["run"]["id"], run["id"]);
    let mut watched = Talk::begin(&socket, "WatchRun", &json!({"id": run["id"]}));
    assert_eq!(watched.next().unwrap()["event"]["run"]["id"], run["id"]);
    let mut by_set = Talk::begin(&socket, "ApplyPlan", &json!({"imageSet": "slow"}));
    assert_eq!(by_set.next().unwrap()["event"]["run"]["id"], run["id"]);
    let shown = socket.call("GetPlan", &json!({"id": plan["planId"]}));
    assert_eq!(shown["plan"]["freshness"], "FRESHNESS_RUNNING");
    assert_eq!(
        socket.call("ListRuns", &json!({}))["runs"][0]["state"],
        "RUN_STATE_RUNNING"
    );
    assert_eq!(
        tcp.call("GetRun", &json!({"id": run["id"]}))["run"]["state"],
        "RUN_STATE_RUNNING"
    );

    let asked = tcp.call("CancelRun", &json!({"id": run["id"]}));
    assert_eq!(asked["run"]["state"], "RUN_STATE_RUNNING");
    site.gate.open();
    for end in [second, watched, by_set].map(Talk::last) {
        let ended = &end["event"]["finished"];
        assert_eq!(ended["state"], "RUN_STATE_CANCELLED", "{end}");
        assert_eq!(ended["id"], run["id"]);
        assert_eq!(ended["progress"]["imagesFailed"], "0", "{end}");
        assert_eq!(ended["progress"]["imagesSkipped"], "1", "{end}");
        assert_eq!(ended["failures"], json!([]));
    }
    let id = run["id"].as_str().unwrap();
    assert_eq!(
        tcp.refusal("CancelRun", &json!({"id": id})),
        (
            9,
            "RUN_FINISHED".into(),
            format!("run {id} is over"),
            details("RUN_FINISHED", json!({"runId": id}), &[])
        )
    );
}

/// The details of an error: its reason in the standard form, what it is about, and the fields that are at fault.
fn details(reason: &str, about: Value, violations: &[(&str, &str)]) -> Value {
    let typed = |name: &str, fields: Value| {
        let mut detail = json!({"@type": format!("type.googleapis.com/{name}")});
        for (key, value) in fields.as_object().unwrap() {
            detail[key] = value.clone();
        }
        detail
    };
    let mut info = json!({"reason": reason, "domain": "imagesetd"});
    for (key, value) in about.as_object().unwrap() {
        let plain = match key.as_str() {
            "imageSet" => "image_set",
            "planId" => "plan_id",
            "runId" => "run_id",
            _ => continue,
        };
        info["metadata"][plain] = value.clone();
    }
    let mut all = vec![typed("google.rpc.ErrorInfo", info)];
    if about != json!({}) {
        all.push(typed("imageset.v1.ErrorDetails", about));
    }
    let violations: Vec<Value> = violations
        .iter()
        .map(|(field, description)| {
            json!({"field": field, "description": description, "reason": reason})
        })
        .collect();
    if !violations.is_empty() {
        let fields = json!({"fieldViolations": violations});
        all.push(typed("google.rpc.BadRequest", fields));
    }
    all.into()
}

#[test]
fn status_is_answered_and_streamed() {
    let site = Site::new(&[("tools.yaml", TOOLS)], &MANUAL);
    let [socket, tcp] = doors(&site);
    let waits = site.wait_for("the plan", |status| {
        status["image_sets"][0]["pending_reason"] == "manual"
            && status["image_sets"][0]["conditions"]
                .to_string()
                .contains("Waiting")
    });
    let plan = waits["image_sets"][0]["plan_id"].as_str().unwrap();
    let revision = waits["daemon"]["revision"].as_str().unwrap();
    let condition = |kind: &str, status: &str, reason: &str, message: String| json!({"type": kind, "status": status, "reason": reason, "message": message, "since": "TIME"});
    let waiting = format!(
        "plan {0} waits: this image set is applied by hand; `imagesetd apply {0}` applies it",
        &plan[..12]
    );
    let whole = json!({
        "daemon": {
            "version": env!("CARGO_PKG_VERSION"), "directory": site.path("sets").display().to_string(), "revision": revision,
            "lineage": "LINEAGE", "serial": "0", "startedAt": "TIME",
            "conditions": [condition("Ready", "CONDITION_STATUS_TRUE", "Watching", format!("watching at {revision}"))],
        },
        "imageSets": [{
            "name": "tools", "file": site.path("sets/tools.yaml").display().to_string(), "target": site.filled("MIRROR/ocp"),
            "observedRevision": revision, "appliedRevision": "",
            "conditions": [
                condition("Ready", "CONDITION_STATUS_FALSE", "Manual", waiting.clone()),
                condition("Waiting", "CONDITION_STATUS_TRUE", "Manual", waiting),
            ],
            "planId": "PLAN", "pendingReason": "PENDING_REASON_MANUAL", "runId": "", "progress": null,
            "imagesWanted": "2", "imagesMirrored": "0", "lastRefreshAt": "TIME", "nextRefreshAt": "TIME", "lastVerifiedAt": null,
            "releaseSignaturesIgnored": false, "problems": [],
        }],
    });
    assert_eq!(steady(&socket.call("GetStatus", &json!({}))), whole);
    assert_eq!(
        steady(&tcp.call("GetStatus", &json!({"imageSet": "tools"}))),
        whole
    );
    let mut watching = Talk::begin(&tcp, "WatchStatus", &json!({"imageSet": "tools"}));
    assert_eq!(steady(&watching.next().unwrap()), whole);
    socket.stream("ApplyPlan", &json!({"planId": plan}));
    let ready = wait_for("the stream to say that it is ready", || {
        let status = watching.next().unwrap();
        (status["imageSets"][0]["conditions"][0]["status"] == "CONDITION_STATUS_TRUE")
            .then_some(status)
    });
    assert_eq!(ready["imageSets"][0]["imagesMirrored"], "2");
    assert_eq!(ready["imageSets"][0]["appliedRevision"], revision);
}

#[test]
fn refusals_have_code_reason_sentence_and_details() {
    let files = [("tools.yaml", TOOLS), ("prod/broken.yaml", BROKEN)];
    let site = Site::new(&files, &MANUAL);
    let [socket, tcp] = doors(&site);
    let id = socket.call("CreatePlan", &json!({"imageSet": "tools"}))["plans"][0]["id"].clone();
    let id = id.as_str().unwrap().to_owned();
    let first_line = TOOLS.replace("team/saw", "team/slow");
    site.write("tools.yaml", &first_line);
    let directory = site.path("sets").display().to_string();
    let file = site.path("sets/prod/broken.yaml").display().to_string();
    let in_file = format!(
        "{file}:4:3: `additionalImagez` is not a key that is known here; did you mean `additionalImages`?"
    );
    let says = |end: &str| format!("there is no image set {end}");
    let expected = [
        (
            "GetPlan",
            json!({"id": "77"}),
            5,
            "PLAN_NOT_FOUND",
            "there is no plan 77; `imagesetd plan` makes one and prints its id".to_owned(),
            json!({}),
            vec![],
        ),
        (
            "GetRun",
            json!({"id": "77"}),
            5,
            "RUN_NOT_FOUND",
            "there is no run 77; `imagesetd runs list` lists them".to_owned(),
            json!({}),
            vec![],
        ),
        (
            "GetStatus",
            json!({"imageSet": "tool"}),
            5,
            "IMAGE_SET_NOT_FOUND",
            says(&format!("tool in {directory}; did you mean tools?")),
            json!({}),
            vec![],
        ),
        (
            "CreatePlan",
            json!({"imageSet": "prod/broken"}),
            9,
            "IMAGE_SET_INVALID",
            format!(
                "image set prod/broken is not valid: {file}:4:3: `additionalImagez` is not a key that is known here; `imagesetd validate` lists all problems"
            ),
            json!({"imageSet": "prod/broken", "problems": [problem(&file)]}),
            vec![("mirror.additionalImagez", in_file.as_str())],
        ),
        (
            "ApplyPlan",
            json!({}),
            3,
            "INVALID_REQUEST",
            "name a plan or an image set, one of them".to_owned(),
            json!({}),
            vec![("plan_id", "name a plan or an image set, one of them")],
        ),
        (
            "ValidateImageSets",
            json!({"files": [{"name": "../a.yaml", "content": ""}]}),
            3,
            "INVALID_REQUEST",
            "`../a.yaml` is not a relative path without `.` and `..`, which a file's name has to be"
                .to_owned(),
            json!({}),
            vec![(
                "files[0].name",
                "`../a.yaml` is not a relative path without `.` and `..`, which a file's name has to be",
            )],
        ),
        (
            "ListPlans",
            json!({"pageToken": "77"}),
            3,
            "INVALID_REQUEST",
            "the page token is none of this list, or what it stood for is gone; begin again without one".to_owned(),
            json!({}),
            vec![("page_token", "the page token is none of this list, or what it stood for is gone; begin again without one")],
        ),
        (
            "RetireResources",
            json!({}),
            3,
            "INVALID_REQUEST",
            "name the image set whose rules are to be retired".to_owned(),
            json!({}),
            vec![("image_set", "name the image set whose rules are to be retired")],
        ),
    ];
    for (rpc, request, code, reason, message, about, violations) in expected {
        let details = details(reason, about, &violations);
        for door in [&socket, &tcp] {
            assert_eq!(
                door.refusal(rpc, &request),
                (code, reason.to_owned(), message.clone(), details.clone())
            );
        }
    }
    let (code, reason, message, about) = tcp.refusal("ApplyPlan", &json!({"planId": id}));
    assert_eq!((code, reason.as_str()), (9, "STALE_PLAN"));
    let short = &id[..12];
    assert!(
        message.starts_with(&format!(
            "plan {short} is stale: image set tools says something else since sha256:"
        )) && message.ends_with("; make a new one: `imagesetd plan tools`"),
        "{message}"
    );
    assert_eq!(
        about,
        details(
            "STALE_PLAN",
            json!({"imageSet": "tools", "planId": id}),
            &[]
        )
    );
}
