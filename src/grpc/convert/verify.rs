//! Checks of the mirror.

use tonic::Status;

use crate::{
    grpc::{
        convert::{run, time, unfit},
        v1,
    },
    model::drift::{Depth, Loss, Thing},
    reconcile::{Finding, Repair, Verification, VerifyEvent, VerifyOrder, VerifyProgress},
};

/// Reads what is to be checked.
pub fn verify_order(request: v1::VerifyMirrorRequest) -> Result<VerifyOrder, Status> {
    let depth = match v1::VerifyDepth::try_from(request.depth) {
        Ok(v1::VerifyDepth::Unspecified | v1::VerifyDepth::Quick) => Depth::Quick,
        Ok(v1::VerifyDepth::Deep) => Depth::Deep,
        Ok(v1::VerifyDepth::Read) => Depth::Read,
        Err(_) => return Err(unfit("depth", "this daemon knows no such depth")),
    };
    Ok(VerifyOrder {
        sets: request.image_sets,
        depth,
        repair: request.repair,
    })
}

/// Returns what happened in a check.
pub fn verify_event(event: &VerifyEvent) -> v1::VerifyMirrorResponse {
    use v1::verify_mirror_response::Event;
    let event = match event {
        VerifyEvent::Progress(progress) => Event::Progress(self::progress(progress)),
        VerifyEvent::Found(found) => Event::Loss(loss(found)),
        VerifyEvent::Repair(repair) => Event::Repair(self::repair(repair)),
        VerifyEvent::Finished(verification) => Event::Finished(self::verification(verification)),
    };
    v1::VerifyMirrorResponse { event: Some(event) }
}

fn progress(progress: &VerifyProgress) -> v1::VerifyProgress {
    v1::VerifyProgress {
        checked: progress.checked,
        total: progress.total,
        lost: progress.lost,
        unknown: progress.unknown,
        bytes_read: progress.bytes_read,
    }
}

fn loss(found: &Finding) -> v1::Loss {
    let lost = &found.lost;
    let kind = match (&lost.loss, &lost.check.thing) {
        (Loss::Missing, Thing::Manifest(_)) => v1::LossKind::ManifestMissing,
        (Loss::Missing, Thing::Blob(_)) => v1::LossKind::BlobMissing,
        (Loss::Corrupt, Thing::Manifest(_)) => v1::LossKind::ManifestCorrupt,
        (Loss::Corrupt, Thing::Blob(_)) => v1::LossKind::BlobCorrupt,
        (Loss::Moved(..), _) => v1::LossKind::TagMoved,
    };
    v1::Loss {
        kind: kind.into(),
        reference: lost.reference().to_string(),
        digest: lost.check.digest.to_string(),
        message: lost.why(),
        images: found.images.clone(),
        image_sets: found.sets.iter().map(ToString::to_string).collect(),
    }
}

fn repair(repair: &Repair) -> v1::Repair {
    v1::Repair {
        image_set: repair.set.to_string(),
        run: repair.run.as_ref().map(run),
        message: repair.message.clone(),
    }
}

fn verification(verification: &Verification) -> v1::Verification {
    let depth = match verification.depth {
        Depth::Quick => v1::VerifyDepth::Quick,
        Depth::Deep => v1::VerifyDepth::Deep,
        Depth::Read => v1::VerifyDepth::Read,
    };
    let sets = verification.sets.iter();
    v1::Verification {
        depth: depth.into(),
        image_sets: sets.map(ToString::to_string).collect(),
        started_at: Some(time(verification.started)),
        finished_at: Some(time(verification.finished)),
        manifests: verification.manifests,
        blobs: verification.blobs,
        progress: Some(progress(&verification.progress)),
        losses: verification.found.iter().map(loss).collect(),
        unknown_reason: verification.unknown_reason.clone(),
        repairs: verification.repairs.iter().map(repair).collect(),
    }
}
