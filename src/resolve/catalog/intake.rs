//! Takes in the files of a catalog while they stream by: layer by layer from the top down, or from a folder.
//!
//! One thread uncompresses and cuts files into documents, another reads and packs them. Nothing is unpacked.
//!
//! **Invariant:** whatever the bytes are, memory stays below a few of the largest documents and the bounds of the index.

use std::{
    collections::HashMap,
    io::{Read, Write},
    path::Path,
    thread::{self, JoinHandle},
};

use std::sync::mpsc::{SyncSender, sync_channel};

use tar::EntryType;

use crate::{
    model::catalog::{
        ignore::{self, Ignored},
        pack::{AddError, Writer},
        shorten,
        split::{SplitError, Splitter},
    },
    resolve::archive::{self, ArchiveError, whiteout},
};

/// The most bytes of a layer, uncompressed.
const MAX_LAYER: u64 = 8 << 30;

/// The most entries of a layer.
const MAX_ENTRIES: usize = 1_000_000;

/// The most names below the configs that are remembered, over all layers.
const MAX_NAMES: usize = 200_000;

/// The most bytes of those names.
const MAX_NAME_BYTES: usize = 16 << 20;

/// The most bytes of one catalog's files.
const MAX_CONFIGS: u64 = 4 << 30;

/// How many bytes of documents go to the packing thread at once.
const BATCH: usize = 512 << 10;

/// How many bytes of a file are read at once.
const PIECE: usize = 128 << 10;

/// Why a catalog cannot be read, as a sentence without its name.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// It is larger than any catalog.
    #[error("it is larger than a catalog can be: more than {0}")]
    TooLarge(String),
    /// It cannot be read or packed at all.
    #[error("{0}")]
    Broken(String),
    /// A file in it is no part of a catalog.
    #[error(
        "the file `{path}` {why}; tell the catalog's publisher, or leave it out by an `.indexignore`"
    )]
    File {
        /// The file.
        path: String,
        /// Why, as a clause.
        why: String,
    },
    /// There is nothing in it.
    #[error("there is no file-based catalog in `/{0}`: no document was found")]
    Empty(String),
    /// The folder is no folder.
    #[error("`/{0}` in it is a link or a file, and a folder is expected")]
    NotAFolder(String),
}

impl From<ArchiveError> for IntakeError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::TooLarge(what) => IntakeError::TooLarge(format!("{what} in a layer")),
            ArchiveError::Read(error) => {
                IntakeError::Broken(format!("a layer of it cannot be read: {error}"))
            }
        }
    }
}

/// What a name below the configs is in the layers seen so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// A file, or what a whiteout took away: nothing of lower layers has this name, or is below it.
    Final,
    /// A folder: lower layers may add to it.
    Folder,
    /// A folder that hides what lower layers have in it.
    Opaque,
}

/// A file that was taken in.
struct Taken {
    path: String,
    /// Whether a later entry of the same layer took its place.
    replaced: bool,
    /// Why it is no part of a catalog, as a clause.
    broken: Option<String>,
}

/// Takes in a catalog.
pub struct Intake<W> {
    root: String,
    seen: HashMap<String, Seen>,
    name_bytes: usize,
    bytes: u64,
    files: Vec<Taken>,
    ignores: Vec<(String, String)>,
    /// Nothing of lower layers counts any more.
    covered: bool,
    /// A layer has the configs' folder.
    rooted: bool,
    packer: Packer<W>,
    piece: Vec<u8>,
}

