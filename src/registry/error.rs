//! Why a registry did not do what was asked, in sentences for the person who has to mend it.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    model::{
        image::{Digest, Repository},
        manifest::ManifestError,
    },
    registry::{auth::CredentialsError, protocol, protocol::Selector},
};

/// What was asked of a registry: the beginning of every message about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// `HEAD` or `GET` of a manifest.
    ReadManifest(Repository, Selector),
    /// A repository's tags.
    ListTags(Repository),
    /// `HEAD` of a blob.
    FindBlob(Repository, Digest),
    /// `GET` of a blob.
    ReadBlob(Repository, Digest),
    /// The beginning of an upload.
    BeginUpload(Repository),
    /// The mount of a blob from the last named repository.
    Mount(Repository, Digest, Repository),
    /// The `PUT` of a blob.
    Upload(Repository, Digest),
    /// The end of an upload that is not wanted any more.
    CancelUpload(Repository),
    /// The `PUT` of a manifest.
    PushManifest {
        /// Where to.
        repository: Repository,
        /// Under which name.
        name: Selector,
        /// Whether it is an index.
        index: bool,
    },
    /// A request to a token service, by the host of it.
    Token(Repository, String),
}

impl Task {
    /// Returns the repository in question.
    pub fn repository(&self) -> &Repository {
        match self {
            Task::ReadManifest(repository, _)
            | Task::ListTags(repository)
            | Task::FindBlob(repository, _)
            | Task::ReadBlob(repository, _)
            | Task::BeginUpload(repository)
            | Task::Mount(repository, _, _)
            | Task::Upload(repository, _)
            | Task::CancelUpload(repository)
            | Task::PushManifest { repository, .. }
            | Task::Token(repository, _) => repository,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Task::ReadManifest(r, name) => write!(f, "reading manifest {}", Named(r, name)),
            Task::ListTags(r) => write!(f, "listing the tags of {r}"),
            Task::FindBlob(r, digest) => write!(f, "looking for blob {digest} in {r}"),
            Task::ReadBlob(r, digest) => write!(f, "reading blob {digest} of {r}"),
            Task::BeginUpload(r) => write!(f, "beginning an upload to {r}"),
            Task::Mount(r, digest, from) => {
                write!(f, "mounting blob {digest} of {from} in {r}")
            }
            Task::Upload(r, digest) => write!(f, "uploading blob {digest} to {r}"),
            Task::CancelUpload(r) => write!(f, "giving up an upload to {r}"),
            Task::PushManifest {
                repository,
                name,
                index,
            } => {
                let kind = if *index { "index" } else { "manifest" };
                write!(f, "pushing {kind} {}", Named(repository, name))
            }
            Task::Token(r, service) => write!(f, "asking {service} for a token for {r}"),
        }
    }
}

/// A manifest's name as people write it.
struct Named<'a>(&'a Repository, &'a Selector);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Selector::Tag(tag) => write!(f, "{}:{tag}", self.0),
            Selector::Digest(digest) => write!(f, "{}@{digest}", self.0),
        }
    }
}

