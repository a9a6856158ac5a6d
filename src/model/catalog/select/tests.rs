use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::{
    catalog::{
        document, render,
        testing::{Memory, bundle, documents, packed},
    },
    imageset::{Package as Named, PackageChannel},
};

fn operator(packages: Vec<Named>) -> Operator {
    Operator {
        catalog: "r.io/index:v1".into(),
        full: false,
        target_catalog: None,
        target_tag: None,
        target_catalog_source_template: None,
        skip_dependencies: false,
        platforms: vec![],
        packages,
    }
}

fn named(name: &str) -> Named {
    Named {
        name: name.into(),
        default_channel: None,
        min_version: None,
        max_version: None,
        min_bundle: None,
        channels: vec![],
    }
}

fn select_of(catalogs: &mut [(Operator, Memory)]) -> Vec<Selected> {
    let mut asked: Vec<Asked<'_, Memory>> = catalogs
        .iter_mut()
        .map(|(operator, source)| Asked {
            operator,
            source: Some(source),
        })
        .collect();
    select(&mut asked).unwrap()
}

/// Bundles with why they are there.
fn shown(selected: &Selected) -> Vec<String> {
    let packages = selected.packages.values();
    packages
        .flat_map(|package| &package.bundles)
        .map(|(name, bundle)| match &bundle.why {
            Why::Dependency {
                bundle, requires, ..
            } => format!("{name}: {bundle} requires {requires}"),
            why => format!("{name}: {why:?}"),
        })
        .collect()
}

fn requires_package(name: &str, range: &str) -> Value {
    json!({"type": "olm.package.required", "value": {"packageName": name, "versionRange": range}})
}

fn gvk(kind: &str, name: &str) -> Value {
    json!({"type": kind, "value": {"group": "g.io", "version": "v1", "kind": name}})
}

/// Gives bundles of a catalog further properties.
fn with(mut all: Vec<Value>, changes: &[(&str, &str, &[Value])]) -> Vec<Value> {
    for (package, version, properties) in changes {
        let changed = bundle(package, version, properties);
        let place = all
            .iter_mut()
            .find(|d| d["name"] == changed["name"])
            .unwrap();
        *place = changed;
    }
    all
}

fn two_catalogs() -> (Vec<Value>, Vec<Value>) {
    let mut first = documents("foo", &[("s", "2.0.0<1.0.0 1.0.0")]);
    first.extend(documents(
        "bar",
        &[("s", "0.3.0<0.2.0 0.2.0<0.1.0 0.1.0"), ("old", "0.1.0")],
    ));
    let first = with(
        first,
        &[
            (
                "foo",
                "2.0.0",
                &[
                    requires_package("bar", "<0.3.0"),
                    gvk("olm.gvk.required", "Baz"),
                ],
            ),
            ("bar", "0.2.0", &[requires_package("qux", ">=1.0.0")]),
        ],
    );
    let mut second = documents("baz", &[("a", "1.1.0<1.0.0 1.0.0"), ("b", "1.0.0")]);
    second.extend(documents("other", &[("a", "1.0.0")]));
    let second = with(
        second,
        &[
            ("baz", "1.1.0", &[gvk("olm.gvk", "Baz")]),
            ("baz", "1.0.0", &[gvk("olm.gvk", "Baz")]),
        ],
    );
    (first, second)
}

#[test]
fn what_named_packages_require_is_kept_from_whichever_catalog_has_it() {
    let (first, second) = two_catalogs();
    let mut catalogs = [
        (operator(vec![named("foo")]), packed(&first)),
        (operator(vec![named("other")]), packed(&second)),
    ];
    let selected = select_of(&mut catalogs);
    assert_eq!(
        shown(&selected[0]),
        [
            "bar.v0.2.0: foo.v2.0.0 requires bar <0.3.0",
            "foo.v2.0.0: Head"
        ]
    );
    assert_eq!(
        shown(&selected[1]),
        [
            "baz.v1.1.0: foo.v2.0.0 requires g.io/v1 Baz",
            "other.v1.0.0: Head"
        ]
    );
    let unsatisfied: Vec<_> = selected[0].unsatisfied.iter().cloned().collect();
    assert_eq!(
        unsatisfied,
        [Unsatisfied {
            package: "bar".into(),
            bundle: "bar.v0.2.0".into(),
            requires: "qux >=1.0.0".into(),
            reason: "no catalog of the image set has the package `qux`".into(),
        }]
    );
    let bar = &selected[0].packages["bar"];
    assert_eq!(bar.default_channel, "s");
    assert_eq!(bar.channels["s"].head, "bar.v0.2.0");
}

