//! pgvalet: valet keys for PostgreSQL.

pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod dev;
pub mod document;
pub mod domain;
pub mod http;
pub mod identity;
pub mod ids;
pub mod lifecycle;
pub mod rng;
pub mod secret;
pub mod serve;
pub mod store;
pub mod target;
pub mod telemetry;
pub mod worker;
