//! Access reviews: opened, read, decided, signed off, exported; and what they took away, given back.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        Page,
        admin::Profile,
        reviews::{
            AccessReview, AccessReviewItem, AccessReviewProfile, AccessReviewProfiles, Decide,
            OpenReview, Restore, ReviewDecided, SignOff,
        },
    },
    app::{
        App,
        reviews::{Form, ItemFilter, ReviewProfile, Said, Which},
    },
    domain::{
        administration::Right,
        name::Name,
        review::{Item, Review},
    },
    http::{
        admin::shown_profile,
        caller::SignedIn,
        json::Json,
        parameters::{Limit, Nothing, Path, Query, parse},
        problem::Failure,
    },
    ids::{ReviewId, ReviewItemId},
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(open))
        .routes(routes!(show))
        .routes(routes!(items))
        .routes(routes!(profiles))
        .routes(routes!(decide))
        .routes(routes!(sign_off))
        .routes(routes!(export))
        .routes(routes!(restore))
}

/// A page of reviews.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ReviewQuery {
    /// `next_cursor` of the page before.
    cursor: Option<ReviewId>,
    /// How many items at most: 1 to 200, 50 if left out.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200)]
    limit: Limit,
}

/// List access reviews.
///
/// Newest first. For reviewers, and for who may read everything.
#[utoipa::path(
    get,
    path = "/v1/reviews",
    tag = "reviews", operation_id = "listReviews",
    params(ReviewQuery),
    responses((status = 200, body = Page<AccessReview>))
)]
async fn list(
    State(app): State<Arc<App>>,
    SignedIn { caller, origin, .. }: SignedIn,
    Query(query): Query<ReviewQuery>,
) -> Result<Json<Page<AccessReview>>, Failure> {
    let most = query.limit.with_one_more();
    let found = app.reviews(&caller, &origin, query.cursor, most).await?;
    Ok(Json(query.limit.page(found, |review| review.id.to_string(), shown)))
}

/// Open an access review.
///
/// Of everybody, or of one principal. The body may be left out.
#[utoipa::path(
    post,
    path = "/v1/reviews",
    tag = "reviews", operation_id = "openReview",
    request_body(content = Option<OpenReview>, example = json!({"principal": "person:alice"})),
    responses((status = 201, body = AccessReview))
)]
async fn open(
    State(app): State<Arc<App>>,
    SignedIn { caller, origin, .. }: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    body: Option<Json<OpenReview>>,
) -> Result<Response, Failure> {
    let OpenReview { principal } = body.map(|Json(body)| body).unwrap_or_default();
    let mut faults = Vec::new();
    let principal = parse("principal", principal.as_deref(), &mut faults);
    if !faults.is_empty() {
        return Err(Failure::invalid(faults));
    }
    let review = app.open_review(&caller, &origin, principal.as_ref()).await?;
    let location = format!("/v1/reviews/{}", review.id);
    let answer = (StatusCode::CREATED, [(header::LOCATION, location)], Json(shown(review)));
    Ok(answer.into_response())
}

/// Show an access review.
#[utoipa::path(
    get,
    path = "/v1/reviews/{id}",
    tag = "reviews", operation_id = "showReview",
    params(("id" = ReviewId, Path, description = "The review")),
    responses((status = 200, body = AccessReview))
)]
async fn show(
    State(app): State<Arc<App>>,
    SignedIn { caller, origin, .. }: SignedIn,
    Path(id): Path<ReviewId>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<AccessReview>, Failure> {
    Ok(Json(shown(app.access_review(&caller, &origin, id).await?)))
}

/// Which items to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ItemQuery {
    /// Only those that wait to be decided.
    #[serde(default)]
    undecided: bool,
    /// Only those of this profile.
    #[param(value_type = Option<Name>)]
    profile: Option<Name>,
    /// Only those of this principal (`person:alice`), or of `anyone`.
    principal: Option<String>,
    /// Only those that were never used.
    #[serde(default)]
    never_used: bool,
    /// `next_cursor` of the page before.
    cursor: Option<ReviewItemId>,
    /// How many items at most: 1 to 200, 50 if left out.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200)]
    limit: Limit,
}

/// List the items of an access review.
///
/// By profile and principal: each with the rule that reaches them, how it was used, and what became of it.
#[utoipa::path(
    get,
    path = "/v1/reviews/{id}/items",
    tag = "reviews", operation_id = "listReviewItems",
    params(("id" = ReviewId, Path, description = "The review"), ItemQuery),
    responses((status = 200, body = Page<AccessReviewItem>))
)]
async fn items(
    State(app): State<Arc<App>>,
    SignedIn { caller, origin, .. }: SignedIn,
    Path(id): Path<ReviewId>,
    Query(query): Query<ItemQuery>,
) -> Result<Json<Page<AccessReviewItem>>, Failure> {
    let filter = ItemFilter {
        ids: None,
        undecided: query.undecided,
        profile: query.profile.map(|name| name.to_string()),
        principal: query.principal,
        never_used: query.never_used,
        after: query.cursor,
    };
    let most = query.limit.with_one_more();
    let found = app.review_items(&caller, &origin, id, &filter, most).await?;
    Ok(Json(query.limit.page(found, |item| item.id.to_string(), shown_item)))
}

