use super::*;
use crate::{
    cluster::{Purpose, objects::File},
    model::policy::MirrorSourcePolicy,
};

/// A document of rules such as `quay.io/a m.lan/a` (with `!` before the source: NeverContactSource).
fn document(set: &str, kind: Kind, rules: &[&str]) -> Document {
    let rule = |text: &&str| {
        let (source, mirror) = text.split_once(' ').unwrap();
        let policy = match source.strip_prefix('!') {
            Some(_) => MirrorSourcePolicy::NeverContactSource,
            None => MirrorSourcePolicy::AllowContactingSource,
        };
        Rule {
            source: source.trim_start_matches('!').parse().unwrap(),
            mirrors: vec![mirror.parse().unwrap()],
            policy,
        }
    };
    let rules = rules.iter().map(rule).collect();
    Document::new(SetName(set.to_owned()), Purpose::Additional, kind, rules)
}

fn digests(set: &str, rules: &[&str]) -> Document {
    document(set, Kind::Digest, rules)
}

fn tags(set: &str, rules: &[&str]) -> Document {
    document(set, Kind::Tag, rules)
}

fn picture(cluster: &str, image_sets: &[&str], objects: Result<&str, &str>) -> Picture {
    let read = |text: &str| {
        Objects::read(&[File {
            name: cluster.to_owned(),
            bytes: text.as_bytes().to_vec(),
        }])
    };
    Picture {
        cluster: cluster.to_owned(),
        image_sets: image_sets.iter().map(ToString::to_string).collect(),
        objects: objects.map(read).map_err(str::to_owned),
        taken: None,
    }
}

/// What is written, with the number of its rules.
type Written = Vec<(String, usize)>;

/// What waits, with why.
type Waits = Vec<(String, String)>;

/// What is written and what waits.
fn sifted(
    published: &[Document],
    rendered: &[Document],
    pictures: &[Picture],
    waiting: &[&str],
) -> (Written, Waits) {
    let waits = |set: &SetName| waiting.contains(&set.0.as_str());
    let (written, held) = sift(published, rendered, pictures, waits);
    let written = written.into_iter().map(|d| (d.file_name, d.rules.len()));
    let held = held.into_iter().map(|h| (h.file_name, h.why));
    (written.collect(), held.collect())
}

const ALL: &[&str] = &["a", "b"];

fn rules(file: &str, count: usize) -> (String, usize) {
    (file.to_owned(), count)
}

fn why(file: &str, why: &str) -> (String, String) {
    (file.to_owned(), why.to_owned())
}

#[test]
fn a_first_tag_rule_waits_and_digest_rules_do_not() {
    let published = [digests("a", &["q.io/a m.lan/a"])];
    let rendered = [
        digests("a", &["q.io/a m.lan/a", "q.io/b m.lan/b"]),
        tags("a", &["q.io/c m.lan/c"]),
    ];
    assert_eq!(
        sifted(&published, &rendered, &[], ALL),
        (
            vec![rules("idms-a-additional.yaml", 2)],
            vec![why(
                "itms-a-additional.yaml",
                "it drains nodes (`q.io/c` is new and has a tag rule, to `m.lan/c`)"
            )]
        )
    );
}

#[test]
fn nothing_waits_of_an_image_set_that_does_not_wait() {
    let rendered = [
        tags("a", &["q.io/c m.lan/c"]),
        tags("b", &["q.io/d m.lan/d"]),
    ];
    let (written, held) = sifted(&[], &rendered, &[], &["b"]);
    assert_eq!(written, [rules("itms-a-additional.yaml", 1)]);
    assert_eq!(held.len(), 1);
    let (written, held) = sifted(&[], &rendered, &[], &[]);
    assert_eq!((written.len(), held.len()), (2, 0));
}

#[test]
fn a_document_that_waits_stays_as_it_is_published() {
    let published = [tags("a", &["q.io/c m.lan/c"])];
    let rendered = [tags("a", &["q.io/c n.lan/c"])];
    let (written, held) = sift(&published, &rendered, &[], |_| true);
    assert_eq!(written, published);
    assert_eq!(
        held,
        [Held {
            set: SetName("a".to_owned()),
            file_name: "itms-a-additional.yaml".to_owned(),
            kind: "ImageTagMirrorSet",
            name: "a-additional".to_owned(),
            why: "it drains nodes (`q.io/c` loses its mirror `m.lan/c`, and 1 more)".to_owned(),
        }]
    );
}

