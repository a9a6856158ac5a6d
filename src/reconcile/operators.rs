//! What is kept of an image set's catalogs: found out once, and built once.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use futures_util::{StreamExt, stream};

use super::{
    Error, Inner,
    catalogs::{Opened, Origin, Reader},
    keeper::StoreKeeper,
};
use crate::{
    model::{
        catalog::{
            rebuild::{self, Layer, RebuildError},
            render,
            select::Selected,
            wish::{Built, BundleImage, Filtered, Wish, Wished},
        },
        facts::{Fact, Failure},
        image::{Digest, Platform, Registry},
        imageset::Operator,
        manifest::{Content, Descriptor, Manifest},
        policy::Policy,
        sentence,
    },
    resolve::{
        Keeper, again,
        catalog::{self, Layout, Original, Place},
    },
    store::Kept,
};

/// The most images of a catalog. The largest real ones name some fifty thousand.
const MOST_IMAGES: usize = 500_000;

/// How many catalogs are read at once, of all image sets. Each takes a thread for unpacking and some hundred MB on disk until it is packed.
pub(super) const AT_ONCE: usize = 4;

/// A catalog that was opened, and what is needed to build a filtered one.
struct Ready {
    catalog: Opened,
    image: Image,
}

/// The image that a catalog is.
struct Image {
    top: Arc<Manifest>,
    originals: Vec<Original>,
    /// What was taken in of one on disk.
    at_hand: Option<AtHand>,
}

/// What an image on disk is made of; nobody can be asked for it later.
struct AtHand {
    blobs: Vec<Digest>,
    manifests: Vec<Arc<Manifest>>,
}

impl Inner {
    /// Answers what is kept of an image set's catalogs: from the store where it is known and what was built is at hand or in the
    /// mirror; else by reading them.
    pub(super) async fn filtered(&self, wish: Wish, policy: &Policy) -> Result<Fact, Error> {
        let (key, shelf) = (wish.key.clone(), self.catalogs.shelf().cloned());
        let known = self.on_store(move |store| {
            let known = shelf.and_then(|shelf| shelf.answer(&key));
            let built = known.iter().flatten().filter_map(|f| f.built.as_ref());
            for digest in built.flat_map(|built| &built.manifests) {
                if store.manifest(digest)?.is_none() {
                    return Ok(None);
                }
            }
            Ok(known)
        });
        let registry = policy.target.registry();
        if let Some(known) = known
            .await?
            .filter(|known| self.is_at_hand(known, registry))
        {
            let answer = known.into_iter().map(Ok).collect();
            return Ok(Fact::Catalogs(wish.key, Arc::new(answer)));
        }
        let (opened, failures): (Vec<_>, Vec<_>) = self
            .all_ready(&wish.catalogs, registry)
            .await
            .into_iter()
            .map(|ready| match ready {
                Ok(ready) => (ready, None),
                Err(failure) => (None, Some(failure)),
            })
            .unzip();
        let kept = self.store.kept().clone();
        let operators = wish.catalogs.iter().map(|c| c.operator.clone()).collect();
        let made = tokio::task::spawn_blocking(move || make(operators, opened, &kept)).await?;
        let (answers, manifests) = match made {
            Ok(made) => made,
            Err(failure) => {
                // What was kept is not what it was: the next round reads the catalogs again.
                for wished in &wish.catalogs {
                    self.catalogs.forget(wished);
                }
                let failure = Failure {
                    transient: true,
                    ..failure
                };
                let answer = failures.iter().map(|_| Err(failure.clone())).collect();
                return Ok(Fact::Catalogs(wish.key, Arc::new(answer)));
            }
        };
        let answers: Vec<Result<Filtered, Failure>> = answers
            .into_iter()
            .zip(failures)
            .map(|(filtered, failure)| failure.map_or(filtered, Err))
            .collect();
        let is_whole = answers.iter().all(Result::is_ok);
        let answers = Arc::new(answers);
        let (key, stored) = (wish.key.clone(), answers.clone());
        let shelf = self.catalogs.shelf().cloned();
        self.on_store(move |store| {
            store.keep_facts(&manifests, &[])?;
            let all: Vec<&Filtered> = stored.iter().flatten().collect();
            match shelf {
                Some(shelf) if is_whole => shelf.keep_answer(&key, &all),
                // What could not be had now is asked for again.
                _ => Ok(()),
            }
        })
        .await?;
        Ok(Fact::Catalogs(wish.key, answers))
    }

