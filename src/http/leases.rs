//! Leases: ask, list, show, renew, rotate, revoke. [`shown_credential`] makes the one answer that carries a
//! credential; nothing else here sees a password.

use std::{collections::BTreeMap, sync::Arc};

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
        leases::{AskForLease, Credential, Issued, Lease, Renew, Renewed, Revocation, RevokeSet},
        problem::ProblemFault,
        requests::Request,
    },
    app::{
        App, LeaseFilter,
        issue::{self, Answer},
        renew::{self, Renewal},
        requests::Outcome,
    },
    domain::{
        access::{Asked, Wish},
        lease::{self, State as LeaseState},
        name::Name,
        principal::PrincipalName,
    },
    http::{
        caller::SignedIn,
        json::Json,
        parameters::{IdempotencyKey, Limit, Nothing, Path, Query, parse},
        problem::Failure,
        requests::waiting,
    },
    ids::LeaseId,
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(ask, list))
        .routes(routes!(show, revoke))
        .routes(routes!(renew))
        .routes(routes!(rotate))
        .routes(routes!(revoke_set))
}

/// Which leases to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LeaseQuery {
    /// Only those in this state; `live` is all that are not yet revoked.
    #[param(inline)]
    state: Option<StateWish>,
    /// Only those under this profile.
    #[param(value_type = Option<Name>)]
    profile: Option<Name>,
    /// Only those of this person or service: `person:alice`, or just `alice`.
    #[param(example = "person:alice")]
    person: Option<String>,
    /// Only those for this tool.
    #[param(value_type = Option<Name>)]
    tool: Option<Name>,
    /// Only those on this target.
    #[param(value_type = Option<Name>)]
    target: Option<Name>,
    /// `next_cursor` of the page before.
    cursor: Option<LeaseId>,
    /// How many items at most: 1 to 200, 50 if left out.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200)]
    limit: Limit,
}

/// A state to list by.
#[derive(Debug, Clone, Copy, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
enum StateWish {
    /// The intent is recorded.
    Provisioning,
    /// The credential was handed out.
    Active,
    /// Access is being taken away.
    Revoking,
    /// Gone.
    Revoked,
    /// All that are not yet gone.
    Live,
}

impl StateWish {
    fn states(self) -> Vec<LeaseState> {
        match self {
            Self::Provisioning => vec![LeaseState::Provisioning],
            Self::Active => vec![LeaseState::Active],
            Self::Revoking => vec![LeaseState::Revoking],
            Self::Revoked => vec![LeaseState::Revoked],
            Self::Live => vec![LeaseState::Provisioning, LeaseState::Active, LeaseState::Revoking],
        }
    }
}

/// Ask for a lease.
///
/// Makes a login role under the profile and hands out its credential, once. With an
/// `Idempotency-Key`, asking the same again answers 200 with the lease and no credential.
#[utoipa::path(
    post,
    path = "/v1/leases",
    tag = "leases", operation_id = "askForLease",
    params(("Idempotency-Key" = Option<String>, Header,
            description = "1 to 255 visible ASCII letters: the same key twice makes one lease",
            example = "8e03978e-40d5-43dd-bc93-6894a57f9324")),
    request_body(content = AskForLease, example = json!({
        "profile": "shop-read", "ttl": "30m", "tool": "psql", "reason": "a customer's order is missing"
    })),
    responses(
        (status = 201, description = "The lease and its credential, which is shown only here", body = Issued),
        (status = 200, description = "This very request was answered before", body = Issued),
        (status = 202, description = "Others must agree first: what waits for them", body = Request),
    )
)]
async fn ask(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    IdempotencyKey(key): IdempotencyKey,
    Json(body): Json<AskForLease>,
) -> Result<Response, Failure> {
    let wish = Wish {
        profile: &body.profile,
        ttl: body.ttl.as_deref(),
        tool: body.tool.as_deref(),
        reason: body.reason,
        ticket: body.ticket,
        start_at: body.start_at,
    };
    let asked = Asked::check(wish)
        .map_err(|faults| Failure::invalid(faults.into_iter().map(ProblemFault::from).collect()))?;
    let outcome = app.ask(&signed_in.caller, &signed_in.origin, asked, key.as_deref()).await?;
    Ok(match outcome {
        Outcome::Issued(answer) => handed_out(*answer),
        Outcome::Waits(request) => waiting(*request),
    })
}

