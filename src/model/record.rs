//! What people see of plans, runs and image sets: values that are stored, shown and sent.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{
    desired::Wanted,
    drift::Drift,
    imageset::{Problem, SetName},
    plan::{Plan, PlanId, Unwanted},
};

/// A plan with what it does to documents and nodes, as it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    /// The plan.
    pub plan: Plan,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it was made of files that were sent along, not of the directory.
    pub inline: bool,
    /// What the image set's document said, see [`crate::model::plan::document_digest`].
    pub document: String,
    /// What each tag and channel meant.
    pub pins: BTreeMap<String, String>,
    /// The cluster documents before and after.
    pub documents: Vec<DocumentChange>,
    /// What the change of documents does to nodes.
    pub impact: NodeImpact,
    /// What it does to each cluster that takes the documents, by name.
    #[serde(default)]
    pub clusters: Vec<ClusterImpact>,
    /// The documents that would wait if its content landed now.
    #[serde(default)]
    pub held: Vec<HeldDocument>,
    /// Why it waits for a person, if it does.
    pub pending: Pending,
    /// The run that applied it, is applying it, or tried to.
    pub run: Option<String>,
    /// Whether a run of it ended with everything landed.
    pub applied: bool,
}

/// What applying a plan now would mean; looked at in the order applied, running, stale, fresh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Freshness {
    /// It was applied; applying it again changes nothing.
    Applied,
    /// A run of it is under way.
    Running,
    /// Planning again would give another plan, for this reason.
    Stale(String),
    /// It can be applied.
    Fresh,
}

/// Why a plan is not applied by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pending {
    /// It does not wait for anybody.
    #[default]
    No,
    /// The image set is applied by hand.
    Manual,
    /// It downloads more than `max_bytes`.
    MaxBytes,
    /// Upstream moved without a commit, and `on_refresh` is `plan`.
    OnRefresh,
    /// It was made of files that were sent along.
    Preview,
    /// A run that brought the same was ended by request.
    Cancelled,
}

/// What becomes of one cluster document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentChange {
    /// The object's name.
    pub name: String,
    /// Its file in the output folder.
    pub file_name: String,
    /// The object's kind.
    pub kind: String,
    /// The text now; empty where there is none.
    pub before: String,
    /// The text after; empty where it goes away.
    pub after: String,
}

/// What a change of documents does to nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeImpact {
    /// Nodes reload their registries configuration.
    pub reload: bool,
    /// Nodes are drained one after another.
    pub drain: bool,
    /// What nodes do cannot be told; the two above are true then, so that whoever looks at these alone is safe.
    #[serde(default)]
    pub unknown: bool,
    /// Why, sorted.
    pub reasons: Vec<ImpactReason>,
    /// What the answer rests on and what it leaves out; empty where it goes by our documents alone.
    #[serde(default)]
    pub note: String,
    /// Nodes are rebooted, since a cluster's NodeDisruptionPolicy says so.
    #[serde(default)]
    pub reboot: bool,
    /// The cluster refuses all or some of it.
    #[serde(default)]
    pub refused: bool,
}

/// What a change of documents does to one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterImpact {
    /// The cluster's name.
    pub cluster: String,
    /// What it does.
    pub impact: NodeImpact,
    /// When the picture of the cluster was taken, where there is one.
    pub pictured: Option<Timestamp>,
}

/// A document that is not written since it would disturb nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldDocument {
    /// The object's name.
    pub name: String,
    /// Its file in the output folder.
    pub file_name: String,
    /// The object's kind.
    pub kind: String,
    /// What writing it would do, one clause.
    pub why: String,
}

/// One cause of what nodes do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImpactReason {
    /// The rule's source.
    pub scope: String,
    /// The mirror, where one is the cause.
    pub mirror: String,
    /// Whether this one drains.
    pub drain: bool,
    /// One sentence.
    pub message: String,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Under way.
    Running,
    /// Everything landed.
    Succeeded,
    /// Some images failed, the others landed.
    Partial,
    /// Nothing landed, or the documents could not be written.
    Failed,
    /// A person ended it.
    Cancelled,
    /// The daemon stopped; the next run goes on from there.
    Interrupted,
}

/// What began a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A change of the directory.
    Commit,
    /// A change upstream.
    Refresh,
    /// A person or a script.
    Request,
    /// A second try after failures.
    Retry,
    /// Something that the mirror lost.
    Repair,
}

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Images that landed.
    pub images_done: u64,
    /// Images of the plan.
    pub images_total: u64,
    /// Images that failed.
    pub images_failed: u64,
    /// Images that were not begun since nobody wants them any more.
    pub images_skipped: u64,
    /// Bytes downloaded.
    pub bytes_done: u64,
    /// Bytes the plan expects to download.
    pub bytes_total: u64,
    /// How fast bytes came lately, in bytes per second; 0 once the run has ended.
    pub bytes_per_second: u64,
    /// Seconds to go at that rate, where that can be told.
    pub eta_seconds: Option<u64>,
    /// Blobs that were uploaded.
    pub blobs_copied: u64,
    /// Blobs that the mirror took from another repository of its own.
    pub blobs_mounted: u64,
    /// Blobs that were there already.
    pub blobs_skipped: u64,
}