#[test]
fn what_is_kept_already_satisfies_and_dependencies_can_be_left_out() {
    let (first, second) = two_catalogs();
    let range = Named {
        channels: vec![PackageChannel {
            name: "s".into(),
            min_version: Some("0.1.0".parse().unwrap()),
            max_version: Some("0.1.0".parse().unwrap()),
            min_bundle: None,
        }],
        ..named("bar")
    };
    let mut catalogs = [
        (operator(vec![named("foo"), range]), packed(&first)),
        (operator(vec![]), packed(&second)),
    ];
    let selected = select_of(&mut catalogs);
    assert_eq!(
        shown(&selected[0]),
        ["bar.v0.1.0: Range", "foo.v2.0.0: Head"]
    );
    assert_eq!(
        shown(&selected[1]),
        ["baz.v1.0.0: Head", "baz.v1.1.0: Head", "other.v1.0.0: Head"]
    );
    let without = Operator {
        skip_dependencies: true,
        ..operator(vec![named("foo")])
    };
    let mut catalogs = [(without, packed(&first))];
    let selected = select_of(&mut catalogs);
    assert_eq!(shown(&selected[0]), ["foo.v2.0.0: Head"]);
    assert_eq!(selected[0].unsatisfied, BTreeSet::new());
}

#[test]
fn a_channel_that_is_kept_is_extended_down_to_what_is_required() {
    let all = with(
        [
            documents("foo", &[("s", "1.0.0")]),
            documents("bar", &[("s", "4.0.0<3.0.0 3.0.0<2.0.0 2.0.0<1.0.0 1.0.0")]),
        ]
        .concat(),
        &[("foo", "1.0.0", &[requires_package("bar", "2.x")])],
    );
    let mut catalogs = [(operator(vec![named("foo"), named("bar")]), packed(&all))];
    assert_eq!(
        shown(&select_of(&mut catalogs)[0]),
        [
            "bar.v2.0.0: foo.v1.0.0 requires bar 2.x",
            "bar.v3.0.0: Between",
            "bar.v4.0.0: Head",
            "foo.v1.0.0: Head"
        ]
    );
}

#[test]
fn constraints_are_met_by_one_or_all_of_their_parts() {
    let constraint = |value: Value| json!({"type": "olm.constraint", "value": value});
    let package = |name: &str| json!({"package": {"packageName": name, "versionRange": ">=1.0.0"}});
    let all = |properties: &[Value]| {
        let all = [
            documents("foo", &[("s", "1.0.0")]),
            documents("a", &[("s", "1.0.0")]),
            documents("b", &[("s", "1.0.0")]),
        ];
        let all = with(all.concat(), &[("foo", "1.0.0", properties)]);
        let mut catalogs = [(operator(vec![named("foo")]), packed(&all))];
        let selected = select_of(&mut catalogs).remove(0);
        let names: Vec<String> = selected.packages.into_keys().collect();
        let reasons: Vec<String> = selected.unsatisfied.into_iter().map(|u| u.reason).collect();
        (names.join(" "), reasons.join("; "))
    };
    for (value, names, reason) in [
        (
            json!({"any": {"constraints": [package("x"), package("b"), package("a")]}}),
            "b foo",
            "",
        ),
        (
            json!({"all": {"constraints": [package("a"), package("b")]}}),
            "a b foo",
            "",
        ),
        (json!({"not": {"constraints": [package("a")]}}), "foo", ""),
        (
            json!({"all": {"constraints": [package("a"), package("x")]}}),
            "foo",
            "no catalog of the image set has the package `x`",
        ),
        (
            json!({"cel": {"rule": "true"}}),
            "foo",
            "what it says is evaluated by clusters only; name the packages it means",
        ),
    ] {
        assert_eq!(
            all(&[constraint(value.clone())]),
            (names.into(), reason.into()),
            "{value}"
        );
    }
    assert_eq!(
        all(&[requires_package("a", "latest")]).1,
        "`latest` is no range of versions; tell the bundle's publisher"
    );
    assert_eq!(
        all(&[requires_package("a", ">1.0.0")]).1,
        "no bundle of `a` that can be mirrored has a version in >1.0.0"
    );
}

