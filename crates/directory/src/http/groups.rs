//! `/v1/groups`: users under one name, for audiences.

use std::sync::Arc;

use axum::{Json, extract::State};
use http::StatusCode;
use wire::{
    ErrorCode, GroupName, Username,
    http::{JsonBody, NoQuery, Path, Problem, Query, page},
    rest::{
        Page,
        accounts::{Group, GroupRequest, MAX_MEMBERS},
        directory::PageQuery,
    },
};

use super::{auth::Caller, problems};
use crate::App;

/// `POST /v1/groups`.
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    _: NoQuery,
    JsonBody(GroupRequest { name, mut members }): JsonBody<GroupRequest>,
) -> Result<(StatusCode, Json<Group>), Problem> {
    if members.len() > MAX_MEMBERS {
        let detail = format!("`members` has more than {MAX_MEMBERS} entries");
        return Err(Problem::new(ErrorCode::TooLarge, detail));
    }
    members.sort_unstable();
    members.dedup();
    let group = Group { name, owner: session.username, members };
    app.catalog.create_group(group.clone()).await.map_err(problems::of_catalog)?;
    tracing::info!(group = %group.name, account = %group.owner, "group created");
    Ok((StatusCode::CREATED, Json(group)))
}

/// `GET /v1/groups`.
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    Query(PageQuery { limit, cursor }): Query<PageQuery>,
) -> Result<Json<Page<Group>>, Problem> {
    let after: Option<GroupName> = page::decode_cursor(cursor.as_deref())?;
    let found = app.catalog.groups(after, page::limit(limit)?, &session.username).await;
    let found = found.map_err(problems::of_catalog)?;
    Ok(Json(Page { items: found.items, next_cursor: found.next.map(|key| page::encode_cursor(&key)) }))
}

/// `GET /v1/groups/{name}`.
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    Path(name): Path<GroupName>,
    _: NoQuery,
) -> Result<Json<Group>, Problem> {
    let found = app.catalog.group(&name, &session.username).await.map_err(problems::of_catalog)?;
    found.map(Json).ok_or_else(|| Problem::not_found("the group is not known"))
}

/// `DELETE /v1/groups/{name}`.
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    Path(name): Path<GroupName>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    app.catalog.delete_group(&name, &session.username).await.map_err(problems::of_catalog)?;
    tracing::info!(group = %name, account = %session.username, "group deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /v1/groups/{name}/members/{username}`.
pub(super) async fn add(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    Path((name, member)): Path<(GroupName, Username)>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    set(&app, &session.username, &name, &member, true).await
}

/// `DELETE /v1/groups/{name}/members/{username}`.
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Caller(session): Caller,
    Path((name, member)): Path<(GroupName, Username)>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    set(&app, &session.username, &name, &member, false).await
}

async fn set(
    app: &App,
    caller: &Username,
    name: &GroupName,
    member: &Username,
    belongs: bool,
) -> Result<StatusCode, Problem> {
    app.catalog.set_member(name, caller, member, belongs).await.map_err(problems::of_catalog)?;
    Ok(StatusCode::NO_CONTENT)
}
