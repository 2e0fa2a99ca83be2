//! Emergencies: opened with a sealed code, listed, looked at, their reviews closed; and the codes.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        Page,
        emergencies::{
            CloseEmergency, CodeSet, CodeSets, Emergency, EmergencyDetail, EmergencyLogin,
            MadeCodes, MakeCodes, OpenEmergency,
        },
        leases::Issued,
        problem::ProblemFault,
    },
    app::{
        self, App,
        emergencies::{ReviewWish, codes::CodesWish},
    },
    domain::{
        access::{Asked, Wish},
        administration::Right,
        duration::Seconds,
        emergency,
        person::Which,
        principal::PrincipalName,
    },
    http::{
        audit,
        caller::{From, SignedIn},
        json::Json,
        leases,
        parameters::{Limit, Nothing, Path, Query, parse},
        problem::Failure,
    },
    ids::LeaseId,
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(open, list))
        .routes(routes!(show))
        .routes(routes!(close))
        .routes(routes!(codes, make_codes))
        .routes(routes!(withdraw_codes))
}

/// Who looks at emergencies: those who end access, and those who read the audit.
const LOOKERS: [Right; 2] = [Right::Leases, Right::Audit];

/// Which emergencies to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EmergencyQuery {
    /// Only those whose review stands so.
    #[param(inline)]
    state: Option<emergency::State>,
    /// `next_cursor` of the page before.
    cursor: Option<LeaseId>,
    /// How many items at most: 1 to 200, 50 if left out.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200)]
    limit: Limit,
}

/// Open an emergency with a sealed code.
///
/// Without a token: for when the identity provider is down. The code is used up once the lease is there. Whoever can
/// sign in asks for the profile as for any other.
#[utoipa::path(
    post,
    path = "/v1/emergencies",
    tag = "emergencies", operation_id = "openEmergency",
    request_body(content = OpenEmergency, example = json!({
        "person": "person:alice", "code": "7-4GXPZ-V0KTA-93M1C-QBR5E", "profile": "shop-emergency",
        "reason": "INC-42: orders cannot be placed"
    })),
    responses((status = 201, description = "The lease and its credential, which is shown only here", body = Issued))
)]
async fn open(
    State(app): State<Arc<App>>,
    From(origin): From,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<OpenEmergency>,
) -> Result<Response, Failure> {
    let mut faults = Vec::new();
    let person = parse::<PrincipalName>("person", Some(&body.person), &mut faults);
    let wish = Wish {
        profile: &body.profile,
        ttl: body.ttl.as_deref(),
        tool: body.tool.as_deref(),
        reason: body.reason,
        ticket: body.ticket,
        start_at: None,
    };
    let asked = Asked::check(wish);
    let (person, asked) = match (person, asked) {
        (Some(person), Ok(asked)) => (person, asked),
        (_, asked) => {
            faults.extend(asked.err().into_iter().flatten().map(ProblemFault::from));
            return Err(Failure::invalid(faults));
        }
    };
    Ok(leases::handed_out(app.open_emergency(&origin, (&person, &body.code), asked).await?))
}

/// List emergencies.
///
/// Leases under profiles for emergencies, newest first, with how their reviews stand.
#[utoipa::path(
    get,
    path = "/v1/emergencies",
    tag = "emergencies", operation_id = "listEmergencies",
    params(EmergencyQuery),
    responses((status = 200, body = Page<Emergency>))
)]
async fn list(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(query): Query<EmergencyQuery>,
) -> Result<Json<Page<Emergency>>, Failure> {
    let admin = signed_in.admin_of(&app, &LOOKERS, "looking at emergencies").await?;
    let most = query.limit.with_one_more();
    let found = app.emergencies(&admin, query.state, query.cursor, most).await?;
    Ok(Json(query.limit.page(found, |one| one.lease_id.to_string(), shown)))
}

