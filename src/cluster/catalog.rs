//! CatalogSource and ClusterCatalog objects: what clusters are told of the operator catalogs in the mirror.
//!
//! Their names are oc-mirror's, since Subscriptions refer to them. A catalog is referred to by digest, so that it changes in a cluster
//! when its document is applied, and a diff shows it.

mod template;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    Purpose,
    document::{IMAGE_SET, MANAGED_BY, MANAGER, PURPOSE},
    name,
    object::Object,
};
use crate::model::{
    image::{Digest, Repository, Tag},
    imageset::SetName,
};

pub use template::{MAX_TEMPLATE, Template};

/// The API group and version of CatalogSource.
pub const SOURCE_API: &str = "operators.coreos.com/v1alpha1";
/// The API group and version of ClusterCatalog.
pub const CLUSTER_API: &str = "olm.operatorframework.io/v1";
/// Where OpenShift looks for catalogs.
const NAMESPACE: &str = "openshift-marketplace";
/// The annotation that names the catalog's place in the mirror.
pub const PLACE: &str = "imagesetd.io/catalog";

/// The most characters of a repository's name in an object's: with the rest it is a DNS label.
const MAX_BASE: usize = 40;
/// How much of a tag stands in an object's name, as with oc-mirror.
const MAX_SUFFIX: usize = 12;

/// An operator catalog in the mirror.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Catalog {
    /// The image set that wants it.
    pub set: SetName,
    /// Its repository in the mirror.
    pub repository: Repository,
    /// Its tag there.
    pub tag: Tag,
    /// What it is.
    pub digest: Digest,
    /// Whether it is there.
    pub landed: bool,
    /// How clusters are told of it.
    pub manner: Manner,
}

/// How clusters are told of a catalog.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manner {
    /// How many minutes lie between two looks at its tag, where it is referred to by that; else it is by digest.
    pub poll: Option<u64>,
    /// What its CatalogSource says beside the image.
    pub template: Template,
}

impl Catalog {
    fn place(&self) -> String {
        self.repository.tagged(self.tag.clone()).to_string()
    }
}

/// Whether an object is one of these, by its kind.
pub fn is_one(value: &Value) -> bool {
    let is = |api: &str, kind: &str| value["apiVersion"] == api && value["kind"] == kind;
    is(SOURCE_API, "CatalogSource") || is(CLUSTER_API, "ClusterCatalog")
}

/// Returns the documents of an image set's catalogs: those of [`objects`], and what else is published of it, which stays: clusters
/// may have it still.
pub fn render(
    set: &SetName,
    claims: &BTreeSet<Catalog>,
    published: &[Object],
) -> (Vec<Object>, Vec<String>) {
    let (mut found, warnings) = objects(set, claims, published);
    let is_new = |file: &str| found.iter().any(|object| object.file_name == file);
    let stays = published
        .iter()
        .filter(|o| o.set == *set && is_one(&o.value) && !is_new(&o.file_name));
    let stays: Vec<Object> = stays.cloned().collect();
    found.extend(stays);
    (found, warnings)
}

/// The place of the catalog that an object is of.
fn place(object: &Object) -> &str {
    let annotation = &object.value["metadata"]["annotations"][PLACE];
    annotation.as_str().unwrap_or_default()
}

/// Writes the objects of an image set's catalogs that have landed. `claims` are all catalogs of all image sets, `published` is what is
/// there: where two catalogs come to one name, the one that has it keeps it, and the other's name has its image set's in it.
///
/// Also returns a sentence for each name that is not the usual one.
pub fn objects(
    set: &SetName,
    claims: &BTreeSet<Catalog>,
    published: &[Object],
) -> (Vec<Object>, Vec<String>) {
    let mut by_stem: BTreeMap<String, Vec<&Catalog>> = BTreeMap::new();
    for claim in claims {
        by_stem.entry(stem(claim)).or_default().push(claim);
    }
    let mut found = Vec::new();
    let mut warnings = Vec::new();
    for (stem, claims) in by_stem {
        let places: BTreeSet<String> = claims.iter().map(|claim| claim.place()).collect();
        let holder = published
            .iter()
            .filter(|object| object.name == format!("cs-{stem}"))
            .map(|object| place(object).to_owned())
            .find(|place| places.contains(place))
            .unwrap_or_else(|| claims[0].place());
        for claim in claims.iter().filter(|c| c.set == *set) {
            let stem = match claim.place() == holder {
                true => stem.clone(),
                false => {
                    let other = apart(claim, &claims, &stem);
                    warnings.push(format!(
                        "the catalog {} is called `cs-{other}` in clusters, since {holder} is called `cs-{stem}`",
                        claim.place()
                    ));
                    other
                }
            };
            if claim.landed {
                found.extend([source(claim, &stem), cluster(claim, &stem)]);
            }
        }
    }
    found.sort_by(|a, b| a.file_name.cmp(&b.file_name));
    found.dedup();
    (found, warnings)
}

