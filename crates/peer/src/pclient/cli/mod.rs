//! The command line: asks the peer that runs here, through pclient's REST, and shows the answer.
//!
//! It knows nothing that a `curl` could not know. What other people named is shown with its control characters
//! escaped; bars are drawn on a terminal only. Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 the directory or
//! the peer cannot be reached.

mod api;
mod audit;
mod doctor;
mod get;
mod groups;
mod lists;
mod login;
mod manual;
mod offers;
mod screen;
mod send;
mod sessions;
mod share;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use content::ContentId;
use daemon::settings::ByteSize;
use secrecy::SecretString;
use url::Url;
use wire::{ErrorCode, Member, Username};

use self::{api::Api, screen::Screen};
use crate::config::Settings;

/// The first word after `peer`.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one in a process, and it is used once")]
pub enum Word {
    #[command(flatten)]
    Ask(Command),
    /// Completions for a shell, on standard output.
    Completions(CompletionsArgs),
    /// The manual: `peer.1` on standard output, or a page for each command in a folder.
    Man(ManArgs),
}

/// What the running peer is asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Log in at the directory; the account is created where registration is open.
    Login(LoginArgs),
    /// Log out: offline at once for everybody else.
    Logout(Common),
    /// How the peer stands.
    Status(Common),
    /// Share files or folders.
    Share(ShareArgs),
    /// Stop sharing; the files stay.
    Unshare(UnshareArgs),
    /// What this peer shares.
    Files(FilesArgs),
    /// Search the network.
    Search(SearchArgs),
    /// Fetch files and folders from everybody who has them. Ctrl-c pauses; the same command resumes.
    Get(GetArgs),
    /// Send files to somebody, who accepts or declines them. Each is shared with them first.
    Send(SendArgs),
    /// What others offer to this peer, and what it offered; `accept` and `decline` answer.
    Offers(OffersArgs),
    /// Downloads, running and done.
    Downloads(DownloadsArgs),
    /// Who is on the network.
    Peers(PeersArgs),
    /// Who fetched what from this peer.
    Audit(AuditArgs),
    /// Groups of users, for `--to @NAME`; `create`, `add`, `remove` and `delete` change them.
    Groups(groups::GroupsArgs),
    /// Where this account is logged in; `end` ends a session.
    Sessions(sessions::SessionsArgs),
    /// Give this account another password; its other sessions end.
    Password(sessions::PasswordArgs),
    /// What works, what does not, and what to do.
    Doctor(Common),
    /// Whether the peer takes work: exits with 0 where it does, for health checks.
    Health(Common),
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Where pclient listens; without it, what PCLIENT_LISTEN says.
    #[arg(long, value_name = "URL")]
    pub pclient: Option<Url>,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct LoginArgs {
    /// Who logs in; without it, PEER_USERNAME.
    pub user: Option<Username>,
    /// Read the password from the first line of standard input; without it, PEER_PASSWORD, or a question.
    #[arg(long)]
    pub password_stdin: bool,
    /// What an admin of the directory gave you, where a new account needs it.
    #[arg(long, value_name = "INVITE")]
    pub invite: Option<SecretString>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct ShareArgs {
    /// Files or folders. What lies in a shared folder is shared where it is; all else is copied there.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Only for these users, and groups of users as @NAME. Without it, what is shared already keeps those it is for, and
    /// what is new is for those of its folder, or for the network. Of a folder that lies in a shared one, it holds for
    /// what comes into it later too.
    #[arg(long, value_name = "USER|@GROUP", num_args = 1.., value_delimiter = ',')]
    pub to: Vec<Member>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct UnshareArgs {
    /// Content ids, or names as `peer files` shows them.
    #[arg(required = true, value_name = "CONTENT_ID|NAME")]
    pub files: Vec<String>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct FilesArgs {
    /// Only names that have this in them.
    pub part: Option<String>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Words of the name, in any order.
    #[arg(value_name = "WORD")]
    pub words: Vec<String>,
    /// Only this media type, such as `video/mp4` or `video/*`.
    #[arg(long = "type", value_name = "TYPE")]
    pub media_type: Option<String>,
    /// Only files of at least this size, such as 10MiB.
    #[arg(long, value_name = "SIZE")]
    pub min_size: Option<ByteSize>,
    /// Only files of at most this size.
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<ByteSize>,
    /// Only what this user holds.
    #[arg(long, value_name = "USER")]
    pub holder: Option<Username>,
    /// Only what somebody has who is online.
    #[arg(long)]
    pub online: bool,
    /// At most so many.
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// All that is found.
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct GetArgs {
    /// Content ids, names to search for, or folders, as in `photos/`, whose files are fetched with the tree they are in.
    #[arg(required = true, value_name = "CONTENT_ID|NAME|FOLDER")]
    pub what: Vec<String>,
    /// Put it here too: a new file, or a folder that is there. `-` is standard output, for one file.
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct SendArgs {
    /// Files or folders. What lies outside the shared folders is copied there.
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Who is to get them; several, comma separated, or given again.
    #[arg(long, required = true, value_name = "USER", value_delimiter = ',')]
    pub to: Vec<Username>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct OffersArgs {
    #[command(subcommand)]
    pub answer: Option<OfferCommand>,
    /// What was offered to others.
    #[arg(long)]
    pub sent: bool,
    /// Only those in this state: waiting, offered, delivered, accepted, declined or expired.
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Subcommand)]
pub enum OfferCommand {
    /// Fetch what was offered.
    Accept(AnswerArgs),
    /// Say no.
    Decline(AnswerArgs),
}

#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// Ids, as `peer offers` shows them.
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<String>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct DownloadsArgs {
    /// Only those in this state: queued, waiting, running, paused, finishing, done or failed.
    #[arg(long, value_name = "STATE", conflicts_with_all = ["pause", "resume", "cancel"])]
    pub state: Option<String>,
    /// Pause this one.
    #[arg(long, value_name = "ID", group = "change")]
    pub pause: Option<String>,
    /// Resume this one.
    #[arg(long, value_name = "ID", group = "change")]
    pub resume: Option<String>,
    /// Cancel this one; what it fetched goes.
    #[arg(long, value_name = "ID", group = "change")]
    pub cancel: Option<String>,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct AuditArgs {
    /// Only fetches of this content.
    #[arg(long, value_name = "CONTENT_ID")]
    pub content_id: Option<ContentId>,
    /// Only fetches by this user.
    #[arg(long, value_name = "USER")]
    pub user: Option<Username>,
    /// At most so many, the newest.
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// All that is kept.
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
    /// A line of JSON for each, for other programs.
    #[arg(long, conflicts_with = "json")]
    pub json_lines: bool,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct PeersArgs {
    /// Only those who are online.
    #[arg(long)]
    pub online: bool,
    #[command(flatten)]
    pub common: Common,
}

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    pub shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// A folder that is there, such as /usr/local/share/man/man1.
    pub folder: Option<PathBuf>,
}

/// Why a command ends without having done its work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Stop {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    /// Where pclient said so.
    pub(crate) code: Option<ErrorCode>,
}

/// The exit codes beside 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Unreachable = 4,
    /// Nobody reads what is printed, as after `| head`: the code that a shell gives to who is ended by it.
    Unread = 141,
}

/// Runs a command to its exit code.
pub async fn run(word: Word, settings: &Settings) -> ExitCode {
    let json = matches!(&word, Word::Ask(command) if command.common().json);
    let mut screen = Screen::of_process(json);
    let done = match word {
        Word::Ask(command) => dispatch(command, settings, &mut screen).await,
        Word::Completions(args) => manual::completions(&args, &mut screen),
        Word::Man(args) => manual::pages(&args, &mut screen),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => {
            if stop.exit != Exit::Unread {
                screen.complain(&stop.message);
            }
            ExitCode::from(stop.exit as u8)
        }
    }
}

async fn dispatch(command: Command, settings: &Settings, screen: &mut Screen) -> Result<(), Stop> {
    let api = Api::new(command.common().pclient.as_ref(), settings)?;
    match command {
        Command::Login(args) => login::login(&api, args, settings, screen).await,
        Command::Logout(_) => login::logout(&api, screen).await,
        Command::Status(_) => lists::status(&api, screen).await,
        Command::Share(args) => share::share(&api, args, screen).await,
        Command::Unshare(args) => share::unshare(&api, args, screen).await,
        Command::Files(args) => lists::files(&api, args, screen).await,
        Command::Search(args) => lists::search(&api, args, screen).await,
        Command::Get(args) => get::get(&api, args, screen).await,
        Command::Send(args) => send::send(&api, args, screen).await,
        Command::Offers(args) => offers::offers(&api, args, screen).await,
        Command::Downloads(args) => lists::downloads(&api, args, screen).await,
        Command::Peers(args) => lists::peers(&api, args, screen).await,
        Command::Audit(args) => audit::audit(&api, args, screen).await,
        Command::Groups(args) => groups::groups(&api, args, screen).await,
        Command::Sessions(args) => sessions::sessions(&api, args, screen).await,
        Command::Password(args) => sessions::password(&api, args, screen).await,
        Command::Doctor(_) => doctor::doctor(&api, screen).await,
        Command::Health(_) => doctor::health(&api, screen).await,
    }
}

impl Command {
    fn common(&self) -> &Common {
        match self {
            Self::Logout(common) | Self::Status(common) | Self::Doctor(common) | Self::Health(common) => {
                common
            }
            Self::Login(args) => &args.common,
            Self::Share(args) => &args.common,
            Self::Unshare(args) => &args.common,
            Self::Files(args) => &args.common,
            Self::Search(args) => &args.common,
            Self::Get(args) => &args.common,
            Self::Send(args) => &args.common,
            Self::Offers(OffersArgs { answer: None, common, .. }) => common,
            Self::Offers(OffersArgs {
                answer: Some(OfferCommand::Accept(args) | OfferCommand::Decline(args)),
                ..
            }) => &args.common,
            Self::Downloads(args) => &args.common,
            Self::Peers(args) => &args.common,
            Self::Audit(args) => &args.common,
            Self::Groups(args) => args.common(),
            Self::Sessions(args) => args.common(),
            Self::Password(args) => &args.common,
        }
    }
}

impl Stop {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), code: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// What pclient refused.
    pub(crate) fn refused(code: ErrorCode, detail: impl Into<String>) -> Self {
        let exit = match code {
            ErrorCode::NotFound => Exit::NotFound,
            ErrorCode::Unavailable | ErrorCode::Timeout => Exit::Unreachable,
            ErrorCode::InvalidArgument => Exit::Usage,
            _ => Exit::Failed,
        };
        Self { code: Some(code), ..Self::new(exit, detail) }
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::new(Exit::Unread, "nobody reads the answer"),
            _ => Self::failed(error.to_string()),
        }
    }
}

/// Reads what the user wrote as a content id; `None` for what must be a name.
fn as_content_id(text: &str) -> Option<ContentId> {
    text.parse().ok()
}
