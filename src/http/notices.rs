//! Notices: listed, sent again, and channels tried.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        Page,
        notices::{ChannelTried, Notice, ReplayNotices, Replayed, TryChannel},
    },
    app::{App, ListedNotice, NoticeFilter},
    domain::{
        administration::Right,
        notice::{ChannelName, NoticeState},
    },
    http::{
        caller::SignedIn,
        json::Json,
        parameters::{Limit, Nothing, Path, Query},
        problem::Failure,
    },
    ids::NoticeId,
};

/// The routes of this file.
pub(in crate::http) fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(replay_one))
        .routes(routes!(replay))
        .routes(routes!(try_channel))
}

/// Which notices to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct NoticeQuery {
    /// Only those in this state.
    #[param(inline)]
    state: Option<NoticeState>,
    /// Only those for this channel.
    #[param(example = "webhook:pager")]
    channel: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<NoticeId>,
    /// How many items at most: 1 to 200, 50 if left out.
    #[serde(default)]
    #[param(value_type = Option<u8>, minimum = 1, maximum = 200)]
    limit: Limit,
}

/// List notices: what is told to webhooks, by mail, by Slack. Needs the right `read`; newest first.
///
/// What was told is kept for 30 days, what was given up for 90.
#[utoipa::path(
    get,
    path = "/v1/notices",
    tag = "notices", operation_id = "listNotices",
    params(NoticeQuery),
    responses((status = 200, body = Page<Notice>))
)]
async fn list(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(query): Query<NoticeQuery>,
) -> Result<Json<Page<Notice>>, Failure> {
    let admin = signed_in.admin(&app, Right::Read, "listing notices").await?;
    let filter = NoticeFilter { state: query.state, channel: query.channel, before: query.cursor };
    let rows = app.notices(&admin, &filter, query.limit.with_one_more()).await?;
    Ok(Json(query.limit.page(rows, |row| row.id.to_string(), shown)))
}

/// Send a notice again that was given up. Needs the right `targets`.
#[utoipa::path(
    post,
    path = "/v1/notices/{id}/replay",
    tag = "notices", operation_id = "replayNotice",
    params(("id" = NoticeId, Path, description = "The notice")),
    responses((status = 204, description = "It is sent again"))
)]
async fn replay_one(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Path(id): Path<NoticeId>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<StatusCode, Failure> {
    let admin = signed_in.admin(&app, Right::Targets, "sending notices again").await?;
    app.replay_notice(&admin, &signed_in.origin, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send all notices again that were given up, of one channel or of all. Needs the right `targets`.
#[utoipa::path(
    post,
    path = "/v1/notices/replay",
    tag = "notices", operation_id = "replayNotices",
    request_body(content = ReplayNotices, example = json!({ "channel": "webhook:pager" })),
    responses((status = 200, body = Replayed))
)]
async fn replay(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<ReplayNotices>,
) -> Result<Json<Replayed>, Failure> {
    let admin = signed_in.admin(&app, Right::Targets, "sending notices again").await?;
    let channel = body.channel.as_deref().map(channel).transpose()?;
    let notices = app.replay_notices(&admin, &signed_in.origin, channel.as_ref()).await?;
    Ok(Json(Replayed { notices }))
}

/// Send a notice to a channel now, and say what came of it. Needs the right `targets`.
#[utoipa::path(
    post,
    path = "/v1/notices/test",
    tag = "notices", operation_id = "testChannel",
    request_body(content = TryChannel, example = json!({ "channel": "webhook:pager" })),
    responses((status = 200, body = ChannelTried))
)]
async fn try_channel(
    State(app): State<Arc<App>>,
    signed_in: SignedIn,
    Query(Nothing {}): Query<Nothing>,
    Json(body): Json<TryChannel>,
) -> Result<Json<ChannelTried>, Failure> {
    let admin = signed_in.admin(&app, Right::Targets, "trying a channel").await?;
    let tried = app.try_channel(&admin, &signed_in.origin, &channel(&body.channel)?).await?;
    let (told, milliseconds) = (tried.why.is_none(), tried.milliseconds);
    Ok(Json(ChannelTried { told, why: tried.why, milliseconds }))
}

fn channel(text: &str) -> Result<ChannelName, Failure> {
    text.parse().map_err(|error| Failure::fault("channel", format!("{error}")))
}

fn shown(row: ListedNotice) -> Notice {
    let state = row.state();
    Notice {
        id: row.id,
        channel: row.channel,
        topic: row.topic,
        subject: row.subject,
        title: row.title,
        state,
        created_at: row.created_at,
        due_at: (state == NoticeState::Waiting).then_some(row.due_at),
        attempts: row.attempts,
        told_at: row.told_at,
        dead_at: row.dead_at,
        last_error: row.last_error,
    }
}