impl<W: Write + Send + 'static> Intake<W> {
    /// Begins with the folder of the configs, without a leading slash; what is kept goes to `out`.
    ///
    /// # Errors
    ///
    /// `out` cannot be written.
    pub fn new(root: &str, out: W) -> std::io::Result<Self> {
        Ok(Intake {
            root: root.to_owned(),
            seen: HashMap::new(),
            name_bytes: 0,
            bytes: 0,
            files: Vec::new(),
            ignores: Vec::new(),
            covered: false,
            rooted: false,
            packer: Packer::start(Writer::new(out)?),
            piece: vec![0; PIECE],
        })
    }

    /// Whether the layers below those taken in have nothing to say.
    pub fn is_covered(&self) -> bool {
        self.covered
    }

    /// Takes in the next lower layer.
    ///
    /// # Errors
    ///
    /// The catalog cannot be read at all. A file that is no part of a catalog is told by [`Intake::finish`] only: an
    /// `.indexignore` may come after it.
    pub fn layer(&mut self, layer: impl Read) -> Result<(), IntakeError> {
        let mut own = Layer::default();
        archive::plain(layer, MAX_LAYER, |plain| {
            archive::walk(plain, MAX_ENTRIES, &mut |path, kind, entry| {
                self.entry(&mut own, path, kind, entry)
            })
        })?;
        self.covered |= own.covers;
        self.rooted |= own.rooted;
        for (name, seen) in own.names {
            let known = self.seen.entry(name).or_insert(seen);
            // Whoever is higher up has said the last word; a folder may still be made opaque further down.
            if *known == Seen::Folder && seen != Seen::Final {
                *known = seen;
            } else if *known == Seen::Folder {
                *known = Seen::Opaque;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        own: &mut Layer,
        path: String,
        kind: EntryType,
        content: &mut impl Read,
    ) -> Result<(), IntakeError> {
        if let Some(hidden) = whiteout(&path) {
            let is_opaque = path.ends_with("/.wh..wh..opq") || path == ".wh..wh..opq";
            return self.hide(own, &hidden, is_opaque);
        }
        if self.covered {
            return Ok(());
        }
        let Some(name) = self.below_root(&path).map(str::to_owned) else {
            return self.above_root(own, path, kind);
        };
        own.rooted = true;
        if self.is_below_hidden(&name) {
            return Ok(());
        }
        let seen = match kind {
            EntryType::Directory => Seen::Folder,
            _ => Seen::Final,
        };
        let known = self.seen.get(&name).copied();
        if known.is_none_or(|known| known == Seen::Folder) {
            self.remember(own, &name, seen)?;
        }
        match kind {
            // A folder of a higher layer takes a file away too.
            _ if known.is_some() => Ok(()),
            EntryType::Directory => Ok(()),
            EntryType::Regular | EntryType::Continuous => self.file(&name, content, own),
            _ => {
                let broken = "is a link or a special file, and a plain file is expected";
                self.take(&name, own, Some(broken.to_owned()));
                Ok(())
            }
        }
    }

    /// An entry that is not in the configs' folder: it may be in the way of it.
    fn above_root(
        &mut self,
        own: &mut Layer,
        path: String,
        kind: EntryType,
    ) -> Result<(), IntakeError> {
        let is_root = self.root == path;
        if !is_root && !self.root.starts_with(&format!("{path}/")) {
            return Ok(());
        }
        match kind {
            EntryType::Directory => own.rooted |= is_root,
            // A higher layer has the folder in its place.
            _ if self.rooted => own.covers = true,
            _ => return Err(IntakeError::NotAFolder(path)),
        }
        Ok(())
    }

    /// Takes in a file of a folder that is no image.
    ///
    /// # Errors
    ///
    /// As [`Intake::layer`].
    pub fn plain_file(&mut self, name: &str, mut content: impl Read) -> Result<(), IntakeError> {
        self.file(name, &mut content, &mut Layer::default())
    }

    /// The path below the configs' folder.
    fn below_root<'p>(&self, path: &'p str) -> Option<&'p str> {
        match self.root.as_str() {
            "" => Some(path),
            root => path.strip_prefix(root)?.strip_prefix('/'),
        }
    }

    /// Whether a higher layer hides what is in one of the folders that lead to a name.
    fn is_below_hidden(&self, name: &str) -> bool {
        name.match_indices('/').any(|(end, _)| {
            matches!(
                self.seen.get(&name[..end]),
                Some(Seen::Final | Seen::Opaque)
            )
        })
    }

    /// A whiteout: of the configs or what they lie in, or of something in them.
    fn hide(&mut self, own: &mut Layer, hidden: &str, opaque: bool) -> Result<(), IntakeError> {
        let is_above = hidden.is_empty()
            || hidden == self.root
            || self.root.starts_with(&format!("{hidden}/"));
        if is_above {
            own.covers = true;
            return Ok(());
        }
        let Some(name) = self.below_root(hidden).map(str::to_owned) else {
            return Ok(());
        };
        let seen = if opaque { Seen::Opaque } else { Seen::Final };
        match own.names.get(&name) {
            // What the layer itself has there it keeps; what lower ones have there is hidden.
            Some(Seen::Folder) => {
                own.names.insert(name, Seen::Opaque);
                Ok(())
            }
            Some(_) => Ok(()),
            None => self.remember(own, &name, seen),
        }
    }

    fn remember(&mut self, own: &mut Layer, name: &str, seen: Seen) -> Result<(), IntakeError> {
        self.name_bytes += name.len();
        if own.names.len() + self.seen.len() >= MAX_NAMES || self.name_bytes > MAX_NAME_BYTES {
            return Err(IntakeError::TooLarge(format!("{MAX_NAMES} files")));
        }
        // That folders lead to it need not be told by the archive.
        for (end, _) in name.match_indices('/') {
            let folder = &name[..end];
            if !own.names.contains_key(folder) {
                self.name_bytes += folder.len();
                own.names.insert(folder.to_owned(), Seen::Folder);
            }
        }
        let known = own.names.entry(name.to_owned()).or_insert(seen);
        *known = match (*known, seen) {
            (Seen::Opaque, Seen::Folder) => Seen::Opaque,
            // It was taken away from lower layers, and is there anew.
            (Seen::Final, Seen::Folder) => Seen::Opaque,
            _ => seen,
        };
        Ok(())
    }

    /// Makes a place for a file; an earlier one of the same name in the layer does not count any more.
    fn take(&mut self, name: &str, own: &mut Layer, broken: Option<String>) -> u32 {
        let at = self.files.len();
        if let Some(before) = own.files.insert(name.to_owned(), at) {
            self.files[before].replaced = true;
        }
        self.files.push(Taken {
            path: name.to_owned(),
            replaced: false,
            broken,
        });
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    fn file(
        &mut self,
        name: &str,
        content: &mut impl Read,
        own: &mut Layer,
    ) -> Result<(), IntakeError> {
        let (folder, last) = name.rsplit_once('/').unwrap_or(("", name));
        if last == ignore::FILE {
            return self.ignore_file(folder, content);
        }
        let file = self.take(name, own, None);
        let mut splitter = Splitter::default();
        loop {
            let read = content.read(&mut self.piece).map_err(ArchiveError::Read)?;
            if read == 0 {
                break;
            }
            self.bytes += read as u64;
            if self.bytes > MAX_CONFIGS {
                return Err(IntakeError::TooLarge(format!("{} GiB", MAX_CONFIGS >> 30)));
            }
            let packer = &mut self.packer;
            let pushed = splitter.push(&self.piece[..read], &mut |bytes| packer.give(file, bytes));
            if let Err(error) = pushed {
                return self.broken(file, error);
            }
        }
        let packer = &mut self.packer;
        match splitter.finish(&mut |bytes| packer.give(file, bytes)) {
            Ok(()) => Ok(()),
            Err(error) => self.broken(file, error),
        }
    }

    /// What is wrong with a file is told at the end; what is wrong with the packing ends it now.
    fn broken(&mut self, file: u32, error: Given) -> Result<(), IntakeError> {
        match error {
            Given::Split(error) => {
                self.files[file as usize].broken = Some(error.to_string());
                Ok(())
            }
            Given::Ended => Err(self.packer.why()),
        }
    }

    fn ignore_file(&mut self, folder: &str, content: &mut impl Read) -> Result<(), IntakeError> {
        let mut text = Vec::new();
        let mut content = content.take(ignore::MAX_BYTES as u64);
        content.read_to_end(&mut text).map_err(ArchiveError::Read)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        self.name_bytes += text.len();
        self.ignores.push((folder.to_owned(), text));
        match self.name_bytes > MAX_NAME_BYTES {
            true => Err(IntakeError::TooLarge(format!("{MAX_NAMES} files"))),
            false => Ok(()),
        }
    }

    /// All files are in: ends what is kept.
    ///
    /// # Errors
    ///
    /// A file that counts is no part of a catalog, or there is none.
    pub fn finish(mut self) -> Result<W, IntakeError> {
        // From the root down, so that a deeper file's patterns count more.
        self.ignores.sort_by_key(|(folder, _)| {
            let depth = folder.split('/').filter(|part| !part.is_empty()).count();
            (depth, folder.clone())
        });
        let mut ignored = Ignored::default();
        for (folder, text) in &self.ignores {
            ignored.add(folder, text);
        }
        let (writer, broken) = self.packer.end()?;
        for (file, why) in broken {
            let taken = &mut self.files[file as usize];
            taken.broken.get_or_insert(why);
        }
        let counts = |taken: &Taken| !taken.replaced && !ignored.covers(&taken.path);
        let counted: Vec<bool> = self.files.iter().map(counts).collect();
        let counting = self
            .files
            .iter()
            .zip(&counted)
            .filter(|(_, counts)| **counts);
        let mut any = false;
        for (taken, _) in counting {
            any = true;
            if let Some(why) = &taken.broken {
                return Err(IntakeError::File {
                    path: shorten(&taken.path),
                    why: why.clone(),
                });
            }
        }
        if !any {
            return Err(IntakeError::Empty(self.root));
        }
        writer
            .finish(|file| counted.get(file as usize).copied().unwrap_or(false))
            .map_err(|error| IntakeError::Broken(format!("keeping it failed: {error}")))
    }
}

