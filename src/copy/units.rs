//! Which steps belong together: a release's payload comes after its components, and knows which of them did not land.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::model::{desired::Kind, plan::Step};

/// A step and its number in the plan.
pub(super) type Numbered = (usize, Arc<Step>);

/// What is left of each unit, and what of it failed.
pub(super) struct Units(Mutex<BTreeMap<String, Unit>>);

#[derive(Default)]
struct Unit {
    /// Steps that have not ended, but for payloads.
    left: usize,
    missing: Vec<usize>,
    /// What waits for them.
    payloads: Vec<Numbered>,
}

impl Units {
    /// Returns the units of `steps`, and what can be begun at once, the largest first, so that the last ones are short. A payload of
    /// which no component is left to bring is among it.
    pub(super) fn new(steps: Vec<Step>) -> (Self, Vec<Numbered>) {
        let mut units: BTreeMap<String, Unit> = BTreeMap::new();
        let mut ready = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let unit = units.entry(step.image.unit.clone()).or_default();
            let step = (number, Arc::new(step));
            if is_payload(&step.1) {
                unit.payloads.push(step);
            } else {
                unit.left += 1;
                ready.push(step);
            }
        }
        for unit in units.values_mut().filter(|unit| unit.left == 0) {
            ready.append(&mut unit.payloads);
        }
        ready.sort_by_key(|(number, step)| (Reverse(step.bytes), *number));
        (Units(Mutex::new(units)), ready)
    }

    /// Notes that a step did not land.
    pub(super) fn failed(&self, step: &Step, number: usize) {
        let mut units = self.lock();
        let unit = units.entry(step.image.unit.clone()).or_default();
        unit.missing.push(number);
    }

    /// Notes that a step has ended; returns the payloads for which it was the last one.
    pub(super) fn ended(&self, step: &Step) -> Vec<Numbered> {
        let mut units = self.lock();
        let Some(unit) = units
            .get_mut(&step.image.unit)
            .filter(|_| !is_payload(step))
        else {
            return Vec::new();
        };
        unit.left = unit.left.saturating_sub(1);
        match unit.left {
            0 => std::mem::take(&mut unit.payloads),
            _ => Vec::new(),
        }
    }

    /// Which steps of a step's unit did not land.
    pub(super) fn missing(&self, step: &Step) -> Vec<usize> {
        let units = self.lock();
        let unit = units.get(&step.image.unit);
        unit.map_or_else(Vec::new, |unit| unit.missing.clone())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Unit>> {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

fn is_payload(step: &Step) -> bool {
    step.image.kind == Kind::Release
}
