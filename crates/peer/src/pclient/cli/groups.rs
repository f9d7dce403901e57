//! `peer groups`: the groups of users that this account owns or belongs to, and changes of its own.

use clap::{Args, Subcommand};
use http::Method;
use wire::{
    GroupName, Username,
    rest::accounts::{Group, GroupRequest},
};

use super::{Common, Stop, api::Api, screen::Screen};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct GroupsArgs {
    #[command(subcommand)]
    pub change: Option<GroupCommand>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Make a group.
    Create(MembersArgs),
    /// Take users into a group.
    Add(MembersArgs),
    /// Take users out of a group.
    Remove(MembersArgs),
    /// Delete a group. Its name stays yours.
    Delete(DeleteArgs),
}

#[derive(Debug, Args)]
pub struct MembersArgs {
    /// The group, without `@`.
    pub name: GroupName,
    #[arg(value_name = "USER")]
    pub users: Vec<Username>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The group, without `@`.
    pub name: GroupName,
    #[command(flatten)]
    pub common: Common,
}

impl GroupsArgs {
    pub(super) fn common(&self) -> &Common {
        match &self.change {
            None => &self.common,
            Some(GroupCommand::Create(args) | GroupCommand::Add(args) | GroupCommand::Remove(args)) => {
                &args.common
            }
            Some(GroupCommand::Delete(args)) => &args.common,
        }
    }
}

pub(super) async fn groups(api: &Api, args: GroupsArgs, screen: &mut Screen) -> Result<(), Stop> {
    let name = match args.change {
        None => return list(api, screen).await,
        Some(GroupCommand::Create(MembersArgs { name, users: members, .. })) => {
            let request = GroupRequest { name: name.clone(), members };
            let _made: Group = api.post("/v1/groups", &request).await?;
            name
        }
        Some(GroupCommand::Add(args)) => each(api, Method::PUT, args).await?,
        Some(GroupCommand::Remove(args)) => each(api, Method::DELETE, args).await?,
        Some(GroupCommand::Delete(DeleteArgs { name, .. })) => {
            api.tell(Method::DELETE, &format!("/v1/groups/{name}")).await?;
            if screen.json {
                return screen.json(&serde_json::json!({ "deleted": name }));
            }
            return screen.line(format!("@{name} is deleted"));
        }
    };
    let group: Group = api.get(&format!("/v1/groups/{name}"), &()).await?;
    if screen.json { screen.json(&group) } else { screen.line(worded(&group)) }
}

async fn each(api: &Api, method: Method, args: MembersArgs) -> Result<GroupName, Stop> {
    for user in &args.users {
        api.tell(method.clone(), &format!("/v1/groups/{}/members/{user}", args.name)).await?;
    }
    Ok(args.name)
}

async fn list(api: &Api, screen: &mut Screen) -> Result<(), Stop> {
    let groups: Vec<Group> = api.all("/v1/groups", &(), usize::MAX).await?;
    if screen.json {
        return screen.json(&groups);
    }
    groups.iter().try_for_each(|group| screen.line(worded(group)))
}

fn worded(group: &Group) -> String {
    let members: Vec<&str> = group.members.iter().map(Username::as_str).collect();
    format!("@{}  of {}  {}", group.name, group.owner, members.join(","))
}
