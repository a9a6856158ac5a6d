//! Requests to send and answers to read, as values.
//!
//! **Invariant:** touches no socket, no clock, no environment.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use url::Url;

use crate::{
    model::{
        image::{Digest, Registry, Repository, Tag},
        manifest::{ACCEPT, MAX_MANIFEST_BYTES, Manifest, OCI_INDEX},
    },
    registry::error::Task,
};

/// How a manifest of a repository is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Selector {
    /// By a tag, which may move.
    Tag(Tag),
    /// By its identity.
    Digest(Digest),
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Selector::Tag(tag) => fmt::Display::fmt(tag, f),
            Selector::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

/// The largest page of a tag list that is read.
pub(super) const MAX_PAGE_BYTES: usize = 32 << 20;

/// The largest error body, or answer without content, that is read.
pub(super) const MAX_ERROR_BYTES: usize = 64 << 10;

/// How many tags are asked for at once; what go-containerregistry asks for, and Distribution's limit.
const TAGS_A_PAGE: usize = 1000;

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// Below the registry's own address, without a leading slash.
    Path(String),
    /// Where the registry said.
    Url(Url),
}

/// Which of a host's connections and budgets a request uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Manifests: small answers, many at once.
    Metadata,
    /// What is asked about blobs beside their bytes.
    Blob,
    /// Bodies that come.
    Download,
    /// Bodies that go.
    Upload,
    /// Lists of tags and of repositories, which registries guard.
    List,
    /// Tokens, which token services guard.
    Token,
}

impl Lane {
    /// Every lane, in the order of its number.
    pub(super) const ALL: [Lane; 6] = [
        Lane::Metadata,
        Lane::Blob,
        Lane::Download,
        Lane::Upload,
        Lane::List,
        Lane::Token,
    ];
}

/// A request that can be sent any number of times.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) address: Address,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) scopes: Scopes,
    pub(super) lane: Lane,
    /// Whether it goes on with something that has its place already, and so waits for none: who waits for a place while it holds
    /// another may wait for ever.
    pub(super) again: bool,
    /// The longest answer that is read.
    pub(super) limit: usize,
    pub(super) task: Task,
}

/// What a token has to allow, as token services read it (`repository:a/b:pull,push`), sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Scopes(pub(super) BTreeSet<String>);

impl Scopes {
    /// To read from `repository`.
    pub(super) fn pull(repository: &Repository) -> Self {
        Scopes([format!("repository:{}:pull", repository.path())].into())
    }

    /// To list a registry's repositories.
    pub(super) fn catalog() -> Self {
        Scopes(["registry:catalog:*".to_owned()].into())
    }

    /// To read from and write to `repository`, and to read from `donor`.
    pub(super) fn push(repository: &Repository, donor: Option<&Repository>) -> Self {
        let mut scopes = BTreeSet::from([format!("repository:{}:pull,push", repository.path())]);
        if let Some(donor) = donor.filter(|d| *d != repository) {
            scopes.insert(format!("repository:{}:pull", donor.path()));
        }
        Scopes(scopes)
    }

    /// Adds what `asked` has beyond these, where actions of the same name are compared one by one.
    pub(super) fn widen(&mut self, asked: &Scopes) {
        let covers = |own: &str, other: &str| {
            let (own, other) = (own.rsplit_once(':'), other.rsplit_once(':'));
            own.zip(other).is_some_and(|(own, other)| {
                let mut wanted = other.1.split(',');
                own.0 == other.0 && wanted.all(|w| own.1.split(',').any(|o| o == w))
            })
        };
        let missing = asked
            .0
            .iter()
            .filter(|a| !self.0.iter().any(|o| covers(o, a)));
        let missing: Vec<_> = missing.cloned().collect();
        self.0.extend(missing);
    }
}

