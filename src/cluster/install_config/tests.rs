use proptest::prelude::*;

use super::*;
use crate::cluster::objects::File;

const PEM: &str = "-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----\n";
const OTHER: &str = "-----BEGIN CERTIFICATE-----\nCCCC\n-----END CERTIFICATE-----\n";

const BASE: &str = "\
# our site
apiVersion: v1
baseDomain: site.lan # never changes

imageContentSources: # by hand
- source: quay.io/own
  mirrors: [m.lan/own]
- mirrors:
  - n.lan/release
  source: quay.io/openshift-release-dev/ocp-release
# who we are
metadata:
  name: one
additionalTrustBundle: |
  -----BEGIN CERTIFICATE-----
  CCCC
  -----END CERTIFICATE-----

# the last
pullSecret: '{\"auths\":{\"m.lan\":{\"auth\":\"YTpi\"}}}'";

fn wish(version: &str) -> Wish {
    let source = |source: &str, mirror: &str, policy| Source {
        source: source.to_owned(),
        mirrors: vec![mirror.to_owned()],
        policy,
    };
    Wish {
        version: Some(version.parse().unwrap()),
        sources: vec![
            source(
                "quay.io/openshift-release-dev/ocp-release",
                "m.lan/ocp/release-images",
                MirrorSourcePolicy::AllowContactingSource,
            ),
            source(
                "quay.io/openshift-release-dev/ocp-v4.0-art-dev",
                "m.lan/ocp/release",
                MirrorSourcePolicy::NeverContactSource,
            ),
        ],
        trust_bundle: PEM.to_owned(),
        pull_secret: r#"{"auths":{"m.lan":{"auth":"Yzpk"},"n.lan":{"auth":"ZTpm"}}}"#.to_owned(),
    }
}

#[test]
fn a_fragment_has_the_field_that_the_version_reads() {
    let old = wish("4.12.3").fragment().unwrap();
    assert!(old.text.starts_with("imageContentSources:\n  - source: quay.io/openshift-release-dev/ocp-release\n    mirrors:\n      - m.lan/ocp/release-images\n"), "{}", old.text);
    assert_eq!(old.notes.len(), 1);
    let middle = wish("4.14").fragment().unwrap();
    assert!(middle.text.starts_with("imageDigestSources:\n"));
    assert!(!middle.text.contains("sourcePolicy"));
    let new = wish("v4.22.0").fragment().unwrap();
    assert_eq!(
        new,
        Written {
            text: "\
imageDigestSources:
  - source: quay.io/openshift-release-dev/ocp-release
    mirrors:
      - m.lan/ocp/release-images
  - source: quay.io/openshift-release-dev/ocp-v4.0-art-dev
    mirrors:
      - m.lan/ocp/release
    sourcePolicy: NeverContactSource
additionalTrustBundle: |
  -----BEGIN CERTIFICATE-----
  AAAA
  BBBB
  -----END CERTIFICATE-----
additionalTrustBundlePolicy: Always
pullSecret: '{\"auths\":{\"m.lan\":{\"auth\":\"Yzpk\"},\"n.lan\":{\"auth\":\"ZTpm\"}}}'
"
            .to_owned(),
            notes: vec![],
        }
    );
    for bad in ["5.1", "4", "x", "4.x"] {
        assert!(bad.parse::<Version>().is_err(), "{bad}");
    }
}

#[test]
fn a_file_keeps_its_content_its_order_and_its_comments() {
    let written = wish("4.16").into_file("f", BASE.as_bytes()).unwrap();
    let expected = "\
# our site
apiVersion: v1
baseDomain: site.lan # never changes

# who we are
metadata:
  name: one
additionalTrustBundle: |
  -----BEGIN CERTIFICATE-----
  CCCC
  -----END CERTIFICATE-----
  -----BEGIN CERTIFICATE-----
  AAAA
  BBBB
  -----END CERTIFICATE-----

# the last
pullSecret: '{\"auths\":{\"m.lan\":{\"auth\":\"Yzpk\"},\"n.lan\":{\"auth\":\"ZTpm\"}}}'
imageDigestSources:
  - source: quay.io/own
    mirrors:
      - m.lan/own
  - mirrors:
      - m.lan/ocp/release-images
      - n.lan/release
    source: quay.io/openshift-release-dev/ocp-release
  - source: quay.io/openshift-release-dev/ocp-v4.0-art-dev
    mirrors:
      - m.lan/ocp/release
additionalTrustBundlePolicy: Always
";
    assert_eq!(written.text, expected);
    assert_eq!(
        written.notes[1],
        "`imageContentSources` became `imageDigestSources`, since both together are refused"
    );
    // Doing it again changes nothing.
    let again = wish("4.16")
        .into_file("f", written.text.as_bytes())
        .unwrap();
    assert_eq!(again.text, written.text);
    // Where the old name is right, the list stays where it is.
    let old = wish("4.13").into_file("f", BASE.as_bytes()).unwrap();
    assert!(
        old.text
            .contains("never changes\n\nimageContentSources:\n  - source: quay.io/own\n"),
        "{}",
        old.text
    );
    assert!(old.text.contains("\n# who we are\nmetadata:"));
}

