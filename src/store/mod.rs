//! What is durable: facts of what landed, kept facts, plans, runs, and what is known of each image set.
//!
//! One embedded database in the state folder, and beside it a folder of blobs that were read for planning. Losing it is safe:
//! the mirror is asked again. All calls block for the length of a disk access; writers commit before they return.

mod attached;

mod catalogs;

mod kept;

mod records;

mod tidy;

use std::{collections::HashSet, path::Path, sync::Arc};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

pub use attached::Looked;
pub use catalogs::Catalogs;
pub use kept::{Kept, KeptWriter};

use crate::model::{
    image::{Digest, Reference, Repository},
    manifest::Manifest,
    mirrored::{Landed, Mirrored, Position},
    release::payload::Payload,
};

/// The format of the database; another one is refused rather than guessed at.
const FORMAT: &str = "1";

const META: TableDefinition<&str, &str> = TableDefinition::new("meta");
const BLOBS: TableDefinition<&str, ()> = TableDefinition::new("landed_blobs");
const MANIFESTS: TableDefinition<&str, bool> = TableDefinition::new("landed_manifests");
const TAGS: TableDefinition<&str, &str> = TableDefinition::new("landed_tags");
const FACTS: TableDefinition<&str, &[u8]> = TableDefinition::new("facts");
const SETS: TableDefinition<&str, &[u8]> = TableDefinition::new("image_sets");
const PLANS: TableDefinition<&str, &[u8]> = TableDefinition::new("plans");
const RUNS: TableDefinition<&str, &[u8]> = TableDefinition::new("runs");
/// Of each plan, whose it is and when it was made: a plan of a hundred thousand images is not read to know that.
const PLAN_HEADS: TableDefinition<&str, &str> = TableDefinition::new("plan_heads");
/// Of each run, whose it is; its id says when it began.
const RUN_HEADS: TableDefinition<&str, &str> = TableDefinition::new("run_heads");

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder cannot be made or used.
    #[error(
        "opening the state folder {folder}: {source}; check that it exists and belongs to the user imagesetd runs as"
    )]
    Folder {
        /// The state folder.
        folder: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has the database.
    #[error(
        "the state in {folder} is in use by another imagesetd; stop that one, or give this one a state folder of its own"
    )]
    InUse {
        /// The state folder.
        folder: String,
    },
    /// The database is not readable.
    #[error(
        "the state {file} is not readable ({source}); move it away and start again: nothing in the mirror is lost, it is only asked again"
    )]
    Damaged {
        /// The database file.
        file: String,
        /// What the database said.
        source: Box<redb::Error>,
    },
    /// The database was written by another version.
    #[error(
        "the state {file} has format {found}, this version reads format {FORMAT}; use the version that wrote it, or move it away: the mirror is asked again then"
    )]
    Format {
        /// The database file.
        file: String,
        /// The format found.
        found: String,
    },
    /// A read or write failed.
    #[error("using the state: {0}; check that its disk is not full and is writable")]
    Access(#[source] Box<redb::Error>),
    /// A record is not what this version writes.
    #[error("the state holds a {what} that is not readable: {source}")]
    Record {
        /// What kind of record.
        what: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A kept blob could not be read or written.
    #[error(
        "keeping {what}: {source}; check that the disk of the state folder is not full and is writable"
    )]
    Kept {
        /// The blob.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

fn access(error: impl Into<redb::Error>) -> Error {
    Error::Access(Box::new(error.into()))
}

/// The state of one daemon. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    db: Arc<Database>,
    kept: Kept,
    lineage: Arc<str>,
}