/// The name that tells a catalog from others of its usual name.
fn apart(claim: &Catalog, claims: &[&Catalog], stem: &str) -> String {
    let set = name::stem(&claim.set);
    let room = 63 - 3 - stem.len() - 1;
    let twice = claims.iter().filter(|other| other.set == claim.set).count() > 1;
    // Two names may begin alike.
    match twice || set.is_empty() || set.len() > room {
        false => format!("{stem}-{set}"),
        true => {
            let hash = Digest::of(claim.place().as_bytes()).hex();
            format!("{stem}-{}", &hash[..6])
        }
    }
}

/// The usual name without its prefix: the last part of the repository, and the beginning of the tag.
fn stem(catalog: &Catalog) -> String {
    let path = catalog.repository.path();
    let base = path.rsplit('/').next().unwrap_or(path);
    let suffix: String = catalog.tag.as_str().chars().take(MAX_SUFFIX).collect();
    let suffix = match label(&suffix) {
        empty if empty.is_empty() => "0".to_owned(),
        suffix => suffix,
    };
    let base = label(base);
    let base = base[..base.len().min(MAX_BASE)].trim_end_matches('-');
    format!("{base}-{suffix}")
}

/// A text as a part of a DNS label.
fn label(text: &str) -> String {
    let plain = text.chars().map(|c| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() => c,
        _ => '-',
    });
    plain.collect::<String>().trim_matches('-').to_owned()
}

fn source(catalog: &Catalog, stem: &str) -> Object {
    let template = &catalog.manner.template;
    let mut spec = json!({"sourceType": "grpc", "image": image(catalog)});
    for (key, value) in template.spec() {
        spec[key] = value;
    }
    if let (Some(minutes), None) = (catalog.manner.poll, spec.get("updateStrategy")) {
        spec["updateStrategy"] = json!({"registryPoll": {"interval": format!("{minutes}m")}});
    }
    object(
        catalog,
        "CatalogSource",
        SOURCE_API,
        format!("cs-{stem}"),
        Some(NAMESPACE),
        spec,
    )
}

fn cluster(catalog: &Catalog, stem: &str) -> Object {
    let mut spec = json!({"source": {"type": "Image", "image": {"ref": image(catalog)}}});
    if let Some(minutes) = catalog.manner.poll {
        spec["source"]["image"]["pollIntervalMinutes"] = minutes.into();
    }
    object(
        catalog,
        "ClusterCatalog",
        CLUSTER_API,
        format!("cc-{stem}"),
        None,
        spec,
    )
}

fn image(catalog: &Catalog) -> String {
    match catalog.manner.poll {
        Some(_) => catalog.place(),
        None => catalog.repository.at(catalog.digest.clone()).to_string(),
    }
}

