//! Registries that take no deep paths: names are joined as oc-mirror joins them.

use crate::{
    fixture::{image::Image, place::Placed},
    site::Site,
    support::skopeo,
};

#[test]
fn names_are_joined_in_the_mirror_and_in_the_documents() {
    let site = Site::new();
    let [app, deep] = ["app", "deep"].map(Image::simple);
    site.publish(&[
        Placed::tagged("team/app", "1", &app),
        Placed::tagged("team/very/deep", "1", &deep),
    ]);
    site.additional(&["team/app:1", "team/very/deep:1"]);
    // The prefix of this site has two parts.
    site.done(&["--max-nested-paths", "3"]);
    for (place, image) in [("team-app:1", &app), ("team-very-deep:1", &deep)] {
        site.assert_mirrored(place, image);
    }
    let documents = site.documents();
    let text: String = documents
        .values()
        .map(|(bytes, _)| String::from_utf8_lossy(bytes).into_owned())
        .collect();
    let (source, mirror) = (site.upstream.address(), site.mirror.address());
    for (from, to) in [
        ("team/app", "team-app"),
        ("team/very/deep", "team-very-deep"),
    ] {
        let rule = format!(
            "- source: \"{source}/{from}\"\n      mirrors:\n        - \"{mirror}/site/ocp/{to}\"\n"
        );
        assert!(text.contains(&rule), "{rule}{text}");
    }

    // What lies there under the joined names is recognised, whoever brought it.
    std::fs::remove_dir_all(site.path("state")).unwrap();
    let ended = site.done(&["--max-nested-paths", "3"]);
    assert!(
        ended.stdout.contains("2 of 2 images are mirrored"),
        "{ended:#?}"
    );
    let raw = skopeo::inspect_raw(&site.mirror.docker("site/ocp/team-app:1"));
    assert_eq!(raw, app.manifest.raw);
}
