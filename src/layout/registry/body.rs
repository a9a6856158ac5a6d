//! Reading a request's body, with bounds on size and silence.

use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::StreamExt;
use http::{HeaderMap, header};
use tokio::time::timeout;

use super::refusal::Refusal;

/// How long a client may send nothing in the middle of a body. There is no bound on the whole: layers are large and lines slow.
const SILENCE: Duration = Duration::from_secs(300);

/// Returns the next bytes of a body; `None` at its end.
pub(super) async fn next(body: &mut BodyDataStream) -> Result<Option<Bytes>, Refusal> {
    match timeout(SILENCE, body.next()).await {
        Ok(None) => Ok(None),
        Ok(Some(Ok(bytes))) => Ok(Some(bytes)),
        Ok(Some(Err(error))) => Err(Refusal::broken_off(error)),
        Err(elapsed) => Err(Refusal::broken_off(elapsed)),
    }
}

/// Refuses a body that announces more than `max` bytes, before it is read.
pub(super) fn check_announced(headers: &HeaderMap, max: u64) -> Result<(), Refusal> {
    match header_number(headers) {
        Some(length) if length > max => Err(Refusal::too_large(max)),
        _ => Ok(()),
    }
}

/// Reads a whole body of at most `max` bytes.
pub(super) async fn whole(body: Body, max: usize) -> Result<Bytes, Refusal> {
    let mut body = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = next(&mut body).await? {
        if bytes.len() + piece.len() > max {
            return Err(Refusal::too_large(max as u64));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.into())
}

fn header_number(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
