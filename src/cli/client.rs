//! The API over HTTP: one method for each thing that is asked.
//!
//! A request that may be made twice without harm is made again once if the connection breaks before
//! an answer: asking for a lease is one of those, because it carries an `Idempotency-Key`. Rotating
//! is not: each call makes another login.

use std::time::Duration;

use aws_lc_rs::digest;
use reqwest::{StatusCode, Url, header};

use crate::{
    api::{
        admin::{Adopt, Code, CreateToken, Export, Plan, ReceivedToken, Whoami},
        audit::Verification,
        leases::{AskForLease, Lease, ReceivedIssued, Renew, Renewed, Revocation, RevokeSet},
        problem::{PROBLEM_JSON, Problem},
        status::Status,
    },
    cli::{
        address::{self, Transport},
        call::{Call, Repeat},
        certificates::Certificates,
        failure::Failure,
        job_token::GithubRunner,
    },
    ids::{LeaseId, TokenId},
    secret::Secret,
};

/// Longer than any answer but an audit export, which is not kept in memory.
const LONGEST_ANSWER: usize = 64 << 20;

/// A daemon's address and who asks.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    /// None if the client's certificate says who asks, or nobody yet.
    token: Option<Secret<String>>,
    trace: Vec<(&'static str, String)>,
    /// In a job, who gives out its tokens.
    pub(in crate::cli) runner: Option<GithubRunner>,
}

/// An answer, read; and as it came, for `--json`.
#[derive(Debug)]
pub struct Answer<T> {
    /// The HTTP status.
    pub status: u16,
    /// What it says.
    pub value: T,
    /// Its bytes. They may hold a credential.
    pub body: Secret<Vec<u8>>,
}

impl Client {
    /// A client of the daemon at `url`, with a token.
    ///
    /// # Errors
    /// If the address is not one that a token may be sent to.
    pub fn new(url: &str, token: Secret<String>) -> Result<Self, Failure> {
        Self::over((Transport::Protected, Certificates::default()), url, Some(token))
    }

    /// The same, where the caller decides what the token may travel over, and which certificates count.
    ///
    /// # Errors
    /// If the address is not one that the token may be sent to.
    pub fn over(
        (transport, certificates): (Transport, Certificates),
        url: &str,
        token: Option<Secret<String>>,
    ) -> Result<Self, Failure> {
        let base = address::read(url, transport)?;
        let is_one =
            |token: &String| !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        if !token.as_ref().is_none_or(|token| is_one(token.expose())) {
            return Err(Failure::NotSignedIn(
                "the token is not one: it is empty, or holds a space or a control character"
                    .to_owned(),
            ));
        }
        let http = certificates
            .http_client(&base)
            .map_err(|source| Failure::Unreachable { url: base.to_string(), source })?;
        Ok(Self { http, base, token, trace: Vec::new(), runner: None })
    }

