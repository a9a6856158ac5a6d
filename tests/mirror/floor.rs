//! How few requests a round takes, counted in the access logs of both registries on the set that copiers are compared by.
//!
//! Peers on the same set, cold and warm: oc-mirror 1250/422, skopeo sync 1082/160, regsync 888/48, ocync 710/72.

use std::sync::{Arc, Mutex};

use crate::{
    fixture::set::{self, Set},
    site::{Ended, PREFIX, Site, written},
    support::{
        access_log::{Request, Requests},
        skopeo,
    },
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

/// Takes a registry's record.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn registry_that_takes_a_blob_with_the_question_is_asked_once_a_blob() {
    let (site, _) = site(Set::by_tag);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (log, folder) = (Log::default(), site.path("layout"));
    let options = imagesetd::layout::Options {
        access_log: Some(Box::new(log.clone())),
        ..Default::default()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0");
    let listener = runtime.block_on(listener).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    runtime.spawn(async move {
        imagesetd::layout::serve(&folder, listener, options, std::future::pending()).await
    });
    let mut command = site.command_to(&address, &["--remove-signatures"]);
    let ended = Ended::of(command.output().unwrap());
    assert_eq!(ended.code, 0, "{ended:#?}");
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let mirror = Requests(text.lines().filter_map(Request::parse).collect());
    let upstream = site.upstream.requests();
    // 154 reads, 114 blobs, 66 mounts, 40 manifests, and the list of repositories.
    let both = upstream.len() + mirror.len();
    assert_eq!(both, 375, "{} {}", kinds(&upstream), kinds(&mirror));
    assert_eq!(mirror.mounts(), 66);
    assert_eq!(mirror.manifest_puts().len(), 40);
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
