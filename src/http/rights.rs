//! What a profile gives: explained for one object; and checked.

use std::{net::IpAddr, sync::Arc};

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::access::Access,
    app::{App, explain_access::Question},
    domain::{
        administration::Right,
        explanation::{Explanation, ObjectName},
        name::Name,
        principal::PrincipalName,
        rights::check::CheckRun,
    },
    http::{
        caller::SignedIn,
        json::Json,
        parameters::{Nothing, Path, Query},
        problem::Failure,
    },
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(explain)).routes(routes!(access)).routes(routes!(check))
}

/// What is asked about.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct About {
    /// `schema.table` or `schema.table.column`; names that need them in double quotes.
    object: String,
}

/// Say who may do what with a table or a column, and through which grant or policy.
///
/// Read from the target's catalogue. For those who may see the profile; who else has rights there is told in
/// full to administrators only.
#[utoipa::path(
    get,
    path = "/v1/profiles/{name}/explain",
    tag = "profiles", operation_id = "explainProfile",
    params(("name" = Name, Path, description = "The profile"), About),
    responses((status = 200, body = Explanation))
)]
async fn explain(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(about): Query<About>,
) -> Result<Json<Explanation>, Failure> {
    let object: ObjectName =
        about.object.parse().map_err(|e| Failure::fault("object", format!("{e}")))?;
    Ok(Json(app.explain(&signed_in.caller, &name, &object).await?))
}

/// Of whom, when and from where.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfWhom {
    /// `person:alice`, `service:reports` or `ci:storefront`; the caller, if left out. Of others, for those who
    /// may read everything.
    #[param(value_type = Option<String>)]
    principal: Option<String>,
    /// When; now, if left out.
    at: Option<DateTime<Utc>>,
    /// From which address; the caller's own, if it asks of itself.
    #[param(value_type = Option<String>)]
    from: Option<IpAddr>,
}

/// Say whether somebody would get a lease, and everything that is looked at.
///
/// Nothing is issued or recorded. A reason is taken to be given.
#[utoipa::path(
    get,
    path = "/v1/profiles/{name}/access",
    tag = "profiles", operation_id = "explainAccess",
    params(("name" = Name, Path, description = "The profile"), OfWhom),
    responses((status = 200, body = Access))
)]
async fn access(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(of): Query<OfWhom>,
) -> Result<Json<Access>, Failure> {
    let principal = of.principal.as_deref().map(str::parse::<PrincipalName>).transpose();
    let principal = principal.map_err(|e| Failure::fault("principal", format!("{e}")))?;
    let question = Question { principal, at: of.at, from: of.from };
    let (caller, origin) = (&signed_in.caller, &signed_in.origin);
    let explained = app.explain_access(caller, origin, &name, question).await?;
    Ok(Json(Access {
        principal: explained.principal.to_string(),
        groups: explained.principal.groups.iter().map(Name::to_string).collect(),
        profile: name,
        at: explained.at,
        from: explained.from.map(|from| from.to_string()),
        allowed: explained.findings.iter().all(|finding| finding.holds),
        findings: explained.findings,
    }))
}

/// Run the checks of a profile. Administrators only.
///
/// Each statement is run in a real lease of the profile, in a transaction that is rolled back. A profile whose
/// checks fail gives no leases until they pass, unless it says `failed_checks = "warn"`.
#[utoipa::path(
    post,
    path = "/v1/profiles/{name}/check",
    tag = "profiles", operation_id = "checkProfile",
    params(("name" = Name, Path, description = "The profile")),
    responses((status = 200, description = "They were run, whatever came of them", body = CheckRun))
)]
async fn check(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<CheckRun>, Failure> {
    let admin = signed_in.admin(&app, Right::Profiles, "checking a profile").await?;
    Ok(Json(Box::pin(app.check(&admin, &signed_in.origin, &name)).await?))
}