/// List leases.
///
/// Newest first: the caller's own, or everybody's for an administrator.
#[utoipa::path(
    get,
    path = "/v1/leases",
    tag = "leases", operation_id = "listLeases",
    params(LeaseQuery),
    responses((status = 200, body = Page<Lease>))
)]
async fn list(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(query): Query<LeaseQuery>,
) -> Result<Json<Page<Lease>>, Failure> {
    let mut faults = Vec::new();
    let person = person(query.person, &mut faults);
    if !faults.is_empty() {
        return Err(Failure::invalid(faults));
    }
    let filter = LeaseFilter {
        states: query.state.map(StateWish::states),
        person,
        profile: query.profile.map(|name| name.to_string()),
        tool: query.tool.map(|name| name.to_string()),
        target: query.target.map(|name| name.to_string()),
        ..LeaseFilter::default()
    };
    let most = query.limit.with_one_more();
    let leases = app.leases(&signed_in.caller, filter, query.cursor, most).await?;
    Ok(Json(query.limit.page(leases, |lease| lease.id.to_string(), shown)))
}

/// Show a lease.
#[utoipa::path(
    get,
    path = "/v1/leases/{id}",
    tag = "leases", operation_id = "showLease",
    params(("id" = LeaseId, Path, description = "The lease")),
    responses((status = 200, body = Lease))
)]
async fn show(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<LeaseId>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Lease>, Failure> {
    Ok(Json(shown(app.lease(&signed_in.caller, id).await?)))
}

/// Renew a lease.
///
/// It then ends `ttl` from now, at most at its profile's `max_ttl`. The body may be left out. Under a profile for
/// which others must agree, they must agree to this, too.
#[utoipa::path(
    post,
    path = "/v1/leases/{id}/renew",
    tag = "leases", operation_id = "renewLease",
    params(("id" = LeaseId, Path, description = "The lease")),
    request_body(content = Option<Renew>, example = json!({"ttl": "30m"})),
    responses(
        (status = 200, body = Renewed),
        (status = 202, description = "Others must agree first: what waits for them", body = Request),
    )
)]
async fn renew(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<LeaseId>,
    Query(Nothing {}): Query<Nothing>,
    body: Option<Json<Renew>>,
) -> Result<Response, Failure> {
    let ttl = body.and_then(|Json(body)| body.ttl);
    let mut faults = Vec::new();
    let ttl = parse("ttl", ttl.as_deref(), &mut faults);
    if !faults.is_empty() {
        return Err(Failure::invalid(faults));
    }
    Ok(match app.renew(&signed_in.caller, &signed_in.origin, id, ttl).await? {
        Renewal::Renewed(lease) => renewed(*lease).into_response(),
        Renewal::Waits(request) => waiting(*request),
    })
}

pub(in crate::http) fn renewed(renewed: renew::Renewed) -> Json<Renewed> {
    let renew::Renewed { lease, rule, because } = renewed;
    Json(Renewed { lease: shown(lease), rule, because })
}

/// Rotate a lease.
///
/// Makes a fresh login and hands out its credential, once; the one before stops after a grace.
#[utoipa::path(
    post,
    path = "/v1/leases/{id}/rotate",
    tag = "leases", operation_id = "rotateLease",
    params(("id" = LeaseId, Path, description = "The lease")),
    responses((status = 200, description = "The lease and its fresh credential", body = Issued))
)]
async fn rotate(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<LeaseId>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Issued>, Failure> {
    Ok(issued(app.rotate(&signed_in.caller, &signed_in.origin, id).await?))
}

/// Revoke a lease.
///
/// Its login is shut out, its sessions are ended, its role is dropped, and what was then seen on
/// the target is its proof.
#[utoipa::path(
    delete,
    path = "/v1/leases/{id}",
    tag = "leases", operation_id = "revokeLease",
    params(("id" = LeaseId, Path, description = "The lease")),
    responses(
        (status = 200, description = "Gone, with the proof", body = Revocation),
        (status = 202, description = "Being removed: ask for the lease again", body = Revocation),
    )
)]
async fn revoke(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<LeaseId>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<(StatusCode, Json<Revocation>), Failure> {
    let lease = app.revoke(&signed_in.caller, &signed_in.origin, id).await?;
    Ok(revocation(vec![lease]))
}

/// Revoke a set of leases.
///
/// Every live lease that meets all that is given, of those that the caller may see.
#[utoipa::path(
    post,
    path = "/v1/revocations",
    tag = "leases", operation_id = "revokeLeases",
    request_body(content = RevokeSet, example = json!({"person": "person:alice", "tool": "cursor"})),
    responses(
        (status = 200, description = "All gone, with their proofs", body = Revocation),
        (status = 202, description = "Some are still being removed", body = Revocation),
    )
)]
async fn revoke_set(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    Json(set): Json<RevokeSet>,
) -> Result<(StatusCode, Json<Revocation>), Failure> {
    let filter = filter_of(set)?;
    let leases = app.revoke_set(&signed_in.caller, &signed_in.origin, filter).await?;
    Ok(revocation(leases))
}