/// Show an emergency.
///
/// With what was done in it: its lease, its logins, and what the audit says.
#[utoipa::path(
    get,
    path = "/v1/emergencies/{id}",
    tag = "emergencies", operation_id = "showEmergency",
    params(("id" = LeaseId, Path, description = "Its lease")),
    responses((status = 200, body = EmergencyDetail))
)]
async fn show(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<LeaseId>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<EmergencyDetail>, Failure> {
    let admin = signed_in.admin_of(&app, &LOOKERS, "looking at emergencies").await?;
    let found = app.emergency(&admin, id).await?;
    let login = |login: app::SeenLogin| EmergencyLogin {
        id: login.id,
        role: login.role_name,
        state: login.state,
        created_at: login.created_at,
        removed_at: login.removed_at,
        proof: login.proof,
    };
    Ok(Json(EmergencyDetail {
        emergency: shown(found.emergency),
        lease: leases::shown(found.lease),
        logins: found.logins.into_iter().map(login).collect(),
        entries: found.entries.into_iter().map(audit::shown).collect(),
    }))
}

/// Close the review of an emergency.
///
/// By a person who neither opened it nor made the code that it was opened with, nor comes with a token that
/// one of these made.
#[utoipa::path(
    post,
    path = "/v1/emergencies/{id}/close",
    tag = "emergencies", operation_id = "closeEmergency",
    params(("id" = LeaseId, Path, description = "Its lease")),
    request_body(content = CloseEmergency, example = json!({
        "verdict": "justified", "comment": "an index was rebuilt, as INC-42 says; the log has nothing else"
    })),
    responses((status = 200, body = Emergency))
)]
async fn close(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<LeaseId>,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<CloseEmergency>,
) -> Result<Json<Emergency>, Failure> {
    let admin = signed_in.admin(&app, Right::Leases, "closing a review").await?;
    let wish = ReviewWish { verdict: body.verdict, comment: body.comment };
    Ok(Json(shown(app.close_emergency(&admin, &signed_in.origin, id, wish).await?)))
}

/// List sealed codes.
///
/// Who has some that hold, and how many are left. Never a code.
#[utoipa::path(
    get,
    path = "/v1/emergency-codes",
    tag = "emergencies", operation_id = "listEmergencyCodes",
    responses((status = 200, body = CodeSets))
)]
async fn codes(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<CodeSets>, Failure> {
    let admin = signed_in.admin(&app, Right::People, "looking at sealed codes").await?;
    let sets = app.code_sets(&admin).await?;
    Ok(Json(CodeSets { items: sets.into_iter().map(shown_set).collect() }))
}

/// Make sealed codes for a person.
///
/// They take the place of those of before, and are shown this once. Nobody makes codes for themselves.
#[utoipa::path(
    post,
    path = "/v1/emergency-codes",
    tag = "emergencies", operation_id = "makeEmergencyCodes",
    request_body(content = MakeCodes, example = json!({"person": "person:alice", "count": 10})),
    responses((status = 201, description = "The codes, which are shown only here", body = MadeCodes))
)]
async fn make_codes(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<MakeCodes>,
) -> Result<(StatusCode, Json<MadeCodes>), Failure> {
    let admin = signed_in.admin(&app, Right::People, "making sealed codes").await?;
    let mut faults = Vec::new();
    let person = parse::<PrincipalName>("person", Some(&body.person), &mut faults);
    let ttl = parse::<Seconds>("ttl", body.ttl.as_deref(), &mut faults);
    let Some(person) = person.filter(|_| faults.is_empty()) else {
        return Err(Failure::invalid(faults));
    };
    let wish = CodesWish { person, count: body.count, profiles: body.profiles, ttl };
    let made = app.make_codes(&admin, &signed_in.origin, wish).await?;
    let codes = made.codes.iter().map(|code| code.expose().clone()).collect();
    let made = MadeCodes { set: shown_set(made.set), codes, replaced: made.replaced };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Withdraw the sealed codes of a person.
///
/// All of them, at once on every daemon.
#[utoipa::path(
    delete,
    path = "/v1/emergency-codes/{which}",
    tag = "emergencies", operation_id = "withdrawEmergencyCodes",
    params(("which" = String, Path, description = "Whose: an id, or a name as `person:alice`")),
    responses((status = 204, description = "Withdrawn"))
)]
async fn withdraw_codes(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(which): Path<Which>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<StatusCode, Failure> {
    let admin = signed_in.admin(&app, Right::People, "withdrawing sealed codes").await?;
    let id = app.find_principal(&which).await?;
    app.withdraw_codes(&admin, &signed_in.origin, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(found: emergency::Emergency) -> Emergency {
    let state = found.state();
    let review = found.review;
    let verdict = review.as_ref().map(|review| review.verdict);
    let closed_at = review.as_ref().map(|review| review.closed_at);
    let (comment, closed_by) = review.map(|review| (review.comment, review.closed_by)).unzip();
    Emergency {
        lease_id: found.lease_id,
        state,
        principal: found.principal,
        profile: found.profile,
        target: found.target,
        database: found.database,
        reason: found.reason,
        ticket: found.ticket,
        code: found.code,
        opened_at: found.opened_at,
        expires_at: found.expires_at,
        lease_state: found.lease_state,
        ended_at: found.ended_at,
        verdict,
        comment,
        closed_by,
        closed_at,
    }
}

fn shown_set(set: app::CodeSet) -> CodeSet {
    CodeSet {
        principal_id: set.principal_id,
        principal: set.principal,
        made: set.made,
        left: set.left,
        profiles: set.profiles,
        made_by: set.made_by,
        created_at: set.created_at,
        ends_at: set.ends_at,
    }
}
