//! Every setting of the `peer`, in one place: the doc comment of a field is its help text and its line in
//! `.env.example`.
//!
//! A flag beats the environment (into which `.env` was read before), which beats the default; an empty variable is one
//! that is not set. Everything is checked here, before a socket opens, and a message names the setting as it stands in
//! the environment. Secrets are read from the environment only: a flag shows in every list of processes. Nobody else
//! in the crate reads the environment.

use std::{
    ffi::OsString,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{
    Args, CommandFactory, FromArgMatches, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use daemon::{logging::LogFormat, settings::ByteSize};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};
use wire::Username;

use crate::{allowed::Allowed, pclient::cli::Word, relay::broker::check_addresses};

/// Private file sharing between equals. Without a command: runs the peer. With one: asks the peer that runs here.
#[derive(Debug, Parser)]
#[command(name = "peer", version, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub settings: Settings,
    #[command(subcommand)]
    pub command: Option<Word>,
}

/// The settings of the daemon; the command line uses those that say how to reach it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Settings of the peer")]
pub struct Settings {
    /// The directory's address; several, comma separated, are tried in turn.
    #[arg(long = "directory", env = "PEER_DIRECTORY", value_name = "URL", value_delimiter = ',')]
    #[arg(default_value = "http://127.0.0.1:3000", value_parser = directory_url)]
    pub directories: Vec<Url>,

    /// A PEM file with the authority to trust for an https directory; without it, the system's.
    #[arg(long, env = "PEER_DIRECTORY_CA", value_name = "FILE")]
    pub directory_ca: Option<PathBuf>,

    /// Log in at start as this user, with PEER_PASSWORD; the account is created where registration is open.
    #[arg(long, env = "PEER_USERNAME", value_name = "NAME")]
    pub username: Option<Username>,

    /// The password that goes with the username.
    #[arg(skip)]
    pub password: Option<SecretString>,

    /// Where other peers call (gRPC); `off` takes no calls.
    #[arg(long, env = "PSERVER_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:50051")]
    pub pserver_listen: PserverListen,

    /// What other peers dial, as host:port, comma separated; without it, the listening address.
    #[arg(long, env = "PSERVER_ADVERTISE", value_name = "HOST:PORT", value_delimiter = ',')]
    #[arg(value_parser = endpoint)]
    pub pserver_advertise: Vec<String>,

    /// Dial no peer but at these addresses, networks or names, comma separated; empty = anywhere.
    #[arg(long, env = "PEER_ALLOWED_ENDPOINTS", value_name = "NET|HOST", value_delimiter = ',')]
    pub allowed_endpoints: Vec<Allowed>,

    /// Where this machine's programs and people ask (REST and the page).
    #[arg(long, env = "PCLIENT_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:5000")]
    #[arg(value_parser = socket_address)]
    pub pclient_listen: SocketAddr,

    /// The token that every call of pclient must carry; needed where PCLIENT_LISTEN is not loopback.
    #[arg(skip)]
    pub pclient_token: Option<SecretString>,

    /// Further `Host` names that pclient answers to, comma separated.
    #[arg(long, env = "PCLIENT_ALLOWED_HOSTS", value_name = "HOST", value_delimiter = ',')]
    #[arg(value_parser = host_name)]
    pub pclient_allowed_hosts: Vec<String>,

    /// Keys, catalog, and the state of downloads. For one peer at a time; nothing in it is ever shared.
    #[arg(long, env = "PEER_DATA_DIR", value_name = "FOLDER", default_value = "./data/peer")]
    pub data_dir: PathBuf,

    /// Shared folders, comma separated: everything in them is shared, and they are watched.
    #[arg(long = "share-dir", env = "PEER_SHARE_DIR", value_name = "FOLDER", value_delimiter = ',')]
    #[arg(default_value = "./share")]
    pub share_dirs: Vec<PathBuf>,

    /// Where finished downloads go.
    #[arg(long, env = "PEER_DOWNLOAD_DIR", value_name = "FOLDER", default_value = "./downloads")]
    pub download_dir: PathBuf,

