use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::model::{
    accessory::{self, Accessory},
    facts::{Cause, Fact, Failure},
    imageset::{AdditionalImage, Blocked},
    manifest::{OCI_INDEX, OCI_MANIFEST},
    mirrored::Landed,
};

/// A blob of the tests: its name, and as many bytes as it is told to have.
type Blob<'a> = (&'a str, u64);

fn named(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

fn image(blobs: &[Blob<'_>]) -> Manifest {
    let descriptors: Vec<_> = blobs
        .iter()
        .map(|(name, size)| {
            json!({"mediaType": "l", "digest": named(name).to_string(), "size": size})
        })
        .collect();
    let document =
        json!({"mediaType": OCI_MANIFEST, "config": descriptors[0], "layers": descriptors[1..]});
    Manifest::parse(Bytes::from(document.to_string()), None).unwrap()
}

fn index(children: &[(&str, &Manifest)]) -> Manifest {
    let children: Vec<_> = children
        .iter()
        .map(|(arch, child)| {
            json!({"mediaType": child.media_type, "digest": child.digest.to_string(), "size": 7, "platform": {"os": "linux", "architecture": arch}})
        })
        .collect();
    let document = json!({"mediaType": OCI_INDEX, "manifests": children});
    Manifest::parse(Bytes::from(document.to_string()), None).unwrap()
}

fn wanted(place: &str, manifest: &Manifest) -> Wanted {
    let target: Reference = format!("m.lan/{place}").parse().unwrap();
    Wanted {
        source: format!("q.io/{}", target.repository.path())
            .parse()
            .unwrap(),
        asked_tag: target.tag.clone(),
        target: target.repository,
        tag: target.tag.unwrap(),
        kind: Kind::Additional,
        digest: manifest.digest.clone(),
        platforms: vec![],
        unit: format!("q.io/{place}"),
        entry: format!("q.io/{place}"),
    }
}

fn of_release(kind: Kind, place: &str, manifest: &Manifest) -> Wanted {
    Wanted {
        kind,
        unit: "release 4.16.0 (amd64)".into(),
        entry: "channel stable-4.16".into(),
        asked_tag: None,
        ..wanted(place, manifest)
    }
}

fn desired(images: &[Wanted]) -> Desired {
    let mut images = images.to_vec();
    images.sort();
    Desired {
        images,
        ..Desired::default()
    }
}

fn facts<'a>(manifests: impl IntoIterator<Item = &'a Manifest>) -> Facts {
    let mut facts = Facts::default();
    for manifest in manifests {
        let fact = Fact::Manifest(manifest.digest.clone(), Ok(Arc::new(manifest.clone())));
        facts.learn(fact);
    }
    facts
}

fn set() -> ImageSet {
    ImageSet {
        name: SetName("prod".into()),
        ..ImageSet::default()
    }
}

/// Plans with nothing remembered and nothing kept.
fn planned(desired: &Desired, mirrored: &Mirrored, facts: &Facts) -> Plan {
    planned_after(
        desired,
        mirrored,
        facts,
        &[],
        &BTreeMap::new(),
        &HashSet::new(),
    )
}

fn planned_after(
    desired: &Desired,
    mirrored: &Mirrored,
    facts: &Facts,
    before: &[Wanted],
    pins: &BTreeMap<String, String>,
    kept: &HashSet<Digest>,
) -> Plan {
    let basis = Basis {
        set: &set(),
        revision: "main@sha1:1",
        base: Position {
            lineage: "l".into(),
            serial: mirrored.serial(),
        },
        before,
        dropped: &[],
        pins,
        committed: false,
        kept,
    };
    match build(&basis, desired, mirrored, facts) {
        Built::Whole(plan) => plan,
        Built::Missing(needs) => panic!("still asks for {needs:?}"),
    }
}

fn step(wanted: &Wanted, bytes: u64, bytes_kept: u64, blobs: u32) -> Step {
    Step {
        image: wanted.clone(),
        bytes,
        bytes_kept,
        blobs,
        attached: vec![],
        image_held: false,
    }
}

/// What a run of a step reports.
fn land(mirrored: &mut Mirrored, wanted: &Wanted, facts: &Facts) {
    let at = || wanted.target.clone();
    let mut left = vec![(wanted.digest.clone(), wanted.platforms.as_slice())];
    while let Some((digest, platforms)) = left.pop() {
        let manifest = facts.manifests[&digest].as_ref().unwrap();
        for blob in manifest.blobs() {
            mirrored.apply(&Landed::Blob(at(), blob.digest.clone()));
        }
        let children: Vec<_> = manifest.children(platforms).collect();
        mirrored.apply(&Landed::Manifest {
            repository: at(),
            digest,
            complete: children.len() == manifest.children(&[]).count(),
        });
        left.extend(children.iter().map(|c| (c.digest.clone(), [].as_slice())));
    }
    mirrored.apply(&Landed::Tag(
        at(),
        wanted.tag.clone(),
        wanted.digest.clone(),
    ));
}

#[test]
fn manifests_of_what_the_mirror_lacks_are_asked_for_all_at_once() {
    let (a, b, child) = (image(&[("a", 1)]), image(&[("b", 1)]), image(&[("c", 1)]));
    let list = index(&[("amd64", &child)]);
    let images = [wanted("a:1", &a), wanted("b:1", &b), wanted("l:1", &list)];
    let desired = desired(&images);
    let mut mirrored = Mirrored::default();
    land(&mut mirrored, &images[0], &facts([&a]));
    let ask = |facts: &Facts| {
        let basis = Basis {
            set: &set(),
            revision: "r",
            base: Position {
                lineage: "l".into(),
                serial: 0,
            },
            before: &[],
            dropped: &[],
            pins: &BTreeMap::new(),
            committed: false,
            kept: &HashSet::new(),
        };
        match build(&basis, &desired, &mirrored, facts) {
            Built::Whole(plan) => panic!("asks for nothing: {plan:?}"),
            Built::Missing(needs) => needs,
        }
    };
    let need = |from: &str, m: &Manifest| {
        Need::Manifest(format!("q.io/{from}").parse().unwrap(), m.digest.clone())
    };
    // What is held needs no manifest.
    let both = BTreeSet::from([need("b", &b), need("l", &list)]);
    assert_eq!(ask(&Facts::default()), both);
    assert_eq!(
        ask(&facts([&b, &list])),
        BTreeSet::from([need("l", &child)])
    );
}

#[test]
fn components_come_before_their_payload_and_a_blob_counts_where_it_is_first_needed() {
    let etcd = image(&[("etcd", 1), ("base", 100)]);
    let cli = image(&[("cli", 2), ("base", 100)]);
    let root = image(&[("root", 4), ("base", 100)]);
    let single = image(&[("single", 8), ("base", 100), ("single", 8)]);
    let images = [
        of_release(Kind::Release, "a/release-images:4", &root),
        of_release(Kind::ReleaseComponent, "z/release:4-etcd", &etcd),
        of_release(Kind::ReleaseComponent, "z/release:4-cli", &cli),
        wanted("a/single:1", &single),
    ];
    let facts = facts([&etcd, &cli, &root, &single]);
    let plan = planned(&desired(&images), &Mirrored::default(), &facts);
    assert_eq!(
        plan,
        Plan {
            id: plan.id.clone(),
            set: SetName("prod".into()),
            revision: "main@sha1:1".into(),
            base: Position {
                lineage: "l".into(),
                serial: 0
            },
            steps: vec![
                step(&images[2], 102, 0, 2),
                step(&images[1], 1, 0, 1),
                step(&images[0], 4, 0, 2),
                step(&images[3], 8, 0, 2),
            ],
            wanted: 4,
            held: 0,
            unwanted: vec![],
            moved: vec![],
            heads: vec![],
            pulled: vec![],
            unresolved: vec![],
            unsupported: vec![],
            signatures_ignored: false,
            conditional: vec![],
            warnings: vec![],
        }
    );
    assert_eq!(plan.bytes(), 115);
}

#[test]
fn kept_blobs_and_those_of_other_repositories_are_not_downloaded() {
    let x = image(&[
        ("config", 1),
        ("kept", 10),
        ("held", 100),
        ("elsewhere", 1000),
    ]);
    let x_wanted = wanted("x:1", &x);
    let at = |path: &str| format!("m.lan/{path}").parse::<Repository>().unwrap();
    let mut mirrored = Mirrored::default();
    mirrored.apply(&Landed::Blob(at("x"), named("held")));
    mirrored.apply(&Landed::Blob(at("y"), named("elsewhere")));
    // Another registry's blobs are of no use to this one.
    mirrored.apply(&Landed::Blob(
        "other.lan/x".parse().unwrap(),
        named("config"),
    ));
    let plan = planned_after(
        &desired(std::slice::from_ref(&x_wanted)),
        &mirrored,
        &facts([&x]),
        &[],
        &BTreeMap::new(),
        &HashSet::from([named("kept")]),
    );
    assert_eq!(plan.steps, [step(&x_wanted, 1, 10, 3)]);
    assert_eq!((plan.bytes(), plan.bytes_kept()), (1, 10));
}

#[test]
fn of_a_sparse_index_only_the_platforms_asked_for_are_brought() {
    let (amd, arm) = (image(&[("amd", 1)]), image(&[("arm", 10)]));
    let list = index(&[("amd64", &amd), ("arm64", &arm)]);
    let facts = facts([&amd, &arm, &list]);
    let sparse = Wanted {
        platforms: vec!["linux/arm64".parse().unwrap()],
        ..wanted("l:1", &list)
    };
    let mut mirrored = Mirrored::default();
    let only = desired(std::slice::from_ref(&sparse));
    assert_eq!(
        planned(&only, &mirrored, &facts).steps,
        [step(&sparse, 10, 0, 1)]
    );
    land(&mut mirrored, &sparse, &facts);
    assert!(planned(&only, &mirrored, &facts).is_empty());
    assert!(holds(&mirrored, &sparse, &facts));
    // Once all platforms are wanted the rest is brought.
    let full = wanted("l:1", &list);
    let all = desired(std::slice::from_ref(&full));
    assert_eq!(
        planned(&all, &mirrored, &facts).steps,
        [step(&full, 1, 0, 1)]
    );
    land(&mut mirrored, &full, &facts);
    assert!(planned(&all, &mirrored, &facts).is_empty());
    assert!(planned(&only, &mirrored, &facts).is_empty());
}

#[test]
fn platforms_that_an_index_lacks_are_named_with_those_it_offers() {
    let amd = image(&[("amd", 1)]);
    let list = index(&[("amd64", &amd)]);
    let sparse = Wanted {
        platforms: vec!["linux/s390x".parse().unwrap()],
        ..wanted("l:1", &list)
    };
    let plan = planned(
        &desired(&[sparse]),
        &Mirrored::default(),
        &facts([&amd, &list]),
    );
    assert!(plan.is_empty());
    assert_eq!(
        plan.unresolved,
        [Unresolved {
            subject: "q.io/l:1".into(),
            reason:
                "q.io/l:1 has none of the platforms asked for (linux/s390x); it offers linux/amd64"
                    .into(),
            transient: false,
            cause: Cause::Other,
        }]
    );
}

#[test]
fn without_one_of_its_components_a_payload_is_not_begun() {
    let (etcd, cli, root) = (
        image(&[("etcd", 1)]),
        image(&[("cli", 2)]),
        image(&[("root", 4)]),
    );
    let images = [
        of_release(Kind::ReleaseComponent, "r:4-cli", &cli),
        of_release(Kind::ReleaseComponent, "r:4-etcd", &etcd),
        of_release(Kind::Release, "ri:4", &root),
    ];
    let mut facts = facts([&etcd, &root]);
    facts.learn(Fact::Manifest(
        cli.digest.clone(),
        Err(Failure {
            reason: "it is gone".into(),
            transient: true,
            cause: Cause::Unavailable,
        }),
    ));
    let plan = planned(&desired(&images), &Mirrored::default(), &facts);
    assert_eq!(plan.steps, [step(&images[1], 1, 0, 1)]);
    let withheld = Unresolved {
        subject: "release 4.16.0 (amd64)".into(),
        reason: format!(
            "its payload q.io/ri@{} is not copied while an image of it cannot be: a release in the mirror is whole or absent",
            root.digest
        ),
        transient: false,
        cause: Cause::Unavailable,
    };
    let gone = Unresolved {
        subject: format!("release 4.16.0 (amd64), q.io/r@{}", cli.digest),
        reason: "it is gone".into(),
        transient: true,
        cause: Cause::Unavailable,
    };
    assert_eq!(plan.unresolved, [withheld.clone(), gone]);
    // One whose place another image claims is missing just as well.
    let clash = Unresolved {
        subject: "release 4.16.0 (amd64)".into(),
        reason: "a and b would both land on c".into(),
        transient: false,
        cause: Cause::Other,
    };
    let yielded = Desired {
        unresolved: vec![clash.clone()],
        ..desired(&images[1..])
    };
    let plan = planned(&yielded, &Mirrored::default(), &facts);
    assert_eq!(plan.steps, [step(&images[1], 1, 0, 1)]);
    let withheld = Unresolved {
        cause: Cause::Other,
        ..withheld
    };
    assert_eq!(plan.unresolved, [clash, withheld]);
    // So is one that the payload names in a way nobody can read.
    let unreadable = Desired {
        unresolved: vec![Unresolved {
            subject: "release 4.16.0 (amd64), component cli".into(),
            reason: "it names no digest".into(),
            transient: false,
            cause: Cause::Other,
        }],
        ..desired(&images[1..])
    };
    let plan = planned(&unreadable, &Mirrored::default(), &facts);
    assert_eq!(plan.steps, [step(&images[1], 1, 0, 1)]);
}

#[test]
fn what_was_wanted_before_is_listed_unless_its_entry_is_stalled() {
    let x = image(&[("x", 1)]);
    let before = [
        wanted("dropped:1", &x),
        wanted("stalled:1", &x),
        wanted("still:1", &x),
        wanted("a:never", &x),
        of_release(Kind::Release, "ri:4", &x),
    ];
    // What never landed cannot be left over.
    let mut mirrored = Mirrored::default();
    for image in &before {
        let landed = (
            image.target.clone(),
            image.tag.clone(),
            image.digest.clone(),
        );
        mirrored.apply(&Landed::Tag(landed.0, landed.1, landed.2));
    }
    let facts = facts([&x]);
    let mut mirrored = Mirrored::default();
    // What never landed is nobody's to list.
    let never = before.iter().filter(|w| w.tag.as_str() != "never");
    never.for_each(|w| land(&mut mirrored, w, &facts));
    let stalled = |subject: &str| Unresolved {
        subject: subject.into(),
        reason: "it is gone".into(),
        transient: false,
        cause: Cause::Other,
    };
    let unwanted_with = |unresolved: Vec<Unresolved>| {
        let now = Desired {
            unresolved,
            ..desired(&before[2..3])
        };
        let (pins, kept) = Default::default();
        planned_after(&now, &mirrored, &facts, &before, &pins, &kept).unwanted
    };
    let gone = |place: &str| Unwanted {
        target: format!("m.lan/{place}").parse().unwrap(),
        digest: x.digest.clone(),
    };
    let stalled_image = stalled("q.io/stalled:1");
    assert_eq!(
        unwanted_with(vec![]),
        [gone("dropped:1"), gone("ri:4"), gone("stalled:1")]
    );
    assert_eq!(
        unwanted_with(vec![stalled_image.clone()]),
        [gone("dropped:1"), gone("ri:4")]
    );
    for subject in [
        "mirror.platform",
        "channel stable-4.16 for amd64",
        "update path from a to b for amd64",
        "release 4.16.0 (amd64)",
    ] {
        assert_eq!(
            unwanted_with(vec![stalled_image.clone(), stalled(subject)]),
            [gone("dropped:1")],
            "{subject}"
        );
    }
}

#[test]
fn what_moved_is_told_and_what_is_new_or_gone_is_not() {
    let pins = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs.map(|(k, v)| ((*k).into(), (*v).into())).collect()
    };
    let now = Desired {
        pins: pins(&[("a:1", "2"), ("b:1", "1"), ("new:1", "1")]),
        ..Desired::default()
    };
    let moved_since = |before: &[(&str, &str)]| {
        let (mirrored, kept) = Default::default();
        planned_after(
            &now,
            &mirrored,
            &Facts::default(),
            &[],
            &pins(before),
            &kept,
        )
        .moved
    };
    assert_eq!(moved_since(&[]), []);
    assert_eq!(
        moved_since(&[("a:1", "1"), ("b:1", "1"), ("gone:1", "1")]),
        [Moved {
            subject: "a:1".into(),
            from: "1".into(),
            to: "2".into(),
        }]
    );
}