impl Request {
    pub(super) fn new(method: Method, path: String, scopes: Scopes, task: Task) -> Self {
        Request {
            method,
            address: Address::Path(path),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            scopes,
            lane: Lane::Metadata,
            again: false,
            limit: MAX_ERROR_BYTES,
            task,
        }
    }

    /// `HEAD` or `GET` of a manifest.
    pub(super) fn manifest(method: Method, repository: &Repository, name: &Selector) -> Self {
        let task = Task::ReadManifest(repository.clone(), name.clone());
        let path = format!("v2/{}/manifests/{name}", repository.path());
        let mut request = Request::new(method, path, Scopes::pull(repository), task);
        request.limit = MAX_MANIFEST_BYTES;
        for accept in ACCEPT {
            let accept = HeaderValue::from_static(accept);
            request.headers.append(header::ACCEPT, accept);
        }
        request
    }

    /// The first page of a repository's tags.
    pub(super) fn tags(repository: &Repository) -> Self {
        let path = format!("v2/{}/tags/list?n={TAGS_A_PAGE}", repository.path());
        let task = Task::ListTags(repository.clone());
        let mut request = Request::new(Method::GET, path, Scopes::pull(repository), task);
        request.limit = MAX_PAGE_BYTES;
        request.lane = Lane::List;
        request
    }

    /// The first page of a registry's repositories, asked for as who works with `near`.
    pub(super) fn repositories(near: &Repository) -> Self {
        let path = format!("v2/_catalog?n={TAGS_A_PAGE}");
        let task = Task::ListRepositories(near.clone());
        let mut request = Request::new(Method::GET, path, Scopes::catalog(), task);
        request.limit = MAX_PAGE_BYTES;
        request.lane = Lane::List;
        request
    }

    /// The first page of a manifest's referrers.
    pub(super) fn referrers(repository: &Repository, digest: &Digest) -> Self {
        let path = format!("v2/{}/referrers/{digest}", repository.path());
        let task = Task::ListReferrers(repository.clone(), digest.clone());
        let mut request = Request::new(Method::GET, path, Scopes::pull(repository), task);
        let accept = HeaderValue::from_static(OCI_INDEX);
        request.headers.insert(header::ACCEPT, accept);
        request.limit = MAX_MANIFEST_BYTES;
        request
    }

    /// Whether a blob is there.
    pub(super) fn has_blob(repository: &Repository, digest: &Digest) -> Self {
        let task = Task::FindBlob(repository.clone(), digest.clone());
        let path = blob_path(repository, digest);
        let mut request = Request::new(Method::HEAD, path, Scopes::pull(repository), task);
        request.lane = Lane::Blob;
        request
    }

    /// A blob's bytes; with `from` above 0, those from there on.
    pub(super) fn blob(repository: &Repository, digest: &Digest, from: u64) -> Self {
        let task = Task::ReadBlob(repository.clone(), digest.clone());
        let path = blob_path(repository, digest);
        let mut request = Request::new(Method::GET, path, Scopes::pull(repository), task);
        request.lane = Lane::Download;
        if from > 0 {
            request
                .headers
                .insert(header::RANGE, ascii(format!("bytes={from}-")));
        }
        request
    }

    /// The beginning of an upload, or the mount of a blob from `mount`'s repository.
    pub(super) fn begin_upload(
        repository: &Repository,
        mount: Option<(&Digest, &Repository)>,
    ) -> Self {
        let mut path = format!("v2/{}/blobs/uploads/", repository.path());
        let mut task = Task::BeginUpload(repository.clone());
        if let Some((digest, from)) = mount {
            path = format!("{path}?mount={digest}&from={}", from.path());
            task = Task::Mount(repository.clone(), digest.clone(), from.clone());
        }
        let scopes = Scopes::push(repository, mount.map(|(_, from)| from));
        let mut request = Request::new(Method::POST, path, scopes, task);
        request.lane = Lane::Blob;
        // Some registries answer 411 to a POST without it.
        let nothing = HeaderValue::from_static("0");
        request.headers.insert(header::CONTENT_LENGTH, nothing);
        request
    }

