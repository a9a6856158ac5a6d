//! Speaks the OCI distribution protocol to registries.
//!
//! ```text
//!   client  --Request-->  transport  --bytes-->  registry
//!     ^                     |    ^
//!     |                     v    |
//!   protocol <--Answer------+  proof <-- auth (credential files, helpers), token <-- service
//! ```
//!
//! `protocol`, `challenge`, `refusal`, `quirks`, `redirect` and `sources` hold values and rules and touch no socket; `transport` sends; `blob` and `body` are what
//! flows in and out; `client` is the vocabulary that `resolve` and `copy` use.
//!
//! **Invariant:** bytes of manifests and blobs pass unchanged, and none are handed over as whole that were not verified.
//! **Invariant:** where nothing goes wrong and the host is known, a call costs exactly one request; there is no `/v2/` ping (but where `checkup` tries a
//! registry out).
//! **Invariant:** a credential is sent to the registry it belongs to and to the token service that this registry names, nowhere else.

mod protocol;

mod challenge;

mod error;

mod refusal;

mod quirks;

mod auth;

mod authfile;

mod credential;

mod helper;

mod stamp;

mod token;

mod proxy;

mod tls;

mod sources;

mod registries_conf;

mod sourcing;

mod connection;

mod redirect;

mod body;

mod pace;

mod transport;

mod proof;

mod service;

mod blob;

mod reads;

mod client;

mod handshake;

mod dummy;

mod checkup;

mod referrers;

pub use auth::{Credentials, CredentialsError, HelperProblem, Places};
pub use blob::{BlobStream, Trail};
pub use checkup::Circumstances;
pub use client::{Begun, Client, Head, TagList, Upload};
pub use error::{Error, Fault, Problem, Task};
pub use protocol::Selector;
pub use proxy::{Proxies, web_client};
pub use refusal::{Diagnostic, Login, Refused};
pub use registries_conf::{ConfError, ConfPlaces, RegistriesConf};
pub use tls::{CertFolders, ClientFiles};
pub use transport::{Access, Options, Scheme, Timeouts};