/// The one place where a credential is put into an answer.
pub(in crate::http) fn shown_credential(credential: issue::Credential) -> Credential {
    Credential {
        uri: String::new(),
        host: credential.host,
        port: credential.port,
        database: credential.database,
        user: credential.user,
        password: credential.password.expose().clone(),
        sslmode: credential.sslmode.as_str().to_owned(),
        sslrootcert_pem: credential.sslrootcert_pem,
        options: credential.options,
        valid_until: credential.valid_until,
    }
    .with_uri()
}

/// A lease and where it is: 201 with its credential; 200 without, if that was handed out before.
pub(in crate::http) fn handed_out(answer: Answer) -> Response {
    let location = format!("/v1/leases/{}", answer.lease.id);
    let is_new = answer.credential.is_some();
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    (status, [(header::LOCATION, location)], issued(answer)).into_response()
}

fn issued(answer: Answer) -> Json<Issued> {
    let credential = answer.credential.map(shown_credential);
    Json(Issued { lease: shown(answer.lease), ttl: answer.ttl, credential })
}

/// A set that says nothing is refused: it would be every lease there is.
fn filter_of(set: RevokeSet) -> Result<LeaseFilter, Failure> {
    if [&set.person, &set.tool, &set.profile, &set.target].iter().all(|part| part.is_none()) {
        return Err(Failure::fault(
            "body",
            "say which leases: at least one of `person`, `tool`, `profile` and `target`",
        ));
    }
    let mut faults = Vec::new();
    let mut name = |at, text: Option<String>| {
        parse::<Name>(at, text.as_deref(), &mut faults).map(|name| name.to_string())
    };
    let (tool, profile, target) =
        (name("tool", set.tool), name("profile", set.profile), name("target", set.target));
    let person = person(set.person, &mut faults);
    if faults.is_empty() {
        let states = Some(StateWish::Live.states());
        Ok(LeaseFilter { states, person, tool, profile, target, ..LeaseFilter::default() })
    } else {
        Err(Failure::invalid(faults))
    }
}

/// `person:alice`, `service:ci`, or a bare name of either.
fn person(text: Option<String>, faults: &mut Vec<ProblemFault>) -> Option<String> {
    if let Some(text) = text.as_deref().filter(|text| text.contains(':')) {
        return parse::<PrincipalName>("person", Some(text), faults).map(|_| text.to_owned());
    }
    parse::<Name>("person", text.as_deref(), faults).map(|name| name.to_string())
}

fn revocation(leases: Vec<lease::Lease>) -> (StatusCode, Json<Revocation>) {
    let mut counts = BTreeMap::new();
    for lease in &leases {
        *counts.entry(lease.state.as_str().to_owned()).or_default() += 1;
    }
    let all_gone = leases.iter().all(|lease| lease.state == LeaseState::Revoked);
    let status = if all_gone { StatusCode::OK } else { StatusCode::ACCEPTED };
    (status, Json(Revocation { leases: leases.into_iter().map(shown).collect(), counts }))
}

pub(in crate::http) fn shown(lease: lease::Lease) -> Lease {
    Lease {
        id: lease.id,
        state: lease.state,
        cause: lease.cause,
        profile: lease.profile,
        target: lease.target,
        database: lease.database,
        role: lease.role_name,
        group_role: lease.group_role,
        principal_id: lease.principal_id,
        principal: lease.principal,
        tool: lease.tool,
        reason: lease.reason,
        ticket: lease.ticket,
        job: lease.job,
        created_at: lease.created_at,
        expires_at: lease.expires_at,
        max_expires_at: lease.max_expires_at,
        ended_at: lease.ended_at,
        blocked_by: lease.blocked_by,
        proof: lease.proof,
    }
}
