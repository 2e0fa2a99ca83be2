//! A session: what a sign-in gives. It ends by itself, sooner if nobody uses it, and is taken from the kind of
//! client alone that it was made for: a browser's cookie is no token, and a token no cookie.

use crate::domain::words::words;

words! {
    /// What a session is for.
    Client {
        /// `pgvalet login`: sent as a token.
        CommandLine = "command-line",
        /// Pages: sent as a cookie.
        Browser = "browser",
    }
}