/// Why a registry did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry, or its token service, answered no.
    #[error("{0}")]
    Refused(Box<Refused>),
    /// No whole answer came.
    #[error("{task}: {host} {fault}")]
    Unreachable {
        /// What was asked.
        task: Box<Task>,
        /// Who was asked.
        host: String,
        /// What kind of trouble it is.
        fault: Fault,
        /// What the connection said; it holds no URL.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// An answer came that cannot be right.
    #[error("{task}: {host} {problem}")]
    Answer {
        /// What was asked.
        task: Box<Task>,
        /// Who answered.
        host: String,
        /// What is wrong with it.
        problem: Problem,
    },
    /// The manifest cannot be mirrored.
    #[error("{task}: {source}")]
    Manifest {
        /// What was asked.
        task: Box<Task>,
        /// What is wrong with it.
        source: ManifestError,
    },
    /// The body to be uploaded is not of the length that was announced.
    #[error("{task}: the bytes to upload end after {got} of {expected}")]
    Body {
        /// What was asked.
        task: Box<Task>,
        /// How many bytes came.
        got: u64,
        /// How many were announced.
        expected: u64,
    },
    /// The credentials for this request cannot be read.
    #[error("{task}: {source}")]
    Credentials {
        /// What was asked.
        task: Box<Task>,
        /// Why not.
        source: CredentialsError,
    },
    /// The connections cannot be prepared.
    #[error("preparing connections to {host}: {reason}")]
    Connections {
        /// To whom.
        host: String,
        /// Why, and what to do.
        reason: String,
        /// What the system said.
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// Somebody else's request for the same token failed.
    #[error(transparent)]
    Token(Arc<Error>),
}

/// How a connection failed, as a clause after the host's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nobody listens.
    #[error(
        "refuses connections; is the port right, and is it plain HTTP? (then set `plain_http` for it)"
    )]
    ConnectionRefused,
    /// The name is unknown, or the way is blocked.
    #[error(
        "cannot be reached; check its name, the network, and the proxy (`HTTPS_PROXY`, `NO_PROXY`)"
    )]
    NotConnected,
    /// It does not speak TLS.
    #[error("does not answer in TLS; is it plain HTTP? (then set `plain_http` for it)")]
    NotTls,
    /// Its certificate is signed by nobody known here.
    #[error(
        "shows a certificate of an authority that is not trusted here; name the authority's PEM file as `ca_file` for it, or add it to the system's"
    )]
    UnknownAuthority,
    /// Its certificate is for other names.
    #[error("shows a certificate that is not for this name; use a name that its certificate has")]
    WrongName,
    /// Its certificate's time is over or has not come.
    #[error("shows a certificate that is not valid now; renew it, or set this machine's clock")]
    NotValidNow,
    /// TLS failed in another way.
    #[error(
        "cannot agree on a TLS connection; its certificate or its TLS version is not accepted here"
    )]
    Tls,
    /// Nothing came for the whole idle time.
    #[error("went silent: nothing was sent or taken for {} seconds", .0.as_secs())]
    Silent(Duration),
    /// The connection broke before the answer was whole.
    #[error("broke the connection off")]
    Broken,
    /// More redirects than are followed.
    #[error("redirects without end, or to where the request cannot go")]
    Redirects,
}

impl Fault {
    fn is_transient(self) -> bool {
        match self {
            Fault::ConnectionRefused | Fault::NotConnected | Fault::Silent(_) | Fault::Broken => {
                true
            }
            Fault::NotTls
            | Fault::UnknownAuthority
            | Fault::WrongName
            | Fault::NotValidNow
            | Fault::Tls
            | Fault::Redirects => false,
        }
    }
}

/// What is wrong with an answer, as a clause after the host's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The bytes are not what was asked for.
    #[error("sent bytes with another digest than {expected}{}; its storage, or a proxy between, is at fault", encoded(.encoding))]
    WrongDigest {
        /// What was asked for.
        expected: Digest,
        /// How the server says it encoded them.
        encoding: Option<String>,
    },
    /// It says that it has something else than what was asked for or sent.
    #[error(
        "says that this is {got}, where {expected} was expected; its storage, or a proxy between, is at fault"
    )]
    OtherDigest {
        /// What was asked for or sent.
        expected: Digest,
        /// What it says.
        got: Digest,
    },
    /// Fewer bytes came than belong to it.
    #[error("ended the body after {got} of {expected} bytes")]
    Truncated {
        /// How many came.
        got: u64,
        /// How many belong to it.
        expected: u64,
    },
    /// The body is announced, or is, of another length.
    #[error("sends {got} bytes where {expected} were expected{}", encoded(.encoding))]
    WrongLength {
        /// How many came, or are announced.
        got: u64,
        /// How many belong to it.
        expected: u64,
        /// How the server says it encoded them.
        encoding: Option<String>,
    },
    /// The body is longer than is read.
    #[error("sends more than {limit} bytes, which is the most that is read here")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// An upload without an address.
    #[error("accepted the upload, but does not say where to send it (`Location`)")]
    NoLocation,
    /// A success that means something else.
    #[error("answered {0}, which does not mean success here; is it a registry?")]
    Unexpected(StatusCode),
    /// The tag list is none.
    #[error("did not answer with a list of tags; is it a registry?")]
    NotTags,
    /// Pages without end.
    #[error("gives pages of tags without end ({0} read)")]
    EndlessPages(usize),
    /// Pages of somebody else.
    #[error("points at another host for the next page (`{0}`), which is not followed")]
    ForeignPage(String),
    /// The token service's URL is unusable.
    #[error("names a token service that cannot be asked: `{0}` is no URL with http or https")]
    BadRealm(String),
    /// The token service would see credentials in the clear.
    #[error(
        "names a token service that is not encrypted (http://{0}); credentials are not sent there. Let the registry name it with https"
    )]
    InsecureRealm(String),
    /// The token service's answer holds no token.
    #[error("answered without a token; is it a token service?")]
    NoToken,
    /// A media type that cannot be sent.
    #[error("cannot be sent a manifest whose media type is not text")]
    MediaType,
}