    /// The one `PUT` that carries a blob, or what is left of it `from` some byte on; its body is a stream and stands beside this
    /// value.
    pub(super) fn upload(
        repository: &Repository,
        location: &Url,
        digest: &Digest,
        size: u64,
        from: u64,
    ) -> Self {
        let task = Task::Upload(repository.clone(), digest.clone());
        let mut request = Request::new(
            Method::PUT,
            String::new(),
            Scopes::push(repository, None),
            task,
        );
        request.address = Address::Url(with_digest(location, digest));
        request.lane = Lane::Upload;
        let octets = HeaderValue::from_static("application/octet-stream");
        request.headers.insert(header::CONTENT_TYPE, octets);
        request.headers.insert(
            header::CONTENT_LENGTH,
            HeaderValue::from(size.saturating_sub(from)),
        );
        if from > 0 && from < size {
            let range = ascii(format!("{from}-{}", size - 1));
            request.headers.insert(header::CONTENT_RANGE, range);
        }
        request
    }

    /// The one `POST` that carries a whole blob, where a registry takes one; its body stands beside this value.
    pub(super) fn upload_at_once(repository: &Repository, digest: &Digest, size: u64) -> Self {
        let task = Task::Upload(repository.clone(), digest.clone());
        let path = format!("v2/{}/blobs/uploads/?digest={digest}", repository.path());
        let scopes = Scopes::push(repository, None);
        let mut request = Request::new(Method::POST, path, scopes, task);
        request.lane = Lane::Upload;
        let octets = HeaderValue::from_static("application/octet-stream");
        request.headers.insert(header::CONTENT_TYPE, octets);
        let length = HeaderValue::from(size);
        request.headers.insert(header::CONTENT_LENGTH, length);
        request
    }

    /// How far an upload is.
    pub(super) fn upload_state(repository: &Repository, location: &Url) -> Self {
        let task = Task::ResumeUpload(repository.clone());
        let scopes = Scopes::push(repository, None);
        let mut request = Request::new(Method::GET, String::new(), scopes, task);
        request.address = Address::Url(location.clone());
        request.lane = Lane::Blob;
        request
    }

    /// Gives up an upload.
    pub(super) fn cancel_upload(repository: &Repository, location: &Url) -> Self {
        let task = Task::CancelUpload(repository.clone());
        let scopes = Scopes::push(repository, None);
        let mut request = Request::new(Method::DELETE, String::new(), scopes, task);
        request.address = Address::Url(location.clone());
        request.lane = Lane::Blob;
        request
    }

    /// `PUT` of a manifest's bytes as they are; `None` where its media type cannot stand in a header.
    pub(super) fn put_manifest(
        repository: &Repository,
        name: &Selector,
        manifest: &Manifest,
    ) -> Option<Self> {
        let task = Task::PushManifest {
            repository: repository.clone(),
            name: name.clone(),
            index: manifest.is_index(),
        };
        let path = format!("v2/{}/manifests/{name}", repository.path());
        let mut request = Request::new(Method::PUT, path, Scopes::push(repository, None), task);
        let media_type = HeaderValue::from_str(&manifest.media_type).ok()?;
        request.headers.insert(header::CONTENT_TYPE, media_type);
        request.body = manifest.raw.clone();
        Some(request)
    }
}

/// A header's value of digits and punctuation.
fn ascii(text: String) -> HeaderValue {
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

fn blob_path(repository: &Repository, digest: &Digest) -> String {
    format!("v2/{}/blobs/{digest}", repository.path())
}

/// A whole answer of success.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Where it came from, after redirects.
    pub(super) url: Url,
    pub(super) body: Bytes,
}

/// Returns the host that serves `registry`: Docker Hub's name is not its registry's.
pub(super) fn host(registry: &Registry) -> &str {
    match registry.as_str() {
        "docker.io" | "index.docker.io" => "registry-1.docker.io",
        other => other,
    }
}