    /// Whether finished downloads are shared again.
    #[arg(long, env = "PEER_RESHARE", value_name = "BOOL", default_value = "true", num_args = 0..=1)]
    #[arg(default_missing_value = "true", require_equals = true, action = clap::ArgAction::Set)]
    #[arg(value_parser = clap::builder::BoolishValueParser::new())]
    pub reshare: bool,

    /// Accept what these users offer without asking, comma separated; `*` = everybody.
    #[arg(long, env = "PEER_ACCEPT_OFFERS_FROM", value_name = "USER", value_delimiter = ',')]
    pub accept_offers_from: Vec<Offerer>,

    /// How long it is kept who fetched what from this peer, such as 720h or 90d; 0s = it is not written down.
    #[arg(long, env = "PEER_AUDIT_KEEP", value_name = "DURATION", default_value = "90d")]
    #[arg(value_parser = daemon::settings::duration)]
    pub audit_keep: Duration,

    /// RabbitMQ's address; `off` = never; without it, the one that the directory names.
    #[arg(skip)]
    pub amqp: AmqpSetting,

    /// The rate for bytes of files over the relay, each way; 0 = no limit.
    #[arg(long, env = "PEER_RELAY_LIMIT", value_name = "RATE", default_value = "0")]
    pub relay_limit: ByteSize,

    /// The largest file that is sent or fetched over the relay, such as 1GiB; 0 = no limit.
    #[arg(long, env = "PEER_RELAY_MAX_FILE", value_name = "SIZE", default_value = "0")]
    pub relay_max_file: ByteSize,

    /// The rate for everything sent, such as 10MiB per second; 0 = no limit.
    #[arg(long, env = "PEER_UPLOAD_LIMIT", value_name = "RATE", default_value = "0")]
    pub upload_limit: ByteSize,

    /// The rate for everything fetched; 0 = no limit.
    #[arg(long, env = "PEER_DOWNLOAD_LIMIT", value_name = "RATE", default_value = "0")]
    pub download_limit: ByteSize,

    /// Streams served at once; more are told to come back.
    #[arg(long, env = "PEER_MAX_UPLOADS", value_name = "N", default_value = "64")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_uploads: u32,

    /// Logs for people, or as JSON for machines.
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", default_value = "text", value_enum)]
    pub log_format: LogFormat,

    /// What is logged: a level, or levels per part such as `info,peer=debug`.
    #[arg(long = "log", env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    pub log_filter: String,

    /// An OpenTelemetry collector (OTLP, protobuf over HTTP) that gets traces: http://HOST:4318; without it, none are made.
    #[arg(long = "otlp-endpoint", env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
}

/// The settings that are secret, and so are no flags.
const SECRETS: [&str; 3] = ["PEER_PASSWORD", "PCLIENT_TOKEN", "PEER_AMQP_URL"];

/// Addresses of one peer that a directory takes.
const MAX_ENDPOINTS: usize = 16;

/// Where other peers may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PserverListen {
    Off,
    At(SocketAddr),
}

/// Whose offers are accepted without asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Offerer {
    Anybody,
    User(Username),
}

/// Which broker to use.
#[derive(Debug, Clone, Default)]
pub enum AmqpSetting {
    /// The one that the directory names, if it names one.
    #[default]
    FromDirectory,
    Never,
    /// This one; the address may hold a password.
    At(SecretString),
}

