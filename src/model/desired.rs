//! Everything the mirror should hold for one image set, decided from the image set, the site's policy and known facts.
//!
//! **Ask, then decide.** [`build`] either gives the whole answer or says which facts it lacks; it never fetches. What cannot be
//! had stalls the entry that needs it, by name, and nothing else.

mod attached;

mod blocked;

/// What entries are called.
pub mod naming;

mod places;

mod operators;

mod unresolved;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use blocked::Blocker;
pub use places::{Claims, yield_to};
use places::{Paths, refuse_crowded, settle_collisions};
pub use unresolved::Unresolved;

use crate::model::{
    accessory::Accessory,
    catalog::changes::Pulled,
    facts::{Built, Cause, Facts, Failure, Need},
    image::{Digest, Platform, Reference, Repository, Tag},
    imageset::{AdditionalImage, ImageSet},
    policy::Policy,
    release::{
        names,
        path::ConditionalStep,
        payload::Payload,
        select::{self, Release},
        signature::{self, Asked},
    },
    target,
};

/// What an image is to clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An image that a release names.
    ReleaseComponent,
    /// A release payload.
    Release,
    /// A single image.
    Additional,
    /// An image that a bundle of an operator catalog names, or the bundle.
    Bundle,
    /// An operator catalog as it is.
    Catalog,
    /// An operator catalog that was filtered, and built anew of that.
    FilteredCatalog,
}

impl Kind {
    /// Whether an image is of a release.
    pub fn is_of_release(self) -> bool {
        matches!(self, Kind::Release | Kind::ReleaseComponent)
    }

    /// Whether an image is an operator catalog.
    pub fn is_catalog(self) -> bool {
        matches!(self, Kind::Catalog | Kind::FilteredCatalog)
    }
}

/// One image the mirror should hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wanted {
    /// Where it lands.
    pub target: Repository,
    /// The tag it is given there.
    pub tag: Tag,
    /// What it is.
    pub kind: Kind,
    /// Where it comes from.
    pub source: Repository,
    /// The tag it was asked for by, where it was not asked for by digest.
    pub asked_tag: Option<Tag>,
    /// What it is, by digest.
    pub digest: Digest,
    /// The platforms of an index that are wanted; all where none is named.
    pub platforms: Vec<Platform>,
    /// What belongs together for clusters: a release with its components, or a single image.
    pub unit: String,
    /// The entry of the image set it stands for: a channel, a release, an image.
    pub entry: String,
}

impl Wanted {
    /// Returns the source as a person would write it, by tag where it was asked for by tag.
    pub fn source_reference(&self) -> Reference {
        match &self.asked_tag {
            Some(tag) => self.source.tagged(tag.clone()),
            None => self.source.at(self.digest.clone()),
        }
    }

    /// Returns the place in the mirror, by tag.
    pub fn target_reference(&self) -> Reference {
        self.target.tagged(self.tag.clone())
    }
}

/// The whole content an image set asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// The images, sorted by their place in the mirror.
    pub images: Vec<Wanted>,
    /// What belongs to the images, by the repository of the mirror and the image's digest; each comes after what it belongs to.
    pub attached: BTreeMap<(Repository, Digest), Vec<Accessory>>,
    /// What could not be resolved, sorted.
    pub unresolved: Vec<Unresolved>,
    /// What the set asks for and this version cannot mirror yet: the stanza, and a sentence.
    pub unsupported: Vec<(String, String)>,
    /// Whether releases are taken without a look at their signatures.
    pub signatures_ignored: bool,
    /// The signatures that vouch for release payloads, each as the message that its store has; none where they are not looked at.
    pub signatures: BTreeMap<Digest, Vec<Vec<u8>>>,
    /// Conditional updates that shortest paths use.
    pub conditional: Vec<ConditionalStep>,
    /// Things to know that stop nothing.
    pub warnings: Vec<String>,
    /// What each tag and channel meant this time.
    pub pins: BTreeMap<String, String>,
    /// Bundles of catalogs that are there since others require them.
    pub pulled: Vec<Pulled>,
    /// The files that say how clusters are told of catalogs (`targetCatalogSourceTemplate`), by the catalog's unit.
    pub templates: BTreeMap<String, String>,
}

