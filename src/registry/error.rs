//! Why a registry did not do what was asked, in sentences for the person who has to mend it.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use http::StatusCode;

use crate::{
    model::{
        image::{Digest, NameError, Repository},
        manifest::ManifestError,
    },
    registry::{
        auth::CredentialsError,
        protocol::{self, Selector},
        quirks,
        refusal::Refused,
    },
};

/// What was asked of a registry: the beginning of every message about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// `HEAD` or `GET` of a manifest.
    ReadManifest(Repository, Selector),
    /// A repository's tags.
    ListTags(Repository),
    /// The referrers of a manifest.
    ListReferrers(Repository, Digest),
    /// The repositories of a registry, asked for on behalf of one of them.
    ListRepositories(Repository),
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
    /// How far an upload came that broke off.
    ResumeUpload(Repository),
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
    /// The first question: is this a registry?
    Greet(Repository),
    /// The removal of a manifest.
    DeleteManifest(Repository, Selector),
    /// A request to a token service, by the host of it.
    Token(Repository, String),
}

impl Task {
    /// Returns the repository in question.
    pub fn repository(&self) -> &Repository {
        match self {
            Task::ReadManifest(repository, _)
            | Task::ListTags(repository)
            | Task::ListReferrers(repository, _)
            | Task::ListRepositories(repository)
            | Task::FindBlob(repository, _)
            | Task::ReadBlob(repository, _)
            | Task::BeginUpload(repository)
            | Task::Mount(repository, _, _)
            | Task::Upload(repository, _)
            | Task::ResumeUpload(repository)
            | Task::CancelUpload(repository)
            | Task::PushManifest { repository, .. }
            | Task::Greet(repository)
            | Task::DeleteManifest(repository, _)
            | Task::Token(repository, _) => repository,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Task::ReadManifest(r, name) => write!(f, "reading manifest {}", Named(r, name)),
            Task::ListTags(r) => write!(f, "listing the tags of {r}"),
            Task::ListReferrers(r, digest) => {
                write!(f, "listing the referrers of {r}@{digest}")
            }
            Task::ListRepositories(r) => write!(f, "listing the repositories of {}", r.registry()),
            Task::FindBlob(r, digest) => write!(f, "looking for blob {digest} in {r}"),
            Task::ReadBlob(r, digest) => write!(f, "reading blob {digest} of {r}"),
            Task::BeginUpload(r) => write!(f, "beginning an upload to {r}"),
            Task::Mount(r, digest, from) => {
                write!(f, "mounting blob {digest} of {from} in {r}")
            }
            Task::Upload(r, digest) => write!(f, "uploading blob {digest} to {r}"),
            Task::ResumeUpload(r) => write!(f, "taking an upload to {r} up again"),
            Task::CancelUpload(r) => write!(f, "giving up an upload to {r}"),
            Task::PushManifest {
                repository,
                name,
                index,
            } => {
                let kind = if *index { "index" } else { "manifest" };
                write!(f, "pushing {kind} {}", Named(repository, name))
            }
            Task::Greet(r) => write!(f, "asking {} whether it is a registry", r.registry()),
            Task::DeleteManifest(r, name) => write!(f, "deleting manifest {}", Named(r, name)),
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
    /// `registries.conf` forbids to read it.
    #[error(
        "{what} is not read: the `[[registry]]` for `{prefix}` of {} has `blocked = true`; take that out, or the image out of the image set", file.display()
    )]
    Blocked {
        /// What was wanted.
        what: String,
        /// The table's prefix.
        prefix: String,
        /// The file that has it.
        file: PathBuf,
    },
    /// `registries.conf` makes something of a name that is none.
    #[error("{what} cannot be read as {} has it: that makes it `{text}`, and {why}", file.display())]
    Rewrite {
        /// What was wanted.
        what: String,
        /// The file that has the table.
        file: PathBuf,
        /// What it became.
        text: String,
        /// What is wrong with that.
        why: NameError,
    },
    /// It could be had from none of the places that `registries.conf` names.
    #[error("{what} could be read from none of the places that {} names for it: {}{}", file.display(), listed(.tried), lacks(.lacking))]
    Sources {
        /// What was wanted.
        what: String,
        /// The file that names the places.
        file: PathBuf,
        /// Why each of them was no help, in the order in which they were asked.
        tried: Vec<Error>,
        /// Those that answered, and do not have it.
        lacking: Vec<Repository>,
    },
    /// One of several places has sent wrong bytes: the others are asked first from now on.
    #[error("{0}")]
    Elsewhere(Box<Error>),
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
    /// A file that was to be uploaded could not be read.
    #[error("reading the kept file of {what}: {source}")]
    File {
        /// The blob.
        what: String,
        /// What the system said.
        source: std::io::Error,
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
        "refuses connections; is the port right, and is it plain HTTP? (then set `plain_http` for it, or `--src-tls-verify=false` or `--dest-tls-verify=false` with `once`)"
    )]
    ConnectionRefused,
    /// The name is unknown, or the way is blocked.
    #[error(
        "cannot be reached; check its name, the network, and the proxy (`HTTPS_PROXY`, `NO_PROXY`)"
    )]
    NotConnected,
    /// The proxy on the way to it does not let through, or is not there.
    #[error(
        "cannot be reached; the proxy does not answer, or does not let through to it: check `HTTPS_PROXY`, `NO_PROXY`, and the proxy's rules"
    )]
    Proxy,
    /// The proxy on the way to it wants to know who asks.
    #[error(
        "cannot be reached; the proxy wants to be told who asks, or does not know who it is told: write `http://USER:PASSWORD@HOST:PORT` into `HTTPS_PROXY`"
    )]
    ProxyLogin,
    /// It does not speak TLS.
    #[error(
        "does not answer in TLS; is it plain HTTP? (then set `plain_http` for it, or `--src-tls-verify=false` or `--dest-tls-verify=false` with `once`)"
    )]
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
    /// It wants a certificate of who asks.
    #[error(
        "wants to be shown a client certificate, or does not take the one it is shown; name one that it takes as `client_cert` and `client_key` for it, or put it into its folder below certs.d"
    )]
    WantsCertificate,
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
    /// It asked to be left alone, and is.
    #[error("asked to be left alone, for another {} seconds; it is not asked before", .0.as_secs())]
    Resting(Duration),
    /// The server ended the connection since it is asked for too much (HTTP/2 GOAWAY).
    #[error("asks to be asked for less, and ended the connection (HTTP/2 GOAWAY)")]
    Throttled,
    /// More redirects than are followed.
    #[error("redirects without end, or to where the request cannot go")]
    Redirects,
}