impl Store {
    /// Opens the state in `folder`, which is made where it is missing.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let name = folder.display().to_string();
        std::fs::create_dir_all(folder).map_err(|source| Error::Folder {
            folder: name.clone(),
            source,
        })?;
        let file = folder.join("state.redb");
        let shown = file.display().to_string();
        let db = Database::create(&file).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => Error::InUse {
                folder: name.clone(),
            },
            redb::DatabaseError::Storage(redb::StorageError::Io(source))
                if source.kind() != std::io::ErrorKind::InvalidData =>
            {
                Error::Folder {
                    folder: name.clone(),
                    source,
                }
            }
            other => Error::Damaged {
                file: shown.clone(),
                source: Box::new(other.into()),
            },
        })?;
        let lineage = prepare(&db, &shown)?;
        let kept = Kept::open(&folder.join("kept"))?;
        kept.sweep(tidy::WEEK);
        Ok(Store {
            db: Arc::new(db),
            kept,
            lineage: lineage.into(),
        })
    }

    /// The blobs that were read for planning.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The position of a fold over this state.
    pub fn position(&self, mirrored: &Mirrored) -> Position {
        Position {
            lineage: self.lineage.to_string(),
            serial: mirrored.serial(),
        }
    }

    /// Folds every fact of what landed.
    pub fn mirrored(&self) -> Result<Mirrored, Error> {
        let mut mirrored = Mirrored::default();
        let read = self.db.begin_read().map_err(access)?;
        for entry in read
            .open_table(BLOBS)
            .map_err(access)?
            .iter()
            .map_err(access)?
        {
            let (key, _) = entry.map_err(access)?;
            if let Some((repository, digest)) = split_digest(key.value()) {
                mirrored.apply(&Landed::Blob(repository, digest));
            }
        }
        for entry in read
            .open_table(MANIFESTS)
            .map_err(access)?
            .iter()
            .map_err(access)?
        {
            let (key, complete) = entry.map_err(access)?;
            if let Some((repository, digest)) = split_digest(key.value()) {
                mirrored.apply(&Landed::Manifest {
                    repository,
                    digest,
                    complete: complete.value(),
                });
            }
        }
        for entry in read
            .open_table(TAGS)
            .map_err(access)?
            .iter()
            .map_err(access)?
        {
            let (key, digest) = entry.map_err(access)?;
            if let (
                Ok(Reference {
                    repository,
                    tag: Some(tag),
                    ..
                }),
                Ok(digest),
            ) = (key.value().parse(), digest.value().parse())
            {
                mirrored.apply(&Landed::Tag(repository, tag, digest));
            }
        }
        let meta = read.open_table(META).map_err(access)?;
        let serial = meta
            .get("serial")
            .map_err(access)?
            .and_then(|v| v.value().parse().ok());
        mirrored.resume(serial.unwrap_or_default());
        Ok(mirrored)
    }

    /// Makes facts durable, all or none, with the serial that the fold has after them.
    pub fn append(&self, landed: &[Landed], serial: u64) -> Result<(), Error> {
        let mut write = self.db.begin_write().map_err(access)?;
        write.set_quick_repair(true);
        {
            let mut blobs = write.open_table(BLOBS).map_err(access)?;
            let mut manifests = write.open_table(MANIFESTS).map_err(access)?;
            let mut tags = write.open_table(TAGS).map_err(access)?;
            // All at once: the table is walked through for it.
            let mut untagged: HashSet<String> = HashSet::new();
            for fact in landed {
                match fact {
                    Landed::Blob(repository, digest) => {
                        blobs
                            .insert(at(repository, digest).as_str(), ())
                            .map_err(access)?;
                    }
                    Landed::Manifest {
                        repository,
                        digest,
                        complete,
                    } => {
                        manifests
                            .insert(at(repository, digest).as_str(), *complete)
                            .map_err(access)?;
                    }
                    Landed::Tag(repository, tag, digest) => {
                        untag(&mut tags, &mut untagged)?;
                        let key = repository.tagged(tag.clone()).to_string();
                        tags.insert(key.as_str(), digest.to_string().as_str())
                            .map_err(access)?;
                    }
                    Landed::Gone(repository, digest) => {
                        let key = at(repository, digest);
                        blobs.remove(key.as_str()).map_err(access)?;
                        if manifests.remove(key.as_str()).map_err(access)?.is_some() {
                            untagged.insert(key);
                        }
                    }
                }
            }
            untag(&mut tags, &mut untagged)?;
            let mut meta = write.open_table(META).map_err(access)?;
            meta.insert("serial", serial.to_string().as_str())
                .map_err(access)?;
        }
        write.commit().map_err(access)
    }

    /// Returns a manifest that was read before.
    pub fn manifest(&self, digest: &Digest) -> Result<Option<Manifest>, Error> {
        let Some(bytes) = self.fact(&format!("manifest {digest}"))? else {
            return Ok(None);
        };
        let Some(end) = bytes.iter().position(|&b| b == b'\n') else {
            return Ok(None);
        };
        let media_type = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let manifest =
            Manifest::parse(Bytes::copy_from_slice(&bytes[end + 1..]), Some(&media_type)).ok();
        Ok(manifest.filter(|m| m.digest == *digest))
    }

    /// Returns what a release payload holds, where it was read before.
    pub fn payload(&self, digest: &Digest) -> Result<Option<Payload>, Error> {
        let bytes = self.fact(&format!("payload {digest}"))?;
        Ok(bytes.and_then(|b| serde_json::from_slice(&b).ok()))
    }

    /// Keeps manifests and payloads, by digest, for as long as anything needs them.
    pub fn keep_facts(
        &self,
        manifests: &[Arc<Manifest>],
        payloads: &[(Digest, Arc<Payload>)],
    ) -> Result<(), Error> {
        if manifests.is_empty() && payloads.is_empty() {
            return Ok(());
        }
        let write = self.db.begin_write().map_err(access)?;
        {
            let mut facts = write.open_table(FACTS).map_err(access)?;
            for manifest in manifests {
                let mut value = format!("{}\n", manifest.media_type).into_bytes();
                value.extend_from_slice(&manifest.raw);
                let key = format!("manifest {}", manifest.digest);
                facts
                    .insert(key.as_str(), value.as_slice())
                    .map_err(access)?;
            }
            for (digest, payload) in payloads {
                let value =
                    serde_json::to_vec(payload.as_ref()).map_err(|source| Error::Record {
                        what: "payload",
                        source,
                    })?;
                facts
                    .insert(format!("payload {digest}").as_str(), value.as_slice())
                    .map_err(access)?;
            }
        }
        write.commit().map_err(access)
    }

    /// Returns the signatures that vouched for a release payload when they were kept.
    pub fn signatures(&self, digest: &Digest) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let bytes = self.fact(&format!("signatures {digest}"))?;
        let decode = |text: String| hex::decode(text).ok();
        Ok(bytes.and_then(|b| {
            let texts: Vec<String> = serde_json::from_slice(&b).ok()?;
            texts.into_iter().map(decode).collect()
        }))
    }

    /// Keeps the signatures that vouch for a release payload, where others or none are kept.
    pub fn keep_signatures(&self, digest: &Digest, messages: &[Vec<u8>]) -> Result<(), Error> {
        if self.signatures(digest)?.as_deref() == Some(messages) {
            return Ok(());
        }
        let texts: Vec<String> = messages.iter().map(hex::encode).collect();
        let value = serde_json::to_vec(&texts).map_err(|source| Error::Record {
            what: "signature",
            source,
        })?;
        self.put(FACTS, &format!("signatures {digest}"), &value)
    }

    fn fact(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let read = self.db.begin_read().map_err(access)?;
        let facts = read.open_table(FACTS).map_err(access)?;
        Ok(facts.get(key).map_err(access)?.map(|v| v.value().to_vec()))
    }

    fn put(
        &self,
        table: TableDefinition<&str, &[u8]>,
        key: &str,
        value: &[u8],
    ) -> Result<(), Error> {
        let write = self.db.begin_write().map_err(access)?;
        write
            .open_table(table)
            .map_err(access)?
            .insert(key, value)
            .map_err(access)?;
        write.commit().map_err(access)
    }

    fn all<T: serde::de::DeserializeOwned>(
        &self,
        table: TableDefinition<&str, &[u8]>,
        what: &'static str,
    ) -> Result<Vec<T>, Error> {
        let read = self.db.begin_read().map_err(access)?;
        let table = read.open_table(table).map_err(access)?;
        let mut found = Vec::new();
        for entry in table.iter().map_err(access)? {
            let (_, value) = entry.map_err(access)?;
            found.push(
                serde_json::from_slice(value.value())
                    .map_err(|source| Error::Record { what, source })?,
            );
        }
        Ok(found)
    }

    fn remove(&self, table: TableDefinition<&str, &[u8]>, keys: &[String]) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        let write = self.db.begin_write().map_err(access)?;
        {
            let mut table = write.open_table(table).map_err(access)?;
            for key in keys {
                table.remove(key.as_str()).map_err(access)?;
            }
        }
        write.commit().map_err(access)
    }
}

