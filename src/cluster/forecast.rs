//! What a change does to the nodes of one cluster: the rule of `impact`, and what is known of the cluster.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    cluster::{
        impact::{self, Effect, Reason},
        machine::Pool,
        node::Node,
        objects::{Disruption, ImageConfig, Objects},
        operator::Refusal,
        place::Place,
    },
    model::record::{ImpactReason, NodeImpact},
};

/// What a change does to the nodes of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// CRI-O reads its file anew. True also where that is not known.
    pub reload: bool,
    /// Nodes are drained, one after another. True also where that is not known.
    pub drain: bool,
    /// Nodes are rebooted, since the cluster's NodeDisruptionPolicy says so.
    pub reboot: bool,
    /// The cluster refuses all or some of it.
    pub refused: bool,
    /// The answer is not known; the first two are true then, so that a guard that looks at those alone is safe.
    pub unknown: bool,
    /// Each cause.
    pub reasons: Vec<Reason>,
    /// What the answer rests on and what it leaves out, one sentence or several.
    pub note: String,
}

/// What is said where nothing is known but the documents.
pub const NO_PICTURE: &str = "going by these alone; other mirror rules of a cluster, or a NodeDisruptionPolicy of its own, may change it";

/// Forecasts a change of a node's file, with what is known of the cluster, if anything is.
pub fn of_files(before: &Node, after: &Node, cluster: Option<&Objects>) -> Forecast {
    let mut forecast = plain(before, after);
    match cluster {
        Some(cluster) => forecast.within(cluster, before, after),
        None => forecast.note = NO_PICTURE.to_owned(),
    }
    forecast
}

/// Forecasts a change of mirror objects: of all that a cluster has, or, with a picture of it, of those among its own.
pub fn of_objects(old: &Objects, new: &Objects, cluster: Option<&Objects>) -> Forecast {
    let (before, after) = match cluster {
        Some(cluster) => (cluster.clone(), cluster.with_change(old, new)),
        None => (old.clone(), new.clone()),
    };
    let rendered = |objects: &Objects| Node::template().edited(&objects.inputs());
    match (rendered(&before), rendered(&after)) {
        (Ok(before), Ok(after)) => of_files(&before, &after, cluster),
        (_, Err(refusals)) => not_rendered(&refusals, true),
        (Err(refusals), Ok(_)) => not_rendered(&refusals, false),
    }
}

fn plain(before: &Node, after: &Node) -> Forecast {
    let impact = impact::impact(before, after);
    Forecast {
        reload: impact.effect >= Effect::Reload,
        drain: impact.effect == Effect::Drain,
        reasons: impact.reasons,
        ..Forecast::default()
    }
}

/// The operator refuses the rules, before or after: nodes keep an older file until something else changes, and what happens then
/// cannot be told.
fn not_rendered(refusals: &[Refusal], after: bool) -> Forecast {
    let reasons = refusals.iter().map(|refusal| Reason {
        scope: Some(Place::new(refusal.subject())),
        mirror: None,
        message: refusal.to_string(),
    });
    let note = match after {
        true => "nothing reaches any node until the rules are mended",
        false => "what nodes have now is older than the rules before the change, and not known",
    };
    Forecast {
        reload: true,
        drain: true,
        refused: after,
        unknown: true,
        reasons: reasons.collect(),
        note: note.to_owned(),
        ..Forecast::default()
    }
}

impl Forecast {
    /// The answer where a cluster is known by name and nothing else.
    pub fn unknown(why: impl Into<String>) -> Self {
        Forecast {
            reload: true,
            drain: true,
            unknown: true,
            note: why.into(),
            ..Forecast::default()
        }
    }