#[test]
fn an_unknown_package_stalls_itself_only() {
    let (first, _) = two_catalogs();
    let mut catalogs = [(
        operator(vec![named("foo"), named("barr"), named("zzzz")]),
        packed(&first),
    )];
    let selected = select_of(&mut catalogs).remove(0);
    assert!(selected.packages.contains_key("foo"));
    let problems: Vec<_> = selected.problems.values().cloned().collect();
    assert_eq!(
        problems,
        [
            "the catalog has no package `barr`; did you mean `bar`?",
            "the catalog has no package `zzzz`; `imagesetd catalog list` lists those it has"
        ]
    );
}

#[test]
fn documents_are_cut_down_to_what_is_kept() {
    let mut all = documents("foo", &[("s", "2.0.0<1.0.0 1.0.0"), ("t", "1.0.0")]);
    all.push(
        json!({"schema": "olm.deprecations", "package": "foo", "entries": [
        {"reference": {"schema": "olm.package"}, "message": "p"},
        {"reference": {"schema": "olm.channel", "name": "t"}, "message": "t"},
        {"reference": {"schema": "olm.bundle", "name": "foo.v1.0.0"}, "message": "1"},
        {"reference": {"schema": "olm.bundle", "name": "foo.v2.0.0"}, "message": "2"}]}),
    );
    all.push(json!({"schema": "io.lifecycle", "package": "foo", "x": 1}));
    all.push(json!({"schema": "io.loose", "y": 1}));
    all.push(json!({"schema": "io.lifecycle", "package": "gone", "x": 1}));
    let channel = Named {
        channels: vec![PackageChannel {
            name: "s".into(),
            min_version: None,
            max_version: None,
            min_bundle: None,
        }],
        ..named("foo")
    };
    let mut catalogs = [(operator(vec![channel]), packed(&all))];
    let selected = select_of(&mut catalogs).remove(0);
    let mut found: Vec<(String, Value)> = Vec::new();
    render::documents(&mut catalogs[0].1, &selected, |package, bytes| {
        found.push((package.to_owned(), serde_json::from_slice(&bytes).unwrap()));
        Ok::<_, PackError>(())
    })
    .unwrap();
    let of = |package: &str, document: Value| (package.to_owned(), document);
    assert_eq!(
        found,
        [
            of("", json!({"schema": "io.loose", "y": 1})),
            of(
                "foo",
                json!({"schema": "olm.package", "name": "foo", "defaultChannel": "s"})
            ),
            of(
                "foo",
                json!({"schema": "olm.channel", "package": "foo", "name": "s",
                "entries": [{"name": "foo.v2.0.0", "replaces": "foo.v1.0.0"}]})
            ),
            of("foo", bundle("foo", "2.0.0", &[])),
            of(
                "foo",
                json!({"schema": "io.lifecycle", "package": "foo", "x": 1})
            ),
            of(
                "foo",
                json!({"schema": "olm.deprecations", "package": "foo", "entries": [
                {"reference": {"schema": "olm.package"}, "message": "p"},
                {"reference": {"schema": "olm.bundle", "name": "foo.v2.0.0"}, "message": "2"}]})
            ),
        ]
    );
    let mut images = Vec::new();
    render::images(&mut catalogs[0].1, &selected, |named| {
        images.push(named);
        true
    })
    .unwrap();
    let images: Vec<_> = images
        .iter()
        .map(|named| (&*named.image.image, named.image.is_bundle))
        .collect();
    assert_eq!(
        images,
        [
            ("r.io/foo/bundle:v2.0.0", true),
            ("r.io/foo/operator:v2.0.0", false)
        ]
    );
}

