//! What was found around images, and when it was looked for.

use std::collections::BTreeSet;

use jiff::Timestamp;
use redb::ReadableDatabase;
use serde::{Deserialize, Serialize};

use super::{Error, FACTS, Store, access};
use crate::model::{
    accessory::{Attached, Scope},
    image::{Digest, Repository},
};

/// A look that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The image, and what was looked for around it.
    pub image: (Digest, Scope),
    /// When.
    pub at: Timestamp,
    /// What came of it.
    pub attached: Attached,
}

#[derive(Serialize, Deserialize)]
struct Record {
    at: Timestamp,
    attached: Attached,
}

impl Store {
    /// Returns the last looks around images of a repository, as far as there were any.
    pub fn attached(
        &self,
        repository: &Repository,
        images: &BTreeSet<(Digest, Scope)>,
    ) -> Result<Vec<Looked>, Error> {
        let read = self.db.begin_read().map_err(access)?;
        let facts = read.open_table(FACTS).map_err(access)?;
        let mut looked = Vec::new();
        for image in images {
            let Some(value) = facts.get(key(repository, image).as_str()).map_err(access)? else {
                continue;
            };
            // One that is not readable is looked for again.
            if let Ok(record) = serde_json::from_slice::<Record>(value.value()) {
                looked.push(Looked {
                    image: image.clone(),
                    at: record.at,
                    attached: record.attached,
                });
            }
        }
        Ok(looked)
    }

    /// Keeps looks around images of repositories.
    pub fn keep_attached(&self, looks: &[(Repository, Looked)]) -> Result<(), Error> {
        if looks.is_empty() {
            return Ok(());
        }
        let write = self.db.begin_write().map_err(access)?;
        {
            let mut facts = write.open_table(FACTS).map_err(access)?;
            for (repository, looked) in looks {
                let record = Record {
                    at: looked.at,
                    attached: looked.attached.clone(),
                };
                let value = serde_json::to_vec(&record).map_err(|source| Error::Record {
                    what: "look for signatures",
                    source,
                })?;
                let key = key(repository, &looked.image);
                facts
                    .insert(key.as_str(), value.as_slice())
                    .map_err(access)?;
            }
        }
        write.commit().map_err(access)
    }
}

fn key(repository: &Repository, (digest, scope): &(Digest, Scope)) -> String {
    let scope = match scope {
        Scope::Signature => "signature",
        Scope::All => "all",
    };
    format!("attached {scope} {repository}@{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::accessory::{Accessory, Kind};

    #[test]
    fn looks_are_known_by_repository_image_and_scope() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = Digest::of(b"x");
        let looked = |scope, second| Looked {
            image: (digest.clone(), scope),
            at: Timestamp::from_second(second).unwrap(),
            attached: Attached {
                found: vec![Accessory {
                    subject: digest.clone(),
                    kind: Kind::Signature,
                    digest: Digest::of(b"s"),
                }],
                missed: vec![],
            },
        };
        let at: Repository = "q.io/a".parse().unwrap();
        let looks = [
            (at.clone(), looked(Scope::All, 1)),
            (at.clone(), looked(Scope::All, 2)),
        ];
        store.keep_attached(&looks).unwrap();
        let all = [Scope::All, Scope::Signature].map(|scope| (digest.clone(), scope));
        let all = BTreeSet::from(all);
        assert_eq!(store.attached(&at, &all).unwrap(), [looked(Scope::All, 2)]);
        let elsewhere = "q.io/b".parse().unwrap();
        assert_eq!(store.attached(&elsewhere, &all).unwrap(), []);
    }
}