fn encoded(encoding: &Option<String>) -> String {
    match encoding {
        Some(encoding) => format!(" (it encoded them as `{encoding}`, though asked not to)"),
        None => String::new(),
    }
}

/// Who was said to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// Nobody: no entry fits, in any of these files.
    Anonymous(Vec<PathBuf>),
    /// This entry of this file.
    Entry(Arc<str>, PathBuf),
    /// Nobody: the request went where the registry's credentials are not sent.
    Elsewhere,
}

/// An answer that means no.
#[derive(Debug, Clone)]
pub struct Refused {
    /// What was asked.
    pub task: Task,
    /// Who answered, without path or query.
    pub host: String,
    /// The HTTP status.
    pub status: StatusCode,
    /// What the registry says, in its own words.
    pub diagnostics: Vec<Diagnostic>,
    /// How long it asks to be left alone.
    pub retry_after: Option<Duration>,
    /// Who was said to ask.
    pub login: Login,
    /// Whether the token was accepted before and has run out, so that the same request with a new one may succeed.
    pub outlived: bool,
}

/// One of a registry's own errors (OCI distribution spec, "Error codes").
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostic {
    /// For instance `MANIFEST_BLOB_UNKNOWN`; empty where the answer has only a text.
    pub code: String,
    /// Its text for people.
    pub message: String,
    /// The digests that its detail names.
    pub digests: Vec<Digest>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code.as_str(), self.message.as_str()) {
            (code, "") => f.write_str(code),
            ("", message) => f.write_str(message),
            (code, message) => write!(f, "{code}: {message}"),
        }
    }
}

/// How many of a registry's errors are kept: one a blob of a manifest, as Distribution lists them.
const MAX_DIAGNOSTICS: usize = 10_000;

/// How many of them a message shows.
const SHOWN: usize = 3;

/// How deep a detail is searched for digests.
const MAX_DETAIL_DEPTH: usize = 4;

impl Diagnostic {
    /// Reads the body of a refusal: the spec's `errors`, or the one text that token services and proxies give.
    pub(super) fn read(body: &[u8]) -> Vec<Self> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            errors: Vec<Value>,
            message: Option<Value>,
            details: Option<Value>,
            error_description: Option<Value>,
            error: Option<Value>,
        }
        let Ok(body) = serde_json::from_slice::<Body>(body) else {
            return Self::of_text(body);
        };
        if !body.errors.is_empty() {
            let errors = body.errors.iter().take(MAX_DIAGNOSTICS);
            let read = errors.map(Self::of_value);
            return read.filter(|d| *d != Diagnostic::default()).collect();
        }
        let texts = [
            body.message,
            body.details,
            body.error_description,
            body.error,
        ];
        let text = texts.iter().flatten().find_map(Value::as_str);
        text.map(|text| Self::of_text(text.as_bytes()))
            .unwrap_or_default()
    }

    fn of_value(value: &Value) -> Self {
        let text = |name: &str, max| {
            let text = value.get(name).and_then(Value::as_str).unwrap_or("");
            protocol::printable(text, max)
        };
        let mut digests = Vec::new();
        collect_digests(value.get("detail"), MAX_DETAIL_DEPTH, &mut digests);
        Diagnostic {
            code: text("code", 60),
            message: text("message", 200),
            digests,
        }
    }

    /// A plain text; a page of HTML says nothing in a message.
    fn of_text(body: &[u8]) -> Vec<Self> {
        let text = String::from_utf8_lossy(body);
        let message = protocol::printable(&text, 200);
        if message.is_empty() || message.starts_with('<') {
            return Vec::new();
        }
        vec![Diagnostic {
            code: String::new(),
            message,
            digests: Vec::new(),
        }]
    }
}

fn collect_digests(value: Option<&Value>, depth: usize, found: &mut Vec<Digest>) {
    match value {
        Some(Value::String(text)) => found.extend(text.parse::<Digest>()),
        Some(Value::Array(items)) if depth > 0 => {
            for item in items {
                collect_digests(Some(item), depth - 1, found);
            }
        }
        Some(Value::Object(fields)) if depth > 0 => {
            for item in fields.values() {
                collect_digests(Some(item), depth - 1, found);
            }
        }
        _ => {}
    }
}

impl Refused {
    fn has_code(&self, codes: &[&str]) -> bool {
        let mut diagnostics = self.diagnostics.iter();
        diagnostics.any(|d| codes.contains(&d.code.to_ascii_uppercase().as_str()))
    }

    /// Whether a server that speaks TLS was spoken to in the clear, as Go's and nginx's servers say it.
    fn wants_tls(&self) -> bool {
        let mut diagnostics = self.diagnostics.iter();
        self.status == StatusCode::BAD_REQUEST
            && diagnostics.any(|d| d.message.contains("HTTP request to an HTTPS server"))
    }

