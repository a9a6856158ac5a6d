//! Operator catalogs: what is kept of them, and the images of that.

use super::{Builder, Kind, Root, Unresolved};
use crate::model::{
    catalog::wish::{Filtered, Wish, Wished},
    facts::{Cause, Need},
    image::{Digest, Platform, Reference, Repository, Tag},
    imageset::{ImageSet, Operator},
    target,
};

impl Builder<'_> {
    /// Wants what is kept of the image set's catalogs.
    pub(super) fn operators(&mut self, set: &ImageSet) {
        let mut catalogs = Vec::new();
        let before = self.needs.len();
        for operator in &set.operators {
            let digest = match operator.catalog.parse::<Reference>() {
                Ok(reference) => self.digest(&reference, &subject(operator)),
                Err(_) => {
                    self.on_disk(operator);
                    None
                }
            };
            catalogs.push(Wished {
                operator: operator.clone(),
                digest,
            });
        }
        let none = catalogs.iter().all(|wished| wished.digest.is_none());
        if self.needs.len() > before || none {
            return;
        }
        let wish = Wish::new(catalogs);
        let Some(answer) = self.facts.catalogs.get(&wish.key).cloned() else {
            self.needs.insert(Need::Catalogs(wish));
            return;
        };
        for (wished, filtered) in wish.catalogs.iter().zip(answer.iter()) {
            match (filtered, &wished.digest) {
                (Ok(filtered), Some(digest)) => self.catalog(&wished.operator, digest, filtered),
                (Err(failure), Some(_)) => self.failed(&subject(&wished.operator), failure),
                // That it could not be found out is said already.
                (_, None) => {}
            }
        }
    }

    fn on_disk(&mut self, operator: &Operator) {
        let sentence = format!(
            "`mirror.operators` is mirrored without `{}`: this version mirrors catalogs from registries only (`imagesetd catalog` reads \
             those on disk); the rest of the image set is",
            operator.catalog
        );
        let stanza = "mirror.operators".to_owned();
        self.desired.unsupported.push((stanza, sentence));
    }

    /// Wants a catalog, and the images of the bundles that are kept of it.
    fn catalog(&mut self, operator: &Operator, digest: &Digest, filtered: &Filtered) {
        let subject = subject(operator);
        if operator.target_catalog_source_template.is_some() {
            self.desired.warnings.push(format!(
                "{}: `targetCatalogSourceTemplate` is not used by this version; its CatalogSource says what is needed and no more",
                operator.catalog
            ));
        }
        let selected = &filtered.selected;
        for (package, problem) in &selected.problems {
            self.stalled(format!("{subject}, package {package}"), problem.clone());
        }
        for package in selected.packages.values() {
            for (bundle, why) in &package.stalled {
                let reason = format!("{why}; tell the catalog's publisher");
                self.stalled(format!("{subject}, bundle {bundle}"), reason);
            }
        }
        let warnings = selected.warnings.iter();
        let warnings = warnings.map(|warning| format!("{}: {warning}", operator.catalog));
        self.desired.warnings.extend(warnings);
        for unsatisfied in &selected.unsatisfied {
            self.desired.warnings.push(format!(
                "{}: {} requires {}, which is not mirrored: {}",
                operator.catalog, unsatisfied.bundle, unsatisfied.requires, unsatisfied.reason
            ));
        }
        for (name, package) in &selected.packages {
            // What heads were before is known by these, and a plan tells what they become.
            let heads = package.channels.iter().map(|(channel, part)| {
                let pin = format!("{subject}, package {name}, channel {channel}");
                (pin, part.head.clone())
            });
            self.desired.pins.extend(heads);
        }
        for image in &filtered.images {
            self.bundle_image(&subject, &image.image, &image.bundle, &operator.platforms);
        }
        if !selected.packages.is_empty() {
            self.catalog_image(operator, digest, filtered);
        }
    }

    fn stalled(&mut self, subject: String, reason: String) {
        self.desired.unresolved.push(Unresolved {
            subject,
            reason,
            transient: false,
            cause: Cause::Other,
        });
    }

    /// Wants an image of a bundle. One that cannot be named has been told with its bundle.
    fn bundle_image(&mut self, entry: &str, image: &str, bundle: &str, platforms: &[Platform]) {
        let Ok(reference) = image.parse::<Reference>() else {
            return;
        };
        let unit = reference.to_string();
        let Some(digest) = self.digest(&reference, &format!("{entry}, bundle {bundle}")) else {
            return;
        };
        let tag = match (&reference.tag, &reference.digest) {
            (Some(tag), _) => tag.clone(),
            (None, _) => target::digest_tag(&digest),
        };
        let path = reference.repository.path().to_owned();
        let root = root(&reference, digest, tag, unit, entry);
        let content = (root.source.clone(), root.digest.clone());
        let place = (path.as_str(), root.tag.clone());
        self.want(&root, Kind::Bundle, content, place, platforms);
    }

    /// Wants the catalog itself: as it was built, or as it is.
    fn catalog_image(&mut self, operator: &Operator, digest: &Digest, filtered: &Filtered) {
        let Ok(reference) = operator.catalog.parse::<Reference>() else {
            return;
        };
        let (kind, digest, platforms) = match &filtered.built {
            Some(built) => (Kind::FilteredCatalog, built.digest.clone(), &[][..]),
            None => (Kind::Catalog, digest.clone(), operator.platforms.as_slice()),
        };
        let tag = operator
            .target_tag
            .clone()
            .or_else(|| reference.tag.clone());
        let tag = tag.unwrap_or_else(|| target::digest_tag(&digest));
        let path = operator.target_catalog.clone();
        let path = path.unwrap_or_else(|| reference.repository.path().to_owned());
        let subject = subject(operator);
        let root = root(&reference, digest, tag, subject.clone(), &subject);
        let content = (root.source.clone(), root.digest.clone());
        let place = (path.as_str(), root.tag.clone());
        self.want(&root, kind, content, place, platforms);
    }
}