#[test]
fn the_same_difference_has_the_same_identity_and_another_one_another() {
    let (x, y) = (image(&[("x", 1)]), image(&[("y", 1)]));
    let facts = facts([&x, &y]);
    let empty = Mirrored::default();
    let plan_of = |images: &[Wanted]| planned(&desired(images), &empty, &facts).id;
    let (one, other) = (wanted("x:1", &x), wanted("y:1", &y));
    let id = plan_of(std::slice::from_ref(&one));
    assert_eq!(plan_of(std::slice::from_ref(&one)), id);
    let sparse = Wanted {
        platforms: vec!["linux/amd64".parse().unwrap()],
        ..one.clone()
    };
    let moved = Wanted {
        digest: y.digest.clone(),
        ..one.clone()
    };
    for different in [vec![], vec![one.clone(), other], vec![sparse], vec![moved]] {
        assert_ne!(plan_of(&different), id, "{different:?}");
    }
    // Where and when it was made stands beside it; so does what the mirror holds, as long as the same is left to do.
    let mut elsewhere = Mirrored::default();
    elsewhere.apply(&Landed::Blob(one.target.clone(), named("x")));
    let later = planned(&desired(std::slice::from_ref(&one)), &elsewhere, &facts);
    assert_eq!((later.id, later.steps[0].bytes), (id, 0));
}

