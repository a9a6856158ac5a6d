//! `mirror.operators`: catalogs and what is wanted of them.

use std::collections::HashSet;

use semver::Version;

use super::{
    Operator, Package, PackageChannel,
    collide::{Claim, Claimed},
    names,
    parse::Schema,
};
use crate::yaml::reader::{At, Fields};

/// Reads the stanza, and where its catalogs land.
pub(super) fn read(
    mirror: &mut Fields<'_>,
    schema: Schema,
    claims: &mut Vec<Claim>,
) -> Vec<Operator> {
    let mut found = Vec::new();
    for at in mirror.list("operators") {
        if let Some((catalog_at, operator)) = operator(&at, schema) {
            if let Some((path, tag)) = landing(&operator) {
                let source = operator.catalog.clone();
                let what = Claimed::Catalog(Box::new(operator.clone()));
                claims.push(Claim::new(&catalog_at, path, tag, source, what));
            }
            found.push(operator);
        }
    }
    found
}

/// Reads an entry, with where its catalog's name is.
fn operator<'a>(at: &At<'a>, schema: Schema) -> Option<(At<'a>, Operator)> {
    let mut fields = at.fields()?;
    schema.new_in_v2(&mut fields, &["platforms", "targetCatalogSourceTemplate"]);
    let catalog_at = fields.required(
        "catalog",
        "name the catalog, for instance `catalog: registry.redhat.io/redhat/redhat-operator-index:v4.17`",
    );
    let catalog = catalog_at.as_ref().and_then(catalog);
    let target = names::target_path(&mut fields, "targetCatalog");
    let old_target = target_name(&mut fields, schema, catalog.as_deref());
    schema.only_in_v1(
        &mut fields,
        "originalRef",
        "the catalog alone is looked at, and this is not used",
        "remove it",
    );
    let operator = Operator {
        catalog: catalog.clone().unwrap_or_default(),
        full: fields.flag("full"),
        target_catalog: target.or(old_target),
        target_tag: fields.parsed("targetTag"),
        target_catalog_source_template: fields.text("targetCatalogSourceTemplate"),
        skip_dependencies: fields.flag("skipDependencies"),
        platforms: names::platforms(&mut fields),
        packages: packages(&mut fields, schema),
    };
    check_full(&mut fields, &operator);
    fields.finish();
    catalog.and(catalog_at).map(|at| (at, operator))
}

/// Reads `catalog`: a reference, or `oci://` and a folder.
fn catalog(at: &At<'_>) -> Option<String> {
    let text = at.text()?;
    match text
        .strip_prefix("oci://")
        .map(|path| path.trim_matches('/'))
    {
        Some("") => {
            at.error(
                "`oci://` names no folder",
                "write its path, for instance `oci:///srv/catalog`",
            );
            None
        }
        Some(_) => Some(text),
        None => names::reference(at).map(|reference| reference.to_string()),
    }
}

/// Reads v1alpha2's `targetName`, the last component of the catalog's path in the mirror.
fn target_name(fields: &mut Fields<'_>, schema: Schema, catalog: Option<&str>) -> Option<String> {
    if !schema.only_in_v1(
        fields,
        "targetName",
        "it is read as `targetCatalog` with the catalog's namespace before it, where there is no `targetCatalog`",
        "write `targetCatalog`",
    ) {
        return None;
    }
    let name = names::target_path(fields, "targetName")?;
    let namespace = match catalog?.parse::<crate::model::image::Reference>() {
        Ok(reference) => reference
            .repository
            .path()
            .rsplit_once('/')
            .map(|(ns, _)| ns.to_owned()),
        Err(_) => None,
    };
    Some(namespace.map_or(name.clone(), |namespace| format!("{namespace}/{name}")))
}

/// Where a catalog lands; nothing where that depends on its content.
fn landing(operator: &Operator) -> Option<(String, String)> {
    let (path, tag) = match operator.catalog.strip_prefix("oci://") {
        Some(folder) => {
            let name = folder.trim_end_matches('/').rsplit('/').next()?;
            (name.to_owned(), Some("latest".to_owned()))
        }
        None => {
            let reference: crate::model::image::Reference = operator.catalog.parse().ok()?;
            (
                reference.repository.path().to_owned(),
                reference.tag.map(|tag| tag.to_string()),
            )
        }
    };
    let tag = operator
        .target_tag
        .as_ref()
        .map(ToString::to_string)
        .or(tag);
    // A catalog that is named by its digest is tagged with the digest it is rebuilt to; two of one source still are one too many.
    let tag = tag.unwrap_or_else(|| {
        operator
            .catalog
            .rsplit('@')
            .next()
            .unwrap_or_default()
            .to_owned()
    });
    Some((operator.target_catalog.clone().unwrap_or(path), tag))
}

