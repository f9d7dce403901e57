//! `peer sessions` and `peer password`: where the account is logged in, and with which password.

use clap::{Args, Subcommand};
use http::Method;
use secrecy::ExposeSecret;
use wire::{
    PeerId,
    rest::{
        accounts::{PasswordRequest, SessionItem},
        pclient::Status,
    },
};

use super::{
    Common, Exit, Stop,
    api::Api,
    login,
    screen::{Screen, escaped},
};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct SessionsArgs {
    #[command(subcommand)]
    pub change: Option<SessionCommand>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// End a session: other peers refuse that machine until it logs in again.
    End(EndArgs),
}

#[derive(Debug, Args)]
pub struct EndArgs {
    /// The machine, as `peer sessions` shows it.
    pub peer_id: PeerId,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct PasswordArgs {
    /// Read the password until now and the new one from the first two lines of standard input; without it, a question.
    #[arg(long)]
    pub password_stdin: bool,
    #[command(flatten)]
    pub common: Common,
}

impl SessionsArgs {
    pub(super) fn common(&self) -> &Common {
        match &self.change {
            None => &self.common,
            Some(SessionCommand::End(args)) => &args.common,
        }
    }
}

pub(super) async fn sessions(api: &Api, args: SessionsArgs, screen: &mut Screen) -> Result<(), Stop> {
    if let Some(SessionCommand::End(EndArgs { peer_id, .. })) = args.change {
        api.tell(Method::DELETE, &format!("/v1/sessions/{peer_id}")).await?;
        if screen.json {
            return screen.json(&serde_json::json!({ "ended": peer_id }));
        }
        screen.line(format!("the session of {peer_id} is ended"))?;
        return screen
            .line("a machine that keeps the password logs in again: then change it, with `peer password`");
    }
    let sessions: Vec<SessionItem> = api.all("/v1/sessions", &(), usize::MAX).await?;
    if screen.json {
        return screen.json(&sessions);
    }
    sessions.iter().try_for_each(|session| {
        let here = if session.current { "  (this one)" } else { "" };
        let online = if session.online { "online" } else { "offline" };
        let SessionItem { peer_id, created, last_seen, .. } = session;
        let version = escaped(&session.version);
        screen.line(format!("{peer_id}  {online}  since {created}  seen {last_seen}  {version}{here}"))
    })
}

pub(super) async fn password(api: &Api, args: PasswordArgs, screen: &mut Screen) -> Result<(), Stop> {
    let status: Status = api.get("/v1/status", &()).await?;
    let username = status.username.ok_or_else(|| Stop::new(Exit::Failed, "nobody is logged in here"))?;
    let (current, new) = if args.password_stdin {
        let mut input = std::io::stdin().lock();
        (login::first_line(&mut input)?, login::first_line(&mut input)?)
    } else {
        let current = login::ask("password until now: ")?;
        let new = login::ask("new password: ")?;
        if login::ask("new password again: ")?.expose_secret() != new.expose_secret() {
            return Err(Stop::new(Exit::Usage, "the new password was written in two ways"));
        }
        (current, new)
    };
    let request = PasswordRequest {
        current: Some(current.expose_secret().to_owned().into()),
        new: new.expose_secret().to_owned().into(),
    };
    api.put(&format!("/v1/accounts/{username}/password"), &request).await?;
    if screen.json {
        return screen.json(&serde_json::json!({ "changed": username }));
    }
    screen.line("the password is changed; other sessions of this account are ended")
}