    /// The same, as part of a trace: its headers, as W3C has them.
    #[must_use]
    pub fn in_trace(self, trace: Vec<(&'static str, String)>) -> Self {
        Self { trace, ..self }
    }

    /// The daemon's address.
    #[must_use]
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// What tells this token from others, and gives nothing of it away.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let token = self.token.as_ref().map_or("", |token| token.expose());
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Who the daemon takes the token for.
    ///
    /// # Errors
    /// As each of the methods: the daemon is unavailable, or refuses.
    pub async fn whoami(&self) -> Result<Answer<Whoami>, Failure> {
        self.read(Call::get(&["v1", "whoami"])).await
    }

    /// Asks for a lease. The same key gives the same lease, its credential the first time only.
    ///
    /// # Errors
    /// Also if it waits for approval ([`Failure::Pending`]).
    pub async fn ask(
        &self,
        wish: &AskForLease,
        key: &str,
    ) -> Result<Answer<ReceivedIssued>, Failure> {
        let call = Call { key: Some(key), ..Call::post(&["v1", "leases"], wish)?.repeatable() };
        parse_unless_it_waits(self.send(call).await?)
    }

    /// One lease.
    ///
    /// # Errors
    /// Also if there is none of that id.
    pub async fn lease(&self, id: LeaseId) -> Result<Answer<Lease>, Failure> {
        self.read(Call::get(&["v1", "leases", &id.to_string()])).await
    }

    /// Makes a lease last longer.
    ///
    /// # Errors
    /// Also if it lasts as long as its profile allows already, or is over.
    pub async fn renew(&self, id: LeaseId, renew: &Renew) -> Result<Answer<Renewed>, Failure> {
        let id = id.to_string();
        // A second renewal counts from its own instant too, so that it does no harm.
        let path = ["v1", "leases", &id, "renew"];
        parse_unless_it_waits(self.send(Call::post(&path, renew)?.repeatable()).await?)
    }

    /// Gives a lease a fresh login.
    ///
    /// # Errors
    /// Also if it is over.
    pub async fn rotate(&self, id: LeaseId) -> Result<Answer<ReceivedIssued>, Failure> {
        let id = id.to_string();
        self.read(Call::post(&["v1", "leases", &id, "rotate"], &serde_json::json!({}))?).await
    }

    /// Revokes a lease: status 200 once it is gone, 202 while it is being revoked.
    ///
    /// # Errors
    /// Also if there is none of that id.
    pub async fn revoke(&self, id: LeaseId) -> Result<Answer<Revocation>, Failure> {
        self.read(Call::delete(&["v1", "leases", &id.to_string()])).await
    }

    /// Revokes every lease that meets all that is given.
    ///
    /// # Errors
    /// Also if nothing is given.
    pub async fn revoke_set(&self, set: &RevokeSet) -> Result<Answer<Revocation>, Failure> {
        self.read(Call::post(&["v1", "revocations"], set)?.repeatable()).await
    }

    /// What a file of targets and profiles would change.
    ///
    /// # Errors
    /// Also if the file has faults.
    pub async fn plan(&self, code: &Code) -> Result<Answer<Plan>, Failure> {
        self.code("plan", code).await
    }

    /// Changes targets and profiles to what a file says.
    ///
    /// # Errors
    /// Also if the file has faults.
    pub async fn apply(&self, code: &Code) -> Result<Answer<Plan>, Failure> {
        self.code("apply", code).await
    }

    /// `Code` leaves its secrets out when it is written, so that it can never be logged with them.
    /// This is the one place that sends them.
    async fn code(&self, what: &str, code: &Code) -> Result<Answer<Plan>, Failure> {
        #[derive(serde::Serialize)]
        struct Sent<'a> {
            name: &'a str,
            text: &'a str,
            secrets: std::collections::BTreeMap<&'a str, &'a str>,
        }
        let secrets = code.secrets.iter().map(|(k, v)| (k.as_str(), v.expose().as_str())).collect();
        let sent = Sent { name: &code.name, text: &code.text, secrets };
        self.read(Call::post(&["v1", what], &sent)?.repeatable()).await
    }

    /// A first file of profiles from the grants of a database.
    ///
    /// # Errors
    /// As each of the methods.
    pub async fn adopt(&self, ask: &Adopt) -> Result<Answer<Export>, Failure> {
        self.read(Call::post(&["v1", "adopt"], ask)?.repeatable()).await
    }

    /// All targets and profiles as a file.
    ///
    /// # Errors
    /// As each of the methods.
    pub async fn export(&self) -> Result<Answer<Export>, Failure> {
        self.read(Call::get(&["v1", "export"])).await
    }

    /// Makes a token.
    ///
    /// # Errors
    /// As each of the methods.
    pub async fn create_token(&self, wish: &CreateToken) -> Result<Answer<ReceivedToken>, Failure> {
        self.read(Call::post(&["v1", "tokens"], wish)?).await
    }

