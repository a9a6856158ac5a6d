//! Looking at operator catalogs, and at what an image set keeps of them: what `imagesetd catalog` and its calls have in common.

use tokio::sync::mpsc;

use super::{
    Error, Handle, InlineFile,
    catalogs::{Opened, Origin, Reader},
    requests::{has_errors, invalid},
};
use crate::{
    model::{
        catalog::{
            list::{PackageSummary, summary},
            pack::PackError,
            render,
            select::{Selected, no_package},
        },
        facts::Failure,
        imageset::{ImageSet, Operator},
        sentence,
    },
    yaml::suggest::suggest,
};

/// Why a catalog cannot be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookError {
    /// It cannot be had, or is no catalog.
    #[error("{}", .0.reason)]
    Unread(Failure),
    /// It has no such package.
    #[error("{0}")]
    NoPackage(String),
    /// The package has no such channel.
    #[error("{0}")]
    NoChannel(String),
    /// What was asked for does not go together.
    #[error("{0}")]
    Unfit(String),
}

impl From<Failure> for LookError {
    fn from(failure: Failure) -> Self {
        LookError::Unread(failure)
    }
}

impl From<PackError> for LookError {
    fn from(error: PackError) -> Self {
        LookError::Unread(Failure::lasting(sentence(&error)))
    }
}

/// A catalog and what is kept of it.
pub struct Looked {
    /// What the image set says.
    pub operator: Operator,
    /// The catalog that was read.
    pub catalog: Opened,
    /// What is kept of it.
    pub selected: Selected,
}

impl Reader {
    /// Says what a catalog has: all packages, or one of them, or one channel of it.
    ///
    /// # Errors
    ///
    /// The catalog cannot be read, or has no such package or channel.
    pub async fn list(
        &self,
        origin: &Origin,
        package: Option<&str>,
        channel: Option<&str>,
    ) -> Result<Vec<PackageSummary>, LookError> {
        let mut catalog = self.open(origin, &[]).await?;
        let (package, channel) = (package.map(str::to_owned), channel.map(str::to_owned));
        let listed = tokio::task::spawn_blocking(move || {
            listed(&mut catalog, package.as_deref(), channel.as_deref())
        });
        listed.await.map_err(ended)?
    }

    /// Says what an image set keeps of its catalogs; `given` is read in place of its only one.
    ///
    /// # Errors
    ///
    /// A catalog cannot be read; or there is none, or more than one for `given` to stand for.
    pub async fn filter(
        &self,
        set: &ImageSet,
        given: Option<&Origin>,
    ) -> Result<Vec<Looked>, LookError> {
        let operators = set.operators.clone();
        let unfit = |why: String| Err(LookError::Unfit(why));
        match (operators.len(), given) {
            (0, _) => {
                return unfit(
                    "the image set has no `operators`; there is nothing to filter".to_owned(),
                );
            }
            (2.., Some(_)) => {
                return unfit(format!(
                    "the image set names {} catalogs, and a catalog that is given takes the place of one only",
                    operators.len()
                ));
            }
            _ => {}
        }
        let mut opened = Vec::with_capacity(operators.len());
        for operator in &operators {
            let origin = match given {
                Some(origin) => origin.clone(),
                None => Origin::parse(&operator.catalog).map_err(LookError::Unfit)?,
            };
            opened.push(Some(self.open(&origin, &operator.platforms).await?));
        }
        let looked = tokio::task::spawn_blocking(move || {
            let selected = Reader::select(&operators, &mut opened)?;
            let catalogs = opened.into_iter().flatten();
            let found = operators.into_iter().zip(catalogs).zip(selected);
            let looked = found.map(|((operator, catalog), selected)| Looked {
                operator,
                catalog,
                selected,
            });
            Ok(looked.collect())
        });
        looked.await.map_err(ended)?
    }
}

fn ended(error: tokio::task::JoinError) -> LookError {
    LookError::Unread(Failure::lasting(format!(
        "looking at the catalog ended unexpectedly: {error}"
    )))
}

fn listed(
    catalog: &mut Opened,
    package: Option<&str>,
    channel: Option<&str>,
) -> Result<Vec<PackageSummary>, LookError> {
    let names: Vec<String> = catalog.directory().packages.keys().cloned().collect();
    let Some(name) = package else {
        let mut found = Vec::with_capacity(names.len());
        for name in names {
            found.extend(catalog.package(&name)?.as_ref().map(summary));
        }
        return Ok(found);
    };
    let Some(package) = catalog.package(name)? else {
        return Err(LookError::NoPackage(no_package(name, &names)));
    };
    let mut package = summary(&package);
    if let Some(channel) = channel {
        let names: Vec<&str> = package.channels.iter().map(|c| c.name.as_str()).collect();
        if !names.contains(&channel) {
            let hint = suggest(channel, &names);
            let why = format!("the package `{name}` has no channel `{channel}`; {hint}");
            return Err(LookError::NoChannel(why));
        }
        package.channels.retain(|c| c.name == channel);
    }
    Ok(vec![package])
}