#[test]
fn identity_is_of_what_a_document_says_not_of_how_it_is_written() {
    let read = |text: &str| {
        let file = crate::model::imageset::SourceFile {
            path: "prod.yaml".into(),
            name: "prod.yaml".into(),
            bytes: text.as_bytes().to_vec(),
        };
        let mut found = crate::model::imageset::read(&[file]).image_sets;
        document_digest(&found.remove(0).image_set.unwrap())
    };
    let head = "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\n";
    let said = read(&format!(
        "{head}mirror:\n  additionalImages:\n  - name: q.io/a/x:1\n"
    ));
    assert_eq!(
        read(&format!(
            "# why\n{head}mirror: {{additionalImages: [{{name: \"q.io/a/x:1\"}}]}} # so\n"
        )),
        said
    );
    assert_ne!(
        read(&format!(
            "{head}mirror:\n  additionalImages:\n  - name: q.io/a/x:2\n"
        )),
        said
    );
}

#[test]
fn whose_image_set_it_is_belongs_to_the_identity() {
    let blocked = ImageSet {
        blocked_images: vec![Blocked::Exact("q.io/a".into())],
        additional_images: Vec::<AdditionalImage>::new(),
        ..set()
    };
    let other = ImageSet {
        name: SetName("dev".into()),
        ..set()
    };
    let ids: BTreeSet<PlanId> = [set(), blocked, other]
        .iter()
        .map(|set| identity(set, &[]))
        .collect();
    assert_eq!(ids.len(), 3);
}

