//! The stanzas about handing documents to clusters: which clusters there are, what is held back, and when it may go.

use std::{path::Path, time::Duration};

use jiff::tz::TimeZone;

use super::{
    Cluster,
    parse::{path, time},
};
use crate::{
    model::window::{Cron, LONGEST, Window},
    yaml::{
        self,
        reader::{At, Fields},
    },
};

/// The shortest time that a window stays open.
const MINUTE: Duration = Duration::from_secs(60);

/// Reads `clusters`.
pub(super) fn clusters(top: &mut Fields<'_>, folder: &Path) -> Vec<Cluster> {
    let mut found: Vec<Cluster> = Vec::new();
    for at in top.list("clusters") {
        let Some((name_at, cluster)) = cluster(&at, folder) else {
            continue;
        };
        if found.iter().any(|other| other.name == cluster.name) {
            let message = format!("`{}` is there twice", cluster.name);
            name_at.error(message, "make one entry of the two");
        } else {
            found.push(cluster);
        }
    }
    found
}

/// Reads an entry of `clusters`, with where its name is.
fn cluster<'a>(at: &At<'a>, folder: &Path) -> Option<(At<'a>, Cluster)> {
    let mut fields = at.fields()?;
    let name_at = fields.required("name", "name the cluster, for instance `name: prod-a`");
    let name = name_at.as_ref().and_then(cluster_name);
    let patterns = fields.get("image_sets").map(|at| at.list());
    let patterns = patterns.map_or_else(
        || vec!["**".to_owned()],
        |list| list.iter().filter_map(|at| at.text()).collect(),
    );
    let snapshot = path(&mut fields, "snapshot", folder);
    fields.finish();
    let cluster = Cluster {
        name: name?,
        image_sets: patterns,
        snapshot,
    };
    name_at.map(|at| (at, cluster))
}

/// Reads a cluster's name, which is the name of a file too.
fn cluster_name(at: &At<'_>) -> Option<String> {
    let text = at.text()?;
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = text.len() <= 63
        && text.chars().all(inner)
        && ends(text.chars().next())
        && ends(text.chars().next_back());
    if !fits {
        at.error(
            format!("`{}` is not a name for a cluster", yaml::shorten(&text)),
            "write lower-case letters, digits, `-` and `.`, 63 at most",
        );
    }
    fits.then_some(text)
}

/// Reads `windows`; nothing where the key is not there.
pub(super) fn windows(fields: &mut Fields<'_>) -> Option<Vec<Window>> {
    let list = fields.get("windows")?.list();
    Some(list.iter().filter_map(window).collect())
}

fn window(at: &At<'_>) -> Option<Window> {
    let mut fields = at.fields()?;
    let opens = fields.required(
        "opens",
        "write when it opens in cron's five fields, for instance `0 22 * * SAT`",
    );
    let opens: Option<Cron> = opens.and_then(|at| at.parsed());
    let lasts_at = fields.required("lasts", "write how long it stays open, for instance `4h`");
    let lasts = lasts_at
        .is_some()
        .then(|| time(&mut fields, "lasts", MINUTE))
        .flatten();
    if let (Some(at), Some(lasts)) = (&lasts_at, lasts)
        && lasts > LONGEST
    {
        at.error("a window stays open for 31 days at most", "");
    }
    let zone = match fields.get("time_zone") {
        Some(at) => zone(&at),
        None => Some(TimeZone::UTC),
    };
    fields.finish();
    Some(Window {
        opens: opens?,
        lasts: lasts?,
        zone: zone?,
    })
}

fn zone(at: &At<'_>) -> Option<TimeZone> {
    let text = at.text()?;
    let zone = TimeZone::get(&text).ok();
    if zone.is_none() {
        at.error(
            format!("`{}` is not a time zone", yaml::shorten(&text)),
            "write a name of the IANA database, such as `Europe/Berlin` or `UTC`",
        );
    }
    zone
}
