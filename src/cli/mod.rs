//! The command line: one file a verb; text for people, one JSON document for machines.

pub mod connect;

pub mod failure;

pub mod json;

pub mod output;

pub mod text;