impl Cli {
    /// The command line and environment of this process, or the end of it with a message that names what is wrong.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    pub fn from_process() -> Result<Self, clap::Error> {
        Self::read(std::env::args_os(), |name| std::env::var_os(name))
    }

    /// The command line as its help shows it: each option names its setting.
    pub fn documented() -> clap::Command {
        let settings = Named::of(Self::command());
        Self::command().mut_args(|arg| {
            let Some(name) = settings.name(&arg) else { return arg };
            let help = format!("{} [{name}]", arg.get_help().map(ToString::to_string).unwrap_or_default());
            arg.env(None::<&'static str>).help(help)
        })
    }

    /// As [`Self::from_process`], from what the caller brings.
    ///
    /// # Errors
    /// What clap says, worded so that it names the setting.
    pub fn read<A, E>(args: A, environment: E) -> Result<Self, clap::Error>
    where
        A: IntoIterator<Item: Into<OsString> + Clone>,
        E: Fn(&str) -> Option<OsString>,
    {
        let environment = |name: &str| environment(name).filter(|value| !value.is_empty());
        // clap reads the process's own environment, and takes an empty variable for a value: so it gets what is set
        // as defaults instead, and the help text names the variable.
        let settings = Named::of(Self::command());
        let mut command =
            Self::documented().mut_args(|arg| match settings.name(&arg).and_then(&environment) {
                Some(value) => arg.default_value(value),
                None => arg,
            });
        let worded = |error| settings.worded(error);
        let matches = command.try_get_matches_from_mut(args).map_err(worded)?;
        let mut cli = Self::from_arg_matches(&matches).map_err(worded)?;
        let refuse = |message: String| clap::Error::raw(ErrorKind::ValueValidation, format!("{message}\n"));
        cli.settings.take_secrets(environment).map_err(refuse)?;
        cli.settings.check().map_err(refuse)?;
        if cli.command.is_none() {
            cli.settings.check_login().map_err(refuse)?;
        }
        Ok(cli)
    }
}

impl Settings {
    /// Settings as they are without flags or environment; tests change what they need.
    pub fn defaults() -> Self {
        let matches = Cli::command().mut_args(|arg| arg.env(None::<&'static str>)).get_matches_from(["peer"]);
        match Self::from_arg_matches(&matches) {
            Ok(settings) => settings,
            Err(error) => error.exit(),
        }
    }

    fn take_secrets(&mut self, environment: impl Fn(&str) -> Option<OsString>) -> Result<(), String> {
        let [password, token, amqp] = SECRETS.map(|name| {
            let text = environment(name).map(|value| value.into_string().map_err(|_| not_text(name)));
            text.transpose()
        });
        self.password = password?.map(SecretString::from);
        self.pclient_token = token?.map(SecretString::from);
        self.amqp = match amqp? {
            None => AmqpSetting::FromDirectory,
            Some(text) => amqp_setting(text)?,
        };
        Ok(())
    }

    /// What no single value can tell.
    fn check(&self) -> Result<(), String> {
        if self.directories.is_empty() {
            return Err("PEER_DIRECTORY: names no directory".to_owned());
        }
        if let Some(token) = &self.pclient_token
            && !token.expose_secret().bytes().all(|b| b.is_ascii_graphic())
        {
            return Err("PCLIENT_TOKEN: has a character that does not fit into a header".to_owned());
        }
        if !self.pclient_listen.ip().is_loopback() && self.pclient_token.is_none() {
            return Err(format!(
                "PCLIENT_LISTEN: {} is not loopback, and that needs PCLIENT_TOKEN",
                self.pclient_listen
            ));
        }
        if self.pserver_advertise.len() > MAX_ENDPOINTS {
            return Err(format!("PSERVER_ADVERTISE: names more than {MAX_ENDPOINTS} addresses"));
        }
        Ok(())
    }

    /// A peer logs in at start with both or with neither; a command may ask for the other.
    fn check_login(&self) -> Result<(), String> {
        let needs = |one: &str, other: &str| Err(format!("{one}: is needed where {other} is set"));
        match (&self.username, &self.password) {
            (Some(_), None) => needs("PEER_PASSWORD", "PEER_USERNAME"),
            (None, Some(_)) => needs("PEER_USERNAME", "PEER_PASSWORD"),
            _ => Ok(()),
        }
    }

    /// The directories to which names and passwords would travel in clear.
    pub fn clear_text_directories(&self) -> impl Iterator<Item = &Url> {
        self.directories.iter().filter(|url| url.scheme() == "http" && !is_loopback(url))
    }
}

impl FromStr for PserverListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            _ => socket_address(text).map(Self::At).map_err(|why| format!("{why}, or `off`")),
        }
    }
}

impl FromStr for Offerer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "*" => Ok(Self::Anybody),
            name => name.parse().map(Self::User).map_err(|why| format!("{why}; or `*` for everybody")),
        }
    }
}

