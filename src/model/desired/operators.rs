//! Operator catalogs: what is kept of them, and the images of that.

use super::{Builder, Kind, Root, Unresolved, naming};
use crate::model::{
    catalog::{
        changes::{self, Pulled},
        filter::Why,
        select::SelectedPackage,
        wish::{Filtered, Wish, Wished},
    },
    facts::{Cause, Need},
    image::{Digest, Platform, Reference},
    imageset::{ImageSet, Operator},
    target,
};

impl Builder<'_> {
    /// Wants what is kept of the image set's catalogs.
    pub(super) fn operators(&mut self, set: &ImageSet) {
        let mut catalogs = Vec::new();
        for operator in &set.operators {
            catalogs.push(Wished {
                digest: self.catalog_digest(operator),
                operator: operator.clone(),
            });
        }
        let none = catalogs.iter().all(|wished| wished.digest.is_none());
        if none || !set.operators.iter().all(|o| self.is_answered(o)) {
            return;
        }
        let wish = Wish::new(catalogs);
        let Some(answer) = self.facts.catalogs.get(&wish.key).cloned() else {
            self.needs.insert(Need::Catalogs(wish));
            return;
        };
        for (wished, filtered) in wish.catalogs.iter().zip(answer.iter()) {
            match (filtered, &wished.digest) {
                (Ok(filtered), Some(digest)) => {
                    self.catalog(&wished.operator, digest, filtered, &wish.filters);
                }
                (Err(failure), Some(_)) => self.failed(&subject(&wished.operator), failure),
                // That it could not be found out is said already.
                (_, None) => {}
            }
        }
    }

    /// Whether it is known what a catalog is now, or why that cannot be known.
    fn is_answered(&self, operator: &Operator) -> bool {
        if let Some(folder) = layout(operator) {
            return self.facts.layouts.contains_key(folder);
        }
        let reference = operator.catalog.parse::<Reference>();
        reference.map_or(true, |reference| {
            reference.digest.is_some() || self.facts.tags.contains_key(&reference)
        })
    }

    /// What a catalog is now.
    fn catalog_digest(&mut self, operator: &Operator) -> Option<Digest> {
        let subject = subject(operator);
        let Some(folder) = layout(operator) else {
            return match operator.catalog.parse::<Reference>() {
                Ok(reference) => self.digest(&reference, &subject),
                Err(error) => {
                    self.unresolved(subject, error.to_string(), false);
                    None
                }
            };
        };
        match self.facts.layouts.get(folder) {
            None => {
                self.needs.insert(Need::Layout(folder.to_owned()));
                None
            }
            Some(Err(failure)) => {
                self.failed(&subject, failure);
                None
            }
            Some(Ok(digest)) => {
                let (catalog, digest) = (operator.catalog.clone(), digest.clone());
                self.desired.pins.insert(catalog, digest.to_string());
                Some(digest)
            }
        }
    }

    /// Wants a catalog, and the images of the bundles that are kept of it.
    fn catalog(
        &mut self,
        operator: &Operator,
        digest: &Digest,
        filtered: &Filtered,
        filters: &Digest,
    ) {
        let subject = subject(operator);
        if let Some(template) = &operator.target_catalog_source_template {
            let templates = &mut self.desired.templates;
            templates.insert(subject.clone(), template.clone());
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
                let pin = changes::pin(&operator.catalog, name, channel);
                (pin, part.head.clone())
            });
            self.desired.pins.extend(heads);
            self.pulled(operator, name, package);
        }
        for image in &filtered.images {
            self.bundle_image(&subject, &image.image, &image.bundle, &operator.platforms);
        }
        if !selected.packages.is_empty() {
            self.catalog_image(operator, digest, filtered, filters);
        }
    }

    /// Tells which bundles are there since others require them.
    fn pulled(&mut self, operator: &Operator, name: &str, package: &SelectedPackage) {
        for (bundle, kept) in &package.bundles {
            let Why::Dependency {
                bundle: by,
                requires,
                ..
            } = &kept.why
            else {
                continue;
            };
            self.desired.pulled.push(Pulled {
                catalog: operator.catalog.clone(),
                package: name.to_owned(),
                bundle: bundle.clone(),
                by: by.clone(),
                requires: requires.clone(),
            });
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
        let root = Root {
            source: reference.repository,
            digest,
            tag,
            asked_tag: reference.tag.filter(|_| reference.digest.is_none()),
            unit,
            entry: entry.to_owned(),
        };
        let content = (root.source.clone(), root.digest.clone());
        let place = (path.as_str(), root.tag.clone());
        self.want(&root, Kind::Bundle, content, place, platforms);
    }

    /// Wants the catalog itself: as it was built, or as it is.
    fn catalog_image(
        &mut self,
        operator: &Operator,
        digest: &Digest,
        filtered: &Filtered,
        filters: &Digest,
    ) {
        let subject = subject(operator);
        let source = match source(operator) {
            Ok(source) => source,
            Err(why) => return self.unresolved(subject, why, false),
        };
        let (kind, digest, platforms) = match &filtered.built {
            Some(built) if filtered.selected.original => {
                let platforms = operator.platforms.as_slice();
                (Kind::FilteredCatalog, built.digest.clone(), platforms)
            }
            Some(built) => (Kind::FilteredCatalog, built.digest.clone(), &[][..]),
            None => (Kind::Catalog, digest.clone(), operator.platforms.as_slice()),
        };
        let tag = operator.target_tag.clone().or(source.tag.clone());
        let tag = tag.unwrap_or_else(|| target::digest_tag(&digest));
        let path = operator.target_catalog.clone();
        let path = path.unwrap_or_else(|| source.repository.path().to_owned());
        let is_on_disk = layout(operator).is_some();
        let root = Root {
            source: source.repository,
            digest,
            tag,
            asked_tag: source
                .tag
                .filter(|_| source.digest.is_none() && !is_on_disk),
            unit: subject.clone(),
            // Two image sets may ask one catalog for different things: that is told by this.
            entry: format!("{subject}, filter {}", &filters.hex()[..8]),
        };
        let content = (root.source.clone(), root.digest.clone());
        let place = (path.as_str(), root.tag.clone());
        self.want(&root, kind, content, place, platforms);
    }
}

