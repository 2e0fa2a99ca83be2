//! Requests that others must agree to: listed, shown, agreed to, denied, withdrawn, claimed.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        Page,
        leases::Issued,
        requests::{Approve, Claim, Deny, Request},
    },
    app::{
        App,
        requests::{Agreement, Claimed, Wished},
    },
    domain::{
        approval,
        name::Name,
        policy::Wanted,
        request::{self, State as RequestState},
    },
    http::{
        caller::SignedIn,
        json::Json,
        leases::{handed_out, renewed},
        parameters::{Limit, Nothing, Path, Query, parse},
        problem::Failure,
    },
    ids::AccessRequestId,
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(approve))
        .routes(routes!(deny))
        .routes(routes!(withdraw))
        .routes(routes!(claim))
}

/// Which requests to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct RequestQuery {
    /// Only those in this state; `open` is all that are pending or approved.
    #[param(inline)]
    state: Option<StateWish>,
    /// Only those for this profile.
    #[param(value_type = Option<Name>)]
    profile: Option<Name>,
    /// Only the caller's own.
    #[serde(default)]
    own: bool,
    /// Only those that the caller may agree to now.
    #[serde(default)]
    to_decide: bool,
    /// `next_cursor` of the page before.
    cursor: Option<AccessRequestId>,
    /// How many items at most: 1 to 200, 50 if left out.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200)]
    limit: Limit,
}

/// A state to list by.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
enum StateWish {
    /// Others have not agreed yet.
    Pending,
    /// They did; the lease was not fetched yet.
    Approved,
    /// Somebody said no.
    Denied,
    /// Whoever asked does not want it any more.
    Withdrawn,
    /// Its time was over.
    Lapsed,
    /// The lease was fetched.
    Claimed,
    /// The lease could not be made in time.
    Failed,
    /// Pending or approved.
    Open,
}

impl StateWish {
    fn states(self) -> Vec<RequestState> {
        match self {
            Self::Pending => vec![RequestState::Pending],
            Self::Approved => vec![RequestState::Approved],
            Self::Denied => vec![RequestState::Denied],
            Self::Withdrawn => vec![RequestState::Withdrawn],
            Self::Lapsed => vec![RequestState::Lapsed],
            Self::Claimed => vec![RequestState::Claimed],
            Self::Failed => vec![RequestState::Failed],
            Self::Open => vec![RequestState::Pending, RequestState::Approved],
        }
    }
}

/// List requests.
///
/// Newest first: the caller's own, and those that it may agree to; or everybody's, for who may read everything.
#[utoipa::path(
    get,
    path = "/v1/requests",
    tag = "requests", operation_id = "listRequests",
    params(RequestQuery),
    responses((status = 200, body = Page<Request>))
)]
async fn list(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(query): Query<RequestQuery>,
) -> Result<Json<Page<Request>>, Failure> {
    let wished = Wished {
        own: query.own,
        to_decide: query.to_decide,
        states: query.state.map(StateWish::states),
        profile: query.profile.map(|name| name.to_string()),
    };
    let most = query.limit.with_one_more();
    let found = app.requests(&signed_in.caller, &wished, query.cursor, most).await?;
    Ok(Json(query.limit.page(found, |request| request.id.to_string(), shown)))
}

/// Show a request.
#[utoipa::path(
    get,
    path = "/v1/requests/{id}",
    tag = "requests", operation_id = "showRequest",
    params(("id" = AccessRequestId, Path, description = "The request")),
    responses((status = 200, body = Request))
)]
async fn show(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<AccessRequestId>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Request>, Failure> {
    Ok(Json(shown(app.request(&signed_in.caller, id).await?)))
}

/// Agree to a request.
///
/// Somebody else's: nobody agrees to their own. With a session, or a token whose scopes name `approve`. The body may
/// be left out.
#[utoipa::path(
    post,
    path = "/v1/requests/{id}/approve",
    tag = "requests", operation_id = "approveRequest",
    params(("id" = AccessRequestId, Path, description = "The request")),
    request_body(content = Option<Approve>, example = json!({"ttl": "30m", "comment": "for INC-123"})),
    responses((status = 200, description = "The request as it is now", body = Request))
)]
async fn approve(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<AccessRequestId>,
    Query(Nothing {}): Query<Nothing>,
    body: Option<Json<Approve>>,
) -> Result<Json<Request>, Failure> {
    let Approve { ttl, comment } = body.map(|Json(body)| body).unwrap_or_default();
    let mut faults = Vec::new();
    let ttl = parse("ttl", ttl.as_deref(), &mut faults);
    if !faults.is_empty() {
        return Err(Failure::invalid(faults));
    }
    let agreement = Agreement { ttl, comment };
    let SignedIn { caller, origin, .. } = &signed_in;
    Ok(Json(shown(app.approve(caller, origin, id, agreement).await?)))
}

