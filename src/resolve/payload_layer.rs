//! Finds single files in the layers of an image, streaming: nothing is unpacked and only wanted files are held.
//!
//! **Invariant:** whatever the bytes are, memory stays below the size bound times the number of wanted files, and the work is
//! bounded.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use tar::{Entry, EntryType};

use super::archive::{self, ArchiveError, whiteout};

/// What a layer may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes after decompression.
    pub bytes: u64,
    /// The most entries.
    pub entries: usize,
    /// The most bytes of a wanted file.
    pub file: usize,
}

impl Default for Limits {
    /// Leaves a base layer of a real payload (about 1 GiB, some ten thousand files) room.
    fn default() -> Self {
        Limits {
            bytes: 8 << 30,
            entries: 1_000_000,
            file: crate::model::release::payload::MAX_FILE_BYTES,
        }
    }
}

/// Why a layer could not be looked through, as a clause after the layer.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// It has more bytes or entries than a layer may have.
    #[error("is larger than a layer of a release image can be (more than {0})")]
    TooLarge(String),
    /// A wanted file is too large.
    #[error("holds a `{path}` of {bytes} bytes, more than the {limit} that are read")]
    FileTooLarge {
        /// The file.
        path: String,
        /// Its bytes, as far as they are told.
        bytes: u64,
        /// How many may be.
        limit: usize,
    },
    /// A wanted file is a link or the like, whose content lies elsewhere.
    #[error("holds `{0}` as a link or special file; a plain file is expected")]
    NotAFile(String),
    /// The bytes end too early, are not a tar archive, or could not be read.
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
}

impl From<ArchiveError> for LayerError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::TooLarge(what) => LayerError::TooLarge(what),
            ArchiveError::Read(error) => LayerError::Read(error),
        }
    }
}

/// What is known about a wanted file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// No layer seen so far says anything about it: look at the next lower one.
    NotYet,
    /// The image does not have it: a layer took it away from those below.
    Gone,
    /// Its content.
    File(Vec<u8>),
}

/// A search for files through the layers of an image, from the top layer down.
#[derive(Debug)]
pub struct Search {
    wanted: BTreeMap<String, Found>,
    limits: Limits,
}

impl Search {
    /// Begins a search for paths like `release-manifests/image-references`, without a leading slash.
    pub fn new<'a>(wanted: impl IntoIterator<Item = &'a str>, limits: Limits) -> Self {
        let wanted = wanted.into_iter();
        Search {
            wanted: wanted.map(|p| (p.to_owned(), Found::NotYet)).collect(),
            limits,
        }
    }

    /// Returns what is known about a path.
    pub fn found(&self, path: &str) -> &Found {
        self.wanted.get(path).unwrap_or(&Found::NotYet)
    }

    /// Whether nothing is left that a lower layer could tell.
    pub fn is_done(&self) -> bool {
        self.wanted.values().all(|found| *found != Found::NotYet)
    }

    /// Returns the content of a path and forgets it; nothing where it is not in the layers seen.
    pub fn take(&mut self, path: &str) -> Option<Vec<u8>> {
        match self.wanted.get_mut(path) {
            Some(Found::File(bytes)) => Some(std::mem::take(bytes)),
            _ => None,
        }
    }

    /// Looks through the next lower layer: a tar archive, plain or compressed with gzip or zstd.
    ///
    /// Reads to the end of the bytes, so that a reader that hashes on the way has seen them all; the caller checks the digest
    /// before it trusts what was found. After an error the search has learnt nothing from this layer.
    pub fn layer(&mut self, layer: impl Read) -> Result<(), LayerError> {
        let seen = archive::plain(layer, self.limits.bytes, |plain| self.look_through(plain))?;
        for (path, seen) in seen.into_iter().filter(|(_, seen)| *seen != Found::NotYet) {
            self.wanted.insert(path, seen);
        }
        Ok(())
    }

    fn look_through(&self, plain: impl Read) -> Result<BTreeMap<String, Found>, LayerError> {
        let open = self.wanted.iter().filter(|(_, f)| **f == Found::NotYet);
        let mut pass = Pass {
            files: open
                .map(|(path, _)| (path.clone(), Found::NotYet))
                .collect(),
            hidden: Vec::new(),
            limits: self.limits,
        };
        pass.archive(plain)?;
        Ok(pass.finish())
    }
}