/// Returns the digest a registry says the content has; none where it says none that can be read.
pub(super) fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    text(headers, &DOCKER_CONTENT_DIGEST)?.parse().ok()
}

/// Returns a header as text.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Returns the length a server says the body has.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, &header::CONTENT_LENGTH)?.parse().ok()
}

/// Returns from which byte on, and to which length, a part of a body is of the whole (RFC 9110, 14.4); `None` for what is no such
/// part, or where the length is not told.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let range = text(headers, &header::CONTENT_RANGE)?.trim();
    let (range, whole) = range.strip_prefix("bytes")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let whole = whole.trim().parse().ok()?;
    (first <= last && last < whole).then_some((first, whole))
}

/// Returns how many bytes of an upload a registry has: `Range: 0-N`, both ends included. `0-0` is what Distribution says of none
/// as well as of one, and is taken for none.
pub(super) fn received(headers: &HeaderMap) -> Option<u64> {
    let range = text(headers, &header::RANGE)?.trim();
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (first, last) = range.split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    match (first.trim(), last) {
        ("0", 0) => Some(0),
        ("0", last) => last.checked_add(1),
        _ => None,
    }
}

/// Returns how the server says it encoded the body, though it was asked not to.
pub(super) fn encoding(headers: &HeaderMap) -> Option<&str> {
    text(headers, &header::CONTENT_ENCODING)
        .filter(|e| !e.is_empty() && !e.eq_ignore_ascii_case("identity"))
}

/// Returns where an upload goes on: `Location`, relative or absolute, its query as it is.
///
/// A registry behind a TLS proxy that was not told so names itself with `http`; under its own host and port that can only mean
/// the `https` address it was reached by.
pub(super) fn location(asked: &Url, headers: &HeaderMap) -> Option<Url> {
    let text = text(headers, &header::LOCATION)?;
    let mut url = asked.join(text).ok()?;
    let same_authority = url.host_str() == asked.host_str() && url.port() == asked.port();
    if asked.scheme() == "https" && url.scheme() == "http" && same_authority {
        url.set_scheme("https").ok()?;
    }
    matches!(url.scheme(), "http" | "https").then_some(url)
}

/// Adds the digest that closes an upload to its location.
fn with_digest(location: &Url, digest: &Digest) -> Url {
    let mut url = location.clone();
    let query = match location.query() {
        Some(query) if !query.is_empty() => format!("{query}&digest={digest}"),
        _ => format!("digest={digest}"),
    };
    url.set_query(Some(&query));
    url
}

/// Whether a credential for `registry` may be sent to `url`: the same host and port, and no less private.
pub(super) fn belongs(registry: &Url, url: &Url) -> bool {
    let upgraded = registry.scheme() == "http" && url.scheme() == "https";
    let same_port = registry.port_or_known_default() == url.port_or_known_default()
        || (upgraded && registry.port() == url.port());
    registry.host_str() == url.host_str()
        && same_port
        && (registry.scheme() == url.scheme() || upgraded)
}

/// Returns the page after the one at `current`, as a path of the same registry.
///
/// `Err` holds the foreign host that a `Link` points at.
pub(super) fn next_page(current: &Url, headers: &HeaderMap) -> Result<Option<Address>, String> {
    let links = headers.get_all(header::LINK);
    let Some(target) = links
        .iter()
        .filter_map(|v| v.to_str().ok())
        .find_map(next_link)
    else {
        return Ok(None);
    };
    let Ok(url) = current.join(target) else {
        return Err(printable(target, 80));
    };
    if url.host_str() != current.host_str() {
        return Err(printable(url.host_str().unwrap_or(""), 80));
    }
    let query = url.query().map(|q| format!("?{q}")).unwrap_or_default();
    let path = url.path().trim_start_matches('/');
    Ok(Some(Address::Path(format!("{path}{query}"))))
}