    /// Returns the word that says it all.
    pub fn word(&self) -> &'static str {
        match self {
            Forecast { unknown: true, .. } => "unknown",
            Forecast { reboot: true, .. } => "reboot",
            Forecast { drain: true, .. } => "drain",
            Forecast { reload: true, .. } => "reload",
            _ => "nothing",
        }
    }

    /// Lets what is known of a cluster count.
    fn within(&mut self, cluster: &Objects, before: &Node, after: &Node) {
        let mut notes = Vec::new();
        if self.reload {
            match &cluster.disruption {
                Some(policy) => notes.extend(self.disrupted(policy)),
                None => notes.push(
                    "the picture of the cluster holds no MachineConfiguration, so a NodeDisruptionPolicy of its own may change it"
                        .to_owned(),
                ),
            }
            notes.extend(pools(&cluster.pools));
        }
        if let Some(image) = &cluster.image {
            notes.extend(self.allowed(image, before, after));
        }
        self.note = notes.join("; ");
    }

    /// Replaces the operator's own rule with the actions that an administrator set for the file.
    fn disrupted(&mut self, policy: &Disruption) -> Option<String> {
        let actions = policy.actions.as_ref()?;
        let has = |word: &str| actions.iter().any(|action| action == word);
        self.reboot = has("Reboot");
        self.drain = self.reboot || has("Drain");
        self.reload = self.reboot || actions.iter().any(|action| action != "None");
        if !self.drain {
            self.reasons.clear();
        } else if self.reasons.is_empty() {
            self.reasons.push(Reason {
                scope: None,
                mirror: None,
                message: format!(
                    "the cluster's NodeDisruptionPolicy says {} for any change of the file",
                    actions.join(", ")
                ),
            });
        }
        let idle = match self.reload {
            true => "",
            false => ": CRI-O does not read the file until something else has it do so",
        };
        Some(format!(
            "the cluster's NodeDisruptionPolicy sets {} for this file in place of the operator's rule{idle}",
            actions.join(", ")
        ))
    }

    /// Tells what an allow-list keeps from being pulled. It is matched with the name that is pulled, not with the mirror's (tried with
    /// skopeo: `policy.json` is asked for the reference as written); what names the mirror itself needs the mirror listed.
    fn allowed(&mut self, image: &ImageConfig, before: &Node, after: &Node) -> Option<String> {
        if image.allowed.is_empty() {
            return None;
        }
        let allowed: Vec<Place> = image
            .allowed
            .iter()
            .map(|text| Place::verbatim(text))
            .collect();
        let lists = |place: &Place| allowed.iter().any(|wide| place.lies_in(wide));
        let partly = |place: &Place| allowed.iter().any(|narrow| narrow.lies_in(place));
        let mut mirrors = BTreeSet::new();
        let old = before.registries();
        for registry in after.registries() {
            if registry.mirrors.is_empty() || old.contains(registry) {
                continue;
            }
            let scope = registry.scope();
            if !lists(scope) && !partly(scope) {
                self.refused = true;
                self.reasons.push(Reason {
                    scope: Some(scope.clone()),
                    mirror: None,
                    message: format!(
                        "the cluster's allowedRegistries do not list `{scope}`, so its images are refused whatever mirror has them"
                    ),
                });
            }
            let unlisted = registry.mirrors.iter().map(|m| &m.location);
            mirrors.extend(unlisted.filter(|m| !lists(m)).map(ToString::to_string));
        }
        let mirrors: Vec<String> = mirrors.into_iter().take(5).collect();
        (!mirrors.is_empty()).then(|| {
            format!(
                "the cluster's allowedRegistries do not list {}: images named by the mirror itself, as catalogs are, are refused",
                mirrors.join(", ")
            )
        })
    }
}

impl From<&Forecast> for NodeImpact {
    fn from(forecast: &Forecast) -> Self {
        let text = |place: &Option<Place>| match place {
            Some(place) => place.to_string(),
            None => String::new(),
        };
        let reason = |reason: &Reason| ImpactReason {
            scope: text(&reason.scope),
            mirror: text(&reason.mirror),
            drain: forecast.drain,
            message: reason.message.clone(),
        };
        NodeImpact {
            reload: forecast.reload,
            drain: forecast.drain,
            unknown: forecast.unknown,
            reasons: forecast.reasons.iter().map(reason).collect(),
            note: forecast.note.clone(),
            reboot: forecast.reboot,
            refused: forecast.refused,
        }
    }
}

/// Says how many nodes it is about, and which wait.
fn pools(pools: &[Pool]) -> Option<String> {
    let told: Vec<String> = pools
        .iter()
        .map(|pool| {
            let nodes = pool.nodes.map(|n| match n {
                1 => "1 node".to_owned(),
                n => format!("{n} nodes"),
            });
            let paused = pool
                .paused
                .then(|| "paused: it takes the change when it is resumed".to_owned());
            let details: Vec<String> = nodes.into_iter().chain(paused).collect();
            match details.is_empty() {
                true => pool.name.clone(),
                false => format!("{} ({})", pool.name, details.join(", ")),
            }
        })
        .collect();
    (!told.is_empty()).then(|| format!("pools: {}", told.join(", ")))
}