/// How many bytes of documents are sent at once, about.
const PIECE: usize = 128 << 10;

/// Why the documents of a catalog are written no further.
enum Stopped {
    Pack(PackError),
    /// Nobody reads them any more.
    Gone,
}

impl From<PackError> for Stopped {
    fn from(error: PackError) -> Self {
        Stopped::Pack(error)
    }
}

impl Handle {
    /// Says what a catalog in a registry has, see [`Reader::list`].
    pub async fn list_catalog(
        &self,
        catalog: &str,
        package: Option<&str>,
        channel: Option<&str>,
    ) -> Result<Vec<PackageSummary>, Error> {
        let origin = in_registry(catalog)?;
        let _turn = self.inner.looking.acquire().await;
        let listed = self.inner.catalogs.list(&origin, package, channel).await;
        Ok(listed?)
    }

    /// Says what an image set of the directory keeps of its catalogs, or one of files that are sent along; `catalog` is read in place
    /// of its only one.
    pub async fn filter_catalog(
        &self,
        set: Option<&str>,
        files: Vec<InlineFile>,
        catalog: Option<&str>,
    ) -> Result<Vec<Looked>, Error> {
        let given = catalog.map(in_registry).transpose()?;
        let image_set = match files.is_empty() {
            true => self.of_directory(set).await?,
            false => self.of_files(set, files)?,
        };
        let _turn = self.inner.looking.acquire().await;
        let looked = self.inner.catalogs.filter(&image_set, given.as_ref()).await;
        Ok(looked?)
    }

    /// Writes the documents of filtered catalogs one after another, in pieces that a message can carry. Who stops reading stops it.
    pub fn documents(looked: Vec<Looked>) -> mpsc::Receiver<Result<Vec<u8>, Error>> {
        let (pieces, inbox) = mpsc::channel(4);
        tokio::task::spawn_blocking(move || {
            let mut piece = Vec::with_capacity(PIECE);
            for mut one in looked {
                let written = render::documents(&mut one.catalog, &one.selected, |_, bytes| {
                    for part in bytes.chunks(PIECE).chain([b"\n".as_slice()]) {
                        piece.extend_from_slice(part);
                        if piece.len() >= PIECE {
                            let full = std::mem::replace(&mut piece, Vec::with_capacity(PIECE));
                            pieces.blocking_send(Ok(full)).map_err(|_| Stopped::Gone)?;
                        }
                    }
                    Ok(())
                });
                match written {
                    Ok(()) => {}
                    Err(Stopped::Gone) => return,
                    Err(Stopped::Pack(error)) => {
                        let _ = pieces.blocking_send(Err(LookError::from(error).into()));
                        return;
                    }
                }
            }
            if !piece.is_empty() {
                let _ = pieces.blocking_send(Ok(piece));
            }
        });
        inbox
    }

    async fn of_directory(&self, set: Option<&str>) -> Result<ImageSet, Error> {
        let Some(name) = set else {
            return Err(Error::Unfit(
                "name an image set, or send its file along".into(),
            ));
        };
        self.look_now().await;
        Ok(self.origin(&self.find_set(name)?)?.set)
    }

    /// The image set that is named, or the only one. Folders of the daemon's machine are not read for who sends files.
    fn of_files(&self, set: Option<&str>, files: Vec<InlineFile>) -> Result<ImageSet, Error> {
        let mut found = self.read_inline(files).image_sets;
        if let Some(name) = set {
            found.retain(|found| found.name.0 == name);
        }
        let one = match (found.pop(), found.is_empty()) {
            (Some(one), true) => one,
            (None, _) => return Err(self.no_set(set.unwrap_or("in the files"), None)),
            (Some(_), false) => {
                let why = "the files hold several image sets; name one of them";
                return Err(Error::Unfit(why.to_owned()));
            }
        };
        let Some(image_set) = one.image_set.filter(|_| !has_errors(&one.problems)) else {
            return Err(invalid(&one.name, &one.problems));
        };
        for operator in &image_set.operators {
            in_registry(&operator.catalog)?;
        }
        Ok(image_set)
    }
}

/// Reads a catalog's name of a caller.
fn in_registry(text: &str) -> Result<Origin, Error> {
    match Origin::parse(text) {
        Ok(origin @ Origin::Image(_)) => Ok(origin),
        Ok(_) => Err(Error::Unfit(format!(
            "{text} is on disk; `imagesetd catalog` reads it on the machine that has it"
        ))),
        Err(why) => Err(Error::Unfit(why)),
    }
}
