//! Provisioning by the identity provider: SCIM 2.0 (RFC 7643, RFC 7644), as far as it is needed to say who is there
//! and who is not. Errors have SCIM's own form ([`Failure::render_scim`]); what is not kept here is read over, as
//! the standard allows, because providers send whatever they have.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    app::{
        App,
        error::Error,
        people::scim::{Change, Provisioned, Sought},
    },
    domain::administration::Right,
    http::{
        caller::SignedIn,
        json::Json,
        parameters::{Nothing, Path, Query},
        problem::Failure,
    },
    identity::Admin,
    ids::PrincipalId,
};

const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
const LIST: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";
const CONFIG: &str = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig";

/// Users on one page at most.
const MOST: i64 = 200;

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(config))
        .routes(routes!(list, create))
        .routes(routes!(show, replace, patch, remove))
}

/// An answer of SCIM.
struct Scim(Value);

impl IntoResponse for Scim {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/scim+json")], self.0.to_string()).into_response()
    }
}

/// Which users to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct UserQuery {
    /// `userName eq "…"` or `externalId eq "…"`.
    filter: Option<String>,
    /// The first one, from 1 on.
    start_index: Option<i64>,
    /// How many at most.
    count: Option<i64>,
    /// Not looked at: all that is known is answered.
    #[serde(rename = "attributes")]
    _attributes: Option<String>,
    /// Not looked at.
    #[serde(rename = "excludedAttributes")]
    _excluded_attributes: Option<String>,
}

/// A user, as far as it is looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    user_name: String,
    external_id: Option<String>,
    active: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Patch {
    #[serde(rename = "Operations")]
    operations: Vec<Operation>,
}

#[derive(Debug, Deserialize)]
struct Operation {
    op: String,
    path: Option<String>,
    value: Option<Value>,
}

/// What can be done here.
#[utoipa::path(
    get,
    path = "/scim/v2/ServiceProviderConfig",
    tag = "provisioning", operation_id = "scimConfig",
    responses((status = 200, description = "As RFC 7643, 5 has it", content_type = "application/scim+json", body = Value))
)]
async fn config(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Scim, Failure> {
    admin(&app, &signed_in).await?;
    let no = json!({ "supported": false });
    Ok(Scim(json!({
        "schemas": [CONFIG],
        "patch": { "supported": true },
        "bulk": { "supported": false, "maxOperations": 0, "maxPayloadSize": 0 },
        "filter": { "supported": true, "maxResults": MOST },
        "changePassword": no, "sort": no, "etag": no,
        "authenticationSchemes": [{
            "type": "oauthbearertoken", "name": "Token",
            "description": "A token of pgvalet with the scope `people`",
        }],
    })))
}

/// List users.
///
/// People who are known by the identity provider, oldest first.
#[utoipa::path(
    get,
    path = "/scim/v2/Users",
    tag = "provisioning", operation_id = "scimListUsers",
    params(UserQuery),
    responses((status = 200, description = "A ListResponse", content_type = "application/scim+json", body = Value))
)]
async fn list(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(query): Query<UserQuery>,
) -> Result<Scim, Failure> {
    let admin = admin(&app, &signed_in).await?;
    let sought = query.filter.as_deref().map_or(Ok(Sought::default()), sought)?;
    let first = query.start_index.unwrap_or(1).max(1);
    let count = query.count.unwrap_or(MOST).clamp(0, MOST);
    let (total, found) = app.provisioned(&admin, &sought, (first - 1, count)).await?;
    let users: Vec<Value> = found.iter().map(|user| shown(&app, user)).collect();
    Ok(Scim(json!({
        "schemas": [LIST], "totalResults": total, "startIndex": first,
        "itemsPerPage": users.len(), "Resources": users,
    })))
}

/// Record a user.
///
/// `externalId` is the key by which the provider's tokens name them. One who was taken out before is let in again.
#[utoipa::path(
    post,
    path = "/scim/v2/Users",
    tag = "provisioning", operation_id = "scimCreateUser",
    request_body(content = Value, content_type = "application/scim+json"),
    responses((status = 201, description = "The user", content_type = "application/scim+json", body = Value))
)]
async fn create(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<User>,
) -> Result<(StatusCode, Scim), Failure> {
    let admin = admin(&app, &signed_in).await?;
    let external_id = body.external_id.unwrap_or_default();
    let active = body.active.as_ref().map(truth).transpose()?;
    let mut made = app.provision(&admin, &signed_in.origin, &body.user_name, &external_id).await?;
    if active == Some(false) {
        let change = Change { active, ..Change::default() };
        made = app.change_provisioned(&admin, &signed_in.origin, made.id, &change).await?;
    }
    Ok((StatusCode::CREATED, Scim(shown(&app, &made))))
}

