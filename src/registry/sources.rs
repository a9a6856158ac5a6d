//! Where an upstream's content is read from: remapped, from mirrors first, or not at all.
//!
//! containers-registries.conf(5), as containers/image has it (`sysregistriesv2`). What an image is called never changes by it.
//!
//! **Invariant:** touches no socket, no clock, no environment.

use std::{path::Path, sync::Arc};

use crate::{
    model::{
        image::{NameError, Reference, Registry, Repository},
        prefix,
    },
    registry::{error::Error, protocol::Selector},
};

/// The `[[registry]]` tables that count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) tables: Vec<Table>,
}

/// A `[[registry]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    /// Which references it is for.
    pub(super) prefix: String,
    /// What stands for the prefix; nothing for a wildcard that rewrites nothing.
    pub(super) location: Option<String>,
    pub(super) insecure: bool,
    pub(super) blocked: bool,
    pub(super) mirrors: Vec<Mirror>,
    /// The file that has it.
    pub(super) file: Arc<Path>,
}

/// A `[[registry.mirror]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) pull: Pull,
}

/// `pull-from-mirror`: which references a mirror is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pull {
    All,
    Digest,
    Tag,
}

/// A place to read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) repository: Repository,
    /// Whether any certificate will do, and plain HTTP too.
    pub(super) insecure: bool,
    /// Whether it is what the name stands for, rather than a mirror of it.
    pub(super) primary: bool,
    /// The prefix, and its file, that forbid to ask it.
    pub(super) blocked: Option<(String, Arc<Path>)>,
}

/// The places for a reference, in the order to try them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sources {
    /// The reference as it is written.
    pub(super) what: String,
    /// The file that says so; nothing where none has anything to say.
    pub(super) file: Option<Arc<Path>>,
    pub(super) places: Vec<Source>,
}

