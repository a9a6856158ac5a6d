//! How few requests a round takes, counted in the access logs of both registries on the set that copiers are compared by.
//!
//! Peers on the same set, cold and warm: oc-mirror 1250/422, skopeo sync 1082/160, regsync 888/48, ocync 710/72.

use crate::{
    fixture::set::{self, Set},
    site::{PREFIX, Site, written},
    support::{access_log::Requests, skopeo},
};

/// Layers need not be large to be counted.
const LAYER: usize = 4 << 10;

/// Puts set A upstream and into the image set.
fn site(names: fn(&Set) -> Vec<String>) -> (Site, Set) {
    let (site, set) = (Site::new(), set::a(LAYER));
    site.publish(&set.placed());
    let names = names(&set);
    site.additional(&names.iter().map(String::as_str).collect::<Vec<_>>());
    (site, set)
}

/// One round, and what upstream and mirror were asked for it.
fn round(site: &Site) -> (Requests, Requests) {
    let (upstream, mirror) = (site.upstream.mark(), site.mirror.mark());
    site.done(&["--remove-signatures"]);
    (site.upstream.since(upstream), site.mirror.since(mirror))
}

/// How often each kind of thing was asked for, for messages.
fn kinds(requests: &Requests) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for r in requests.iter() {
        let kind = ["/manifests/", "/blobs/uploads/", "/blobs/", "/tags/list"]
            .into_iter()
            .find(|kind| r.path.contains(kind))
            .unwrap_or(&r.path);
        let mount = if r.query.contains("mount=") {
            "?mount"
        } else {
            ""
        };
        *counts
            .entry(format!("{} {kind}{mount} {}", r.method, r.status))
            .or_insert(0) += 1;
    }
    format!("{counts:#?}")
}

#[test]
fn cold_round_is_at_the_floor_and_a_warm_one_is_a_look_a_tag() {
    let (site, set) = site(Set::by_tag);
    let (upstream, mirror) = round(&site);
    println!("{}\n{}", kinds(&upstream), kinds(&mirror));
    let both = upstream.len() + mirror.len();
    assert!(
        both <= 490,
        "{both}: {} {}",
        kinds(&upstream),
        kinds(&mirror)
    );
    assert_eq!(upstream.len(), 40 + 114, "{}", kinds(&upstream));
    assert_eq!(upstream.blobs_twice(), [""; 0]);
    assert_eq!(mirror.blob_gets().len(), 0, "{}", kinds(&mirror));
    assert_eq!(mirror.count("HEAD"), 0, "{}", kinds(&mirror));
    assert_eq!(mirror.uploads(), 114);
    assert_eq!(mirror.mounts(), 66);
    assert_eq!(mirror.manifest_puts().len(), 40);
    for (repository, image) in [&set.0[0], &set.0[23]] {
        site.assert_mirrored(&format!("{repository}:{}", set::TAG), image);
    }

    let (upstream, mirror) = round(&site);
    assert_eq!((upstream.count("HEAD"), upstream.len()), (24, 24));
    assert_eq!(mirror.len(), 0);
}

#[test]
fn warm_round_by_digests_asks_nobody() {
    let (site, _) = site(Set::by_digest);
    let (upstream, mirror) = round(&site);
    assert!(upstream.len() + mirror.len() <= 490);
    let (upstream, mirror) = round(&site);
    assert_eq!((upstream.len(), mirror.len()), (0, 0));
}

#[test]
fn mirror_that_skopeo_filled_is_taken_as_it_is() {
    let (site, set) = site(Set::by_tag);
    for name in set.by_tag() {
        let to = site.mirror.docker(&format!("{PREFIX}/{name}"));
        skopeo::copy(&site.upstream.docker(&name), &to);
    }
    let (upstream, mirror) = round(&site);
    let both = upstream.len() + mirror.len();
    assert!(
        both <= 50,
        "{both}: {} {}",
        kinds(&upstream),
        kinds(&mirror)
    );
    assert_eq!(upstream.blob_gets().len() + mirror.blob_gets().len(), 0);
    assert_eq!(written(&mirror), [""; 0]);
}
