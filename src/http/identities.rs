//! By which names of certificates principals are known: add, list, remove.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        Page,
        identities::{AddIdentity, Identity},
    },
    app::{App, ListedCertificate, identities::IdentityWish},
    domain::administration::Right,
    http::{
        caller::SignedIn,
        json::Json,
        parameters::{Nothing, Paging, Path, Query, parse},
        problem::Failure,
    },
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(remove))
}

/// List the names of certificates by which principals are known. Needs the right `people`.
///
/// In the order of the names.
#[utoipa::path(
    get,
    path = "/v1/identities",
    tag = "tokens", operation_id = "listIdentities",
    params(Paging),
    responses((status = 200, body = Page<Identity>))
)]
async fn list(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(paging): Query<Paging>,
) -> Result<Json<Page<Identity>>, Failure> {
    let admin = signed_in.admin(&app, Right::People, "listing identities").await?;
    let identities = app.identities(&admin).await?;
    Ok(Json(paging.page(identities, |known| known.subject.clone(), shown)?))
}

/// Let a principal sign in by a certificate. Needs the right `people`.
///
/// Whoever shows a certificate of the configured authorities with this name, and no token, is that principal.
#[utoipa::path(
    post,
    path = "/v1/identities",
    tag = "tokens", operation_id = "addIdentity",
    request_body(content = AddIdentity, example = json!({
        "principal": "service:ci-runner", "certificate": "uri:spiffe://example.org/ns/ci/sa/runner"
    })),
    responses(
        (status = 200, description = "It was there", body = Identity),
        (status = 201, description = "It is new", body = Identity),
    )
)]
async fn add(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<AddIdentity>,
) -> Result<(StatusCode, Json<Identity>), Failure> {
    let admin = signed_in.admin(&app, Right::People, "adding an identity").await?;
    let (known, is_new) = app.add_identity(&admin, &signed_in.origin, wish(body)?).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(shown(known))))
}

/// Let nobody sign in by a certificate's name any more. Needs the right `people`.
#[utoipa::path(
    delete,
    path = "/v1/identities/{certificate}",
    tag = "tokens", operation_id = "removeIdentity",
    params(("certificate" = String, Path, description = "The name, percent-encoded")),
    responses((status = 204, description = "Removed"))
)]
async fn remove(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(certificate): Path<String>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<StatusCode, Failure> {
    let admin = signed_in.admin(&app, Right::People, "removing an identity").await?;
    app.remove_identity(&admin, &signed_in.origin, &certificate).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn wish(body: AddIdentity) -> Result<IdentityWish, Failure> {
    let mut faults = Vec::new();
    let principal = parse("principal", Some(body.principal.as_str()), &mut faults);
    let groups = body.groups.map(|groups| {
        let group = |(n, text): (usize, &String)| {
            parse(&format!("groups[{n}]"), Some(text.as_str()), &mut faults)
        };
        groups.iter().enumerate().filter_map(group).collect()
    });
    match principal {
        Some(principal) if faults.is_empty() => {
            let (certificate, claims) = (body.certificate, body.claims);
            Ok(IdentityWish { principal, certificate, groups, claims })
        }
        _ => Err(Failure::invalid(faults)),
    }
}

fn shown(known: ListedCertificate) -> Identity {
    Identity {
        certificate: known.subject,
        principal_id: known.principal_id,
        principal: known.principal,
        created_at: known.created_at,
        last_seen_at: known.last_seen_at,
    }
}
