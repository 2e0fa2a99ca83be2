//! The typed configuration, once it holds.
