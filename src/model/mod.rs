//! Values and rules: what is wanted, what is held, what is left to do.
//!
//! **Invariant:** no async, no I/O, no clock; the same input gives the same output.

pub mod access;

pub mod image;

pub mod prefix;

pub mod manifest;

pub mod accessory;

pub mod imageset;

pub mod policy;

pub mod target;

pub mod openpgp;

pub mod release;

pub mod catalog;

pub mod facts;

pub mod desired;

pub mod mirrored;

pub mod drift;

pub mod plan;

pub mod checkup;

pub mod record;

/// Joins an error with its causes into one sentence, each cause said once.
pub fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}
