//! A run that is killed in the middle, and the one after it.

use std::collections::BTreeSet;

use crate::{
    fixture::{names::COMPONENTS, release::Release},
    site::{Site, Updates},
    support::{access_log::Requests, registry::wait_for},
};

/// How many of the program's writes the mirror has answered when the run is killed.
const MOMENTS: [usize; 3] = [3, 30, 70];

#[test]
fn killed_run_is_finished_by_the_next_without_a_blob_twice() {
    let site = Site::new();
    let names: Vec<_> = COMPONENTS.into_iter().take(12).collect();
    let release = site.release("4.16.1", 0, &names);
    site.publish(&release.images());
    let updates = Updates::of(&[&release]);
    site.channel("4.16.1", "4.16.1");
    site.done(&[&updates.option()]);
    let undisturbed = content_without_mirror(&site);
    for moment in MOMENTS {
        killed_at(moment, &release, &undisturbed);
    }
}

fn killed_at(moment: usize, first: &Release, undisturbed: &BTreeSet<String>) {
    let site = Site::new();
    let names: Vec<_> = first.components.keys().map(String::as_str).collect();
    let release = site.release("4.16.1", 0, &names);
    site.publish(&release.images());
    let updates = Updates::of(&[&release]);
    site.channel("4.16.1", "4.16.1");
    let slowly = ["--parallel-images=2", "--parallel-layers=1"];
    let option = updates.option();
    let mut running = site.start(&[slowly[0], slowly[1], &option]);
    wait_for("the run to write, or to end", || {
        (site.mirror.requests().writes() >= moment || running.is_over()).then_some(())
    });
    running.kill();
    let landed = landed(&site.mirror.requests());
    let before = site.upstream.mark();

    site.done(&[&option]);
    let again: Vec<_> = site
        .upstream
        .since(before)
        .blob_gets()
        .into_keys()
        .filter(|digest| landed.contains(digest))
        .collect();
    assert_eq!(again, [""; 0], "killed after {moment} writes");
    site.assert_release(&release, &names);
    let components: BTreeSet<_> = content_without_mirror(&site);
    assert_eq!(components.len(), undisturbed.len());

    let (upstream, mirror) = (site.upstream.mark(), site.mirror.mark());
    site.done(&[&option]).says(&["Nothing to copy"]);
    assert_eq!(
        (
            site.upstream.since(upstream).len(),
            site.mirror.since(mirror).len()
        ),
        (0, 0)
    );
}

#[test]
fn terminated_run_finishes_what_is_in_flight_and_the_next_reads_nothing_again() {
    let site = Site::new();
    let names: Vec<_> = COMPONENTS.into_iter().take(12).collect();
    let release = site.release("4.16.1", 0, &names);
    site.publish(&release.images());
    let updates = Updates::of(&[&release]);
    site.channel("4.16.1", "4.16.1");
    let option = updates.option();
    let mut running = site.start(&["--parallel-images=2", "--parallel-layers=1", &option]);
    wait_for("the run to write", || {
        (site.mirror.requests().writes() >= 30 || running.is_over()).then_some(())
    });
    assert_eq!(running.terminate(), Some(130));
    assert_eq!(site.tags("openshift/release-images"), [""; 0]);
    site.done(&[&option]);
    site.assert_release(&release, &names);
    assert_eq!(site.upstream.requests().blobs_twice(), [""; 0]);
}

/// The digests of the blobs whose upload the mirror has confirmed.
fn landed(requests: &Requests) -> BTreeSet<String> {
    let done = requests
        .iter()
        .filter(|r| r.method == "PUT" && r.status == 201);
    let digest = |query: &str| {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs
            .find(|(key, _)| key == "digest")
            .map(|(_, value)| value.into_owned())
    };
    done.filter_map(|r| digest(&r.query)).collect()
}

/// The paths of everything in the mirror's storage, below it.
fn content_without_mirror(site: &Site) -> BTreeSet<String> {
    let storage = site.mirror.storage();
    let paths = site.mirror_content().into_keys();
    paths
        .map(|path| path.strip_prefix(&storage).unwrap().display().to_string())
        .collect()
}