    fn remedy(&self) -> String {
        let host = self.task.repository().registry();
        match (self.status, &self.login) {
            _ if self.wants_tls() => "; it speaks TLS: do not set `plain_http` for it".to_owned(),
            (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, login) => {
                credentials_remedy(host.as_str(), login)
            }
            (StatusCode::NOT_FOUND, Login::Anonymous(_)) => {
                "; check the name; some registries say so too where one has to log in".to_owned()
            }
            (StatusCode::NOT_FOUND, _) => {
                "; check the name, and that the account may see it".to_owned()
            }
            (StatusCode::PAYLOAD_TOO_LARGE, _) => {
                "; raise the body limit of the registry or of the proxy before it".to_owned()
            }
            _ => match self.retry_after {
                Some(wait) => format!("; it asks to wait {} seconds", wait.as_secs()),
                None => String::new(),
            },
        }
    }
}

fn credentials_remedy(host: &str, login: &Login) -> String {
    match login {
        Login::Entry(entry, file) => format!(
            "; it was asked with the entry `{entry}` of {}: log in again with `podman login {host}`, or have the account allowed to do this",
            file.display()
        ),
        Login::Anonymous(files) if files.is_empty() => {
            format!("; no credentials file is in use: log in with `podman login {host}`")
        }
        Login::Anonymous(files) => {
            let files: Vec<_> = files.iter().map(|f| f.display().to_string()).collect();
            format!(
                "; no entry for it is in {}: log in with `podman login {host}`, or name the file that has one",
                files.join(", ")
            )
        }
        Login::Elsewhere => {
            "; the registry sent the request there, and its credentials are not carried along"
                .to_owned()
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} answered {}", self.task, self.host, self.status)?;
        let shown: Vec<_> = self
            .diagnostics
            .iter()
            .take(SHOWN)
            .map(|d| d.to_string())
            .collect();
        if !shown.is_empty() {
            let more = self.diagnostics.len().saturating_sub(SHOWN);
            let more = if more > 0 {
                format!(", and {more} more")
            } else {
                String::new()
            };
            write!(f, " ({}{more})", shown.join(", "))?;
        }
        f.write_str(&self.remedy())
    }
}