/// What one layer says.
struct Pass {
    files: BTreeMap<String, Found>,
    /// What this layer takes away from lower ones; it takes nothing away from itself, whatever the order of its entries.
    hidden: Vec<String>,
    limits: Limits,
}

impl Pass {
    fn archive(&mut self, plain: impl Read) -> Result<(), LayerError> {
        let entries = self.limits.entries;
        archive::walk(plain, entries, &mut |path, kind, entry| {
            self.entry(path, kind, entry)
        })
    }

    fn entry<R: Read>(
        &mut self,
        path: String,
        kind: EntryType,
        entry: &mut Entry<'_, R>,
    ) -> Result<(), LayerError> {
        if let Some(hidden) = whiteout(&path) {
            self.hidden.push(hidden);
        } else if self.files.contains_key(&path) {
            let content = match kind {
                EntryType::Regular | EntryType::Continuous => self.content(&path, entry)?,
                // A directory where a file is wanted: the file is not there, nor can it come from below.
                EntryType::Directory => Found::Gone,
                _ => return Err(LayerError::NotAFile(path)),
            };
            self.files.insert(path, content);
        } else if kind != EntryType::Directory {
            // A file in the place of a directory takes the directory of lower layers away.
            let prefix = format!("{path}/");
            if self.files.keys().any(|wanted| wanted.starts_with(&prefix)) {
                return Err(LayerError::NotAFile(path));
            }
        }
        Ok(())
    }

