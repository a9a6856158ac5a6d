//! The main job's content side through the real program: `imagesetd once` between real registries, judged by what lies in the
//! mirror and by what both were asked.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/fixture.rs"]
mod fixture;

mod site;

mod daemon;

mod facade;

mod attached;

mod releases;

mod signatures;

mod bytes;

mod adoption;

mod floor;

mod sharing;

mod platforms;

mod additional;

mod operators;

mod catalogs;

mod failures;

mod interrupted;

mod access;

mod forms;

mod nesting;
