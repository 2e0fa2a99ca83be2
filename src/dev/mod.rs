//! The playground.

pub mod shop;
