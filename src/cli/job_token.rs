//! In a job of GitHub Actions, the runner gives out tokens: one is asked for each request, because they last for
//! minutes and hand out one credential each.

use reqwest::{
    RequestBuilder, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
};

use crate::{
    cli::{
        call::Call, certificates::Certificates, client::Client, environment::Environment,
        failure::Failure,
    },
    secret::Secret,
};

/// Where the runner of a GitHub job gives out tokens.
#[derive(Debug)]
pub(in crate::cli) struct GithubRunner {
    /// One of its own: the authority that signed the daemon's certificate is not the runner's.
    http: reqwest::Client,
    url: Url,
    token: Secret<String>,
}

#[derive(serde::Deserialize)]
struct Given {
    value: Secret<String>,
}

impl GithubRunner {
    /// The runner, if `PGVALET_OIDC=github` says that it is to be asked.
    ///
    /// # Errors
    /// If it says something else, or this is no job that may have tokens.
    pub(in crate::cli) fn of(
        environment: &Environment,
        daemon: &str,
    ) -> Result<Option<Self>, Failure> {
        match environment.text("PGVALET_OIDC").as_deref() {
            None => return Ok(None),
            Some("github") => {}
            Some(_) => {
                return Err(Failure::Usage(
                    "PGVALET_OIDC: write `github`, or leave it out".to_owned(),
                ));
            }
        }
        let no_tokens = || {
            Failure::NotSignedIn(
                "this job may not have a token of GitHub's: write `permissions: { id-token: write }` in the workflow"
                    .to_owned(),
            )
        };
        let url = environment.text("ACTIONS_ID_TOKEN_REQUEST_URL").ok_or_else(no_tokens)?;
        let token = environment.secret("ACTIONS_ID_TOKEN_REQUEST_TOKEN").ok_or_else(no_tokens)?;
        let mut url = Url::parse(&url).map_err(|_| no_tokens())?;
        let audience = environment.text("PGVALET_AUDIENCE");
        let audience = audience.unwrap_or_else(|| daemon.trim_end_matches('/').to_owned());
        url.query_pairs_mut().append_pair("audience", &audience);
        let http = Certificates::default().http_client(&url);
        let http = http.map_err(|source| Failure::Unreachable {
            url: url.origin().ascii_serialization(),
            source,
        })?;
        Ok(Some(Self { http, url, token }))
    }

    /// What stands for the job as long as it runs.
    pub(in crate::cli) const fn token(&self) -> &Secret<String> {
        &self.token
    }

    /// A request with a fresh token of the job's.
    ///
    /// # Errors
    /// If the runner gives none.
    pub(in crate::cli) async fn sign(
        &self,
        request: RequestBuilder,
    ) -> Result<RequestBuilder, Failure> {
        let token = self.fresh().await?;
        let bearer = Secret::new(format!("Bearer {}", token.expose()));
        let mut header = HeaderValue::from_str(bearer.expose())
            .map_err(|_| Failure::NotSignedIn("what the runner gave out is no token".to_owned()))?;
        header.set_sensitive(true);
        Ok(request.headers(HeaderMap::from_iter([(AUTHORIZATION, header)])))
    }

    async fn fresh(&self) -> Result<Secret<String>, Failure> {
        let unreachable = |source: reqwest::Error| Failure::Unreachable {
            url: self.url.origin().ascii_serialization(),
            source: source.without_url(),
        };
        let asked = self.http.get(self.url.clone()).bearer_auth(self.token.expose()).send();
        let answer =
            asked.await.and_then(reqwest::Response::error_for_status).map_err(unreachable)?;
        Ok(answer.json::<Given>().await.map_err(unreachable)?.value)
    }
}

impl Client {
    /// The same in a job, whose runner gives out the tokens.
    #[must_use]
    pub(in crate::cli) fn with_runner(mut self, runner: GithubRunner) -> Self {
        self.runner = Some(runner);
        self
    }

    /// A request as it is sent: in a job with a token of its own.
    ///
    /// # Errors
    /// If the job's runner gives none.
    pub(in crate::cli) async fn signed(&self, call: &Call<'_>) -> Result<RequestBuilder, Failure> {
        let request = self.request(call);
        match &self.runner {
            Some(runner) => runner.sign(request).await,
            None => Ok(request),
        }
    }
}
