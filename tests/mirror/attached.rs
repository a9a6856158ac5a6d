//! Signatures under cosign's tags and OCI referrers: they come along, in an order that no reader of the mirror trips over, and are
//! looked for cheaply.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use imagesetd::model::manifest::{Manifest, OCI_INDEX, OCI_MANIFEST};
use serde_json::{Value, json};

use crate::{
    daemon::Daemon,
    facade::Facade,
    fixture::{
        image::{Blob, Image},
        place::Placed,
        release::PAYLOADS,
    },
    site::{FEW, PREFIX, Site, Updates, written},
    support::{access_log::Requests, registry::Registry, skopeo},
};

fn describe(media_type: &str, blob: &Blob) -> Value {
    json!({"mediaType": media_type, "size": blob.bytes.len(), "digest": blob.digest.to_string()})
}

fn image(document: &Value, blobs: &[&Blob]) -> Image {
    Image {
        manifest: Manifest::parse(document.to_string().into(), None).unwrap(),
        blobs: blobs.iter().map(|b| (*b).clone()).collect(),
        children: vec![],
    }
}

/// What `cosign sign` leaves of an image, with a signature of each key. `author` stands in the configuration, so that what is the same to
/// cosign may be other bytes.
fn signed(of: &Image, keys: &[&str], author: &str) -> Image {
    let payload = json!({"critical": {
        "identity": {"docker-reference": ""},
        "image": {"docker-manifest-digest": of.digest().to_string()},
        "type": "cosign container image signature",
    }});
    let payload = Blob::new(payload.to_string());
    let config = Blob::new(json!({"author": author, "architecture": "", "os": ""}).to_string());
    let layers: Vec<Value> = keys
        .iter()
        .map(|key| {
            let mut layer = describe("application/vnd.dev.cosign.simplesigning.v1+json", &payload);
            layer["annotations"] = json!({"dev.cosignproject.cosign/signature": key});
            layer
        })
        .collect();
    let document = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": describe("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers,
    });
    image(&document, &[&config, &payload])
}

/// What `oras attach` leaves of an image.
fn referrer(of: &Image, kind: &str) -> Image {
    let empty = Blob::new("{}");
    let content = Blob::new(format!("{kind} of {}", of.digest()));
    let document = json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": describe("application/vnd.oci.empty.v1+json", &empty),
        "layers": [describe("text/plain", &content)],
        "subject": {"mediaType": of.manifest.media_type, "digest": of.digest().to_string(), "size": of.manifest.raw.len()},
        "annotations": {"org.opencontainers.image.created": "2026-01-01T00:00:00Z"},
    });
    image(&document, &[&empty, &content])
}

/// How the referrers API, and the list under the subject's tag, describe a referrer.
fn entry(referrer: &Image, kind: &str) -> Value {
    json!({
        "mediaType": OCI_MANIFEST,
        "digest": referrer.digest().to_string(),
        "size": referrer.manifest.raw.len(),
        "artifactType": kind,
        "annotations": {"org.opencontainers.image.created": "2026-01-01T00:00:00Z"},
    })
}

/// The list of referrers for a registry without the API.
fn list(referrers: &[(&Image, &str)]) -> Image {
    let mut entries: Vec<Value> = referrers.iter().map(|(r, kind)| entry(r, kind)).collect();
    entries.sort_by_key(|e| e["digest"].as_str().unwrap().to_owned());
    let document = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries});
    Image {
        children: referrers.iter().map(|(r, _)| (*r).clone()).collect(),
        ..image(&document, &[])
    }
}

/// The tag of cosign's, or with an empty suffix that of the list of referrers.
fn tag(of: &Image, suffix: &str) -> String {
    format!("sha256-{}{suffix}", of.digest().hex())
}

fn lines(requests: &Requests) -> Vec<String> {
    let line = |r: &crate::support::access_log::Request| format!("{} {}", r.method, r.path);
    requests.iter().map(line).collect()
}

/// The names of manifests in the order in which the mirror took them.
fn pushed(site: &Site) -> Vec<String> {
    let requests = site.mirror.requests();
    requests
        .manifest_puts()
        .iter()
        .map(|n| (*n).to_owned())
        .collect()
}

