//! Documents that would disturb nodes: what plans say of them, that they wait, and what lets them go.

use std::{
    fs,
    sync::{Arc, Mutex},
};

use imagesetd::{
    daemon::{Sides, open_by},
    gitops::{Checkout, File, Observation, Revision},
    model::record::{Condition, RunState},
    output::Output,
    reconcile::{Applied, Clock, Handle, RunEvent},
    settings,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    fixture::image::Image,
    site::{Site, condition, image_set, is},
    support::registry::{Kind, Options, Registry, SPARSE_INDEXES},
};

/// An image as clusters name it by digest.
fn by_digest(site: &Site, repository: &str) -> String {
    let digest = Image::simple(repository).digest().to_string();
    format!("{}/{repository}@{digest}", site.upstream.address())
}

fn impact(plan: &Value) -> (bool, bool) {
    let impact = &plan["plans"][0]["node_impact"];
    let flag = |key: &str| impact[key].as_bool().unwrap();
    (flag("reload"), flag("drain"))
}

fn messages(impact: &Value) -> Vec<&str> {
    let reasons = impact["reasons"].as_array().unwrap().iter();
    reasons.map(|r| r["message"].as_str().unwrap()).collect()
}

#[test]
fn plans_say_what_rules_by_digest_by_tag_and_of_another_mirror_do() {
    let mut site = Site::new();
    let tagged = site.publish_simple(&["team/a", "other/b"]);
    let host = site.upstream.address().to_owned();
    let repo = site.repo();
    repo.commit(&[("set.yaml", &image_set(&[by_digest(&site, "team/a")]))]);
    site.start("apply: manual\n");
    site.until_set("set", "planned", |set| is(set, "Waiting"));
    let first = site.json(&["plan", "set"]);
    assert_eq!(impact(&first), (true, false), "an entry of an IDMS is free");
    assert_eq!(messages(&first["plans"][0]["node_impact"]), [""; 0]);
    site.json(&["apply", "set"]);

    repo.commit(&[(
        "set.yaml",
        &image_set(&[by_digest(&site, "team/a"), tagged[1].clone()]),
    )]);
    site.until_set("set", "planned", |set| is(set, "Waiting"));
    let second = site.json(&["plan", "set"]);
    let mirror = site.mirror.address().to_owned();
    assert_eq!(
        impact(&second),
        (true, true),
        "the first entry of an ITMS is not"
    );
    assert_eq!(
        messages(&second["plans"][0]["node_impact"]),
        [format!(
            "`{host}/other` is new and has a tag rule, to `{mirror}/ocp/other`"
        )]
    );
    assert_eq!(
        second["plans"][0]["node_impact"]["reasons"][0]["scope"],
        format!("{host}/other")
    );
    site.json(&["apply", "set"]);
    assert!(site.all_documents().contains("ImageTagMirrorSet"));

    site.stop();
    let moved = fs::read_to_string(site.settings()).unwrap();
    let moved = moved.replace(
        &format!("target: {mirror}/ocp"),
        &format!("target: {mirror}/new"),
    );
    fs::write(site.settings(), moved).unwrap();
    site.serve();
    site.until_set("set", "planned", |set| is(set, "Waiting"));
    let third = site.json(&["plan", "set"]);
    assert_eq!(impact(&third), (true, true), "nor is another mirror of one");
    assert_eq!(
        messages(&third["plans"][0]["node_impact"]),
        [format!(
            "`{host}/other` gets a tag rule that is new, to `{mirror}/new/other`"
        )]
    );
}