impl fmt::Display for PserverListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// Whether a URL's host is this machine by name or address.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => is_local(name),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn is_local(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn directory_url(text: &str) -> Result<Url, String> {
    let mut url = Url::parse(text.trim()).map_err(|error| error.to_string())?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("write it as http://HOST:PORT or https://HOST:PORT".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a name or password, which do not belong there".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("holds a query or fragment, which do not belong there".to_owned());
    }
    // So that a call's path can be put behind it.
    let base = url.path().trim_end_matches('/').to_owned();
    url.set_path(&base);
    Ok(url)
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let why = || "write it as ADDRESS:PORT, such as 127.0.0.1:5000".to_owned();
    if let Some(port) = text.strip_prefix("localhost:") {
        return Ok((IpAddr::V4(Ipv4Addr::LOCALHOST), port.parse().map_err(|_| why())?).into());
    }
    text.parse().map_err(|_| why())
}

/// `host:port`; port 0 stands for the one that pserver listens on, which only this machine's own addresses have.
fn endpoint(text: &str) -> Result<String, String> {
    let why = || "write it as HOST:PORT, such as files.example.org:50051".to_owned();
    let (host, port) = text.trim().rsplit_once(':').ok_or_else(why)?;
    let port: u16 = port.parse().map_err(|_| why())?;
    let host = Host::parse(host).map_err(|_| why())?;
    let (unspecified, own) = match &host {
        Host::Domain(name) => (false, is_local(name)),
        Host::Ipv4(ip) => (ip.is_unspecified(), ip.is_loopback()),
        Host::Ipv6(ip) => (ip.is_unspecified(), ip.is_loopback()),
    };
    if unspecified {
        return Err("is every address and none: name one that other peers reach".to_owned());
    }
    if port == 0 && !own {
        return Err("has port 0: name the port at which other peers reach that host".to_owned());
    }
    Ok(text.trim().to_owned())
}

fn host_name(text: &str) -> Result<String, String> {
    if text.contains('*') {
        return Err("is a pattern; give each name".to_owned());
    }
    Host::parse(text.trim())
        .map(|host| host.to_string())
        .map_err(|error| format!("{error}; give names, no ports"))
}

fn amqp_setting(text: String) -> Result<AmqpSetting, String> {
    if text == "off" {
        return Ok(AmqpSetting::Never);
    }
    // The text may hold a password, so the message shows none of it.
    check_addresses(&text).map_err(|why| format!("PEER_AMQP_URL: {why}; or `off`"))?;
    Ok(AmqpSetting::At(SecretString::from(text)))
}

fn not_text(name: &str) -> String {
    format!("{name}: is not UTF-8")
}

/// The settings by the names that they have in the environment.
struct Named(Vec<(clap::Arg, String)>);

impl Named {
    fn of(mut command: clap::Command) -> Self {
        // Only then do the arguments know how they are written.
        command.build();
        let name = |arg: &clap::Arg| arg.get_env().and_then(|name| name.to_str()).map(str::to_owned);
        Self(command.get_arguments().filter_map(|arg| Some((arg.clone(), name(arg)?))).collect())
    }

    fn name(&self, wanted: &clap::Arg) -> Option<&str> {
        self.0.iter().find(|(arg, _)| arg.get_id() == wanted.get_id()).map(|(_, name)| name.as_str())
    }

