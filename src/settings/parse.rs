//! The settings file's schema: keys, defaults and what they may be.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Override, Settings,
    clients::{clients, credential},
    handoff::{clusters, windows},
    listen::listen,
    stanzas::{
        git, keep, registries, registries_conf, release_verification, signatures, source_policies,
        update_service, verify,
    },
    units::{Size, Time},
};
use crate::{
    model::policy::{ApplyMode, CatalogReference, HoldDocuments, MirrorScope, OnRefresh, Policy},
    yaml::{
        self, Problem, Severity,
        reader::{At, Fields},
        report::{Dialect, Report},
    },
};

/// The shortest time between two looks at something.
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Reads a settings file's text; relative paths in it begin in the folder of `file`.
///
/// # Errors
///
/// All the problems of the file, sorted by place, where at least one is an error. The warnings of a good file stand beside its settings.
pub fn parse(file: &str, text: &str) -> Result<(Settings, Vec<Problem>), Vec<Problem>> {
    let documents = yaml::parse(file, text.as_bytes()).map_err(|problem| vec![problem])?;
    let (first, more) = match documents.as_slice() {
        [] => {
            return Err(vec![whole_file(
                file,
                "the file says nothing",
                "name the mirror, for instance `target: registry.lan:5000`",
            )]);
        }
        [first, more @ ..] => (first, more.first()),
    };
    let report = Report::new(file, Dialect::Own, first);
    if let Some(more) = more {
        let mut problem = whole_file(
            file,
            "settings are one document, and a second one begins here",
            "make one of the two",
        );
        (problem.line, problem.column) = (more.line, 1);
        report.push(problem);
    }
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let root = first.root.as_deref();
    let settings = root.and_then(|root| settings(&report.root(root), folder));
    match (settings, report.has_errors()) {
        (Some(settings), false) => Ok((settings, report.into_problems())),
        _ => Err(report.into_problems()),
    }
}

/// A problem that has no better place than the file.
fn whole_file(file: &str, message: &str, hint: &str) -> Problem {
    Problem {
        file: file.to_owned(),
        line: 0,
        column: 0,
        severity: Severity::Error,
        path: String::new(),
        message: message.to_owned(),
        hint: hint.to_owned(),
    }
}

/// Reads the document.
pub(super) fn settings(root: &At<'_>, folder: &Path) -> Option<Settings> {
    let mut top = root.fields()?;
    let settings = keys(&mut top, folder);
    top.finish();
    settings
}

/// Reads the keys of the document; nothing where there is no target.
fn keys(top: &mut Fields<'_>, folder: &Path) -> Option<Settings> {
    let mut path = |key, default: &str| match path(top, key, folder) {
        Some(path) => path,
        None => PathBuf::from(default),
    };
    let directory = path("directory", "/var/lib/imagesetd/imagesets");
    let state = path("state", "/var/lib/imagesetd");
    let output = path("output", "/var/lib/imagesetd/resources");
    let (keep_plans, keep_runs) = keep(top);
    let defaults = defaults(top);
    let written_nesting = nesting(top).unwrap_or_default();
    let clients = clients(top, folder);
    Some(Settings {
        directory,
        state,
        output,
        git: git(top),
        listen: listen(top, folder, &clients),
        clients,
        socket_group: word(top, "socket_group"),
        authfile: credential(top, "authfile", folder),
        certs_dir: self::path(top, "certs_dir", folder),
        registries_conf: registries_conf(top, folder),
        max_nested_paths: written_nesting,
        image_sets: overrides(top),
        clusters: clusters(top, folder),
        mirror_source_policies: source_policies(top),
        update_service: update_service(top),
        release_verification: release_verification(top, folder),
        registries: registries(top, folder),
        settle: time(top, "settle", Duration::ZERO).unwrap_or(Duration::from_secs(2)),
        rescan: time(top, "rescan", SECOND).unwrap_or(Duration::from_secs(60)),
        parallel_images: count(top, "parallel_images", 8, 1..=256),
        parallel_blobs: count(top, "parallel_blobs", 16, 1..=1024),
        retries: u32::try_from(count(top, "retries", 5, 0..=100)).unwrap_or(5),
        shutdown_timeout: time(top, "shutdown_timeout", Duration::ZERO)
            .unwrap_or(Duration::from_secs(30)),
        verify: verify(top),
        keep_plans,
        keep_runs,
        // Last, so that all else has been looked at.
        defaults: defaults?,
    })
}

/// Reads what holds for image sets unless an override says otherwise; nothing where the target is missing or unfit.
fn defaults(top: &mut Fields<'_>) -> Option<Policy> {
    top.required(
        "target",
        "name the mirror registry, for instance `target: registry.lan:5000/mirror`",
    );
    let written = policy(top, String::new());
    Some(Policy {
        target: written.target?,
        apply: written.apply.unwrap_or_default(),
        on_refresh: written.on_refresh.unwrap_or_default(),
        refresh: written.refresh.unwrap_or(Duration::from_secs(4 * 3600)),
        max_bytes: written.max_bytes,
        mirror_scope: written.mirror_scope.unwrap_or_default(),
        ignore_release_signatures: written.ignore_release_signatures.unwrap_or_default(),
        conditional_updates: written.conditional_updates.unwrap_or_default(),
        copy_signatures: written.copy_signatures.unwrap_or(true),
        signatures_refresh: written
            .signatures_refresh
            .unwrap_or(Duration::from_secs(24 * 3600)),
        hold_documents: written.hold_documents.unwrap_or_default(),
        windows: written.windows.unwrap_or_default(),
        catalog_reference: written.catalog_reference.unwrap_or_default(),
        catalog_poll: written.catalog_poll.unwrap_or(Duration::from_secs(1800)),
    })
}

