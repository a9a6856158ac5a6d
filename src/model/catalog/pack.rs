//! A catalog as it is kept: every document compressed by itself, then an index of each package, then a directory of all.
//!
//! Documents are written while they come; only the index is held. A kept catalog is read by part: the directory, the index of a
//! package, one document. All parts carry a checksum, so that a file that an outage cut is told from a whole one.
//!
//! ```text
//!  magic | documents ... | indexes of packages ... | directory | where the directory is | magic
//! ```

use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, SeekFrom, Write},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    MAX_DOCUMENT, MAX_DOCUMENTS, MAX_INDEX,
    document::{self, BundleFacts, Content, DocumentError, Entry, Gvk},
};

/// Begins and ends a kept catalog; the number changes when the form does.
const MAGIC: &[u8; 16] = b"imagesetd-pack-1";

/// The bytes after the directory: its block, and the magic.
const FOOTER: u64 = 8 + 3 * 4 + 16;

/// Why a document is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// It cannot be used.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The catalog is larger than any.
    #[error("{0}")]
    TooLarge(String),
    /// It could not be written.
    #[error("keeping the catalog failed: {0}")]
    Write(#[from] io::Error),
}

/// Why a kept catalog cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It is not whole, or of another version.
    #[error("the kept catalog is damaged or of another version; it is read anew")]
    Damaged,
    /// The file cannot be read.
    #[error("reading the kept catalog failed: {0}")]
    Read(#[from] io::Error),
}

/// Where a part is in the file: offset, bytes there, bytes uncompressed, checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block(u64, u32, u32, u32);

impl Block {
    /// Returns how many bytes the part has when it is read.
    pub fn length(&self) -> u64 {
        self.2.into()
    }
}

/// What a catalog holds, by package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// The packages by name.
    pub packages: BTreeMap<String, Listed>,
    /// Documents that belong to no package.
    pub loose: Vec<Other>,
}

/// A package in the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    index: Block,
    /// The kinds of objects that its bundles bring.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub provides: Vec<Gvk>,
}

/// The index of a package. Everything is sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its own documents: one, or the catalog is broken.
    pub definitions: Vec<Definition>,
    /// Its channels.
    pub channels: Vec<Channel>,
    /// Its bundles.
    pub bundles: Vec<Bundle>,
    /// Its further documents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Other>,
}

/// A package's own document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The default channel; empty where none is named.
    pub default_channel: String,
    /// The document.
    pub document: Block,
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// Its bundles, as written.
    pub entries: Vec<Entry>,
    /// The document.
    pub document: Block,
}

/// A bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Its name.
    pub name: String,
    /// What rules need to know of it.
    #[serde(flatten)]
    pub facts: BundleFacts,
    /// The document.
    pub document: Block,
}

/// A document of another schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Other {
    /// Its schema.
    pub schema: String,
    /// Its name, which may be empty.
    pub name: String,
    /// The document.
    pub document: Block,
}

/// A document that was taken in.
struct Taken {
    file: u32,
    document: document::Document,
    block: Block,
}

/// Takes in a catalog's documents.
pub struct Writer<W> {
    out: W,
    at: u64,
    taken: Vec<Taken>,
    held: usize,
}

