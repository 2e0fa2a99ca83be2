//! From a request to a [`Caller`]: where it came from, and who it proved to be. A handler that takes
//! [`SignedIn`] cannot be reached without a token, and its body is not read before.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, header, request::Parts},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::admin::Whoami,
    app::{App, Origin, error::Error},
    http::{
        json::Json,
        parameters::{Nothing, Query},
        problem::Failure,
    },
    identity::{Admin, Caller},
    ids::RequestId,
};

/// A caller with a good token.
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
        what: &'static str,
    ) -> Result<Admin<'_>, Failure> {
        Ok(app.admin(&self.caller, &self.origin, what).await?)
    }
}

impl FromRequestParts<Arc<App>> for SignedIn {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let origin = origin(parts);
        let caller = app.sign_in(bearer(&parts.headers)?, &origin).await?;
        Ok(Self { caller, origin })
    }
}

/// Where a request came from. The address is that of the connection: a header would be the caller's
/// own word, and the throttle and the audit go by it.
fn origin(parts: &Parts) -> Origin {
    let request_id = parts.extensions.get::<RequestId>().copied().unwrap_or_else(RequestId::new);
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let source = peer.map(|ConnectInfo(address)| address.ip().to_canonical());
    Origin { request_id, source }
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
        token_id: signed_in.caller.token_id(),
        token_expires_at: signed_in.caller.token_expires_at(),
    })
}
