//! Tokens: make, list, revoke. A new one's secret is in the answer that made it and nowhere else.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        Page,
        admin::{CreateToken, CreatedToken, Token},
    },
    app::{App, ListedToken, tokens::TokenWish},
    domain::administration::Scopes,
    http::{
        caller::SignedIn,
        json::Json,
        parameters::{Limit, Nothing, Path, Query, parse},
        problem::Failure,
    },
    ids::TokenId,
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(revoke))
}

/// Which tokens to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TokenQuery {
    /// `next_cursor` of the page before.
    cursor: Option<TokenId>,
    /// How many items at most: 1 to 200, 50 if left out.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200)]
    limit: Limit,
}

/// List tokens.
///
/// Newest first: the caller's own, or everybody's for an administrator. Never their secrets.
#[utoipa::path(
    get,
    path = "/v1/tokens",
    tag = "tokens", operation_id = "listTokens",
    params(TokenQuery),
    responses((status = 200, body = Page<Token>))
)]
async fn list(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(query): Query<TokenQuery>,
) -> Result<Json<Page<Token>>, Failure> {
    let tokens = app.tokens(&signed_in.caller, query.cursor, query.limit.with_one_more()).await?;
    Ok(Json(query.limit.page(tokens, |token| token.id.to_string(), shown)))
}

/// Make a token.
///
/// For oneself; or, as an administrator, for anybody, who is recorded if new.
#[utoipa::path(
    post,
    path = "/v1/tokens",
    tag = "tokens", operation_id = "createToken",
    request_body(content = CreateToken, example = json!({
        "name": "alice's laptop", "principal": "person:alice", "groups": ["engineering"], "ttl": "90d"
    })),
    responses((status = 201, description = "The token and its secret, which is shown only here",
               body = CreatedToken))
)]
async fn create(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), Failure> {
    let wish = wish(body)?;
    let made = app.create_token(&signed_in.caller, &signed_in.origin, wish).await?;
    let created = CreatedToken { token: shown(made.token), secret: made.secret.expose().clone() };
    Ok((StatusCode::CREATED, Json(created)))
}

/// Revoke a token.
///
/// It is refused from now on. Leases that were asked for with it stay: revoke those by themselves.
#[utoipa::path(
    delete,
    path = "/v1/tokens/{id}",
    tag = "tokens", operation_id = "revokeToken",
    params(("id" = TokenId, Path, description = "The token")),
    responses((status = 204, description = "Revoked"))
)]
async fn revoke(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<TokenId>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<StatusCode, Failure> {
    app.revoke_token(&signed_in.caller, &signed_in.origin, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn wish(body: CreateToken) -> Result<TokenWish, Failure> {
    let mut faults = Vec::new();
    let principal = parse("principal", body.principal.as_deref(), &mut faults);
    let ttl = parse("ttl", body.ttl.as_deref(), &mut faults);
    let acts_for = parse("acts_for", body.acts_for.as_deref(), &mut faults);
    let scopes = body.scopes.map(|scopes| {
        let scope = |(n, text): (usize, &String)| {
            parse(&format!("scopes[{n}]"), Some(text.as_str()), &mut faults)
        };
        scopes.iter().enumerate().filter_map(scope).collect()
    });
    let groups = body.groups.map(|groups| {
        let group = |(n, text): (usize, &String)| {
            parse(&format!("groups[{n}]"), Some(text.as_str()), &mut faults)
        };
        groups.iter().enumerate().filter_map(group).collect()
    });
    if faults.is_empty() {
        Ok(TokenWish {
            name: body.name,
            principal,
            groups,
            admin: body.admin,
            claims: body.claims,
            acts_for,
            ttl,
            scopes: Scopes(scopes),
        })
    } else {
        Err(Failure::invalid(faults))
    }
}

pub(in crate::http) fn shown(token: ListedToken) -> Token {
    Token {
        id: token.id,
        name: token.name,
        principal: token.principal,
        admin: token.admin,
        groups: token.groups,
        created_at: token.created_at,
        expires_at: token.expires_at,
        last_used_at: token.last_used_at,
        revoked_at: token.revoked_at,
        kind: token.kind,
        scopes: token.scopes,
    }
}
