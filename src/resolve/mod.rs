//! Fetches what the desired content depends on and is not known yet.

pub mod payload_layer;

pub mod update_service;