/// Returns the target of the link with `rel="next"` (RFC 8288).
fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, after) = after.split_once('>')?;
        let (params, next) = after.split_once(',').unwrap_or((after, ""));
        let is_next = params.split(';').any(|param| {
            let (name, value) = param.split_once('=').unwrap_or((param, ""));
            name.trim().eq_ignore_ascii_case("rel") && value.trim().trim_matches('"') == "next"
        });
        if is_next {
            return Some(target);
        }
        rest = next;
    }
    None
}

/// Reads a page of a tag list; texts that are no tags are left out. `None` where it is no tag list.
pub(super) fn read_tags(body: &[u8]) -> Option<Vec<Tag>> {
    #[derive(serde::Deserialize)]
    struct Page {
        tags: Option<Vec<String>>,
    }
    let page: Page = serde_json::from_slice(body).ok()?;
    let tags = page.tags.unwrap_or_default();
    Some(tags.iter().filter_map(|tag| tag.parse().ok()).collect())
}

/// Reads a page of a list of repositories, as they are named in paths. `None` where it is none.
pub(super) fn read_repositories(body: &[u8]) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Page {
        repositories: Option<Vec<String>>,
    }
    let page: Page = serde_json::from_slice(body).ok()?;
    Some(page.repositories.unwrap_or_default())
}

/// Whether the same request may succeed a little later.
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// Returns how long the server asks to be left alone: `Retry-After` in seconds or as an HTTP date, counted from `now`.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = text(headers, &header::RETRY_AFTER)?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = httpdate::parse_http_date(text).ok()?;
    Some(then.duration_since(now).unwrap_or_default())
}

/// Makes a text from outside fit for a message: one line, no control characters, at most `max` characters.
pub(super) fn printable(text: &str, max: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let clean = words.chars().filter(|c| !c.is_control() && !is_bidi(*c));
    let mut cut: String = clean.take(max).collect();
    if cut.chars().count() == max {
        cut.push_str("...");
    }
    cut
}

