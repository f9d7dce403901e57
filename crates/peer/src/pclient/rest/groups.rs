//! Groups of users, as the directory keeps them. What is changed here holds at this peer when it is answered.

use axum::{Json, extract::State};
use http::StatusCode;
use wire::{
    ErrorCode, GroupName, Username,
    http::{JsonBody, Path, Problem, Query, page},
    rest::{
        Audience, Page,
        accounts::{Group, GroupRequest},
        directory::PageQuery,
    },
};

use super::{NoQuery, Pclient};

/// `GET /v1/groups`.
pub(super) async fn list(
    State(pclient): State<Pclient>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<Group>>, Problem> {
    page::limit(query.limit)?;
    Ok(Json(pclient.directory.groups(&query).await?))
}

/// `POST /v1/groups`.
pub(super) async fn create(
    State(pclient): State<Pclient>,
    _: NoQuery,
    JsonBody(request): JsonBody<GroupRequest>,
) -> Result<(StatusCode, Json<Group>), Problem> {
    let group = pclient.directory.create_group(&request).await?;
    pclient.trust.refresh().await;
    Ok((StatusCode::CREATED, Json(group)))
}

/// `GET /v1/groups/{name}`.
pub(super) async fn show(
    State(pclient): State<Pclient>,
    Path(name): Path<GroupName>,
    _: NoQuery,
) -> Result<Json<Group>, Problem> {
    Ok(Json(pclient.directory.group(&name).await?))
}

/// `DELETE /v1/groups/{name}`.
pub(super) async fn remove(
    State(pclient): State<Pclient>,
    Path(name): Path<GroupName>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    pclient.directory.delete_group(&name).await?;
    pclient.trust.refresh().await;
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT /v1/groups/{name}/members/{username}`.
pub(super) async fn add_member(
    State(pclient): State<Pclient>,
    Path((name, username)): Path<(GroupName, Username)>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    pclient.directory.set_member(&name, &username, true).await?;
    pclient.trust.refresh().await;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /v1/groups/{name}/members/{username}`.
pub(super) async fn remove_member(
    State(pclient): State<Pclient>,
    Path((name, username)): Path<(GroupName, Username)>,
    _: NoQuery,
) -> Result<StatusCode, Problem> {
    pclient.directory.set_member(&name, &username, false).await?;
    pclient.trust.refresh().await;
    Ok(StatusCode::NO_CONTENT)
}

impl Pclient {
    /// A name that nobody has, or a group that there is not for this account, is a slip of whoever writes it; and whoever
    /// took the name later would be meant. While the directory is away nobody knows: then it is taken as it is, and a
    /// group has no members until it is back.
    pub(super) async fn check_audience(&self, audience: Option<&Audience>) -> Result<(), Problem> {
        let users: Vec<Username> = audience.into_iter().flat_map(Audience::users).cloned().collect();
        if !users.is_empty()
            && let Ok(known) = self.directory.lookup(users.clone()).await
            && let Some(unknown) = users.iter().find(|user| !known.contains(user))
        {
            let detail = format!("there is no account called {unknown}");
            return Err(Problem::new(ErrorCode::Unprocessable, detail));
        }
        for group in audience.into_iter().flat_map(Audience::groups) {
            if let Err(failure) = self.directory.group(group).await
                && failure.code == ErrorCode::NotFound
            {
                let detail = format!("there is no group @{group} that you own or belong to");
                return Err(Problem::new(ErrorCode::Unprocessable, detail));
            }
        }
        Ok(())
    }

    /// Learns who is in the groups that an audience names, if they were not named before.
    pub(super) async fn learn_groups(&self, audience: Option<&Audience>) {
        if audience.is_some_and(|audience| audience.groups().next().is_some()) {
            self.trust.refresh().await;
        }
    }
}