#[test]
fn documents_that_drain_wait_for_a_person_and_content_does_not() {
    let mut site = Site::new();
    let tagged = site.publish_simple(&["team/a", "other/b"]);
    let repo = site.repo();
    let images = [by_digest(&site, "team/a"), tagged[1].clone()];
    repo.commit(&[("set.yaml", &image_set(&images))]);
    site.start("hold_documents: drains\n");
    let status = site.ready(&repo.head());
    let set = &status["image_sets"][0];
    let (host, mirror) = (site.upstream.address(), site.mirror.address());
    let file = "itms-set-additional.yaml";
    assert_eq!(
        condition(set, "DocumentsHeld"),
        Some(&*format!(
            "{file} waits: it drains nodes (`{host}/other` is new and has a tag rule, to `{mirror}/ocp/other`); `imagesetd resources publish set` writes it"
        ))
    );
    assert_eq!(set["images_mirrored"], set["images_wanted"]);
    assert!(site.mirrored("other/b", "1").is_some());
    let kept: Vec<String> = site.documents().into_keys().collect();
    assert_eq!(kept, ["idms-set-additional.yaml"]);

    // Neither another look nor another start lets them go.
    let plan = site.json(&["plan", "set", "--refresh"]);
    assert_eq!(plan["plans"][0]["held_documents"][0]["file_name"], file);
    assert_eq!(plan["plans"][0]["freshness"], "applied");
    site.stop();
    site.serve();
    site.until_set("set", "held again", |set| {
        is(set, "DocumentsHeld") && is(set, "Ready")
    });
    assert_eq!(site.documents().into_keys().collect::<Vec<_>>(), kept);
    assert_eq!(
        site.json(&["runs", "list", "set"])["runs"]
            .as_array()
            .unwrap()
            .len(),
        1
    );

    let asked = site.cli(&["resources", "publish", "set"]);
    assert_eq!(asked.code, 2, "{asked:?}");
    let dry = site.json(&["resources", "publish", "set", "--dry-run"]);
    assert_eq!(dry["documents"].as_array().unwrap().len(), 1);
    assert_eq!(dry["documents"][0]["file_name"], file);
    assert_eq!(dry["node_impact"]["drain"], true);
    assert!(!site.documents().contains_key(file));

    let done = site.text(&["resources", "publish", "set", "--yes"]);
    assert!(done.starts_with("1 document written\n"), "{done}");
    assert!(site.documents().contains_key(file));
    site.until_set("set", "not held", |set| {
        is(set, "Ready") && !is(set, "DocumentsHeld")
    });
    let again = site.text(&["resources", "publish", "set", "--yes"]);
    assert_eq!(again, "No document waits.\n");
    let unknown = site.cli(&["resources", "publish", "nobody", "--yes"]);
    assert_eq!(unknown.code, 3, "{unknown:?}");
}

#[test]
fn images_in_part_are_told_of_from_what_is_known_and_from_memory_alike() {
    let mut site = Site::with_mirror(Registry::start(
        Kind::Distribution3,
        Options {
            configuration: SPARSE_INDEXES.to_owned(),
            ..Options::default()
        },
    ));
    let indexes = ["team/a", "other/b"].map(|name| {
        let index = Image::simple_index(name, &["amd64", "arm64"]);
        site.publish(name, "1", &index);
        index
    });
    let some = "\n    platforms: [{os: linux, architecture: amd64}]";
    let host = site.upstream.address().to_owned();
    let by_digest = format!("{host}/team/a@{}{some}", indexes[0].digest());
    let by_tag = format!("{}{some}", site.source("other/b"));
    let images = [by_digest, by_tag];
    let repo = site.repo();
    repo.commit(&[("set.yaml", &image_set(&images))]);
    site.start("apply: manual\nhold_documents: drains\n");
    site.until_set("set", "planned", |set| is(set, "Waiting"));
    let applied = site.json(&["apply", "set"]);
    let file = "itms-set-additional.yaml";
    let mirror = site.mirror.address().to_owned();
    let held = format!(
        "{file} waits: it drains nodes (`{host}/other` is new and has a tag rule, to `{mirror}/ocp/other`); `imagesetd resources publish set` writes it"
    );
    assert_eq!(applied["documents_held"], held);
    let id = applied["run"]["id"].as_str().unwrap();
    assert_eq!(site.json(&["runs", "show", id])["documents_held"], held);
    let again = site.text(&["apply", "set"]);
    assert!(
        again.ends_with(&format!("\n  documents: {held}\n")),
        "{again}"
    );
    let names = |site: &Site| site.documents().into_keys().collect::<Vec<_>>();
    assert_eq!(names(&site), ["idms-set-additional.yaml"]);

    // What is wanted by now was not applied: what was is known from memory alone.
    let more = [&images[..], &site.publish_simple(&["third/c"])].concat();
    repo.commit(&[("set.yaml", &image_set(&more))]);
    site.until_set("set", "planned again", |set| is(set, "Waiting"));
    let done = site.text(&["resources", "publish", "set", "--yes"]);
    assert!(done.starts_with("1 document written\n"), "{done}");
    assert_eq!(names(&site), ["idms-set-additional.yaml", file]);
    let shown = site.json(&["runs", "show", id]);
    assert_eq!(shown["documents_held"], "");
}