#[test]
fn signatures_come_between_the_image_and_its_tag() {
    let site = Site::new();
    let app = Image::simple("app");
    let [sig, att, sbom] = ["sig", "att", "sbom"].map(|what| signed(&app, &[what], what));
    site.publish(&[
        Placed::tagged("team/app", "1", &app),
        Placed::tagged("team/app", &tag(&app, ".sig"), &sig),
        Placed::tagged("team/app", &tag(&app, ".att"), &att),
        Placed::tagged("team/app", &tag(&app, ".sbom"), &sbom),
        Placed::tagged("team/app", "unrelated", &Image::simple("unrelated")),
    ]);
    site.additional(&["team/app:1"]);

    site.done(&[]).says(&[
        "1 image to copy, 0 of 1 is mirrored already",
        "1 signature, 1 attestation and 1 SBOM to copy with them",
    ]);

    site.assert_mirrored("team/app:1", &app);
    for (suffix, accessory) in [(".sig", &sig), (".att", &att), (".sbom", &sbom)] {
        site.assert_mirrored(&format!("team/app:{}", tag(&app, suffix)), accessory);
    }
    assert_eq!(site.tags("team/app").len(), 4);
    let mut pushed = pushed(&site);
    assert_eq!(
        (pushed.remove(0), pushed.pop()),
        (app.digest().to_string(), Some("1".to_owned()))
    );
    pushed.sort();
    assert_eq!(
        pushed,
        [tag(&app, ".att"), tag(&app, ".sbom"), tag(&app, ".sig")]
    );
    // One list of tags, whether there is an API for referrers, and what the list told.
    let mut asked = lines(&site.upstream.requests());
    asked.retain(|line| !line.contains("/blobs/") && line != "GET /v2/");
    asked.sort();
    let path = |rest: &str| format!("GET /v2/team/app/{rest}");
    assert_eq!(
        asked,
        [
            path("manifests/1"),
            path(&format!("manifests/{}", tag(&app, ".att"))),
            path(&format!("manifests/{}", tag(&app, ".sbom"))),
            path(&format!("manifests/{}", tag(&app, ".sig"))),
            path(&format!("referrers/{}", app.digest())),
            path("tags/list"),
        ]
    );
    assert_eq!(site.upstream.requests().blobs_twice(), [""; 0]);

    let (upstream, mirror) = (site.upstream.mark(), site.mirror.mark());
    site.done(&[]).says(&["Nothing to copy"]);
    assert_eq!(
        lines(&site.upstream.since(upstream)),
        ["HEAD /v2/team/app/manifests/1"]
    );
    assert_eq!(lines(&site.mirror.since(mirror)), [""; 0]);
}

#[test]
fn an_index_and_its_children_are_signed_each() {
    let site = Site::new();
    let index = Image::simple_index("multi", &["amd64", "arm64"]);
    let [amd64, arm64] = [&index.children[0], &index.children[1]];
    let signatures = [&index, amd64, arm64].map(|of| (tag(of, ".sig"), signed(of, &["k"], "")));
    let mut placed = vec![Placed::tagged("team/multi", "1", &index)];
    let of_signatures = signatures
        .iter()
        .map(|(tag, signature)| Placed::tagged("team/multi", tag, signature));
    placed.extend(of_signatures);
    site.publish(&placed);
    site.additional(&["team/multi:1"]);

    site.done(&[]).says(&["3 signatures to copy with them"]);

    for (tag, signature) in &signatures {
        site.assert_mirrored(&format!("team/multi:{tag}"), signature);
    }
    let pushed = pushed(&site);
    let at = |name: &str| pushed.iter().position(|n| n == name).unwrap();
    let of_index = at(&index.digest().to_string());
    for child in [amd64, arm64] {
        assert!(at(&child.digest().to_string()) < of_index, "{pushed:?}");
    }
    for (tag, _) in &signatures {
        assert!(of_index < at(tag) && at(tag) < at("1"), "{pushed:?}");
    }
    // One list for all three.
    let requests = lines(&site.upstream.requests());
    let lists = requests.iter().filter(|line| line.contains("/tags/list"));
    let referrers = requests.iter().filter(|line| line.contains("/referrers/"));
    assert_eq!((lists.count(), referrers.count()), (1, 1));
}