/// Images of blobs out of a small pool, at places out of a small pool; some of them under an index.
fn sets_of_images() -> impl Strategy<Value = Vec<(u8, Vec<u8>, bool)>> {
    let one = (0u8..6, prop::collection::vec(0u8..12, 1..5), any::<bool>());
    prop::collection::vec(one, 0..12)
}

proptest! {
    #[test]
    fn a_plan_that_was_performed_leaves_nothing_and_counts_each_missing_blob_once(
        drawn in sets_of_images(),
        performed in 0usize..12,
    ) {
        let (mut known, mut images, mut blobs) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (number, (place, content, listed)) in drawn.iter().enumerate() {
            let names: Vec<String> = content.iter().map(|n| format!("blob {n}")).collect();
            let sized: Vec<Blob<'_>> = names.iter().zip(content).map(|(name, n)| (name.as_str(), 1 << n)).collect();
            blobs.extend(sized.iter().map(|(name, size)| (named(name), *size)));
            let mut manifest = image(&sized);
            known.push(manifest.clone());
            if *listed {
                manifest = index(&[("amd64", &manifest)]);
                known.push(manifest.clone());
            }
            images.push(wanted(&format!("r{place}:{number}"), &manifest));
        }
        let facts = facts(&known);
        let desired = desired(&images);
        let mut mirrored = Mirrored::default();
        // Some was mirrored before.
        let before = planned(&desired, &mirrored, &facts);
        for step in before.steps.iter().take(performed) {
            land(&mut mirrored, &step.image, &facts);
        }
        let held: HashSet<Digest> = blobs
            .keys()
            .filter(|blob| images.iter().any(|w| mirrored.blob(&w.target, blob)))
            .cloned()
            .collect();
        let plan = planned(&desired, &mirrored, &facts);
        let lacking: u64 = blobs.iter().filter(|(blob, _)| !held.contains(*blob)).map(|(_, size)| size).sum();
        prop_assert_eq!(plan.bytes(), lacking);
        prop_assert_eq!(plan.steps.len(), before.steps.len().saturating_sub(performed));
        for step in &plan.steps {
            land(&mut mirrored, &step.image, &facts);
        }
        prop_assert_eq!(planned(&desired, &mirrored, &facts).steps, vec![]);
    }
}

