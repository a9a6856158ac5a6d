//! Releases: what lands, under which names, in which order.

use std::collections::BTreeSet;

use crate::{
    fixture::{
        graph,
        release::{PARTS, PAYLOADS, Release},
    },
    site::{FEW, PREFIX, Site, Updates, channel, images},
    support,
};

#[test]
fn real_release_is_mirrored_byte_for_byte_under_oc_mirrors_names() {
    let Some(data) =
        support::real_data("real_release_is_mirrored_byte_for_byte_under_oc_mirrors_names")
    else {
        return;
    };
    let site = Site::new();
    let release = Release::from_real(&data.join("release"), site.upstream.address()).unwrap();
    assert_eq!(
        (release.components.len(), release.tag.as_str()),
        (183, "4.12.0-x86_64")
    );
    site.publish(&release.images());
    let graph = graph::real(&data.join("cincinnati/amd64-stable-4.13.json"), &[&release]).unwrap();
    let updates = Updates::new("stable-4.13", graph);
    site.image_set(&channel("stable-4.13", "4.12.0", "4.12.0"));

    let ended = site.done(&[&updates.option()]);

    site.assert_release(&release, &["etcd", "cli", "machine-os-content", "console"]);
    ended.says(&["184 images to copy", "release signatures are not verified"]);
    assert_eq!(updates.take(), ["/graph?channel=stable-4.13&arch=amd64"]);
    assert_eq!(site.upstream.requests().blobs_twice(), [""; 0]);
    let documents = site.documents();
    let idms: Vec<_> = documents
        .values()
        .map(|(bytes, _)| String::from_utf8_lossy(bytes))
        .collect();
    let mirror = format!("{}/{PREFIX}/openshift/release", site.mirror.address());
    assert!(idms.iter().any(|text| text.contains(&mirror)), "{idms:#?}");
}

#[test]
fn blobs_come_before_manifests_and_the_payloads_tag_comes_last() {
    let site = Site::new();
    let release = site.release("4.16.1", 0, &FEW);
    site.publish(&release.images());
    let updates = Updates::of(&[&release]);
    site.channel("4.16.1", "4.16.1");
    site.done(&[&updates.option()]);

    let mut held = BTreeSet::new();
    let mut pushed = Vec::new();
    for request in site
        .mirror
        .requests()
        .iter()
        .filter(|r| r.succeeded() && r.writes())
    {
        let repository = |until: &str| request.path.split(until).next().unwrap().to_owned();
        let named = |name: &str| query(&request.query, name);
        if let Some(digest) = named("digest")
            .or(named("mount"))
            .filter(|_| request.status == 201)
        {
            held.insert((repository("/blobs/"), digest));
        } else if let Some(name) = request.manifest() {
            pushed.push(name.to_owned());
            let image = images(&release).find(|image| {
                name == release.tag && image.digest() == release.payload.digest()
                    || release.components.iter().any(|(part, component)| {
                        name == format!("{}-{part}", release.tag)
                            && component.digest() == image.digest()
                    })
            });
            for digest in image.unwrap().all_blobs().into_keys() {
                let place = (repository("/manifests/"), digest.to_string());
                assert!(held.contains(&place), "{place:?} comes after {name}");
            }
        }
    }
    assert_eq!(pushed.len(), FEW.len() + 1);
    assert_eq!(pushed.last(), Some(&release.tag));
}

#[test]
fn multi_payload_lands_whole_children_before_their_index() {
    let site = Site::new();
    let release = Release::build(&crate::fixture::release::Spec {
        archs: &["x86_64", "aarch64"],
        components: &FEW,
        ..crate::fixture::release::Spec::new("4.16.1", 0, site.upstream.address())
    });
    site.publish(&release.images());
    let updates = Updates::of(&[&release]);
    site.image_set(&format!(
        "platform:\n  architectures: [multi]\n  channels:\n  - {{name: {}, minVersion: 4.16.1, maxVersion: 4.16.1}}\n",
        crate::site::CHANNEL
    ));
    site.done(&[&updates.option()]);
    assert_eq!(release.tag, "4.16.1-multi");
    site.assert_release(&release, &FEW);

    let requests = site.mirror.requests();
    let pushed = requests.manifest_puts();
    let at = |name: &str| pushed.iter().position(|p| *p == name).unwrap();
    for (name, component) in &release.components {
        for child in &component.children {
            assert!(at(&child.digest().to_string()) < at(&format!("{}-{name}", release.tag)));
        }
    }
    assert_eq!(pushed.last(), Some(&release.tag.as_str()));
}

#[test]
fn release_by_reference_keeps_its_tag() {
    let site = Site::new();
    let release = site.release("4.16.1", 0, &FEW);
    site.publish(&release.images());
    let named = format!("{}/{PAYLOADS}:{}", site.upstream.address(), release.tag);
    site.image_set(&format!("platform:\n  release: {named}\n"));
    site.done(&[]);
    site.assert_release(&release, &FEW);
}

#[test]
fn blocked_component_is_left_out_and_the_release_is_whole_without_it() {
    let site = Site::new();
    let release = site.release("4.16.1", 0, &FEW);
    site.publish(&release.images());
    let updates = Updates::of(&[&release]);
    let blocked = release.components["tests"].digest();
    site.image_set(&format!(
        "{}blockedImages:\n- name: '{PARTS}@{blocked}'\n",
        channel(crate::site::CHANNEL, "4.16.1", "4.16.1")
    ));
    site.done(&[&updates.option()]);
    let expected = FEW.iter().filter(|name| **name != "tests");
    let expected: Vec<_> = expected
        .map(|name| format!("{}-{name}", release.tag))
        .collect();
    assert_eq!(site.tags("openshift/release"), expected);
    assert_eq!(
        site.tags("openshift/release-images"),
        [release.tag.as_str()]
    );
}

fn query(query: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}