/// Makes the tables of a new database, checks the format of an old one, and returns its lineage.
fn prepare(db: &Database, file: &str) -> Result<String, Error> {
    let write = db.begin_write().map_err(access)?;
    let lineage = {
        let mut meta = write.open_table(META).map_err(access)?;
        let found = meta
            .get("format")
            .map_err(access)?
            .map(|v| v.value().to_owned());
        match found {
            Some(found) if found != FORMAT => {
                return Err(Error::Format {
                    file: file.to_owned(),
                    found,
                });
            }
            Some(_) => {}
            None => {
                meta.insert("format", FORMAT).map_err(access)?;
                let drawn = format!("{:032x}", fastrand::u128(..));
                meta.insert("lineage", drawn.as_str()).map_err(access)?;
            }
        }
        let lineage = meta
            .get("lineage")
            .map_err(access)?
            .map(|v| v.value().to_owned());
        write.open_table(BLOBS).map_err(access)?;
        write.open_table(MANIFESTS).map_err(access)?;
        write.open_table(TAGS).map_err(access)?;
        for table in [FACTS, SETS, PLANS, RUNS] {
            write.open_table(table).map_err(access)?;
        }
        for table in [PLAN_HEADS, RUN_HEADS] {
            write.open_table(table).map_err(access)?;
        }
        lineage.unwrap_or_default()
    };
    write.commit().map_err(access)?;
    Ok(lineage)
}

