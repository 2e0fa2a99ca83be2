//! Lines for a target's `pg_hba.conf`.

use std::sync::Arc;

use axum::extract::State;
use ipnet::IpNet;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::admin::PgHba,
    app::App,
    domain::{administration::Right, name::Name},
    http::{
        caller::SignedIn,
        json::Json,
        parameters::{Path, Query},
        problem::Failure,
    },
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(show_pg_hba))
}

/// From where leased logins are to come.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct From {
    /// Networks such as `10.0.0.0/8`, with commas between them. Those that the server's own lines name now, if
    /// left out.
    #[serde(default)]
    networks: String,
}

/// Write the lines of `pg_hba.conf` that let leased logins in, and in no other way. Administrators only.
///
/// They are for review by a person: nothing is changed on the target. One that cannot be reached has them too.
#[utoipa::path(
    get,
    path = "/v1/targets/{name}/hba",
    tag = "targets", operation_id = "showTargetHba",
    params(("name" = Name, Path, description = "The target"), From),
    responses((status = 200, body = PgHba))
)]
async fn show_pg_hba(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(from): Query<From>,
) -> Result<Json<PgHba>, Failure> {
    let admin = signed_in.admin(&app, Right::Targets, "writing lines of pg_hba.conf").await?;
    let named = from.networks.split(',').map(str::trim).filter(|text| !text.is_empty());
    let networks: Vec<IpNet> = named.map(network).collect::<Result<_, _>>()?;
    let text = app.pg_hba(&admin, &name, &networks).await?;
    Ok(Json(PgHba { target: name, text }))
}

fn network(text: &str) -> Result<IpNet, Failure> {
    let fault = |message: String| Failure::fault("networks", message);
    let network: IpNet = text
        .parse()
        .map_err(|_| fault(format!("`{text}` is no network: write it like 10.0.0.0/8")))?;
    if network == network.trunc() {
        return Ok(network);
    }
    Err(fault(format!("`{text}` is an address in a network: did you mean {}?", network.trunc())))
}