/// Decides what the mirror should hold for `set`.
pub fn build(set: &ImageSet, policy: &Policy, facts: &Facts) -> Built<Desired> {
    let mut builder = Builder {
        policy,
        facts,
        needs: BTreeSet::new(),
        desired: Desired::default(),
        paths: Paths::default(),
    };
    builder.releases(set);
    let blocker = Blocker::new(&set.blocked_images);
    // What is blocked by the name it was written with is not even asked for.
    let asked = |image: &&AdditionalImage| !blocker.blocks(&[image.image.to_string()]);
    for image in set.additional_images.iter().filter(asked) {
        builder.additional(image);
    }
    builder.operators(set);
    builder.unsupported(set);
    if !builder.needs.is_empty() {
        return Built::Missing(builder.needs);
    }
    let mut desired = builder.desired;
    desired
        .images
        .retain(|wanted| !blocker.blocks_wanted(wanted));
    settle_collisions(&mut desired);
    refuse_crowded(&mut desired, &builder.paths);
    let needs = attached::attach(&mut desired, policy, facts);
    if !needs.is_empty() {
        return Built::Missing(needs);
    }
    desired.unresolved.sort();
    desired.unresolved.dedup();
    Built::Whole(desired)
}

struct Builder<'a> {
    policy: &'a Policy,
    facts: &'a Facts,
    needs: BTreeSet<Need>,
    desired: Desired,
    paths: Paths,
}

