//! What is kept of an image set's catalogs: found out once, and built once.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Error, Inner,
    catalogs::{Opened, Origin, Reader},
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
        image::{Digest, Registry},
        imageset::Operator,
        manifest::Manifest,
        policy::Policy,
        sentence,
    },
    resolve::catalog::{self, Original},
    store::Kept,
};

/// A catalog that was opened, and what is needed to build a filtered one.
struct Ready {
    catalog: Opened,
    top: Arc<Manifest>,
    originals: Vec<Original>,
}

impl Inner {
    /// Answers what is kept of an image set's catalogs: from the store where it is known and what was built is at hand or in the
    /// mirror; else by reading them.
    pub(super) async fn filtered(&self, wish: Wish, policy: &Policy) -> Result<Fact, Error> {
        let (key, shelf) = (wish.key.clone(), self.catalogs.shelf().cloned());
        let known = self.on_store(move |store| {
            let known = shelf.and_then(|shelf| shelf.answer(&key));
            let built = known.iter().flatten().filter_map(|f| f.built.as_ref());
            for built in built {
                if store.manifest(&built.digest)?.is_none() {
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
        let mut opened = Vec::with_capacity(wish.catalogs.len());
        let mut failures: Vec<Option<Failure>> = Vec::with_capacity(wish.catalogs.len());
        for wished in &wish.catalogs {
            let (ready, failure) = match self.ready(wished).await {
                Ok(ready) => (ready, None),
                Err(failure) => (None, Some(failure)),
            };
            opened.push(ready);
            failures.push(failure);
        }
        let kept = self.store.kept().clone();
        let operators = wish.catalogs.into_iter().map(|c| c.operator).collect();
        let made = tokio::task::spawn_blocking(move || make(operators, opened, &kept)).await?;
        let (answers, manifests) = match made {
            Ok(made) => made,
            Err(failure) => {
                let answer = failures.iter().map(|_| Err(failure.clone())).collect();
                return Ok(Fact::Catalogs(wish.key, Arc::new(answer)));
            }
        };
        let is_whole = failures.iter().all(Option::is_none);
        let answers: Vec<Result<Filtered, Failure>> = answers
            .into_iter()
            .zip(failures)
            .map(|(filtered, failure)| match failure {
                Some(failure) => Err(failure),
                None => Ok(filtered),
            })
            .collect();
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

    /// Opens a catalog whose digest is known, and reads what is needed of its images.
    async fn ready(&self, wished: &Wished) -> Result<Option<Ready>, Failure> {
        let Some(digest) = &wished.digest else {
            return Ok(None);
        };
        let origin = Origin::parse(&wished.operator.catalog).map_err(Failure::lasting)?;
        let Origin::Image(mut reference) = origin else {
            return Ok(None);
        };
        reference.digest = Some(digest.clone());
        let platforms = &wished.operator.platforms;
        let repository = reference.repository.clone();
        let catalog = self
            .catalogs
            .open(&Origin::Image(reference), platforms)
            .await?;
        let place = self.catalogs.place(&repository);
        let top = place.manifest(digest).await?;
        let originals = catalog::originals(&place, &top, platforms).await?;
        Ok(Some(Ready {
            catalog,
            top,
            originals,
        }))
    }
}

/// Filters catalogs and builds the images of that; also returns the manifests of what was built.
fn make(
    operators: Vec<Operator>,
    ready: Vec<Option<Ready>>,
    kept: &Kept,
) -> Result<(Vec<Filtered>, Vec<Arc<Manifest>>), Failure> {
    let mut images = Vec::with_capacity(ready.len());
    let mut opened = Vec::with_capacity(ready.len());
    for one in ready {
        let (catalog, image) = match one {
            Some(ready) => (Some(ready.catalog), Some((ready.top, ready.originals))),
            None => (None, None),
        };
        opened.push(catalog);
        images.push(image);
    }
    let selected = Reader::select(&operators, &mut opened)?;
    let mut manifests = Vec::new();
    let mut found = Vec::new();
    for ((selected, catalog), image) in selected.into_iter().zip(opened).zip(images) {
        let mut filtered = Filtered::default();
        if let (Some(mut catalog), Some((top, originals))) = (catalog, image) {
            filtered.images = named(&mut catalog, &selected)?;
            if !selected.original && !selected.packages.is_empty() {
                let built = build(&mut catalog, &selected, &top, &originals, kept);
                let (built, made) = built.map_err(|error| Failure::lasting(sentence(&error)))?;
                manifests.extend(made);
                filtered.built = Some(built);
            }
        }
        filtered.selected = selected;
        found.push(filtered);
    }
    Ok((found, manifests))
}

/// The images of what is kept, each with the first bundle that names it; none of a bundle that cannot be mirrored.
fn named(catalog: &mut Opened, selected: &Selected) -> Result<Vec<BundleImage>, Failure> {
    let images = render::images(catalog, selected);
    let images = images.map_err(|error| Failure::lasting(sentence(&error)))?;
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    for named in images {
        found.entry(named.image.image).or_insert(named.bundle);
    }
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

/// Builds the images of a filtered catalog: a layer for each folder of configs (there is one only, as a rule), then a configuration
/// and a manifest for each platform, then their index. Blobs go to what is kept.
fn build(
    catalog: &mut Opened,
    selected: &Selected,
    top: &Manifest,
    originals: &[Original],
    kept: &Kept,
) -> Result<(Built, Vec<Arc<Manifest>>), BuildError> {
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
    let digest = digest.ok_or(RebuildError::Shape("index"))?;
    Ok((Built { digest, blobs }, manifests))
}
