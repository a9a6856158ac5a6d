use super::*;
use crate::model::{desired::Wanted, manifest::OCI_INDEX};

fn step(unit: &str, kind: Kind, place: &str) -> Step {
    let target: crate::model::image::Reference = format!("m.lan/{place}").parse().unwrap();
    Step {
        image: Wanted {
            source: format!("q.io/{}", target.repository.path())
                .parse()
                .unwrap(),
            target: target.repository,
            tag: target.tag.unwrap(),
            kind,
            asked_tag: None,
            digest: Digest::of(place.as_bytes()),
            platforms: vec![],
            unit: unit.into(),
            entry: unit.into(),
        },
        bytes: 0,
        bytes_kept: 0,
        blobs: 0,
        attached: vec![],
        image_held: false,
    }
}

#[test]
fn a_unit_knows_which_of_its_steps_are_missing() {
    let steps = [
        step("one", Kind::ReleaseComponent, "r:1-a"),
        step("one", Kind::ReleaseComponent, "r:1-b"),
        step("other", Kind::ReleaseComponent, "r:2-a"),
        step("one", Kind::Release, "ri:1"),
        step("other", Kind::Release, "ri:2"),
    ];
    let (units, ready) = Units::new(steps.to_vec());
    assert_eq!(numbers(&ready), [0, 1, 2]);
    assert_eq!(units.missing(&steps[3]), Vec::<usize>::new());
    units.failed(&steps[1], 1);
    units.failed(&steps[0], 0);
    assert_eq!(units.missing(&steps[3]), [1, 0]);
    assert_eq!(units.missing(&steps[4]), Vec::<usize>::new());
}

#[test]
fn a_payload_comes_when_its_own_components_have_ended_or_none_are_left() {
    let steps = [
        step("one", Kind::ReleaseComponent, "r:1-a"),
        step("one", Kind::ReleaseComponent, "r:1-b"),
        step("other", Kind::ReleaseComponent, "r:2-a"),
        step("one", Kind::Release, "ri:1"),
        step("other", Kind::Release, "ri:2"),
        step("whole but for it", Kind::Release, "ri:3"),
    ];
    let (units, ready) = Units::new(steps.to_vec());
    assert_eq!(numbers(&ready), [0, 1, 2, 5]);
    assert_eq!(numbers(&units.ended(&steps[1])), [0; 0]);
    assert_eq!(numbers(&units.ended(&steps[0])), [3]);
    assert_eq!(numbers(&units.ended(&steps[3])), [0; 0]);
    assert_eq!(numbers(&units.ended(&steps[2])), [4]);
}

fn numbers(steps: &[units::Numbered]) -> Vec<usize> {
    steps.iter().map(|(number, _)| *number).collect()
}

#[test]
fn what_no_step_stands_for_lacks_nothing() {
    let stranger = step("stranger", Kind::Release, "ri:3");
    assert_eq!(Units::new(vec![]).0.missing(&stranger), Vec::<usize>::new());
}

/// Manifests at hand, and nothing else.
struct Shelf(HashMap<Digest, Arc<Manifest>>);

impl Larder for Shelf {
    fn manifest(&self, digest: &Digest) -> Option<Arc<Manifest>> {
        self.0.get(digest).cloned()
    }

    fn blob(&self, _: &Digest) -> Option<PathBuf> {
        None
    }

    fn wanted(&self, _: &Step) -> bool {
        true
    }
}

fn manifest(document: serde_json::Value) -> Arc<Manifest> {
    Arc::new(Manifest::parse(document.to_string().into(), None).unwrap())
}

#[test]
fn donors_are_the_repositories_of_the_mirror_that_have_a_blob_of_any_child() {
    let blob = |name: &str| Digest::of(name.as_bytes());
    let describe = |digest: &Digest| serde_json::json!({"digest": digest.to_string(), "size": 1});
    let (own, elsewhere, nowhere) = (blob("own"), blob("elsewhere"), blob("nowhere"));
    let child = manifest(serde_json::json!({
        "config": describe(&own),
        "layers": [describe(&elsewhere), describe(&nowhere)],
    }));
    let list = manifest(serde_json::json!({
        "mediaType": OCI_INDEX,
        "manifests": [describe(&child.digest)],
    }));
    let mut wanted = step("x", Kind::Additional, "x:1");
    wanted.image.digest = list.digest.clone();
    let shelf = Shelf(HashMap::from([
        (child.digest.clone(), child.clone()),
        (list.digest.clone(), list.clone()),
    ]));
    let at = |path: &str| path.parse::<Repository>().unwrap();
    let mut mirrored = Mirrored::default();
    for (repository, digest) in [
        ("m.lan/x", &own),
        ("m.lan/y", &own),
        ("m.lan/y", &elsewhere),
        ("other.lan/z", &elsewhere),
        ("other.lan/z", &nowhere),
    ] {
        mirrored.apply(&Landed::Blob(at(repository), digest.clone()));
    }
    let mut again = wanted.clone();
    again.image.target = at("m.lan/z");
    again.image.digest = child.digest.clone();
    let donors = HashMap::from([
        (own.clone(), vec![at("m.lan/x")]),
        (elsewhere.clone(), vec![at("m.lan/y")]),
        (nowhere.clone(), vec![]),
    ]);
    let one = stock(&[wanted.clone()], &mirrored, &shelf);
    assert_eq!(
        one,
        Stock {
            donors: donors.clone(),
            ..Stock::default()
        }
    );
    let sharers = || vec![at("m.lan/x"), at("m.lan/z")];
    assert_eq!(
        stock(&[wanted, again], &mirrored, &shelf),
        Stock {
            donors,
            shared: [own, elsewhere, nowhere].map(|d| (d, sharers())).into(),
            ..Stock::default()
        }
    );
}
