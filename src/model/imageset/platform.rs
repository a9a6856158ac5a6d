//! `mirror.platform`: releases.

use std::collections::HashSet;

use super::{Channel, ChannelType, PlatformSpec, names, parse::Schema};
use crate::yaml::reader::{At, Fields};

/// Reads the stanza; nothing is wanted where it is absent.
pub(super) fn read(mirror: &mut Fields<'_>, schema: Schema) -> PlatformSpec {
    let Some(mut fields) = mirror.fields("platform") else {
        return PlatformSpec::default();
    };
    schema.new_in_v2(&mut fields, &["platforms", "release", "kubeVirtContainer"]);
    let spec = PlatformSpec {
        graph: fields.flag("graph"),
        architectures: names::architectures(&mut fields),
        platforms: names::platforms(&mut fields),
        release: fields
            .get("release")
            .filter(|at| !at.is_empty_text())
            .and_then(|at| names::reference(&at)),
        kube_virt_container: fields.flag("kubeVirtContainer"),
        channels: channels(&mut fields),
    };
    check_together(&mut fields);
    fields.finish();
    spec
}

/// Reports keys that do not go together.
fn check_together(fields: &mut Fields<'_>) {
    let mut written = |key| {
        let found = fields.peek(key);
        found.filter(|at| !at.is_null() && !at.is_empty() && !at.is_empty_text())
    };
    if let (Some(at), Some(_)) = (written("architectures"), written("platforms")) {
        at.error(
            "`architectures` and `platforms` cannot be used together",
            "keep `platforms` for some platforms of a multi payload, or `architectures` for whole payloads",
        );
    }
    if let (Some(at), Some(_)) = (written("channels"), written("release")) {
        at.warn(
            "`channels` are not looked at while `release` names a payload, as in oc-mirror",
            "remove one of the two",
        );
    }
}

/// Reads `channels`.
fn channels(fields: &mut Fields<'_>) -> Vec<Channel> {
    let mut names = HashSet::new();
    let mut found = Vec::new();
    for at in fields.list("channels") {
        let Some((name_at, channel)) = channel(&at) else {
            continue;
        };
        if names.insert(channel.name.clone()) {
            found.push(channel);
        } else {
            name_at.error(
                format!("the channel `{}` is there twice", channel.name),
                "make one entry of the two",
            );
        }
    }
    found
}

/// Reads an entry of `channels`, with where its name is.
fn channel<'a>(at: &At<'a>) -> Option<(At<'a>, Channel)> {
    let mut fields = at.fields()?;
    let name_at = fields.required("name", "name the channel, for instance `name: stable-4.17`");
    let name = name_at.as_ref().and_then(At::text);
    let channel_type = fields.get("type").and_then(|at| channel_type(&at));
    let min = fields
        .get("minVersion")
        .and_then(|at| names::release_version(&at));
    let max_at = fields.get("maxVersion");
    let max = max_at.as_ref().and_then(names::release_version);
    names::check_bounds(max_at.as_ref().unwrap_or(at), min.as_ref(), max.as_ref());
    let channel = Channel {
        name: name.clone().unwrap_or_default(),
        channel_type: channel_type.unwrap_or_default(),
        min_version: min,
        max_version: max,
        shortest_path: fields.flag("shortestPath"),
        full: fields.flag("full"),
    };
    fields.finish();
    name.and(name_at).map(|at| (at, channel))
}

/// Reads `type`. oc-mirror takes every word it does not know for `ocp`, silently; that can only be a mistake, but for `OCP`.
fn channel_type(at: &At<'_>) -> Option<ChannelType> {
    const TYPES: [(&str, ChannelType); 2] = [("ocp", ChannelType::Ocp), ("okd", ChannelType::Okd)];
    let text = at.text().filter(|text| !text.is_empty())?;
    if text != "ocp" && text.eq_ignore_ascii_case("ocp") {
        at.warn(
            format!("`{text}` is read as `ocp`, as oc-mirror does"),
            "write `ocp`",
        );
        return Some(ChannelType::Ocp);
    }
    at.choice("a type of channels", &TYPES)
}
