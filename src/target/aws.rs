//! Tokens for AWS RDS: a request to `rds-db` that is signed and never sent. Its URL, without the scheme, is
//! the password for a quarter of an hour
//! (<https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html>).
//!
//! The signature is AWS' own crate's: Signature Version 4 has been got wrong often enough.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use chrono::{DateTime, Utc};
use reqwest::Url;

use crate::secret::Secret;

/// What AWS knows the daemon by.
#[derive(Debug)]
pub struct AwsKeys {
    /// The id of the access key.
    pub id: String,
    /// The access key.
    pub secret: Secret<String>,
    /// The token of a session, if the key is one's.
    pub session: Option<Secret<String>>,
}

/// As long as AWS lets such a token be used.
const LIFETIME: Duration = Duration::from_secs(900);

/// A token that lets a user in at a server until a quarter of an hour from now.
pub(crate) fn rds_token(
    keys: &AwsKeys,
    region: &str,
    (host, port, user): (&str, u16, &str),
    now: DateTime<Utc>,
) -> Result<Secret<String>, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("it cannot be made: {e}");
    let query = [("Action", "connect"), ("DBUser", user)];
    let url = Url::parse_with_params(&format!("https://{host}:{port}/"), query);
    let url = url.map_err(|e| wrong(&e))?;
    let signed = presigned(keys, (region, "rds-db"), url, (now, LIFETIME));
    let url = Secret::new(signed.map_err(|e| wrong(&e))?);
    let token = url.expose().strip_prefix("https://").unwrap_or_default();
    Ok(Secret::new(token.to_owned()))
}

/// The URL of a GET that is allowed for a time to whoever has it.
fn presigned(
    keys: &AwsKeys,
    (region, service): (&str, &str),
    mut url: Url,
    (now, lifetime): (DateTime<Utc>, Duration),
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let session = keys.session.as_ref().map(|session| session.expose().clone());
    let credentials =
        Credentials::new(&keys.id, keys.secret.expose().clone(), session, None, "pgvalet");
    let identity = credentials.into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(lifetime);
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(now.into())
        .settings(settings)
        .build()?
        .into();
    let request =
        SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[]))?;
    let (instructions, _) = sign(request, &parameters)?.into_parts();
    url.query_pairs_mut().extend_pairs(instructions.params());
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn keys(id: &str, secret: &str, session: Option<&str>) -> AwsKeys {
        AwsKeys {
            id: id.to_owned(),
            secret: Secret::new(secret.to_owned()),
            session: session.map(|session| Secret::new(session.to_owned())),
        }
    }

    /// `query-signature.txt` of AWS' Signature Version 4 test suite.
    #[test]
    fn it_signs_as_the_published_test_suite_says() {
        const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        const SESSION: &str = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267";
        let time = (at("2015-08-30T12:36:00Z"), Duration::from_secs(3600));
        for (query, session, signature) in [
            ("", None, "e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"),
            ("", Some(SESSION), "7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c"),
            (
                "?Param2=value2&Param1=value1",
                None,
                "86012e2c9ad4d77369f5d81c11f75158aae4f895a085212cc6d3f923d300bed5",
            ),
        ] {
            let url: Url = format!("https://example.amazonaws.com/{query}").parse().unwrap();
            let keys = keys("AKIDEXAMPLE", SECRET, session);
            let signed = presigned(&keys, ("us-east-1", "service"), url, time).unwrap();
            assert!(signed.contains(&format!("&X-Amz-Signature={signature}")), "{signed}");
        }
    }

    /// What botocore's `generate_db_auth_token` gives for the same, sign by sign; AWS' documentation shows
    /// this form.
    #[test]
    fn a_token_is_what_aws_own_library_makes() {
        const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let now = at("2026-11-21T17:00:00Z");
        let place = ("shop.cluster-abc.eu-west-1.rds.amazonaws.com", 5432, "pgvalet_admin");
        let begins = "shop.cluster-abc.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser=pgvalet_admin&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20261121%2Feu-west-1%2Frds-db%2Faws4_request&X-Amz-Date=20261121T170000Z&";
        for (session, parts) in [
            (
                None,
                &[
                    "X-Amz-Expires=900",
                    "X-Amz-SignedHeaders=host",
                    "X-Amz-Signature=190810c553ed0eabe7fedd7309cb39524e5128554083df9758c0c656898712cc",
                ][..],
            ),
            (
                Some("a/b+c=="),
                &[
                    "X-Amz-Expires=900",
                    "X-Amz-Security-Token=a%2Fb%2Bc%3D%3D",
                    "X-Amz-SignedHeaders=host",
                    "X-Amz-Signature=9a20f335ce1bbac8e4f893fb1f244329575f23f4569ea019e77e29ad8155f795",
                ],
            ),
        ] {
            let keys = keys("AKIDEXAMPLE", SECRET, session);
            let token = rds_token(&keys, "eu-west-1", place, now).unwrap();
            // In which order the middle ones stand is all the same to the server.
            let rest = token.expose().strip_prefix(begins).unwrap();
            let mut rest: Vec<_> = rest.split('&').collect();
            let mut parts = parts.to_vec();
            rest.sort_unstable();
            parts.sort_unstable();
            assert_eq!(rest, parts);
        }
    }
}
