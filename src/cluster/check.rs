//! Mistakes in mirror rules that no API server tells: found in the objects, before a cluster has them.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cluster::{
        Kind,
        document::Rule,
        node::Node,
        objects::{Entry, Form, MirrorSet, Objects},
        operator::{self, Refusal},
        place::Place,
        scope::Scope,
    },
    model::policy::MirrorSourcePolicy::NeverContactSource,
    yaml::{Problem, Severity},
};

/// A rule with where it stands.
#[derive(Clone, Copy)]
struct Placed<'a> {
    set: &'a MirrorSet,
    entry: &'a Entry,
    rule: &'a Rule,
}

impl Placed<'_> {
    fn kind(&self) -> Kind {
        self.set.form.kind()
    }

    fn problem(&self, severity: Severity, message: String, hint: &str) -> Problem {
        self.entry.spot.problem(severity, message, hint)
    }

    /// `ImageDigestMirrorSet a of b.yaml`
    fn name(&self) -> String {
        let (kind, name) = (self.set.form.object(), &self.set.name);
        format!("{kind} `{name}` of {}", self.set.spot.file)
    }
}

/// Returns what is wrong with the mirror rules of a cluster, all at once, sorted by place: what keeps them from being used at all is an
/// error, what may not be what was meant is a warning.
pub fn check(objects: &Objects) -> Vec<Problem> {
    let rules: Vec<Placed<'_>> = objects
        .sets
        .iter()
        .flat_map(|set| {
            let entries = set.entries.iter();
            entries.filter_map(move |entry| {
                let rule = entry.rule.as_ref()?;
                Some(Placed { set, entry, rule })
            })
        })
        .collect();
    let mut problems: BTreeSet<Problem> = objects.problems.iter().cloned().collect();
    problems.extend(refused(objects, &rules));
    problems.extend(same_names(objects));
    problems.extend(old_beside_new(objects));
    problems.extend(rules.iter().filter_map(useless));
    problems.extend(one_sided(&rules));
    problems.extend(contradicting(&rules));
    problems.extend(hiding(&rules));
    problems.into_iter().collect()
}

/// What the machine-config-operator refuses the whole for.
fn refused(objects: &Objects, rules: &[Placed<'_>]) -> Vec<Problem> {
    let Err(refusals) = Node::template().edited(&objects.inputs()) else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    for refusal in refusals {
        let (message, hint) = (refusal.to_string(), remedy(&refusal));
        let concerned = rules.iter().filter(|placed| match &refusal {
            Refusal::TwoPolicies(source) => placed.rule.source == *source,
            Refusal::BlockedMirror(source) => {
                let rule = placed.rule;
                rule.source == *source
                    && rule.policy == NeverContactSource
                    && rule.mirrors.contains(source)
            }
            Refusal::NestedInWildcard { wildcard, .. } => *wildcard == placed.rule.source,
            Refusal::Malformed(..) => false,
        });
        let before = problems.len();
        problems.extend(concerned.map(|placed| {
            let message = match refusal {
                Refusal::TwoPolicies(_) => format!("{} here: {message}", said(placed.rule)),
                _ => message.clone(),
            };
            placed.problem(Severity::Error, message, &hint)
        }));
        if problems.len() == before {
            problems.push(unplaced(message, hint));
        }
    }
    problems
}

fn said(rule: &Rule) -> &'static str {
    match rule.policy {
        NeverContactSource => "NeverContactSource",
        _ => "AllowContactingSource",
    }
}

fn remedy(refusal: &Refusal) -> String {
    match refusal {
        Refusal::TwoPolicies(source) => format!(
            "give every rule for `{source}` the same mirrorSourcePolicy; one that is absent, and every ImageContentSourcePolicy, says AllowContactingSource"
        ),
        Refusal::BlockedMirror(source) => {
            format!("remove `{source}` from the mirrors, or the policy from the rule")
        }
        Refusal::Malformed(..) => "mend it in image.config.openshift.io/cluster".to_owned(),
        Refusal::NestedInWildcard { nested, .. } => format!(
            "give `{nested}` a rule of its own, or name the mirrored hosts instead of the wildcard"
        ),
    }
}

/// A problem of what no file that was read holds: options of the command line.
fn unplaced(message: String, hint: String) -> Problem {
    Problem {
        file: String::new(),
        line: 0,
        column: 0,
        severity: Severity::Error,
        path: String::new(),
        message,
        hint,
    }
}

