//! The rules, in reading order. No async, no clock, no randomness, no I/O: facts and `now` go in,
//! data with a reason comes out, so that each rule can be tested whole.

pub mod access;
pub mod admin_source;
pub mod administration;
pub mod approval;
pub mod audit;
pub mod backoff;
pub mod breaker;
pub mod caution;
pub mod ci;
pub mod conditions;
pub mod diagnosis;
pub mod duration;
pub mod emergency;
pub mod explanation;
pub mod lease;
pub mod name;
pub mod offboarding;
pub mod person;
pub mod pg_hba;
pub mod plan;
pub mod policy;
pub mod principal;
pub mod profile;
pub mod profile_file;
pub mod reconcile;
pub mod request;
pub mod rights;
pub mod role;
pub mod schedule;
pub mod session;
pub mod standing;
pub mod sweep;
pub mod target;
mod words;
