use super::*;
use crate::model::catalog::testing::{documents, package};

/// foo as in oc-mirror's own tests, with a second channel.
fn foo() -> Package {
    package(&documents(
        "foo",
        &[
            (
                "beta",
                "0.1.0 0.2.0<0.1.0~0.1.1~0.1.2 0.3.0<0.2.0 0.3.1<0.2.0~0.3.0 0.1.1 0.1.2",
            ),
            ("alpha", "0.1.0 0.2.0<0.1.0"),
        ],
    ))
}

fn named(text: &str) -> imageset::Package {
    let mut named = imageset::Package {
        name: "foo".into(),
        default_channel: None,
        min_version: None,
        max_version: None,
        min_bundle: None,
        channels: vec![],
    };
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap();
        match key {
            "min" => named.min_version = Some(value.parse().unwrap()),
            "max" => named.max_version = Some(value.parse().unwrap()),
            "bundle" => named.min_bundle = Some(value.into()),
            "default" => named.default_channel = Some(value.into()),
            "channel" => {
                let mut parts = value.split(',');
                let name = parts.next().unwrap().to_owned();
                let mut version = || {
                    let text = parts.next().filter(|text| !text.is_empty())?;
                    Some(text.parse().unwrap())
                };
                named.channels.push(imageset::PackageChannel {
                    name,
                    min_version: version(),
                    max_version: version(),
                    min_bundle: None,
                });
            }
            other => panic!("{other}"),
        }
    }
    named
}

/// What is kept as `channel: entries`, the default channel with a star.
fn shown(package: &Package, kept: &Kept) -> String {
    let channels = kept.channels.iter().map(|(name, entries)| {
        let star = if *name == kept.default_channel {
            "*"
        } else {
            ""
        };
        let channel = package.channel(name).unwrap();
        let names = entries
            .iter()
            .map(|at| channel.entries[*at].name.split_once(".v").unwrap().1);
        format!("{name}{star}: {}", names.collect::<Vec<_>>().join(" "))
    });
    channels.collect::<Vec<_>>().join("; ")
}

fn keeps(package: &Package, rule: Rule<'_>) -> String {
    match filter(package, rule) {
        Ok(kept) => shown(package, &kept),
        Err(why) => format!("error: {why}"),
    }
}

#[test]
fn forms_keep_what_oc_mirror_keeps() {
    let all = foo();
    assert_eq!(keeps(&all, Rule::Heads), "alpha: 0.2.0; beta*: 0.3.1");
    assert_eq!(
        keeps(&all, Rule::Full),
        "alpha: 0.1.0 0.2.0; beta*: 0.1.0 0.2.0 0.3.0 0.3.1 0.1.1 0.1.2"
    );
    for (text, kept) in [
        ("", "alpha: 0.2.0; beta*: 0.3.1"),
        ("channel=beta", "beta*: 0.3.1"),
        ("channel=alpha default=alpha", "alpha*: 0.2.0"),
        ("channel=alpha", "alpha*: 0.2.0"),
        ("channel=beta,0.2.0,0.3.1", "beta*: 0.2.0 0.3.0 0.3.1"),
        ("channel=beta,0.3.1,0.3.1", "beta*: 0.3.1"),
        ("channel=beta,0.3.0,0.3.0", "beta*: 0.3.0"),
        ("channel=beta,0.1.1,0.1.1", "beta*: 0.1.1"),
        ("channel=beta,0.3.0", "beta*: 0.3.0 0.3.1"),
        (
            "channel=beta channel=alpha,,0.1.0",
            "alpha: 0.1.0; beta*: 0.3.1",
        ),
        ("min=0.2.0", "alpha: 0.2.0; beta*: 0.2.0 0.3.0 0.3.1"),
        ("min=0.3.0", "beta*: 0.3.0 0.3.1"),
        ("max=0.1.0", "alpha: 0.1.0; beta*: 0.1.0"),
        ("min=0.2.0 channel=alpha", "alpha*: 0.2.0"),
        ("bundle=foo.v0.3.0", "beta*: 0.3.0 0.3.1"),
    ] {
        assert_eq!(
            keeps(&all, Rule::Named(&named(text), false)),
            kept,
            "{text}"
        );
    }
    assert_eq!(
        keeps(&all, Rule::Named(&named("channel=alpha"), true)),
        "alpha*: 0.1.0 0.2.0"
    );
}

