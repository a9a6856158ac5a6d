//! Images of several platforms: whole, or those platforms that were asked for.

use crate::{
    fixture::{
        image::{Flavor, Image, Layer},
        place::Placed,
    },
    site::{PREFIX, Site},
    support::{
        access_log::Requests,
        registry::{Kind, Options, Registry, SPARSE_INDEXES},
        skopeo,
    },
};

/// An upstream with an image of three platforms, and one beside it that nothing is unusual about.
fn published(site: &Site, platforms: &str) -> (Image, Image) {
    let index = Image::simple_index("multi", &["amd64", "arm64", "s390x"]);
    let other = Image::simple("other");
    site.publish(&[
        Placed::tagged("team/multi", "1", &index),
        Placed::tagged("team/other", "1", &other),
    ]);
    let host = site.upstream.address();
    site.image_set(&format!(
        "additionalImages:\n- name: {host}/team/multi:1\n{platforms}- name: {host}/team/other:1\n"
    ));
    (index, other)
}

const SOME: &str =
    "  platforms:\n  - {os: linux, architecture: amd64}\n  - {os: linux, architecture: arm64}\n";

#[test]
fn index_lands_whole_children_first() {
    let site = Site::new();
    let (index, _) = published(&site, "");
    site.done(&[]);
    site.assert_mirrored("team/multi:1", &index);
    let requests = site.mirror.requests();
    let pushed: Vec<_> = requests
        .iter()
        .filter(|r| r.method == "PUT" && r.path.contains("team/multi/manifests"))
        .collect();
    assert_eq!(pushed.len(), 4);
    assert_eq!(pushed.last().unwrap().manifest(), Some("1"));
}

/// An index of two images, of which the second is another one for each `version`.
fn version(version: &str) -> Image {
    let child = |name: &str, arch| {
        let layers = [Layer::noise(name, 2 << 10)];
        Image::new(Flavor::Oci, arch, &layers, &[("name", name)])
    };
    let stays = ("amd64", child("stays", "amd64"));
    Image::index(Flavor::Oci, vec![stays, ("arm64", child(version, "arm64"))])
}

/// Publishes `index` as what `team/multi:1` names, and mirrors that; returns what was asked of the mirror.
fn moved(site: &Site, index: &Image) -> Requests {
    site.publish(&[Placed::tagged("team/multi", "1", index)]);
    site.additional(&["team/multi:1"]);
    let mark = site.mirror.mark();
    site.done(&[]);
    site.assert_mirrored("team/multi:1", index);
    site.mirror.since(mark)
}

#[test]
fn child_that_is_there_is_not_pushed_again_and_one_that_was_lost_is() {
    for mirror in [Registry::debian(), Registry::distribution3()] {
        let site = Site::with_mirror(mirror);
        let [first, second, third] = ["first", "second", "third"].map(version);
        moved(&site, &first);
        let changed = second.children[1].digest().to_string();
        assert_eq!(moved(&site, &second).manifest_puts(), [&changed, "1"]);

        let lost = third.children[0].digest();
        let (path, hex) = (format!("{PREFIX}/team/multi"), lost.hex());
        let revisions = format!("docker/registry/v2/repositories/{path}/_manifests/revisions");
        let link = site.mirror.storage().join(revisions).join("sha256");
        std::fs::remove_dir_all(link.join(&hex)).unwrap();
        let (changed, lost) = (third.children[1].digest().to_string(), lost.to_string());
        // The first push of the index is refused, and not among those.
        let puts = moved(&site, &third);
        assert_eq!(puts.manifest_puts(), [&changed, &lost, "1"]);

        // Two that share what was lost are both mended.
        std::fs::remove_dir_all(link.join(&hex)).unwrap();
        let [one, other] = ["one", "other"].map(version);
        site.publish(&[
            Placed::tagged("team/multi", "1", &one),
            Placed::tagged("team/multi", "2", &other),
        ]);
        site.additional(&["team/multi:1", "team/multi:2"]);
        site.done(&[]);
        site.assert_mirrored("team/multi:1", &one);
        site.assert_mirrored("team/multi:2", &other);
    }
}

#[test]
fn sparse_index_that_the_mirror_refuses_fails_alone_and_says_which_setting_to_change() {
    for mirror in [Registry::debian(), Registry::distribution3()] {
        let site = Site::with_mirror(mirror);
        let (_, other) = published(&site, SOME);
        let ended = site.once(&[]);
        assert_eq!(ended.code, 6, "{ended:#?}");
        ended.says(&[
            "team/multi:1",
            "validation.manifests.indexes.platforms",
            "platforms",
        ]);
        assert_eq!(site.tags("team/multi"), [""; 0]);
        site.assert_mirrored("team/other:1", &other);
    }
}

#[test]
fn sparse_index_lands_with_its_own_digest_where_the_mirror_takes_it() {
    let site = Site::with_mirror(Registry::start(
        Kind::Distribution3,
        Options {
            configuration: SPARSE_INDEXES.into(),
            ..Options::default()
        },
    ));
    let (index, other) = published(&site, SOME);
    site.done(&[]);
    let place = |name: &str| site.mirror.docker(&format!("{PREFIX}/team/multi{name}"));
    assert_eq!(skopeo::inspect_raw(&place(":1")), index.manifest.raw);
    for (child, there) in index.children.iter().zip([true, true, false]) {
        let name = place(&format!("@{}", child.digest()));
        let found = skopeo::run(&["inspect", "--raw", "--tls-verify=false", &name]);
        assert_eq!(found.status.success(), there, "{name}");
        if there {
            skopeo::copy_to_dir(&name);
        }
    }
    site.assert_mirrored("team/other:1", &other);

    let mirror = site.mirror.mark();
    site.done(&[]);
    assert_eq!(site.mirror.since(mirror).len(), 0);

    std::fs::remove_dir_all(site.path("state")).unwrap();
    let mirror = site.mirror.mark();
    site.done(&[]).says(&["Nothing to copy"]);
    assert_eq!(site.mirror.since(mirror).writes(), 0, "found again");

    // More platforms later bring what is missing and nothing else.
    let host = site.upstream.address();
    site.image_set(&format!("additionalImages:\n- name: {host}/team/multi:1\n"));
    let upstream = site.upstream.mark();
    site.done(&[]);
    site.assert_mirrored("team/multi:1", &index);
    let read = site.upstream.since(upstream);
    let missing: Vec<_> = index.children[2]
        .all_blobs()
        .into_keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(read.blob_gets().into_keys().collect::<Vec<_>>(), missing);
}

#[test]
fn platform_that_the_image_does_not_have_is_told_with_those_it_has() {
    let site = Site::new();
    let (_, other) = published(
        &site,
        "  platforms:\n  - {os: linux, architecture: ppc64le}\n",
    );
    let ended = site.once(&[]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    ended.says(&["linux/ppc64le", "linux/amd64", "linux/s390x"]);
    site.assert_mirrored("team/other:1", &other);
}
