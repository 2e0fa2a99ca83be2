//! Webhooks: a signed POST, as the Standard Webhooks specification has it (<https://www.standardwebhooks.com>).
//!
//! Where one is, is looked up whenever it is connected to, and only public addresses are then connected to: a name that
//! leads somewhere else a moment later leads nowhere. Redirects are not followed, no proxy is asked, and what is
//! answered is not read, but for its status and `Retry-After`.

use std::{
    error::Error,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use reqwest::{
    Client, Response, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, RETRY_AFTER},
    redirect::Policy,
};
use serde_json::json;

use crate::{
    causes::causes,
    config::{WebhookConfig, WebhookSecretFault, WebhookUrl, read_webhook_secrets},
    domain::{network::is_public, notice::Notice},
    ids::{AuditId, NoticeId},
    notify::Sent,
    secret::Secret,
};

/// One webhook.
#[derive(Debug)]
pub struct Webhook {
    url: WebhookUrl,
    keys: RwLock<Vec<hmac::Key>>,
    secret_file: Option<PathBuf>,
    http: Client,
    timeout: Duration,
}

impl Webhook {
    /// Makes what it is posted with.
    ///
    /// # Errors
    /// If its certificates cannot be read, or there is no TLS to be had.
    #[expect(
        clippy::disallowed_methods,
        reason = "built here with timeouts, no redirects, no proxy, and a look at each address"
    )]
    pub fn new(config: &WebhookConfig) -> Result<Self, reqwest::Error> {
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .https_only(!config.allow_private)
            .timeout(config.timeout)
            .user_agent(concat!("pgvalet/", env!("CARGO_PKG_VERSION")));
        if !config.allow_private {
            builder = builder.dns_resolver(Arc::new(PublicAlone));
        }
        if let Some(pem) = &config.ca {
            let authorities = reqwest::Certificate::from_pem_bundle(pem.as_bytes())?;
            builder = builder.tls_certs_only(authorities);
        }
        Ok(Self {
            url: config.url.clone(),
            keys: RwLock::new(keys_of(&config.secrets)),
            secret_file: config.secret_file.clone(),
            http: builder.build()?,
            timeout: config.timeout,
        })
    }

    /// Does what it is signed with stand in a file of its own?
    #[must_use]
    pub const fn has_secret_file(&self) -> bool {
        self.secret_file.is_some()
    }

    /// Signs by what stands in the file of its secrets now, if it has one. It waits for the disk.
    ///
    /// # Errors
    /// If the file cannot be used: then it signs as before.
    pub fn read_secrets_again(&self) -> Result<(), WebhookSecretFault> {
        let Some(file) = &self.secret_file else { return Ok(()) };
        let keys = keys_of(&read_webhook_secrets(file)?);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Posts a notice.
    pub async fn send(
        &self,
        id: NoticeId,
        audit_id: AuditId,
        notice: &Notice,
        url: Option<String>,
        now: DateTime<Utc>,
    ) -> Sent {
        let body = json!({
            "type": notice.kind,
            "timestamp": notice.at,
            "data": {
                "id": id, "audit_id": audit_id, "topic": notice.topic, "severity": notice.severity,
                "subject": notice.subject, "title": notice.title, "text": notice.text, "by": notice.by,
                "url": url, "facts": notice.facts,
            },
        })
        .to_string();
        let (id, timestamp) = (id.to_string(), now.timestamp().to_string());
        let signature = self.signature(&id, &timestamp, &body);
        let posted = self
            .http
            .post(self.url.expose().clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body)
            .send()
            .await;
        match posted {
            Ok(answer) => judged(&answer, now),
            Err(error) => Sent::Later { why: self.unanswered(error), after: None },
        }
    }

    fn signature(&self, id: &str, timestamp: &str, body: &str) -> String {
        let signed = format!("{id}.{timestamp}.{body}");
        let by =
            |key: &hmac::Key| format!("v1,{}", STANDARD.encode(hmac::sign(key, signed.as_bytes())));
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().map(by).collect::<Vec<_>>().join(" ")
    }

    fn unanswered(&self, error: reqwest::Error) -> String {
        if error.is_timeout() {
            let words = humantime::format_duration(self.timeout);
            return format!("it did not answer within {words}");
        }
        causes(&error.without_url())
    }
}

fn keys_of(secrets: &[Secret<Vec<u8>>]) -> Vec<hmac::Key> {
    secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret.expose())).collect()
}

fn judged(answer: &Response, now: DateTime<Utc>) -> Sent {
    let status = answer.status();
    if status.is_success() {
        return Sent::Told;
    }
    if status == StatusCode::GONE {
        return Sent::Never { why: "it answered 410: it is gone for good".to_owned() };
    }
    let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let after = after.and_then(|value| wait_asked_for(value, now));
    let led = if status.is_redirection() { ", and redirects are not followed" } else { "" };
    Sent::Later { why: format!("it answered {}{led}", status.as_u16()), after }
}

/// `Retry-After`: seconds, or an instant (RFC 9110, 10.2.3).
fn wait_asked_for(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(value.trim()).ok()?;
    (at.to_utc() - now).to_std().ok()
}

/// Looks names up, and knows public addresses alone.
struct PublicAlone;

impl Resolve for PublicAlone {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found: Vec<SocketAddr> =
                tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let public: Vec<_> =
                found.into_iter().filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                let why = format!("{name} has no public address, and `allow_private` is not set");
                return Err(Box::<dyn Error + Send + Sync>::from(why));
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn a_known_signature_is_made() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let webhook = Webhook {
            url: WebhookUrl::new("https://example.org/hunter2".parse().unwrap()),
            keys: RwLock::new(keys_of(&[Secret::new(key)])),
            secret_file: None,
            http: Client::default(),
            timeout: Duration::from_secs(1),
        };
        let made = webhook.signature(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert!(!format!("{webhook:?}").contains("hunter2"), "{webhook:?}");
    }

    #[test]
    fn how_long_to_wait_is_read_in_both_forms() {
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sat, 21 Nov 2026 12:01:30 GMT", Some(90)),
            ("Sat, 21 Nov 2026 11:00:00 GMT", None),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(wait_asked_for(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