#[test]
fn what_is_not_there_is_refused_with_the_nearest() {
    let all = foo();
    for (text, why) in [
        (
            "channel=bta",
            "the package `foo` has no channel `bta`; did you mean `beta`?",
        ),
        (
            "channel=x",
            "the package `foo` has no channel `x`; known here are `alpha` and `beta`",
        ),
        (
            "default=gamma",
            "`defaultChannel: gamma` names no channel that is kept of `foo`; known here are `alpha` and `beta`",
        ),
        (
            "channel=alpha default=beta",
            "`defaultChannel: beta` names no channel that is kept of `foo`; only `alpha` is known here",
        ),
        (
            "channel=beta,0.4.0",
            "the channel `beta` of `foo` has no bundle from 0.4.0 on; its versions are from 0.1.0 to 0.3.1",
        ),
        (
            "channel=beta,0.2.5,0.2.5",
            "the channel `beta` of `foo` has no bundle of version 0.2.5; the nearest is 0.3.0",
        ),
        (
            "min=1.0.0 max=2.0.0",
            "the package `foo` has no bundle from 1.0.0 to 2.0.0; its versions are from 0.1.0 to 0.3.1",
        ),
        (
            "channel=alpha,0.3.0",
            "the channel `alpha` of `foo` has no bundle from 0.3.0 on; its versions are from 0.1.0 to 0.2.0",
        ),
        (
            "bundle=fo.v0.3.1",
            "the package `foo` has no bundle `fo.v0.3.1`; did you mean `foo.v0.3.1`?",
        ),
    ] {
        assert_eq!(
            keeps(&all, Rule::Named(&named(text), false)),
            format!("error: {why}"),
            "{text}"
        );
    }
    let two = package(&documents(
        "foo",
        &[("gone", "3.0.0"), ("a", "1.0.0"), ("b", "1.1.0")],
    ));
    assert_eq!(
        keeps(&two, Rule::Named(&named("max=2.0.0"), false)),
        "error: the default channel `gone` of `foo` is not kept; say which of `a`, `b` takes its place, with `defaultChannel`"
    );
}

#[test]
fn reasons_and_warnings_are_told() {
    let odd = package(&documents(
        "foo",
        &[(
            "s",
            "3.0.0<2.5.0 2.5.0<2.0.0~2.4.0 2.0.0<1.0.0-1 1.0.0-1 2.4.0",
        )],
    ));
    let kept = filter(&odd, Rule::Named(&named("channel=s,2.4.0,2.4.9"), false)).unwrap();
    assert_eq!(shown(&odd, &kept), "s*: 2.5.0 2.4.0");
    let why = |name: &str| kept.bundles[&format!("foo.v{name}")].clone();
    assert_eq!((why("2.5.0"), why("2.4.0")), (Why::Between, Why::Range));
    assert_eq!(
        kept.warnings,
        [
            "the channel `s` of `foo` keeps foo.v2.5.0 beside the range from 2.4.0 to 2.4.9, since the updates in it lead over them"
        ]
    );
    let kept = filter(&odd, Rule::Named(&named("min=1.0.0 max=2.0.0"), false)).unwrap();
    assert_eq!(shown(&odd, &kept), "s*: 2.0.0");
    assert_eq!(
        kept.warnings,
        [
            "the channel `s` of `foo` leaves out foo.v1.0.0-1: pre-releases come before 1.0.0; `minVersion: 1.0.0-0` takes them"
        ]
    );
    let nothing = named("min=1.0.0 max=1.5.0");
    assert_eq!(
        keeps(&odd, Rule::Named(&nothing, false)),
        "error: the package `foo` has no bundle from 1.0.0 to 1.5.0; 1.0.0-1 comes before 1.0.0; `minVersion: 1.0.0-0` takes it"
    );
    // Build metadata does not count, pre-releases do: as the real jaeger-product has them.
    let jaeger = package(&documents(
        "foo",
        &[(
            "stable",
            "1.30.2 1.34.1-5<1.30.2 1.42.0-5 1.42.0-5+0.1687<1.34.1-5~1.42.0-5 1.47.1-5<1.42.0-5+0.1687",
        )],
    ));
    for (text, kept) in [
        (
            "channel=stable,1.42.0-5,1.42.0-5",
            "stable*: 1.42.0-5 1.42.0-5+0.1687",
        ),
        (
            "channel=stable,1.34.1-5,1.42.0",
            "stable*: 1.34.1-5 1.42.0-5 1.42.0-5+0.1687",
        ),
        ("min=1.42.0-0", "stable*: 1.42.0-5 1.42.0-5+0.1687 1.47.1-5"),
    ] {
        assert_eq!(
            keeps(&jaeger, Rule::Named(&named(text), false)),
            kept,
            "{text}"
        );
    }
}