impl<W: Write> Writer<W> {
    /// Begins a kept catalog.
    ///
    /// # Errors
    ///
    /// `out` cannot be written to.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        Ok(Writer {
            out,
            at: MAGIC.len() as u64,
            taken: Vec::new(),
            held: 0,
        })
    }

    /// Takes in a document of a file.
    ///
    /// # Errors
    ///
    /// The document cannot be used; or the catalog cannot be kept at all.
    pub fn add(&mut self, file: u32, bytes: &[u8]) -> Result<(), AddError> {
        let document = document::read(bytes)?;
        self.held += weight(&document);
        if self.taken.len() == MAX_DOCUMENTS {
            return Err(AddError::TooLarge(format!(
                "it has more than {MAX_DOCUMENTS} documents, which no catalog has"
            )));
        }
        if self.held > MAX_INDEX {
            return Err(AddError::TooLarge(
                "the names and updates in it are more than any catalog has".to_owned(),
            ));
        }
        let block = self.block(bytes)?;
        self.taken.push(Taken {
            file,
            document,
            block,
        });
        Ok(())
    }

    /// Ends the kept catalog, with the documents of the files that `counts`.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn finish(mut self, counts: impl Fn(u32) -> bool) -> io::Result<W> {
        let mut packages: BTreeMap<String, Package> = BTreeMap::new();
        let mut directory = Directory::default();
        for taken in std::mem::take(&mut self.taken) {
            if !counts(taken.file) {
                continue;
            }
            match taken.document.package.as_str() {
                "" => directory.loose.push(other(taken)),
                name => {
                    let package = packages.entry(name.to_owned()).or_default();
                    package.take(taken);
                }
            }
        }
        for (name, mut package) in packages {
            package.name.clone_from(&name);
            package.sort();
            let listed = Listed {
                provides: package.provides(),
                index: self.json(&package)?,
            };
            directory.packages.insert(name, listed);
        }
        let Block(at, stored, length, sum) = self.json(&directory)?;
        self.out.write_all(&at.to_le_bytes())?;
        for number in [stored, length, sum] {
            self.out.write_all(&number.to_le_bytes())?;
        }
        self.out.write_all(MAGIC)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn json(&mut self, value: &impl Serialize) -> io::Result<Block> {
        let text = serde_json::to_vec(value)?;
        self.block(&text)
    }

    fn block(&mut self, bytes: &[u8]) -> io::Result<Block> {
        let stored = lz4_flex::block::compress(bytes);
        self.out.write_all(&stored)?;
        let number = |n: usize| u32::try_from(n).map_err(io::Error::other);
        let block = Block(
            self.at,
            number(stored.len())?,
            number(bytes.len())?,
            sum(&stored),
        );
        self.at += stored.len() as u64;
        Ok(block)
    }
}

impl Package {
    fn take(&mut self, taken: Taken) {
        let block = taken.block;
        let name = taken.document.name.clone();
        match taken.document.content {
            Content::Package(default_channel) => self.definitions.push(Definition {
                default_channel,
                document: block,
            }),
            Content::Channel(entries) => self.channels.push(Channel {
                name,
                entries,
                document: block,
            }),
            Content::Bundle(facts) => self.bundles.push(Bundle {
                name,
                facts: *facts,
                document: block,
            }),
            Content::Other => self.others.push(other(taken)),
        }
    }

    fn sort(&mut self) {
        self.channels.sort_by(|a, b| a.name.cmp(&b.name));
        self.bundles.sort_by(|a, b| a.name.cmp(&b.name));
        let key = |other: &Other| (other.schema.clone(), other.name.clone());
        self.others.sort_by_key(key);
    }

