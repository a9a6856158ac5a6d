//! The command line: one file a verb; text for people, one JSON document for machines.

pub mod apply;

pub mod connect;

pub mod diff;

pub mod duration;

pub mod failure;

pub mod files;

pub mod json;

pub mod output;

pub mod plan;

pub mod problems;

pub mod releases;

pub mod runs;

pub mod text;

pub mod watch;
