//! Signals, the stop token, and the task tracker that every spawned task goes through.
