//! Which images of manifests, Helm output or a plain list are served by mirror rules.

use std::collections::BTreeMap;

use crate::{
    cluster::{
        Kind,
        node::Node,
        objects::File,
        pull::{Resolution, kind_of},
    },
    model::image::Reference,
    yaml::{self, Value},
};

/// An image that a file names, once for each name, with the first place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The reference as it is written.
    pub text: String,
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
}

/// How an image stands with the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A rule by digest serves it.
    DigestRule,
    /// A rule by tag serves it.
    TagRule,
    /// No rule serves it.
    NotCovered,
    /// A rule serves it, and the mirror does not have it.
    NotInMirror,
    /// It has no registry, or is no reference at all: what a node makes of it depends on the node.
    Unclear,
}

impl Standing {
    /// Returns the stable word for scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::DigestRule => "digest_rule",
            Standing::TagRule => "tag_rule",
            Standing::NotCovered => "not_covered",
            Standing::NotInMirror => "not_in_mirror",
            Standing::Unclear => "unclear",
        }
    }

    /// Whether nodes get it from a mirror.
    pub fn is_good(self) -> bool {
        matches!(self, Standing::DigestRule | Standing::TagRule)
    }
}

/// What is said of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// How it stands.
    pub standing: Standing,
    /// The source of the rules that apply; empty where none does.
    pub matched: String,
    /// Where a node looks first; empty where no mirror is tried.
    pub mirror: String,
    /// What to do, one sentence; empty where nothing has to be done.
    pub remedy: String,
}

/// The most images that are looked at.
pub const MOST: usize = 100_000;

/// Finds the images that files name, sorted by name: in YAML the values of `image`, those of environment variables for related images, image
/// streams' sources, and whatever has a digest; else one reference a line.
pub fn named(files: &[File]) -> Vec<Named> {
    let mut found: BTreeMap<String, Named> = BTreeMap::new();
    for file in files {
        let mut add = |text: &str, line: u32| {
            let text = text.trim();
            if !text.is_empty() && found.len() < MOST {
                found.entry(text.to_owned()).or_insert_with(|| Named {
                    text: text.to_owned(),
                    file: file.name.clone(),
                    line,
                });
            }
        };
        match manifests(file) {
            Some(roots) => roots.iter().for_each(|root| {
                listed(root, &mut add);
                walk(root, &mut add);
            }),
            None => lines(file, &mut add),
        }
    }
    found.into_values().collect()
}

/// Returns the documents of a file that is YAML; nothing where it is a plain list.
fn manifests(file: &File) -> Option<Vec<std::sync::Arc<yaml::Node>>> {
    let documents = yaml::parse(&file.name, &file.bytes).ok()?;
    let roots: Vec<_> = documents.into_iter().filter_map(|d| d.root).collect();
    let structured = |root: &std::sync::Arc<yaml::Node>| !matches!(root.value, Value::Scalar(_));
    roots.iter().any(structured).then_some(roots)
}

fn lines(file: &File, add: &mut impl FnMut(&str, u32)) {
    let text = String::from_utf8_lossy(&file.bytes);
    for (index, line) in text.lines().enumerate() {
        let line = line.split(" #").next().unwrap_or_default().trim();
        if !line.starts_with('#') && line != "---" {
            add(line, u32::try_from(index + 1).unwrap_or(u32::MAX));
        }
    }
}

/// Takes a document that is a list of references and nothing else, as people write one in YAML too.
fn listed(root: &yaml::Node, add: &mut impl FnMut(&str, u32)) {
    let Value::Sequence(items) = &root.value else {
        return;
    };
    for item in items {
        if let Value::Scalar(scalar) = &item.value {
            add(&scalar.text, item.at.line);
        }
    }
}

fn walk(node: &yaml::Node, add: &mut impl FnMut(&str, u32)) {
    match &node.value {
        Value::Scalar(scalar) if has_digest(&scalar.text) => add(&scalar.text, node.at.line),
        Value::Scalar(_) => {}
        Value::Sequence(items) => items.iter().for_each(|item| walk(item, add)),
        Value::Mapping(entries) => {
            let text = |key: &str| {
                let entry = entries.iter().find(|entry| &*entry.key == key)?;
                match &entry.value.value {
                    Value::Scalar(scalar) => Some((scalar.text.to_string(), entry.value.at.line)),
                    _ => None,
                }
            };
            let name = text("name");
            let related = name
                .as_ref()
                .is_some_and(|(n, _)| n.starts_with("RELATED_IMAGE"));
            let stream = text("kind").is_some_and(|(kind, _)| kind == "DockerImage");
            for (key, holds) in [("image", true), ("value", related), ("name", stream)] {
                if let Some((text, line)) = text(key).filter(|_| holds) {
                    add(&text, line);
                }
            }
            entries.iter().for_each(|entry| walk(&entry.value, add));
        }
    }
}