/// Show a user.
#[utoipa::path(
    get,
    path = "/scim/v2/Users/{user}",
    tag = "provisioning", operation_id = "scimShowUser",
    params(("user" = String, Path, description = "The user")),
    responses((status = 200, description = "The user", content_type = "application/scim+json", body = Value))
)]
async fn show(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<String>,
) -> Result<Scim, Failure> {
    let admin = admin(&app, &signed_in).await?;
    Ok(Scim(shown(&app, &app.provisioned_one(&admin, read_id(&id)?).await?)))
}

/// Replace a user.
///
/// `active` and `userName` are kept; `externalId` cannot become another.
#[utoipa::path(
    put,
    path = "/scim/v2/Users/{user}",
    tag = "provisioning", operation_id = "scimReplaceUser",
    params(("user" = String, Path, description = "The user")),
    request_body(content = Value, content_type = "application/scim+json"),
    responses((status = 200, description = "The user", content_type = "application/scim+json", body = Value))
)]
async fn replace(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<String>,
    Json(body): Json<User>,
) -> Result<Scim, Failure> {
    let active = body.active.as_ref().map(truth).transpose()?;
    let change = Change { active, user_name: Some(body.user_name), external_id: body.external_id };
    changed(&app, &signed_in, &id, &change).await
}

/// Change a user.
///
/// `active = false` shuts them out: sessions end, tokens are refused, leases are revoked.
#[utoipa::path(
    patch,
    path = "/scim/v2/Users/{user}",
    tag = "provisioning", operation_id = "scimPatchUser",
    params(("user" = String, Path, description = "The user")),
    request_body(content = Value, content_type = "application/scim+json"),
    responses((status = 200, description = "The user", content_type = "application/scim+json", body = Value))
)]
async fn patch(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<String>,
    Json(body): Json<Patch>,
) -> Result<Scim, Failure> {
    changed(&app, &signed_in, &id, &read_patch(body)?).await
}

/// Take a user out.
///
/// The person is disabled, and stays on record with what they did.
#[utoipa::path(
    delete,
    path = "/scim/v2/Users/{user}",
    tag = "provisioning", operation_id = "scimRemoveUser",
    params(("user" = String, Path, description = "The user")),
    responses((status = 204, description = "Taken out"))
)]
async fn remove(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<String>,
) -> Result<StatusCode, Failure> {
    let change = Change { active: Some(false), ..Change::default() };
    changed(&app, &signed_in, &id, &change).await.map(|_| StatusCode::NO_CONTENT)
}

async fn admin<'a>(app: &App, signed_in: &'a SignedIn) -> Result<Admin<'a>, Failure> {
    signed_in.admin(app, Right::People, "provisioning").await
}

async fn changed(
    app: &App,
    signed_in: &SignedIn,
    id: &str,
    change: &Change,
) -> Result<Scim, Failure> {
    let admin = admin(app, signed_in).await?;
    let user = app.change_provisioned(&admin, &signed_in.origin, read_id(id)?, change).await?;
    Ok(Scim(shown(app, &user)))
}

/// What is no id of ours is no user of ours.
fn read_id(text: &str) -> Result<PrincipalId, Failure> {
    let shown = || text.chars().filter(|c| !c.is_control()).take(64).collect();
    text.parse().map_err(|_| Error::NotFound { what: "user", name: shown(), near: None }.into())
}

fn shown(app: &App, user: &Provisioned) -> Value {
    let at = app.own_address().unwrap_or_default();
    json!({
        "schemas": [USER],
        "id": user.id.to_string(),
        "externalId": user.external_id,
        "userName": user.user_name,
        "active": user.active,
        "meta": {
            "resourceType": "User", "created": user.created_at,
            "location": format!("{at}/scim/v2/Users/{}", user.id),
        },
    })
}

fn refused(code: &'static str, detail: impl Into<String>) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, code, detail.into())
}

/// The one form of filter that provisioning needs.
fn sought(filter: &str) -> Result<Sought, Failure> {
    let fault = || {
        refused(
            "invalidFilter",
            "write `userName eq \"…\"` or `externalId eq \"…\"`: no other filter is known here",
        )
    };
    let mut words = filter.trim().splitn(3, ' ');
    let (Some(name), Some(operator), Some(value)) = (words.next(), words.next(), words.next())
    else {
        return Err(fault());
    };
    let value: String = serde_json::from_str(value.trim()).map_err(|_| fault())?;
    if !operator.eq_ignore_ascii_case("eq") {
        return Err(fault());
    }
    match bare(name).to_ascii_lowercase().as_str() {
        "username" => Ok(Sought { user_name: Some(value), external_id: None }),
        "externalid" => Ok(Sought { user_name: None, external_id: Some(value) }),
        _ => Err(fault()),
    }
}

