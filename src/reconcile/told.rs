//! What clusters are told of an image set beside mirror rules, in the manner that the site wants.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Path, PathBuf},
};

use super::Inner;
use crate::{
    cluster::{
        self, Object,
        catalog::{Catalog, MAX_TEMPLATE, Manner, Template},
        signatures::Signed,
    },
    model::{
        desired::{Desired, Kind, Wanted},
        imageset::SetName,
        policy::CatalogReference,
    },
};

/// What clusters are told of an image set beside mirror rules.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// The signatures of its releases.
    pub(super) signed: Signed,
    /// Its operator catalogs.
    pub(super) catalogs: BTreeSet<Catalog>,
    /// What may not be what was meant.
    pub(super) warnings: Vec<String>,
}

/// How clusters are told of the catalogs of an image set.
#[derive(Debug, Clone, Default)]
pub(super) struct Manners {
    poll: Option<u64>,
    /// By the catalog's unit.
    templates: BTreeMap<String, Template>,
    /// What is said of templates.
    pub(super) warnings: Vec<String>,
}

impl Manners {
    /// The operator catalogs among wanted images, and of each whether it has landed.
    pub(super) fn catalogs(
        &self,
        set: &SetName,
        wanted: &[Wanted],
        landed: impl Fn(&Wanted) -> bool,
    ) -> BTreeSet<Catalog> {
        let catalogs = wanted.iter().filter(|image| image.kind.is_catalog());
        catalogs
            .map(|image| Catalog {
                set: set.clone(),
                repository: image.target.clone(),
                tag: image.tag.clone(),
                digest: image.digest.clone(),
                landed: landed(image),
                manner: Manner {
                    poll: self.poll,
                    template: self.templates.get(&image.unit).cloned().unwrap_or_default(),
                },
            })
            .collect()
    }
}

impl Inner {
    /// Finds out how clusters are told of an image set's catalogs. A template that cannot be used is done without, and a sentence says
    /// so.
    pub(super) async fn manners(&self, set: &SetName, desired: &Desired) -> Manners {
        let policy = self.settings.policy_for(set);
        let mut manners = Manners {
            poll: match policy.catalog_reference {
                CatalogReference::Digest => None,
                CatalogReference::Tag => Some((policy.catalog_poll.as_secs() / 60).max(1)),
            },
            ..Manners::default()
        };
        for (unit, written) in &desired.templates {
            let (directory, folder) = (self.settings.directory.clone(), folder_of(set));
            let name = written.clone();
            let read = tokio::task::spawn_blocking(move || template(&directory, &folder, &name));
            let read = read.await.unwrap_or_else(|error| Err(error.to_string()));
            let (mut template, left_out) = match read {
                Ok(read) => read,
                Err(why) => {
                    manners.warnings.push(format!(
                        "{unit}: its CatalogSource is written without `targetCatalogSourceTemplate: {written}`, which {why}"
                    ));
                    continue;
                }
            };
            let of_template = |said: &str| format!("{unit}: of `{written}`, {said}");
            manners
                .warnings
                .extend(left_out.iter().map(|l| of_template(l)));
            let is_built = desired
                .images
                .iter()
                .any(|image| image.unit == *unit && image.kind == Kind::FilteredCatalog);
            if is_built && template.drop_cache() {
                let said = "`extractContent.cacheDir` is left out: a catalog that is built anew has no cache";
                manners.warnings.push(of_template(said));
            }
            manners.templates.insert(unit.clone(), template);
        }
        manners
    }

    /// The objects of an image set's catalogs; those of others are known by what they want, or had applied last.
    pub(super) fn catalog_objects(
        &self,
        set: &SetName,
        mine: BTreeSet<Catalog>,
        published: &[Object],
    ) -> (Vec<Object>, Vec<String>) {
        let usual = Manners::default();
        let mut claims = mine;
        let state = self.state();
        let others = state
            .sets
            .iter()
            .filter(|(name, other)| *name != set && !other.removed);
        for (name, other) in others {
            claims.extend(usual.catalogs(name, &other.record.wanted, |_| false));
            if let Some(resolved) = other.resolution() {
                claims.extend(usual.catalogs(name, &resolved.desired.images, |_| false));
            }
        }
        cluster::catalog::render(set, &claims, published)
    }
}

/// The folder of an image set's file, in the directory.
fn folder_of(set: &SetName) -> PathBuf {
    let parent = Path::new(&set.0).parent();
    parent.map(Path::to_owned).unwrap_or_default()
}

/// Reads a template, which lies in the directory; a relative path begins in the folder of the image set's file.
fn template(
    directory: &Path,
    folder: &Path,
    written: &str,
) -> Result<(Template, Vec<String>), String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let path = directory.join(folder).join(written);
    let path = path.canonicalize().map_err(failed)?;
    let root = directory.canonicalize().map_err(failed)?;
    if !path.starts_with(&root) {
        return Err(format!(
            "lies outside of the directory of image sets; put it into {}",
            directory.display()
        ));
    }
    let mut text = Vec::new();
    let file = std::fs::File::open(&path).map_err(failed)?;
    let most = MAX_TEMPLATE as u64 + 1;
    file.take(most).read_to_end(&mut text).map_err(failed)?;
    match text.len() > MAX_TEMPLATE {
        true => Err("is larger than a template can be".to_owned()),
        false => Template::read(&text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_read_from_the_directory_only() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("sets");
        std::fs::create_dir_all(directory.join("prod")).unwrap();
        let text = "apiVersion: operators.coreos.com/v1alpha1\nkind: CatalogSource\nspec: {displayName: Ours}\n";
        for place in ["sets/prod/cs.tmpl", "sets/cs.tmpl", "cs.tmpl"] {
            std::fs::write(root.path().join(place), text).unwrap();
        }
        let folder = folder_of(&SetName("prod/ocp-4.16#2".into()));
        let read = |written: &str| template(&directory, &folder, written);
        let whole = directory.join("cs.tmpl").display().to_string();
        for written in ["cs.tmpl", "../cs.tmpl", whole.as_str()] {
            assert!(read(written).is_ok(), "{written}");
        }
        assert_eq!(
            read("../../cs.tmpl").unwrap_err(),
            format!(
                "lies outside of the directory of image sets; put it into {}",
                directory.display()
            )
        );
        assert!(
            read("none.tmpl")
                .unwrap_err()
                .starts_with("cannot be read: ")
        );
    }
}