/// An image that did not land.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFailure {
    /// The image's source.
    pub image: String,
    /// Where it should have landed.
    pub target: String,
    /// One sentence.
    pub cause: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What was not copied since this one is missing.
    pub dependents: Vec<String>,
}

/// One performance of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The run's name; a later run sorts behind an earlier one.
    pub id: String,
    /// The image set.
    pub set: SetName,
    /// The plan.
    pub plan: PlanId,
    /// The plan's revision.
    pub revision: String,
    /// How it stands.
    pub state: RunState,
    /// What began it.
    pub trigger: Trigger,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// How far it is, or got.
    pub progress: Progress,
    /// What did not land, in the plan's order.
    pub failures: Vec<RunFailure>,
    /// One sentence on how it ended.
    pub message: String,
}

/// What is remembered of an image set between rounds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SetRecord {
    /// The document that was applied last, see [`crate::model::plan::document_digest`].
    pub applied_document: Option<String>,
    /// The revision that was applied last.
    pub applied_revision: Option<String>,
    /// What the last applied plan wanted.
    pub wanted: Vec<Wanted>,
    /// The CatalogSource templates that go with it, by unit.
    #[serde(default)]
    pub templates: BTreeMap<String, String>,
    /// What earlier plans wanted, and the last applied one did not.
    #[serde(default)]
    pub unwanted: Vec<Unwanted>,
    /// What tags and channels meant to the last applied plan.
    pub pins: BTreeMap<String, String>,
    /// When tags and channels were read last.
    pub refreshed: Option<Timestamp>,
    /// The newest plan.
    pub plan: Option<PlanId>,
    /// The newest run.
    pub run: Option<String>,
    /// Its file as shown to people, when the directory had it last.
    #[serde(default)]
    pub file: String,
    /// What a run that was ended by request would have brought.
    #[serde(default)]
    pub cancelled: Option<Cancelled>,
    /// What the mirror was found to have lost of it.
    #[serde(default)]
    pub drift: Option<Drift>,
    /// When the mirror was last asked whether it holds everything of it.
    #[serde(default)]
    pub verified: Option<Timestamp>,
    /// When it is asked again by itself, where settings say so.
    #[serde(default)]
    pub verify_next: Option<Timestamp>,
}

/// What a person does not want to go on by itself: as long as file and upstreams say the same, its rest waits to be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancelled {
    /// What the image set's document said.
    pub document: String,
    /// What tags and channels meant.
    pub pins: BTreeMap<String, String>,
}

impl Cancelled {
    /// Whether `document` with `pins` is what was ended.
    pub fn covers(&self, document: &str, pins: &BTreeMap<String, String>) -> bool {
        self.document == document && self.pins == *pins
    }
}

/// One statement about the daemon or an image set, in Kubernetes' manner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `Ready`, `Reconciling`, `Stalled`, or a cause that is present only while it holds.
    pub kind: String,
    /// Whether it holds.
    pub holds: bool,
    /// One word in CamelCase.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Since when it has been so.
    pub since: Timestamp,
}

/// An image set as status shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct SetStatus {
    /// The image set.
    pub name: SetName,
    /// Its file, empty where it went away.
    pub file: String,
    /// Where its content lands.
    pub target: String,
    /// The revision seen last.
    pub observed_revision: String,
    /// The revision that the mirror and the documents stand for.
    pub applied_revision: String,
    /// Ready first, then the others by name.
    pub conditions: Vec<Condition>,
    /// The newest plan.
    pub plan: Option<PlanId>,
    /// Why it waits.
    pub pending: Pending,
    /// The newest run.
    pub run: Option<String>,
    /// The progress of the run under way.
    pub progress: Option<Progress>,
    /// How many images are wanted.
    pub images_wanted: u64,
    /// How many of them the mirror holds.
    pub images_mirrored: u64,
    /// When tags and channels were read last.
    pub last_refresh: Option<Timestamp>,
    /// When they will be read next.
    pub next_refresh: Option<Timestamp>,
    /// Whether releases are taken without a look at their signatures.
    pub signatures_ignored: bool,
    /// When the mirror was last asked whether it holds everything of it.
    pub last_verified: Option<Timestamp>,
    /// What is wrong with its file.
    pub problems: Vec<Problem>,
}

/// The daemon as status shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct DaemonStatus {
    /// The version of imagesetd.
    pub version: String,
    /// The watched directory.
    pub directory: String,
    /// Its revision.
    pub revision: String,
    /// The state's lineage.
    pub lineage: String,
    /// The state's serial.
    pub serial: u64,
    /// When the daemon was started.
    pub started: Timestamp,
    /// Ready first, then the others by name.
    pub conditions: Vec<Condition>,
}

/// Everything status shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The daemon.
    pub daemon: DaemonStatus,
    /// The image sets, by name.
    pub sets: Vec<SetStatus>,
}
