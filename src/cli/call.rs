//! One request to the daemon, before it is sent.

use std::time::Duration;

use reqwest::{Method, Url};

use crate::{cli::failure::Failure, secret::Secret};

/// May a request be made twice?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Repeat {
    Safe,
    Unsafe,
}

/// One request.
pub(in crate::cli) struct Call<'a> {
    pub(in crate::cli) method: Method,
    pub(in crate::cli) path: &'a [&'a str],
    pub(in crate::cli) query: Vec<(&'static str, String)>,
    pub(in crate::cli) body: Option<Secret<Vec<u8>>>,
    pub(in crate::cli) key: Option<&'a str>,
    pub(in crate::cli) repeat: Repeat,
}

impl<'a> Call<'a> {
    pub(in crate::cli) fn get(path: &'a [&'a str]) -> Self {
        let (method, repeat) = (Method::GET, Repeat::Safe);
        Self { method, path, query: Vec::new(), body: None, key: None, repeat }
    }

    pub(in crate::cli) fn post<T: serde::Serialize>(
        path: &'a [&'a str],
        body: &T,
    ) -> Result<Self, Failure> {
        let body = serde_json::to_vec(body).map(Secret::new).map_err(Failure::Unreadable)?;
        let (method, repeat) = (Method::POST, Repeat::Unsafe);
        Ok(Self { method, path, query: Vec::new(), body: Some(body), key: None, repeat })
    }

    pub(in crate::cli) fn delete(path: &'a [&'a str]) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    pub(in crate::cli) fn repeatable(self) -> Self {
        Self { repeat: Repeat::Safe, ..self }
    }
}

/// What requests are sent with: bounded in time, led nowhere else.
#[expect(
    clippy::disallowed_methods,
    reason = "the client's own: the command line is another program than the daemon, with other limits"
)]
pub(in crate::cli) fn http_client(base: &Url) -> Result<reqwest::Client, reqwest::Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("pgvalet/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(60));
    if base.scheme() == "http" {
        // A proxy from the environment would read the token of a request that is not encrypted.
        builder = builder.no_proxy();
    }
    builder.build()
}
