//! Plans, runs and image sets on disk, with a bound on how many are kept.

use redb::{ReadableDatabase, ReadableTable};

use crate::{
    model::{
        imageset::SetName,
        plan::PlanId,
        record::{PlanRecord, RunRecord, SetRecord},
    },
    store::{Error, PLANS, RUNS, SETS, Store, access},
};

impl Store {
    /// Keeps a plan; of the same image set no more than `keep` stay, the newest.
    pub fn put_plan(&self, record: &PlanRecord, keep: usize) -> Result<(), Error> {
        self.put(PLANS, &record.plan.id.0, &encode("plan", record)?)?;
        let mut plans: Vec<PlanRecord> = self.plans()?;
        plans.retain(|p| p.plan.set == record.plan.set);
        plans.sort_by_key(|p| p.created);
        let surplus = plans.len().saturating_sub(keep.max(1));
        let keys: Vec<String> = plans
            .into_iter()
            .take(surplus)
            .map(|p| p.plan.id.0)
            .collect();
        self.remove(PLANS, &keys)
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

    /// Keeps a run; of the same image set no more than `keep` stay, the newest.
    pub fn put_run(&self, record: &RunRecord, keep: usize) -> Result<(), Error> {
        self.put(RUNS, &record.id, &encode("run", record)?)?;
        let mut ids: Vec<String> = self
            .runs()?
            .into_iter()
            .filter(|r| r.set == record.set)
            .map(|r| r.id)
            .collect();
        ids.sort();
        let surplus = ids.len().saturating_sub(keep.max(1));
        self.remove(RUNS, &ids[..surplus])
    }

    /// Returns all runs, the oldest first.
    pub fn runs(&self) -> Result<Vec<RunRecord>, Error> {
        self.all(RUNS, "run")
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
        table: redb::TableDefinition<&str, &[u8]>,
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
