//! What happens to uploads that break: where they go on, where they begin anew, and what is read of the source for it.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use imagesetd::copy::Stock;

use crate::{
    bench::{Ended, Upstream, held, repository, run},
    fixture::{
        image::{Flavor, Image, Layer},
        set::{Set, TAG},
    },
    support::proxy::{Asked, Fault, Kind, Proxy},
    support::{access_log::Requests, registry::Registry},
};

/// One image with one large layer.
fn one() -> Set {
    let layers = [Layer::noise("large", 12 << 20)];
    let image = Image::new(Flavor::Oci, "amd64", &layers, &[]);
    Set(vec![("team/large".to_owned(), image)])
}

/// Copies the set with one fault in its largest upload, and returns what the source was asked for of blobs, from which byte on.
async fn broken_upload(
    upstream: &Upstream,
    mirror: &Registry,
    fault: fn() -> Fault,
) -> (Ended, Vec<Option<String>>) {
    let reads = Arc::new(Mutex::new(Vec::new()));
    let noted = reads.clone();
    let note = move |asked: &Asked| {
        if asked.kind() == Kind::Blob {
            noted.lock().unwrap().push(asked.range.clone());
        }
        None
    };
    let source = Proxy::before(upstream.registry.address(), Box::new(note)).await;
    let large = upstream.set.0[0].1.blobs[1].digest.hex();
    let broken = AtomicUsize::new(0);
    let spoil = move |asked: &Asked| {
        let hit = asked.kind() == Kind::Upload && asked.target.contains(&large);
        (hit && broken.fetch_add(1, SeqCst) == 0).then(fault)
    };
    let sink = Proxy::before(mirror.address(), Box::new(spoil)).await;
    let ended = run(
        &upstream.set,
        &source.address,
        &sink.address,
        Stock::default(),
    )
    .await;
    assert_eq!(held(mirror, &upstream.set).len(), 1, "{ended:?}");
    let mut reads = reads.lock().unwrap().clone();
    reads.sort();
    (ended, reads)
}

fn uploads(requests: &Requests) -> Vec<String> {
    let uploads = requests
        .iter()
        .filter(|r| r.path.contains("/blobs/uploads/"));
    uploads
        .map(|r| format!("{} {}", r.method, r.status))
        .collect()
}

#[tokio::test]
async fn upload_goes_on_where_the_registry_keeps_what_it_got() {
    let (upstream, mirror) = (Upstream::of(one()), Registry::distribution3());
    let (ended, reads) = broken_upload(&upstream, &mirror, || Fault::ResetUp(9 << 20)).await;
    assert!(ended.failed.is_empty(), "{ended:?}");
    // The configuration, the layer, and the layer's rest from the last mark before what the registry has; once more where the registry
    // was still writing when it was asked how much that is.
    let rest = reads.iter().flatten().collect::<Vec<_>>();
    let resumed = (1..=2).contains(&rest.len());
    assert!(resumed && reads.len() == 2 + rest.len(), "{reads:?}");
    for range in rest {
        let from: u64 = range["bytes=".len()..]
            .trim_end_matches('-')
            .parse()
            .unwrap();
        assert!((4 << 20..=9 << 20).contains(&from), "{from}");
    }
    let uploads = uploads(&mirror.requests());
    assert!(uploads.contains(&"GET 204".to_owned()), "{uploads:?}");
    assert_eq!(uploads.iter().filter(|u| *u == "PUT 201").count(), 2);
    assert_eq!(
        uploads.iter().filter(|u| *u == "POST 202").count(),
        2,
        "no third session"
    );
}

#[tokio::test]
async fn upload_begins_anew_where_the_registry_has_forgotten_it() {
    let (upstream, mirror) = (Upstream::of(one()), Registry::debian());
    let (ended, reads) = broken_upload(&upstream, &mirror, || Fault::ResetUp(9 << 20)).await;
    assert!(ended.failed.is_empty(), "{ended:?}");
    assert_eq!(reads, [None, None, None], "the layer twice, and whole");
}

