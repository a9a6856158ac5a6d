//! The command line: one file a verb; text for people, one JSON document for machines.

pub mod failure;

pub mod json;