/// What upstream has of an image under a tag of cosign's, or as a referrer.
fn accessory(of: &Manifest, kind: accessory::Kind, is: &Manifest) -> Accessory {
    Accessory {
        subject: of.digest.clone(),
        kind,
        digest: is.digest.clone(),
    }
}

fn attach(desired: &mut Desired, to: &Wanted, accessories: &[Accessory]) {
    let place = (to.target.clone(), to.digest.clone());
    desired.attached.insert(place, accessories.to_vec());
}

/// What the mirror's tag of an accessory names.
fn tag_in_mirror(mirrored: &mut Mirrored, image: &Wanted, of: &Accessory, is: &Manifest) {
    mirrored.apply(&Landed::Tag(
        image.target.clone(),
        of.tag().unwrap(),
        is.digest.clone(),
    ));
}

#[test]
fn signatures_and_referrers_are_part_of_their_images_step() {
    let (app, sig) = (
        image(&[("app", 100)]),
        image(&[("sig-config", 1), ("sig", 10)]),
    );
    let referrer = image(&[("empty", 2), ("sbom", 1000)]);
    let wanted = wanted("a:1", &app);
    let all = [
        accessory(&app, accessory::Kind::Signature, &sig),
        accessory(&app, accessory::Kind::Referrer, &referrer),
    ];
    let mut desired = desired(std::slice::from_ref(&wanted));
    let without = planned(&desired, &Mirrored::default(), &facts([&app]));
    attach(&mut desired, &wanted, &all);
    let facts = facts([&app, &sig, &referrer]);
    let plan = planned(&desired, &Mirrored::default(), &facts);
    let expected = Step {
        attached: all.to_vec(),
        ..step(&wanted, 1113, 0, 5)
    };
    assert_eq!(plan.steps, [expected]);
    assert_ne!(plan.id, without.id);
    // Their manifests are asked for like all others.
    let basis = Basis {
        set: &set(),
        revision: "r",
        base: Position {
            lineage: "l".into(),
            serial: 0,
        },
        before: &[],
        dropped: &[],
        pins: &BTreeMap::new(),
        committed: false,
        kept: &HashSet::new(),
    };
    let needs = [&sig, &referrer].map(|m| Need::Manifest(wanted.source.clone(), m.digest.clone()));
    let lacking = self::facts([&app]);
    assert_eq!(
        build(&basis, &desired, &Mirrored::default(), &lacking),
        Built::Missing(BTreeSet::from(needs))
    );
}

