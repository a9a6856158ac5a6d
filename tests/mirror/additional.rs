//! Additional images: where they land, under which tag, and what is left out.

use crate::{
    fixture::{
        image::{Flavor, Image, Layer},
        place::Placed,
    },
    site::Site,
};

#[test]
fn images_land_where_and_under_what_they_are_told() {
    let site = Site::new();
    let [plain, moved, renamed, pinned, both] =
        ["plain", "moved", "renamed", "pinned", "both"].map(Image::simple);
    site.publish(&[
        Placed::tagged("team/plain", "v1", &plain),
        Placed::tagged("team/moved", "v1", &moved),
        Placed::tagged("team/renamed", "v1", &renamed),
        Placed::untagged("team/pinned", &pinned),
        Placed::tagged("team/both", "v1", &both),
    ]);
    let host = site.upstream.address();
    site.image_set(&format!(
        "additionalImages:\n\
         - name: {host}/team/plain:v1\n\
         - name: {host}/team/moved:v1\n  targetRepo: elsewhere/deep/moved\n\
         - name: {host}/team/renamed:v1\n  targetTag: stable\n\
         - name: {host}/team/pinned@{}\n\
         - name: {host}/team/both:v1@{}\n",
        pinned.digest(),
        both.digest()
    ));
    let ended = site.done(&[]);
    site.assert_mirrored("team/plain:v1", &plain);
    site.assert_mirrored("elsewhere/deep/moved:v1", &moved);
    site.assert_mirrored("team/renamed:stable", &renamed);
    site.assert_mirrored(
        &format!("team/pinned:sha256-{}", pinned.digest().hex()),
        &pinned,
    );
    site.assert_mirrored("team/both:v1", &both);
    for (repository, tags) in [
        ("team/moved", 0),
        ("team/renamed", 1),
        ("team/pinned", 1),
        ("team/both", 1),
    ] {
        assert_eq!(site.tags(repository).len(), tags, "{repository}");
    }
    let warned = ended
        .stdout
        .lines()
        .any(|line| line.contains("team/renamed:v1") && line.contains("tag"));
    assert!(warned, "{ended:#?}");
}

#[test]
fn short_names_are_refused_before_anybody_is_asked() {
    let site = Site::new();
    site.image_set("additionalImages:\n- name: redis:7\n");
    let ended = site.once(&[]);
    assert_eq!(ended.code, 3, "{ended:#?}");
    assert!(
        ended.stderr.contains("redis:7") && ended.stderr.contains("docker.io/library/redis:7"),
        "{ended:#?}"
    );
    assert_eq!(site.mirror.requests().len(), 0);
}

#[test]
fn blocked_images_are_left_out() {
    let site = Site::new();
    let [kept, blocked] = ["kept", "blocked"].map(Image::simple);
    site.publish(&[
        Placed::tagged("team/kept", "1", &kept),
        Placed::tagged("team/blocked-9", "1", &blocked),
    ]);
    let host = site.upstream.address();
    site.image_set(&format!(
        "additionalImages:\n- name: {host}/team/kept:1\n- name: {host}/team/blocked-9:1\nblockedImages:\n- name: 'blocked-[0-9]+'\n"
    ));
    site.done(&[]);
    site.assert_mirrored("team/kept:1", &kept);
    assert_eq!(site.tags("team/blocked-9"), [""; 0]);
}

#[test]
fn docker_and_oci_images_keep_their_types() {
    let site = Site::new();
    let made = |flavor| Image::new(flavor, "amd64", &[Layer::noise("types", 3000)], &[]);
    let index = |flavor| Image::index(flavor, vec![("amd64", made(flavor))]);
    let images = [
        ("team/docker", made(Flavor::Docker)),
        ("team/oci", made(Flavor::Oci)),
        ("team/docker-list", index(Flavor::Docker)),
        ("team/oci-index", index(Flavor::Oci)),
    ];
    let placed: Vec<_> = images
        .iter()
        .map(|(repository, image)| Placed::tagged(repository, "1", image))
        .collect();
    site.publish(&placed);
    site.additional(
        &images
            .each_ref()
            .map(|(repository, _)| format!("{repository}:1"))
            .each_ref()
            .map(String::as_str),
    );
    site.done(&[]);
    for (repository, image) in &images {
        site.assert_mirrored(&format!("{repository}:1"), image);
    }
}

#[test]
fn two_images_for_one_place_are_refused_with_the_remedy() {
    let site = Site::new();
    let host = site.upstream.address();
    site.image_set(&format!(
        "additionalImages:\n- name: {host}/team/redis:7\n- name: quay.io/team/redis:7\n"
    ));
    let ended = site.once(&[]);
    assert_eq!(ended.code, 3, "{ended:#?}");
    for part in [
        "quay.io/team/redis:7",
        &format!("{host}/team/redis:7"),
        "targetRepo",
    ] {
        assert!(ended.stderr.contains(part), "{part}: {ended:#?}");
    }
}