#[test]
fn a_bundle_that_cannot_be_mirrored_gives_way_to_the_one_below() {
    let broken = |bad: &[&str]| {
        let mut all = documents(
            "foo",
            &[("s", "3.0.0<2.0.0 2.0.0<1.0.0 1.0.0"), ("t", "3.0.0")],
        );
        for document in &mut all {
            if bad
                .iter()
                .any(|version| document["name"] == format!("foo.v{version}"))
            {
                document["relatedImages"][0]["image"] = "".into();
            }
        }
        package(&all)
    };
    let top = broken(&["3.0.0"]);
    let kept = filter(&top, Rule::Heads).unwrap();
    assert_eq!(shown(&top, &kept), "s*: 2.0.0");
    let why = "it names an image without a name".to_owned();
    assert_eq!(
        kept.stalled,
        BTreeMap::from([("foo.v3.0.0".to_owned(), why.clone())])
    );
    let middle = broken(&["2.0.0"]);
    let kept = filter(&middle, Rule::Full).unwrap();
    assert_eq!(shown(&middle, &kept), "s*: 3.0.0 2.0.0 1.0.0; t: 3.0.0");
    assert_eq!(
        kept.stalled,
        BTreeMap::from([("foo.v2.0.0".to_owned(), why)])
    );
    let all = broken(&["1.0.0", "2.0.0", "3.0.0"]);
    assert_eq!(
        filter(&all, Rule::Heads).unwrap_err(),
        "no bundle of `foo` that is asked for can be mirrored (foo.v1.0.0: it names an image without a name; foo.v2.0.0: it names an image without a name; foo.v3.0.0: it names an image without a name)"
    );
}

#[test]
fn a_broken_package_says_what_its_publisher_has_to_know() {
    let broken = |change: &dyn Fn(&mut Vec<serde_json::Value>)| {
        let mut all = documents("foo", &[("s", "2.0.0<1.0.0 1.0.0")]);
        change(&mut all);
        keeps(&package(&all), Rule::Heads)
    };
    assert_eq!(
        broken(&|all| drop(all.remove(0))),
        "error: the catalog has 0 documents of the schema olm.package for `foo`, and one is expected; tell the catalog's publisher"
    );
    assert_eq!(
        broken(&|all| all.push(all[2].clone())),
        "error: the catalog has the bundle `foo.v1.0.0` of `foo` twice; tell the catalog's publisher"
    );
    assert_eq!(
        broken(&|all| drop(all.remove(2))),
        "error: the channel `s` of `foo` names the bundle `foo.v1.0.0`, which is not in the catalog; tell the catalog's publisher"
    );
    assert_eq!(
        broken(&|all| drop(
            all[1]["entries"][0]
                .as_object_mut()
                .unwrap()
                .remove("replaces")
        )),
        "error: the channel `s` of `foo` has several heads: `foo.v2.0.0`, `foo.v1.0.0`, which OLM refuses; tell the catalog's publisher"
    );
    assert_eq!(
        broken(&|all| drop(all.remove(1))),
        "error: the package `foo` has no channels"
    );
}
