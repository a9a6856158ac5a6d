//! Joins reading catalogs with the store: what was read is kept, and read from there the next time.

use std::{
    fs::File,
    io::{Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    model::{
        catalog::{
            pack::Catalog,
            select::{self, Asked, Selected},
            wish::Wished,
        },
        facts::Failure,
        image::{Digest, Platform, Reference, Repository},
        imageset::Operator,
        manifest::Manifest,
        sentence,
    },
    registry::{Client, Selector},
    resolve::{
        KeepOne, Keeper, again,
        catalog::{self, Layout, Place},
    },
    store,
};

/// How long a catalog is kept that nobody looks at.
const UNUSED: std::time::Duration = std::time::Duration::from_secs(90 * 24 * 3600);

/// A kept catalog, open.
pub type Opened = Catalog<File>;

/// Where a catalog is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An image in a registry.
    Image(Reference),
    /// An image layout on disk.
    Layout(PathBuf),
    /// A folder of plain configs.
    Folder(PathBuf),
}

impl Origin {
    /// Reads what an image set calls its catalog.
    ///
    /// # Errors
    ///
    /// It is neither `oci://` and a folder nor an image reference: a clause.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix("oci://") {
            Some(path) => Ok(Origin::Layout(path.into())),
            None => {
                let reference: Reference = text
                    .parse()
                    .map_err(|e| format!("{text} is no image: {e}"))?;
                match reference.tag.is_none() && reference.digest.is_none() {
                    true => Err(format!("{text} has neither tag nor digest; add one")),
                    false => Ok(Origin::Image(reference)),
                }
            }
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Image(reference) => reference.fmt(f),
            Origin::Layout(folder) => write!(f, "oci://{}", folder.display()),
            Origin::Folder(folder) => folder.display().fmt(f),
        }
    }
}

/// Keeps no blobs.
struct Nowhere;

impl Keeper for Nowhere {
    fn begin(&self, _: &Digest) -> Option<Box<dyn KeepOne>> {
        None
    }

    fn open(&self, _: &Digest) -> Option<File> {
        None
    }

    fn manifest(&self, _: &Digest) -> Option<Arc<Manifest>> {
        None
    }
}

/// Reads catalogs, and keeps what was read where there is a place for it.
pub struct Reader {
    source: Client,
    shelf: Option<store::Catalogs>,
    keeper: Arc<dyn Keeper>,
}

impl Reader {
    /// Makes a reader; with a state folder what is read is kept there.
    ///
    /// # Errors
    ///
    /// The state folder cannot be used.
    pub fn new(source: Client, state: Option<&Path>) -> Result<Self, store::Error> {
        Ok(Reader {
            source,
            shelf: state.map(store::Catalogs::open).transpose()?,
            keeper: Arc::new(Nowhere),
        })
    }

    /// The same, and blobs that are read on the way are kept.
    pub fn keeping(self, keeper: Arc<dyn Keeper>) -> Self {
        Reader { keeper, ..self }
    }

    /// Lets go of catalogs, and of what was found out about them, that nobody has used for long.
    pub(super) fn tidy(&self) {
        if let Some(shelf) = &self.shelf {
            shelf.sweep(UNUSED);
        }
    }

    /// Returns where catalogs are kept.
    pub(super) fn shelf(&self) -> Option<&store::Catalogs> {
        self.shelf.as_ref()
    }

    /// Returns where the manifests and blobs of an image in a registry are.
    pub(super) fn place<'a>(&'a self, repository: &'a Repository) -> Place<'a> {
        Place::Registry(&self.source, self.keeper.as_ref(), repository)
    }

    /// Opens a catalog. One that is kept costs the request that says what a tag names now, or none.
    ///
    /// # Errors
    ///
    /// It cannot be had, or is no file-based catalog: a sentence with the remedy.
    pub async fn open(&self, origin: &Origin, platforms: &[Platform]) -> Result<Opened, Failure> {
        match origin {
            Origin::Folder(folder) => {
                let (folder, out) = (folder.clone(), self.begin()?);
                let read = tokio::task::spawn_blocking(move || catalog::read_folder(&folder, out));
                let read = read
                    .await
                    .map_err(|error| Failure::lasting(error.to_string()))??;
                reopened(read.into_file())
            }
            Origin::Layout(folder) => {
                let layout = Layout::read(folder.clone()).await?;
                let digest = layout.top().digest.clone();
                let top = layout.top().clone();
                self.of(
                    origin,
                    &Place::Layout(&layout),
                    &digest,
                    Some(&top),
                    platforms,
                )
                .await
            }
            Origin::Image(reference) => {
                let (digest, manifest) = self.look_up(reference).await?;
                let place = self.place(&reference.repository);
                self.of(origin, &place, &digest, manifest.as_ref(), platforms)
                    .await
            }
        }
    }