/// Whether a text is a reference with a digest, wherever it stands.
fn has_digest(text: &str) -> bool {
    text.len() < 1024
        && text.contains("@sha256:")
        && text
            .parse::<Reference>()
            .is_ok_and(|reference| reference.digest.is_some())
}

/// Says how an image stands with the rules of a node.
pub fn judge(node: &Node, text: &str) -> Judged {
    let reference: Reference = match text.parse() {
        Ok(reference) => reference,
        Err(error) => return unclear(format!("{error}")),
    };
    let resolution = node.resolve(&reference);
    let kind = kind_of(&reference);
    let matched = resolution.matched.as_ref().map(ToString::to_string);
    let mirror = first_mirror(&resolution);
    let standing = match (&mirror, kind) {
        (None, _) => Standing::NotCovered,
        (Some(_), Kind::Digest) => Standing::DigestRule,
        (Some(_), Kind::Tag) => Standing::TagRule,
    };
    let remedy = match mirror {
        Some(_) => String::new(),
        None => remedy(node, &reference, &resolution),
    };
    Judged {
        standing,
        matched: matched.unwrap_or_default(),
        mirror: mirror.unwrap_or_default(),
        remedy,
    }
}

/// Says of an image that rules serve that the mirror does not have it.
pub fn absent(judged: Judged, text: &str) -> Judged {
    Judged {
        standing: Standing::NotInMirror,
        remedy: format!("add `- name: {text}` to `additionalImages` of an image set"),
        ..judged
    }
}

fn unclear(why: String) -> Judged {
    Judged {
        standing: Standing::Unclear,
        matched: String::new(),
        mirror: String::new(),
        remedy: why,
    }
}

fn first_mirror(resolution: &Resolution) -> Option<String> {
    let mut tried = resolution.attempts.iter();
    let first = tried.find(|a| a.mirror.is_some() && a.refused_by.is_none())?;
    Some(first.reference.to_string())
}

/// The IDMS and ITMS confusion of every newcomer, said for this image.
fn remedy(node: &Node, reference: &Reference, resolution: &Resolution) -> String {
    let kind = kind_of(reference);
    let other = match kind {
        Kind::Digest => Kind::Tag,
        Kind::Tag => Kind::Digest,
    };
    if let Some(why) = &resolution.invalid {
        return why.clone();
    }
    let name = reference.repository.to_string();
    let table = node.find(&name);
    let source = match table {
        Some(table) => table.scope().to_string(),
        None => name
            .rsplit_once('/')
            .map_or(name.as_str(), |(parent, _)| parent)
            .to_owned(),
    };
    let fails = match resolution.attempts.is_empty() {
        true => ", and the source may not be contacted: the pull fails",
        false => "",
    };
    let serves_other =
        table.is_some_and(|table| table.mirrors.iter().any(|m| m.pull.serves(other)));
    match serves_other {
        true => format!(
            "`{source}` has {other} rules only, and this image is named by {kind}{fails}; add a rule for it to an {}, or name the image by {other}",
            kind.object()
        ),
        false => format!(
            "no rule serves it{fails}; add a rule for `{source}` to an {}",
            kind.object()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let file = File {
            name: "f".into(),
            bytes: text.as_bytes().to_vec(),
        };
        named(&[file]).into_iter().map(|n| n.text).collect()
    }

    #[test]
    fn a_list_is_one_of_images_where_the_document_is_nothing_else() {
        assert_eq!(found("- q.io/a:1\n- q.io/b:2\n"), ["q.io/a:1", "q.io/b:2"]);
        assert_eq!(found("  - q.io/a:1\n"), ["q.io/a:1"]);
        assert_eq!(
            found("kind: SecurityContextConstraints\nvolumes:\n- configMap\n- secret\n"),
            [""; 0]
        );
    }
}