#[tokio::test]
async fn upload_whose_answer_was_lost_is_not_sent_again() {
    for mirror in [Registry::debian(), Registry::distribution3()] {
        let upstream = Upstream::of(one());
        let (ended, reads) = broken_upload(&upstream, &mirror, || Fault::LoseAnswer).await;
        assert!(ended.failed.is_empty(), "{ended:?}");
        assert_eq!(reads, [None, None], "each blob once");
        assert_eq!(mirror.requests().uploads(), 2);
    }
}

#[tokio::test]
async fn blob_that_vanishes_before_the_manifest_comes_is_brought_again() {
    let (upstream, mirror) = (Upstream::of(one()), Registry::debian());
    let root = mirror.storage().join("docker/registry/v2");
    let hex = upstream.set.0[0].1.blobs[1].digest.hex();
    let vanished = AtomicUsize::new(0);
    let vanish = move |asked: &Asked| {
        if asked.kind() == Kind::PutManifest && vanished.fetch_add(1, SeqCst) == 0 {
            let link = root.join(format!("repositories/team/large/_layers/sha256/{hex}"));
            std::fs::remove_dir_all(link).unwrap();
            let data = root.join(format!("blobs/sha256/{}/{hex}", &hex[..2]));
            std::fs::remove_dir_all(data).unwrap();
        }
        None
    };
    let sink = Proxy::before(mirror.address(), Box::new(vanish)).await;
    let from = upstream.registry.address();
    let ended = run(&upstream.set, from, &sink.address, Stock::default()).await;
    assert!(ended.failed.is_empty(), "{ended:?}");
    assert_eq!(held(&mirror, &upstream.set).len(), 1);
    assert_eq!(mirror.requests().uploads(), 3);
}

#[tokio::test]
async fn lost_children_are_brought_again_where_each_refusal_names_but_one() {
    let index = Image::simple_index("multi", &["amd64", "arm64"]);
    let lost: Vec<_> = index.children.iter().map(|c| c.digest().clone()).collect();
    let upstream = Upstream::of(Set(vec![("team/multi".to_owned(), index)]));
    let mirror = Registry::debian();
    let puts = Arc::new(Mutex::new(Vec::new()));
    let (noted, named) = (puts.clone(), lost.clone());
    let refuse = move |asked: &Asked| {
        if asked.kind() != Kind::PutManifest {
            return None;
        }
        let name = asked.target.rsplit('/').next().unwrap_or_default();
        let mut puts = noted.lock().unwrap();
        puts.push(name.to_owned());
        if name.starts_with("sha256:") {
            return None;
        }
        let earlier = puts.iter().filter(|put| *put == name).count() - 1;
        let body = format!(
            r#"{{"errors":[{{"code":"MANIFEST_BLOB_UNKNOWN","detail":{{"digest":"{}"}}}}]}}"#,
            named.get(earlier)?
        );
        Some(Fault::Late(404, vec![], body))
    };
    let sink = Proxy::before(mirror.address(), Box::new(refuse)).await;
    let target = repository(&sink.address, "team/multi");
    let believed = lost.iter().map(|child| (target.clone(), child.clone()));
    let stock = Stock {
        children: believed.collect(),
        ..Stock::default()
    };
    let from = upstream.registry.address();
    let ended = run(&upstream.set, from, &sink.address, stock).await;
    assert!(ended.failed.is_empty(), "{ended:?}");
    assert_eq!(held(&mirror, &upstream.set).len(), 1);
    let [one, other] = [&lost[0], &lost[1]].map(ToString::to_string);
    assert_eq!(*puts.lock().unwrap(), [TAG, &one, TAG, &other, TAG]);
}

#[tokio::test]
async fn empty_repository_gets_what_it_lacks_and_one_that_is_not_is_none_the_worse() {
    let (upstream, mirror) = (Upstream::of(one()), Registry::debian());
    let (from, to) = (upstream.registry.address(), mirror.address());
    let stock = || Stock {
        empty: [repository(to, "team/large")].into(),
        ..Stock::default()
    };
    for _ in 0..2 {
        let ended = run(&upstream.set, from, to, stock()).await;
        assert!(ended.failed.is_empty(), "{ended:?}");
        assert_eq!(held(&mirror, &upstream.set).len(), 1);
    }
    let requests = mirror.requests();
    let asked = requests.iter().filter(|r| r.query.contains("mount="));
    assert_eq!(
        asked.count(),
        0,
        "nothing is asked for that cannot be there"
    );
}

