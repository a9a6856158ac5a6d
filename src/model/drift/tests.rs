use bytes::Bytes;

use super::*;

fn repository(path: &str) -> Repository {
    format!("m.lan/{path}").parse().unwrap()
}

fn manifest(body: String, media_type: &str) -> Arc<Manifest> {
    Arc::new(Manifest::parse(Bytes::from(body), Some(media_type)).unwrap())
}

fn descriptor(media_type: &str, digest: &Digest, size: u64) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
}

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image of one layer, which may be about another.
fn image(name: &str, subject: Option<&Digest>) -> Arc<Manifest> {
    let (config, layer) = (
        Digest::of(format!("config {name}").as_bytes()),
        Digest::of(format!("layer {name}").as_bytes()),
    );
    let subject = subject.map_or(String::new(), |digest| {
        format!(r#","subject":{}"#, descriptor(MANIFEST, digest, 9))
    });
    let body = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{},"layers":[{}]{subject}}}"#,
        descriptor(CONFIG, &config, 5),
        descriptor(LAYER, &layer, 7),
    );
    manifest(body, MANIFEST)
}

fn index(children: &[&Manifest]) -> Arc<Manifest> {
    let children: Vec<String> = children
        .iter()
        .map(|child| descriptor(MANIFEST, &child.digest, child.raw.len() as u64))
        .collect();
    let body = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{}]}}"#,
        children.join(",")
    );
    manifest(body, INDEX)
}

/// A mirror, and the manifests that are at hand.
#[derive(Default)]
struct World {
    mirrored: Mirrored,
    at_hand: HashMap<Digest, Arc<Manifest>>,
}

impl World {
    fn land(&mut self, path: &str, manifest: &Arc<Manifest>, tag: Option<&str>) {
        let repository = repository(path);
        for blob in manifest.blobs() {
            let landed = Landed::Blob(repository.clone(), blob.digest.clone());
            self.mirrored.apply(&landed);
        }
        self.mirrored.apply(&Landed::Manifest {
            repository: repository.clone(),
            digest: manifest.digest.clone(),
            complete: true,
        });
        if let Some(tag) = tag {
            let digest = manifest.digest.clone();
            let tag = tag.parse().unwrap();
            self.mirrored.apply(&Landed::Tag(repository, tag, digest));
        }
        self.at_hand
            .insert(manifest.digest.clone(), manifest.clone());
    }

    fn checks(&self, places: &[Place], depth: Depth, all: bool) -> Vec<Check> {
        let at_hand = |digest: &Digest| self.at_hand.get(digest).cloned();
        checks(&self.mirrored, places, &at_hand, depth, all)
    }
}

fn place(set: &str, path: &str, tag: &str, manifest: &Manifest) -> Place {
    Place {
        set: SetName(set.to_owned()),
        target: repository(path),
        tag: tag.parse().unwrap(),
        digest: manifest.digest.clone(),
        source: format!("q.io/{path}:{tag}").parse().unwrap(),
    }
}

/// What is asked, in short: the path, what, whose.
fn told(checks: &[Check]) -> Vec<(&str, &Digest, Thing, Vec<usize>)> {
    checks
        .iter()
        .map(|c| {
            (
                c.repository.path(),
                &c.digest,
                c.thing.clone(),
                c.owners.clone(),
            )
        })
        .collect()
}

fn tag(tag: &str) -> Tag {
    tag.parse().unwrap()
}

#[test]
fn an_image_needs_its_children_their_blobs_and_what_belongs_to_it() {
    let mut world = World::default();
    let (amd, arm) = (image("amd", None), image("arm", None));
    let root = index(&[&amd, &arm]);
    let signature = image("signature", None);
    let sbom = image("sbom", Some(&root.digest));
    world.land("app", &amd, None);
    world.land("app", &root, Some("1"));
    let signed = accessory::tag(&root.digest, accessory::Kind::Signature).unwrap();
    world.land("app", &signature, Some(&signed.to_string()));
    world.land("app", &sbom, None);
    let left = image("left over", None);
    world.land("app", &left, Some("0"));
    world.land("other", &left, Some("0"));

    let places = [place("a", "app", "1", &root)];
    let quick = world.checks(&places, Depth::Quick, false);
    let mut expected = vec![
        ("app", &amd.digest, Thing::Manifest(vec![]), vec![0]),
        (
            "app",
            &root.digest,
            Thing::Manifest(vec![tag("1")]),
            vec![0],
        ),
        (
            "app",
            &signature.digest,
            Thing::Manifest(vec![signed.clone()]),
            vec![0],
        ),
        ("app", &sbom.digest, Thing::Manifest(vec![]), vec![0]),
    ];
    expected.sort_by(|a, b| a.1.cmp(b.1));
    assert_eq!(told(&quick), expected);

    let deep = world.checks(&places, Depth::Deep, false);
    let blobs = deep
        .iter()
        .filter(|c| matches!(c.thing, Thing::Blob(Some(5 | 7))));
    assert_eq!((deep.len(), blobs.count()), (10, 6));
    let all = world.checks(&places, Depth::Deep, true);
    let nobodys = all.iter().filter(|c| c.owners.is_empty());
    assert_eq!((all.len(), nobodys.count()), (16, 6));
}

