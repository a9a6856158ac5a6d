//! Synthetic content for behaviour tests, benchmarks and the demo: images, OpenShift releases, update graphs, and servers of them.
//!
//! Used through `#[path]`. Everything is a function of its arguments: no clock, no chance, so digests and sizes are the same in
//! every run of one build. Files and servers belong to the caller, who gives the folder and stops the server by dropping it.
#![allow(dead_code, unreachable_pub, missing_docs)]

#[path = "fixture/image.rs"]
pub mod image;

#[path = "fixture/place.rs"]
pub mod place;

#[path = "fixture/release.rs"]
pub mod release;

#[path = "fixture/names.rs"]
pub mod names;

#[path = "fixture/graph.rs"]
pub mod graph;

#[path = "fixture/server.rs"]
pub mod server;

#[path = "fixture/set.rs"]
pub mod set;
