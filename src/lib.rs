//! Keeps the registry of a disconnected OpenShift site in step with the image sets of a Git directory.

pub mod model;

pub mod cluster;

pub mod settings;

pub mod output;
