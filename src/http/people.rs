//! Whom pgvalet knows: listed, shown, shut out, let in again, linked, given groups.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        Page,
        people::{Groups, Identity, Link, Principal},
    },
    app::{self, App, ListedPrincipal, PrincipalFilter},
    domain::{administration::Right, person::Which, principal::Kind},
    http::{
        caller::SignedIn,
        json::Json,
        parameters::{Limit, Nothing, Path, Query},
        problem::Failure,
    },
    ids::PrincipalId,
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(disable))
        .routes(routes!(enable))
        .routes(routes!(link, unlink))
        .routes(routes!(groups))
}

/// Which principals to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PrincipalQuery {
    /// Only those of this kind.
    #[param(inline)]
    kind: Option<Kind>,
    /// `next_cursor` of the page before.
    cursor: Option<PrincipalId>,
    /// How many items at most: 1 to 200, 50 if left out.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200)]
    limit: Limit,
}

/// Which identity of a principal.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct IdentityQuery {
    /// Whose word it is: the issuer, to the letter.
    issuer: String,
    /// Its key for the person.
    subject: String,
}

const WHAT: &str = "looking after people";

/// List principals.
///
/// People, services and CI rules, newest first.
#[utoipa::path(
    get,
    path = "/v1/principals",
    tag = "people", operation_id = "listPrincipals",
    params(PrincipalQuery),
    responses((status = 200, body = Page<Principal>))
)]
async fn list(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(query): Query<PrincipalQuery>,
) -> Result<Json<Page<Principal>>, Failure> {
    let admin = signed_in.admin(&app, Right::People, WHAT).await?;
    let filter = PrincipalFilter { id: None, kind: query.kind, before: query.cursor };
    let found = app.principals(&admin, filter, query.limit.with_one_more()).await?;
    Ok(Json(query.limit.page(found, |one| one.id.to_string(), |one| shown(one, Vec::new()))))
}

/// Show a principal.
///
/// With the identities that it is known by.
#[utoipa::path(
    get,
    path = "/v1/principals/{which}",
    tag = "people", operation_id = "showPrincipal",
    params(("which" = String, Path, description = "Its id, or its name as `person:alice`")),
    responses((status = 200, body = Principal))
)]
async fn show(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(which): Path<Which>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Principal>, Failure> {
    let admin = signed_in.admin(&app, Right::People, WHAT).await?;
    let (found, identities) = app.principal(&admin, app.find_principal(&which).await?).await?;
    Ok(Json(shown(found, identities)))
}

/// Shut a principal out.
///
/// Its sessions end, its tokens are refused, its leases are revoked, at once on every daemon.
#[utoipa::path(
    post,
    path = "/v1/principals/{which}/disable",
    tag = "people", operation_id = "disablePrincipal",
    params(("which" = String, Path, description = "Its id, or its name as `person:alice`")),
    responses((status = 204, description = "Shut out"))
)]
async fn disable(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(which): Path<Which>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<StatusCode, Failure> {
    let admin = signed_in.admin(&app, Right::People, "shutting somebody out").await?;
    let id = app.find_principal(&which).await?;
    app.disable_principal(&admin, &signed_in.origin, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let a principal in again.
///
/// Its API tokens hold again; its sessions ended.
#[utoipa::path(
    post,
    path = "/v1/principals/{which}/enable",
    tag = "people", operation_id = "enablePrincipal",
    params(("which" = String, Path, description = "Its id, or its name as `person:alice`")),
    responses((status = 204, description = "Let in"))
)]
async fn enable(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(which): Path<Which>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<StatusCode, Failure> {
    let admin = signed_in.admin(&app, Right::People, "letting somebody in").await?;
    let id = app.find_principal(&which).await?;
    app.enable_principal(&admin, &signed_in.origin, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Link a person to an identity.
///
/// From now on whoever that issuer vouches for under that key is this person.
#[utoipa::path(
    post,
    path = "/v1/principals/{which}/identities",
    tag = "people", operation_id = "linkIdentity",
    params(("which" = String, Path, description = "Its id, or its name as `person:alice`")),
    responses((status = 204, description = "Linked"))
)]
async fn link(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(which): Path<Which>,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<Link>,
) -> Result<StatusCode, Failure> {
    let admin = signed_in.admin(&app, Right::People, "linking an identity").await?;
    let id = app.find_principal(&which).await?;
    let identity = (body.issuer.as_str(), body.subject.as_str());
    app.link_identity(&admin, &signed_in.origin, id, identity).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Unlink a person from an identity.
///
/// The person's sessions end.
#[utoipa::path(
    delete,
    path = "/v1/principals/{which}/identities",
    tag = "people", operation_id = "unlinkIdentity",
    params(("which" = String, Path, description = "Its id, or its name as `person:alice`"), IdentityQuery),
    responses((status = 204, description = "Unlinked"))
)]
async fn unlink(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(which): Path<Which>,
    Query(identity): Query<IdentityQuery>,
) -> Result<StatusCode, Failure> {
    let admin = signed_in.admin(&app, Right::People, "unlinking an identity").await?;
    let id = app.find_principal(&which).await?;
    let identity = (identity.issuer.as_str(), identity.subject.as_str());
    app.unlink_identity(&admin, &signed_in.origin, id, identity).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Set a principal's groups.
///
/// Those that it is given here: it is in those of its provider as well.
#[utoipa::path(
    put,
    path = "/v1/principals/{which}/groups",
    tag = "people", operation_id = "setGroups",
    params(("which" = String, Path, description = "Its id, or its name as `person:alice`")),
    responses((status = 204, description = "Set"))
)]
async fn groups(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(which): Path<Which>,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<Groups>,
) -> Result<StatusCode, Failure> {
    let admin = signed_in.admin(&app, Right::People, "setting somebody's groups").await?;
    let id = app.find_principal(&which).await?;
    app.set_groups(&admin, &signed_in.origin, id, &body.groups).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(found: ListedPrincipal, identities: Vec<app::Identity>) -> Principal {
    Principal {
        id: found.id,
        claims: found.claims().clone(),
        principal: format!("{}:{}", found.kind, found.subject),
        kind: found.kind,
        admin: found.admin,
        groups: found.groups,
        provider_groups: found.provider_groups,
        created_at: found.created_at,
        disabled_at: found.disabled_at,
        last_seen_at: found.last_seen_at,
        sessions: found.sessions,
        tokens: found.tokens,
        live_leases: found.live_leases,
        identities: identities.into_iter().map(shown_identity).collect(),
    }
}

fn shown_identity(identity: app::Identity) -> Identity {
    Identity {
        issuer: identity.issuer,
        subject: identity.subject,
        user_name: identity.user_name,
        created_at: identity.created_at,
        last_seen_at: identity.last_seen_at,
    }
}
