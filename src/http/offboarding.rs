//! Somebody leaves: said once, and asked how it stands until nothing is left.

use std::sync::Arc;

use axum::extract::State;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::offboarding::{
        ApprovalGiven, MadeToken, Offboarding, PendingTarget, ShutOut, StandingSecret, StillNamed,
    },
    app::{App, people::offboarding::Report},
    domain::{
        administration::Right,
        offboarding::{self, KnownSecret},
        person::Which,
    },
    http::{
        caller::SignedIn,
        json::Json,
        leases,
        parameters::{Nothing, Path, Query},
        problem::Failure,
    },
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(offboard, show))
}

/// End all that a person has.
///
/// Sign-in, sessions, tokens, certificates and codes; leases on every target, with proofs; passwords of standing
/// roles that they were given. Said again, it answers how it stands. It takes the right to end leases as well.
#[utoipa::path(
    post,
    path = "/v1/principals/{which}/offboarding",
    tag = "people", operation_id = "offboard",
    params(("which" = String, Path, description = "Its id, or its name as `person:alice`")),
    responses((status = 200, description = "How it stands: complete, or what is left on which target", body = Offboarding))
)]
async fn offboard(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(which): Path<Which>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Offboarding>, Failure> {
    let admin = signed_in.admin(&app, Right::People, "ending all that somebody has").await?;
    let id = app.find_principal(&which).await?;
    Ok(Json(shown(app.offboard(&admin, &signed_in.origin, id).await?)))
}

/// Show what is left of a person who leaves.
#[utoipa::path(
    get,
    path = "/v1/principals/{which}/offboarding",
    tag = "people", operation_id = "showOffboarding",
    params(("which" = String, Path, description = "Its id, or its name as `person:alice`")),
    responses((status = 200, body = Offboarding))
)]
async fn show(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(which): Path<Which>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<Offboarding>, Failure> {
    let admin = signed_in.admin(&app, Right::People, "looking after people").await?;
    let id = app.find_principal(&which).await?;
    Ok(Json(shown(app.offboarding(&admin, id).await?)))
}

fn shown(report: Report) -> Offboarding {
    let (complete, proofs) = (report.is_complete(), report.proofs());
    let pending: Vec<PendingTarget> = report.pending.into_iter().map(shown_target).collect();
    let offboarding::ShutOut { disabled_at, sessions_ended, tokens, certificates, .. } =
        report.shut_out;
    let known = report.shut_out.identities.into_iter();
    Offboarding {
        id: report.offboarding.id,
        principal: report.principal.to_string(),
        principal_id: report.principal.id,
        started_at: report.offboarding.started_at,
        started_by: report.offboarding.started_by,
        complete,
        finished_at: report.offboarding.finished_at,
        ended_at: report.offboarding.ended_at,
        proofs,
        pending: pending.iter().map(|target| target.logins).sum(),
        pending_targets: pending,
        shut_out: ShutOut {
            disabled_at,
            sessions_ended,
            tokens,
            certificates,
            identities: known.map(|(issuer, key)| format!("{key} of {issuer}")).collect(),
            agents: report.shut_out.agents,
            groups: report.principal.groups.iter().map(ToString::to_string).collect(),
        },
        leases: report.leases.into_iter().map(leases::shown).collect(),
        standing_secrets: report.secrets.into_iter().map(shown_secret).collect(),
        requests_withdrawn: report.withdrawn,
        approvals_given: report.agreed.into_iter().map(shown_approval).collect(),
        codes_withdrawn: report.offboarding.codes_withdrawn,
        still_named: report
            .mentions
            .into_iter()
            .map(|offboarding::Mention { place, rule }| StillNamed { place, rule })
            .collect(),
        tokens_made: report.tokens_made.into_iter().map(shown_token).collect(),
    }
}

fn shown_target((target, pending): (String, offboarding::Pending)) -> PendingTarget {
    PendingTarget { target, logins: pending.leases, why: pending.why }
}

fn shown_secret(secret: KnownSecret) -> StandingSecret {
    let blocked_by = secret.blocked_by.filter(|_| !secret.replaced);
    StandingSecret {
        standing_role: secret.standing_role,
        target: secret.lease.target,
        read_at: secret.read_at,
        lease_id: secret.lease.id,
        role: secret.lease.role_name,
        replaced: secret.replaced,
        blocked_by: blocked_by.or(secret.lease.blocked_by),
        proof: secret.lease.proof,
    }
}

fn shown_approval(agreed: offboarding::Agreed) -> ApprovalGiven {
    let offboarding::Agreed { request_id, principal, profile, at, state, lease_id } = agreed;
    ApprovalGiven { request_id, principal, profile, at, state, lease_id }
}

fn shown_token(token: offboarding::MadeToken) -> MadeToken {
    MadeToken {
        id: token.id,
        name: token.name,
        principal: token.principal,
        last_used_at: token.last_used_at,
        expires_at: token.expires_at,
    }
}