impl Error {
    /// Whether the same may succeed a little later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Refused(refused) => {
                protocol::is_transient(refused.status)
                    || refused.outlived
                    || (matches!(refused.task, Task::Upload(..))
                        && refused.has_code(&["BLOB_UPLOAD_UNKNOWN", "BLOB_UPLOAD_INVALID"]))
            }
            Error::Unreachable { fault, .. } => fault.is_transient(),
            Error::Answer { problem, .. } => matches!(problem, Problem::Truncated { .. }),
            Error::Token(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Whether the registry says that what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND) && !self.is_about_token()
    }

    /// Whether it is for lack of, or for wrong, credentials.
    pub fn is_authentication(&self) -> bool {
        match self {
            Error::Credentials { .. } => true,
            Error::Token(error) => error.is_authentication(),
            _ => {
                matches!(
                    self.status(),
                    Some(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
                ) || (self.is_about_token() && self.status() == Some(StatusCode::BAD_REQUEST))
            }
        }
    }

    /// Returns the blobs, or children, for lack of which a manifest was refused. Distribution lists all of them.
    pub fn missing_blobs(&self) -> Vec<Digest> {
        let Some(refused) = self.refused() else {
            return Vec::new();
        };
        let codes = ["MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN"];
        let about = |d: &&Diagnostic| codes.contains(&d.code.as_str());
        let pushed = matches!(refused.task, Task::PushManifest { .. });
        let found = refused.diagnostics.iter().filter(|_| pushed).filter(about);
        let mut digests: Vec<_> = found.flat_map(|d| d.digests.clone()).collect();
        digests.sort();
        digests.dedup();
        digests
    }

    /// Whether an index was refused for its children: Distribution names those it lacks, Quay calls the index invalid.
    ///
    /// It means what its name says only where the index was pushed without some of its children.
    pub fn is_sparse_index_refusal(&self) -> bool {
        self.refused().is_some_and(|refused| {
            matches!(refused.task, Task::PushManifest { index: true, .. })
                && matches!(refused.status.as_u16(), 400 | 404 | 422)
                && refused.has_code(&[
                    "MANIFEST_BLOB_UNKNOWN",
                    "BLOB_UNKNOWN",
                    "MANIFEST_UNKNOWN",
                    "MANIFEST_INVALID",
                ])
        })
    }

    /// Returns how long the registry asks to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.refused()?.retry_after
    }

    /// Returns the HTTP status of a refusal.
    pub fn status(&self) -> Option<StatusCode> {
        Some(self.refused()?.status)
    }

    fn refused(&self) -> Option<&Refused> {
        match self {
            Error::Refused(refused) => Some(refused),
            Error::Token(error) => error.refused(),
            _ => None,
        }
    }

    fn is_about_token(&self) -> bool {
        self.refused()
            .is_some_and(|r| matches!(r.task, Task::Token(..)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: &str = "sha256:0da6316466d60a3a4535d5fed3589feb0391989982fba59d47d4c729912d6363";

    fn refused(status: u16, body: &str, login: Login, index: bool) -> Error {
        Error::Refused(Box::new(Refused {
            task: Task::PushManifest {
                repository: "reg.lan/a".parse().unwrap(),
                name: Selector::Tag("v1".parse().unwrap()),
                index,
            },
            host: "reg.lan".to_owned(),
            status: StatusCode::from_u16(status).unwrap(),
            diagnostics: Diagnostic::read(body.as_bytes()),
            retry_after: None,
            login,
            outlived: false,
        }))
    }

    #[test]
    fn a_refusal_says_what_who_why_and_what_to_do() {
        let body = r#"{"errors":[{"code":"DENIED","message":"not\nallowed","detail":[{"Type":"repository"}]}]}"#;
        let entry = Login::Entry("reg.lan".into(), "/run/auth.json".into());
        assert_eq!(
            refused(403, body, entry, false).to_string(),
            "pushing manifest reg.lan/a:v1: reg.lan answered 403 Forbidden (DENIED: not allowed); it was asked with the entry \
             `reg.lan` of /run/auth.json: log in again with `podman login reg.lan`, or have the account allowed to do this"
        );
        let nobody = Login::Anonymous(vec!["/a".into(), "/b".into()]);
        assert_eq!(
            refused(401, "<html>no</html>", nobody, false).to_string(),
            "pushing manifest reg.lan/a:v1: reg.lan answered 401 Unauthorized; no entry for it is in /a, /b: log in with \
             `podman login reg.lan`, or name the file that has one"
        );
    }

    #[test]
    fn missing_blobs_are_found_in_either_form_of_detail() {
        let other = D.replace('0', "1");
        let body = format!(
            r#"{{"errors":[{{"code":"MANIFEST_BLOB_UNKNOWN","message":"m","detail":"{D}"}},
                {{"code":"MANIFEST_BLOB_UNKNOWN","detail":{{"Digest":"{other}","digest":"{D}"}}}},
                {{"code":"OTHER","detail":"{}"}}]}}"#,
            D.replace('0', "2")
        );
        let error = refused(400, &body, Login::Elsewhere, true);
        let mut expected: Vec<Digest> = vec![D.parse().unwrap(), other.parse().unwrap()];
        expected.sort();
        assert_eq!(error.missing_blobs(), expected);
        assert!(error.is_sparse_index_refusal() && !error.is_transient());
        assert!(!refused(400, &body, Login::Elsewhere, false).is_sparse_index_refusal());
        assert!(!refused(500, &body, Login::Elsewhere, true).is_sparse_index_refusal());
    }

    #[test]
    fn bodies_that_are_not_the_specifications_are_read_for_their_text() {
        let text = |body: &str| {
            let found = Diagnostic::read(body.as_bytes());
            found.iter().map(Diagnostic::to_string).collect::<Vec<_>>()
        };
        assert_eq!(
            text(r#"{"details":"incorrect username or password"}"#),
            ["incorrect username or password"]
        );
        assert_eq!(
            text(r#"{"error":"invalid_grant","error_description":"gone"}"#),
            ["gone"]
        );
        assert_eq!(text("too many requests\n"), ["too many requests"]);
        assert_eq!(text(r#"{"errors":[{"code":"X"},7]}"#), ["X"]);
        for silent in ["", "<html><body>502</body></html>", "{}", "{\"errors\":[]}"] {
            assert!(text(silent).is_empty(), "{silent}");
        }
    }

    #[test]
    fn a_long_list_of_reasons_is_counted() {
        let one =
            format!(r#"{{"code":"MANIFEST_BLOB_UNKNOWN","message":"unknown","detail":"{D}"}}"#);
        let body = format!(r#"{{"errors":[{}]}}"#, vec![one; 40].join(","));
        let message = refused(400, &body, Login::Elsewhere, true).to_string();
        assert!(message.ends_with("unknown, and 37 more)"), "{message}");
    }
}