    /// Whether the blobs that were built for an answer are kept, or in the mirror.
    fn is_at_hand(&self, known: &[Filtered], registry: &Registry) -> bool {
        let mirrored = self.mirrored();
        let kept = self.store.kept();
        let blobs = known.iter().filter_map(|f| f.built.as_ref());
        let mut blobs = blobs.flat_map(|built| &built.blobs);
        blobs.all(|blob| kept.file(blob).is_some() || mirrored.holds_blob(registry, blob))
    }

    /// Says what the image layout in a folder is now.
    pub(super) async fn layout(&self, folder: String) -> Fact {
        let opened = Layout::read(PathBuf::from(&folder)).await;
        let digest = opened.map(|layout| layout.top().digest.clone());
        Fact::Layout(folder, digest)
    }

    /// Makes the catalogs of an image set ready, several at a time; in their order. What one digest names is read once: who comes
    /// second finds it kept.
    async fn all_ready(
        &self,
        catalogs: &[Wished],
        registry: &Registry,
    ) -> Vec<Result<Option<Ready>, Failure>> {
        let mut alike: BTreeMap<Option<&Digest>, Vec<(usize, &Wished)>> = BTreeMap::new();
        for (at, wished) in catalogs.iter().enumerate() {
            let of_digest = alike.entry(wished.digest.as_ref()).or_default();
            of_digest.push((at, wished));
        }
        let reading: Vec<_> = alike
            .into_values()
            .map(|of_digest| async move {
                let mut ready = Vec::with_capacity(of_digest.len());
                for (at, wished) in of_digest {
                    ready.push((at, self.ready(wished, registry).await));
                }
                ready
            })
            .collect();
        let read = stream::iter(reading).buffer_unordered(AT_ONCE);
        let mut all: Vec<_> = read
            .collect::<Vec<_>>()
            .await
            .into_iter()
            .flatten()
            .collect();
        all.sort_by_key(|(at, _)| *at);
        all.into_iter().map(|(_, ready)| ready).collect()
    }

    /// Opens a catalog whose digest is known, and reads what is needed of its images.
    async fn ready(&self, wished: &Wished, registry: &Registry) -> Result<Option<Ready>, Failure> {
        let Some(digest) = &wished.digest else {
            return Ok(None);
        };
        let platforms = &wished.operator.platforms;
        let mut origin = Origin::parse(&wished.operator.catalog).map_err(Failure::lasting)?;
        let layout = match &mut origin {
            Origin::Image(reference) => {
                reference.digest = Some(digest.clone());
                None
            }
            Origin::Layout(folder) => Some(Layout::read(folder.clone()).await?),
            Origin::Folder(_) => None,
        };
        let place = match (&layout, &origin) {
            (Some(layout), _) if layout.top().digest != *digest => {
                return Err(Failure {
                    transient: true,
                    ..Failure::lasting(format!("{layout} was changed while it was read"))
                });
            }
            (Some(layout), _) => Place::Layout(layout),
            (None, Origin::Image(reference)) => self.catalogs.place(&reference.repository),
            (None, _) => return Ok(None),
        };
        let catalog = {
            // It is never closed, so that there always comes a turn.
            let _turn = self.opening.acquire().await.ok();
            self.catalogs.open(&origin, platforms).await?
        };
        let top = place.manifest(digest).await?;
        let originals = again(|| catalog::originals(&place, &top, platforms)).await?;
        let at_hand = match layout.is_some() {
            true => Some(self.take_in(&place, &top, platforms, registry).await?),
            false => None,
        };
        let image = Image {
            top,
            originals,
            at_hand,
        };
        Ok(Some(Ready { catalog, image }))
    }