/// What one layer has.
#[derive(Default)]
struct Layer {
    names: HashMap<String, Seen>,
    files: HashMap<String, usize>,
    /// It takes the configs of lower layers away.
    covers: bool,
    /// It has the configs' folder.
    rooted: bool,
}

/// Why a document was not given on.
enum Given {
    /// The file is broken.
    Split(SplitError),
    /// The packing ended before its time.
    Ended,
}

impl From<SplitError> for Given {
    fn from(error: SplitError) -> Self {
        Given::Split(error)
    }
}

/// Documents on their way to the packing thread.
type Batch = Vec<(u32, Vec<u8>)>;

/// What the packing thread leaves: the writer, and files with documents that cannot be used.
type Packed<W> = Result<(Writer<W>, HashMap<u32, String>), AddError>;

/// Reads and packs documents on a thread of its own.
struct Packer<W> {
    batch: Batch,
    waiting: usize,
    sender: Option<SyncSender<Batch>>,
    thread: Option<JoinHandle<Packed<W>>>,
}

impl<W: Write + Send + 'static> Packer<W> {
    fn start(mut writer: Writer<W>) -> Self {
        let (sender, inbox) = sync_channel::<Batch>(2);
        let thread = thread::spawn(move || {
            let mut broken = HashMap::new();
            for (file, document) in inbox.into_iter().flatten() {
                match writer.add(file, &document) {
                    Ok(()) => {}
                    Err(AddError::Document(error)) => {
                        broken.entry(file).or_insert_with(|| error.to_string());
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok((writer, broken))
        });
        Packer {
            batch: Vec::new(),
            waiting: 0,
            sender: Some(sender),
            thread: Some(thread),
        }
    }

    fn give(&mut self, file: u32, document: Vec<u8>) -> Result<(), Given> {
        self.waiting += document.len() + 64;
        self.batch.push((file, document));
        if self.waiting < BATCH {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Given> {
        self.waiting = 0;
        let batch = std::mem::take(&mut self.batch);
        let sender = self.sender.as_ref().ok_or(Given::Ended)?;
        sender.send(batch).map_err(|_| Given::Ended)
    }

    /// Waits for the thread.
    fn join(&mut self) -> Result<(Writer<W>, HashMap<u32, String>), IntakeError> {
        self.sender = None;
        let ended = self.thread.take().map(JoinHandle::join);
        match ended {
            Some(Ok(Ok(packed))) => Ok(packed),
            Some(Ok(Err(error))) => Err(IntakeError::Broken(error.to_string())),
            _ => Err(IntakeError::Broken(
                "packing it ended unexpectedly".to_owned(),
            )),
        }
    }

    fn why(&mut self) -> IntakeError {
        match self.join() {
            Err(error) => error,
            Ok(_) => IntakeError::Broken("packing it ended unexpectedly".to_owned()),
        }
    }

    fn end(mut self) -> Result<(Writer<W>, HashMap<u32, String>), IntakeError> {
        // Where the thread has ended, joining says why.
        let _ = self.flush();
        self.join()
    }
}

/// How deep folders may nest, and how many files may be in them.
const DEEPEST: usize = 32;

/// Takes in the configs of a folder, in the order of their names.
///
/// # Errors
///
/// As [`Intake::layer`].
pub(super) fn folder<W: Write + Send + 'static>(
    intake: &mut Intake<W>,
    folder: &Path,
) -> Result<(), IntakeError> {
    let mut files = Vec::new();
    list(folder, "", DEEPEST, &mut files)?;
    files.sort();
    for name in files {
        let path = folder.join(&name);
        let file = std::fs::File::open(&path).map_err(|error| unreadable(&path, &error))?;
        intake.plain_file(&name, file)?;
    }
    Ok(())
}

fn list(
    folder: &Path,
    prefix: &str,
    depth: usize,
    files: &mut Vec<String>,
) -> Result<(), IntakeError> {
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        let path = entry.path();
        let name = entry.file_name();
        let name = format!("{prefix}{}", name.to_string_lossy());
        let kind = entry
            .file_type()
            .map_err(|error| unreadable(&path, &error))?;
        // A link to a folder may lead in a circle; one to a file may not.
        if kind.is_dir() {
            if depth == 0 {
                return Err(IntakeError::TooLarge(format!(
                    "{DEEPEST} levels of folders"
                )));
            }
            list(&path, &format!("{name}/"), depth - 1, files)?;
        } else if path.is_file() {
            files.push(name);
        }
        if files.len() > MAX_NAMES {
            return Err(IntakeError::TooLarge(format!("{MAX_NAMES} files")));
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> IntakeError {
    IntakeError::Broken(format!("reading `{}` failed: {error}", path.display()))
}

#[cfg(test)]
mod tests;
