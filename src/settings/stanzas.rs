//! The stanzas of the settings file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Git, RegistriesConf, RegistryAccess, ReleaseVerification, SignedBy, UpdateService, Verify,
    parse::{SECOND, choice, count, path, time, word},
    units::Time,
};
use crate::{
    model::{
        drift::Depth,
        image::{Reference, Registry, Repository},
        policy::{MirrorSourcePolicy, SourcePolicy},
    },
    yaml::{
        self,
        reader::{At, Fields},
    },
};

/// The update service of OpenShift.
const OCP_GRAPH: &str = "https://api.openshift.com/api/upgrades_info/v1/graph";

/// The update service of OKD.
const OKD_GRAPH: &str = "https://origin-release.ci.openshift.org/graph";

/// The signature store of OpenShift.
const OCP_SIGNATURES: &str =
    "https://mirror.openshift.com/pub/openshift-v4/signatures/openshift/release";

/// The signature store of OKD.
pub(super) const OKD_SIGNATURES: &str =
    "https://storage.googleapis.com/openshift-ci-release/releases/signatures/openshift/release";

/// Reads `git`.
pub(super) fn git(top: &mut Fields<'_>) -> Option<Git> {
    let mut fields = top.fields("git")?;
    let url = fields
        .required("url", "write what `git clone` would be given")
        .and_then(|at| git_url(&at));
    let branch = fields.get("branch").map(|at| branch(&at));
    let interval = time(&mut fields, "interval", SECOND);
    fields.finish();
    Some(Git {
        url: url?,
        branch: branch.unwrap_or_else(|| Some("main".to_owned()))?,
        interval: interval.unwrap_or(Duration::from_secs(60)),
    })
}

/// Reads the address of a Git repository. One with a password in it would show it in the list of processes, and is not shown here either.
fn git_url(at: &At<'_>) -> Option<String> {
    let text = at.text()?;
    if url::Url::parse(&text).is_ok_and(|url| url.password().is_some()) {
        at.error(
            "the address has a password in it, which would be seen in the list of processes",
            "leave it to a credential helper of git",
        );
        return None;
    }
    if text.starts_with('-') || text.contains(char::is_whitespace) {
        at.error(
            format!(
                "`{}` is not the address of a Git repository",
                yaml::shorten(&text)
            ),
            "",
        );
        return None;
    }
    Some(text)
}

/// Reads the name of a branch (git-check-ref-format).
fn branch(at: &At<'_>) -> Option<String> {
    let text = at.text()?;
    let fits = !text.is_empty()
        && !text.starts_with(['-', '/', '.'])
        && !text.ends_with(['/', '.'])
        && !text.contains("..")
        && !text.contains("//")
        && !text.contains("@{")
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c));
    if !fits {
        at.error(
            format!("`{}` is not the name of a branch", yaml::shorten(&text)),
            "",
        );
    }
    fits.then_some(text)
}

/// Reads `mirror_source_policies`.
pub(super) fn source_policies(top: &mut Fields<'_>) -> Vec<SourcePolicy> {
    let read = |at: &At<'_>| {
        let mut fields = at.fields()?;
        let source = fields
            .required(
                "source",
                "name a source, for instance `quay.io/openshift-release-dev/*`",
            )
            .and_then(|at| source(&at));
        let policy = fields
            .required(
                "policy",
                "write `AllowContactingSource` or `NeverContactSource`",
            )
            .and_then(|at| source_policy(&at));
        fields.finish();
        Some(SourcePolicy {
            source: source?,
            policy: policy?,
        })
    };
    top.list("mirror_source_policies")
        .iter()
        .filter_map(read)
        .collect()
}

/// Reads a pattern of sources.
fn source(at: &At<'_>) -> Option<String> {
    let text = at.text()?;
    if text.contains("://") || text.contains('@') || text.contains(char::is_whitespace) {
        let message = format!("`{}` is not a source of mirror rules", yaml::shorten(&text));
        at.error(message, "write a registry and a path, without transport, tag and digest; `*` is any text without `/`, `**` any text");
        return None;
    }
    Some(text)
}