#[test]
fn of_an_image_that_is_not_known_inside_everything_nearby_counts() {
    let mut world = World::default();
    let (found, known) = (image("found", None), image("known", None));
    world.land("app", &found, Some("1"));
    world.land("app", &known, Some("2"));
    world.at_hand.remove(&found.digest);
    let places = [
        place("a", "app", "1", &found),
        place("b", "app", "2", &known),
    ];
    let deep = world.checks(&places, Depth::Deep, false);
    let of = |owner: usize| deep.iter().filter(|c| c.owners == [owner]).count();
    assert_eq!((of(0), of(1), deep.len()), (3, 3, 6));
}

#[test]
fn what_is_lost_is_dropped_with_what_names_it_and_nothing_else() {
    let mut world = World::default();
    let child = image("child", None);
    let root = index(&[&child]);
    world.land("app", &child, None);
    world.land("app", &root, Some("1"));
    let places = [place("a", "app", "1", &root)];
    let checks = world.checks(&places, Depth::Deep, false);
    let layer = child.blobs().last().unwrap().digest.clone();
    let check = checks.iter().find(|c| c.digest == layer).unwrap().clone();
    let lost = [Lost {
        check,
        loss: Loss::Missing,
    }];
    let mut expected = [&child.digest, &root.digest, &layer];
    expected.sort();
    let gone = dropped(&lost, &places);
    assert_eq!(
        gone,
        expected.map(|digest| Landed::Gone(repository("app"), digest.clone()))
    );
    assert!(lost[0].is_believed(&world.mirrored));
    for fact in &gone {
        world.mirrored.apply(fact);
    }
    assert!(!lost[0].is_believed(&world.mirrored));
    let config = &child.blobs().next().unwrap().digest;
    assert!(world.mirrored.blob(&repository("app"), config));
}

#[test]
fn drift_lasts_until_it_is_copied_again_or_a_look_as_close_finds_nothing() {
    let set = SetName("a".to_owned());
    let now = Timestamp::UNIX_EPOCH;
    let mut world = World::default();
    let app = image("app", None);
    world.land("app", &app, Some("1"));
    let places = [place("a", "app", "1", &app), place("b", "app", "1", &app)];
    let checks = world.checks(&places, Depth::Deep, false);
    let lost: Vec<Lost> = checks
        .into_iter()
        .filter(|c| matches!(c.thing, Thing::Blob(Some(7))))
        .map(|check| Lost {
            check,
            loss: Loss::Missing,
        })
        .collect();
    let drift = Drift::after(None, &set, &lost, &places, (Some(Depth::Deep), now)).unwrap();
    assert_eq!(drift.images.len(), 1, "of its own images only");
    let layer = Digest::of(b"layer app");
    assert_eq!(
        drift.sentence(&set),
        format!(
            "of 1 image something was lost: blob m.lan/app@{layer} is not in the mirror any more; `imagesetd verify a --depth deep --repair` copies it again"
        )
    );
    let after =
        |drift: &Drift, depth| Drift::after(Some(drift), &set, &[], &places, (Some(depth), now));
    assert_eq!(after(&drift, Depth::Quick), Some(drift.clone()));
    assert_eq!(after(&drift, Depth::Deep), None);
    // Another image set's loss is no news of this one's.
    let of_another: Vec<Lost> = lost
        .iter()
        .map(|lost| Lost {
            check: Check {
                owners: vec![1],
                ..lost.check.clone()
            },
            loss: Loss::Missing,
        })
        .collect();
    let later = Timestamp::from_second(86_400).unwrap();
    let quick = (Some(Depth::Quick), later);
    assert_eq!(
        Drift::after(Some(&drift), &set, &of_another, &places, quick),
        Some(drift.clone())
    );

    let gone = dropped(&lost, &places);
    let mut repairing = drift;
    repairing.mark(&gone);
    assert_eq!(after(&repairing, Depth::Read), Some(repairing.clone()));
    for fact in &gone {
        world.mirrored.apply(fact);
    }
    repairing.settle(&world.mirrored);
    assert_eq!(repairing.images.len(), 1);
    world.land("app", &app, Some("1"));
    repairing.settle(&world.mirrored);
    assert_eq!(repairing.images, []);
}

#[test]
fn losses_are_told_as_sentences() {
    let app = image("app", None);
    let digest = &app.digest;
    let other = Digest::of(b"other");
    let check = Check {
        repository: repository("app"),
        digest: digest.clone(),
        thing: Thing::Manifest(vec![tag("1")]),
        owners: vec![],
        holders: vec![],
    };
    let why = |loss| {
        let check = check.clone();
        Lost { check, loss }.why()
    };
    assert_eq!(
        [
            why(Loss::Missing),
            why(Loss::Corrupt),
            why(Loss::Moved(tag("1"), None)),
            why(Loss::Moved(tag("1"), Some(other.clone()))),
        ],
        [
            format!("manifest m.lan/app@{digest} is not in the mirror any more"),
            format!(
                "manifest m.lan/app@{digest} has other bytes than its digest says; registries do not replace what they have, so remove it from the registry's storage first"
            ),
            "the tag m.lan/app:1 is not in the mirror any more".to_owned(),
            format!("the tag m.lan/app:1 names {other}, and was mirrored as {digest}"),
        ]
    );
}