/// A mirror without the referrers API lists what refers to an image, and to a referrer, under their tags.
fn referrers_are_listed(mirror: Registry) {
    let site = Site::with_mirror(mirror);
    let app = Image::simple("app");
    let [sbom, scan, theirs] = ["sbom", "scan", "theirs"].map(|kind| referrer(&app, kind));
    let signature = referrer(&sbom, "signature");
    let upstream = list(&[(&sbom, "sbom"), (&scan, "scan")]);
    site.publish(&[
        Placed::tagged("team/app", "1", &app),
        Placed::tagged("team/app", &tag(&app, ""), &upstream),
        Placed::tagged(
            "team/app",
            &tag(&sbom, ""),
            &list(&[(&signature, "signature")]),
        ),
    ]);
    // Somebody has attached something in the mirror.
    let repository = format!("{PREFIX}/team/app");
    crate::fixture::place::write_distribution_storage(
        &site.mirror.storage(),
        &[Placed::tagged(
            &repository,
            &tag(&app, ""),
            &list(&[(&theirs, "theirs")]),
        )],
    )
    .unwrap();
    site.additional(&["team/app:1"]);

    site.done(&[]).says(&["3 referrers to copy with them"]);

    let all = list(&[(&sbom, "sbom"), (&scan, "scan"), (&theirs, "theirs")]);
    let listed = |of: &Image| {
        let place = site.mirror.docker(&format!("{repository}:{}", tag(of, "")));
        serde_json::from_slice::<Value>(&skopeo::inspect_raw(&place)).unwrap()
    };
    let document = |image: &Image| serde_json::from_slice::<Value>(&image.manifest.raw).unwrap();
    assert_eq!(listed(&app), document(&all));
    assert_eq!(listed(&sbom), document(&list(&[(&signature, "signature")])));
    for referrer in [&sbom, &scan, &signature] {
        let place = format!("{repository}@{}", referrer.digest());
        let copied = skopeo::inspect_raw(&site.mirror.docker(&place));
        assert_eq!(copied, referrer.manifest.raw);
    }
    let pushed = pushed(&site);
    let at = |name: String| pushed.iter().position(|n| *n == name).unwrap();
    assert!(at(app.digest().to_string()) < at(sbom.digest().to_string()));
    assert!(at(sbom.digest().to_string()) < at(signature.digest().to_string()));
    assert_eq!(pushed.last().map(String::as_str), Some("1"));

    let (upstream, mirror) = (site.upstream.mark(), site.mirror.mark());
    site.done(&[]).says(&["Nothing to copy"]);
    assert_eq!(site.upstream.since(upstream).len(), 1, "the tag");
    assert_eq!(lines(&site.mirror.since(mirror)), [""; 0]);

    // A mirror that has all of it is recognised by its lists.
    std::fs::remove_dir_all(site.path("state")).unwrap();
    let mirror = site.mirror.mark();
    site.done(&[]).says(&["Nothing to copy"]);
    assert_eq!(written(&site.mirror.since(mirror)), [""; 0]);
}

#[test]
fn referrers_are_listed_where_the_mirror_is_distribution_2() {
    referrers_are_listed(Registry::debian());
}

#[test]
fn referrers_are_listed_where_the_mirror_is_distribution_3() {
    referrers_are_listed(Registry::distribution3());
}

#[test]
fn what_the_mirror_does_not_take_of_an_image_is_told_and_does_not_keep_the_image_away() {
    let mut site = Site::new();
    let app = Image::simple("app");
    let sbom = referrer(&app, "sbom");
    let sig = signed(&app, &["k"], "");
    site.publish(&[
        Placed::tagged("team/app", "1", &app),
        Placed::tagged("team/app", &tag(&app, ""), &list(&[(&sbom, "sbom")])),
        Placed::tagged("team/app", &tag(&app, ".sig"), &sig),
    ]);
    site.additional(&["team/app:1"]);
    let refused = format!("/manifests/{}", sbom.digest());
    let door = Facade::before(site.mirror.address(), move |method, path| {
        let body =
            json!({"errors": [{"code": "MANIFEST_INVALID", "message": "unknown artifact type"}]});
        let refused = method == "PUT" && path.ends_with(&refused);
        refused.then(|| (400, String::new(), body.to_string().into_bytes()))
    });
    site.door = Some(door.address);
    for images in [
        "1 image to copy",
        "No image to copy, 1 of 1 is mirrored already",
    ] {
        let ended = site.once(&[]);
        assert_eq!(ended.code, 1, "{ended:#?}");
        ended.says(&[images]);
        let told = [
            "the image is mirrored, something that belongs to it is not",
            "unknown artifact type",
            "`--remove-signatures`",
        ];
        for part in told {
            assert!(
                ended.stderr.contains(part) || ended.stdout.contains(part),
                "{ended:#?}"
            );
        }
        site.assert_mirrored("team/app:1", &app);
        site.assert_mirrored(&format!("team/app:{}", tag(&app, ".sig")), &sig);
    }
    site.done(&["--remove-signatures"])
        .says(&["Nothing to copy"]);
}

