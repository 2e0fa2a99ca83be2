//! Callers of the API. Every secret that an answer hands out is remembered, so that the end of each
//! test can look for it where it must not be.

use std::sync::{Arc, Mutex};

use reqwest::{Method, header::HeaderMap};
use serde_json::Value;

/// Every password and token that was handed out in one test.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Arc<Mutex<Vec<String>>>);

impl Secrets {
    pub(crate) fn remember(&self, secret: &str) {
        self.0.lock().unwrap().push(secret.to_owned());
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Those that occur in the text.
    pub(crate) fn found_in(&self, text: &str) -> Vec<String> {
        // Of a token `pgv_<id>_<secret>`, whose id is no secret, the part behind that.
        let secret = |given: &String| match given.strip_prefix("pgv_") {
            Some(token) => token.split_once('_').expect("a token").1.to_owned(),
            None => given.clone(),
        };
        self.all().iter().map(secret).filter(|secret| text.contains(secret)).collect()
    }
}

/// Somebody with a token, at one daemon.
#[derive(Clone)]
pub(crate) struct Person {
    pub(crate) url: String,
    pub(crate) token: String,
    secrets: Secrets,
    http: reqwest::Client,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Null if it is no JSON.
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Answer {
    /// Stops the test if the status is another one; gives the body.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    /// The same for a problem of this code.
    #[track_caller]
    pub(crate) fn expect_problem(self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(body["code"], code, "{body}");
        body
    }
}

impl Person {
    pub(crate) fn new(url: &str, token: &str, secrets: &Secrets) -> Self {
        secrets.remember(token);
        let http = reqwest::Client::builder().no_proxy().timeout(super::seconds(60)).build();
        Self {
            url: url.to_owned(),
            token: token.to_owned(),
            secrets: secrets.clone(),
            http: http.unwrap(),
        }
    }

    /// The same one at another daemon.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// The same one with another token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self::new(&self.url, token, &self.secrets)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None, &[]).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::POST, path, Some(body), &[]).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.call(Method::PUT, path, Some(body), &[]).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None, &[]).await
    }

    /// Any request. Stops the test if no answer comes.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.try_call(method, path, body, headers).await.unwrap()
    }

    /// Any request, which may find no daemon.
    pub(crate) async fn try_call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> reqwest::Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        request = request.bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        for secret in [&body["credential"]["password"], &body["secret"]] {
            if let Some(secret) = secret.as_str() {
                self.secrets.remember(secret);
            }
        }
        Ok(Answer { status, headers, body, text })
    }

    /// Asks for a lease, with a body made of the profile and what else is given.
    pub(crate) async fn ask(&self, profile: &str, more: Value) -> Answer {
        self.post("/v1/leases", &wish(profile, more)).await
    }

    /// Asks under an idempotency key.
    pub(crate) async fn ask_with_key(&self, key: &str, profile: &str, more: Value) -> Answer {
        let body = wish(profile, more);
        self.call(Method::POST, "/v1/leases", Some(&body), &[("Idempotency-Key", key)]).await
    }

    /// A lease that is there.
    pub(crate) async fn lease(&self, id: &str) -> Value {
        self.get(&format!("/v1/leases/{id}")).await.expect(200)
    }

    pub(crate) async fn renew(&self, id: &str, body: Value) -> Answer {
        self.post(&format!("/v1/leases/{id}/renew"), &body).await
    }

    pub(crate) async fn rotate(&self, id: &str) -> Answer {
        self.call(Method::POST, &format!("/v1/leases/{id}/rotate"), None, &[]).await
    }

    pub(crate) async fn revoke(&self, id: &str) -> Answer {
        self.delete(&format!("/v1/leases/{id}")).await
    }

    /// The audit of one lease: the kinds of its entries, oldest first.
    pub(crate) async fn audit_of(&self, lease: &str) -> Vec<String> {
        let page = self.get(&format!("/v1/audit?lease_id={lease}&limit=100")).await.expect(200);
        let kind = |item: &Value| item["entry"]["event"]["kind"].as_str().unwrap().to_owned();
        page["items"].as_array().unwrap().iter().rev().map(kind).collect()
    }
}

fn wish(profile: &str, more: Value) -> Value {
    let mut body = serde_json::json!({ "profile": profile });
    if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
        body.extend(more);
    }
    body
}

/// The id of the lease in an answer that issued one.
#[track_caller]
pub(crate) fn lease_id(issued: &Value) -> String {
    issued["lease"]["id"].as_str().expect("an answer with a lease").to_owned()
}