/// A catalog drawn from a seed: channels are chains with skips, bundles require one another.
fn random(rng: &mut fastrand::Rng) -> Vec<Value> {
    let mut all = Vec::new();
    let packages = rng.usize(1..6);
    for package in 0..packages {
        let name = format!("p{package}");
        let versions: Vec<String> = (0..rng.usize(1..9))
            .map(|n| match rng.u8(0..4) {
                0 => format!("{}.{}.0-{}", 1 + n / 4, n % 4, rng.u8(1..9)),
                1 => format!("{}.{}.0+b.{n}", 1 + n / 4, n % 4),
                _ => format!("{}.{}.0", 1 + n / 4, n % 4),
            })
            .collect();
        let channels: Vec<(String, String)> = (0..rng.usize(1..4))
            .map(|channel| (format!("c{channel}"), random_channel(rng, &versions)))
            .collect();
        let named: Vec<(&str, &str)> = channels
            .iter()
            .map(|(n, t)| (n.as_str(), t.as_str()))
            .collect();
        let mut own = documents(&name, &named);
        for document in own.iter_mut().filter(|d| d["schema"] == "olm.bundle") {
            let mut properties = vec![gvk("olm.gvk", &format!("K{package}"))];
            if rng.u8(0..3) == 0 {
                properties.push(random_requirement(rng, packages));
            }
            let version = document["properties"][0]["value"]["version"]
                .as_str()
                .unwrap()
                .to_owned();
            *document = bundle(&name, &version, &properties);
            if rng.u8(0..12) == 0 {
                document["relatedImages"][0]["image"] = "".into();
            }
        }
        all.extend(own);
    }
    all
}

fn random_channel(rng: &mut fastrand::Rng, versions: &[String]) -> String {
    let mut words = Vec::new();
    let mut below: Option<&String> = None;
    let mut asides: Vec<&String> = Vec::new();
    for version in versions {
        match rng.u8(0..6) {
            0 => continue,
            1 | 2 => asides.push(version),
            _ => {
                let mut word = version.clone();
                if let Some(below) = below {
                    word += &format!("<{below}");
                }
                for aside in asides.drain(..) {
                    word += &format!("~{aside}");
                    words.push(aside.clone());
                }
                words.push(word);
                below = Some(version);
            }
        }
    }
    match below {
        Some(_) => words.join(" "),
        None => versions[0].clone(),
    }
}

fn random_requirement(rng: &mut fastrand::Rng, packages: usize) -> Value {
    let name = format!("p{}", rng.usize(0..packages + 1));
    let ranges = [">=1.0.0", "<1.2.0", ">1.1.0 <2.0.0", "1.x", ">=9.0.0"];
    match rng.u8(0..3) {
        0 => gvk(
            "olm.gvk.required",
            &format!("K{}", rng.usize(0..packages + 1)),
        ),
        1 => requires_package(&name, ranges[rng.usize(..ranges.len())]),
        _ => json!({"type": "olm.constraint", "value": {"any": {"constraints": [
            {"package": {"packageName": name, "versionRange": ranges[rng.usize(..ranges.len())]}},
            {"gvk": {"group": "g.io", "version": "v1", "kind": "K0"}}]}}}),
    }
}

fn random_filter(rng: &mut fastrand::Rng) -> Operator {
    let version = |rng: &mut fastrand::Rng| {
        let some = rng.u8(0..3) > 0;
        some.then(|| semver::Version::new(rng.u64(1..4), rng.u64(0..4), 0))
    };
    let bounds = |rng: &mut fastrand::Rng| match (version(rng), version(rng)) {
        (Some(min), Some(max)) if min > max => (Some(max), Some(min)),
        bounds => bounds,
    };
    let packages = (0..rng.usize(0..4)).map(|n| {
        let mut package = named(&format!("p{n}"));
        match rng.u8(0..4) {
            0 => (package.min_version, package.max_version) = bounds(rng),
            1 | 2 => {
                for channel in 0..rng.usize(1..3) {
                    let (min_version, max_version) = bounds(rng);
                    package.channels.push(PackageChannel {
                        name: format!("c{channel}"),
                        min_version,
                        max_version,
                        min_bundle: None,
                    });
                }
            }
            _ => {}
        }
        if rng.bool() {
            package.default_channel = Some(format!("c{}", rng.u8(0..2)));
        }
        package
    });
    let packages: Vec<Named> = packages.collect();
    Operator {
        full: rng.u8(0..4) == 0
            && packages.iter().all(|p| {
                p.min_version.is_none()
                    && p.max_version.is_none()
                    && p.channels
                        .iter()
                        .all(|c| c.min_version.is_none() && c.max_version.is_none())
            }),
        skip_dependencies: rng.u8(0..4) == 0,
        ..operator(packages)
    }
}

/// The documents of what is kept, parsed.
fn rendered(catalog: &mut Memory, selected: &Selected) -> Vec<Value> {
    let mut found = Vec::new();
    render::documents(catalog, selected, |_, bytes| {
        found.push(serde_json::from_slice(&bytes).unwrap());
        Ok::<_, PackError>(())
    })
    .unwrap();
    found
}

