//! Whether nodes may turn to a source: one answer for each source, for all documents.
//!
//! **Invariant:** no source has two policies. The machine-config-operator refuses all rules of a cluster where one has.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cluster::{
        Kind, Options, Unit,
        book::{Book, ancestors},
        document::Document,
        needs::Needs,
        render::Warning,
        scope::Scope,
    },
    model::{
        imageset::SetName,
        policy::{
            MirrorSourcePolicy::{self, AllowContactingSource, NeverContactSource},
            matches,
        },
    },
};

/// Returns the policy of every source in the book, and what has to be said about them.
pub(crate) fn policies(
    book: &Book,
    needs: &Needs,
    units: &[Unit],
    published: &[Document],
    options: &Options,
) -> (BTreeMap<Scope, MirrorSourcePolicy>, BTreeSet<Warning>) {
    let mut warnings = BTreeSet::new();
    let mut policies = BTreeMap::new();
    let present = present(units, options);
    let mirrors = book.mirrors();
    for source in book.sources() {
        let owners = owners(book, &source);
        let wanted = if owners.iter().any(|(set, _)| present.contains(set)) {
            from_settings(&source, options)
        } else {
            as_published(&source, published)
        };
        let (policy, message) = decided(wanted, &source, &owners, needs, &mirrors);
        if let Some(message) = message {
            warnings.extend(owners.iter().map(|(set, _)| Warning {
                set: (*set).clone(),
                message: message.clone(),
            }));
        }
        policies.insert(source, policy);
    }
    (policies, warnings)
}

/// Returns the policy that a source has instead of the wanted one, where need be, and a sentence about that.
fn decided(
    wanted: MirrorSourcePolicy,
    source: &Scope,
    owners: &BTreeSet<(&SetName, Kind)>,
    needs: &Needs,
    mirrors: &BTreeSet<&Scope>,
) -> (MirrorSourcePolicy, Option<String>) {
    if wanted == AllowContactingSource {
        return (wanted, None);
    }
    match hindrance(source, needs, mirrors) {
        None => (wanted, one_sided(source, owners)),
        Some(why) => (
            AllowContactingSource,
            Some(format!(
                "`{source}` does not say NeverContactSource for now: {why}"
            )),
        ),
    }
}

/// Returns the image sets whose settings and units are known.
fn present<'a>(units: &'a [Unit], options: &'a Options) -> BTreeSet<&'a SetName> {
    let named = options.scopes.keys();
    named.chain(units.iter().map(|unit| &unit.set)).collect()
}

/// Returns which image sets have rules of which kind for a source.
fn owners<'a>(book: &'a Book, source: &Scope) -> BTreeSet<(&'a SetName, Kind)> {
    let keys = book
        .0
        .iter()
        .filter(|(_, rules)| rules.contains_key(source));
    keys.map(|(key, _)| (&key.set, key.kind)).collect()
}

fn from_settings(source: &Scope, options: &Options) -> MirrorSourcePolicy {
    let names: Vec<Scope> = std::iter::once(source.clone())
        .chain(ancestors(source))
        .collect();
    let covers = |pattern: &str| names.iter().any(|name| matches(pattern, name.as_str()));
    let first = options.source_policies.iter().find(|p| covers(&p.source));
    first.map(|p| p.policy).unwrap_or_default()
}

/// What the published documents say, where they agree; nobody's settings speak for image sets that are gone.
fn as_published(source: &Scope, published: &[Document]) -> MirrorSourcePolicy {
    let rules = published.iter().flat_map(|document| &document.rules);
    let said: BTreeSet<_> = rules
        .filter(|r| r.source == *source)
        .map(|r| r.policy)
        .collect();
    if said.len() == 1 && said.contains(&NeverContactSource) {
        NeverContactSource
    } else {
        AllowContactingSource
    }
}

/// Returns why nodes must be allowed to contact a source, if they must.
fn hindrance(source: &Scope, needs: &Needs, mirrors: &BTreeSet<&Scope>) -> Option<String> {
    let lacking = needs.lacking.iter();
    let mut lacking = lacking.filter(|lack| source.matches(&lack.source).is_some());
    if let Some(first) = lacking.next() {
        let more = match lacking.count() {
            0 => String::new(),
            n => format!(" (and {n} more)"),
        };
        let (image, set, why) = (&first.source, &first.set, first.why);
        return Some(format!(
            "`{image}`, wanted by image set `{set}`, {why}{more}"
        ));
    }
    // A node that may not contact a place may not do so to pull from it as a mirror either.
    let meets = |mirror: &Scope| {
        source.matches(mirror.as_str()).is_some() || mirror.matches(source.as_str()).is_some()
    };
    let mirror = mirrors.iter().find(|mirror| meets(mirror))?;
    Some(format!(
        "images are pulled from there as the mirror `{mirror}`"
    ))
}

/// Returns what becomes of the references that have no rule beside `NeverContactSource`, which blocks both kinds.
fn one_sided(source: &Scope, owners: &BTreeSet<(&SetName, Kind)>) -> Option<String> {
    let has = |kind| owners.iter().any(|(_, k)| *k == kind);
    let (rules, others) = match (has(Kind::Digest), has(Kind::Tag)) {
        (true, false) => (Kind::Digest, Kind::Tag),
        (false, true) => (Kind::Tag, Kind::Digest),
        _ => return None,
    };
    Some(format!(
        "`{source}` says NeverContactSource and has {rules} rules only: every reference to it by {others} will fail"
    ))
}
