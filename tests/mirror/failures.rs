//! What is broken fails itself and what needs it, and nothing else.

use std::fs;

use crate::{
    fixture::{image::Image, place::Placed, release::Release},
    site::{Ended, FEW, Site, Updates, blob_bytes},
};

#[test]
fn image_without_a_blob_fails_alone_and_a_rerun_after_repair_brings_the_rest() {
    let site = Site::new();
    let [good, bad] = ["good", "bad"].map(Image::simple);
    let placed = [
        Placed::tagged("team/good", "1", &good),
        Placed::tagged("team/bad", "1", &bad),
    ];
    site.publish(&placed);
    site.lose(&bad.blobs[2].digest);
    site.additional(&["team/good:1", "team/bad:1"]);

    let ended = site.once(&[]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    let failing = format!("{}/team/bad:1", site.upstream.address());
    ended.says(&[&failing, &bad.blobs[2].digest.to_string(), "1 of 2 images"]);
    site.assert_mirrored("team/good:1", &good);
    assert_eq!(site.tags("team/bad"), [""; 0]);

    site.publish(&placed);
    let upstream = site.upstream.mark();
    site.done(&[]).says(&["1 image to copy"]);
    site.assert_mirrored("team/bad:1", &bad);
    assert_eq!(
        site.upstream.since(upstream).blob_bytes(),
        bad.blobs[2].bytes.len() as u64
    );
}

#[test]
fn tag_that_is_not_there_is_named_and_the_rest_lands() {
    let site = Site::new();
    let good = Image::simple("good");
    site.publish(&[Placed::tagged("team/good", "1", &good)]);
    site.additional(&["team/good:1", "team/good:2", "team/never:1"]);
    let ended = site.once(&[]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    ended.says(&["team/good:2", "team/never:1"]);
    site.assert_mirrored("team/good:1", &good);
}

#[test]
fn exit_says_what_stands_in_the_way_where_nothing_can_be_mirrored() {
    let mut site = Site::new();
    let app = Image::simple("app");
    site.publish(&[Placed::tagged("team/app", "1", &app)]);
    site.additional(&["team/never:1", "team/never:2"]);
    let ended = site.once(&[]);
    assert_eq!(ended.code, 3, "{ended:#?}");

    // By digest too: then it is a manifest that cannot be read.
    site.upstream.stop();
    let by_digest = format!("team/app@{}", app.digest());
    for images in [
        &["team/app:1"][..],
        &[&by_digest],
        &["team/app:1", &by_digest],
    ] {
        site.additional(images);
        let ended = site.once(&["--retry-times=0"]);
        assert_eq!(ended.code, 5, "{images:?} {ended:#?}");
    }
}

#[test]
fn upstream_that_is_down_leaves_a_part_where_something_is_mirrored_already() {
    let mut site = Site::new();
    let [old, new] = ["old", "new"].map(Image::simple);
    site.publish(&[
        Placed::tagged("team/old", "1", &old),
        Placed::tagged("team/new", "1", &new),
    ]);
    let by_digest = format!("team/old@{}", old.digest());
    site.additional(&[&by_digest]);
    site.done(&[]);
    site.upstream.stop();
    site.additional(&[&by_digest, "team/new:1"]);
    let ended = site.once(&["--retry-times=0"]);
    assert_eq!(ended.code, 6, "{ended:#?}");
}

#[test]
fn update_service_that_is_down_is_no_fault_of_the_image_set() {
    let site = Site::new();
    site.channel("4.16.1", "4.16.1");
    let nobody = site.mirror.address();
    let asked = format!("--update-url=http://{nobody}/graph");
    // A registry that knows no such path.
    let ended = site.once(&[&asked, "--retry-times=0"]);
    assert_eq!(ended.code, 3, "{ended:#?}");
    let ended = site.once(&["--update-url=http://127.0.0.1:9/graph", "--retry-times=0"]);
    assert_eq!(ended.code, 5, "{ended:#?}");
}

#[test]
fn tag_that_went_away_upstream_keeps_what_was_mirrored_of_it() {
    let site = Site::new();
    let [stays, goes] = ["stays", "goes"].map(Image::simple);
    site.publish(&[
        Placed::tagged("team/stays", "1", &stays),
        Placed::tagged("team/goes", "1", &goes),
    ]);
    site.additional(&["team/stays:1", "team/goes:1"]);
    site.done(&[]);
    let (documents, content) = (site.documents(), site.mirror_content());
    let tag = "docker/registry/v2/repositories/team/goes/_manifests/tags/1";
    fs::remove_dir_all(site.upstream.storage().join(tag)).unwrap();

    let ended = site.once(&[]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    ended.says(&["team/goes:1", "what was mirrored of it stays"]);
    assert!(!ended.stdout.contains("No longer wanted"), "{ended:#?}");
    assert_eq!(site.documents(), documents);
    assert_eq!(site.mirror_content(), content);
}

#[test]
fn payload_waits_for_a_component_that_is_broken() {
    let site = Site::new();
    let release = site.release("4.16.1", 0, &FEW);
    site.publish(&release.images());
    let broken = &release.components["etcd"];
    let lost = &broken.blobs.last().unwrap().digest;
    site.lose(lost);
    let updates = Updates::of(&[&release]);
    site.channel("4.16.1", "4.16.1");

    let ended = site.once(&[&updates.option()]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    let payload = release.payload.digest().to_string();
    ended.says(&[
        &broken.digest().to_string(),
        &lost.to_string(),
        &format!("not complete without it: {}", payload_of(&release)),
    ]);
    assert!(ended.stdout.contains(&payload));
    assert_eq!(site.tags("openshift/release-images"), [""; 0]);
    assert_eq!(site.tags("openshift/release").len(), FEW.len() - 1);
    assert_eq!(
        site.documents().len(),
        0,
        "no rule for a release that is not whole"
    );

    site.publish(&release.images());
    let upstream = site.upstream.mark();
    site.done(&[&updates.option()]).says(&["2 images to copy"]);
    site.assert_release(&release, &FEW);
    let read = site.upstream.since(upstream);
    let payload_config = release.payload.blobs[0].bytes.len();
    let lost = broken.blobs.last().unwrap().bytes.len();
    assert_eq!(read.blob_bytes(), (payload_config + lost) as u64);
}

#[test]
fn component_whose_manifest_is_gone_keeps_the_payload_out() {
    let site = Site::new();
    let release = site.release("4.16.1", 0, &FEW);
    site.publish(&release.images());
    site.lose(release.components["etcd"].digest());
    let updates = Updates::of(&[&release]);
    site.channel("4.16.1", "4.16.1");
    let ended = site.once(&[&updates.option()]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    ended.says(&[
        "5 images to copy, 0 of 7 are mirrored already",
        &release.components["etcd"].digest().to_string(),
        &format!(
            "release 4.16.1 (amd64): its payload {} is not copied while an image of it cannot be",
            release.pull_spec
        ),
    ]);
    assert_eq!(site.tags("openshift/release-images"), [""; 0]);
    assert_eq!(site.tags("openshift/release").len(), FEW.len() - 1);
    assert_eq!(
        site.documents().len(),
        0,
        "no rule for a release that is not whole"
    );

    site.publish(&release.images());
    site.done(&[&updates.option()]).says(&["2 images to copy"]);
    site.assert_release(&release, &FEW);
}

#[test]
fn corrupt_blob_never_reaches_the_mirror() {
    let site = Site::new();
    let [good, bad] = ["good", "bad"].map(Image::simple);
    site.publish(&[
        Placed::tagged("team/good", "1", &good),
        Placed::tagged("team/bad", "1", &bad),
    ]);
    let file = crate::site::blob_file(&site.upstream, &bad.blobs[2].digest);
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 1;
    fs::write(&file, bytes).unwrap();
    site.additional(&["team/good:1", "team/bad:1"]);
    let ended = site.once(&["--retry-times=0"]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    ended.says(&["team/bad:1", &bad.blobs[2].digest.to_string()]);
    assert!(!crate::site::blob_file(&site.mirror, &bad.blobs[2].digest).exists());
    site.assert_mirrored("team/good:1", &good);
    assert!(site.upstream.requests().blob_bytes() >= blob_bytes([&good]));
}

#[test]
fn blob_that_the_mirror_lost_is_brought_again() {
    let site = Site::new();
    let [first, second] = ["first", "second"].map(Image::simple);
    site.publish(&[
        Placed::tagged("team/app", "1", &first),
        Placed::tagged("team/app", "2", &second),
    ]);
    site.additional(&["team/app:1"]);
    site.done(&[]);
    // The layer that both share.
    let shared = &first.blobs[1].digest;
    fs::remove_file(crate::site::blob_file(&site.mirror, shared)).unwrap();
    let link = format!(
        "docker/registry/v2/repositories/{}/team/app/_layers/sha256/{}",
        crate::site::PREFIX,
        shared.hex()
    );
    fs::remove_dir_all(site.mirror.storage().join(link)).unwrap();
    site.additional(&["team/app:1", "team/app:2"]);
    site.done(&[]);
    site.assert_mirrored("team/app:2", &second);
    site.assert_mirrored("team/app:1", &first);
}

/// Begins a round as [`Site::command`] does, in which no file may grow beyond so many bytes.
fn with_room(site: &Site, bytes: u64) -> std::process::Command {
    let command = site.command(&[]);
    let mut limited = std::process::Command::new("sh");
    // A limit that is passed is an error of the write then, as a full disk is, and no signal.
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", bytes / 512);
    limited
        .args(["-c", &script, "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

#[test]
fn disk_that_is_full_ends_the_run_with_a_sentence_and_loses_nothing() {
    let (site, set) = (Site::new(), crate::fixture::set::Set::of(60, 4, 512));
    site.publish(&set.placed());
    let names = set.by_tag();
    site.additional(&[&names[0]]);
    site.done(&[]);
    site.additional(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let state = fs::metadata(site.path("state/state.redb")).unwrap().len();

    let ended = Ended::of(with_room(&site, state).output().unwrap());
    assert!(![0, 101].contains(&ended.code), "{ended:#?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:#?}");
    let why = "using the state: I/O error: File too large (os error 27); check that its disk is not full and is writable";
    assert!(ended.stderr.contains(why), "{ended:#?}");

    site.done(&[]);
    for (name, image) in [&set.0[1], &set.0[63]] {
        site.assert_mirrored(&format!("{name}:{}", crate::fixture::set::TAG), image);
    }
    site.done(&[]).says(&["Nothing to copy"]);
}

#[test]
fn state_that_cannot_be_written_is_told_before_anything_is_copied() {
    let site = Site::new();
    let image = Image::simple("app");
    site.publish(&[Placed::tagged("team/app", "1", &image)]);
    site.additional(&["team/app:1"]);
    fs::write(site.path("state"), "a file, where a folder is wanted").unwrap();
    let ended = site.once(&[]);
    assert!(![0, 101].contains(&ended.code), "{ended:#?}");
    let folder = site.path("state").display().to_string();
    assert!(ended.stderr.contains(&folder), "{ended:#?}");
    assert_eq!(site.mirror.requests().writes(), 0);
}

/// How a release's payload is named in lists.
fn payload_of(release: &Release) -> &str {
    &release.pull_spec
}