    /// Ends a token.
    ///
    /// # Errors
    /// Also if there is none of that id.
    pub async fn revoke_token(&self, id: TokenId) -> Result<(), Failure> {
        self.send(Call::delete(&["v1", "tokens", &id.to_string()])).await.map(drop)
    }

    /// One record (`targets`, `profiles`, `standing-roles`) by name.
    ///
    /// # Errors
    /// Also if there is none of that name.
    pub async fn record<T: serde::de::DeserializeOwned>(
        &self,
        kind: &str,
        name: &str,
    ) -> Result<Answer<T>, Failure> {
        self.read(Call::get(&["v1", kind, name])).await
    }

    /// Removes what is at a path.
    ///
    /// # Errors
    /// Also if there is nothing.
    pub(in crate::cli) async fn delete(&self, path: &[&str]) -> Result<(), Failure> {
        self.send(Call::delete(path)).await.map(drop)
    }

    /// Removes a record.
    ///
    /// # Errors
    /// Also if there is none of that name, or something still needs it.
    pub async fn remove(&self, kind: &str, name: &str) -> Result<(), Failure> {
        self.delete(&["v1", kind, name]).await
    }

    /// A part of a record, such as the credential of a standing role.
    ///
    /// # Errors
    /// Also if there is none for the caller.
    pub async fn part<T: serde::de::DeserializeOwned>(
        &self,
        [kind, name, part]: [&str; 3],
    ) -> Result<Answer<T>, Failure> {
        self.read(Call::get(&["v1", kind, name, part])).await
    }

    /// Something done to a record, such as a rotation.
    ///
    /// # Errors
    /// Also if it fails.
    pub async fn act<T: serde::de::DeserializeOwned, B: serde::Serialize>(
        &self,
        [kind, name, verb]: [&str; 3],
        body: &B,
    ) -> Result<Answer<T>, Failure> {
        self.read(Call::post(&["v1", kind, name, verb], body)?).await
    }

    /// How the installation stands.
    ///
    /// # Errors
    /// As each of the methods.
    pub async fn status(&self) -> Result<Answer<Status>, Failure> {
        self.read(Call::get(&["v1", "status"])).await
    }

    /// What the daemon finds when it checks its audit.
    ///
    /// # Errors
    /// As each of the methods.
    pub async fn verify_audit(&self) -> Result<Answer<Verification>, Failure> {
        self.read(Call::get(&["v1", "audit", "verify"])).await
    }

    /// The whole audit as JSON lines, piece by piece to `take`: it may be larger than the memory.
    ///
    /// # Errors
    /// Also what `take` returns.
    pub async fn export_audit(
        &self,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let call = Call::get(&["v1", "audit", "export"]);
        let request = self.signed(&call).await?.timeout(LONGEST_EXPORT);
        let mut response = request.send().await.map_err(|e| self.unreachable(e))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        while let Some(piece) = response.chunk().await.map_err(|e| self.unreachable(e))? {
            take(&piece)?;
        }
        Ok(())
    }

    pub(in crate::cli) async fn read<T: serde::de::DeserializeOwned>(
        &self,
        call: Call<'_>,
    ) -> Result<Answer<T>, Failure> {
        parse(self.send(call).await?)
    }

    /// An answer that is text, as it came.
    pub(in crate::cli) async fn text(&self, call: Call<'_>) -> Result<String, Failure> {
        let raw = self.send(call).await?;
        Ok(String::from_utf8_lossy(raw.body.expose()).into_owned())
    }

    /// Something done that answers nothing.
    pub(in crate::cli) async fn done(&self, call: Call<'_>) -> Result<(), Failure> {
        self.send(call).await.map(drop)
    }