#[test]
fn a_mirrored_image_that_is_signed_since_gains_only_the_signature() {
    let (app, sig) = (
        image(&[("app", 100)]),
        image(&[("sig-config", 1), ("sig", 10)]),
    );
    // Two tags of one image share what belongs to it.
    let images = [wanted("a:1", &app), wanted("a:2", &app)];
    let signature = accessory(&app, accessory::Kind::Signature, &sig);
    let facts = facts([&app, &sig]);
    let mut mirrored = Mirrored::default();
    images
        .iter()
        .for_each(|wanted| land(&mut mirrored, wanted, &facts));
    let mut desired = desired(&images);
    attach(&mut desired, &images[0], std::slice::from_ref(&signature));
    let plan = planned(&desired, &mirrored, &facts);
    let expected = Step {
        attached: vec![signature.clone()],
        image_held: true,
        ..step(&images[0], 11, 0, 2)
    };
    assert_eq!((plan.steps, plan.held), (vec![expected], 1));
    tag_in_mirror(&mut mirrored, &images[0], &signature, &sig);
    let plan = planned(&desired, &mirrored, &facts);
    assert_eq!((plan.steps, plan.held), (vec![], 2));
    // What upstream does not have any more stays, and is not missed.
    desired.attached.clear();
    let plan = planned(&desired, &mirrored, &facts);
    assert_eq!((plan.steps, plan.unwanted), (vec![], vec![]));
}

