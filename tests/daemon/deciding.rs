//! Who decides that a plan is applied, and which plans can be.

use crate::{
    fixture::image::Image,
    site::{Site, condition, find, image_set, is},
};

#[test]
fn a_plan_waits_for_a_person_who_applies_it_by_a_shortened_id() {
    let mut site = Site::new();
    let images = site.publish_simple(&["team/a", "team/b"]);
    let repo = site.repo();
    let one = image_set(&images[..1]);
    repo.commit(&[("app.yaml", &one)]);
    site.start("apply: manual\n");
    let set = site.until_set("app", "waiting", |set| is(set, "Waiting"));
    let id = set["plan_id"].as_str().unwrap().to_owned();
    let why = condition(&set, "Waiting").unwrap();
    assert!(
        why.contains(&format!("`imagesetd apply {}`", &id[..12])),
        "{why}"
    );
    assert!(!is(&set, "Ready") && !is(&set, "Stalled") && site.documents().is_empty());

    // Planning it again gives the same plan and leaves all as it is.
    let before = site.mirror.mark();
    let planned = site.json(&["plan"])["plans"][0].clone();
    assert_eq!(
        (&planned["id"], &planned["freshness"]),
        (&id.clone().into(), &"fresh".into())
    );
    let text = site.text(&["plan", "app"]);
    assert!(text.contains("imagesetd apply "), "{text}");
    let shown = site.text(&["plan", "show", &id[..6], "--steps", "--documents"]);
    assert!(shown.contains(&images[0]), "{shown}");
    assert_eq!(site.mirror.since(before).writes(), 0);

    // A comment is no other meaning: the plan is fresh at the new commit.
    repo.commit(&[("app.yaml", &format!("# why\n{one}"))]);
    let run = site.json(&["apply", &id[..6]])["run"].clone();
    assert_eq!(
        (&run["state"], &run["trigger"]),
        (&"succeeded".into(), &"request".into())
    );
    let status = site.ready(&repo.head());
    assert!(
        find(&status, "app").unwrap()["pending_reason"] != "manual",
        "{status}"
    );

    // Once more is done without a run.
    let runs = site.json(&["runs", "list"]);
    let again = site.cli(&["apply", &id[..6]]);
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(site.json(&["runs", "list"]), runs);
    assert_eq!(
        site.json(&["plan", "show", &id])["plan"]["freshness"],
        "applied"
    );
}

#[test]
fn a_plan_of_another_directory_is_stale_and_says_what_to_do() {
    let mut site = Site::new();
    let images = site.publish_simple(&["team/a", "team/b"]);
    let repo = site.repo();
    repo.commit(&[("app.yaml", &image_set(&images[..1]))]);
    site.start("apply: manual\n");
    let set = site.until_set("app", "waiting", |set| is(set, "Waiting"));
    let id = set["plan_id"].as_str().unwrap().to_owned();

    repo.commit(&[("app.yaml", &image_set(&images))]);
    let refused = site.cli(&["apply", &id]);
    assert_eq!(refused.code, 3, "{refused:?}");
    assert!(refused.stderr.contains("is stale"), "{refused:?}");
    assert!(
        refused.stderr.contains("`imagesetd plan app`"),
        "{refused:?}"
    );
    let refused = site.cli(&["apply", &id, "--output", "json"]).json();
    assert_eq!(refused["error"]["code"], "STALE_PLAN");
    assert_eq!(refused["error"]["grpc_code"], "FAILED_PRECONDITION");
    assert_eq!(site.mirrored("team/a", "1"), None);

    std::fs::remove_file(repo.0.join("app.yaml")).unwrap();
    repo.commit(&[("other.yaml", &image_set(&images))]);
    let refused = site.cli(&["apply", &id]);
    assert_eq!(refused.code, 3, "{refused:?}");

    for nonsense in ["abcdef", "othr"] {
        let refused = site.cli(&["apply", nonsense]);
        assert_eq!(refused.code, 3, "{refused:?}");
    }
}