/// A cluster with a rule of its own for what happens when nodes' registries change.
const CALM: &str = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Secret
  metadata: {name: s, namespace: n}
  data: {password: aHVudGVyMg==}
- apiVersion: machineconfiguration.openshift.io/v1
  kind: MachineConfigPool
  metadata: {name: worker}
  status: {machineCount: 3}
- apiVersion: config.openshift.io/v1
  kind: Image
  metadata: {name: cluster}
- apiVersion: operator.openshift.io/v1
  kind: MachineConfiguration
  metadata: {name: cluster}
  spec:
    nodeDisruptionPolicy:
      files:
      - path: /etc/containers/registries.conf
        actions:
        - {type: Restart, restart: {serviceName: crio.service}}
";

#[test]
fn clusters_say_by_their_pictures_what_documents_do_to_them() {
    let mut site = Site::new();
    let tagged = site.publish_simple(&["team/a", "other/b"]);
    let repo = site.repo();
    repo.commit(&[
        ("set.yaml", &image_set(&tagged[..1])),
        ("lab.yaml", &image_set(&tagged[1..])),
    ]);
    site.start("hold_documents: drains\nclusters: [{name: prod-a, image_sets: [set]}]\n");
    let set = site.until_set("set", "held", |set| {
        is(set, "DocumentsHeld") && is(set, "Ready")
    });
    let why = condition(&set, "DocumentsHeld").unwrap();
    assert!(why.contains("on prod-a, it is not known what nodes do (there is no picture of it yet; `imagesetd cluster snapshot prod-a FILE` gives one)"), "{why}");
    // Of a cluster that does not take it nothing is said; it goes by the documents alone.
    let lab = site.until_set("lab", "held", |set| is(set, "DocumentsHeld"));
    assert!(
        condition(&lab, "DocumentsHeld")
            .unwrap()
            .contains("waits: it drains nodes")
    );
    let plan = site.json(&["plan", "set"]);
    let cluster = &plan["plans"][0]["cluster_impacts"][0];
    assert_eq!(cluster["cluster"], "prod-a");
    assert_eq!(cluster["node_impact"]["unknown"], true);
    assert_eq!(cluster["pictured_at"], Value::Null);

    let file = site.folder().join("cluster.yaml");
    fs::write(&file, CALM).unwrap();
    let file = file.display().to_string();
    for (arguments, code, says) in [
        (
            ["prod-b", &*file],
            3,
            "the settings name no cluster prod-b; those they name: prod-a",
        ),
        (
            ["prod-a", "sets/set.yaml"],
            2,
            "nothing in the files says how a cluster takes mirror rules",
        ),
    ] {
        let answer = site.cli(&[&["cluster", "snapshot"], &arguments[..]].concat());
        assert_eq!(answer.code, code, "{answer:?}");
        assert!(answer.stderr.contains(says), "{answer:?}");
    }
    let seen = site.json(&["cluster", "snapshot", "prod-a", &file]);
    assert_eq!(
        seen,
        json!({"schema": 1, "mirror_objects": 0, "pools": 1, "image_config": true, "machine_configuration": true, "passed_by": 1})
    );
    // What waited for that alone goes.
    site.until_set("set", "let go", |set| {
        is(set, "Ready") && !is(set, "DocumentsHeld")
    });
    assert!(site.documents().contains_key("itms-set-additional.yaml"));
    let stored = site.folder().join("state/clusters/prod-a.json");
    assert!(!fs::read_to_string(stored).unwrap().contains("aHVudGVyMg"));

    site.publish("third/c", "1", &Image::simple("third/c"));
    fs::write(
        site.folder().join("more.yaml"),
        image_set(&[site.source("third/c")]),
    )
    .unwrap();
    let more = [(
        "set.yaml",
        image_set(&[tagged[0].clone(), site.source("third/c")]),
    )];
    fs::create_dir(site.folder().join("preview")).unwrap();
    fs::write(site.folder().join("preview").join(more[0].0), &more[0].1).unwrap();
    let plan = site.json(&["plan", "--config", "preview"]);
    let cluster = &plan["plans"][0]["cluster_impacts"][0];
    let impact = &cluster["node_impact"];
    assert_eq!(
        (&impact["drain"], &impact["reload"]),
        (&json!(false), &json!(true))
    );
    assert_eq!(
        impact["note"],
        "the cluster's NodeDisruptionPolicy sets Restart for this file in place of the operator's rule; pools: worker (3 nodes)"
    );
    assert!(cluster["pictured_at"].is_string());
    assert_eq!(plan["plans"][0]["held_documents"], json!([]));
    let text = site.text(&["plan", "--config", "preview"]);
    assert!(
        text.contains("prod-a: reload their container engine, no drain ("),
        "{text}"
    );
}

