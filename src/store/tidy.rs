//! Letting go of what was read upstream and that nothing needs any longer: plans that nobody applied leave it, and image sets that
//! moved on. Whoever needs it all the same reads it again.

use std::{collections::HashSet, time::Duration};

use jiff::Timestamp;
use redb::{ReadableDatabase, ReadableTable};

use super::{Error, FACTS, META, PLANS, Store, access};
use crate::model::{image::Digest, record::PlanRecord};

/// How long a blob that was read for planning is kept for a run that needs it, and how often facts are looked through: that means
/// reading all of them.
pub(super) const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// When facts were looked through last, in seconds.
const TIDIED: &str = "tidied";

impl Store {
    /// Lets go of blobs that were kept for a week, and once a week of the manifests and payloads that neither a plan nor `needed`
    /// names, nor an index that one of these does. Returns how many of the latter went.
    pub fn tidy(
        &self,
        now: Timestamp,
        needed: impl FnOnce() -> HashSet<Digest>,
    ) -> Result<usize, Error> {
        self.kept().sweep(WEEK);
        let last = self.tidied()?;
        if last.is_some_and(|last| now.as_second() - last < WEEK.as_secs() as i64) {
            return Ok(0);
        }
        let keep = match last {
            // What a new state has read is young.
            None => None,
            Some(_) => Some(self.with_children(self.with_planned(needed())?)?),
        };
        let mut gone = 0;
        let write = self.db.begin_write().map_err(access)?;
        {
            let mut meta = write.open_table(META).map_err(access)?;
            let second = now.as_second().to_string();
            meta.insert(TIDIED, second.as_str()).map_err(access)?;
            let mut facts = write.open_table(FACTS).map_err(access)?;
            if let Some(keep) = keep {
                let stays = |key: &str, _: &[u8]| {
                    let stays = digest_of(key).is_none_or(|digest| keep.contains(&digest));
                    gone += usize::from(!stays);
                    stays
                };
                facts.retain(stays).map_err(access)?;
            }
        }
        write.commit().map_err(access)?;
        Ok(gone)
    }

    fn tidied(&self) -> Result<Option<i64>, Error> {
        let read = self.db.begin_read().map_err(access)?;
        let meta = read.open_table(META).map_err(access)?;
        let found = meta.get(TIDIED).map_err(access)?;
        Ok(found.and_then(|second| second.value().parse().ok()))
    }

    /// Adds what the steps of plans name; one plan is read at a time.
    fn with_planned(&self, mut needed: HashSet<Digest>) -> Result<HashSet<Digest>, Error> {
        let read = self.db.begin_read().map_err(access)?;
        let plans = read.open_table(PLANS).map_err(access)?;
        for entry in plans.iter().map_err(access)? {
            let (_, value) = entry.map_err(access)?;
            // One that cannot be read cannot be applied either.
            if let Ok(record) = serde_json::from_slice::<PlanRecord>(value.value()) {
                for step in record.plan.steps {
                    needed.insert(step.image.digest);
                    needed.extend(step.attached.into_iter().map(|accessory| accessory.digest));
                }
            }
        }
        Ok(needed)
    }

    /// Adds the children of indexes, and theirs.
    fn with_children(&self, needed: HashSet<Digest>) -> Result<HashSet<Digest>, Error> {
        let mut left: Vec<Digest> = needed.iter().cloned().collect();
        let mut whole = needed;
        while let Some(digest) = left.pop() {
            let Some(manifest) = self.manifest(&digest)? else {
                continue;
            };
            for child in manifest.children(&[]) {
                if whole.insert(child.digest.clone()) {
                    left.push(child.digest.clone());
                }
            }
        }
        Ok(whole)
    }
}

/// The digest of a manifest or payload by its key; none of other facts, which stay.
fn digest_of(key: &str) -> Option<Digest> {
    let (kind, digest) = key.split_once(' ')?;
    matches!(kind, "manifest" | "payload")
        .then(|| digest.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::model::manifest::{Manifest, OCI_INDEX, OCI_MANIFEST};

    fn manifest(text: String) -> Arc<Manifest> {
        Arc::new(Manifest::parse(Bytes::from(text), None).unwrap())
    }

    fn image(name: &str) -> Arc<Manifest> {
        let config = Digest::of(name.as_bytes());
        manifest(format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"x","digest":"{config}","size":1}},"layers":[]}}"#
        ))
    }

    fn index(child: &Manifest) -> Arc<Manifest> {
        manifest(format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":1}}]}}"#,
            child.digest
        ))
    }

    fn day(number: i64) -> Timestamp {
        Timestamp::from_second(1_795_489_248 + number * 24 * 3600).unwrap()
    }

    #[test]
    fn once_a_week_facts_go_that_nothing_needs() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let (child, lone) = (image("child"), image("lone"));
        let parent = index(&child);
        let all = [child.clone(), lone.clone(), parent.clone()];
        store.keep_facts(&all, &[]).unwrap();
        store.put(FACTS, "other thing", b"x").unwrap();
        let needed = || HashSet::from([parent.digest.clone()]);
        let there = || {
            all.each_ref()
                .map(|m| store.manifest(&m.digest).unwrap().is_some())
        };

        assert_eq!(store.tidy(day(0), needed).unwrap(), 0, "all is young");
        assert_eq!(
            store.tidy(day(6), || panic!("nobody asks")).unwrap(),
            0,
            "not yet"
        );
        assert_eq!(there(), [true; 3]);
        assert_eq!(store.tidy(day(7), needed).unwrap(), 1);
        assert_eq!(there(), [true, false, true]);
        assert_eq!(store.fact("other thing").unwrap(), Some(b"x".to_vec()));
    }
}