/// Removes the tags that name manifests which are gone, and forgets these.
fn untag(tags: &mut redb::Table<'_, &str, &str>, gone: &mut HashSet<String>) -> Result<(), Error> {
    if gone.is_empty() {
        return Ok(());
    }
    let names_gone = |tag: &str, named: &str| {
        let repository = tag
            .rsplit_once(':')
            .map_or(tag, |(repository, _)| repository);
        gone.contains(&format!("{repository}@{named}"))
    };
    tags.retain(|tag, named| !names_gone(tag, named))
        .map_err(access)?;
    gone.clear();
    Ok(())
}

fn at(repository: &Repository, digest: &Digest) -> String {
    repository.at(digest.clone()).to_string()
}

fn split_digest(key: &str) -> Option<(Repository, Digest)> {
    let reference: Reference = key.parse().ok()?;
    Some((reference.repository, reference.digest?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(path: &str) -> Repository {
        format!("m.lan/{path}").parse().unwrap()
    }

    #[test]
    fn what_landed_is_there_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let (a, digest) = (repository("a"), Digest::of(b"x"));
        let facts = [
            Landed::Blob(a.clone(), digest.clone()),
            Landed::Manifest {
                repository: a.clone(),
                digest: digest.clone(),
                complete: true,
            },
            Landed::Tag(a.clone(), "v1".parse().unwrap(), digest.clone()),
        ];
        let position = {
            let store = Store::open(folder.path()).unwrap();
            let mut mirrored = store.mirrored().unwrap();
            facts.iter().for_each(|f| assert!(mirrored.apply(f)));
            store.append(&facts, mirrored.serial()).unwrap();
            store.position(&mirrored)
        };
        let store = Store::open(folder.path()).unwrap();
        let mut mirrored = store.mirrored().unwrap();
        assert_eq!(store.position(&mirrored), position);
        assert_eq!(mirrored.tag(&a, &"v1".parse().unwrap()), Some(&digest));
        assert!(mirrored.blob(&a, &digest));
        let gone = Landed::Gone(a.clone(), digest.clone());
        mirrored.apply(&gone);
        store.append(&[gone], mirrored.serial()).unwrap();
        assert_eq!(
            store.mirrored().unwrap().tag(&a, &"v1".parse().unwrap()),
            None
        );
    }

    #[test]
    fn runs_of_one_second_are_listed_as_they_began() {
        use crate::model::{
            imageset::SetName,
            plan::PlanId,
            record::{Progress, RunRecord, RunState, Trigger},
        };
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let run = |id: &str, millis: i64| RunRecord {
            id: id.to_owned(),
            set: SetName("app".to_owned()),
            plan: PlanId("0".repeat(64)),
            revision: "main@sha1:1d2c".to_owned(),
            state: RunState::Succeeded,
            trigger: Trigger::Commit,
            started: jiff::Timestamp::from_millisecond(millis).unwrap(),
            finished: None,
            progress: Progress::default(),
            failures: vec![],
            message: String::new(),
        };
        let (first, second) = (
            run("19700101T000001Z-ffffff", 1_100),
            run("19700101T000001Z-000000", 1_900),
        );
        store.put_run(&second, 2).unwrap();
        store.put_run(&first, 2).unwrap();
        assert_eq!(store.runs().unwrap(), [first, second.clone()]);
        store.put_run(&second, 1).unwrap();
        assert_eq!(store.runs().unwrap(), [second], "the older one goes first");
    }

    #[test]
    fn a_second_daemon_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Store::open(folder.path()).unwrap();
        let error = Store::open(folder.path()).err().unwrap();
        assert!(matches!(error, Error::InUse { .. }), "{error}");
    }

    #[test]
    fn a_file_that_is_no_database_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("state.redb"), vec![7; 100_000]).unwrap();
        let error = Store::open(folder.path()).err().unwrap().to_string();
        assert!(
            error.contains("state.redb") && error.contains("move it away"),
            "{error}"
        );
    }

    #[test]
    fn another_format_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        {
            let store = Store::open(folder.path()).unwrap();
            let write = store.db.begin_write().unwrap();
            write
                .open_table(META)
                .unwrap()
                .insert("format", "99")
                .unwrap();
            write.commit().unwrap();
        }
        assert!(
            matches!(Store::open(folder.path()), Err(Error::Format { found, .. }) if found == "99")
        );
    }

    #[test]
    fn manifests_are_kept_with_their_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let raw = Bytes::from_static(b"{\"schemaVersion\":2,\n\"manifests\":[]}");
        let manifest = Manifest::parse(raw, None).unwrap();
        store
            .keep_facts(&[Arc::new(manifest.clone())], &[])
            .unwrap();
        assert_eq!(store.manifest(&manifest.digest).unwrap(), Some(manifest));
        assert_eq!(store.manifest(&Digest::of(b"other")).unwrap(), None);
    }

    #[test]
    fn signatures_are_kept_with_their_bytes_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = Digest::of(b"x");
        assert_eq!(store.signatures(&digest).unwrap(), None);
        for messages in [vec![vec![0, 255], vec![]], vec![vec![7]]] {
            store.keep_signatures(&digest, &messages).unwrap();
            assert_eq!(store.signatures(&digest).unwrap(), Some(messages));
        }
    }
}