    fn content<R: Read>(&self, path: &str, entry: &mut Entry<'_, R>) -> Result<Found, LayerError> {
        let (bytes, limit) = (entry.size(), self.limits.file);
        if bytes > limit as u64 {
            let path = path.to_owned();
            return Err(LayerError::FileTooLarge { path, bytes, limit });
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        if content.len() as u64 != bytes {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(Found::File(content))
    }

    fn finish(mut self) -> BTreeMap<String, Found> {
        for (path, found) in &mut self.files {
            let hides = |hidden: &String| {
                path == hidden || hidden.is_empty() || path.starts_with(&format!("{hidden}/"))
            };
            if *found == Found::NotYet && self.hidden.iter().any(hides) {
                *found = Found::Gone;
            }
        }
        self.files
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use tar::{Builder, Header};

    use super::*;

    const WANTED: &str = "release-manifests/image-references";
    const OTHER: &str = "release-manifests/release-metadata";

    /// Builds a layer of files.
    fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            if path.ends_with('/') {
                header.set_entry_type(EntryType::Directory);
            }
            tar.append_data(&mut header, path, *content).unwrap();
        }
        tar.into_inner().unwrap()
    }

    /// Builds a layer of one entry of any kind.
    fn special(kind: EntryType, path: &str, size: u64, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(size);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn search() -> Search {
        Search::new([WANTED, OTHER], Limits::default())
    }

    fn after(layers: &[Vec<u8>]) -> (Found, Found) {
        let mut search = search();
        for layer in layers {
            search.layer(layer.as_slice()).unwrap();
        }
        (search.found(WANTED).clone(), search.found(OTHER).clone())
    }

    fn error(layer: &[u8]) -> String {
        search().layer(layer).unwrap_err().to_string()
    }

    #[test]
    fn file_is_found_in_a_plain_and_in_a_gzip_layer() {
        let bytes = layer(&[
            ("release-manifests/", b""),
            (WANTED, b"one"),
            ("etc/x", b"two"),
        ]);
        let expected = (Found::File(b"one".to_vec()), Found::NotYet);
        assert_eq!(after(std::slice::from_ref(&bytes)), expected);
        assert_eq!(after(&[gzip(&bytes)]), expected);
        let (first, second) = bytes.split_at(700);
        assert_eq!(after(&[[gzip(first), gzip(second)].concat()]), expected);
    }

    #[test]
    fn top_layer_wins_and_lower_ones_add_what_is_missing() {
        let top = layer(&[(WANTED, b"top")]);
        let low = layer(&[(WANTED, b"low"), (OTHER, b"low")]);
        let mut search = search();
        search.layer(top.as_slice()).unwrap();
        assert!(!search.is_done());
        search.layer(low.as_slice()).unwrap();
        assert!(search.is_done());
        assert_eq!(search.take(WANTED), Some(b"top".to_vec()));
        assert_eq!(search.take(OTHER), Some(b"low".to_vec()));
    }

    #[test]
    fn whiteout_hides_lower_layers_and_not_its_own() {
        let low = layer(&[(WANTED, b"low"), (OTHER, b"low")]);
        let gone = |entries: &[(&str, &[u8])]| after(&[layer(entries), low.clone()]);
        let (file, low_file) = (
            |t: &[u8]| Found::File(t.to_vec()),
            Found::File(b"low".to_vec()),
        );
        assert_eq!(
            gone(&[("release-manifests/.wh.image-references", b"")]),
            (Found::Gone, low_file.clone())
        );
        assert_eq!(
            gone(&[(".wh.release-manifests", b"")]),
            (Found::Gone, Found::Gone)
        );
        assert_eq!(
            gone(&[(OTHER, b"new"), ("release-manifests/.wh..wh..opq", b"")]),
            (Found::Gone, file(b"new"))
        );
        assert_eq!(gone(&[(".wh..wh..opq", b"")]), (Found::Gone, Found::Gone));
        assert_eq!(
            gone(&[
                ("release-manifests/.wh.image", b""),
                ("other/.wh..wh..opq", b"")
            ]),
            (low_file.clone(), low_file)
        );
    }

    #[test]
    fn paths_are_the_same_however_they_are_written() {
        for path in [
            "./release-manifests/image-references",
            "release-manifests//image-references",
        ] {
            let bytes = special(EntryType::Regular, path, 1, b"x");
            assert_eq!(after(&[bytes]).0, Found::File(b"x".to_vec()), "{path}");
        }
        let climbing = special(
            EntryType::Regular,
            "a/../release-manifests/image-references",
            1,
            b"x",
        );
        assert_eq!(after(&[climbing]).0, Found::NotYet);
    }

    #[test]
    fn long_names_of_both_kinds_are_read() {
        let wanted = format!("release-manifests/{}", "n".repeat(200));
        let found = |bytes: Vec<u8>| {
            let mut search = Search::new([wanted.as_str()], Limits::default());
            search.layer(bytes.as_slice()).unwrap();
            search.found(&wanted).clone()
        };
        assert_eq!(found(layer(&[(&wanted, b"x")])), Found::File(b"x".to_vec()));
        let record = format!("path={wanted}\n");
        let record = format!("{} {record}", record.len() + 4);
        let mut pax = special(
            EntryType::XHeader,
            "pax",
            record.len() as u64,
            record.as_bytes(),
        );
        pax.extend(special(EntryType::Regular, "short", 1, b"x"));
        assert_eq!(found(pax), Found::File(b"x".to_vec()));
    }

    #[test]
    fn directory_of_an_old_archive_is_a_directory() {
        let mut bytes = special(EntryType::Regular, "release-manifests/", 0, b"");
        bytes.extend(special(EntryType::Regular, WANTED, 1, b"x"));
        assert_eq!(after(&[bytes]).0, Found::File(b"x".to_vec()));
    }

    #[test]
    fn last_of_two_entries_wins_as_when_unpacked() {
        let bytes = layer(&[(WANTED, b"one"), (WANTED, b"two")]);
        assert_eq!(after(&[bytes]).0, Found::File(b"two".to_vec()));
    }

    #[test]
    fn links_are_refused_where_a_file_is_wanted() {
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Fifo] {
            let expected =
                format!("holds `{WANTED}` as a link or special file; a plain file is expected");
            assert_eq!(error(&special(kind, WANTED, 0, b"")), expected);
            assert!(error(&special(kind, "release-manifests", 0, b"")).contains("as a link"));
        }
    }

    #[test]
    fn bounds_hold() {
        let limits = Limits {
            bytes: 4096,
            entries: 3,
            file: 8,
        };
        let error = |bytes: Vec<u8>| {
            Search::new([WANTED], limits)
                .layer(bytes.as_slice())
                .unwrap_err()
                .to_string()
        };
        let large = layer(&[("a", &[0; 8192])]);
        assert!(error(large.clone()).contains("more than 4096 bytes"));
        assert!(error(gzip(&large)).contains("more than 4096 bytes"));
        let many = layer(&[("a", b""), ("b", b""), ("c", b""), ("d", b"")]);
        assert!(error(many).contains("more than 3 entries"));
        assert!(error(layer(&[(WANTED, b"123456789")])).contains("of 9 bytes, more than the 8"));
        let name = special(EntryType::GNULongName, "x", 1 << 40, b"");
        assert!(error(name).contains("bytes in a name"));
        let exact = layer(&[(WANTED, b"x")]);
        let limits = Limits {
            bytes: exact.len() as u64,
            ..Limits::default()
        };
        Search::new([WANTED], limits)
            .layer(exact.as_slice())
            .unwrap();
    }

    #[test]
    fn torn_and_foreign_bytes_are_errors_and_teach_nothing() {
        let bytes = layer(&[(WANTED, &[7; 3000])]);
        let packed = gzip(&bytes);
        for torn in [
            &bytes[..2000],
            &bytes[..100],
            &packed[..packed.len() / 2],
            b"hello",
        ] {
            let mut search = search();
            assert!(matches!(search.layer(torn), Err(LayerError::Read(_))));
            assert_eq!(search.found(WANTED), &Found::NotYet);
        }
        assert!(error(&[0x28, 0xb5, 0x2f, 0xfd, 0, 0]).contains("zstd"));
        let pax = special(EntryType::XHeader, "pax", 13, b"13 size=1234\n");
        assert!(error(&pax).contains("8 GiB"));
    }

    #[test]
    fn all_bytes_are_read_so_that_a_hash_over_them_is_whole() {
        struct Counting<'a>(&'a [u8], &'a std::cell::Cell<usize>);
        impl Read for Counting<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let read = self.0.read(buffer)?;
                self.1.set(self.1.get() + read);
                Ok(read)
            }
        }
        let mut bytes = layer(&[(WANTED, b"x")]);
        bytes.extend([0; 100_000]);
        for bytes in [gzip(&bytes), bytes] {
            let count = std::cell::Cell::new(0);
            search().layer(Counting(&bytes, &count)).unwrap();
            assert_eq!(count.get(), bytes.len());
        }
    }

    proptest::proptest! {
        #[test]
        fn broken_layers_do_not_panic(at in 0_usize..4096, byte: u8, cut in 0_usize..4096, packed: bool) {
            let mut bytes = layer(&[("release-manifests/", b""), (WANTED, b"one"), (&"n".repeat(150), b"two")]);
            if packed {
                bytes = gzip(&bytes);
            }
            let (at, cut) = (at % bytes.len(), cut % bytes.len());
            bytes[at] = byte;
            let _ = search().layer(bytes.as_slice());
            let _ = search().layer(&bytes[..cut]);
        }
    }
}
