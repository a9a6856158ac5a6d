//! Values and rules: what is wanted, what is held, what is left to do.
//!
//! **Invariant:** no async, no I/O, no clock; the same input gives the same output.

pub mod image;

pub mod manifest;

pub mod imageset;

pub mod policy;

pub mod target;

pub mod release;

pub mod facts;

pub mod desired;

pub mod mirrored;

pub mod plan;

pub mod record;
