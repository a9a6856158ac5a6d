//! What a plan says in bytes is what is downloaded, and nothing is read or written without need.

use crate::{
    daemon::Daemon,
    fixture::image::Image,
    fixture::names::COMPONENTS,
    fixture::place::Placed,
    fixture::release::Release,
    site::{FEW, Site, Updates, blob_bytes, channel, images},
    support::access_log::Requests,
};

#[test]
fn plans_bytes_are_what_upstream_sends_for_the_first_release_and_for_the_second() {
    let site = Site::new();
    let [first, second] =
        [("4.16.1", 0), ("4.16.2", 1)].map(|(v, round)| site.release(v, round, &COMPONENTS));
    let placed: Vec<_> = [&first, &second]
        .into_iter()
        .flat_map(Release::images)
        .collect();
    site.publish(&placed);
    let updates = Updates::of(&[&first, &second]);
    let daemon = Daemon::start(&site, &updates);

    let begin = site.upstream.mark();
    let plan = daemon.planned(&channel(crate::site::CHANNEL, "4.16.1", "4.16.1"));
    let planned = site.upstream.mark();
    let read = site.upstream.since(begin);
    assert_eq!(site.mirror.requests().writes(), 0);
    assert_eq!(plan["bytes_present"], read.blob_bytes());
    daemon.apply(&plan);
    let applied = site.upstream.since(planned);
    assert_eq!(plan["bytes"], applied.blob_bytes());
    assert_eq!(
        read.blob_bytes() + applied.blob_bytes(),
        blob_bytes(images(&first))
    );
    assert_eq!(site.upstream.since(begin).blobs_twice(), [""; 0]);
    site.assert_release(&first, &["cli"]);

    let begin = site.upstream.mark();
    let plan = daemon.planned(&channel(crate::site::CHANNEL, "4.16.1", "4.16.2"));
    let planned = site.upstream.mark();
    let read = site.upstream.since(begin);
    daemon.apply(&plan);
    let applied = site.upstream.since(planned);
    assert_eq!(plan["bytes"], applied.blob_bytes());
    assert_eq!(plan["bytes_present"], read.blob_bytes());
    let both: Vec<_> = images(&first).chain(images(&second)).collect();
    let new = blob_bytes(both) - blob_bytes(images(&first));
    assert_eq!(read.blob_bytes() + applied.blob_bytes(), new);
    assert_eq!(site.upstream.requests().blobs_twice(), [""; 0]);
    site.assert_release(&second, &["cli"]);
}

#[test]
fn unchanged_set_costs_a_request_a_tag_and_one_for_the_channel() {
    let site = Site::new();
    let release = site.release("4.16.1", 0, &FEW);
    site.publish(&release.images());
    let [one, two, pinned] = ["one", "two", "pinned"].map(Image::simple);
    site.publish(&[
        Placed::tagged("team/one", "1", &one),
        Placed::tagged("team/two", "2", &two),
        Placed::untagged("team/pinned", &pinned),
    ]);
    let updates = Updates::of(&[&release]);
    let host = site.upstream.address();
    site.image_set(&format!(
        "{}additionalImages:\n- name: {host}/team/one:1\n- name: {host}/team/two:2\n- name: {host}/team/pinned@{}\n",
        channel(crate::site::CHANNEL, "4.16.1", "4.16.1"),
        pinned.digest()
    ));
    site.done(&[&updates.option()]);
    updates.take();
    let (documents, content) = (site.documents(), site.mirror_content());
    assert!(!documents.is_empty());

    let (upstream, mirror) = (site.upstream.mark(), site.mirror.mark());
    site.done(&[&updates.option()]).says(&["Nothing to copy"]);

    let asked = lines(&site.upstream.since(upstream));
    assert_eq!(
        asked,
        [
            "HEAD /v2/team/one/manifests/1",
            "HEAD /v2/team/two/manifests/2"
        ]
    );
    assert_eq!(lines(&site.mirror.since(mirror)), [""; 0]);
    assert_eq!(updates.take().len(), 1);
    assert_eq!(site.documents(), documents);
    assert_eq!(site.mirror_content(), content);
}

#[test]
fn tag_that_moved_brings_only_what_differs() {
    let site = Site::new();
    let [old, new] = ["old", "new"].map(Image::simple);
    site.publish(&[Placed::tagged("team/app", "latest", &old)]);
    site.additional(&["team/app:latest"]);
    site.done(&[]);
    let mark = site.upstream.mark();
    site.publish(&[Placed::tagged("team/app", "latest", &new)]);
    site.done(&[]).says(&["Moved upstream", "1 image to copy"]);
    site.assert_mirrored("team/app:latest", &new);
    let read = site.upstream.since(mark);
    assert_eq!(
        read.blob_bytes(),
        blob_bytes([&old, &new]) - blob_bytes([&old])
    );
}

#[test]
fn channel_that_moved_brings_the_newest_release() {
    let site = Site::new();
    let [first, second] =
        [("4.16.1", 0), ("4.16.2", 3)].map(|(v, round)| site.release(v, round, &FEW));
    let placed: Vec<_> = [&first, &second]
        .into_iter()
        .flat_map(Release::images)
        .collect();
    site.publish(&placed);
    let updates = Updates::of(&[&first]);
    site.image_set(&format!(
        "platform:\n  channels:\n  - name: {}\n",
        crate::site::CHANNEL
    ));
    site.done(&[&updates.option()]);
    updates.offer(&[&first, &second]);
    site.done(&[&updates.option()]).says(&[
        "Moved upstream",
        "4.16.1",
        "4.16.2",
        "No longer wanted, kept in the mirror",
    ]);
    site.assert_release(&first, &FEW);
    site.assert_release(&second, &FEW);
    assert_eq!(site.upstream.requests().blobs_twice(), [""; 0]);
}

/// The requests as `METHOD path`, sorted.
fn lines(requests: &Requests) -> Vec<String> {
    let mut lines: Vec<_> = requests
        .iter()
        .map(|r| format!("{} {}", r.method, r.path))
        .collect();
    lines.sort();
    lines
}