    fn provides(&self) -> Vec<Gvk> {
        let mut all: Vec<Gvk> = self
            .bundles
            .iter()
            .flat_map(|bundle| bundle.facts.provides.iter().cloned())
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// Returns a bundle by name.
    pub fn bundle(&self, name: &str) -> Option<&Bundle> {
        let at = self.bundles.binary_search_by(|b| b.name.as_str().cmp(name));
        at.ok().map(|at| &self.bundles[at])
    }

    /// Returns a channel by name.
    pub fn channel(&self, name: &str) -> Option<&Channel> {
        let at = self
            .channels
            .binary_search_by(|c| c.name.as_str().cmp(name));
        at.ok().map(|at| &self.channels[at])
    }

    /// Returns the default channel; empty where none is named.
    pub fn default_channel(&self) -> &str {
        self.definitions
            .first()
            .map_or("", |definition| definition.default_channel.as_str())
    }
}

fn other(taken: Taken) -> Other {
    Other {
        schema: taken.document.schema,
        name: taken.document.name,
        document: taken.block,
    }
}

/// Roughly how many bytes the index of a document takes.
fn weight(document: &document::Document) -> usize {
    let content = match &document.content {
        Content::Package(default) => default.len(),
        Content::Channel(entries) => entries
            .iter()
            .map(|entry| {
                let skips: usize = entry.skips().iter().map(|s| s.len() + 32).sum();
                80 + entry.name.len() + entry.replaces().map_or(0, str::len) + skips
            })
            .sum(),
        Content::Bundle(facts) => {
            160 + facts.version.len()
                + (facts.provides.iter())
                    .map(|g| 96 + g.group.len() + g.version.len() + g.kind.len())
                    .sum::<usize>()
                + facts.requires.iter().map(required).sum::<usize>()
                + facts.unusable.as_ref().map_or(0, String::len)
        }
        Content::Other => 0,
    };
    180 + document.schema.len() + document.package.len() + document.name.len() + content
}

fn required(requirement: &document::Requirement) -> usize {
    use document::Requirement::*;
    96 + match requirement {
        Package { name, range } => name.len() + range.len(),
        Gvk(gvk) => gvk.group.len() + gvk.version.len() + gvk.kind.len(),
        All(each) | Any(each) | Not(each) => each.iter().map(required).sum(),
        Unknown(text) => text.len(),
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// A kept catalog, open for reading.
pub struct Catalog<R> {
    file: R,
    directory: Directory,
}

impl<R: Read + Seek> Catalog<R> {
    /// Opens a kept catalog.
    ///
    /// # Errors
    ///
    /// It is damaged, or cannot be read.
    pub fn open(mut file: R) -> Result<Self, PackError> {
        let end = file.seek(SeekFrom::End(0))?;
        let start = end.checked_sub(FOOTER).ok_or(PackError::Damaged)?;
        file.seek(SeekFrom::Start(start))?;
        let mut footer = [0; FOOTER as usize];
        file.read_exact(&mut footer)?;
        let (numbers, magic) = footer.split_at(20);
        if magic != MAGIC {
            return Err(PackError::Damaged);
        }
        let mut number = [0; 8];
        number.copy_from_slice(&numbers[..8]);
        let small = |at: usize| {
            let mut number = [0; 4];
            number.copy_from_slice(&numbers[at..at + 4]);
            u32::from_le_bytes(number)
        };
        let block = Block(u64::from_le_bytes(number), small(8), small(12), small(16));
        let mut catalog = Catalog {
            file,
            directory: Directory::default(),
        };
        catalog.directory = catalog.json(&block)?;
        Ok(catalog)
    }

    /// Returns what it holds, by package.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Reads the index of a package; `None` where there is no such package.
    ///
    /// # Errors
    ///
    /// It is damaged, or cannot be read.
    pub fn package(&mut self, name: &str) -> Result<Option<Package>, PackError> {
        let Some(listed) = self.directory.packages.get(name) else {
            return Ok(None);
        };
        let block = listed.index;
        self.json(&block).map(Some)
    }

    /// Reads a document.
    ///
    /// # Errors
    ///
    /// It is damaged, or cannot be read.
    pub fn document(&mut self, block: &Block) -> Result<Vec<u8>, PackError> {
        self.part(block, MAX_DOCUMENT)
    }

    fn json<T: DeserializeOwned>(&mut self, block: &Block) -> Result<T, PackError> {
        // JSON of an index is larger than the index, by its keys.
        let text = self.part(block, 4 * MAX_INDEX)?;
        serde_json::from_slice(&text).map_err(|_| PackError::Damaged)
    }

    fn part(&mut self, block: &Block, limit: usize) -> Result<Vec<u8>, PackError> {
        let Block(at, stored, length, expected) = *block;
        let (stored, length) = (stored as usize, length as usize);
        if length > limit || stored > limit + limit / 8 + 64 {
            return Err(PackError::Damaged);
        }
        self.file.seek(SeekFrom::Start(at))?;
        let mut bytes = vec![0; stored];
        self.file.read_exact(&mut bytes)?;
        if sum(&bytes) != expected {
            return Err(PackError::Damaged);
        }
        match lz4_flex::block::decompress(&bytes, length) {
            Ok(part) if part.len() == length => Ok(part),
            _ => Err(PackError::Damaged),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn packed() -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for (file, text) in [
            (
                0,
                r#"{"schema":"olm.bundle","package":"p","name":"p.v2","properties":[{"type":"olm.gvk","value":{"group":"g","version":"v1","kind":"K"}}]}"#,
            ),
            (0, r#"{"schema":"olm.bundle","package":"p","name":"p.v1"}"#),
            (
                1,
                r#"{"schema":"olm.bundle","package":"p","name":"hidden"}"#,
            ),
            (0, r#"{"schema":"io.x","note":"loose"}"#),
            (
                0,
                r#"{"schema":"olm.package","name":"p","defaultChannel":"s"}"#,
            ),
            (0, r#"{"schema":"io.x","package":"p"}"#),
            (
                0,
                r#"{"schema":"olm.channel","package":"p","name":"s","entries":[{"name":"p.v2"}]}"#,
            ),
        ] {
            writer.add(file, text.as_bytes()).unwrap();
        }
        writer.finish(|file| file == 0).unwrap()
    }

    #[test]
    fn a_kept_catalog_is_read_by_part() {
        let mut catalog = Catalog::open(Cursor::new(packed())).unwrap();
        let directory = catalog.directory().clone();
        assert_eq!(directory.packages.keys().collect::<Vec<_>>(), ["p"]);
        assert_eq!(directory.packages["p"].provides.len(), 1);
        assert_eq!(
            catalog.document(&directory.loose[0].document).unwrap(),
            br#"{"schema":"io.x","note":"loose"}"#
        );
        let package = catalog.package("p").unwrap().unwrap();
        let names: Vec<_> = package.bundles.iter().map(|b| &*b.name).collect();
        assert_eq!(names, ["p.v1", "p.v2"]);
        assert_eq!(package.default_channel(), "s");
        assert_eq!(package.channels[0].entries[0].name, "p.v2");
        assert_eq!(package.others[0].schema, "io.x");
        assert_eq!(
            catalog
                .document(&package.bundle("p.v1").unwrap().document)
                .unwrap(),
            br#"{"schema":"olm.bundle","package":"p","name":"p.v1"}"#
        );
        assert_eq!(catalog.package("q").unwrap(), None);
    }

    #[test]
    fn a_file_that_is_not_whole_is_told_wherever_it_was_cut_or_changed() {
        let whole = packed();
        for length in 0..whole.len() {
            assert!(
                Catalog::open(Cursor::new(&whole[..length])).is_err(),
                "{length}"
            );
        }
        for at in 16..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 1;
            let read = |bytes: &[u8]| -> Result<(), PackError> {
                let mut catalog = Catalog::open(Cursor::new(bytes))?;
                let loose = catalog.directory().loose[0].document;
                catalog.document(&loose)?;
                let package = catalog.package("p")?.unwrap();
                for bundle in &package.bundles {
                    catalog.document(&bundle.document)?;
                }
                catalog.document(&package.channels[0].document)?;
                catalog.document(&package.definitions[0].document)?;
                catalog.document(&package.others[0].document)?;
                Ok(())
            };
            // What was hidden is in the file and read by nobody.
            let hidden = whole.windows(6).position(|w| w == b"hidden").unwrap();
            if !(hidden - 60..hidden + 10).contains(&at) {
                assert!(read(&other).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn more_than_any_catalog_has_is_refused() {
        let mut writer = Writer::new(io::sink()).unwrap();
        let entries = r#"{"name":"x"},"#.repeat(1 << 19);
        let channel = format!(
            r#"{{"schema":"olm.channel","package":"p","name":"s","entries":[{}]}}"#,
            entries.trim_end_matches(',')
        );
        writer.add(0, channel.as_bytes()).unwrap();
        let refused = writer.add(0, channel.as_bytes()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the names and updates in it are more than any catalog has"
        );
    }
}