/// List the profiles of an access review.
///
/// With what their leases exercised of what is granted, where the target remembers statements (`pg_stat_statements`).
#[utoipa::path(
    get,
    path = "/v1/reviews/{id}/profiles",
    tag = "reviews", operation_id = "listReviewProfiles",
    params(("id" = ReviewId, Path, description = "The review")),
    responses((status = 200, body = AccessReviewProfiles))
)]
async fn profiles(
    State(app): State<Arc<App>>,
    SignedIn { caller, origin, .. }: SignedIn,
    Path(id): Path<ReviewId>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<AccessReviewProfiles>, Failure> {
    let found = app.review_profiles(&caller, &origin, id).await?;
    let shown = |ReviewProfile { profile, exercise }| AccessReviewProfile { profile, exercise };
    Ok(Json(AccessReviewProfiles { items: found.into_iter().map(shown).collect() }))
}

/// Decide items of an access review.
///
/// Those that are named, or those that wait and meet a filter. It takes effect at once: leases end with what is removed.
/// Nobody decides about what they reach themselves. With a session, or a token whose scopes name `approve`.
#[utoipa::path(
    post,
    path = "/v1/reviews/{id}/decisions",
    tag = "reviews", operation_id = "decideReview",
    params(("id" = ReviewId, Path, description = "The review")),
    request_body(content = Decide, example = json!({"never_used": true, "verdict": "remove", "reason": "never used"})),
    responses((status = 200, body = ReviewDecided))
)]
async fn decide(
    State(app): State<Arc<App>>,
    SignedIn { caller, origin, .. }: SignedIn,
    Path(id): Path<ReviewId>,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<Decide>,
) -> Result<Json<ReviewDecided>, Failure> {
    let has_filter = body.principal.is_some() || body.profile.is_some() || body.never_used;
    let which = match (body.items, has_filter, body.all) {
        (Some(items), false, false) => Which::Items(items),
        (None, true, false) | (None, false, true) => Which::Those(ItemFilter {
            profile: body.profile.map(|name| name.to_string()),
            principal: body.principal,
            never_used: body.never_used,
            ..ItemFilter::default()
        }),
        _ => {
            let message = "say which: `items`; or `principal`, `profile`, `never_used`; or `all`";
            return Err(Failure::fault("items", message));
        }
    };
    let said = Said { verdict: body.verdict, max_ttl: body.max_ttl, reason: body.reason };
    let done = app.decide_review(&caller, &origin, id, which, said).await?;
    let (decided, left_out, unfit) = (done.decided, done.left_out, done.unfit);
    Ok(Json(ReviewDecided { decided, left_out, unfit, review: shown(done.review) }))
}

/// Sign an access review off.
///
/// Once all its items are decided. The body may be left out.
#[utoipa::path(
    post,
    path = "/v1/reviews/{id}/sign-off",
    tag = "reviews", operation_id = "signReviewOff",
    params(("id" = ReviewId, Path, description = "The review")),
    request_body(content = Option<SignOff>, example = json!({"comment": "third quarter"})),
    responses((status = 200, body = AccessReview))
)]
async fn sign_off(
    State(app): State<Arc<App>>,
    SignedIn { caller, origin, .. }: SignedIn,
    Path(id): Path<ReviewId>,
    Query(Nothing {}): Query<Nothing>,
    body: Option<Json<SignOff>>,
) -> Result<Json<AccessReview>, Failure> {
    let SignOff { comment } = body.map(|Json(body)| body).unwrap_or_default();
    Ok(Json(shown(app.sign_review_off(&caller, &origin, id, comment).await?)))
}

/// In which form.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ExportQuery {
    /// The form.
    #[serde(default)]
    #[param(inline)]
    format: Format,
}

/// A form of an export.
#[derive(Debug, Clone, Copy, Default, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Format {
    /// For a spreadsheet.
    #[default]
    Csv,
    /// To be read.
    Markdown,
}

/// Export an access review.
#[utoipa::path(
    get,
    path = "/v1/reviews/{id}/export",
    tag = "reviews", operation_id = "exportReview",
    params(("id" = ReviewId, Path, description = "The review"), ExportQuery),
    responses((status = 200, body = String, content_type = "text/csv"))
)]
async fn export(
    State(app): State<Arc<App>>,
    SignedIn { caller, origin, .. }: SignedIn,
    Path(id): Path<ReviewId>,
    Query(query): Query<ExportQuery>,
) -> Result<Response, Failure> {
    let (form, kind) = match query.format {
        Format::Csv => (Form::Csv, "text/csv; charset=utf-8"),
        Format::Markdown => (Form::Markdown, "text/markdown; charset=utf-8"),
    };
    let text = app.export_review(&caller, &origin, id, form).await?;
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Give back what an access review took away.
#[utoipa::path(
    post,
    path = "/v1/profiles/{name}/restore",
    tag = "reviews", operation_id = "restoreReviewed",
    params(("name" = Name, Path, description = "The profile")),
    request_body(content = Restore, example = json!({"principal": "person:alice", "reason": "on call again"})),
    responses((status = 200, body = Profile))
)]
async fn restore(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(name): Path<Name>,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<Restore>,
) -> Result<Json<Profile>, Failure> {
    let what = "giving back what an access review took away";
    let admin = signed_in.admin(&app, Right::Profiles, what).await?;
    let whose = (&name, body.principal.as_str());
    let profile = app.restore_reviewed(&admin, &signed_in.origin, whose, &body.reason).await?;
    Ok(Json(shown_profile(profile)))
}

fn shown(review: Review) -> AccessReview {
    AccessReview {
        id: review.id,
        state: review.state,
        cause: review.cause,
        principal: review.principal,
        opened_at: review.opened_at,
        due_at: review.due_at,
        announced_at: review.announced_at,
        on_due: review.on_due,
        settled_at: review.settled_at,
        signed_off_at: review.signed_off_at,
        signed_off_by: review.signed_off_by,
        counts: review.counts,
    }
}

fn shown_item(item: Item) -> AccessReviewItem {
    AccessReviewItem {
        id: item.id,
        principal: item.principal,
        profile: item.profile,
        rule: item.rule,
        facts: item.facts,
        never_used: item.facts.last_used.is_none(),
        decision: item.decision,
    }
}
