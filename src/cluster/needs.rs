//! Which references have to be served by rules, and which cannot be.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    cluster::{Kind, Options, Purpose, Served, Unit, book::Key, render::Warning, scope::Scope},
    model::{
        image::{Reference, Repository},
        imageset::SetName,
        policy::MirrorScope,
    },
};

/// References of one kind to one repository, and the repository of the mirror where their content lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Need {
    pub(crate) key: Key,
    pub(crate) source: Scope,
    pub(crate) target: Scope,
}

/// A wanted image that rules do not serve.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lack {
    pub(crate) source: String,
    pub(crate) set: SetName,
    /// A clause whose subject is the image.
    pub(crate) why: &'static str,
}

/// What the units ask of the rules.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub(crate) met: BTreeSet<Need>,
    pub(crate) lacking: BTreeSet<Lack>,
    pub(crate) warnings: BTreeSet<Warning>,
}

impl Needs {
    /// Sorts the units' images into what rules can serve and what they cannot.
    pub(crate) fn of(units: &[Unit]) -> Self {
        let mut needs = Needs::default();
        for unit in units {
            for image in &unit.images {
                if unit.landed {
                    needs.landed(unit, image);
                } else {
                    needs.lack(unit, &image.source, "has not landed in the mirror");
                }
            }
        }
        needs
    }

    fn landed(&mut self, unit: &Unit, image: &Served) {
        let (source, target) = (&image.source, &image.target);
        if source == target {
            self.lack(unit, source, "is its own mirror");
            self.warn(
                unit,
                format!("`{source}` is its own mirror, so no rule is written for it"),
            );
            return;
        }
        let (Some(from), Some(to)) = (writable(source), writable(target)) else {
            let which = if writable(source).is_none() {
                source
            } else {
                target
            };
            self.lack(unit, source, "cannot stand in a mirror rule");
            self.warn(unit, format!(
                "no rule is written for `{source}`, since mirror rules cannot name `{which}`; clusters have to name `{target}` themselves, or the registry needs a DNS name with a dot or a port"
            ));
            return;
        };
        let mut need = |kind| {
            let (set, purpose) = (unit.set.clone(), unit.purpose);
            self.met.insert(Need {
                key: Key { set, purpose, kind },
                source: from.clone(),
                target: to.clone(),
            });
        };
        if image.by_digest {
            need(Kind::Digest);
        }
        match &image.by_tag {
            // Clusters pull a release by digest only, and a first tag rule drains every node.
            Some(_) if unit.purpose == Purpose::Release => {}
            Some((asked, held)) if asked != held => {
                self.lack(unit, source, "has another tag in the mirror");
                self.warn(unit, format!(
                    "`{source}:{asked}` is in the mirror as `{target}:{held}`, and a tag rule cannot rewrite tags: clusters cannot pull it by its tag; name it by digest there, or leave targetTag away"
                ));
            }
            Some(_) => need(Kind::Tag),
            None => {}
        }
    }

    fn lack(&mut self, unit: &Unit, source: &Repository, why: &'static str) {
        self.lacking.insert(Lack {
            source: source.to_string(),
            set: unit.set.clone(),
            why,
        });
    }

    fn warn(&mut self, unit: &Unit, message: String) {
        self.warnings.insert(Warning {
            set: unit.set.clone(),
            message,
        });
    }

    /// Returns a rule (source and mirror) for each need: as wide as the settings say, or its repository alone where that does
    /// not fit, or where the parts of the wide source land in different places.
    pub(crate) fn rules(&self, options: &Options) -> Vec<(&Need, Scope, Scope)> {
        let ported = self.hosts_with_ports();
        let wide: Vec<_> = self
            .met
            .iter()
            .map(|need| {
                let width = options.scopes.get(&need.key.set).copied();
                let (source, mirror) = widened(need, width.unwrap_or_default());
                if ported.contains(source.as_str()) {
                    (need, (need.source.clone(), need.target.clone()))
                } else {
                    (need, (source, mirror))
                }
            })
            .collect();
        let mut places: BTreeMap<_, BTreeSet<&Scope>> = BTreeMap::new();
        for (need, (source, mirror)) in &wide {
            places
                .entry((need.key.kind, source))
                .or_default()
                .insert(mirror);
        }
        wide.iter()
            .map(|(need, (source, mirror))| {
                if places[&(need.key.kind, source)].len() == 1 {
                    (*need, source.clone(), mirror.clone())
                } else {
                    (*need, need.source.clone(), need.target.clone())
                }
            })
            .collect()
    }

    /// Returns the hosts of images without rules that name a port. A node takes a rule for `example.com` to be for
    /// `example.com:5000` too, and then makes no valid reference of it.
    fn hosts_with_ports(&self) -> BTreeSet<&str> {
        let sources = self.lacking.iter().map(|lack| lack.source.as_str());
        let hosts = sources.filter_map(|source| source.split('/').next());
        hosts
            .filter_map(|host| host.rsplit_once(':'))
            .map(|(host, _)| host)
            .collect()
    }
}

/// A repository as rules name it, where they can; nodes also refuse what a rewritten reference could not be read back from.
fn writable(repository: &Repository) -> Option<Scope> {
    repository.to_string().parse::<Reference>().ok()?;
    Scope::of(repository).ok()
}

/// Drops as many components from both ends of a need as `width` says, where the target ends in the whole path of the source.
fn widened(need: &Need, width: MirrorScope) -> (Scope, Scope) {
    let same = (need.source.clone(), need.target.clone());
    let Some((_, path)) = need.source.as_str().split_once('/') else {
        return same;
    };
    let alike = need
        .target
        .as_str()
        .strip_suffix(path)
        .is_some_and(|rest| rest.ends_with('/'));
    let components = path.split('/').count();
    let dropped = match width {
        MirrorScope::Namespace if alike && components > 1 => 1,
        MirrorScope::Registry if alike => components,
        _ => 0,
    };
    let cut = |scope: Scope| (0..dropped).try_fold(scope, |scope, _| scope.parent());
    match (cut(need.source.clone()), cut(need.target.clone())) {
        (Some(source), Some(mirror)) => (source, mirror),
        _ => same,
    }
}