/// Of two objects of one kind and name only the last applied stays.
fn same_names(objects: &Objects) -> Vec<Problem> {
    let mut seen: BTreeMap<(Form, &str), &MirrorSet> = BTreeMap::new();
    let mut problems = Vec::new();
    for set in objects.sets.iter().filter(|set| !set.name.is_empty()) {
        if let Some(first) = seen.get(&(set.form, set.name.as_str())) {
            problems.push(set.spot.problem(
                Severity::Warning,
                format!(
                    "the {} `{}` is there before, in {} on line {}: of the two, the one applied last stays",
                    set.form.object(), set.name, first.spot.file, first.spot.line
                ),
                "give one of them another name, or make one of them",
            ));
        } else {
            seen.insert((set.form, set.name.as_str()), set);
        }
    }
    problems
}

fn old_beside_new(objects: &Objects) -> Vec<Problem> {
    let is_old = |set: &&MirrorSet| set.form == Form::Icsp;
    if !objects.sets.iter().any(|set| set.form != Form::Icsp) {
        return Vec::new();
    }
    let old = objects.sets.iter().filter(is_old);
    old.map(|set| {
        set.spot.problem(
            Severity::Warning,
            format!(
                "the ImageContentSourcePolicy `{}` stands beside the newer kinds: nodes merge both, and clusters before the late 4.13 releases and 4.14.3 refuse the second kind",
                set.name
            ),
            "`imagesetd cluster migrate-icsp` makes an ImageDigestMirrorSet of it; create that first, delete this one after",
        )
    })
    .collect()
}

/// A rule that counts for nothing, or that no reference can match.
fn useless(placed: &Placed<'_>) -> Option<Problem> {
    let rule = placed.rule;
    let warn = |message, hint: &str| Some(placed.problem(Severity::Warning, message, hint));
    if !operator::counts(rule) {
        let policy = match rule.policy {
            NeverContactSource => ", and its NeverContactSource means nothing without one",
            _ => "",
        };
        return warn(
            format!(
                "the rule for `{}` has no mirror but the source itself, so it counts for nothing{policy}",
                rule.source
            ),
            "add a mirror, or remove the rule",
        );
    }
    let (message, hint) = unmatched(&rule.source, placed.kind())?;
    warn(message, &hint)
}

/// Says why no reference ever matches a source, if none does: references are written out before rules are looked up (docker/distribution
/// `ParseNormalizedNamed`).
fn unmatched(source: &Scope, kind: Kind) -> Option<(String, String)> {
    let text = source.as_str();
    let (host, path) = text.split_once('/').unwrap_or((text, ""));
    let never = |why: String| format!("the rule for `{source}` never matches: {why}");
    if host == "index.docker.io" {
        let hint = text.replacen("index.docker.io", "docker.io", 1);
        let why = "nodes read `index.docker.io` as `docker.io`".to_owned();
        return Some((never(why), format!("write `{hint}`")));
    }
    if !host.contains(['.', ':']) && host != "localhost" && !host.starts_with('*') {
        let why = format!(
            "`{host}` has neither a dot nor a port, so nodes read such a name as `docker.io/{}{text}`",
            if path.is_empty() { "library/" } else { "" }
        );
        let hint = "write the registry's full name; images have to be named by it too".to_owned();
        return Some((never(why), hint));
    }
    let payload = text.starts_with("quay.io/openshift-release-dev/");
    if payload && kind == Kind::Tag {
        let why = "releases and what is in them are pulled by digest only".to_owned();
        let hint =
            "remove the tag rule; the first tag rule of a source drains every node".to_owned();
        return Some((never(why), hint));
    }
    None
}

