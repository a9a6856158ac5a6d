//! The wire: `imageset.v1.MirrorService` over the handle of `reconcile`.

pub mod v1;

pub mod convert;

pub mod service;

pub mod listen;

pub mod server;
