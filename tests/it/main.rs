//! Tests from outside: the real binary, over HTTP, on a real PostgreSQL. One binary, so that all of
//! them share one cluster.
//!
//! A test begins with a [`support::world::World`] of its own (state database, shop, target, admin
//! role, profiles, daemon) and ends with its `finish`, which looks whether anything is left over.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as it should be, and is no part of the daemon"
)]

mod support;

mod access;
mod admin_sources;
mod adopting;
mod api_faults;
mod audit;
mod batches;
mod breaker;
mod checks;
mod ci_jobs;
mod client_certificates;
mod clocks;
mod command_line;
mod context;
mod crashes;
mod drift;
mod drivers;
mod emergencies;
mod endpoints;
mod examine;
mod expiry;
mod faults;
mod formats;
mod full_disk;
mod grant_effects;
mod grant_faults;
mod grants;
mod hba;
mod idempotency;
mod installed;
mod issuing;
mod kept_leases;
mod kills;
mod leftovers;
mod lent;
mod matrix;
mod metrics;
mod notices;
mod offboarding;
mod otlp;
mod owned;
mod pages;
mod playground;
mod policies;
mod private_state;
mod renewing;
mod requests;
mod restoring;
mod reviews;
mod revoking;
mod rotating;
mod rotating_admins;
mod secrets;
mod setting_up;
mod settings;
mod several_daemons;
mod shutting_out;
mod signing_in;
mod slack;
mod standing;
mod stopping;
mod sweeping;
mod target_faults;
mod targets;
mod tls;
mod tokens;
mod two_daemons;
mod upgrading;