    /// Takes in what an image on disk is made of: a run reads from registries and from what is kept.
    async fn take_in(
        &self,
        place: &Place<'_>,
        top: &Arc<Manifest>,
        platforms: &[Platform],
        registry: &Registry,
    ) -> Result<AtHand, Failure> {
        let mut manifests = vec![top.clone()];
        if top.is_index() {
            for child in top.children(platforms) {
                manifests.push(place.manifest(&child.digest).await?);
            }
        }
        let mut blobs: BTreeMap<Digest, &Descriptor> = BTreeMap::new();
        for manifest in &manifests {
            if let Content::Image { config, layers } = &manifest.content {
                let all = std::iter::once(config).chain(layers);
                blobs.extend(all.map(|blob| (blob.digest.clone(), blob)));
            }
        }
        let kept = self.store.kept();
        for (digest, blob) in &blobs {
            if kept.file(digest).is_some() || self.mirrored().holds_blob(registry, digest) {
                continue;
            }
            if let Some(keep) = StoreKeeper(self.store.clone()).begin(digest) {
                place.hand_over(blob, keep).await?;
            }
            if kept.file(digest).is_none() {
                return Err(Failure::lasting(format!(
                    "{digest} of {place} could not be kept in the state folder; is there room for it?"
                )));
            }
        }
        Ok(AtHand {
            blobs: blobs.into_keys().collect(),
            manifests,
        })
    }
}

/// What is kept of catalogs, and the manifests of what was built of that.
type Made = (Vec<Result<Filtered, Failure>>, Vec<Arc<Manifest>>);

/// Filters catalogs and builds the images of that. One that cannot be built fails by itself.
fn make(operators: Vec<Operator>, ready: Vec<Option<Ready>>, kept: &Kept) -> Result<Made, Failure> {
    let mut images = Vec::with_capacity(ready.len());
    let mut opened = Vec::with_capacity(ready.len());
    for one in ready {
        let (catalog, image) = match one {
            Some(ready) => (Some(ready.catalog), Some(ready.image)),
            None => (None, None),
        };
        opened.push(catalog);
        images.push(image);
    }
    let selected = Reader::select(&operators, &mut opened)?;
    let mut manifests = Vec::new();
    let mut found = Vec::new();
    for ((selected, catalog), image) in selected.into_iter().zip(opened).zip(images) {
        let (Some(mut catalog), Some(image)) = (catalog, image) else {
            found.push(Ok(Filtered::default()));
            continue;
        };
        let images = named(&mut catalog, &selected)?;
        if images.len() > MOST_IMAGES {
            found.push(Err(Failure::lasting(format!(
                "the bundles that are kept name more than {MOST_IMAGES} images, which no catalog does"
            ))));
            continue;
        }
        let built = match selected.packages.is_empty() {
            true => Ok(None),
            false => built(&mut catalog, &selected, image, kept),
        };
        found.push(match built {
            Ok(built) => {
                let (built, made) = built.unzip();
                manifests.extend(made.into_iter().flatten());
                Ok(Filtered {
                    selected,
                    images,
                    built,
                })
            }
            Err(BuildError::Rebuild(RebuildError::Pack(error))) => {
                return Err(Failure::lasting(sentence(&error)));
            }
            Err(error) => Err(Failure::lasting(sentence(&error))),
        });
    }
    Ok((found, manifests))
}

/// The images of what is kept, each with the first bundle that names it; one more than [`MOST_IMAGES`] at the most.
fn named(catalog: &mut Opened, selected: &Selected) -> Result<Vec<BundleImage>, Failure> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let read = render::images(catalog, selected, |named| {
        found.entry(named.image.image).or_insert(named.bundle);
        found.len() <= MOST_IMAGES
    });
    read.map_err(|error| Failure::lasting(sentence(&error)))?;
    Ok(found
        .into_iter()
        .map(|(image, bundle)| BundleImage { image, bundle })
        .collect())
}