impl Rules {
    /// Returns where to read `name` of `repository`; without a name, what belongs to no tag (blobs count as named by digest).
    ///
    /// The table with the longest prefix counts. What is known by its digest may come from anywhere, so mirrors that are for tags
    /// come after all else then: of an image that was found there by its tag, they have the rest.
    pub(super) fn sources(
        &self,
        repository: &Repository,
        name: Option<&Selector>,
        by_digest: bool,
    ) -> Result<Sources, Error> {
        let what = match name {
            Some(Selector::Tag(tag)) => format!("{repository}:{tag}"),
            Some(Selector::Digest(digest)) => format!("{repository}@{digest}"),
            None => repository.to_string(),
        };
        let Some((table, end)) = self.find(&what) else {
            let place = Source {
                repository: repository.clone(),
                insecure: false,
                primary: true,
                blocked: None,
            };
            return Ok(Sources {
                what,
                file: None,
                places: vec![place],
            });
        };
        let place = |location: Option<&str>, insecure, primary| {
            let text = match location {
                Some(location) => format!("{location}{}", &what[end..]),
                None => what.clone(),
            };
            let place = self.place(&text, insecure, primary);
            place.map_err(|why| Error::Rewrite {
                what: what.clone(),
                file: table.file.to_path_buf(),
                text,
                why,
            })
        };
        let mirrors = |wanted: &'static [Pull]| {
            let fit = move |m: &&Mirror| wanted.contains(&m.pull);
            let fit = table.mirrors.iter().filter(fit);
            fit.map(|m| place(Some(&m.location), m.insecure, false))
        };
        let (first, last): (&[Pull], &[Pull]) = match by_digest {
            true => (&[Pull::All, Pull::Digest], &[Pull::Tag]),
            false => (&[Pull::All, Pull::Tag], &[]),
        };
        let primary = place(table.location.as_deref(), table.insecure, true);
        let places = mirrors(first).chain([primary]).chain(mirrors(last));
        Ok(Sources {
            file: Some(table.file.clone()),
            places: places.collect::<Result<_, _>>()?,
            what: what.clone(),
        })
    }

    /// Reads what a reference was rewritten to; a table for that place too may forbid it, or call it insecure.
    fn place(&self, text: &str, insecure: bool, primary: bool) -> Result<Source, NameError> {
        let reference: Reference = text.parse()?;
        let there = self.find(text).map(|(table, _)| table);
        Ok(Source {
            repository: reference.repository,
            insecure: insecure || there.is_some_and(|t| t.insecure),
            primary,
            blocked: there
                .filter(|t| t.blocked)
                .map(|t| (t.prefix.clone(), t.file.clone())),
        })
    }

    /// Returns the table whose prefix is the longest that matches, the first of equals, and how much it matches.
    fn find(&self, text: &str) -> Option<(&Table, usize)> {
        let mut best: Option<(&Table, usize)> = None;
        for table in &self.tables {
            if let Some(end) = prefix::matched(&table.prefix, text)
                && best.is_none_or(|(b, _)| table.prefix.len() > b.prefix.len())
            {
                best = Some((table, end));
            }
        }
        best
    }

    /// Whether a registry is called insecure by any table, for what is not read: then its namespaces are not told apart.
    pub(super) fn is_insecure(&self, registry: &Registry) -> bool {
        let at = |location: &str| location.split('/').next() == Some(registry.as_str());
        self.tables.iter().any(|t| {
            let own = t.location.as_deref().unwrap_or(&t.prefix);
            (t.insecure && at(own)) || t.mirrors.iter().any(|m| m.insecure && at(&m.location))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(prefix: &str, location: &str, mirrors: &[(&str, Pull)]) -> Table {
        let mirror = |(location, pull): &(&str, Pull)| Mirror {
            location: (*location).to_owned(),
            insecure: false,
            pull: *pull,
        };
        Table {
            prefix: prefix.to_owned(),
            location: Some(location.to_owned()).filter(|l| !l.is_empty()),
            insecure: false,
            blocked: false,
            mirrors: mirrors.iter().map(mirror).collect(),
            file: Path::new("/r.conf").into(),
        }
    }

    fn shown(rules: &Rules, reference: &str, by_digest: bool) -> Vec<String> {
        let reference: Reference = reference.parse().unwrap();
        let name = reference.tag.map(Selector::Tag);
        let found = rules.sources(&reference.repository, name.as_ref(), by_digest);
        let show = |s: Source| {
            format!(
                "{}{}{}{}",
                s.repository,
                if s.primary { "" } else { " mirror" },
                if s.insecure { " insecure" } else { "" },
                s.blocked
                    .map(|(prefix, _)| format!(" blocked by {prefix}"))
                    .unwrap_or_default()
            )
        };
        found.unwrap().places.into_iter().map(show).collect()
    }

    #[test]
    fn the_longest_prefix_decides_and_mirrors_come_first() {
        let rules = Rules {
            tables: vec![
                table("quay.io", "quay.io", &[("near.lan/quay", Pull::All)]),
                table(
                    "quay.io/ns",
                    "other.lan:5000/moved",
                    &[
                        ("d.lan/x", Pull::Digest),
                        ("t.lan", Pull::Tag),
                        ("a.lan/y", Pull::All),
                    ],
                ),
                table("*.example.com", "", &[("near.lan/ex", Pull::All)]),
                table("*.sub.example.com", "real.lan/sub", &[]),
                table("exact.io/ns/app:v1", "m.lan/pinned:v1", &[]),
            ],
        };
        for (reference, by_digest, expected) in [
            (
                "quay.io/a/b:1",
                false,
                &["near.lan/quay/a/b mirror", "quay.io/a/b"][..],
            ),
            (
                "quay.io/ns/b:1",
                false,
                &[
                    "t.lan/b mirror",
                    "a.lan/y/b mirror",
                    "other.lan:5000/moved/b",
                ],
            ),
            (
                "quay.io/ns/b",
                true,
                &[
                    "d.lan/x/b mirror",
                    "a.lan/y/b mirror",
                    "other.lan:5000/moved/b",
                    "t.lan/b mirror",
                ],
            ),
            (
                "quay.io/nsx/b:1",
                false,
                &["near.lan/quay/nsx/b mirror", "quay.io/nsx/b"],
            ),
            (
                "x.example.com/b:1",
                false,
                &["near.lan/ex/b mirror", "x.example.com/b"],
            ),
            ("y.sub.example.com/b:1", false, &["real.lan/sub/b"]),
            ("example.com/b:1", false, &["example.com/b"]),
            ("exact.io/ns/app:v1", false, &["m.lan/pinned"]),
            ("exact.io/ns/app:v2", false, &["exact.io/ns/app"]),
        ] {
            assert_eq!(shown(&rules, reference, by_digest), expected, "{reference}");
        }
    }

    #[test]
    fn what_is_blocked_or_insecure_is_so_whichever_way_one_comes() {
        let mut rules = Rules {
            tables: vec![
                table(
                    "quay.io",
                    "quay.io",
                    &[("near.lan", Pull::All), ("far.lan/x", Pull::All)],
                ),
                table("near.lan", "near.lan", &[]),
                table("far.lan/x", "far.lan/x", &[]),
            ],
        };
        rules.tables[0].blocked = true;
        rules.tables[1].blocked = true;
        rules.tables[2].insecure = true;
        assert_eq!(
            shown(&rules, "quay.io/a/b:1", false),
            [
                "near.lan/a/b mirror blocked by near.lan",
                "far.lan/x/a/b mirror insecure",
                "quay.io/a/b blocked by quay.io"
            ]
        );
        assert!(rules.is_insecure(&"far.lan".parse().unwrap()));
        assert!(!rules.is_insecure(&"far.lan:5000".parse().unwrap()));
        assert!(!rules.is_insecure(&"quay.io".parse().unwrap()));
    }

    #[test]
    fn a_rewrite_to_what_is_no_name_is_told() {
        let rules = Rules {
            tables: vec![table(
                "quay.io/a",
                "quay.io/a",
                &[("Near.lan/UPPER", Pull::All)],
            )],
        };
        let error = rules.sources(
            &"quay.io/a/b".parse::<Reference>().unwrap().repository,
            None,
            true,
        );
        assert_eq!(
            error.unwrap_err().to_string(),
            "quay.io/a/b cannot be read as /r.conf has it: that makes it `Near.lan/UPPER/b`, and `UPPER/b` is not a repository path: \
             lower case letters and digits, separated by `.`, `_`, `__`, `-` or `/`, are expected"
        );
    }
}
