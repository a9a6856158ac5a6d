//! A mirror that somebody else filled, or whose state was lost, is recognised.

use std::{collections::BTreeMap, fs};

use crate::{
    daemon::Daemon,
    fixture::{
        image::Image,
        place::Placed,
        release::{PARTS, PAYLOADS, Release},
    },
    site::{FEW, PREFIX, Site, Updates, blob_bytes, channel, images, written},
    support::{access_log::Requests, skopeo},
};

/// Copies a release as oc-mirror would have, without a word to imagesetd.
fn fill(site: &Site, release: &Release) {
    for (name, component) in &release.components {
        let from = format!("{PARTS}@{}", component.digest());
        let to = format!("{PREFIX}/openshift/release:{}-{name}", release.tag);
        skopeo::copy(&site.upstream.docker(&from), &site.mirror.docker(&to));
    }
    let to = format!("{PREFIX}/openshift/release-images:{}", release.tag);
    let from = format!("{PAYLOADS}:{}", release.tag);
    skopeo::copy(&site.upstream.docker(&from), &site.mirror.docker(&to));
}

/// Checks that the mirror was asked once for its repositories, looked at once an image and once a repository, and not changed.
fn assert_looked_at_once(requests: &Requests, images: usize, repositories: usize) {
    assert_eq!(written(requests), [""; 0]);
    assert_eq!(requests.blob_gets(), BTreeMap::new());
    assert!(requests.manifest_reads() <= images, "{requests:#?}");
    let lists = requests
        .iter()
        .filter(|r| r.path.ends_with("/tags/list"))
        .count();
    assert!(lists <= repositories, "{requests:#?}");
    let of = |path: &str| requests.iter().filter(|r| r.path == path).count();
    let (pings, catalogs) = (of("/v2/"), of("/v2/_catalog"));
    assert!(catalogs <= 1, "{requests:#?}");
    assert_eq!(
        requests.len(),
        requests.manifest_reads() + lists + pings + catalogs,
        "{requests:#?}"
    );
}

#[test]
fn mirror_that_another_tool_filled_is_adopted_with_a_look_an_image() {
    let site = Site::new();
    let release = site.release("4.16.1", 0, &FEW);
    let index = Image::simple_index("multi", &["amd64", "arm64"]);
    site.publish(&release.images());
    site.publish(&[Placed::tagged("team/multi", "1", &index)]);
    fill(&site, &release);
    skopeo::copy(
        &site.upstream.docker("team/multi:1"),
        &site.mirror.docker(&format!("{PREFIX}/team/multi:1")),
    );
    let updates = Updates::of(&[&release]);
    site.image_set(&format!(
        "{}additionalImages:\n- name: {}/team/multi:1\n",
        crate::site::channel(crate::site::CHANNEL, "4.16.1", "4.16.1"),
        site.upstream.address()
    ));

    let (upstream, mirror) = (site.upstream.mark(), site.mirror.mark());
    site.done(&[&updates.option()])
        .says(&["Nothing to copy: 8 of 8 images are mirrored"]);
    assert_looked_at_once(&site.mirror.since(mirror), FEW.len() + 2, 3);
    // Only what tells the components' names has to be read.
    let payload_layer = release.payload.blobs.last().unwrap().bytes.len() as u64;
    assert_eq!(site.upstream.since(upstream).blob_bytes(), payload_layer);
    assert!(!site.documents().is_empty());

    let (upstream, mirror) = (site.upstream.mark(), site.mirror.mark());
    site.done(&[&updates.option()]);
    assert_eq!(site.mirror.since(mirror).len(), 0);
    assert_eq!(site.upstream.since(upstream).len(), 1, "the tag");
}

#[test]
fn lost_state_is_found_again_in_the_mirror() {
    let site = Site::new();
    let release = site.release("4.16.1", 0, &FEW);
    site.publish(&release.images());
    let updates = Updates::of(&[&release]);
    site.channel("4.16.1", "4.16.1");
    site.done(&[&updates.option()]);
    let (documents, content) = (site.documents(), site.mirror_content());
    fs::remove_dir_all(site.path("state")).unwrap();

    let mirror = site.mirror.mark();
    site.done(&[&updates.option()]).says(&["Nothing to copy"]);
    assert_looked_at_once(&site.mirror.since(mirror), FEW.len() + 1, 2);
    assert_eq!(site.documents(), documents);
    assert_eq!(site.mirror_content(), content);

    let mirror = site.mirror.mark();
    site.done(&[&updates.option()]);
    assert_eq!(
        site.mirror.since(mirror).len(),
        0,
        "the state knows it again"
    );
}

#[test]
fn second_release_onto_an_adopted_mirror_brings_only_what_differs() {
    let site = Site::new();
    let [first, second] =
        [("4.16.1", 0), ("4.16.2", 3)].map(|(v, round)| site.release(v, round, &FEW));
    let placed: Vec<_> = [&first, &second]
        .into_iter()
        .flat_map(Release::images)
        .collect();
    site.publish(&placed);
    fill(&site, &first);
    let updates = Updates::of(&[&first, &second]);
    let daemon = Daemon::start(&site, &updates);

    let begin = site.upstream.mark();
    let plan = daemon.planned(&channel(crate::site::CHANNEL, "4.16.1", "4.16.2"));
    let planned = site.upstream.mark();
    daemon.apply(&plan);
    site.assert_release(&second, &FEW);
    assert_eq!(plan["bytes"], site.upstream.since(planned).blob_bytes());
    let both: Vec<_> = images(&first).chain(images(&second)).collect();
    let new = blob_bytes(both) - blob_bytes(images(&first));
    let manifests = first.payload.blobs.last().unwrap().bytes.len() as u64;
    let read = site.upstream.since(begin).blob_bytes();
    assert_eq!(read, new + manifests, "besides what names the components");
}

#[test]
fn blob_of_an_adopted_image_is_mounted_for_another_repository() {
    let site = Site::new();
    let [there, wanted] = ["there", "wanted"].map(Image::simple);
    site.publish(&[
        Placed::tagged("team/there", "1", &there),
        Placed::tagged("other/wanted", "1", &wanted),
    ]);
    let place = site.mirror.docker(&format!("{PREFIX}/team/there:1"));
    skopeo::copy(&site.upstream.docker("team/there:1"), &place);
    site.additional(&["team/there:1", "other/wanted:1"]);
    let (upstream, mirror) = (site.upstream.mark(), site.mirror.mark());
    site.done(&[]);
    site.assert_mirrored("other/wanted:1", &wanted);
    assert_eq!(site.mirror.since(mirror).mounts(), 1);
    let new = blob_bytes([&there, &wanted]) - blob_bytes([&there]);
    assert_eq!(site.upstream.since(upstream).blob_bytes(), new);
}

#[test]
fn tag_of_the_mirror_that_names_something_else_is_put_right() {
    let site = Site::new();
    let [right, wrong] = ["right", "wrong"].map(Image::simple);
    site.publish(&[
        Placed::tagged("team/app", "1", &right),
        Placed::tagged("team/wrong", "1", &wrong),
    ]);
    skopeo::copy(
        &site.upstream.docker("team/wrong:1"),
        &site.mirror.docker(&format!("{PREFIX}/team/app:1")),
    );
    site.additional(&["team/app:1"]);
    site.done(&[]);
    site.assert_mirrored("team/app:1", &right);
}