impl Fault {
    fn is_transient(self) -> bool {
        match self {
            Fault::ConnectionRefused
            | Fault::NotConnected
            | Fault::Proxy
            | Fault::Silent(_)
            | Fault::Throttled
            | Fault::Broken => true,
            Fault::Resting(_)
            | Fault::ProxyLogin
            | Fault::WantsCertificate
            | Fault::NotTls
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
    /// Another part of a body than was asked for.
    #[error("sends another part of the bytes than those from {from} on that were asked for")]
    WrongRange {
        /// From where on they were asked for.
        from: u64,
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
    /// More referrers than are read.
    #[error("lists more than {0} referrers, which is the most that are read here")]
    TooManyReferrers(usize),
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

fn listed(errors: &[Error]) -> String {
    let errors: Vec<_> = errors
        .iter()
        .enumerate()
        .map(|(n, error)| format!("({}) {error}", n + 1))
        .collect();
    errors.join("; ")
}

fn lacks(repositories: &[Repository]) -> String {
    if repositories.is_empty() {
        return String::new();
    }
    let names: Vec<_> = repositories.iter().map(ToString::to_string).collect();
    format!(
        "; it is not in {}, and that is the answer only where `blocked = true` says that the others are never reached from here",
        names.join(", ")
    )
}

fn encoded(encoding: &Option<String>) -> String {
    match encoding {
        Some(encoding) => format!(" (it encoded them as `{encoding}`, though asked not to)"),
        None => String::new(),
    }
}

impl Error {
    /// Whether the same may succeed a little later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Error::Refused(refused) => {
                protocol::is_transient(refused.status)
                    || refused.outlived
                    || quirks::upload_is_gone(refused)
            }
            Error::Unreachable { fault, .. } => fault.is_transient(),
            Error::Answer { problem, .. } => matches!(problem, Problem::Truncated { .. }),
            Error::Token(error) => error.is_transient(),
            Error::Sources { tried, .. } => tried.iter().any(Error::is_transient),
            _ => false,
        }
    }

    /// Whether the request was sent again already, as often as it may be. The bytes of blobs are not: whoever reads or sends them
    /// begins anew.
    pub fn was_repeated(&self) -> bool {
        let streams = |task: &Task| matches!(task, Task::ReadBlob(..) | Task::Upload(..));
        match self {
            Error::Refused(refused) => !streams(&refused.task),
            Error::Unreachable { task, .. } | Error::Answer { task, .. } => !streams(task),
            Error::Sources { tried, .. } => tried.iter().all(Error::was_repeated),
            _ => true,
        }
    }

    /// Whether bytes came, or arrived, that are not what they should be, which a mishap on the way may explain.
    pub fn is_wrong_bytes(&self) -> bool {
        match self {
            Error::Answer { problem, .. } => matches!(
                problem,
                Problem::WrongDigest { .. }
                    | Problem::OtherDigest { .. }
                    | Problem::WrongRange { .. }
                    | Problem::WrongLength { .. }
            ),
            Error::Refused(refused) => {
                let pushed = matches!(refused.task, Task::Upload(..) | Task::PushManifest { .. });
                pushed && refused.has_code(&["DIGEST_INVALID"])
            }
            Error::Elsewhere(error) => error.is_wrong_bytes(),
            _ => false,
        }
    }

    /// Whether the registry says that what was asked for is not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            // One of the places may have it, and could not say so.
            Error::Sources { .. } => false,
            _ => self.refused().is_some_and(quirks::is_absent),
        }
    }

    /// Whether a tag was refused because it names something already and may not be moved.
    pub(super) fn is_immutable_tag(&self) -> bool {
        self.refused().is_some_and(quirks::is_immutable)
    }

    /// Whether it is for lack of, or for wrong, credentials.
    pub fn is_authentication(&self) -> bool {
        match self {
            Error::Credentials { .. } => true,
            Error::Token(error) => error.is_authentication(),
            Error::Sources { tried, .. } => tried.last().is_some_and(Error::is_authentication),
            _ if self.is_not_found() || self.is_immutable_tag() => false,
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
        let refused = self.refused();
        refused.map(quirks::missing_parts).unwrap_or_default()
    }

    /// Whether an index was refused for its children: Distribution names those it lacks, Quay calls the index invalid.
    ///
    /// It means what its name says only where the index was pushed without some of its children.
    pub fn is_sparse_index_refusal(&self) -> bool {
        self.refused().is_some_and(quirks::lacks_children)
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
            // What the name itself stands for is asked after its mirrors.
            Error::Sources { tried, .. } => tried.last()?.refused(),
            _ => None,
        }
    }

    fn is_about_token(&self) -> bool {
        self.refused()
            .is_some_and(|r| matches!(r.task, Task::Token(..)))
    }
}
