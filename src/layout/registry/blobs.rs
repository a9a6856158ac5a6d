//! Blobs: served in pieces, whole or from an offset.

use std::io::SeekFrom;

use axum::{body::Body, extract::Request, response::Response};
use http::{HeaderMap, Method, StatusCode, header};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use super::{Registry, refusal::Refusal, with_header};
use crate::model::image::Digest;

/// How many bytes are read from the disk at a time.
const PIECE: usize = 256 << 10;

/// Answers GET and HEAD, with one range where one is asked for.
pub(super) async fn get(
    registry: &Registry,
    digest: Digest,
    request: Request,
) -> Result<Response, Refusal> {
    let path = registry.layout.blob_path(&digest);
    let mut file = match tokio::fs::File::open(&path).await {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Refusal::blob_unknown(&digest));
        }
        Err(e) => return Err(Refusal::internal(e)),
    };
    let size = file.metadata().await.map_err(Refusal::internal)?.len();
    let part = Part::asked(request.headers(), size)?;
    let body = if request.method() == Method::HEAD {
        Body::empty()
    } else {
        let sought = file.seek(SeekFrom::Start(part.start)).await;
        sought.map_err(Refusal::internal)?;
        Body::from_stream(ReaderStream::with_capacity(file.take(part.length), PIECE))
    };
    Ok(described(Response::new(body), &digest, &part, size))
}

fn described(mut response: Response, digest: &Digest, part: &Part, size: u64) -> Response {
    let mut headers = vec![
        ("content-type", "application/octet-stream".to_owned()),
        ("content-length", part.length.to_string()),
        ("accept-ranges", "bytes".to_owned()),
        ("docker-content-digest", digest.to_string()),
        ("etag", format!("\"{digest}\"")),
    ];
    if part.partial {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let end = part.start + part.length - 1;
        headers.push((
            "content-range",
            format!("bytes {}-{end}/{size}", part.start),
        ));
    }
    headers
        .into_iter()
        .fold(response, |response, (name, value)| {
            with_header(response, name, value)
        })
}

/// Which bytes of a blob are sent.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    start: u64,
    length: u64,
    partial: bool,
}

impl Part {
    /// Reads `Range` (RFC 9110, 14.2). Several ranges, or what is not understood, mean the whole.
    fn asked(headers: &HeaderMap, size: u64) -> Result<Self, Refusal> {
        let whole = Part {
            start: 0,
            length: size,
            partial: false,
        };
        let range = headers
            .get(header::RANGE)
            .and_then(|v| v.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
        let Some((from, to)) = range else {
            return Ok(whole);
        };
        let (start, end) = match (from.trim().parse::<u64>(), to.trim().parse::<u64>()) {
            (Ok(from), Ok(to)) if from <= to => (from, to.min(size.saturating_sub(1))),
            (Ok(from), Err(_)) if to.trim().is_empty() => (from, size.saturating_sub(1)),
            (Err(_), Ok(last)) if from.trim().is_empty() => (
                if last == 0 {
                    size
                } else {
                    size.saturating_sub(last)
                },
                size.saturating_sub(1),
            ),
            _ => return Ok(whole),
        };
        if start >= size {
            let message = format!("the blob has {size} bytes, none from {start} on");
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            return Err(Refusal::new(status, "SIZE_INVALID", message));
        }
        Ok(Part {
            start,
            length: end - start + 1,
            partial: true,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(range: &str, size: u64) -> Option<(u64, u64, bool)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, range.parse().unwrap());
        let part = Part::asked(&headers, size).ok()?;
        Some((part.start, part.length, part.partial))
    }

    #[test]
    fn ranges_are_cut_to_the_blob() {
        assert_eq!(asked("bytes=0-0", 10), Some((0, 1, true)));
        assert_eq!(asked("bytes=4-", 10), Some((4, 6, true)));
        assert_eq!(asked("bytes=4-99", 10), Some((4, 6, true)));
        assert_eq!(asked("bytes=-3", 10), Some((7, 3, true)));
        assert_eq!(asked("bytes=-30", 10), Some((0, 10, true)));
        assert_eq!(asked("bytes=10-", 10), None);
        assert_eq!(asked("bytes=-0", 10), None);
        assert_eq!(asked("bytes=0-", 0), None);
    }

    #[test]
    fn ranges_that_are_not_understood_mean_the_whole() {
        for range in [
            "bytes=5-4",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=-",
            "bytes=x-y",
        ] {
            assert_eq!(asked(range, 10), Some((0, 10, false)), "{range}");
        }
    }
}