/// The cluster says for itself what a change of the file does.
const UNDISTURBED: &str = "\
apiVersion: operator.openshift.io/v1
kind: MachineConfiguration
metadata: {name: cluster}
spec:
  nodeDisruptionPolicy:
    files:
    - path: /etc/containers/registries.conf
      actions: [{type: None}]
";

#[test]
fn clusters_that_take_the_documents_decide() {
    let rendered = [tags("a", &["q.io/c m.lan/c"])];
    let calm = picture("calm", &["a"], Ok(UNDISTURBED));
    let plain = picture("plain", &["*"], Ok("{}"));
    let other = picture("other", &["b"], Ok("{}"));
    let unseen = picture("unseen", &["a"], Err("there is no picture of it"));
    let reason = |pictures: &[Picture]| {
        sifted(&[], &rendered, pictures, ALL)
            .1
            .pop()
            .map(|(_, w)| w)
    };
    assert_eq!(reason(std::slice::from_ref(&calm)), None);
    assert_eq!(reason(&[calm.clone(), other]), None);
    assert_eq!(
        reason(&[calm.clone(), plain]).as_deref(),
        Some("on plain, it drains nodes (`q.io/c` is new and has a tag rule, to `m.lan/c`)")
    );
    assert_eq!(
        reason(&[calm, unseen]).as_deref(),
        Some("on unseen, it is not known what nodes do (there is no picture of it)")
    );
}

#[test]
fn what_a_cluster_is_not_known_to_do_waits_too_where_it_would_be_free() {
    let rendered = [digests("a", &["q.io/c m.lan/c"])];
    let unseen = picture("unseen", &["a"], Err("there is no picture of it"));
    assert_eq!(sifted(&[], &rendered, &[], ALL).1, []);
    assert_eq!(sifted(&[], &rendered, &[unseen], ALL).1.len(), 1);
}

#[test]
fn what_is_published_counts_as_applied_when_the_picture_is_older() {
    let published = [tags("a", &["q.io/c m.lan/c"])];
    let rendered = [
        tags("a", &["q.io/c m.lan/c"]),
        digests("a", &["q.io/d m.lan/d"]),
    ];
    let old = picture("old", &["a"], Ok("{}"));
    assert_eq!(
        sifted(&published, &rendered, std::slice::from_ref(&old), ALL).1,
        []
    );
    // Against the cluster as it is in the picture, both are new.
    assert_eq!(old.forecast(&published, &rendered).word(), "drain");
}

#[test]
fn documents_that_clusters_refuse_apart_wait_together() {
    let published = [
        digests("a", &["q.io/c m.lan/c"]),
        digests("b", &["q.io/c m.lan/c"]),
        digests("c", &["q.io/x m.lan/x"]),
    ];
    let rendered = [
        digests("a", &["!q.io/c m.lan/c"]),
        digests("b", &["!q.io/c m.lan/c"]),
        digests("c", &["q.io/x m.lan/x", "q.io/y m.lan/y"]),
    ];
    let (written, held) = sift(&published, &rendered, &[], |set| set.0 != "a");
    assert_eq!(written, published);
    let sets: Vec<_> = held.iter().map(|h| h.set.0.as_str()).collect();
    assert_eq!(sets, ["a", "b", "c"]);
    let together = "it belongs together with another document that waits";
    assert_eq!(held[0].why, together);
}

#[test]
fn a_forecast_without_a_picture_is_unknown_unless_nothing_changes() {
    let unseen = picture("unseen", &["a"], Err("there is no picture of it"));
    let one = [digests("a", &["q.io/c m.lan/c"])];
    let other = [digests("b", &["q.io/c m.lan/c"])];
    assert_eq!(unseen.forecast(&[], &one).word(), "unknown");
    assert_eq!(unseen.forecast(&one, &one).word(), "nothing");
    assert_eq!(unseen.forecast(&[], &other).word(), "nothing");
}