/// Why a filtered catalog could not be built.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    #[error(transparent)]
    Keep(#[from] crate::store::Error),
    #[error("what was built is no manifest: {0}; this is an error of imagesetd")]
    Manifest(#[from] crate::model::manifest::ManifestError),
}

/// An image that was built, and its manifests.
type BuiltImage = (Built, Vec<Arc<Manifest>>);

/// What has to be at hand of a catalog: what is built of it, and what it is made of where it is on disk; nothing where a registry has
/// it as it is wanted.
fn built(
    catalog: &mut Opened,
    selected: &Selected,
    image: Image,
    kept: &Kept,
) -> Result<Option<BuiltImage>, BuildError> {
    let (mut built, made) = match (selected.original, image.at_hand.as_ref()) {
        (false, _) => build(catalog, selected, &image.top, &image.originals, kept)?,
        (true, Some(at_hand)) => {
            let made = at_hand.manifests.clone();
            let built = Built {
                digest: image.top.digest.clone(),
                manifests: made.iter().map(|m| m.digest.clone()).collect(),
                blobs: Vec::new(),
            };
            (built, made)
        }
        (true, None) => return Ok(None),
    };
    let at_hand = image.at_hand.into_iter();
    built
        .blobs
        .extend(at_hand.flat_map(|at_hand| at_hand.blobs));
    Ok(Some((built, made)))
}

/// Builds the images of a filtered catalog: a layer for each folder of configs (there is one only, as a rule), then a configuration
/// and a manifest for each platform, then their index. Blobs go to what is kept.
fn build(
    catalog: &mut Opened,
    selected: &Selected,
    top: &Manifest,
    originals: &[Original],
    kept: &Kept,
) -> Result<BuiltImage, BuildError> {
    let mut layers: BTreeMap<_, Layer> = BTreeMap::new();
    let mut blobs: Vec<Digest> = Vec::new();
    let mut manifests = Vec::new();
    let mut rebuilt = BTreeMap::new();
    for original in originals {
        let parsed = serde_json::from_slice(&original.config).unwrap_or_default();
        let caches = rebuild::caches(&parsed);
        let key = (original.root.clone(), caches);
        if !layers.contains_key(&key) {
            let out = kept.unnamed()?;
            let (out, layer) = rebuild::write_layer(catalog, selected, &key.0, &key.1, out)?;
            kept.adopt(out, &layer.digest)?;
            blobs.push(layer.digest.clone());
            layers.insert(key.clone(), layer);
        }
        let layer = &layers[&key];
        let config = rebuild::config(&original.config, &original.root, layer)?;
        let mut writer = kept.writer(&config.digest)?;
        writer.write(&config.bytes)?;
        writer.finish()?;
        blobs.push(config.digest.clone());
        let media_type = &original.manifest.media_type;
        let written = rebuild::manifest(&original.manifest.raw, media_type, &config, layer)?;
        let manifest = Manifest::parse(written.bytes.clone().into(), Some(media_type))?;
        manifests.push(Arc::new(manifest));
        rebuilt.insert(original.manifest.digest.clone(), written);
    }
    let digest = match top.is_index() {
        false => manifests.first().map(|manifest| manifest.digest.clone()),
        true => {
            let written = rebuild::index(&top.raw, &top.media_type, &rebuilt)?;
            let index = Manifest::parse(written.bytes.into(), Some(&top.media_type))?;
            manifests.push(Arc::new(index));
            Some(written.digest)
        }
    };
    let built = Built {
        digest: digest.ok_or(RebuildError::Shape("index"))?,
        manifests: manifests.iter().map(|m| m.digest.clone()).collect(),
        blobs,
    };
    Ok((built, manifests))
}
