//! The JSON that http and cli share.