/// The folder of a catalog that is on disk.
fn layout(operator: &Operator) -> Option<&str> {
    operator.catalog.strip_prefix("oci://")
}

/// Where a catalog comes from. One on disk is called `localhost/FOLDER:latest`; whatever is copied of it is at hand.
fn source(operator: &Operator) -> Result<Reference, String> {
    let Some(folder) = layout(operator) else {
        return operator
            .catalog
            .parse()
            .map_err(|error: crate::model::image::NameError| error.to_string());
    };
    let name = folder.trim_end_matches('/').rsplit('/').next();
    let name = name.unwrap_or_default();
    let of = |name: &str| format!("localhost/{name}:latest").parse::<Reference>();
    match (of(name), &operator.target_catalog) {
        (Ok(reference), _) => Ok(reference),
        (Err(_), Some(path)) => of(path).map_err(|error| error.to_string()),
        (Err(_), None) => Err(format!(
            "the folder's name `{name}` is none that a repository can have; write `targetCatalog`"
        )),
    }
}

/// What a catalog is called in plans.
fn subject(operator: &Operator) -> String {
    naming::catalog(&operator.catalog)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        sync::Arc,
    };

    use super::*;
    use crate::model::{
        catalog::{
            select::{Selected, SelectedBundle, Unsatisfied},
            wish::{Built, BundleImage},
        },
        desired::{
            Desired, build,
            tests::{image, policy},
        },
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
                            Need::Layout(folder) => {
                                let digest = Digest::of(folder.as_bytes());
                                Fact::Layout(folder, Ok(digest))
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
                manifests: vec![],
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
    fn catalogs_are_asked_for_once_it_is_known_what_all_of_them_are() {
        let mut wanted = set(vec![operator("r.io/a:1"), operator("r.io/b:1")]);
        let tag = |name: &str| name.parse::<Reference>().unwrap();
        // Asked for already when the catalogs' turn comes.
        wanted.additional_images = vec![image("r.io/b:1")];
        let mut facts = Facts::default();
        facts.learn(Fact::Tag(tag("r.io/a:1"), Ok(Digest::of(b"a"))));
        let facts::Built::Missing(needs) = build(&wanted, &policy(), &facts) else {
            panic!("nothing is asked for");
        };
        assert_eq!(needs, BTreeSet::from([Need::Tag(tag("r.io/b:1"))]));
    }

    #[test]
    fn a_catalog_on_disk_lands_under_its_folders_name() {
        let at = |catalog: &str, target: Option<&str>| {
            let mut operator = operator(catalog);
            operator.target_catalog = target.map(str::to_owned);
            desired(&set(vec![operator]), &[Ok(filtered(&[]))])
        };
        let built = Digest::of(b"built");
        let found = at("oci:///srv/my-index", None);
        assert_eq!(
            shown(&found),
            [format!(
                "FilteredCatalog localhost/my-index@{built} -> m.lan:5000/ocp/my-index:latest"
            )]
        );
        assert_eq!(
            found.pins["oci:///srv/my-index"],
            Digest::of(b"/srv/my-index").to_string()
        );
        let found = at("oci:///srv/My Index", Some("team/index"));
        assert!(shown(&found)[0].ends_with(" -> m.lan:5000/ocp/team/index:latest"));
        let found = at("oci:///srv/My Index", None);
        assert_eq!(
            found.unresolved[0].reason,
            "the folder's name `My Index` is none that a repository can have; write `targetCatalog`"
        );
    }

    #[test]
    fn what_is_required_is_told_with_what_requires_it() {
        let mut answer = filtered(&[]);
        let package = answer.selected.packages.get_mut("foo").unwrap();
        let why = Why::Dependency {
            package: "bar".into(),
            bundle: "bar.v2".into(),
            requires: "foo <2.0.0".into(),
        };
        let kept = SelectedBundle {
            version: "1.0.0".into(),
            why,
        };
        package.bundles = BTreeMap::from([("foo.v1".to_owned(), kept)]);
        let found = desired(&set(vec![operator("r.io/c:1")]), &[Ok(answer)]);
        let pulled = Pulled {
            catalog: "r.io/c:1".into(),
            package: "foo".into(),
            bundle: "foo.v1".into(),
            by: "bar.v2".into(),
            requires: "foo <2.0.0".into(),
        };
        assert_eq!(found.pulled, [pulled]);
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