fn object(
    catalog: &Catalog,
    kind: &str,
    api_version: &str,
    name: String,
    namespace: Option<&str>,
    spec: Value,
) -> Object {
    let mut metadata = json!({"name": name});
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    metadata["labels"] = json!({ MANAGED_BY: MANAGER });
    metadata["annotations"] = json!({
        IMAGE_SET: catalog.set.0,
        PURPOSE: Purpose::Operators.as_str(),
        PLACE: catalog.place(),
    });
    if kind == "CatalogSource" {
        catalog.manner.template.label(&mut metadata);
    }
    let value = json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": metadata,
        "spec": spec,
    });
    Object::new(catalog.set.clone(), format!("{name}.yaml"), name, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(set: &str, place: &str, landed: bool) -> Catalog {
        let reference: crate::model::image::Reference = place.parse().unwrap();
        Catalog {
            set: SetName(set.into()),
            repository: reference.repository,
            tag: reference.tag.unwrap(),
            digest: Digest::of(place.as_bytes()),
            landed,
            manner: Manner::default(),
        }
    }

    fn names(set: &str, claims: &[Catalog], published: &[Object]) -> (Vec<String>, Vec<String>) {
        let claims = claims.iter().cloned().collect();
        let (objects, warnings) = objects(&SetName(set.into()), &claims, published);
        (objects.into_iter().map(|o| o.name).collect(), warnings)
    }

    #[test]
    fn objects_have_the_names_that_subscriptions_refer_to() {
        for (place, stem) in [
            (
                "m.lan/ocp/redhat/redhat-operator-index:v4.17",
                "redhat-operator-index-v4-17",
            ),
            (
                "m.lan/c/My_index.x:sha256-0f6ef1234567",
                "my-index-x-sha256-0f6ef",
            ),
            ("m.lan/c/index:V4.17-", "index-v4-17"),
            ("m.lan/c/index:_", "index-0"),
        ] {
            assert_eq!(
                super::stem(&catalog(
                    "s",
                    &place.to_lowercase().replace(":v4.17-", ":V4.17-"),
                    true
                )),
                stem,
                "{place}"
            );
        }
        let long = format!("m.lan/{}:v4.17-and-more", "x".repeat(100));
        assert!(super::stem(&catalog("s", &long, true)).len() <= 60);
    }

    #[test]
    fn a_landed_catalog_is_told_by_digest_and_one_that_is_not_there_is_not() {
        let landed = catalog("prod/ocp", "m.lan/ocp/redhat/index:v4.17", true);
        let waiting = catalog("prod/ocp", "m.lan/ocp/other:v1", false);
        let claims = BTreeSet::from([landed.clone(), waiting]);
        let (objects, warnings) = objects(&landed.set, &claims, &[]);
        assert_eq!(warnings, [""; 0]);
        let image = format!("m.lan/ocp/redhat/index@{}", landed.digest);
        assert_eq!(objects.len(), 2);
        assert_eq!(
            objects[0].text,
            format!(
                "apiVersion: olm.operatorframework.io/v1\nkind: ClusterCatalog\nmetadata:\n  name: cc-index-v4-17\n  labels:\n    \
                 app.kubernetes.io/managed-by: imagesetd\n  annotations:\n    imagesetd.io/image-set: prod/ocp\n    \
                 imagesetd.io/purpose: operators\n    imagesetd.io/catalog: m.lan/ocp/redhat/index:v4.17\nspec:\n  source:\n    \
                 type: Image\n    image:\n      ref: {image}\n"
            )
        );
        assert_eq!(
            objects[1].value["spec"],
            json!({"sourceType": "grpc", "image": image})
        );
        assert_eq!(
            objects[1].value["metadata"]["namespace"],
            "openshift-marketplace"
        );
        assert_eq!(objects[1].file_name, "cs-index-v4-17.yaml");
    }

    #[test]
    fn a_catalog_is_told_as_the_site_wants_it() {
        let text = "apiVersion: operators.coreos.com/v1alpha1\nkind: CatalogSource\nmetadata: {labels: {tier: one}}\nspec: {sourceType: grpc, displayName: Ours}\n";
        let mut catalog = catalog("ocp", "m.lan/ocp/redhat/index:v4.17", true);
        catalog.manner = Manner {
            poll: Some(45),
            template: Template::read(text.as_bytes()).unwrap().0,
        };
        let set = catalog.set.clone();
        let (objects, _) = objects(&set, &[catalog].into(), &[]);
        let image = "m.lan/ocp/redhat/index:v4.17";
        assert_eq!(
            objects[0].value["spec"],
            json!({"source": {"type": "Image", "image": {"ref": image, "pollIntervalMinutes": 45}}})
        );
        assert_eq!(
            objects[1].value["spec"],
            json!({
                "sourceType": "grpc",
                "image": image,
                "displayName": "Ours",
                "updateStrategy": {"registryPoll": {"interval": "45m"}},
            })
        );
        let labels =
            [&objects[0], &objects[1]].map(|o| o.value["metadata"]["labels"]["tier"].clone());
        assert_eq!(labels, [Value::Null, "one".into()]);
    }

    #[test]
    fn who_has_a_name_keeps_it() {
        let a = catalog("a", "m.lan/x/index:v4.17", true);
        let b = catalog("b", "m.lan/y/index:v4.17", true);
        let both = [a.clone(), b.clone()];
        assert_eq!(
            names("a", &both, &[]).0,
            ["cc-index-v4-17", "cs-index-v4-17"]
        );
        let (found, warnings) = names("b", &both, &[]);
        assert_eq!(found, ["cc-index-v4-17-b", "cs-index-v4-17-b"]);
        assert_eq!(
            warnings,
            [
                "the catalog m.lan/y/index:v4.17 is called `cs-index-v4-17-b` in clusters, since m.lan/x/index:v4.17 is called `cs-index-v4-17`"
            ]
        );
        let alone = BTreeSet::from([b.clone()]);
        let (published, _) = objects(&b.set, &alone, &[]);
        assert_eq!(
            names("b", &both, &published).0,
            ["cc-index-v4-17", "cs-index-v4-17"]
        );
        assert_eq!(
            names("a", &both, &published).0,
            ["cc-index-v4-17-a", "cs-index-v4-17-a"]
        );
        let twice = [a.clone(), catalog("a", "m.lan/z/index:v4.17", true)];
        let (found, _) = names("a", &twice, &[]);
        assert_eq!(found.len(), 4);
        assert_eq!(found[0].len(), "cc-index-v4-17-".len() + 6, "{found:?}");
        assert_eq!(found[1], "cc-index-v4-17");
    }

    #[test]
    fn sets_that_are_called_alike_have_names_of_their_own() {
        let long = "an-index-with-a-name-that-leaves-little-room";
        let claim = |set, place| catalog(set, &format!("m.lan/{place}/{long}:v4.17"), true);
        let all = [
            claim("first", "x"),
            claim("prod-east-1", "y"),
            claim("prod-east-2", "z"),
        ];
        let (one, _) = names("prod-east-1", &all, &[]);
        let (other, _) = names("prod-east-2", &all, &[]);
        assert!(
            one.iter().all(|name| !other.contains(name)),
            "{one:?} {other:?}"
        );
        assert!(one.iter().chain(&other).all(|name| name.len() <= 63));
    }
}
