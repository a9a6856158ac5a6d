//! The wire: `imageset.v1.MirrorService` over the handle of `reconcile`, and who may call what of it.
//!
//! ```text
//!   listen --> door: TLS, Origin --> guard: Access --> service --> convert --> reconcile
//!                      ^                      |
//!                    renew                  audit
//! ```
//!
//! **Invariant:** no call reaches the service without its right; what is not in the table of `rpc` reaches it never.

pub mod v1;

pub mod convert;

pub mod rpc;

pub mod certificate;

pub mod tls;

pub mod origin;

pub mod access;

pub mod audit;

pub mod body;

pub mod guard;

pub mod service;

mod streams;

pub mod listen;

pub mod door;

pub mod renew;

pub mod server;