/// Reads the keys of a policy; the same below `image_sets` and at the top.
fn policy(fields: &mut Fields<'_>, name: String) -> Override {
    const APPLY: [(&str, ApplyMode); 2] = [
        ("automatic", ApplyMode::Automatic),
        ("manual", ApplyMode::Manual),
    ];
    const ON_REFRESH: [(&str, OnRefresh); 2] =
        [("apply", OnRefresh::Apply), ("plan", OnRefresh::Plan)];
    const SCOPE: [(&str, MirrorScope); 3] = [
        ("repository", MirrorScope::Repository),
        ("namespace", MirrorScope::Namespace),
        ("registry", MirrorScope::Registry),
    ];
    const HOLD: [(&str, HoldDocuments); 2] = [
        ("never", HoldDocuments::Never),
        ("drains", HoldDocuments::Drains),
    ];
    const SIGNATURES: [(&str, bool); 2] = [("verify", false), ("ignore", true)];
    const REFERENCE: [(&str, CatalogReference); 2] = [
        ("digest", CatalogReference::Digest),
        ("tag", CatalogReference::Tag),
    ];
    let (copy_signatures, signatures_refresh) = signatures(fields);
    Override {
        name,
        target: fields.parsed("target"),
        max_nested_paths: None,
        apply: choice(fields, "apply", "a way to apply plans", &APPLY),
        on_refresh: choice(
            fields,
            "on_refresh",
            "what is done when upstream moved",
            &ON_REFRESH,
        ),
        refresh: time(fields, "refresh", SECOND),
        max_bytes: fields.parsed("max_bytes").map(|Size(bytes)| bytes),
        mirror_scope: choice(fields, "mirror_scope", "a scope of mirror rules", &SCOPE),
        ignore_release_signatures: choice(
            fields,
            "release_signatures",
            "what is done with signatures of releases",
            &SIGNATURES,
        ),
        conditional_updates: fields
            .get("conditional_updates")
            .and_then(|at| at.boolean()),
        copy_signatures,
        signatures_refresh,
        hold_documents: choice(
            fields,
            "hold_documents",
            "which documents are held back",
            &HOLD,
        ),
        windows: windows(fields),
        catalog_reference: choice(
            fields,
            "catalog_reference",
            "a way to refer to catalogs",
            &REFERENCE,
        ),
        // Clusters count in minutes.
        catalog_poll: time(fields, "catalog_poll", Duration::from_secs(60)),
    }
}

/// Reads `max_nested_paths`; nothing where it is not written.
fn nesting(fields: &mut Fields<'_>) -> Option<u32> {
    let at = fields.get("max_nested_paths")?;
    let written = at.integer()?;
    let most = u32::try_from(written).ok().filter(|most| *most <= 100);
    if most.is_none() {
        at.error(
            format!("`max_nested_paths` is {written}, and 0 to 100 is possible"),
            "",
        );
    }
    most
}

/// Reads `image_sets`.
fn overrides(top: &mut Fields<'_>) -> Vec<Override> {
    let read = |at: &At<'_>| {
        let mut fields = at.fields()?;
        let name = fields
            .required(
                "name",
                "name an image set, or write a pattern such as `prod/*`",
            )
            .and_then(|at| at.text());
        let found = Override {
            max_nested_paths: nesting(&mut fields),
            ..policy(&mut fields, name.clone().unwrap_or_default())
        };
        fields.finish();
        name.map(|_| found)
    };
    top.list("image_sets").iter().filter_map(read).collect()
}

/// Reads a path; a relative one begins in the folder of the settings file.
pub(super) fn path(fields: &mut Fields<'_>, key: &'static str, folder: &Path) -> Option<PathBuf> {
    word(fields, key).map(|path| folder.join(path))
}

/// Reads a text that says something.
pub(super) fn word(fields: &mut Fields<'_>, key: &'static str) -> Option<String> {
    let at = fields.get(key)?;
    let text = at.text()?;
    if text.trim().is_empty() {
        at.error(
            "nothing is written here",
            "write a value, or remove the key",
        );
        return None;
    }
    Some(text)
}

/// Reads one of several words.
pub(super) fn choice<T: Clone>(
    fields: &mut Fields<'_>,
    key: &'static str,
    what: &str,
    words: &[(&str, T)],
) -> Option<T> {
    fields.get(key).and_then(|at| at.choice(what, words))
}

/// Reads a time that is not below `least`.
pub(super) fn time(
    fields: &mut Fields<'_>,
    key: &'static str,
    least: Duration,
) -> Option<Duration> {
    let at = fields.get(key)?;
    let Time(time) = at.parsed()?;
    if time < least {
        let least = match least.as_secs() {
            60 => "1m",
            _ => "1s",
        };
        at.error(
            format!("`{key}` is too short"),
            format!("write `{least}` or more"),
        );
        return None;
    }
    Some(time)
}

/// Reads a number within bounds.
pub(super) fn count(
    fields: &mut Fields<'_>,
    key: &'static str,
    default: usize,
    bounds: std::ops::RangeInclusive<usize>,
) -> usize {
    let Some((at, written)) = fields.get(key).and_then(|at| at.integer().map(|n| (at, n))) else {
        return default;
    };
    match usize::try_from(written) {
        Ok(count) if bounds.contains(&count) => count,
        _ => {
            at.error(
                format!(
                    "`{key}` is {written}, and {} to {} is possible",
                    bounds.start(),
                    bounds.end()
                ),
                "",
            );
            default
        }
    }
}