#[test]
fn a_mirror_that_lists_referrers_by_itself_needs_no_list() {
    let mut site = Site::new();
    let app = Image::simple("app");
    let sbom = referrer(&app, "sbom");
    site.publish(&[
        Placed::tagged("team/app", "1", &app),
        Placed::tagged("team/app", &tag(&app, ""), &list(&[(&sbom, "sbom")])),
    ]);
    site.additional(&["team/app:1"]);
    let put = format!("/manifests/{}", sbom.digest());
    let subject = app.digest().to_string();
    let door = Facade::before(site.mirror.address(), move |method, path| {
        let listed = method == "PUT" && path.ends_with(&put);
        listed.then(|| (201, format!("OCI-Subject: {subject}\r\n"), vec![]))
    });
    site.door = Some(door.address);
    site.done(&[]).says(&["1 referrer to copy with them"]);
    assert_eq!(pushed(&site), [app.digest().to_string(), "1".to_owned()]);
}

#[test]
fn an_upstream_with_the_api_is_asked_by_it() {
    let site = Site::new();
    let app = Image::simple("app");
    let sbom = referrer(&app, "sbom");
    site.publish(&[
        Placed::tagged("team/app", "1", &app),
        Placed::untagged("team/app", &sbom),
    ]);
    let index =
        json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry(&sbom, "sbom")]});
    let nothing = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []});
    let of_app = format!("/v2/team/app/referrers/{}", app.digest());
    let door = Facade::before(site.upstream.address(), move |_, path| {
        let answer = if path == of_app { &index } else { &nothing };
        path.contains("/referrers/").then(|| {
            let headers = format!("Content-Type: {OCI_INDEX}\r\n");
            (200, headers, answer.to_string().into_bytes())
        })
    });
    site.image_set(&format!(
        "additionalImages:\n- name: {}/team/app:1\n",
        door.address
    ));
    site.done(&[]).says(&["1 referrer to copy with them"]);
    let place = format!("{PREFIX}/team/app@{}", sbom.digest());
    let copied = skopeo::inspect_raw(&site.mirror.docker(&place));
    assert_eq!(copied, sbom.manifest.raw);
}

#[test]
fn where_tags_are_not_told_or_are_too_many_each_is_asked_for() {
    let app = Image::simple("app");
    let sig = signed(&app, &["k"], "");
    let pages = Arc::new(AtomicUsize::new(0));
    let refuse = |_: usize| (403, String::new(), b"{}".to_vec());
    let endless = |page: usize| {
        let headers = format!("Link: </v2/team/app/tags/list?last={page}>; rel=\"next\"\r\n");
        let body = json!({"name": "team/app", "tags": [format!("tag-{page}")]});
        (200, headers, body.to_string().into_bytes())
    };
    type Lists = Box<dyn Fn(usize) -> crate::facade::Answer + Send + Sync>;
    let ways: [(Lists, usize); 2] = [(Box::new(refuse), 1), (Box::new(endless), 3)];
    for (lists, expected) in ways {
        let site = Site::new();
        site.publish(&[
            Placed::tagged("team/app", "1", &app),
            Placed::tagged("team/app", &tag(&app, ".sig"), &sig),
        ]);
        pages.store(0, Ordering::Relaxed);
        let count = Arc::clone(&pages);
        let door = Facade::before(site.upstream.address(), move |_, path| {
            path.contains("/tags/list")
                .then(|| lists(count.fetch_add(1, Ordering::Relaxed)))
        });
        site.image_set(&format!(
            "additionalImages:\n- name: {}/team/app:1\n",
            door.address
        ));
        site.done(&[]).says(&["1 signature to copy with them"]);
        site.assert_mirrored(&format!("team/app:{}", tag(&app, ".sig")), &sig);
        // No more pages than there are tags that may be there.
        assert_eq!(pages.load(Ordering::Relaxed), expected);
    }
}

