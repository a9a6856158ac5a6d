//! Speaks the OCI distribution protocol to registries.
//!
//! ```text
//!   client  --Request-->  transport  --bytes-->  registry
//!     ^                     |    ^
//!     |                     v    |
//!   protocol <--Answer------+   token <-- auth (credential files)
//! ```
//!
//! `protocol` and `challenge` hold values and rules and touch no socket; `transport` sends; `client` is the vocabulary that
//! `resolve` and `copy` use.
//!
//! **Invariant:** bytes of manifests and blobs pass unchanged, and none are handed over as whole that were not verified.
//! **Invariant:** where nothing goes wrong and the host is known, a call costs exactly one request; there is no `/v2/` ping.
//! **Invariant:** a credential is sent to the registry it belongs to and to the token service that this registry names, nowhere else.

mod protocol;

mod challenge;

mod error;

mod auth;

mod token;

mod connection;

mod transport;

mod service;

mod blob;

mod client;

pub use auth::{Credentials, CredentialsError, Places};
pub use blob::BlobStream;
pub use client::{Begun, Client, Head, Upload};
pub use error::{Diagnostic, Error, Fault, Login, Problem, Refused, Task};
pub use protocol::Selector;
pub use transport::{Access, Options, Scheme, Timeouts};
