//! From a request to a [`Caller`]: where it came from, and who it proved to be. A handler that takes
//! [`SignedIn`] cannot be reached without a token or a client's certificate, and its body is not read
//! before.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::admin::Whoami,
    app::{App, Origin, error::Error},
    domain::administration::Right,
    http::{
        cookie::{self, Cookie},
        json::Json,
        parameters::{Nothing, Query},
        problem::Failure,
    },
    identity::{Admin, Caller, certificate::ClientCertificate},
    ids::RequestId,
};

/// Where proxies write whom they were asked by.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// A caller with a good token or certificate.
pub(in crate::http) struct SignedIn {
    /// Who it is.
    pub(in crate::http) caller: Caller,
    /// Where the request came from.
    pub(in crate::http) origin: Origin,
}

impl SignedIn {
    /// The right to administer, for what is named. A refusal is audited.
    pub(in crate::http) async fn admin(
        &self,
        app: &App,
        right: Right,
        what: &'static str,
    ) -> Result<Admin<'_>, Failure> {
        self.admin_of(app, &[right], what).await
    }

    /// One of several rights, where what is asked for may need any of them: it is asked again for each part.
    pub(in crate::http) async fn admin_of(
        &self,
        app: &App,
        rights: &[Right],
        what: &'static str,
    ) -> Result<Admin<'_>, Failure> {
        Ok(app.admin(&self.caller, &self.origin, (rights, what)).await?)
    }
}

impl FromRequestParts<Arc<App>> for SignedIn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let origin = origin(parts, app);
        let bearer = bearer(&parts.headers)?;
        let certificate = parts.extensions.get::<ClientCertificate>();
        let caller = match (Cookie::Session.read(&parts.headers, app), certificate) {
            // A token that is sent is meant; a cookie and a certificate are sent by themselves.
            _ if bearer.is_some() => app.sign_in(bearer, &origin).await?,
            (Some(cookie), _) => {
                if !cookie::may_speak(&parts.method, &parts.headers, app) {
                    return Err(another_page());
                }
                app.sign_in_by_cookie(cookie.expose(), &origin).await?
            }
            (None, Some(certificate)) => app.sign_in_by_certificate(certificate, &origin).await?,
            (None, None) => app.sign_in(None, &origin).await?,
        };
        Ok(Self { caller, origin })
    }
}

/// A cookie came with a request that no page of ours made.
pub(in crate::http) fn another_page() -> Failure {
    let detail = "a cookie speaks for pages of pgvalet itself, and this request comes from elsewhere: send a token";
    Failure::new(StatusCode::FORBIDDEN, "another_page", detail)
}

/// Where a request of somebody comes from who is not signed in, and need not be.
pub(in crate::http) struct From(pub(in crate::http) Origin);

impl FromRequestParts<Arc<App>> for From {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Infallible> {
        Ok(Self(origin(parts, app)))
    }
}

/// Where a request came from: the throttle, the audit, and the networks of profiles go by it.
fn origin(parts: &Parts, app: &App) -> Origin {
    let request_id = parts.extensions.get::<RequestId>().copied().unwrap_or_else(RequestId::new);
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let peer = peer.map(|ConnectInfo(address)| address.ip().to_canonical());
    let source = peer.map(|peer| {
        source(peer, &parts.headers, |address| app.is_trusted_proxy(address)).unwrap_or(peer)
    });
    Origin { request_id, source }
}

/// The address that the outermost of our own proxies was asked from. What the caller itself wrote into the
/// header stands further left, and is nobody's word but its own. None if no proxy of ours says it.
fn source(
    peer: IpAddr,
    headers: &HeaderMap,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    if !is_trusted(peer) {
        return None;
    }
    let lines: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
    let mut seen = None;
    for line in lines.iter().rev() {
        for address in line.to_str().ok()?.rsplit(',') {
            // What cannot be read ends it: the last one that a proxy of ours vouched for counts.
            let Ok(address) = address.trim().parse::<IpAddr>() else { return seen };
            let address = address.to_canonical();
            if !is_trusted(address) {
                return Some(address);
            }
            seen = Some(address);
        }
    }
    seen
}

/// The text after `Bearer `, if the header is there. Two headers are refused: proxies on the way
/// differ in which of them they look at.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Error> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::TokenRefused);
    }
    let text = value.to_str().map_err(|_| Error::TokenRefused)?;
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(token.trim())),
        _ => Err(Error::TokenMissing),
    }
}

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(whoami))
}

/// Who am I?
///
/// Answers whose token it is, its groups and rights, and when it ends.
#[utoipa::path(get, path = "/v1/whoami", tag = "tokens", operation_id = "whoAmI", responses((status = 200, body = Whoami)))]
async fn whoami(signed_in: SignedIn, Query(Nothing {}): Query<Nothing>) -> Json<Whoami> {
    let principal = signed_in.caller.principal();
    Json(Whoami {
        principal_id: principal.id,
        principal: principal.to_string(),
        issuer: principal.issuer.clone(),
        groups: principal.groups.iter().map(ToString::to_string).collect(),
        claims: principal.claims.clone(),
        admin: principal.admin,
        rights: signed_in.caller.rights().iter().collect(),
        may_ask: signed_in.caller.may_ask(),
        token_id: signed_in.caller.token_id(),
        certificate: signed_in.caller.certificate().map(str::to_owned),
        session: signed_in.caller.session(),
        token_expires_at: signed_in.caller.proof_ends_at(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_believed_as_far_as_our_own_proxies_vouch_for_it() {
        let ours = |address: IpAddr| address.to_string().starts_with("10.");
        let cases: [(&str, &[&str], Option<&str>); 8] = [
            ("10.0.0.1", &["203.0.113.7"], Some("203.0.113.7")),
            ("10.0.0.1", &["192.0.2.1, 203.0.113.7"], Some("203.0.113.7")),
            ("10.0.0.1", &["192.0.2.1", "203.0.113.7, 10.0.0.2"], Some("203.0.113.7")),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], Some("10.0.0.3")),
            ("10.0.0.1", &["203.0.113.7, nonsense, 10.0.0.2"], Some("10.0.0.2")),
            ("10.0.0.1", &["nonsense"], None),
            ("10.0.0.1", &[], None),
            ("198.51.100.1", &["203.0.113.7"], None),
        ];
        for (peer, lines, wanted) in cases {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, line.parse().unwrap());
            }
            let seen = source(peer.parse().unwrap(), &headers, ours);
            assert_eq!(seen, wanted.map(|text| text.parse().unwrap()), "{peer} {lines:?}");
        }
    }
}
