//! Two image sets beside each other, and taking back published rules on purpose.

use crate::{
    fixture::image::Image,
    site::{Site, image_set, is},
};

#[test]
fn rules_stay_when_an_image_set_goes_away_until_they_are_retired() {
    let mut site = Site::new();
    let images = site.publish_simple(&["shared/x", "one/a", "two/b"]);
    let repo = site.repo();
    let (one, two) = (
        [images[0].clone(), images[1].clone()],
        [images[0].clone(), images[2].clone()],
    );
    repo.commit(&[
        ("one.yaml", &image_set(&one)),
        ("two.yaml", &image_set(&two)),
    ]);
    site.start("");
    site.ready(&repo.head());
    let documents = site.documents();
    let of = |name: &str| -> String {
        let files = documents.iter().filter(|(file, _)| file.contains(name));
        files.map(|(_, text)| text.clone()).collect()
    };
    assert!(
        of("one").contains("/shared\"") && of("one").contains("/one\""),
        "{documents:?}"
    );
    assert!(
        of("two").contains("/shared\"") && of("two").contains("/two\""),
        "{documents:?}"
    );

    // Nothing to retire while all is wanted.
    let nothing = site.text(&["resources", "retire", "one", "--dry-run"]);
    assert!(nothing.contains("nothing to retire"), "{nothing}");

    std::fs::remove_file(repo.0.join("one.yaml")).unwrap();
    repo.commit_all();
    site.until_set("one", "removed", |set| is(set, "Removed"));
    // Whatever else happens: the other set changes, the daemon starts anew.
    site.publish("three/c", "1", &Image::simple("three/c"));
    let more = [images[0].clone(), images[2].clone(), site.source("three/c")];
    let commit = repo.commit(&[("two.yaml", &image_set(&more))]);
    site.until_set("two", "ready", |set| {
        is(set, "Ready") && set["applied_revision"] == format!("main@sha1:{commit}")
    });
    site.stop();
    site.serve();
    site.until_set("two", "ready again", |set| is(set, "Ready"));
    let kept: Vec<_> = documents
        .iter()
        .filter(|(file, _)| file.contains("one"))
        .collect();
    let now = site.documents();
    assert!(
        kept.iter().all(|(file, text)| now.get(*file) == Some(text)),
        "{now:?}"
    );

    let refused = site.cli(&["resources", "retire", "one"]);
    assert_eq!(refused.code, 2, "{refused:?}");
    let told = site.text(&["resources", "retire", "one", "--dry-run"]);
    assert!(
        told.contains("would be retired") && told.contains("drained"),
        "{told}"
    );
    assert_eq!(site.documents(), now);

    site.text(&["resources", "retire", "one", "--yes"]);
    let left = site.documents();
    assert!(!left.keys().any(|file| file.contains("one")), "{left:?}");
    assert!(
        site.all_documents().contains("/shared\""),
        "the other set needs it"
    );
    assert!(site.mirrored("one/a", "1").is_some(), "content stays");
    let unknown = site.cli(&["resources", "retire", "nobody", "--dry-run"]);
    assert_ne!(unknown.code, 0, "{unknown:?}");

    for arguments in [&["resources", "twoo"][..], &["resources", "list", "twoo"]] {
        let unknown = site.cli(arguments);
        assert_eq!(unknown.code, 3, "{unknown:?}");
        assert!(unknown.stderr.contains("did you mean two?"), "{unknown:?}");
    }
    let forgotten = site.cli(&["resources", "one"]);
    assert_eq!(forgotten.code, 3, "{forgotten:?}");
}

#[test]
fn no_rule_keeps_nodes_from_a_source_that_another_set_still_lacks() {
    let mut site = Site::new();
    let have = site.publish_simple(&["shared/have"]);
    let repo = site.repo();
    repo.commit(&[
        ("one.yaml", &image_set(&have)),
        ("two.yaml", &image_set(&[site.source("shared/late")])),
    ]);
    site.start("mirror_source_policies: [{source: \"**\", policy: NeverContactSource}]\n");
    site.until_set("one", "ready", |set| is(set, "Ready"));
    site.until_set("two", "unresolved", |set| is(set, "Unresolved"));
    let lacking = site.all_documents();
    assert!(lacking.contains("/shared\""), "{lacking}");
    assert!(!lacking.contains("NeverContactSource"), "{lacking}");

    site.publish("shared/late", "1", &Image::simple("shared/late"));
    site.json(&["plan", "two", "--refresh"]);
    site.json(&["apply", "two"]);
    let whole = site.documents();
    let says_never = |text: &String| text.contains("NeverContactSource");
    assert!(whole.values().all(says_never), "{whole:?}");

    // After a start, too, nothing is decided before it is known what every set lacks.
    site.stop();
    site.serve();
    site.publish("shared/more", "1", &Image::simple("shared/more"));
    let more = [have[0].clone(), site.source("shared/more")];
    let commit = repo.commit(&[("one.yaml", &image_set(&more))]);
    site.ready(&commit);
    let after = site.documents();
    assert!(after.values().all(says_never), "{after:?}");
}