/// A registry that wants tokens, of which the one that was given is worth nothing any more when the bytes of a large blob are there.
#[tokio::test]
async fn token_that_runs_out_in_an_upload_costs_a_new_one_and_not_the_image() {
    for mirror in [Registry::debian(), Registry::distribution3()] {
        let upstream = Upstream::of(one());
        let large = upstream.set.0[0].1.blobs[1].digest.hex();
        let (mut valid, mut expired) = (1, false);
        let guard = move |asked: &Asked| {
            if asked.target.starts_with("/token") {
                let token = format!(r#"{{"token":"t{valid}","expires_in":300}}"#);
                return Some(Fault::Answer(200, vec![], token));
            }
            let realm = format!(r#"Bearer realm="http://{}/token",service="x""#, asked.host);
            let challenge = vec![("WWW-Authenticate", realm)];
            if asked.kind() == Kind::Upload && asked.target.contains(&large) && !expired {
                (valid, expired) = (valid + 1, true);
                return Some(Fault::Late(401, challenge, String::new()));
            }
            let known = asked.authorization == Some(format!("Bearer t{valid}"));
            (!known).then(|| Fault::Answer(401, challenge, String::new()))
        };
        let sink = Proxy::before(mirror.address(), Box::new(guard)).await;
        let from = upstream.registry.address();
        let ended = run(&upstream.set, from, &sink.address, Stock::default()).await;
        assert!(ended.failed.is_empty(), "{ended:?}");
        assert_eq!(held(&mirror, &upstream.set).len(), 1);
    }
}

#[tokio::test]
async fn mirror_that_is_not_there_is_a_sentence_and_once_it_is_back_the_rest_comes() {
    let (upstream, mut mirror) = (Upstream::of(one()), Registry::debian());
    let (from, to) = (upstream.registry.address(), mirror.address().to_owned());
    mirror.stop();
    let ended = run(&upstream.set, from, &to, Stock::default()).await;
    assert_eq!(ended.done, 0);
    let expected = format!("{to} refuses connections; is the port right, and is it plain HTTP?");
    assert!(ended.failed[0].contains(&expected), "{ended:?}");
    assert_eq!(upstream.registry.requests().blob_gets().len(), 0);
    mirror.resume();
    let ended = run(&upstream.set, from, &to, Stock::default()).await;
    assert!(ended.failed.is_empty(), "{ended:?}");
    assert_eq!(held(&mirror, &upstream.set).len(), 1);
}

/// Many images in many repositories that all want the same blobs, of which some fail: everybody who waits is called.
#[tokio::test]
async fn many_who_wait_for_one_blob_all_come_to_an_end() {
    let (set, failing) = (Set::of(40, 4, 512), AtomicUsize::new(0));
    let upstream = Upstream::of(set);
    let shared = upstream.set.0[0].1.blobs[1].digest.hex();
    let mirror = Registry::debian();
    let spoil = move |asked: &Asked| {
        let hit = asked.kind() == Kind::Blob && asked.target.contains(&shared);
        let fails = hit && failing.fetch_add(1, SeqCst) < 6;
        fails.then(|| Fault::Answer(403, vec![], String::new()))
    };
    let source = Proxy::before(upstream.registry.address(), Box::new(spoil)).await;
    let ended = run(
        &upstream.set,
        &source.address,
        mirror.address(),
        Stock::default(),
    )
    .await;
    assert_eq!(ended.done + ended.failed.len(), 44, "{ended:?}");
    assert_eq!(
        ended.failed.len(),
        6,
        "those who asked, and nobody else: {ended:?}"
    );
    assert_eq!(held(&mirror, &upstream.set).len(), 38);
}
