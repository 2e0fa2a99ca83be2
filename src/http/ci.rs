//! Whose CI jobs are let in: listed, removed, explained. They are made by applying a file.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::ci::{CiRules, ExplainToken},
    app::App,
    domain::{administration::Right, ci::explanation::TokenExplanation, name::Name},
    http::{
        caller::SignedIn,
        json::Json,
        parameters::{Nothing, Path, Query},
        problem::Failure,
    },
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(remove_rule))
        .routes(routes!(remove_issuer))
        .routes(routes!(explain))
}

/// List issuers and the rules for their jobs. Administrators only.
#[utoipa::path(
    get,
    path = "/v1/ci/rules",
    tag = "ci", operation_id = "listCiRules",
    responses((status = 200, body = CiRules))
)]
async fn list(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<CiRules>, Failure> {
    let admin = signed_in.admin(&app, Right::Read, "reading the rules for CI jobs").await?;
    let (issuers, rules) = app.ci_rules(&admin).await?;
    Ok(Json(CiRules { issuers, rules }))
}

/// Remove a rule. Administrators only.
///
/// No token meets it from now on. Leases that its jobs have last until they end, or are revoked.
#[utoipa::path(
    delete,
    path = "/v1/ci/rules/{name}",
    tag = "ci", operation_id = "removeCiRule",
    params(("name" = Name, Path, description = "The rule")),
    responses((status = 204, description = "Removed"))
)]
async fn remove_rule(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<StatusCode, Failure> {
    let admin = signed_in.admin(&app, Right::People, "removing a rule for CI jobs").await?;
    app.remove_ci_rule(&admin, &signed_in.origin, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Remove an issuer that has no rules any more. Administrators only.
#[utoipa::path(
    delete,
    path = "/v1/ci/issuers/{name}",
    tag = "ci", operation_id = "removeIssuer",
    params(("name" = Name, Path, description = "The issuer")),
    responses((status = 204, description = "Removed"))
)]
async fn remove_issuer(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<StatusCode, Failure> {
    let admin = signed_in.admin(&app, Right::People, "removing an issuer").await?;
    app.remove_issuer(&admin, &signed_in.origin, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Say of a job's token what is wrong with it, and which rules it meets. Administrators only.
///
/// Each matcher of each rule of its issuer: what it has to say, what it says. The token is not spent.
#[utoipa::path(
    post,
    path = "/v1/ci/explain",
    tag = "ci", operation_id = "explainToken",
    request_body = ExplainToken,
    responses((status = 200, body = TokenExplanation))
)]
async fn explain(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<ExplainToken>,
) -> Result<Json<TokenExplanation>, Failure> {
    let admin = signed_in.admin(&app, Right::People, "explaining a CI job's token").await?;
    Ok(Json(app.explain_token(&admin, body.token.expose()).await?))
}
