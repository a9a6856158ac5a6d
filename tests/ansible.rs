//! The Ansible collection as sites have it: installed from its tarball without a network, with the real daemon between real registries, on
//! the oldest and the newest ansible-core.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot arrange its stage may panic"
)]

mod support;

#[path = "support/fixture.rs"]
mod fixture;

#[path = "clients/gate.rs"]
mod gate;

#[path = "clients/site.rs"]
#[allow(dead_code, reason = "other tests use more of a site")]
mod site;

#[path = "door/pki.rs"]
#[allow(dead_code, reason = "other tests use more of it")]
mod pki;

#[path = "door/house.rs"]
#[allow(dead_code, reason = "other tests use more of a house")]
mod house;

#[path = "ansible/control.rs"]
mod control;

#[path = "ansible/workshop.rs"]
mod workshop;

#[path = "ansible/stage.rs"]
mod stage;

#[path = "ansible/ran.rs"]
mod ran;

#[path = "ansible/openshift.rs"]
mod openshift;

#[path = "ansible/operators.rs"]
mod operators;

#[path = "ansible/cluster.rs"]
mod cluster;

#[path = "ansible/integration.rs"]
mod integration;

#[path = "ansible/pythons.rs"]
mod pythons;

#[path = "ansible/story.rs"]
mod story;

#[path = "ansible/rulebook.rs"]
mod rulebook;

#[path = "ansible/examples.rs"]
mod examples;

#[path = "ansible/machine.rs"]
mod machine;

#[path = "ansible/service.rs"]
mod service;