fn root(reference: &Reference, digest: Digest, tag: Tag, unit: String, entry: &str) -> Root {
    let source: Repository = reference.repository.clone();
    let asked_tag = reference.tag.clone().filter(|_| reference.digest.is_none());
    Root {
        source,
        digest,
        tag,
        asked_tag,
        unit,
        entry: entry.to_owned(),
    }
}

/// What a catalog is called in plans.
fn subject(operator: &Operator) -> String {
    format!("catalog {}", operator.catalog)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::model::{
        catalog::{
            select::{Selected, SelectedPackage, Unsatisfied},
            wish::{Built, BundleImage},
        },
        desired::{Desired, build, tests::policy},
        facts::{self, Fact, Facts, Failure},
    };

    fn operator(catalog: &str) -> Operator {
        Operator {
            catalog: catalog.into(),
            full: false,
            target_catalog: None,
            target_tag: None,
            target_catalog_source_template: None,
            skip_dependencies: false,
            platforms: vec![],
            packages: vec![],
        }
    }

    fn set(operators: Vec<Operator>) -> ImageSet {
        ImageSet {
            operators,
            ..ImageSet::default()
        }
    }

    /// Answers every question about tags and catalogs.
    fn desired(set: &ImageSet, answers: &[Result<Filtered, Failure>]) -> Desired {
        let mut facts = Facts::default();
        loop {
            match build(set, &policy(), &facts) {
                facts::Built::Whole(desired) => return desired,
                facts::Built::Missing(needs) => {
                    for need in needs {
                        facts.learn(match need {
                            Need::Tag(reference) => {
                                let digest = Digest::of(reference.to_string().as_bytes());
                                Fact::Tag(reference, Ok(digest))
                            }
                            Need::Catalogs(wish) => {
                                Fact::Catalogs(wish.key, Arc::new(answers.to_vec()))
                            }
                            other => panic!("{other:?}"),
                        });
                    }
                }
            }
        }
    }

    fn filtered(images: &[&str]) -> Filtered {
        Filtered {
            selected: Selected {
                packages: BTreeMap::from([("foo".to_owned(), SelectedPackage::default())]),
                ..Selected::default()
            },
            images: images
                .iter()
                .map(|image| BundleImage {
                    image: (*image).to_owned(),
                    bundle: "foo.v1".into(),
                })
                .collect(),
            built: Some(Built {
                digest: Digest::of(b"built"),
                blobs: vec![],
            }),
        }
    }

    fn shown(desired: &Desired) -> Vec<String> {
        let images = desired.images.iter();
        images
            .map(|w| {
                format!(
                    "{:?} {} -> {}",
                    w.kind,
                    w.source_reference(),
                    w.target_reference()
                )
            })
            .collect()
    }

    #[test]
    fn bundles_keep_their_names_and_the_catalog_its_tag() {
        let digest = Digest::of(b"image");
        let pinned = format!("q.io/team/operator@{digest}");
        let answer = filtered(&[&pinned, "q.io/team/tagged:v1"]);
        let found = desired(
            &set(vec![operator("r.io/c/index:v4")]),
            &[Ok(answer.clone())],
        );
        let hex = |digest: &Digest| digest.hex();
        assert_eq!(
            shown(&found),
            [
                "FilteredCatalog r.io/c/index:v4 -> m.lan:5000/ocp/c/index:v4".to_owned(),
                format!(
                    "Bundle {pinned} -> m.lan:5000/ocp/team/operator:sha256-{}",
                    hex(&digest)
                ),
                "Bundle q.io/team/tagged:v1 -> m.lan:5000/ocp/team/tagged:v1".to_owned(),
            ]
        );
        assert_eq!(found.images[0].digest, Digest::of(b"built"));
        let by_digest = format!("r.io/c/index@{}", Digest::of(b"original"));
        let mut moved = operator(&by_digest);
        moved.target_catalog = Some("my/index".into());
        let found = desired(&set(vec![moved]), &[Ok(filtered(&[]))]);
        let built = Digest::of(b"built");
        assert_eq!(
            shown(&found),
            [format!(
                "FilteredCatalog r.io/c/index@{built} -> m.lan:5000/ocp/my/index:sha256-{}",
                hex(&built)
            )]
        );
        let original = Filtered {
            built: None,
            ..answer
        };
        let found = desired(&set(vec![operator(&by_digest)]), &[Ok(original)]);
        assert!(shown(&found)[0].starts_with(&format!("Catalog {by_digest} -> ")));
    }

    #[test]
    fn what_stalls_names_the_catalog_and_its_part() {
        let mut broken = filtered(&[]);
        broken.selected.problems = BTreeMap::from([("fo".to_owned(), "there is none".to_owned())]);
        let package = broken.selected.packages.get_mut("foo").unwrap();
        package.stalled = BTreeMap::from([("foo.v2".to_owned(), "it has no image".to_owned())]);
        broken.selected.unsatisfied.insert(Unsatisfied {
            package: "foo".into(),
            bundle: "foo.v1".into(),
            requires: "bar >1".into(),
            reason: "nobody has it".into(),
        });
        let failed = Err(Failure::lasting("it is no catalog"));
        let operators = vec![operator("r.io/a:1"), operator("r.io/b:1")];
        let found = desired(&set(operators), &[Ok(broken), failed]);
        let told: Vec<String> = (found.unresolved.iter())
            .map(|u| format!("{}: {}", u.subject, u.reason))
            .collect();
        assert_eq!(
            told,
            [
                "catalog r.io/a:1, bundle foo.v2: it has no image; tell the catalog's publisher",
                "catalog r.io/a:1, package fo: there is none",
                "catalog r.io/b:1: it is no catalog",
            ]
        );
        assert_eq!(
            found.warnings,
            ["r.io/a:1: foo.v1 requires bar >1, which is not mirrored: nobody has it"]
        );
        assert_eq!(found.images.len(), 1);
    }
}
