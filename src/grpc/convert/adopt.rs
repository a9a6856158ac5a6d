//! Taking over from another tool.

use tonic::Status;

use crate::{
    grpc::{
        convert::{files, forecast, given, plan::document_change, unfit},
        v1,
    },
    reconcile::{AdoptOrder, Adopted},
};

/// Reads what is to be taken over.
pub fn adopt_order(request: v1::AdoptResourcesRequest) -> Result<AdoptOrder, Status> {
    let place = given(&request.place).map(str::parse).transpose();
    Ok(AdoptOrder {
        set: given(&request.image_set).map(str::to_owned),
        place: place.map_err(|error| unfit("place", format!("{error}")))?,
        files: files(request.files)?,
        dry_run: request.dry_run,
    })
}

/// Returns what was taken over.
pub fn adopted(adopted: &Adopted) -> v1::AdoptResourcesResponse {
    v1::AdoptResourcesResponse {
        image_set: adopted.set.to_string(),
        rules: adopted.rules,
        documents: adopted.documents.iter().map(document_change).collect(),
        node_impact: Some(forecast(&adopted.forecast)),
        images_wanted: adopted.images_wanted,
        images_held: adopted.images_held,
        images_elsewhere: adopted.images_elsewhere,
        bytes: adopted.bytes,
        notes: adopted.notes.clone(),
    }
}