#[test]
fn what_somebody_signed_in_the_mirror_is_never_replaced() {
    let app = image(&[("app", 100)]);
    let [ours, theirs, both, less] = [
        &[("c", 1), ("ours", 1)][..],
        &[("c", 1), ("theirs", 1)],
        &[("c", 1), ("theirs", 1), ("ours", 1)],
        &[("c", 1)],
    ]
    .map(image);
    let wanted = wanted("a:1", &app);
    let facts = facts([&app, &ours, &theirs, &both, &less]);
    let signature = accessory(&app, accessory::Kind::Signature, &ours);
    let mut desired = desired(std::slice::from_ref(&wanted));
    attach(&mut desired, &wanted, std::slice::from_ref(&signature));
    let outcome = |held: &Manifest| {
        let mut mirrored = Mirrored::default();
        land(&mut mirrored, &wanted, &facts);
        tag_in_mirror(&mut mirrored, &wanted, &signature, held);
        let plan = planned(&desired, &mirrored, &facts);
        (plan.steps.len(), plan.warnings)
    };
    assert_eq!(outcome(&both), (0, vec![]));
    assert_eq!(
        outcome(&theirs),
        (
            0,
            vec![format!(
                "m.lan/a:{} in the mirror holds something that upstream's does not hold and lacks something that upstream's holds; it \
                 stays as it is: copy upstream's there yourself, or remove it from the mirror to have it replaced",
                signature.tag().unwrap()
            )]
        )
    );
    assert_eq!(outcome(&less), (1, vec![]));
}

#[test]
fn a_release_counts_only_with_its_payloads_signature() {
    let (payload, sig) = (image(&[("payload", 100)]), image(&[("c", 1), ("sig", 10)]));
    let wanted = of_release(Kind::Release, "release-images:4.21.0", &payload);
    let signature = accessory(&payload, accessory::Kind::Signature, &sig);
    let mut facts = facts([&payload, &sig]);
    let mut mirrored = Mirrored::default();
    land(&mut mirrored, &wanted, &facts);
    assert!(holds(&mirrored, &wanted, &facts));
    facts.learn(Fact::Attached(
        wanted.source.clone(),
        (payload.digest.clone(), accessory::Scope::Signature),
        Arc::new(accessory::Attached {
            found: vec![signature.clone()],
            missed: vec![],
        }),
    ));
    assert!(!holds(&mirrored, &wanted, &facts));
    tag_in_mirror(&mut mirrored, &wanted, &signature, &sig);
    assert!(holds(&mirrored, &wanted, &facts));
    // A single image is there without.
    let single = Wanted {
        kind: Kind::Additional,
        ..wanted
    };
    let mut mirrored = Mirrored::default();
    land(&mut mirrored, &single, &facts);
    assert!(holds(&mirrored, &single, &facts));
}