/// The files of a directory as a settled look finds them.
fn checkout(files: &[(&str, &str)]) -> Observation {
    let files: Vec<File> = files
        .iter()
        .map(|(name, text)| File {
            path: (*name).to_owned(),
            name: (*name).to_owned(),
            bytes: Ok(text.as_bytes().to_vec()),
        })
        .collect();
    Observation::Checkout(Checkout {
        revision: Revision::of_files(&files),
        files,
    })
}

async fn applied(handle: &Handle, set: &str) {
    let Applied::Run(mut feed) = handle.apply(None, Some(set)).await.unwrap() else {
        panic!("it was applied before");
    };
    let mut last = None;
    while let Some(event) = feed.next().await {
        last = Some(event);
    }
    let Some(RunEvent::Finished(run)) = last else {
        panic!("{last:?}");
    };
    assert_eq!(run.state, RunState::Succeeded, "{run:?}");
}

fn held(handle: &Handle) -> Option<Condition> {
    let status = handle.status(Some("set")).unwrap();
    let mut conditions = status.sets[0].conditions.iter();
    conditions.find(|c| c.kind == "DocumentsHeld").cloned()
}

#[tokio::test]
async fn documents_that_wait_go_when_their_window_opens() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let site = Site::new();
    let tagged = site.publish_simple(&["team/a"]);
    site.configure("hold_documents: drains\nwindows: [{opens: 0 22 * * SAT, lasts: 4h, time_zone: Europe/Berlin}]\n");
    let text = fs::read_to_string(site.settings()).unwrap();
    let (settings, _) = settings::parse("imagesetd.yaml", &text).unwrap();
    // A Thursday.
    let time = Arc::new(Mutex::new(
        "2026-11-26T12:00:00Z".parse::<Timestamp>().unwrap(),
    ));
    let hand = Arc::clone(&time);
    let clock = Clock(Arc::new(move || *hand.lock().unwrap()));
    let output = Output::open(site.output()).unwrap();
    let handle = open_by(settings, &Sides::default(), output, None, clock).unwrap();
    handle.observe(&checkout(&[("set.yaml", &image_set(&tagged))]));
    applied(&handle, "set").await;
    assert!(site.mirrored("team/a", "1").is_some());
    assert!(site.documents().is_empty(), "{:?}", site.documents());
    let condition = held(&handle).unwrap();
    assert_eq!(condition.reason, "WaitsForWindow");
    let until = "a maintenance window opens at 2026-11-28 22:00 Europe/Berlin; before that, `imagesetd resources publish set` writes it";
    assert!(condition.message.ends_with(until), "{}", condition.message);

    let (_observations, directory) = tokio::sync::watch::channel(None);
    let following = tokio::spawn({
        let handle = handle.clone();
        async move { handle.follow(directory).await }
    });
    *time.lock().unwrap() = "2026-11-28T21:00:00Z".parse().unwrap();
    let mut changes = handle.changes();
    handle.look_at_clock();
    while held(&handle).is_some() {
        changes.changed().await.unwrap();
    }
    let documents: Vec<String> = site.documents().into_keys().collect();
    assert_eq!(documents, ["itms-set-additional.yaml"]);
    handle.shutdown(std::time::Duration::from_secs(5)).await;
    following.await.unwrap();
}
