//! The rules, in reading order. No async, no clock, no randomness, no I/O.
