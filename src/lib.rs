//! Keeps the registry of a disconnected OpenShift site in step with the image sets of a Git directory.
//!
//! ```text
//!  Git directory      upstreams                             mirror registry       cluster
//!       |                  |                                       ^                 ^
//!    gitops --ImageSet--> resolve --Desired--> plan --Plan--> copy --Landed--> store
//!                                               ^         ^                     |
//!                                               |         +-- survey of what the store does not know
//!                                               +---------- Mirrored -----------+--> cluster documents
//!                                                                               +--> status --> grpc / cli
//! ```
//!
//! **Invariant:** `model` and `cluster` decide and nothing else does; they hold no async, I/O or clock.
//! **Invariant:** rooms know only what stands above them here; siblings meet in `reconcile` and nowhere else
//! (`tests/architecture.rs` keeps this).
//! **Invariant:** bytes of manifests and blobs pass through unchanged; a digest is an identity.

/// YAML text with its places kept.
pub mod yaml;

/// What is wanted, what is held, what is left: values and rules.
pub mod model;

/// What clusters are told: mirror rules, and what nodes make of them.
pub mod cluster;

/// The daemon's own settings.
pub mod settings;

/// Speaks the OCI distribution protocol to registries.
pub mod registry;

/// Watches the directory and yields settled checkouts.
pub mod gitops;

/// Fetches what the rules ask for.
pub mod resolve;

/// Performs a plan.
pub mod copy;

/// Image layouts on disk, and the small registry that serves them.
pub mod layout;

/// What is durable.
pub mod store;

/// The output folder of cluster documents.
pub mod output;

/// The loop that joins everything, and the handle others call.
pub mod reconcile;

/// The wire.
pub mod grpc;

/// Opens everything once, joins it, and shuts it down in order.
pub mod daemon;

/// The command line.
pub mod cli;