#[test]
fn what_cannot_be_put_in_is_said() {
    let into = |text: &str| {
        wish("4.16")
            .into_file("f", text.as_bytes())
            .unwrap_err()
            .message
    };
    assert!(into("a: [").contains("not YAML"));
    assert!(into("- a").contains("not a mapping"));
    assert!(into("a: b\n---\nc: d\n").contains("one document"));
    assert!(into("{a: b}").contains("beginning of lines"));
    assert!(into("a: b\n...\n").contains("end mark"));
    assert!(into("pullSecret: x\n").contains("not JSON"));
    let wish = Wish {
        trust_bundle: "x".to_owned(),
        ..wish("4.16")
    };
    assert!(wish.fragment().unwrap_err().contains("no PEM certificate"));
}

#[test]
fn sources_are_the_digest_rules_as_nodes_merge_them() {
    let text = "\
apiVersion: config.openshift.io/v1
kind: ImageDigestMirrorSet
metadata: {name: a}
spec:
  imageDigestMirrors:
  - {source: quay.io/a, mirrors: [m.lan/b, m.lan/c], mirrorSourcePolicy: NeverContactSource}
  - {source: quay.io/a, mirrors: [m.lan/a, m.lan/b], mirrorSourcePolicy: NeverContactSource}
  - {source: '*.quay.io', mirrors: [m.lan]}
---
apiVersion: config.openshift.io/v1
kind: ImageTagMirrorSet
metadata: {name: a}
spec:
  imageTagMirrors:
  - {source: quay.io/b, mirrors: [m.lan/b]}
";
    let file = File {
        name: "f".to_owned(),
        bytes: text.into(),
    };
    let (sources, notes) = sources(&Objects::read(&[file])).unwrap();
    assert_eq!(
        sources,
        [Source {
            source: "quay.io/a".to_owned(),
            mirrors: ["m.lan/a", "m.lan/b", "m.lan/c"]
                .map(str::to_owned)
                .to_vec(),
            policy: MirrorSourcePolicy::NeverContactSource,
        }]
    );
    assert_eq!(notes.len(), 2);
}

fn plain(text: &str) -> Map<String, Value> {
    let documents = yaml::parse("f", text.as_bytes()).unwrap();
    assert_eq!(documents[0].problems, [], "{text}");
    match documents[0].root.as_ref().unwrap().plain() {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

/// Pieces of a file, of which any may be there in any order.
fn any_base() -> impl Strategy<Value = String> {
    let pieces = [
        "a: 1\n",
        "# c\nb: |\n  x\n\n  # no comment\n",
        "c:\n- 1\n# between\n- 2\n\n",
        "d: {e: f}\n\n# tail\n",
        "imageDigestSources: []\n",
        "imageContentSources:\n- source: quay.io/own\n  mirrors: [m.lan/own]\n",
        "additionalTrustBundle: |\n  -----BEGIN CERTIFICATE-----\n  CCCC\n  -----END CERTIFICATE-----\n",
        "additionalTrustBundlePolicy: Proxyonly\n",
        "pullSecret: '{\"auths\":{\"z.lan\":{\"auth\":\"YTpi\"}}}'\n",
        "\"g\": >-\n  h\n  i\n",
    ];
    let order = Just((0..pieces.len()).collect::<Vec<_>>()).prop_shuffle();
    (order, 1..=pieces.len(), any::<bool>()).prop_map(move |(order, number, cut)| {
        let text: String = order[..number].iter().map(|n| pieces[*n]).collect();
        match cut {
            true => text.trim_end_matches('\n').to_owned(),
            false => text,
        }
    })
}

proptest! {
    #[test]
    fn all_else_stays_as_it_is(base in any_base(), old in any::<bool>(), windows in any::<bool>()) {
        let base = if windows { base.replace('\n', "\r\n") } else { base };
        let wish = wish(if old { "4.12" } else { "4.16" });
        let written = wish.into_file("f", base.as_bytes()).unwrap().text;
        let (before, after) = (plain(&base), plain(&written));
        let touched = ["imageDigestSources", "imageContentSources", BUNDLE, BUNDLE_POLICY, SECRET];
        for (key, value) in before.iter().filter(|(key, _)| !touched.contains(&key.as_str())) {
            prop_assert_eq!(after.get(key), Some(value), "{}", key);
        }
        let (here, gone) = if old { ("imageContentSources", "imageDigestSources") } else { ("imageDigestSources", "imageContentSources") };
        prop_assert!(after.contains_key(here) && !after.contains_key(gone));
        for comment in ["# c", "# no comment", "# between", "# tail"] {
            prop_assert_eq!(base.contains(comment), written.contains(comment), "{}\n{}", comment, written);
        }
        if let Some(own) = before.get(BUNDLE_POLICY) {
            prop_assert_eq!(after.get(BUNDLE_POLICY), Some(own));
        }
        prop_assert!(after[BUNDLE].as_str().unwrap().contains("AAAA"));
        prop_assert_eq!(before.contains_key(BUNDLE), after[BUNDLE].as_str().unwrap().contains(OTHER.lines().nth(1).unwrap()));
        prop_assert_eq!(wish.into_file("f", written.as_bytes()).unwrap().text, written);
    }
}
