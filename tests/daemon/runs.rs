//! Runs: hung up on, watched, cancelled, stopped, killed.

use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::site::{Site, find, image_set, is};

const NAMES: [&str; 4] = ["team/a", "team/b", "team/c", "slow/d"];

/// A site where three of four images land at once and the last one waits at the gate.
fn half_way(more: &str) -> (Site, String) {
    let mut site = Site::new();
    let images = site.gated(&NAMES);
    site.gate.hold("slow/d");
    let repo = site.repo();
    repo.commit(&[("app.yaml", &image_set(&images))]);
    site.start(more);
    (site, repo.head())
}

/// Waits until three images have landed, and returns the run.
fn three_landed(site: &Site) -> Value {
    let is_half = |list: &Value| list["runs"][0]["progress"]["images_done"] == 3;
    let list = site.poll("three images", &["runs", "list"], is_half);
    list["runs"][0].clone()
}

/// Asserts that upstream served each blob once, over all that happened.
fn nothing_twice(site: &Site) {
    let twice = site.upstream.requests().blobs_twice();
    assert_eq!(twice, [""; 0]);
}

fn apply(site: &Site) -> Child {
    let mut command = site.command(&["apply", "app"]);
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn hanging_up_stops_nothing_and_calling_again_attaches() {
    let (site, commit) = half_way("apply: manual\n");
    site.until_set("app", "waiting", |set| is(set, "Waiting"));
    assert_eq!(site.text(&["resources", "app"]), "", "nothing has landed");
    let mut first = apply(&site);
    let run = three_landed(&site);
    first.kill().unwrap();
    first.wait().unwrap();
    let id = run["id"].as_str().unwrap();

    let detached = site.json(&["apply", "app", "--detach"]);
    assert_eq!(detached["run"]["id"], id);
    let plan = run["plan_id"].as_str().unwrap();
    let again = site.cli(&["apply", &plan[..8], "--timeout", "1s"]);
    assert_eq!(again.code, 7, "{again:?}");
    assert!(again.stderr.contains(id), "{again:?}");
    let shown = site.json(&["runs", "show", id]);
    assert_eq!(shown["run"]["state"], "running");
    let shown = site.text(&["plan", "show", plan]);
    assert!(
        shown.contains(&format!("imagesetd runs watch {id}")),
        "{shown}"
    );

    let watching = site
        .command(&["runs", "watch", id])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    site.gate.open();
    let watched = watching.wait_with_output().unwrap();
    let text = String::from_utf8(watched.stdout).unwrap();
    assert!(watched.status.success() && text.contains(id), "{text}");
    let status = site.ready(&commit);
    assert_eq!(find(&status, "app").unwrap()["images_mirrored"], 4);
    assert_eq!(
        site.json(&["runs", "list"])["runs"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let ended = site.json(&["runs", "show", id])["run"]["progress"].clone();
    assert_eq!(ended["bytes_per_second"], 0, "{ended}");
    assert!(ended["eta_seconds"].is_null(), "{ended}");
    let over = site.cli(&["runs", "cancel", id]);
    assert_eq!(over.code, 3, "{over:?}");
    nothing_twice(&site);
}

#[test]
fn a_cancelled_run_keeps_what_landed_and_the_next_completes_the_rest() {
    let (site, commit) = half_way("apply: manual\nparallel_images: 1\n");
    // One image at a time: the gated one is first, the others are not begun when the run is cancelled.
    site.until_set("app", "waiting", |set| is(set, "Waiting"));
    let waiting = site
        .command(&["apply", "app"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let list = site.poll("the run", &["runs", "list"], |list| {
        list["runs"][0]["state"] == "running"
    });
    let id = list["runs"][0]["id"].as_str().unwrap();
    site.gate.somebody_waits();
    let cancelled = site.text(&["runs", "cancel", id]);
    assert!(cancelled.contains("is asked to stop"), "{cancelled}");
    site.gate.open();
    let ended = waiting.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!said.contains("failed"), "{said}");
    assert_eq!(ended.status.code(), Some(1));
    let run = site.json(&["runs", "show", id])["run"].clone();
    assert_eq!(run["state"], "cancelled");
    assert_eq!(
        run["failures"],
        serde_json::json!([]),
        "what was not begun did not fail"
    );
    assert_eq!(run["progress"]["images_failed"], 0);
    let set = site.until_set("app", "not ready", |set| !is(set, "Ready"));
    let landed = set["images_mirrored"].as_u64().unwrap();
    assert!((1..4).contains(&landed), "{set}");

    let second = site.json(&["apply", "app"])["run"].clone();
    assert_eq!(second["progress"]["images_total"], 4 - landed);
    site.ready(&commit);
    nothing_twice(&site);
}

#[test]
fn a_cancelled_run_begins_again_only_when_something_changes_or_somebody_asks() {
    let (mut site, commit) = half_way("refresh: 1s\nparallel_images: 1\n");
    let list = site.poll("the run", &["runs", "list"], |list| {
        list["runs"][0]["state"] == "running"
    });
    let id = list["runs"][0]["id"].as_str().unwrap().to_owned();
    site.gate.somebody_waits();
    site.text(&["runs", "cancel", &id]);
    site.gate.open();
    site.poll("its end", &["runs", "show", &id], |shown| {
        shown["run"]["state"] == "cancelled"
    });
    // Upstream has been looked at again since, before and after a restart, and nothing began.
    let looked_again = |site: &Site| {
        let first = site.until_set("app", "a plan waits", |set| {
            is(set, "Waiting") && set["pending_reason"] == "cancelled"
        });
        site.until_set("app", "another look", |set| {
            set["last_refresh_at"] != first["last_refresh_at"]
                && set["pending_reason"] == "cancelled"
        });
        let runs = site.json(&["runs", "list"])["runs"].clone();
        assert_eq!(runs.as_array().unwrap().len(), 1, "{runs}");
    };
    looked_again(&site);
    site.stop();
    site.serve();
    looked_again(&site);

    let second = site.json(&["apply", "app"])["run"].clone();
    assert_eq!(second["state"], "succeeded");
    site.ready(&commit);
    nothing_twice(&site);
}

#[test]
fn a_stopped_daemon_goes_on_where_it_was() {
    let (mut site, commit) = half_way("");
    let run = three_landed(&site);
    let id = run["id"].as_str().unwrap();
    site.stop();
    site.gate.open();
    site.serve();
    let status = site.ready(&commit);
    assert_eq!(find(&status, "app").unwrap()["images_mirrored"], 4);
    let stopped = site.json(&["runs", "show", id])["run"].clone();
    assert_eq!(stopped["state"], "interrupted");
    let next = site.newest_run("app");
    assert_eq!(
        (&next["progress"]["images_total"], &next["trigger"]),
        (&serde_json::json!(1), &serde_json::json!("retry")),
        "{next}"
    );
    nothing_twice(&site);
}

#[test]
fn a_killed_daemon_goes_on_where_it_was() {
    let (mut site, commit) = half_way("");
    let run = three_landed(&site);
    let id = run["id"].as_str().unwrap();
    site.signal(Signal::SIGKILL);
    site.gate.open();
    site.serve();
    let status = site.ready(&commit);
    assert_eq!(find(&status, "app").unwrap()["images_mirrored"], 4);
    assert_eq!(
        site.json(&["runs", "show", id])["run"]["state"],
        "interrupted"
    );
    assert_eq!(site.newest_run("app")["progress"]["images_total"], 1);
    nothing_twice(&site);
}

#[test]
fn an_image_that_is_taken_out_while_its_run_goes_on_is_not_started() {
    let mut site = Site::new();
    let images = site.gated(&["slow/a", "team/b", "team/c"]);
    site.gate.hold("slow/a");
    let repo = site.repo();
    repo.commit(&[("app.yaml", &image_set(&images))]);
    site.start("parallel_images: 1\n");
    let list = site.poll("the run", &["runs", "list"], |list| {
        list["runs"][0]["state"] == "running"
    });
    let id = list["runs"][0]["id"].as_str().unwrap().to_owned();
    site.gate.somebody_waits();

    let commit = repo.commit(&[("app.yaml", &image_set(&images[..2]))]);
    site.until_set("app", "the commit is taken in", |set| {
        set["observed_revision"] == format!("main@sha1:{commit}") && set["images_wanted"] == 2
    });
    site.gate.open();
    site.ready(&commit);
    let run = site.json(&["runs", "show", &id])["run"].clone();
    assert_eq!(run["progress"]["images_skipped"], 1, "{run}");
    assert_eq!(run["progress"]["images_done"], 2, "{run}");
    assert_eq!(site.mirrored("team/c", "1"), None);
    assert!(site.mirrored("team/b", "1").is_some());
    nothing_twice(&site);
}

#[test]
fn a_plan_made_during_a_run_can_be_applied_after_it() {
    let (site, first) = half_way("apply: manual\nrefresh: 1h\n");
    site.until_set("app", "waiting", |set| is(set, "Waiting"));
    site.json(&["apply", "app", "--detach"]);
    three_landed(&site);
    let more = [site.gated(&NAMES), site.publish_simple(&["team/e"])].concat();
    let repo = crate::git::Repo(site.directory());
    let commit = repo.commit(&[("app.yaml", &image_set(&more))]);
    assert_ne!(first, commit);
    site.until_set("app", "the commit is planned", |set| {
        set["images_wanted"] == 5
    });
    site.gate.open();
    let set = site.until_set("app", "waiting", |set| {
        is(set, "Waiting") && !is(set, "Reconciling") && set["images_mirrored"] == 4
    });
    let id = set["plan_id"].as_str().unwrap();
    let applied = site.json(&["apply", id])["run"].clone();
    assert_eq!(applied["progress"]["images_total"], 1, "{applied}");
    site.ready(&commit);
    nothing_twice(&site);
}

#[test]
fn an_unchanged_directory_costs_one_request_a_tag_after_a_restart() {
    let mut site = Site::new();
    let mut images = site.publish_simple(&["team/a", "other/b"]);
    let digest = crate::fixture::image::Image::simple("team/a")
        .digest()
        .to_string();
    images.push(format!("{}/team/a@{digest}", site.upstream.address()));
    let repo = site.repo();
    repo.commit(&[("app.yaml", &image_set(&images))]);
    site.start("");
    site.ready(&repo.head());
    let records = crate::git::Repo::init(site.output());
    records.commit_all();
    site.stop();

    let (up, down) = (site.upstream.mark(), site.mirror.mark());
    site.serve();
    site.ready(&repo.head());
    let (up, down) = (site.upstream.since(up), site.mirror.since(down));
    let asked: Vec<&str> = up.iter().filter_map(|r| r.manifest()).collect();
    assert_eq!(asked, ["1", "1"], "one by tag, none by digest: {up:?}");
    assert_eq!(up.blob_gets().len(), 0);
    assert_eq!(down.len(), 0, "{down:?}");
    assert_eq!(records.git(&["status", "--porcelain"]), "");
    let runs = site.json(&["runs", "list"])["runs"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(runs, 1);
}