#[test]
fn an_image_that_is_signed_later_gains_its_signature_alone() {
    let site = Site::new();
    let app = Image::simple("app");
    let [first, second] = [&["k"][..], &["k", "l"]].map(|keys| signed(&app, keys, ""));
    site.publish(&[Placed::tagged("team/app", "1", &app)]);
    let updates = Updates::of(&[]);
    let daemon = Daemon::start(&site, &updates);
    let set = format!(
        "additionalImages:\n- name: {}/team/app:1\n",
        site.upstream.address()
    );
    let plan = daemon.planned(&set);
    daemon.apply(&plan);
    for (keys, signature) in [(1, &first), (2, &second)] {
        let place = tag(&app, ".sig");
        site.publish(&[Placed::tagged("team/app", &place, signature)]);
        // What is known is not looked for again until it is due, or somebody says so.
        let upstream = site.upstream.mark();
        assert_eq!(daemon.plan(&[])["step_count"], 0);
        assert_eq!(lines(&site.upstream.since(upstream)), [""; 0]);
        let plan = daemon.plan(&["--refresh"]);
        assert_eq!(
            (
                &plan["step_count"],
                &plan["attached_step_count"],
                &plan["unchanged_count"]
            ),
            (&json!(1), &json!(1), &json!(0)),
            "{keys} keys"
        );
        assert_eq!(plan["attached"], json!([{"kind": "signature", "count": 1}]));
        let mirror = site.mirror.mark();
        daemon.apply(&plan);
        let requests = site.mirror.since(mirror);
        assert_eq!(requests.manifest_puts(), [place.as_str()]);
        site.assert_mirrored(&format!("team/app:{place}"), signature);
        assert_eq!(daemon.plan(&["--refresh"])["step_count"], 0);
    }
    // What is gone upstream stays in the mirror.
    let folder = "docker/registry/v2/repositories/team/app/_manifests/tags";
    let link = site.upstream.storage().join(folder).join(tag(&app, ".sig"));
    std::fs::remove_dir_all(link).unwrap();
    assert_eq!(daemon.plan(&["--refresh"])["step_count"], 0);
    site.assert_mirrored(&format!("team/app:{}", tag(&app, ".sig")), &second);
}

#[test]
fn signatures_stay_behind_where_that_is_asked_for_but_for_the_payloads() {
    let site = Site::new();
    let release = site.release("4.16.1", 0, &FEW);
    let app = Image::simple("app");
    let (of_payload, of_app) = (
        signed(&release.payload, &["k"], ""),
        signed(&app, &["k"], ""),
    );
    let of_etcd = signed(&release.components["etcd"], &["k"], "");
    let etcd = tag(&release.components["etcd"], ".sig");
    site.publish(&release.images());
    site.publish(&[
        Placed::tagged("team/app", "1", &app),
        Placed::tagged("team/app", &tag(&app, ".sig"), &of_app),
        Placed::tagged(PAYLOADS, &tag(&release.payload, ".sig"), &of_payload),
        Placed::tagged(crate::fixture::release::PARTS, &etcd, &of_etcd),
    ]);
    let updates = Updates::of(&[&release]);
    let channel = crate::site::channel(crate::site::CHANNEL, "4.16.1", "4.16.1");
    let host = site.upstream.address();
    site.image_set(&format!(
        "{channel}additionalImages:\n- name: {host}/team/app:1\n"
    ));

    site.done(&[&updates.option(), "--remove-signatures"])
        .says(&["1 signature to copy with them"]);

    let payload = tag(&release.payload, ".sig");
    site.assert_mirrored(&format!("openshift/release-images:{payload}"), &of_payload);
    assert_eq!(site.tags("team/app"), ["1"]);
    assert_eq!(site.tags("openshift/release").len(), FEW.len());
    let names = pushed(&site);
    assert_eq!(
        names[names.len() - 2..],
        [payload.clone(), release.tag.clone()],
        "{names:?}"
    );
    // The payload's signature alone was asked for.
    let lists = lines(&site.upstream.requests());
    assert!(
        !lists
            .iter()
            .any(|l| l.contains("/tags/list") || l.contains("/referrers/")),
        "{lists:#?}"
    );
    let mark = site.upstream.mark();
    site.done(&[&updates.option(), "--remove-signatures"]);
    assert_eq!(
        lines(&site.upstream.since(mark)),
        ["HEAD /v2/team/app/manifests/1"]
    );

    // Without the flag the others follow.
    site.done(&[&updates.option()])
        .says(&["2 signatures to copy, of 2 images mirrored already"]);
    site.assert_mirrored(&format!("team/app:{}", tag(&app, ".sig")), &of_app);
    site.assert_mirrored(&format!("openshift/release:{etcd}"), &of_etcd);
}

