//! pgvalet: valet keys for PostgreSQL.

pub mod secret;
pub mod clock;
pub mod lifecycle;
pub mod ids;
pub mod rng;
pub mod document;
pub mod cluster;
pub mod domain;
pub mod api;
pub mod config;
pub mod telemetry;
pub mod store;
pub mod target;
pub mod identity;
pub mod app;
pub mod worker;
pub mod http;
pub mod cli;
pub mod serve;
pub mod dev;