/// An attribute's name, without the schema that it is of.
fn bare(name: &str) -> &str {
    name.strip_prefix(USER).map_or(name, |rest| rest.trim_start_matches(':'))
}

/// Some providers write truth as text.
fn truth(value: &Value) -> Result<bool, Failure> {
    match value {
        Value::Bool(truth) => Ok(*truth),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(refused("invalidValue", "`active` is true or false")),
    }
}

fn read_patch(patch: Patch) -> Result<Change, Failure> {
    let mut change = Change::default();
    for operation in patch.operations {
        let op = operation.op.to_ascii_lowercase();
        if !["add", "replace", "remove"].contains(&op.as_str()) {
            return Err(refused("invalidSyntax", "`op` is add, replace or remove"));
        }
        match (operation.path, operation.value) {
            (Some(path), _) if op == "remove" => match attribute(&path) {
                Attribute::NotKept => {}
                _ => return Err(refused("mutability", "what a user is known by is not removed")),
            },
            (Some(path), Some(value)) => set(&mut change, &path, &value)?,
            (None, Some(Value::Object(values))) if op != "remove" => {
                for (path, value) in &values {
                    set(&mut change, path, value)?;
                }
            }
            _ => {
                return Err(refused(
                    "invalidValue",
                    "an operation has a path and a value, or a value that is an object",
                ));
            }
        }
    }
    Ok(change)
}

enum Attribute {
    Active,
    UserName,
    ExternalId,
    NotKept,
}

fn attribute(path: &str) -> Attribute {
    match bare(path).to_ascii_lowercase().as_str() {
        "active" => Attribute::Active,
        "username" => Attribute::UserName,
        "externalid" => Attribute::ExternalId,
        _ => Attribute::NotKept,
    }
}

fn set(change: &mut Change, path: &str, value: &Value) -> Result<(), Failure> {
    let text = || {
        let text = value.as_str().map(str::to_owned);
        text.map(Some).ok_or_else(|| refused("invalidValue", format!("`{}` is a text", bare(path))))
    };
    match attribute(path) {
        Attribute::Active => change.active = Some(truth(value)?),
        Attribute::UserName => change.user_name = text()?,
        Attribute::ExternalId => change.external_id = text()?,
        Attribute::NotKept => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(operations: &Value) -> Result<Change, Failure> {
        read_patch(serde_json::from_value(json!({ "Operations": operations })).unwrap())
    }

    #[test]
    fn every_form_of_a_patch_that_providers_send_is_read() {
        let out = Change { active: Some(false), ..Change::default() };
        for operations in [
            json!([{ "op": "replace", "path": "active", "value": false }]),
            json!([{ "op": "Replace", "path": "active", "value": "False" }]),
            json!([{ "op": "replace", "value": { "active": false } }]),
            json!([{ "op": "add", "path": format!("{USER}:active"), "value": "false" }]),
            json!([{ "op": "replace", "path": "name.givenName", "value": "A" },
                   { "op": "replace", "path": "active", "value": false }]),
        ] {
            assert_eq!(patch(&operations).unwrap(), out, "{operations}");
        }
        let renamed =
            json!([{ "op": "replace", "value": { "userName": "b", "displayName": "B" } }]);
        assert_eq!(patch(&renamed).unwrap().user_name.as_deref(), Some("b"));
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        for operations in [
            json!([{ "op": "replace", "path": "active", "value": "no" }]),
            json!([{ "op": "replace", "path": "active" }]),
            json!([{ "op": "replace", "value": false }]),
            json!([{ "op": "forget", "path": "active", "value": false }]),
            json!([{ "op": "remove", "path": "userName" }]),
            json!([{ "op": "replace", "path": "userName", "value": 7 }]),
        ] {
            assert!(patch(&operations).is_err(), "{operations}");
        }
    }

    #[test]
    fn a_filter_is_by_name_or_key() {
        assert_eq!(sought("userName eq \"a b\"").unwrap().user_name.as_deref(), Some("a b"));
        assert_eq!(sought("externalId Eq \"x\"").unwrap().external_id.as_deref(), Some("x"));
        for other in [
            "userName co \"a\"",
            "active eq true",
            "userName eq a",
            "",
            "userName eq \"a\" or true",
        ] {
            assert!(sought(other).is_err(), "{other}");
        }
    }
}