/// Deny a request.
///
/// It is over then; whoever asked reads why.
#[utoipa::path(
    post,
    path = "/v1/requests/{id}/deny",
    tag = "requests", operation_id = "denyRequest",
    params(("id" = AccessRequestId, Path, description = "The request")),
    request_body(content = Deny, example = json!({"comment": "ask for shop-read, which will do"})),
    responses((status = 200, description = "The request as it is now", body = Request))
)]
async fn deny(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<AccessRequestId>,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<Deny>,
) -> Result<Json<Request>, Failure> {
    let SignedIn { caller, origin, .. } = &signed_in;
    Ok(Json(shown(app.deny(caller, origin, id, &body.comment).await?)))
}

/// Withdraw a request.
///
/// The caller's own, that waits or was agreed to and not used.
#[utoipa::path(
    post,
    path = "/v1/requests/{id}/withdraw",
    tag = "requests", operation_id = "withdrawRequest",
    params(("id" = AccessRequestId, Path, description = "The request")),
    responses((status = 200, description = "The request as it is now", body = Request))
)]
async fn withdraw(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<AccessRequestId>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Request>, Failure> {
    Ok(Json(shown(app.withdraw(&signed_in.caller, &signed_in.origin, id).await?)))
}

/// Claim what others agreed to.
///
/// Makes the login role and hands out its credential, once; or makes a lease last longer. The body may be left out;
/// what it says must be what was agreed to.
#[utoipa::path(
    post,
    path = "/v1/requests/{id}/claim",
    tag = "requests", operation_id = "claimRequest",
    params(("id" = AccessRequestId, Path, description = "The request")),
    request_body(content = Option<Claim>, example = json!({})),
    responses(
        (status = 201, description = "The lease and its credential, which is shown only here", body = Issued),
        (status = 200, description = "The lease that lasts longer", body = crate::api::leases::Renewed),
    )
)]
async fn claim(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<AccessRequestId>,
    Query(Nothing {}): Query<Nothing>,
    body: Option<Json<Claim>>,
) -> Result<Response, Failure> {
    let body = body.map(|Json(body)| body).unwrap_or_default();
    let mut faults = Vec::new();
    let profile = parse("profile", body.profile.as_deref(), &mut faults);
    let tool = parse("tool", body.tool.as_deref(), &mut faults);
    let ttl = parse("ttl", body.ttl.as_deref(), &mut faults);
    if !faults.is_empty() {
        return Err(Failure::invalid(faults));
    }
    let wanted = Wanted { profile, database: body.database, tool, ttl };
    let SignedIn { caller, origin, .. } = &signed_in;
    Ok(match Box::pin(app.claim(caller, origin, id, wanted)).await? {
        Claimed::Issued(answer) => handed_out(*answer),
        Claimed::Renewed(lease) => renewed(*lease).into_response(),
    })
}

/// What waits for others to agree: 202, and where to look.
pub(in crate::http) fn waiting(request: request::Request) -> Response {
    let location = format!("/v1/requests/{}", request.id);
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(shown(request))).into_response()
}

fn shown(request: request::Request) -> Request {
    let is_pending = request.state == RequestState::Pending;
    let open_step = approval::open_step(&request).filter(|_| is_pending).map(|(step, _)| step);
    Request {
        open_step,
        ttl: request.length().to_string(),
        id: request.id,
        state: request.state,
        principal: request.principal,
        profile: request.profile,
        target: request.target,
        environment: request.environment,
        database: request.database,
        tool: request.tool,
        reason: request.reason,
        ticket: request.ticket,
        extends: request.extends,
        needs: request.needs,
        votes: request.votes,
        start_at: request.start_at,
        created_at: request.created_at,
        lapse_at: request.lapse_at,
        decided_at: request.decided_at,
        use_by: request.use_by,
        lease_id: request.lease_id,
    }
}