    /// Applies the rules of an image set to its catalogs. A catalog that cannot be had is left out of the answer.
    ///
    /// # Errors
    ///
    /// A kept catalog cannot be read.
    pub fn select(
        operators: &[Operator],
        opened: &mut [Option<Opened>],
    ) -> Result<Vec<Selected>, Failure> {
        let mut asked: Vec<Asked<'_, Opened>> = operators
            .iter()
            .zip(opened)
            .map(|(operator, source)| Asked {
                operator,
                source: source.as_mut(),
            })
            .collect();
        select::select(&mut asked).map_err(|error| Failure::lasting(sentence(&error)))
    }

    /// Lets go of a catalog whose file turned out to be damaged.
    pub(super) fn forget(&self, wished: &Wished) {
        if let (Some(shelf), Some(digest)) = (&self.shelf, &wished.digest) {
            shelf.forget(&key(digest, &wished.operator.platforms));
        }
    }

    /// What an image is now: by HEAD where it may be kept, with its manifest otherwise.
    async fn look_up(&self, reference: &Reference) -> Result<(Digest, Option<Manifest>), Failure> {
        if let Some(digest) = &reference.digest {
            return Ok((digest.clone(), None));
        }
        let Some(tag) = reference.tag.clone() else {
            return Err(Failure::lasting(format!(
                "{reference} has neither tag nor digest; add one"
            )));
        };
        let name = Selector::Tag(tag);
        let failed = |error: &crate::registry::Error| crate::resolve::failure(error);
        if self.shelf.is_none() {
            let manifest = self.source.manifest(&reference.repository, &name).await;
            let manifest = manifest.map_err(|error| failed(&error))?;
            return Ok((manifest.digest.clone(), Some(manifest)));
        }
        let head = self.source.head(&reference.repository, &name).await;
        match head.map_err(|error| failed(&error))? {
            Some(head) => Ok((head.digest, None)),
            None => Err(Failure::lasting(format!(
                "{reference} is not there; check its name"
            ))),
        }
    }

    async fn of(
        &self,
        origin: &Origin,
        place: &Place<'_>,
        digest: &Digest,
        manifest: Option<&Manifest>,
        platforms: &[Platform],
    ) -> Result<Opened, Failure> {
        let key = key(digest, platforms);
        if let Some(shelf) = &self.shelf
            && let Some(file) = shelf.file(&key)
        {
            match Catalog::open(file) {
                Ok(catalog) => return Ok(catalog),
                Err(_) => shelf.forget(&key),
            }
        }
        let image = match manifest {
            Some(manifest) => catalog::image_of(manifest, platforms),
            None => catalog::image_of(&*place.manifest(digest).await?, platforms),
        };
        let image = image.map_err(|why| Failure::lasting(format!("{origin}: {why}")))?;
        let image = image.as_ref().unwrap_or(digest);
        let read = again(|| async { catalog::read(place, image, self.begin()?).await }).await?;
        match (&self.shelf, read) {
            (Some(shelf), Out::Kept(file)) => {
                let file = shelf
                    .keep(file, &key)
                    .map_err(|e| Failure::lasting(sentence(&e)))?;
                reopened(file)
            }
            (_, read) => reopened(read.into_file()),
        }
    }

    fn begin(&self) -> Result<Out, Failure> {
        match &self.shelf {
            Some(shelf) => match shelf.begin() {
                Ok(file) => Ok(Out::Kept(file)),
                Err(error) => Err(Failure::lasting(sentence(&error))),
            },
            None => tempfile::tempfile().map(Out::Passing).map_err(|error| {
                Failure::lasting(format!(
                    "making a temporary file: {error}; a catalog that is read needs some hundred MB there (TMPDIR names another folder)"
                ))
            }),
        }
    }
}

/// The key under which the catalog of an image is kept. Which image of an index was read depends on the platforms asked for.
fn key(digest: &Digest, platforms: &[Platform]) -> Digest {
    match platforms {
        [] => digest.clone(),
        platforms => {
            let named: Vec<String> = platforms.iter().map(ToString::to_string).collect();
            Digest::of(format!("{digest} {}", named.join(" ")).as_bytes())
        }
    }
}

fn reopened(mut file: File) -> Result<Opened, Failure> {
    let opened = file.seek(SeekFrom::Start(0)).map_err(Into::into);
    let opened = opened.and_then(|_| Catalog::open(file));
    opened.map_err(|error| Failure::lasting(sentence(&error)))
}

/// A file that a catalog is packed into.
enum Out {
    /// It gets a name when it is whole.
    Kept(tempfile::NamedTempFile),
    /// It is gone when it is closed.
    Passing(File),
}

impl Out {
    fn into_file(self) -> File {
        match self {
            Out::Kept(file) => file.into_file(),
            Out::Passing(file) => file,
        }
    }
}

impl std::io::Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Out::Kept(file) => file.write(bytes),
            Out::Passing(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Out::Kept(file) => file.flush(),
            Out::Passing(file) => file.flush(),
        }
    }
}