/// Reads a `mirrorSourcePolicy`.
fn source_policy(at: &At<'_>) -> Option<MirrorSourcePolicy> {
    const POLICIES: [(&str, MirrorSourcePolicy); 3] = [
        (
            "AllowContactingSource",
            MirrorSourcePolicy::AllowContactingSource,
        ),
        ("NeverContactSource", MirrorSourcePolicy::NeverContactSource),
        ("AllowFallback", MirrorSourcePolicy::AllowContactingSource),
    ];
    let text = at.text()?;
    if text == "AllowFallback" {
        at.warn(
            "`AllowFallback` is not a value that clusters know; `AllowContactingSource` is written instead",
            "write `AllowContactingSource`",
        );
        return Some(MirrorSourcePolicy::AllowContactingSource);
    }
    at.choice("a `mirrorSourcePolicy`", &POLICIES[..2])
}

/// Reads `update_service`.
pub(super) fn update_service(top: &mut Fields<'_>) -> UpdateService {
    let mut fields = top.fields("update_service");
    let mut read = |key, default: &str| {
        let written = fields.as_mut().and_then(|fields| fields.get(key));
        let url = written.and_then(|at| graph_url(&at));
        url.unwrap_or_else(|| url::Url::parse(default).expect("the default is a URL"))
    };
    let service = UpdateService {
        ocp: read("ocp", OCP_GRAPH),
        okd: read("okd", OKD_GRAPH),
    };
    if let Some(fields) = fields {
        fields.finish();
    }
    service
}

/// Reads the address of a graph.
fn graph_url(at: &At<'_>) -> Option<url::Url> {
    let text = at.text()?;
    let url = url::Url::parse(&text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    if url.is_none() {
        let message = format!(
            "`{}` is not the address of an update service",
            yaml::shorten(&text)
        );
        at.error(
            message,
            "write one that begins with `https://` or `http://`",
        );
    }
    url
}

/// Reads `release_verification`.
pub(super) fn release_verification(top: &mut Fields<'_>, folder: &Path) -> ReleaseVerification {
    let mut fields = top.fields("release_verification");
    let mut read = |key, default| {
        let written = fields.as_mut().and_then(|fields| fields.fields(key));
        signed_by(written, folder, default)
    };
    let found = ReleaseVerification {
        ocp: read("ocp", OCP_SIGNATURES),
        okd: read("okd", OKD_SIGNATURES),
    };
    if let Some(fields) = fields {
        fields.finish();
    }
    found
}

/// What holds where nothing is said.
pub(super) fn signed_by_default(store: &str) -> SignedBy {
    SignedBy {
        store: url::Url::parse(store).expect("the default is a URL"),
        keyring: None,
        names: Vec::new(),
    }
}

fn signed_by(fields: Option<Fields<'_>>, folder: &Path, store: &str) -> SignedBy {
    let mut found = signed_by_default(store);
    let Some(mut fields) = fields else {
        return found;
    };
    if let Some(url) = fields.get("store").and_then(|at| store_url(&at)) {
        found.store = url;
    }
    found.keyring = path(&mut fields, "keyring", folder);
    let names = fields.list("names");
    found.names = names.iter().filter_map(signed_name).collect();
    fields.finish();
    found
}

/// Reads the address of a signature store.
fn store_url(at: &At<'_>) -> Option<url::Url> {
    let text = at.text()?;
    let url = url::Url::parse(&text).ok();
    let url = url.filter(|url| match url.scheme() {
        "http" | "https" => url.has_host(),
        "file" => !url.has_host(),
        _ => false,
    });
    if url.is_none() {
        let message = format!(
            "`{}` is not the address of a signature store",
            yaml::shorten(&text)
        );
        at.error(
            message,
            "write one that begins with `https://`, `http://` or `file:///`",
        );
    }
    url
}

/// Reads a repository that signatures may name.
fn signed_name(at: &At<'_>) -> Option<Repository> {
    let reference: Reference = at.parsed()?;
    if reference.tag.is_some() || reference.digest.is_some() {
        at.error(
            format!("`{reference}` is more than a repository"),
            "leave out tag and digest",
        );
        return None;
    }
    Some(reference.repository)
}

/// Reads `registries`.
pub(super) fn registries(top: &mut Fields<'_>, folder: &Path) -> Vec<RegistryAccess> {
    let mut found: Vec<RegistryAccess> = Vec::new();
    for at in top.list("registries") {
        let Some((host_at, access)) = registry(&at, folder) else {
            continue;
        };
        if found.iter().any(|other| other.host == access.host) {
            host_at.error(
                format!("`{}` is there twice", access.host),
                "make one entry of the two",
            );
        } else {
            found.push(access);
        }
    }
    found
}

/// Reads an entry of `registries`, with where its host is.
fn registry<'a>(at: &At<'a>, folder: &Path) -> Option<(At<'a>, RegistryAccess)> {
    let mut fields = at.fields()?;
    let host_at = fields.required(
        "host",
        "name the registry, for instance `host: registry.lan:5000`",
    );
    let host: Option<Registry> = host_at.as_ref().and_then(At::parsed);
    let plain_http = fields.flag("plain_http");
    let skip_tls_verify = fields.flag("skip_tls_verify");
    let ca_file = path(&mut fields, "ca_file", folder);
    let client = client(at, &mut fields, folder);
    if plain_http && (skip_tls_verify || ca_file.is_some()) {
        at.error(
            "`plain_http` has no certificate that could be checked or not",
            "remove `plain_http`, or `skip_tls_verify` and `ca_file`",
        );
    } else if plain_http && client.is_some() {
        at.error(
            "`plain_http` shows no certificate",
            "remove `plain_http`, or `client_cert` and `client_key`",
        );
    }
    fields.finish();
    let access = RegistryAccess {
        host: host?,
        plain_http,
        skip_tls_verify,
        ca_file,
        client,
    };
    host_at.map(|at| (at, access))
}