#[test]
fn a_release_waits_for_a_signature_that_cannot_be_looked_for_and_an_image_does_not() {
    let site = Site::new();
    let release = site.release("4.16.1", 0, &FEW);
    let app = Image::simple("app");
    let (of_payload, of_app) = (
        signed(&release.payload, &["k"], ""),
        signed(&app, &["k"], ""),
    );
    site.publish(&release.images());
    site.publish(&[
        Placed::tagged("team/app", "1", &app),
        Placed::tagged("team/app", &tag(&app, ".sig"), &of_app),
        Placed::tagged(PAYLOADS, &tag(&release.payload, ".sig"), &of_payload),
    ]);
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let door = Facade::before(site.upstream.address(), move |_, path| {
        let answers = is_down.load(Ordering::Relaxed) && path.ends_with(".sig");
        answers.then(|| (500, String::new(), b"{}".to_vec()))
    });
    site.image_set(&format!(
        "platform:\n  release: {door}/{PAYLOADS}:{}\nadditionalImages:\n- name: {door}/team/app:1\n",
        release.tag,
        door = door.address,
    ));
    let ended = site.once(&["--retry-times=0"]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    ended.says(&[
        "whether its payload has a signature in",
        "not all signatures and referrers of an image of",
    ]);
    assert_eq!(site.tags("openshift/release-images"), [""; 0]);
    site.assert_mirrored("team/app:1", &app);

    down.store(false, Ordering::Relaxed);
    site.done(&[]);
    let payload = tag(&release.payload, ".sig");
    site.assert_mirrored(&format!("openshift/release-images:{payload}"), &of_payload);
    site.assert_mirrored(&format!("team/app:{}", tag(&app, ".sig")), &of_app);
}

#[test]
fn signatures_that_others_put_into_the_mirror_are_recognised_and_kept() {
    let site = Site::new();
    let [copied, rewritten, cosigned, resigned] =
        ["copied", "rewritten", "cosigned", "resigned"].map(Image::simple);
    let all = [&copied, &rewritten, &cosigned, &resigned];
    let upstream = all.map(|of| signed(of, &["red hat"], "upstream"));
    for (of, signature) in all.iter().zip(&upstream) {
        site.publish(&[
            Placed::tagged("team/app", &of.digest().hex()[..8], of),
            Placed::tagged("team/app", &tag(of, ".sig"), signature),
        ]);
    }
    // As skopeo copies it; as oc-mirror writes it anew; with a signature of the site; with the site's instead.
    let there = [
        upstream[0].clone(),
        signed(&rewritten, &["red hat"], "oc-mirror"),
        signed(&cosigned, &["site", "red hat"], "site"),
        signed(&resigned, &["site"], "site"),
    ];
    let repository = format!("{PREFIX}/team/app");
    for (of, signature) in all.iter().zip(&there) {
        let placed = [
            Placed::tagged(&repository, &of.digest().hex()[..8], of),
            Placed::tagged(&repository, &tag(of, ".sig"), signature),
        ];
        let storage = site.mirror.storage();
        crate::fixture::place::write_distribution_storage(&storage, &placed).unwrap();
    }
    let images = all.map(|of| format!("team/app:{}", &of.digest().hex()[..8]));
    site.additional(&images.each_ref().map(String::as_str));
    let content = site.mirror_content();

    let ended = site.done(&[]);

    let place = format!("{repository}:{}", tag(&resigned, ".sig"));
    ended.says(&[
        "Nothing to copy: 4 of 4 images are mirrored",
        &format!("{place} in the mirror holds something that upstream's does not hold"),
    ]);
    assert_eq!(site.mirror_content(), content);
    // What is understood is not looked at again; what is not, is.
    let mark = site.mirror.mark();
    site.done(&[]);
    assert_eq!(
        lines(&site.mirror.since(mark)),
        [format!(
            "GET /v2/{repository}/manifests/{}",
            tag(&resigned, ".sig")
        )]
    );
    // Once it is taken away, upstream's comes in its place.
    let folder = format!("docker/registry/v2/repositories/{repository}/_manifests/tags");
    let link = site
        .mirror
        .storage()
        .join(folder)
        .join(tag(&resigned, ".sig"));
    std::fs::remove_dir_all(link).unwrap();
    site.done(&[])
        .says(&["1 signature to copy, of 1 image mirrored already"]);
    site.assert_mirrored(
        &format!("team/app:{}", tag(&resigned, ".sig")),
        &upstream[3],
    );
}

#[test]
fn an_image_that_has_the_tag_of_its_list_keeps_it() {
    let site = Site::new();
    let app = Image::simple("app");
    let sbom = referrer(&app, "sbom");
    // Two registries cannot both be right about this tag: upstream's is the list.
    site.publish(&[
        Placed::untagged("team/app", &app),
        Placed::tagged("team/app", &tag(&app, ""), &list(&[(&sbom, "sbom")])),
    ]);
    site.additional(&[&format!("team/app@{}", app.digest())]);
    site.done(&[]).says(&[
        "1 referrer to copy with them",
        "give the image a `targetTag`",
    ]);
    site.assert_mirrored(&format!("team/app:{}", tag(&app, "")), &app);
    let place = format!("{PREFIX}/team/app@{}", sbom.digest());
    assert_eq!(
        skopeo::inspect_raw(&site.mirror.docker(&place)),
        sbom.manifest.raw
    );
    let mark = site.mirror.mark();
    site.done(&[]).says(&["Nothing to copy"]);
    assert_eq!(site.mirror.since(mark).len(), 0);
}

#[test]
fn a_nearer_mirror_settles_what_signatures_there_are_only_where_upstream_is_never_to_be_asked() {
    let mut site = Site::new();
    let near = Registry::debian();
    let release = site.release("4.16.1", 0, &FEW);
    site.publish(&release.images());
    crate::fixture::place::write_distribution_storage(&near.storage(), &release.images()).unwrap();
    let (upstream, file) = (
        site.upstream.address().to_owned(),
        site.path("registries.conf"),
    );
    site.image_set(&format!(
        "platform:\n  release: {upstream}/{PAYLOADS}:{}\n",
        release.tag
    ));
    site.upstream.stop();
    let ended = |blocked: bool| {
        let rules = format!(
            "[[registry]]\nlocation = \"{upstream}\"\ninsecure = true\nblocked = {blocked}\n[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
            near.address()
        );
        std::fs::write(&file, rules).unwrap();
        let mut command = site.command(&["--retry-times=0"]);
        command.env("CONTAINERS_REGISTRIES_CONF", &file);
        crate::site::Ended::of(command.output().unwrap())
    };
    let stalled = ended(false);
    assert_eq!(stalled.code, 6, "{stalled:#?}");
    stalled.says(&[
        "whether its payload has a signature in",
        "that is the answer only where `blocked = true` says that the others are never reached from here",
    ]);
    let landed = ended(true);
    assert_eq!(landed.code, 0, "{landed:#?}");
    site.assert_mirrored(
        &format!("openshift/release-images:{}", release.tag),
        &release.payload,
    );
}

#[test]
fn a_nearer_mirror_that_has_only_the_image_hides_no_signature() {
    let site = Site::new();
    let near = Registry::debian();
    let app = Image::simple("app");
    let sig = signed(&app, &["k"], "");
    let sbom = referrer(&app, "sbom");
    let image = Placed::tagged("team/app", "1", &app);
    site.publish(&[
        image.clone(),
        Placed::tagged("team/app", &tag(&app, ".sig"), &sig),
        Placed::tagged("team/app", &tag(&app, ""), &list(&[(&sbom, "sbom")])),
    ]);
    crate::fixture::place::write_distribution_storage(&near.storage(), &[image]).unwrap();
    let file = site.path("registries.conf");
    let rules = format!(
        "[[registry]]\nlocation = \"{}\"\ninsecure = true\n[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
        site.upstream.address(),
        near.address()
    );
    std::fs::write(&file, rules).unwrap();
    site.additional(&["team/app:1"]);
    let mut command = site.command(&[]);
    command.env("CONTAINERS_REGISTRIES_CONF", &file);
    let ended = crate::site::Ended::of(command.output().unwrap());
    assert_eq!(ended.code, 0, "{ended:#?}");
    ended.says(&["1 signature and 1 referrer to copy with them"]);
    site.assert_mirrored(&format!("team/app:{}", tag(&app, ".sig")), &sig);
    assert!(
        near.requests().blob_bytes() > 0,
        "the image comes from nearer"
    );
}
