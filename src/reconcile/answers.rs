//! What callers are answered: values, converted to the wire by who asked.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use super::ImageFinished;
use crate::{
    cluster::{Object, document::Document, objects::File, pull::Resolution},
    model::{
        image::Reference,
        imageset::{FoundSet, Problem, SetName, Severity},
        record::{
            ClusterImpact, DocumentChange, Freshness, NodeImpact, PlanRecord, Progress, RunRecord,
            RunState,
        },
    },
};

/// A file that was sent along.
#[derive(Debug, Clone)]
pub struct InlineFile {
    /// Its path relative to the directory, which gives the image set its name.
    pub name: String,
    /// What it holds.
    pub content: Vec<u8>,
}

impl From<InlineFile> for File {
    fn from(file: InlineFile) -> Self {
        File {
            name: file.name,
            bytes: file.content,
        }
    }
}

/// A plan and what applying it now would mean.
#[derive(Debug, Clone)]
pub struct PlanView {
    /// The plan as it was made.
    pub record: Arc<PlanRecord>,
    /// What it is good for now.
    pub freshness: Freshness,
}

/// An image set that has no plan.
#[derive(Debug, Clone)]
pub struct Unplanned {
    /// The image set.
    pub set: SetName,
    /// One word, see [`Error::reason`](super::Error::reason).
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// The answer to a request for plans.
#[derive(Debug, Clone, Default)]
pub struct Planned {
    /// The plans, by image set.
    pub plans: Vec<PlanView>,
    /// Image sets that have none, and why.
    pub unplanned: Vec<Unplanned>,
    /// What is wrong with the files.
    pub problems: Vec<Problem>,
}

/// The answer to a request for validation.
#[derive(Debug, Clone)]
pub struct Validated {
    /// The image sets found.
    pub image_sets: Vec<FoundSet>,
    /// What is wrong with the files.
    pub problems: Vec<Problem>,
}

impl Validated {
    /// Whether no problem is an error.
    pub fn is_valid(&self) -> bool {
        !self.problems.iter().any(|p| p.severity == Severity::Error)
    }
}

/// The answer to a request to apply.
pub enum Applied {
    /// A run is under way, started now or before.
    Run(Feed),
    /// It was applied before by this run, or there is nothing to copy and nothing to write.
    Already(Box<RunRecord>),
}

/// A cluster document in the output folder.
#[derive(Debug, Clone)]
pub struct ResourceView {
    /// The document; its rules, where it holds some, are no part of it.
    pub object: Object,
    /// The sources of rules that nothing wanted needs any more.
    pub retirable: Vec<String>,
}

/// What nodes do with an image reference.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The reference, written out.
    pub reference: Reference,
    /// What is tried, in order.
    pub resolution: Resolution,
    /// Whether the content is there, by attempt; nothing where that is not known.
    pub present: Vec<Option<bool>>,
}

/// What retiring rules changed, or would.
#[derive(Debug, Clone)]
pub struct Retired {
    /// The documents before and after.
    pub documents: Vec<DocumentChange>,
    /// What that does to nodes.
    pub impact: NodeImpact,
    /// The documents as they were.
    pub before: Vec<Document>,
}

/// What writing documents that waited changed, or would.
#[derive(Debug, Clone)]
pub struct Released {
    /// The documents before and after.
    pub documents: Vec<DocumentChange>,
    /// What that does to nodes, by our documents alone.
    pub impact: NodeImpact,
    /// What it does to each cluster that takes them.
    pub clusters: Vec<ClusterImpact>,
}

/// The way of a cluster to a release that has landed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseUpdate {
    /// The image set.
    pub set: SetName,
    /// The version; the payload as it is written, where that was named by hand.
    pub version: String,
    /// The architecture.
    pub architecture: String,
    /// The payload in the mirror, by digest.
    pub image: String,
    /// The files of the documents with its signatures.
    pub signatures: Vec<String>,
}

/// What the picture of a cluster shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pictured {
    /// How many mirror objects it has.
    pub mirror_objects: usize,
    /// How many machine config pools.
    pub pools: usize,
    /// Whether its image configuration is there.
    pub image_config: bool,
    /// Whether what it does when nodes' files change is there.
    pub machine_configuration: bool,
    /// How many objects there were that do not count.
    pub passed_by: usize,
}

/// What happens in a run.
#[derive(Debug, Clone)]
pub enum RunEvent {
    /// The run as it stands; first, unless it is over.
    Run(RunRecord),
    /// How far it is.
    Progress(Progress),
    /// An image ended.
    Image(ImageFinished),
    /// The run is over; always last.
    Finished(RunRecord),
}

/// Follows one run. Dropping it stops nothing.
pub struct Feed {
    record: watch::Receiver<RunRecord>,
    images: Option<broadcast::Receiver<ImageFinished>>,
    begun: bool,
    ended: bool,
}

impl Feed {
    /// Follows a run by its record and its images; of one that is over there are no images.
    pub(super) fn new(
        record: watch::Receiver<RunRecord>,
        images: Option<broadcast::Receiver<ImageFinished>>,
    ) -> Self {
        Feed {
            record,
            begun: images.is_none(),
            images,
            ended: false,
        }
    }

    /// Returns the run's id.
    pub fn id(&self) -> String {
        self.record.borrow().id.clone()
    }

    /// Returns what happens next; `None` once the run's end was told.
    pub async fn next(&mut self) -> Option<RunEvent> {
        if !std::mem::replace(&mut self.begun, true) {
            return Some(RunEvent::Run(self.record.borrow_and_update().clone()));
        }
        loop {
            if self.ended {
                return None;
            }
            let Some(images) = &mut self.images else {
                self.ended = true;
                // That no more images come is known a moment before how the run ended; where its task died, nothing more is.
                let over = self.record.wait_for(|run| run.state != RunState::Running);
                let last = over.await.map(|run| run.clone());
                let last = last.unwrap_or_else(|_| self.record.borrow().clone());
                return Some(RunEvent::Finished(last));
            };
            tokio::select! {
                biased;
                image = images.recv() => match image {
                    Ok(image) => return Some(RunEvent::Image(image)),
                    // Too slow to hear of every image: the counts in the progress are right all the same.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => self.images = None,
                },
                changed = self.record.changed() => {
                    let record = self.record.borrow_and_update().clone();
                    if changed.is_err() || record.state != RunState::Running {
                        self.images = None;
                        continue;
                    }
                    return Some(RunEvent::Progress(record.progress));
                }
            }
        }
    }
}