/// Reads `signatures`: whether they come along, and how often they are looked for again.
pub(super) fn signatures(fields: &mut Fields<'_>) -> (Option<bool>, Option<Duration>) {
    let Some(mut fields) = fields.fields("signatures") else {
        return (None, None);
    };
    let copy = fields.get("copy").and_then(|at| at.boolean());
    let refresh = time(&mut fields, "refresh", SECOND);
    fields.finish();
    (copy, refresh)
}

/// Reads what is shown to a registry: both files or none.
fn client(at: &At<'_>, fields: &mut Fields<'_>, folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let certificate = path(fields, "client_cert", folder);
    let key = path(fields, "client_key", folder);
    if certificate.is_some() != key.is_some() {
        at.error(
            "`client_cert` and `client_key` belong together, and one is missing",
            "name both PEM files, or neither",
        );
    }
    certificate.zip(key)
}

/// Reads `registries_conf`: a file, or `none`.
pub(super) fn registries_conf(top: &mut Fields<'_>, folder: &Path) -> RegistriesConf {
    match word(top, "registries_conf") {
        None => RegistriesConf::Usual,
        Some(text) if text == "none" => RegistriesConf::None,
        Some(text) => RegistriesConf::File(folder.join(text)),
    }
}

/// Reads `keep`: how many plans and how many runs.
pub(super) fn keep(top: &mut Fields<'_>) -> (usize, usize) {
    const PLANS: usize = 20;
    const RUNS: usize = 50;
    let Some(mut fields) = top.fields("keep") else {
        return (PLANS, RUNS);
    };
    let plans = count(&mut fields, "plans", PLANS, 1..=10_000);
    let runs = count(&mut fields, "runs", RUNS, 1..=10_000);
    fields.finish();
    (plans, runs)
}

/// How often the mirror is checked where nothing is said.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// How many requests a second a check sends where nothing is said: 50,000 manifests take 42 minutes.
const RATE: usize = 20;

/// Reads `verify`.
pub(super) fn verify(top: &mut Fields<'_>) -> Verify {
    const DEPTHS: [(&str, Depth); 3] = [
        ("quick", Depth::Quick),
        ("deep", Depth::Deep),
        ("read", Depth::Read),
    ];
    let mut found = Verify {
        every: Some(DAY),
        depth: Depth::Quick,
        rate: RATE as u32,
        repair: false,
    };
    let Some(mut fields) = top.fields("verify") else {
        return found;
    };
    if let Some(at) = fields.get("every") {
        found.every = every(&at);
    }
    let depth = choice(
        &mut fields,
        "depth",
        "how closely the mirror is looked at",
        &DEPTHS,
    );
    found.depth = depth.unwrap_or_default();
    found.rate = count(&mut fields, "rate", RATE, 1..=1000) as u32;
    found.repair = fields.flag("repair");
    fields.finish();
    found
}

/// Reads how often, or `never`.
fn every(at: &At<'_>) -> Option<Duration> {
    if at.text()? == "never" {
        return None;
    }
    let Time(time) = at.parsed()?;
    if time < SECOND {
        at.error("`every` is too short", "write `1s` or more, or `never`");
    }
    Some(time)
}