impl Builder<'_> {
    fn unresolved(
        &mut self,
        subject: impl Into<String>,
        reason: impl Into<String>,
        transient: bool,
    ) {
        self.desired.unresolved.push(Unresolved {
            subject: subject.into(),
            reason: reason.into(),
            transient,
            cause: Cause::Other,
        });
    }

    fn failed(&mut self, subject: &str, failure: &Failure) {
        self.desired
            .unresolved
            .push(Unresolved::since(subject, failure));
    }

    fn unsupported(&mut self, set: &ImageSet) {
        let helm = !set.helm.repositories.is_empty() || !set.helm.local.is_empty();
        let stanzas = [
            (helm, "mirror.helm", "Helm charts"),
            (
                set.platform.graph,
                "mirror.platform.graph",
                "the update graph image",
            ),
            (
                set.platform.kube_virt_container,
                "mirror.platform.kubeVirtContainer",
                "KubeVirt disk images",
            ),
        ];
        for (_, stanza, what) in stanzas.into_iter().filter(|(asked, ..)| *asked) {
            let sentence = format!(
                "`{stanza}` is not mirrored: this version does not mirror {what} yet; the rest of the image set is"
            );
            self.desired.unsupported.push((stanza.to_owned(), sentence));
        }
    }

    fn releases(&mut self, set: &ImageSet) {
        let spec = &set.platform;
        if spec.channels.is_empty() && spec.release.is_none() {
            return;
        }
        self.desired.signatures_ignored = self.policy.ignore_release_signatures;
        match &spec.release {
            Some(reference) => self.single_release(reference, &spec.platforms),
            None => self.channels(set),
        }
    }

    fn channels(&mut self, set: &ImageSet) {
        let options = select::Options {
            allow_conditional: self.policy.conditional_updates,
        };
        let selection = match select::select(&set.platform, &self.facts.graphs, options) {
            Ok(selection) => selection,
            Err(graphs) => {
                self.needs.extend(graphs.into_iter().map(Need::Graph));
                return;
            }
        };
        for unresolved in selection.unresolved {
            let failed = self.facts.failed_graphs.iter();
            let behind: Vec<&Failure> = failed
                // A path across channels may lead through any that could not be read.
                .filter(|(key, _)| {
                    unresolved.subject == key.to_string()
                        || unresolved.subject.starts_with("update path ")
                            && unresolved.subject.ends_with(&format!(" for {}", key.arch))
                })
                .map(|(_, failure)| failure)
                .collect();
            self.desired.unresolved.push(Unresolved {
                subject: unresolved.subject,
                reason: unresolved.reason,
                transient: behind.iter().any(|failure| failure.transient),
                cause: behind.iter().map(|f| f.cause).max().unwrap_or_default(),
            });
        }
        self.desired.conditional.extend(selection.conditional);
        self.desired.warnings.extend(selection.warnings);
        for release in &selection.releases {
            let pin = format!("channel {} ({})", release.channel, release.arch);
            // Releases come lowest first: the pin of a channel is the newest version it gave.
            self.desired.pins.insert(pin, release.version.to_string());
            self.release(release, &set.platform.platforms);
        }
    }

    fn release(&mut self, release: &Release, platforms: &[Platform]) {
        let unit = naming::release(&release.version, &release.arch);
        let entry = format!("channel {}", release.channel);
        let Some(digest) = release.image.digest.clone() else {
            let reason = format!(
                "the update service names {} by tag; a digest is needed",
                release.image
            );
            return self.unresolved(unit, reason, false);
        };
        let tag = match names::release_tag(release.channel_type, &release.version, &release.arch) {
            Ok(tag) => tag,
            Err(error) => return self.unresolved(unit, error.to_string(), false),
        };
        let source = release.image.repository.clone();
        let asked = Asked {
            kind: release.channel_type,
            repository: source.clone(),
            tags: names::published_tags(&release.version, &release.arch),
        };
        self.payload(
            Root {
                source,
                digest,
                tag,
                asked_tag: None,
                unit,
                entry,
            },
            &asked,
            platforms,
        );
    }

    fn single_release(&mut self, reference: &Reference, platforms: &[Platform]) {
        let unit = format!("release {reference}");
        let digest = match self.digest(reference, &unit) {
            Some(digest) => digest,
            None => return,
        };
        let Some(tag) = names::named_release_tag(reference) else {
            return self.unresolved(unit, "it has neither tag nor digest; add one", false);
        };
        let asked_tag = reference.tag.clone().filter(|_| reference.digest.is_none());
        let source = reference.repository.clone();
        let asked = Asked {
            kind: signature::kind_of(&source),
            repository: source.clone(),
            tags: asked_tag.iter().cloned().collect(),
        };
        self.payload(
            Root {
                source,
                digest,
                tag,
                asked_tag,
                entry: unit.clone(),
                unit,
            },
            &asked,
            platforms,
        );
    }

    /// Whether a payload is signed as it has to be; what is in the way is noted. For an index it is the index that is signed.
    fn signed(&mut self, root: &Root, asked: &Asked) -> Signed {
        if self.policy.ignore_release_signatures {
            return Signed::Yes;
        }
        let key = (asked.kind, root.digest.clone());
        let verdict = match self.facts.signatures.get(&key) {
            None => {
                self.needs.insert(Need::Signatures(key.0, key.1));
                return Signed::Unknown;
            }
            Some(Err(failure)) => Err(failure.clone()),
            Some(Ok(signatures)) => signatures.of(&root.digest, asked),
        };
        match verdict {
            Ok(good) => {
                let good = good.into_iter().map(<[u8]>::to_vec).collect();
                self.desired.signatures.insert(root.digest.clone(), good);
                Signed::Yes
            }
            Err(failure) => {
                self.failed(&root.unit, &failure);
                Signed::No
            }
        }
    }

    /// Adds a payload and its components; for an index, the components of its children.
    fn payload(&mut self, root: Root, asked: &Asked, platforms: &[Platform]) {
        let signed = self.signed(&root, asked);
        if signed == Signed::No {
            return;
        }
        let manifest = match self.facts.manifests.get(&root.digest) {
            None => {
                self.needs
                    .insert(Need::Manifest(root.source.clone(), root.digest.clone()));
                return;
            }
            Some(Err(failure)) => return self.failed(&root.unit, failure),
            Some(Ok(manifest)) => manifest.clone(),
        };
        // What a payload holds is not even read before somebody vouches for it.
        if signed == Signed::Unknown {
            return;
        }
        let instances: Vec<Digest> = if manifest.is_index() {
            manifest
                .children(platforms)
                .map(|child| child.digest.clone())
                .collect()
        } else {
            vec![root.digest.clone()]
        };
        if instances.is_empty() {
            let reason = format!(
                "{}@{} has none of the platforms asked for",
                root.source, root.digest
            );
            return self.unresolved(root.unit, reason, false);
        }
        let mut payloads = Vec::new();
        for instance in &instances {
            match self.facts.payloads.get(instance) {
                None => {
                    self.needs
                        .insert(Need::Payload(root.source.clone(), instance.clone()));
                }
                Some(Err(failure)) => return self.failed(&root.unit, failure),
                Some(Ok(payload)) => payloads.push(payload.clone()),
            }
        }
        if payloads.len() == instances.len() {
            let platforms = if manifest.is_index() { platforms } else { &[] };
            self.add_payload(&root, platforms, payloads.iter().map(|p| p.as_ref()));
        }
    }

    fn add_payload<'p>(
        &mut self,
        root: &Root,
        platforms: &[Platform],
        payloads: impl Iterator<Item = &'p Payload>,
    ) {
        let mut components: BTreeMap<(&str, &Digest), &Reference> = BTreeMap::new();
        for payload in payloads {
            for bad in &payload.unreadable {
                self.unresolved(
                    format!("{}, component {}", root.unit, bad.name),
                    bad.reason.clone(),
                    false,
                );
            }
            for component in &payload.components {
                if let Some(digest) = &component.image.digest {
                    components.insert((&component.name, digest), &component.image);
                }
            }
        }
        for ((name, digest), image) in components {
            let tag = match names::component_tag(&root.tag, name) {
                Ok(tag) => tag,
                Err(error) => {
                    self.unresolved(
                        format!("{}, component {name}", root.unit),
                        error.to_string(),
                        false,
                    );
                    continue;
                }
            };
            let place = (names::COMPONENT_PATH, tag);
            self.want(
                root,
                Kind::ReleaseComponent,
                (image.repository.clone(), digest.clone()),
                place,
                platforms,
            );
        }
        let place = (names::RELEASE_PATH, root.tag.clone());
        self.want(
            root,
            Kind::Release,
            (root.source.clone(), root.digest.clone()),
            place,
            platforms,
        );
    }

    fn want(
        &mut self,
        root: &Root,
        kind: Kind,
        (source, digest): (Repository, Digest),
        (path, tag): (&str, Tag),
        platforms: &[Platform],
    ) {
        let target = match self.policy.target.repository(path) {
            Ok(target) => target,
            Err(error) => return self.unresolved(root.unit.clone(), error.to_string(), false),
        };
        self.paths.note(&target, path);
        let asked_tag = root
            .asked_tag
            .clone()
            .filter(|_| kind != Kind::ReleaseComponent);
        self.desired.images.push(Wanted {
            target,
            tag,
            kind,
            source,
            asked_tag,
            digest,
            platforms: platforms.to_vec(),
            unit: root.unit.clone(),
            entry: root.entry.clone(),
        });
    }

    /// What a reference names: its digest, or what its tag was found to name.
    fn digest(&mut self, reference: &Reference, subject: &str) -> Option<Digest> {
        if let Some(digest) = &reference.digest {
            return Some(digest.clone());
        }
        match self.facts.tags.get(reference) {
            None => {
                self.needs.insert(Need::Tag(reference.clone()));
                None
            }
            Some(Err(failure)) => {
                self.failed(subject, failure);
                None
            }
            Some(Ok(digest)) => {
                self.desired
                    .pins
                    .insert(reference.to_string(), digest.to_string());
                Some(digest.clone())
            }
        }
    }

    fn additional(&mut self, image: &AdditionalImage) {
        let unit = image.image.to_string();
        let Some(digest) = self.digest(&image.image, &unit) else {
            return;
        };
        let (path, tag) = target::additional_path_and_tag(image);
        let asked_tag = image
            .image
            .tag
            .clone()
            .filter(|_| image.image.digest.is_none());
        let root = Root {
            source: image.image.repository.clone(),
            digest: digest.clone(),
            tag: tag.clone(),
            asked_tag,
            entry: unit.clone(),
            unit,
        };
        self.want(
            &root,
            Kind::Additional,
            (root.source.clone(), digest),
            (&path, tag),
            &image.platforms,
        );
    }
}

/// What is known of who vouches for a payload.
#[derive(Clone, Copy, PartialEq)]
enum Signed {
    Yes,
    No,
    Unknown,
}

/// A release payload or single image on its way into [`Desired`].
struct Root {
    source: Repository,
    digest: Digest,
    tag: Tag,
    asked_tag: Option<Tag>,
    unit: String,
    entry: String,
}

#[cfg(test)]
mod tests;
