//! An error with all that it comes from, as one line of text.

use std::error::Error;

/// What went wrong, and why, cause by cause.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
