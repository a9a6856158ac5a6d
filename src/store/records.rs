//! Plans, runs and image sets on disk, with a bound on how many are kept.

use jiff::Timestamp;
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use crate::{
    model::{
        imageset::SetName,
        plan::PlanId,
        record::{PlanRecord, RunRecord, SetRecord},
    },
    store::{Error, PLAN_HEADS, PLANS, RUN_HEADS, RUNS, SETS, Store, access},
};

impl Store {
    /// Keeps a plan; of the same image set no more than `keep` stay: this one, and the newest others.
    pub fn put_plan(&self, record: &PlanRecord, keep: usize) -> Result<(), Error> {
        let head = format!("{:024} {}", stamp(record.created), record.plan.set);
        let value = encode("plan", record)?;
        self.put_bounded((PLANS, PLAN_HEADS), &record.plan.id.0, &value, &head, keep)
    }

    /// Keeps a record with its head. The heads of one image set's records differ in what comes before its name, if at all; the
    /// oldest go, by that and then by key, until `keep` are left.
    fn put_bounded(
        &self,
        (records, heads): (TableDefinition<&str, &[u8]>, TableDefinition<&str, &str>),
        key: &str,
        value: &[u8],
        head: &str,
        keep: usize,
    ) -> Result<(), Error> {
        let write = self.db.begin_write().map_err(access)?;
        {
            let mut records = write.open_table(records).map_err(access)?;
            let mut heads = write.open_table(heads).map_err(access)?;
            records.insert(key, value).map_err(access)?;
            heads.insert(key, head).map_err(access)?;
            let mut others = Vec::new();
            for entry in heads.iter().map_err(access)? {
                let (other, other_head) = entry.map_err(access)?;
                if other.value() != key && owner(other_head.value()) == owner(head) {
                    others.push((other_head.value().to_owned(), other.value().to_owned()));
                }
            }
            others.sort();
            let surplus = (others.len() + 1).saturating_sub(keep.max(1));
            for (_, old) in others.into_iter().take(surplus) {
                records.remove(old.as_str()).map_err(access)?;
                heads.remove(old.as_str()).map_err(access)?;
            }
        }
        write.commit().map_err(access)
    }

    /// Returns all plans, in no order that means anything.
    pub fn plans(&self) -> Result<Vec<PlanRecord>, Error> {
        self.all(PLANS, "plan")
    }

    /// Returns the ids of the plans that begin with `prefix`, at most `limit`.
    pub fn plan_ids(&self, prefix: &str, limit: usize) -> Result<Vec<PlanId>, Error> {
        let read = self.db.begin_read().map_err(access)?;
        let plans = read.open_table(PLANS).map_err(access)?;
        let mut found = Vec::new();
        for entry in plans.range(prefix..).map_err(access)? {
            let (key, _) = entry.map_err(access)?;
            if !key.value().starts_with(prefix) || found.len() == limit {
                break;
            }
            found.push(PlanId(key.value().to_owned()));
        }
        Ok(found)
    }

    /// Returns a plan.
    pub fn plan(&self, id: &PlanId) -> Result<Option<PlanRecord>, Error> {
        self.one(PLANS, &id.0, "plan")
    }

    /// Keeps a run; of the same image set no more than `keep` stay: this one, and the newest others.
    pub fn put_run(&self, record: &RunRecord, keep: usize) -> Result<(), Error> {
        let head = format!("{:030} {}", stamp(record.started), record.set);
        let value = encode("run", record)?;
        self.put_bounded((RUNS, RUN_HEADS), &record.id, &value, &head, keep)
    }

    /// Returns the ids of the runs that begin with `prefix`, the oldest first.
    pub fn run_ids(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let read = self.db.begin_read().map_err(access)?;
        let runs = read.open_table(RUNS).map_err(access)?;
        let mut found = Vec::new();
        for entry in runs.range(prefix..).map_err(access)? {
            let (key, _) = entry.map_err(access)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            found.push(key.value().to_owned());
        }
        Ok(found)
    }

    /// Returns all runs, the oldest first.
    pub fn runs(&self) -> Result<Vec<RunRecord>, Error> {
        let mut runs: Vec<RunRecord> = self.all(RUNS, "run")?;
        // Names tell the time to the second only.
        runs.sort_by(|a, b| (a.started, &a.id).cmp(&(b.started, &b.id)));
        Ok(runs)
    }

    /// Returns a run.
    pub fn run(&self, id: &str) -> Result<Option<RunRecord>, Error> {
        self.one(RUNS, id, "run")
    }

    /// Remembers an image set.
    pub fn put_set(&self, name: &SetName, record: &SetRecord) -> Result<(), Error> {
        self.put(SETS, &name.0, &encode("image set", record)?)
    }

    /// Forgets an image set.
    pub fn forget_set(&self, name: &SetName) -> Result<(), Error> {
        self.remove(SETS, std::slice::from_ref(&name.0))
    }