/// Reports `full` beside bounds, which the two contradict.
fn check_full(fields: &mut Fields<'_>, operator: &Operator) {
    let bounded = |min: &Option<Version>, max: &Option<Version>| min.is_some() || max.is_some();
    let ranged = operator.packages.iter().any(|package| {
        bounded(&package.min_version, &package.max_version)
            || package
                .channels
                .iter()
                .any(|c| bounded(&c.min_version, &c.max_version))
    });
    if let (true, true, Some(at)) = (operator.full, ranged, fields.peek("full")) {
        at.error(
            "`full` takes every version, and the packages have `minVersion` or `maxVersion`",
            "remove `full`, or the versions",
        );
    }
}

/// Reads `packages`.
fn packages(fields: &mut Fields<'_>, schema: Schema) -> Vec<Package> {
    let mut names = HashSet::new();
    let mut found = Vec::new();
    for at in fields.list("packages") {
        let Some((name_at, package)) = package(&at, schema) else {
            continue;
        };
        if names.insert(package.name.clone()) {
            found.push(package);
        } else {
            let message = format!(
                "the package `{}` is there twice in this catalog",
                package.name
            );
            name_at.error(message, "make one entry of the two");
        }
    }
    found
}

/// Reads an entry of `packages`, with where its name is.
fn package<'a>(at: &At<'a>, schema: Schema) -> Option<(At<'a>, Package)> {
    let mut fields = at.fields()?;
    let name_at = fields.required("name", "name the package");
    let name = name_at.as_ref().and_then(At::text);
    let bounds = Bounds::read(at, &mut fields, schema);
    let package = Package {
        name: name.clone().unwrap_or_default(),
        default_channel: fields.text("defaultChannel"),
        channels: package_channels(&mut fields, schema, &bounds),
        min_version: bounds.min,
        max_version: bounds.max,
        min_bundle: bounds.bundle,
    };
    fields.finish();
    name.and(name_at).map(|at| (at, package))
}

/// Reads `channels` of a package that has bounds of its own, perhaps.
fn package_channels(
    fields: &mut Fields<'_>,
    schema: Schema,
    outer: &Bounds,
) -> Vec<PackageChannel> {
    let mut names = HashSet::new();
    let mut found = Vec::new();
    for at in fields.list("channels") {
        let Some((name_at, channel)) = package_channel(&at, schema, outer) else {
            continue;
        };
        if names.insert(channel.name.clone()) {
            found.push(channel);
        } else {
            let message = format!(
                "the channel `{}` is there twice in this package",
                channel.name
            );
            name_at.error(message, "make one entry of the two");
        }
    }
    found
}

/// Reads an entry of a package's `channels`, with where its name is.
fn package_channel<'a>(
    at: &At<'a>,
    schema: Schema,
    outer: &Bounds,
) -> Option<(At<'a>, PackageChannel)> {
    let mut fields = at.fields()?;
    let name_at = fields.required("name", "name the channel");
    let name = name_at.as_ref().and_then(At::text);
    let bounds = Bounds::read(at, &mut fields, schema);
    if bounds.any() && outer.any() {
        at.error(
            "bounds of the package and bounds of one of its channels cannot be mixed",
            "keep `minVersion` and `maxVersion` either on the package or on its channels",
        );
    }
    fields.finish();
    let channel = PackageChannel {
        name: name.clone().unwrap_or_default(),
        min_version: bounds.min,
        max_version: bounds.max,
        min_bundle: bounds.bundle,
    };
    name.and(name_at).map(|at| (at, channel))
}

/// The bounds of a package or of one of its channels.
struct Bounds {
    min: Option<Version>,
    max: Option<Version>,
    bundle: Option<String>,
    written: bool,
}

impl Bounds {
    fn read(at: &At<'_>, fields: &mut Fields<'_>, schema: Schema) -> Self {
        let min_at = fields.get("minVersion").filter(|at| !at.is_empty_text());
        let max_at = fields.get("maxVersion").filter(|at| !at.is_empty_text());
        let min = min_at
            .as_ref()
            .and_then(|at| names::bundle_version(at, false));
        let max = max_at
            .as_ref()
            .and_then(|at| names::bundle_version(at, true));
        names::check_bounds(max_at.as_ref().unwrap_or(at), min.as_ref(), max.as_ref());
        let instead = "it is read as the lowest bundle wanted, by its name";
        let bundle = match schema.only_in_v1(fields, "minBundle", instead, "write `minVersion`") {
            true => fields.text("minBundle"),
            false => None,
        };
        let written = min_at.is_some() || max_at.is_some();
        Bounds {
            min,
            max,
            bundle,
            written,
        }
    }

    /// Whether a version is written, be it a good one or not.
    fn any(&self) -> bool {
        self.written
    }
}
