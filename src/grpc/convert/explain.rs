//! What a node does with an image reference, and with a change of its rules.

use crate::{
    cluster::{
        forecast::Forecast,
        pull::{Attempt, Resolution},
    },
    grpc::{convert::plan::pictured_impact, v1},
    model::image::Reference,
};

/// Returns what a node does; `present` says of each attempt whether the content is there, where that is known.
pub fn explained(
    reference: &Reference,
    resolution: &Resolution,
    present: &[Option<bool>],
) -> v1::ExplainImageResponse {
    let text = |place: &Option<_>| match place {
        Some(place) => format!("{place}"),
        None => String::new(),
    };
    let source = |(attempt, present): (&Attempt, Option<bool>)| v1::PullSource {
        reference: attempt.reference.to_string(),
        mirror: text(&attempt.mirror),
        insecure: attempt.insecure,
        present,
        refused_by: text(&attempt.refused_by),
    };
    let known = present.iter().copied().chain(std::iter::repeat(None));
    v1::ExplainImageResponse {
        reference: reference.to_string(),
        matched: text(&resolution.matched),
        blocked: resolution.blocked,
        sources: resolution.attempts.iter().zip(known).map(source).collect(),
        invalid: resolution.invalid.clone().unwrap_or_default(),
    }
}

/// Returns what a change does to the nodes of a cluster.
pub fn forecast(forecast: &Forecast) -> v1::NodeImpact {
    pictured_impact(&forecast.into())
}
