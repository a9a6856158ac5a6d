//! Operator catalogs: what their documents say, what a filter keeps of them, and what is built of that.
//!
//! ```text
//!  bytes of a file --split--> documents --pack--> kept catalog --select--> what a filter keeps --render--> documents
//! ```
//!
//! A catalog is large and is never held whole: [`pack`] keeps its documents compressed, with a small index of every package; the
//! rules read the index of one package at a time, and documents only where they are kept.
//!
//! Source of the rules: file-based catalogs as `operator-registry` reads them, and oc-mirror v2's filter (`catalog-filter`).

pub mod split;

pub mod document;

pub mod range;

pub mod pack;

pub mod ignore;

pub mod graph;

pub mod filter;

pub mod select;

mod depend;

pub mod render;

pub mod list;

pub mod rebuild;

pub mod wish;

pub mod changes;

#[cfg(test)]
mod testing;

pub use crate::yaml::shorten;

/// The largest document of a catalog that is read. The largest of real catalogs have some megabytes.
pub const MAX_DOCUMENT: usize = 16 << 20;

/// The most documents of a catalog. The largest real catalogs have some fifteen thousand.
pub const MAX_DOCUMENTS: usize = 200_000;

/// The most bytes that the index of a catalog may take while it is made.
pub const MAX_INDEX: usize = 48 << 20;