#[test]
fn a_large_plan_waits_for_a_person() {
    let mut site = Site::new();
    let images = site.publish_simple(&["team/a", "team/b"]);
    let repo = site.repo();
    repo.commit(&[("app.yaml", &image_set(&images[..1]))]);
    site.start("max_bytes: 12KiB\n");
    site.ready(&repo.head());
    let more: Vec<String> = ["big/a", "big/b", "big/c", "big/d", "big/e"]
        .iter()
        .flat_map(|name| site.publish_simple(&[name]))
        .chain(images)
        .collect();
    let commit = repo.commit(&[("app.yaml", &image_set(&more))]);
    let set = site.until_set("app", "waiting", |set| is(set, "Waiting"));
    let why = condition(&set, "Waiting").unwrap();
    assert!(why.contains("`max_bytes`"), "{why}");
    assert_eq!(set["pending_reason"], "max_bytes");
    site.json(&["apply", "app"]);
    site.ready(&commit);
}

/// Has upstream move a tag, and returns the daemon's status of it when it has settled again.
fn moved(on_refresh: &str, settled: &str) -> (Site, serde_json::Value) {
    let mut site = Site::new();
    let images = site.publish_simple(&["team/a"]);
    let repo = site.repo();
    repo.commit(&[("app.yaml", &image_set(&images))]);
    site.start(&format!("on_refresh: {on_refresh}\nrefresh: 1s\n"));
    site.ready(&repo.head());
    site.publish("team/a", "1", &Image::simple("moved"));
    let digest = Image::simple("moved").digest().to_string();
    let set = site.until_set("app", settled, |set| {
        is(set, settled)
            && (settled != "Ready" || site.mirrored("team/a", "1") == Some(digest.clone()))
    });
    (site, set)
}

#[test]
fn what_moved_upstream_waits_where_settings_say_so() {
    let (site, set) = moved("plan", "Waiting");
    assert_eq!(set["pending_reason"], "on_refresh");
    let plan = site.json(&["plan", "show", set["plan_id"].as_str().unwrap()])["plan"].clone();
    let (from, to) = (Image::simple("team/a"), Image::simple("moved"));
    assert_eq!(
        plan["moved"],
        serde_json::json!([{
            "subject": site.source("team/a"), "from": from.digest().to_string(), "to": to.digest().to_string(),
        }])
    );
    assert_eq!(
        site.mirrored("team/a", "1"),
        Some(from.digest().to_string())
    );
    site.json(&["apply", "app"]);
    assert_eq!(site.mirrored("team/a", "1"), Some(to.digest().to_string()));
    site.until_set("app", "ready", |set| is(set, "Ready"));
}

#[test]
fn what_moved_upstream_is_applied_where_nothing_else_is_said() {
    let (site, _) = moved("apply", "Ready");
    let run = site.newest_run("app");
    assert_eq!(
        (&run["trigger"], &run["state"]),
        (&"refresh".into(), &"succeeded".into())
    );
}

#[test]
fn planning_a_file_that_is_not_there_yet_changes_nothing() {
    let mut site = Site::new();
    let images = site.publish_simple(&["team/a", "other/b"]);
    let repo = site.repo();
    repo.commit(&[("app.yaml", &image_set(&images[..1]))]);
    site.start("image_sets: [{name: new, apply: manual}]\n");
    site.ready(&repo.head());
    let (documents, status) = (site.documents(), site.json(&["status"]));

    std::fs::write(site.folder().join("new.yaml"), image_set(&images[1..])).unwrap();
    let before = site.mirror.mark();
    let preview = site.json(&["plan", "-c", "new.yaml"])["plans"][0].clone();
    assert_eq!(preview["pending_reason"], "preview");
    assert_eq!(preview["image_set"], "new");
    let markdown = site.text(&["plan", "-c", "new.yaml", "--output", "markdown"]);
    assert!(
        markdown.contains("new") && markdown.contains("```diff"),
        "{markdown}"
    );
    let after = site.json(&["status"]);
    assert_eq!(after["image_sets"].as_array().unwrap().len(), 1);
    assert_eq!(after["daemon"]["serial"], status["daemon"]["serial"]);
    assert_eq!(site.documents(), documents);
    assert_eq!(site.mirror.since(before).writes(), 0);
    let refused = site.cli(&["apply", preview["id"].as_str().unwrap()]);
    assert_eq!(refused.code, 3, "{refused:?}");

    repo.commit(&[("new.yaml", &image_set(&images[1..]))]);
    let set = site.until_set("new", "waiting", |set| is(set, "Waiting"));
    assert_eq!(set["plan_id"], preview["id"]);
}
