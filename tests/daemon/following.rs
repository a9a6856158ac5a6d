//! The directory and what follows from it: status and documents.

use crate::{
    git::{Repo, git},
    site::{Site, condition, find, image_set, is},
};

#[test]
fn status_and_documents_follow_every_way_a_branch_moves() {
    let mut site = Site::new();
    let images = site.publish_simple(&["team/a", "other/b", "third/c"]);
    let (a, b, c) = (&images[0..1], &images[1..2], &images[2..3]);
    // A person's clone, the server they push to, and the directory that the daemon keeps.
    let bare = site.folder().join("origin.git");
    git(
        site.folder(),
        &["init", "--quiet", "--bare", "-b", "main", "origin.git"],
    );
    let repo = Repo::init(site.folder().join("clone"));
    let url = bare.display().to_string();
    let push = || repo.git(&["push", "--quiet", "--force", &url, "main"]);
    repo.commit(&[("a.yaml", &image_set(a))]);
    push();
    site.start(&format!(
        "git: {{url: \"{url}\", branch: main, interval: 1s}}\n"
    ));
    site.ready(&repo.head());
    assert!(site.all_documents().contains("/team"));

    // A commit with a second image set.
    let commit = repo.commit(&[("b.yaml", &image_set(b))]);
    push();
    let status = site.ready(&commit);
    assert_eq!(
        find(&status, "a").unwrap()["applied_revision"],
        format!("main@sha1:{commit}"),
        "the same document at another commit stands for that commit"
    );
    assert!(site.mirrored("other/b", "1").is_some());

    // Amended and pushed by force.
    repo.write("b.yaml", &image_set(c));
    repo.git(&["add", "--all"]);
    repo.git(&["commit", "--quiet", "--amend", "-m", "amended"]);
    push();
    let amended = repo.head();
    assert_ne!(amended, commit);
    site.ready(&amended);
    assert!(site.mirrored("third/c", "1").is_some());
    let documents = site.documents();
    assert!(
        site.all_documents().contains("/other"),
        "a published rule stays: {documents:?}"
    );

    // Deleted: nothing is taken back.
    std::fs::remove_file(repo.0.join("b.yaml")).unwrap();
    let commit = repo.commit_all();
    push();
    let set = site.until_set("b", "removed", |set| is(set, "Removed"));
    assert!(!is(&set, "Ready") && !is(&set, "Stalled"), "{set}");
    assert_eq!(set["observed_revision"], format!("main@sha1:{commit}"));
    assert_eq!(site.documents(), documents);
    assert!(site.mirrored("third/c", "1").is_some());

    // Renamed: the old one is removed, the new one is ready, and nothing is downloaded.
    let before = site.upstream.mark();
    repo.git(&["mv", "a.yaml", "renamed.yaml"]);
    let commit = repo.commit_all();
    push();
    site.until_set("a", "removed", |set| is(set, "Removed"));
    let set = site.until_set("renamed", "ready", |set| is(set, "Ready"));
    assert_eq!(set["applied_revision"], format!("main@sha1:{commit}"));
    let asked = site.upstream.since(before);
    assert_eq!((asked.blob_gets().len(), asked.writes()), (0, 0));
}

#[test]
fn a_broken_file_stalls_its_own_image_set_until_it_is_repaired() {
    let mut site = Site::new();
    let images = site.publish_simple(&["team/a", "team/b"]);
    let repo = site.repo();
    let good = image_set(&images[0..1]);
    repo.commit(&[("a.yaml", &good), ("b.yaml", &image_set(&images[1..2]))]);
    site.start("");
    site.ready(&repo.head());
    let documents = site.documents();

    let commit = repo.commit(&[(
        "a.yaml",
        &good.replace("additionalImages", "additionalImage"),
    )]);
    let broken = site.until_set("a", "stalled", |set| is(set, "Stalled"));
    let why = condition(&broken, "Stalled").unwrap();
    let place = format!("{}:4:3: ", site.directory().join("a.yaml").display());
    assert!(
        why.starts_with(&place) || why.starts_with("a.yaml:4:3: "),
        "{why}"
    );
    assert!(why.contains("additionalImages"), "the nearest name: {why}");
    let other = site.until_set("b", "at the commit", |set| {
        set["observed_revision"] == format!("main@sha1:{commit}")
    });
    assert!(is(&other, "Ready"), "{other}");
    assert_eq!(site.documents(), documents);

    // Not YAML at all is no other.
    repo.commit(&[("a.yaml", "mirror: [\n")]);
    site.until_set("a", "broken otherwise", |set| {
        condition(set, "Stalled").is_some_and(|now| now != why)
    });

    let commit = repo.commit(&[("a.yaml", &good)]);
    site.ready(&commit);
    assert_eq!(site.documents(), documents);
}

#[test]
fn documents_of_a_file_and_folders_are_image_sets_of_their_own() {
    let mut site = Site::new();
    let images = site.publish_simple(&["team/a", "team/b", "team/c"]);
    let repo = site.repo();
    let (a, b) = (image_set(&images[0..1]), image_set(&images[1..2]));
    let two = format!("{a}---\n{b}");
    repo.commit(&[
        ("two.yaml", &two),
        ("prod/eu/c.yml", &image_set(&images[2..3])),
        (
            "prod/kustomization.yaml",
            "kind: Kustomization\nresources: []\n",
        ),
        ("notes.yaml", "- a\n- b\n"),
    ]);
    site.start("");
    let status = site.ready(&repo.head());
    let names: Vec<&str> = status["image_sets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|set| set["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["prod/eu/c", "two", "two#2"]);

    let commit = repo.commit(&[("two.yaml", &two.replace(&b, &b.replace("name:", "nam:")))]);
    let broken = site.until_set("two#2", "stalled", |set| is(set, "Stalled"));
    let why = condition(&broken, "Stalled").unwrap();
    assert!(why.contains("two.yaml:11:"), "{why}");
    let first = site.until_set("two", "at the commit", |set| {
        set["observed_revision"] == format!("main@sha1:{commit}") && is(set, "Ready")
    });
    assert_eq!(first["problems"], serde_json::json!([]));
}

#[test]
fn an_empty_or_missing_directory_changes_nothing() {
    let mut site = Site::new();
    let images = site.publish_simple(&["team/a"]);
    // Plain files: what an unmounted disk leaves behind is an empty folder.
    let (directory, aside) = (site.directory(), site.folder().join("aside"));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("a.yaml"), image_set(&images)).unwrap();
    site.start("");
    site.until_set("a", "ready", |set| is(set, "Ready"));
    let documents = site.documents();

    std::fs::rename(&directory, &aside).unwrap();
    for empty in [false, true] {
        if empty {
            std::fs::create_dir(&directory).unwrap();
        }
        let what = if empty { "empty" } else { "missing" };
        let status = site.until(what, |status| {
            condition(&status["daemon"], "DirectoryUnavailable")
                .is_some_and(|why| why.contains("holds no YAML file") == empty)
        });
        let set = find(&status, "a").unwrap();
        assert!(is(set, "Ready") && !is(set, "Removed"), "{set}");
        assert_eq!(site.documents(), documents);
    }
    std::fs::remove_dir(&directory).unwrap();
    std::fs::rename(&aside, &directory).unwrap();
    let status = site.until("back", |status| is(&status["daemon"], "Ready"));
    assert!(is(find(&status, "a").unwrap(), "Ready"), "{status}");
}