/// NeverContactSource blocks a source for both kinds of reference, and a rule of one kind serves one.
fn one_sided(rules: &[Placed<'_>]) -> Vec<Problem> {
    let serves = |kind| -> BTreeSet<&Scope> {
        let of_kind = rules.iter().filter(|placed| placed.kind() == kind);
        let counting = of_kind.filter(|placed| operator::counts(placed.rule));
        counting.map(|placed| &placed.rule.source).collect()
    };
    let (by_digest, by_tag) = (serves(Kind::Digest), serves(Kind::Tag));
    let never = rules
        .iter()
        .filter(|p| p.rule.policy == NeverContactSource && operator::counts(p.rule));
    let mut problems = Vec::new();
    for placed in never {
        let source = &placed.rule.source;
        let (has, lacks, remedy) = match (by_digest.contains(source), by_tag.contains(source)) {
            (true, false) => (Kind::Digest, Kind::Tag, Kind::Tag.object()),
            (false, true) => (Kind::Tag, Kind::Digest, Kind::Digest.object()),
            _ => continue,
        };
        problems.push(placed.problem(
            Severity::Warning,
            format!(
                "`{source}` says NeverContactSource and has {has} rules only: every reference to it by {lacks} will fail"
            ),
            &format!("add a rule for it to an {remedy}, or leave the policy away"),
        ));
    }
    problems
}

/// Lists of one source and kind whose orders cannot all be kept.
fn contradicting(rules: &[Placed<'_>]) -> Vec<Problem> {
    let mut lists: BTreeMap<(Kind, &Scope), Vec<&Placed<'_>>> = BTreeMap::new();
    for placed in rules.iter().filter(|p| operator::counts(p.rule)) {
        let key = (placed.kind(), &placed.rule.source);
        lists.entry(key).or_default().push(placed);
    }
    let mut problems = Vec::new();
    for ((kind, source), placed) in lists {
        let rules: Vec<&Rule> = placed.iter().map(|placed| placed.rule).collect();
        let (order, broken) = operator::order(source, &rules);
        if !broken {
            continue;
        }
        let order: Vec<String> = order.iter().map(|mirror| format!("`{mirror}`")).collect();
        let others: BTreeSet<String> = placed.iter().map(|placed| placed.name()).collect();
        let others: Vec<String> = others.into_iter().collect();
        let message = format!(
            "the {kind} rules for `{source}` name mirrors in orders that contradict each other ({}); nodes will try {}, an order that nothing promises",
            others.join(", "),
            order.join(", ")
        );
        let hint = "list these mirrors in the same order everywhere";
        problems.extend(
            placed
                .iter()
                .map(|placed| placed.problem(Severity::Warning, message.clone(), hint)),
        );
    }
    problems
}

/// Narrower sources that hide what wider ones serve: a node looks at the longest match alone.
fn hiding(rules: &[Placed<'_>]) -> Vec<Problem> {
    let mut mirrors: BTreeMap<(&Scope, Kind), BTreeSet<&Scope>> = BTreeMap::new();
    let counting = || rules.iter().filter(|p| operator::counts(p.rule));
    for placed in counting() {
        let key = (&placed.rule.source, placed.kind());
        mirrors.entry(key).or_default().extend(&placed.rule.mirrors);
    }
    let mut problems = Vec::new();
    for placed in counting() {
        let narrow = &placed.rule.source;
        let wider = counting()
            .map(|other| &other.rule.source)
            .filter(|wide| *wide != narrow && encloses(wide, narrow));
        // The nearest one is what the narrow source hides.
        let Some(wide) = wider.max_by_key(|wide| wide.as_str().len()) else {
            continue;
        };
        for kind in [Kind::Digest, Kind::Tag] {
            let Some(lost) = mirrors.get(&(wide, kind)) else {
                continue;
            };
            let own = mirrors.get(&(narrow, kind));
            if let Some((message, hint)) = lost_mirrors(wide, narrow, kind, lost, own) {
                problems.push(placed.problem(Severity::Warning, message, &hint));
            }
        }
    }
    problems
}

fn encloses(wide: &Scope, narrow: &Scope) -> bool {
    Place::from(narrow).lies_in(&Place::from(wide))
}

fn lost_mirrors(
    wide: &Scope,
    narrow: &Scope,
    kind: Kind,
    lost: &BTreeSet<&Scope>,
    own: Option<&BTreeSet<&Scope>>,
) -> Option<(String, String)> {
    let end = wide
        .matches(narrow.as_str())
        .unwrap_or(narrow.as_str().len());
    let rest = &narrow.as_str()[end..];
    let adjusted: Vec<Scope> = lost.iter().map(|mirror| mirror.with(rest)).collect();
    let names: Vec<String> = adjusted
        .iter()
        .map(|mirror| format!("`{mirror}`"))
        .collect();
    let names = names.join(", ");
    match own {
        None => Some((
            format!(
                "`{narrow}` lies in `{wide}` and hides it, so its references by {kind} are no longer looked for in {names}"
            ),
            format!(
                "repeat the rule for `{narrow}` in an {}: a node looks at the longest source alone, whatever kind made it one",
                kind.object()
            ),
        )),
        Some(own) if adjusted.iter().any(|mirror| own.contains(mirror)) => None,
        Some(_) => Some((
            format!(
                "`{narrow}` lies in `{wide}` and hides it: by {kind}, its own mirrors are tried and {names} are not"
            ),
            "add them to its mirrors, where they have its content".to_owned(),
        )),
    }
}