/// Checks what OLM checks of a catalog.
fn check(documents: &[Value]) -> Result<(), TestCaseError> {
    let text = |d: &Value, key: &str| d[key].as_str().unwrap_or_default().to_owned();
    let of = |schema: &str| {
        documents
            .iter()
            .filter(move |d| d["schema"] == schema)
            .cloned()
            .collect::<Vec<_>>()
    };
    for package in of("olm.package") {
        let name = text(&package, "name");
        let channels: Vec<Value> = of("olm.channel")
            .into_iter()
            .filter(|c| text(c, "package") == name)
            .collect();
        prop_assert!(
            channels
                .iter()
                .any(|c| c["name"] == package["defaultChannel"]),
            "{name} has no default channel"
        );
        let bundles: BTreeSet<String> = of("olm.bundle")
            .iter()
            .filter(|b| text(b, "package") == name)
            .map(|b| text(b, "name"))
            .collect();
        let mut used = BTreeSet::new();
        for channel in channels {
            let document = document::read(channel.to_string().as_bytes()).unwrap();
            let document::Content::Channel(entries) = document.content else {
                panic!()
            };
            let graph = Graph::new(&entries);
            prop_assert!(graph.is_ok(), "{channel}: {}", graph.unwrap_err());
            used.extend(entries.into_iter().map(|e| e.name));
        }
        prop_assert_eq!(bundles, used);
    }
    Ok(())
}

/// Checks that a channel has of its original what was asked for: all links in the range, or all, or the highest.
fn asked_for(
    filter: &Operator,
    package: &Named,
    index: &super::super::pack::Package,
    name: &str,
    kept: &SelectedChannel,
) -> Result<(), TestCaseError> {
    let named = package.channels.iter().find(|c| c.name == name);
    if named.is_none() && !package.channels.is_empty() {
        // It is there since something else requires it.
        return Ok(());
    }
    let own = named.map(|c| (&c.min_version, &c.max_version));
    let own = own.filter(|(min, max)| min.is_some() || max.is_some());
    let (min, max) = own.unwrap_or((&package.min_version, &package.max_version));
    let graph = Graph::new(&index.channel(name).unwrap().entries).unwrap();
    let links = graph.chain().iter();
    let links = links.map(|at| index.bundle(graph.name(*at)).unwrap());
    let mut usable = links.filter(|bundle| bundle.facts.unusable.is_none());
    if min.is_none() && max.is_none() && !filter.full {
        let head = usable.next().map(|bundle| bundle.name.as_str());
        prop_assert_eq!(Some(kept.head.as_str()), head);
        return Ok(());
    }
    for bundle in usable {
        let version = semver::Version::parse(&bundle.facts.version).unwrap();
        let above = |min: &semver::Version| version.cmp_precedence(min).is_ge();
        let below = |max: &semver::Version| version.cmp_precedence(max).is_le();
        if min.as_ref().is_none_or(above) && max.as_ref().is_none_or(below) {
            prop_assert!(kept.entries.contains(&bundle.name), "{}", bundle.name);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_result_is_what_olm_takes_has_what_was_asked_for_and_is_stable(seed: u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let all = random(&mut rng);
        let filter = random_filter(&mut rng);
        let mut first = [(filter.clone(), packed(&all))];
        let selected = select_of(&mut first).remove(0);
        let kept = rendered(&mut first[0].1, &selected);
        check(&kept)?;
        for package in &filter.packages {
            let is_there = selected.packages.contains_key(&package.name);
            prop_assert_ne!(is_there, selected.problems.contains_key(&package.name));
            let Some(part) = selected.packages.get(&package.name) else { continue };
            for channel in &package.channels {
                prop_assert!(part.channels.contains_key(&channel.name));
            }
            if let Some(default) = &package.default_channel {
                prop_assert_eq!(&part.default_channel, default);
            }
            let index = first[0].1.package(&package.name).unwrap().unwrap();
            for (name, channel) in &part.channels {
                asked_for(&filter, package, &index, name, channel)?;
            }
        }
        let mut second = [(filter, packed(&kept))];
        let again = select_of(&mut second).remove(0);
        if selected.problems.is_empty() {
            prop_assert_eq!(rendered(&mut second[0].1, &again), kept);
        }
    }
}