    /// Returns what is remembered of every image set.
    pub fn sets(&self) -> Result<Vec<(SetName, SetRecord)>, Error> {
        let read = self.db.begin_read().map_err(access)?;
        let table = read.open_table(SETS).map_err(access)?;
        let mut found = Vec::new();
        for entry in table.iter().map_err(access)? {
            let (key, value) = entry.map_err(access)?;
            let record = serde_json::from_slice(value.value()).map_err(|source| Error::Record {
                what: "image set",
                source,
            })?;
            found.push((SetName(key.value().to_owned()), record));
        }
        Ok(found)
    }

    fn one<T: serde::de::DeserializeOwned>(
        &self,
        table: TableDefinition<&str, &[u8]>,
        key: &str,
        what: &'static str,
    ) -> Result<Option<T>, Error> {
        let read = self.db.begin_read().map_err(access)?;
        let table = read.open_table(table).map_err(access)?;
        let Some(value) = table.get(key).map_err(access)? else {
            return Ok(None);
        };
        serde_json::from_slice(value.value())
            .map(Some)
            .map_err(|source| Error::Record { what, source })
    }
}

fn encode<T: serde::Serialize>(what: &'static str, record: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(record).map_err(|source| Error::Record { what, source })
}

/// The image set's name in a head.
fn owner(head: &str) -> &str {
    head.split_once(' ').map_or("", |(_, set)| set)
}

/// A time as a number that sorts as text once it is padded.
fn stamp(time: Timestamp) -> i128 {
    time.as_nanosecond().max(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{
        mirrored::Position,
        plan::Plan,
        record::{NodeImpact, Pending, Progress, RunState, Trigger},
    };

    fn plan(set: &str, id: &str, second: i64) -> PlanRecord {
        PlanRecord {
            plan: Plan {
                id: PlanId(id.into()),
                set: SetName(set.into()),
                revision: "r".into(),
                base: Position {
                    lineage: "l".into(),
                    serial: 0,
                },
                steps: vec![],
                wanted: 0,
                held: 0,
                unwanted: vec![],
                moved: vec![],
                heads: vec![],
                pulled: vec![],
                unresolved: vec![],
                unsupported: vec![],
                signatures_ignored: false,
                conditional: vec![],
                warnings: vec![],
            },
            created: Timestamp::from_second(second).unwrap(),
            inline: false,
            document: String::new(),
            pins: BTreeMap::new(),
            documents: vec![],
            impact: NodeImpact::default(),
            pending: Pending::No,
            run: None,
            applied: false,
        }
    }

    fn run(set: &str, id: &str) -> RunRecord {
        RunRecord {
            id: id.into(),
            set: SetName(set.into()),
            plan: PlanId("p".into()),
            revision: "r".into(),
            state: RunState::Succeeded,
            trigger: Trigger::Commit,
            started: Timestamp::UNIX_EPOCH,
            finished: None,
            progress: Progress::default(),
            failures: vec![],
            message: String::new(),
        }
    }

    fn plan_ids(store: &Store) -> Vec<String> {
        let ids = store.plan_ids("", 100).unwrap();
        ids.into_iter().map(|id| id.0).collect()
    }

    #[test]
    fn the_oldest_plans_of_an_image_set_make_way_and_never_the_one_just_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for (set, id, second) in [
            ("a b", "1", 30),
            ("a b", "2", 20),
            ("b", "3", 1),
            ("a b", "4", 100),
        ] {
            store.put_plan(&plan(set, id, second), 2).unwrap();
        }
        assert_eq!(plan_ids(&store), ["1", "3", "4"]);
        // One that comes back with the time it had is kept all the same.
        store.put_plan(&plan("a b", "5", 10), 2).unwrap();
        assert_eq!(plan_ids(&store), ["3", "4", "5"]);
        store.put_plan(&plan("a b", "5", 10), 2).unwrap();
        assert_eq!(plan_ids(&store), ["3", "4", "5"]);
        let kept = store.plan(&PlanId("5".into())).unwrap();
        assert_eq!(kept, Some(plan("a b", "5", 10)));
    }

    #[test]
    fn the_oldest_runs_of_an_image_set_make_way() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for (set, id) in [
            ("a", "1"),
            ("b", "2"),
            ("a", "30"),
            ("a", "31"),
            ("a", "31"),
        ] {
            store.put_run(&run(set, id), 2).unwrap();
        }
        assert_eq!(store.run_ids("").unwrap(), ["2", "30", "31"]);
        assert_eq!(store.run_ids("3").unwrap(), ["30", "31"]);
        assert_eq!(store.run_ids("4").unwrap(), Vec::<String>::new());
        let runs = [run("b", "2"), run("a", "30"), run("a", "31")];
        assert_eq!(store.runs().unwrap(), runs);
    }
}