    /// Puts the setting's name in front of what clap found wrong with its value.
    fn worded(&self, error: clap::Error) -> clap::Error {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.as_str()),
            _ => None,
        };
        let flag = text(ContextKind::InvalidArg);
        let Some((_, setting)) = self.0.iter().find(|(arg, _)| Some(arg.to_string().as_str()) == flag) else {
            return error;
        };
        let value = text(ContextKind::InvalidValue).unwrap_or_default();
        let why = match (std::error::Error::source(&error), error.get(ContextKind::ValidValue)) {
            (Some(why), _) => why.to_string(),
            (None, Some(ContextValue::Strings(values))) => format!("it is one of {}", values.join(", ")),
            _ => "the value is missing".to_owned(),
        };
        clap::Error::raw(error.kind(), format!("{setting}: {value:?}: {why}\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str], environment: &[(&str, &str)]) -> Result<Settings, String> {
        let lookup = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        let args = std::iter::once("peer").chain(args.iter().copied());
        Cli::read(args, lookup).map(|cli| cli.settings).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let settings = read(&[], &[]).unwrap();
        assert_eq!(settings.directories, ["http://127.0.0.1:3000".parse().unwrap()]);
        assert_eq!(settings.pserver_listen, PserverListen::At("0.0.0.0:50051".parse().unwrap()));
        assert_eq!(settings.pclient_listen, "127.0.0.1:5000".parse().unwrap());
        assert_eq!(settings.data_dir, PathBuf::from("./data/peer"));
        assert_eq!(settings.share_dirs, [PathBuf::from("./share")]);
        assert_eq!(settings.download_dir, PathBuf::from("./downloads"));
        assert!(settings.reshare && settings.pserver_advertise.is_empty());
        assert!(matches!(settings.amqp, AmqpSetting::FromDirectory));
        assert_eq!((settings.upload_limit, settings.max_uploads), (ByteSize(0), 64));
    }

    #[test]
    fn a_flag_beats_the_environment_and_an_empty_variable_is_not_set() {
        let environment = [
            ("PCLIENT_LISTEN", "127.0.0.1:1"),
            ("PEER_DATA_DIR", ""),
            ("PEER_USERNAME", "ana"),
            ("PEER_PASSWORD", "correct horse"),
        ];
        let settings = read(&["--pclient-listen", "127.0.0.1:2"], &environment).unwrap();
        assert_eq!(settings.pclient_listen.port(), 2);
        assert_eq!(settings.data_dir, PathBuf::from("./data/peer"));
        assert_eq!(settings.username.unwrap().as_str(), "ana");
        assert_eq!(read(&[], &environment).unwrap().pclient_listen.port(), 1);
    }

    #[test]
    fn the_example_has_every_setting_and_its_default() {
        let example = include_str!("../../../.env.example");
        let value = |name: &str| example.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        for (arg, name) in Named::of(Cli::command()).0 {
            let default = arg.get_default_values().first().map_or("", |default| default.to_str().unwrap());
            assert_eq!(value(&name), Some(default), "{name}");
        }
        for secret in SECRETS {
            assert_eq!(value(secret), Some(""), "{secret}");
        }
        // And the whole of it is taken as it is.
        let lines =
            example.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
        assert!(read(&[], &lines.collect::<Vec<_>>()).is_ok());
    }

    #[test]
    fn lists_and_words() {
        let environment = [
            ("PEER_DIRECTORY", "http://127.0.0.1:1/,https://d.example.org/base/"),
            ("PSERVER_LISTEN", "off"),
            ("PSERVER_ADVERTISE", "a.example.org:1,[::1]:0,localhost:0"),
            ("PEER_RESHARE", "false"),
            ("PEER_AMQP_URL", "off"),
            ("PEER_UPLOAD_LIMIT", "10MiB"),
            ("PCLIENT_LISTEN", "localhost:0"),
        ];
        let settings = read(&[], &environment).unwrap();
        let urls: Vec<_> = settings.directories.iter().map(|url| url.as_str().to_owned()).collect();
        assert_eq!(urls, ["http://127.0.0.1:1/", "https://d.example.org/base"]);
        assert_eq!(settings.pserver_listen, PserverListen::Off);
        assert_eq!(settings.pserver_advertise.len(), 3);
        assert!(!settings.reshare);
        assert!(matches!(settings.amqp, AmqpSetting::Never));
        assert_eq!(settings.upload_limit, ByteSize(10 << 20));
        assert!(settings.pclient_listen.ip().is_loopback());
    }

    #[test]
    fn every_broken_value_is_named() {
        for (name, value) in [
            ("PEER_DIRECTORY", "ftp://x"),
            ("PEER_DIRECTORY", "http://u:p@x"),
            ("PEER_DIRECTORY", "nonsense"),
            ("PEER_USERNAME", "Ana!"),
            ("PSERVER_LISTEN", "everywhere"),
            ("PSERVER_ADVERTISE", "host"),
            ("PSERVER_ADVERTISE", "host:99999"),
            ("PSERVER_ADVERTISE", "files.example.org:0"),
            ("PSERVER_ADVERTISE", "192.0.2.1:0"),
            ("PSERVER_ADVERTISE", "0.0.0.0:50051"),
            ("PSERVER_ADVERTISE", "[::]:50051"),
            ("PSERVER_ADVERTISE", &["h:1"; 17].join(",")),
            ("PCLIENT_LISTEN", "5000"),
            ("PCLIENT_LISTEN", "0.0.0.0:5000"),
            ("PCLIENT_TOKEN", "two words"),
            ("PCLIENT_ALLOWED_HOSTS", "a b"),
            ("PCLIENT_ALLOWED_HOSTS", "*"),
            ("PCLIENT_ALLOWED_HOSTS", "a.example.org,*.example.org"),
            ("PEER_RESHARE", "perhaps"),
            ("PEER_ACCEPT_OFFERS_FROM", "ana,Ben!"),
            ("PEER_AMQP_URL", "http://x"),
            ("PEER_UPLOAD_LIMIT", "fast"),
            ("PEER_DOWNLOAD_LIMIT", "-1"),
            ("PEER_MAX_UPLOADS", "0"),
            ("LOG_FORMAT", "xml"),
        ] {
            let message = read(&[], &[(name, value)]).unwrap_err();
            assert!(message.contains(&format!("{name}: ")), "{name}={value}: {message}");
        }
    }

    #[test]
    fn a_name_and_a_password_go_together_unless_a_command_asks() {
        for (set, missing) in [("PEER_USERNAME", "PEER_PASSWORD"), ("PEER_PASSWORD", "PEER_USERNAME")] {
            let one = [(set, "analuisa")];
            let message = read(&[], &one).unwrap_err();
            assert!(message.contains(&format!("{missing}: ")) && message.contains(set), "{message}");
            assert!(read(&["login"], &one).is_ok() && read(&["status"], &one).is_ok());
        }
        assert!(read(&[], &[("PEER_USERNAME", "ana"), ("PEER_PASSWORD", "correct horse")]).is_ok());
    }

    #[test]
    fn secrets_show_nowhere() {
        let environment = [
            ("PEER_USERNAME", "ana"),
            ("PEER_PASSWORD", "hunter2hunter2"),
            ("PCLIENT_TOKEN", "hunter2hunter2"),
            ("PEER_AMQP_URL", "amqp://u:hunter2hunter2@mq"),
        ];
        let settings = read(&[], &environment).unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        let broken = read(&[], &[("PEER_AMQP_URL", "x://hunter2")]).unwrap_err();
        assert!(!broken.contains("hunter2"), "{broken}");
        for flag in ["--password", "--pclient-token", "--amqp-url", "--amqp"] {
            assert!(read(&[flag, "x"], &[]).is_err(), "{flag}");
        }
        let help = read(&["--help"], &environment).unwrap_err();
        assert!(!help.contains("hunter2") && help.contains("[PEER_DIRECTORY]"), "{help}");
    }

    #[test]
    fn another_address_than_loopback_needs_a_token() {
        let open = ("PCLIENT_LISTEN", "0.0.0.0:5000");
        assert!(read(&[], &[open]).unwrap_err().contains("PCLIENT_TOKEN"));
        assert!(read(&[], &[open, ("PCLIENT_TOKEN", "t0ken")]).is_ok());
    }

    #[test]
    fn clear_text_is_noticed_unless_it_stays_on_this_machine() {
        let far = |url: &str| read(&["--directory", url], &[]).unwrap().clear_text_directories().count();
        assert_eq!(far("http://directory.example.org:3000"), 1);
        assert_eq!(far("https://directory.example.org"), 0);
        assert_eq!(far("http://localhost:3000,http://[::1]:3000"), 0);
    }
}