    pub(in crate::cli) async fn send(&self, call: Call<'_>) -> Result<Raw, Failure> {
        let response = match self.signed(&call).await?.send().await {
            Err(error) if call.repeat == Repeat::Safe && broke_off(&error) => {
                self.signed(&call).await?.send().await
            }
            other => other,
        }
        .map_err(|e| self.unreachable(e))?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let status = response.status().as_u16();
        Ok(Raw { status, body: self.body(response).await? })
    }

    pub(in crate::cli) fn request(&self, call: &Call<'_>) -> reqwest::RequestBuilder {
        let mut url = self.base.clone();
        // An address that cannot have segments was refused when the client was made.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(call.path);
        }
        let mut request = self.http.request(call.method.clone(), url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        for (name, value) in &self.trace {
            request = request.header(*name, value);
        }
        if !call.query.is_empty() {
            request = request.query(&call.query);
        }
        if let Some(key) = call.key {
            request = request.header("Idempotency-Key", key);
        }
        if let Some(body) = &call.body {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .body(body.expose().clone());
        }
        request
    }

    async fn body(&self, mut response: reqwest::Response) -> Result<Secret<Vec<u8>>, Failure> {
        let mut body = Secret::new(Vec::new());
        while let Some(piece) = response.chunk().await.map_err(|e| self.unreachable(e))? {
            body.expose_mut().extend_from_slice(&piece);
            if body.expose().len() > LONGEST_ANSWER {
                return Err(Failure::TooLong(LONGEST_ANSWER));
            }
        }
        Ok(body)
    }

    async fn refusal(&self, response: reqwest::Response) -> Failure {
        let status = response.status().as_u16();
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let is_problem = kind.is_some_and(|kind| kind.starts_with(PROBLEM_JSON));
        let read = match self.body(response).await {
            Ok(body) if is_problem => serde_json::from_slice::<Problem>(body.expose()).ok(),
            _ => None,
        };
        match read {
            Some(problem) => Failure::Refused(Box::new(Problem { status, ..problem })),
            None => {
                let hint = match status {
                    300..=399 => {
                        ": redirects are not followed with a token; give the address that it leads to"
                    }
                    404 => ": is this the address of the daemon itself?",
                    _ => "",
                };
                Failure::Foreign { url: self.url().to_owned(), status, hint }
            }
        }
    }

    fn unreachable(&self, source: reqwest::Error) -> Failure {
        // Without its address: the message names it already, and a query may hold a person's name.
        Failure::Unreachable { url: self.url().to_owned(), source: source.without_url() }
    }
}

/// An export is as long as the audit is; an hour is far from normal.
const LONGEST_EXPORT: Duration = Duration::from_secs(3600);

/// An answer before it is read.
pub(in crate::cli) struct Raw {
    pub(in crate::cli) status: u16,
    body: Secret<Vec<u8>>,
}

pub(in crate::cli) fn parse<T: serde::de::DeserializeOwned>(
    raw: Raw,
) -> Result<Answer<T>, Failure> {
    let value = serde_json::from_slice(raw.body.expose()).map_err(Failure::Unreadable)?;
    Ok(Answer { status: raw.status, value, body: raw.body })
}

/// What was asked for; or what waits, if others must agree to it first.
fn parse_unless_it_waits<T: serde::de::DeserializeOwned>(raw: Raw) -> Result<Answer<T>, Failure> {
    if raw.status == StatusCode::ACCEPTED.as_u16() {
        return Err(Failure::Pending(Box::new(parse(raw)?.value)));
    }
    parse(raw)
}

/// Did the connection break after it stood and before an answer came?
fn broke_off(error: &reqwest::Error) -> bool {
    error.is_request() && !error.is_connect() && !error.is_timeout()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_segments_below_the_daemons_path() {
        let token = Secret::new("pgv_x".to_owned());
        let client = Client::new("https://example.org/below/", token).unwrap();
        let request = client.request(&Call::get(&["v1", "targets", "a/../b c"])).build().unwrap();
        assert_eq!(request.url().as_str(), "https://example.org/below/v1/targets/a%2F..%2Fb%20c");
    }
}