/// Whether a character turns the direction of what follows, and so can make a message say another thing.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:0da6316466d60a3a4535d5fed3589feb0391989982fba59d47d4c729912d6363";

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    fn repository(text: &str) -> Repository {
        text.parse().unwrap()
    }

    #[test]
    fn requests_go_where_the_specification_says() {
        let r = repository("reg.lan:5000/a/b");
        let digest: Digest = D.parse().unwrap();
        let by_tag = Selector::Tag("v1".parse().unwrap());
        let path = |request: Request| match request.address {
            Address::Path(path) => format!("{} {path}", request.method),
            Address::Url(url) => format!("{} {url}", request.method),
        };
        let other = repository("reg.lan:5000/c");
        assert_eq!(
            [
                path(Request::manifest(Method::HEAD, &r, &by_tag)),
                path(Request::manifest(
                    Method::GET,
                    &r,
                    &Selector::Digest(digest.clone())
                )),
                path(Request::tags(&r)),
                path(Request::repositories(&r)),
                path(Request::blob(&r, &digest, 0)),
                path(Request::begin_upload(&r, None)),
                path(Request::begin_upload(&r, Some((&digest, &other)))),
                path(Request::upload(
                    &r,
                    &url("https://u.lan/x?_state=a%2Fb%3D"),
                    &digest,
                    1,
                    0
                )),
                path(Request::upload_at_once(&r, &digest, 1)),
            ],
            [
                "HEAD v2/a/b/manifests/v1".to_owned(),
                format!("GET v2/a/b/manifests/{D}"),
                "GET v2/a/b/tags/list?n=1000".to_owned(),
                "GET v2/_catalog?n=1000".to_owned(),
                format!("GET v2/a/b/blobs/{D}"),
                "POST v2/a/b/blobs/uploads/".to_owned(),
                format!("POST v2/a/b/blobs/uploads/?mount={D}&from=c"),
                format!("PUT https://u.lan/x?_state=a%2Fb%3D&digest={D}"),
                format!("POST v2/a/b/blobs/uploads/?digest={D}"),
            ]
        );
    }

    #[test]
    fn what_is_left_of_a_body_is_asked_for_and_sent_from_its_first_byte() {
        let (r, digest) = (repository("reg.lan/a"), D.parse().unwrap());
        let header = |request: &Request, name| text(&request.headers, &name).map(str::to_owned);
        let at = url("https://reg.lan/up");
        let read = |from| header(&Request::blob(&r, &digest, from), header::RANGE);
        assert_eq!((read(0), read(7)), (None, Some("bytes=7-".to_owned())));
        let sent = |from| {
            let request = Request::upload(&r, &at, &digest, 10, from);
            let length = header(&request, header::CONTENT_LENGTH).unwrap();
            (length, header(&request, header::CONTENT_RANGE))
        };
        assert_eq!(sent(0), ("10".to_owned(), None));
        assert_eq!(sent(4), ("6".to_owned(), Some("4-9".to_owned())));
        assert_eq!(sent(10), ("0".to_owned(), None));
    }

    #[test]
    fn ranges_are_read_as_servers_write_them() {
        let part = |text: &str| content_range(&headers(header::CONTENT_RANGE, text));
        assert_eq!(part("bytes 4-9/10"), Some((4, 10)));
        for wrong in [
            "bytes 4-9/*",
            "bytes */10",
            "bytes 9-4/10",
            "bytes 4-10/10",
            "4-9/10",
            "",
        ] {
            assert_eq!(part(wrong), None, "{wrong}");
        }
        let has = |text: &str| received(&headers(header::RANGE, text));
        assert_eq!(
            (has("0-9"), has("bytes=0-9"), has("0-0")),
            (Some(10), Some(10), Some(0))
        );
        for wrong in ["5-9", "0-", "0-18446744073709551615", "x"] {
            assert_eq!(has(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lists_of_repositories_are_read_whatever_is_in_them() {
        let read = |body: &str| read_repositories(body.as_bytes());
        assert_eq!(
            read(r#"{"repositories":["a/b"]}"#),
            Some(vec!["a/b".to_owned()])
        );
        assert_eq!(read(r#"{"repositories":null}"#), Some(vec![]));
        assert_eq!((read("<html>"), read("[1]")), (None, None));
    }

    #[test]
    fn a_mount_asks_for_both_repositories_and_the_same_one_once() {
        let (a, b) = (repository("reg.lan/a"), repository("reg.lan/b"));
        let scopes = |donor| Scopes::push(&a, donor).0.into_iter().collect::<Vec<_>>();
        assert_eq!(
            scopes(Some(&b)),
            ["repository:a:pull,push", "repository:b:pull"]
        );
        assert_eq!(scopes(Some(&a)), ["repository:a:pull,push"]);
    }

    #[test]
    fn scopes_are_widened_only_by_what_they_lack() {
        let mut scopes = Scopes::push(&repository("reg.lan/a"), None);
        let asked = [
            "repository:a:pull",
            "repository:a:push,pull",
            "repository:b:pull",
            "x",
        ];
        scopes.widen(&Scopes(asked.into_iter().map(str::to_owned).collect()));
        let all: Vec<_> = scopes.0.iter().map(String::as_str).collect();
        assert_eq!(all, ["repository:a:pull,push", "repository:b:pull", "x"]);
    }

    #[test]
    fn locations_are_followed_as_given() {
        let asked = url("https://reg.lan:5000/v2/a/blobs/uploads/");
        let table = [
            (
                "/v2/a/blobs/uploads/1?_state=x%3D%3D&a=b",
                "https://reg.lan:5000/v2/a/blobs/uploads/1?_state=x%3D%3D&a=b",
            ),
            ("1", "https://reg.lan:5000/v2/a/blobs/uploads/1"),
            ("https://store.lan/up?s=1", "https://store.lan/up?s=1"),
            // A TLS proxy before a registry that does not know of it.
            ("http://reg.lan:5000/up", "https://reg.lan:5000/up"),
            ("http://reg.lan/up", "http://reg.lan/up"),
        ];
        for (given, expected) in table {
            let found = location(&asked, &headers(header::LOCATION, given));
            assert_eq!(found.as_ref().map(Url::as_str), Some(expected));
        }
        for given in ["ftp://x/y", "http://[", "data:,x"] {
            assert_eq!(location(&asked, &headers(header::LOCATION, given)), None);
        }
        assert_eq!(location(&asked, &HeaderMap::new()), None);
    }

    #[test]
    fn credentials_belong_to_one_origin() {
        let table = [
            ("https://r.lan/", "https://r.lan/v2/", true),
            ("https://r.lan/", "https://r.lan:443/v2/", true),
            ("https://r.lan/", "https://r.lan:444/v2/", false),
            ("https://r.lan/", "http://r.lan/v2/", false),
            ("https://r.lan/", "https://s.lan/v2/", false),
            ("https://r.lan/", "https://r.lan.evil/v2/", false),
            ("https://r.lan/", "https://r.lan@evil/v2/", false),
            ("http://r.lan:5000/", "http://r.lan:5000/v2/", true),
            ("http://r.lan/", "https://r.lan/v2/", true),
            ("http://r.lan:5000/", "https://r.lan/v2/", false),
        ];
        for (registry, to, expected) in table {
            assert_eq!(
                belongs(&url(registry), &url(to)),
                expected,
                "{registry} {to}"
            );
        }
    }

    #[test]
    fn the_next_page_is_found_among_links_and_stays_at_its_host() {
        let at = url("https://r.lan/v2/a/tags/list?n=2");
        let next = |link: &str| next_page(&at, &headers(header::LINK, link));
        let path = |text: &str| Ok(Some(Address::Path(text.to_owned())));
        assert_eq!(
            next(r#"</v2/a/tags/list?n=2&last=b>; rel="next""#),
            path("v2/a/tags/list?n=2&last=b")
        );
        assert_eq!(
            next(r#"<http://r.lan/x?y>; title="a"; rel=next"#),
            path("x?y")
        );
        assert_eq!(next(r#"</p>; rel="prev", </n>; rel="next""#), path("n"));
        assert_eq!(next(r#"</p>; rel="prev""#), Ok(None));
        assert_eq!(next("<unfinished"), Ok(None));
        assert_eq!(next("<https://evil/x>; rel=next"), Err("evil".to_owned()));
        assert_eq!(next_page(&at, &HeaderMap::new()), Ok(None));
    }

    #[test]
    fn tag_lists_are_read_whatever_is_in_them() {
        let read = |body: &str| read_tags(body.as_bytes()).map(|t| format!("{t:?}"));
        assert_eq!(
            read(r#"{"name":"a","tags":["b","..","a"]}"#).unwrap(),
            "[b, a]"
        );
        assert_eq!(read(r#"{"name":"a","tags":null}"#).unwrap(), "[]");
        assert_eq!(read("<html>"), None);
        assert_eq!(read(r#"{"tags":3}"#), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let after = |text: &str| retry_after(&headers(header::RETRY_AFTER, text), now);
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            after("Sun, 06 Nov 1994 08:50:00 GMT"),
            Some(Duration::from_secs(23))
        );
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
    }

    #[test]
    fn texts_from_outside_stay_on_one_short_line() {
        assert_eq!(printable("a\n\tb\u{1b}[31m\u{202e}c\0", 50), "a b[31mc");
        assert_eq!(printable("aaaa", 3), "aaa...");
    }

    #[test]
    fn docker_hub_is_served_by_another_host() {
        let registry = |text: &str| text.parse::<Registry>().unwrap();
        assert_eq!(host(&registry("docker.io")), "registry-1.docker.io");
        assert_eq!(host(&registry("quay.io")), "quay.io");
    }
}
