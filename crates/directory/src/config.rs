//! The settings of `directory`: one struct, read once, validated before a socket opens. Nobody else reads the
//! environment.
//!
//! Secrets (database, broker, admin token) come from the environment alone: a flag shows in every process list.

use std::{
    ffi::OsString,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, builder::TypedValueParser};
use daemon::{addresses::Proxies, health::Secured, logging::LogFormat};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use secrecy::{ExposeSecret, SecretString};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::{broker, catalog, leases};

/// Who may create an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Registration {
    /// Anybody.
    Open,
    /// Whoever has an invite.
    Invite,
    /// Nobody.
    Closed,
}

/// What the program is to do; without a word, it serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Word {
    /// Ask the directory that runs here with these settings whether it is ready: exits with 0 where it is, for health
    /// checks.
    Health,
}

const SECRETS: &str = "Secrets, from the environment only:
  DIRECTORY_DATABASE_URL  kept for PostgreSQL, which is not there yet; without it, SQLite in the data folder
  DIRECTORY_AMQP_URL      the broker that peers are told to use; with `?auth=directory` behind it, who they are there
                          and what they may do is this directory's business
  DIRECTORY_ADMIN_TOKEN   enables the admin calls; at least 16 letters, digits and signs of ASCII";

/// The Trueque directory: knows who has what, and never touches a byte of it.
#[derive(Debug, Clone, Parser)]
#[command(name = "directory", version, after_help = SECRETS)]
pub struct Config {
    /// Where REST listens; port 0 picks a free one.
    #[arg(long, env = "DIRECTORY_LISTEN", value_name = "DIRECTORY_LISTEN", default_value = "127.0.0.1:3000")]
    pub listen: SocketAddr,
    /// The folder of the SQLite file and the CA key.
    #[arg(
        long,
        env = "DIRECTORY_DATA_DIR",
        value_name = "DIRECTORY_DATA_DIR",
        default_value = "./data/directory"
    )]
    pub data_dir: PathBuf,
    /// Who may create an account.
    #[arg(
        long,
        env = "DIRECTORY_REGISTRATION",
        value_name = "DIRECTORY_REGISTRATION",
        default_value = "open"
    )]
    pub registration: Registration,
    /// A peer silent for longer is offline; at least 1s.
    #[arg(long, env = "DIRECTORY_LEASE", value_name = "DIRECTORY_LEASE", default_value = "30s", value_parser = lease)]
    pub lease: Duration,
    /// Certificate chain (PEM), to serve HTTPS; needs the key too.
    #[arg(long, env = "DIRECTORY_TLS_CERT", value_name = "DIRECTORY_TLS_CERT")]
    pub tls_cert: Option<PathBuf>,
    /// Private key (PEM) of the certificate.
    #[arg(long, env = "DIRECTORY_TLS_KEY", value_name = "DIRECTORY_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// How logs are written.
    #[arg(long, env = "LOG_FORMAT", value_name = "LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Which logs are written.
    #[arg(long, env = "RUST_LOG", value_name = "RUST_LOG", default_value = "info")]
    pub log_filter: String,
    /// An OpenTelemetry collector (OTLP, protobuf over HTTP) that gets traces: http://HOST:4318; without it, none are made.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    #[command(flatten)]
    pub bounds: Bounds,
    #[command(subcommand)]
    pub word: Option<Word>,
    #[arg(skip)]
    pub amqp_url: Option<SecretString>,
    #[arg(skip)]
    pub admin_token: Option<SecretString>,
}

/// What callers may take of the directory, one by one and all together.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(next_help_heading = "Limits")]
pub struct Bounds {
    /// What an account may ask in a second, in lookups of one file: a search or an announcement weighs 100, a batch by its
    /// size; 0 = no limit.
    #[arg(long, env = "DIRECTORY_RATE_LIMIT", value_name = "DIRECTORY_RATE_LIMIT", default_value = "100000", value_parser = rate())]
    pub rate_limit: u32,
    /// The same for an address, whoever asks from there; 0 = no limit.
    #[arg(long, env = "DIRECTORY_ADDRESS_RATE_LIMIT", value_name = "DIRECTORY_ADDRESS_RATE_LIMIT", default_value = "200000", value_parser = rate())]
    pub address_rate_limit: u32,
    /// Proxies in front of the directory, as addresses or networks, comma separated: they say in `X-Forwarded-For` who
    /// asks.
    #[arg(
        long,
        env = "DIRECTORY_TRUSTED_PROXIES",
        value_name = "DIRECTORY_TRUSTED_PROXIES",
        default_value = ""
    )]
    pub trusted_proxies: Proxies,
    /// Connections at the same time; more are closed as they come.
    #[arg(long, env = "DIRECTORY_MAX_CONNECTIONS", value_name = "DIRECTORY_MAX_CONNECTIONS", default_value = "20000", value_parser = count())]
    pub max_connections: usize,
    /// Connections from one address, where it is no trusted proxy.
    #[arg(long, env = "DIRECTORY_MAX_CONNECTIONS_PER_ADDRESS", value_name = "DIRECTORY_MAX_CONNECTIONS_PER_ADDRESS", default_value = "1000", value_parser = count())]
    pub max_connections_per_address: usize,
    /// Files that a peer may announce.
    #[arg(
        long,
        env = "DIRECTORY_MAX_FILES_PER_PEER",
        value_name = "DIRECTORY_MAX_FILES_PER_PEER",
        default_value = "5000000"
    )]
    pub max_files_per_peer: u64,
    /// Files that all peers of an account may announce together.
    #[arg(
        long,
        env = "DIRECTORY_MAX_FILES_PER_ACCOUNT",
        value_name = "DIRECTORY_MAX_FILES_PER_ACCOUNT",
        default_value = "10000000"
    )]
    pub max_files_per_account: u64,
    /// Peers that an account may have.
    #[arg(
        long,
        env = "DIRECTORY_MAX_PEERS_PER_ACCOUNT",
        value_name = "DIRECTORY_MAX_PEERS_PER_ACCOUNT",
        default_value = "1000"
    )]
    pub max_peers_per_account: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        let catalog::Bounds { files_per_peer, files_per_account, peers_per_account } =
            catalog::Bounds::default();
        Self {
            rate_limit: 100_000,
            address_rate_limit: 200_000,
            trusted_proxies: Proxies::default(),
            max_connections: 20_000,
            max_connections_per_address: 1_000,
            max_files_per_peer: files_per_peer,
            max_files_per_account: files_per_account,
            max_peers_per_account: peers_per_account,
        }
    }
}

impl Bounds {
    /// What the catalog keeps to.
    pub(crate) fn catalog(&self) -> catalog::Bounds {
        catalog::Bounds {
            files_per_peer: self.max_files_per_peer,
            files_per_account: self.max_files_per_account,
            peers_per_account: self.max_peers_per_account,
        }
    }
}

/// A lookup a nanosecond is as good as no limit.
fn rate() -> impl TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(..=1_000_000_000)
}

/// At least one.
fn count() -> impl TypedValueParser<Value = usize> {
    clap::value_parser!(u32).range(1..).map(|count| count as usize)
}

impl Config {
    /// Reads flags, the environment and `.env`. Where a flag is wrong, or help was asked for, clap answers and ends
    /// the process.
    ///
    /// # Errors
    /// A setting that is wrong; the message names it.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads settings")]
    pub fn read() -> anyhow::Result<Self> {
        daemon::settings::load_dotenv()?;
        let command = without_empty(Self::command(), |name| std::env::var_os(name));
        let given = Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit());
        let config = Self {
            amqp_url: secret("DIRECTORY_AMQP_URL")?,
            admin_token: secret("DIRECTORY_ADMIN_TOKEN")?,
            ..given
        };
        if secret("DIRECTORY_DATABASE_URL")?.is_some() {
            bail!(
                "DIRECTORY_DATABASE_URL: PostgreSQL is not supported by this build yet; unset it to use SQLite in the data folder"
            );
        }
        config.validated()
    }

    /// Settings for a directory inside another process, such as a test: `data_dir`, and defaults.
    pub fn in_folder(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data_dir: data_dir.into(),
            registration: Registration::Open,
            lease: Duration::from_secs(30),
            tls_cert: None,
            tls_key: None,
            log_format: LogFormat::Text,
            log_filter: "info".to_owned(),
            otlp_endpoint: None,
            bounds: Bounds::default(),
            word: None,
            amqp_url: None,
            admin_token: None,
        }
    }

    fn validated(mut self) -> anyhow::Result<Self> {
        // An empty value, as a line of `.env` may have it, means "not set".
        self.tls_cert = self.tls_cert.filter(|path| !path.as_os_str().is_empty());
        self.tls_key = self.tls_key.filter(|path| !path.as_os_str().is_empty());
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => bail!("DIRECTORY_TLS_KEY: it must be set where DIRECTORY_TLS_CERT is"),
            (None, Some(_)) => bail!("DIRECTORY_TLS_CERT: it must be set where DIRECTORY_TLS_KEY is"),
            _ => {}
        }
        if self.data_dir.as_os_str().is_empty() {
            bail!("DIRECTORY_DATA_DIR: it is empty");
        }
        self.broker()?;
        // It has to go through an `Authorization` header, where nothing else does.
        let fits = |token: &str| token.len() >= 16 && token.bytes().all(|b| b.is_ascii_graphic());
        if self.admin_token.as_ref().is_some_and(|token| !fits(token.expose_secret())) {
            bail!(
                "DIRECTORY_ADMIN_TOKEN: it must have at least 16 characters, all of them letters, digits or signs of ASCII"
            );
        }
        self.tls()?;
        Ok(self)
    }

    /// Where the relay's broker is.
    ///
    /// # Errors
    /// A setting that is wrong; the message names it and shows nothing of it.
    pub fn broker(&self) -> anyhow::Result<Option<broker::Address>> {
        let Some(url) = &self.amqp_url else { return Ok(None) };
        match broker::Address::parse(url.expose_secret()) {
            Ok(address) => Ok(Some(address)),
            Err(why) => bail!("DIRECTORY_AMQP_URL: {why}"),
        }
    }

    /// What is needed to serve HTTPS; `None` serves HTTP.
    ///
    /// # Errors
    /// A certificate or key that cannot be read or do not belong together.
    pub fn tls(&self) -> anyhow::Result<Option<Arc<rustls::ServerConfig>>> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let chain = certificates(cert)?;
        let key = PrivateKeyDer::from_pem_file(key)
            .with_context(|| format!("DIRECTORY_TLS_KEY: {} cannot be read", key.display()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("DIRECTORY_TLS_CERT and DIRECTORY_TLS_KEY do not belong together")?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Some(Arc::new(tls)))
    }

    /// What is shown over HTTPS; `None` serves HTTP.
    ///
    /// # Errors
    /// A certificate that cannot be read, or that is for nobody.
    pub fn secured(&self) -> anyhow::Result<Option<Secured>> {
        let Some(file) = &self.tls_cert else { return Ok(None) };
        let chain = certificates(file)?;
        let name = chain.first().and_then(|certificate| name_in(certificate)).with_context(|| {
            format!("DIRECTORY_TLS_CERT: {} names no host and no address", file.display())
        })?;
        Ok(Some(Secured { name, chain: chain.iter().map(|certificate| certificate.to_vec()).collect() }))
    }

    /// The scheme under which REST is served.
    pub fn scheme(&self) -> &'static str {
        if self.tls_cert.is_some() { "https" } else { "http" }
    }
}

/// A name that a certificate is for, as it stands in a URL: a host of those that a wildcard stands for.
fn name_in(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.replacen('*', "health", 1)),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            _ => Some(format!("[{}]", Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?))),
        },
        _ => None,
    })
}

/// A certificate and those that lead from it to its authority: one at least.
fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("DIRECTORY_TLS_CERT: {} cannot be read", file.display()))?;
    if chain.is_empty() {
        bail!("DIRECTORY_TLS_CERT: {} holds no certificate", file.display());
    }
    Ok(chain)
}

/// An empty variable, as a line of `.env` may have it, is one that is not set; clap would take it for a value.
fn without_empty(command: clap::Command, environment: impl Fn(&str) -> Option<OsString>) -> clap::Command {
    command.mut_args(|arg| {
        let name = arg.get_env().and_then(|name| name.to_str());
        let is_empty = name.and_then(&environment).is_some_and(|value| value.is_empty());
        if is_empty { arg.env(None::<&'static str>) } else { arg }
    })
}

fn lease(text: &str) -> Result<Duration, String> {
    let lease = daemon::settings::duration(text)?;
    if lease < leases::SHORTEST {
        return Err("a lease is at least 1s".to_owned());
    }
    if lease > Duration::from_secs(24 * 3600) {
        return Err("a lease is at most 24h".to_owned());
    }
    Ok(lease)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that reads settings; these have no flag"
)]
fn secret(name: &str) -> anyhow::Result<Option<SecretString>> {
    match std::env::var(name) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(SecretString::from(text))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => bail!("{name}: it is not UTF-8"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Config, String> {
        let args = std::iter::once("directory").chain(args.iter().copied());
        let config = Config::try_parse_from(args).map_err(|error| error.to_string())?;
        config.validated().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (args, named) in [
            (&["--listen", "nowhere"][..], "DIRECTORY_LISTEN"),
            (&["--lease", "30"], "DIRECTORY_LEASE"),
            (&["--lease", "500ms"], "at least 1s"),
            (&["--registration", "maybe"], "DIRECTORY_REGISTRATION"),
            (&["--tls-cert", "x.pem"], "DIRECTORY_TLS_KEY"),
            (&["--tls-cert", "/nowhere/x", "--tls-key", "/nowhere/y"], "DIRECTORY_TLS_CERT"),
            (&["--data-dir", ""], "DIRECTORY_DATA_DIR"),
            (&["--admin-token", "x"], "--admin-token"),
            (&["stray"], "stray"),
            (&["--rate-limit", "many"], "DIRECTORY_RATE_LIMIT"),
            (&["--address-rate-limit", "4000000000"], "DIRECTORY_ADDRESS_RATE_LIMIT"),
            (&["--trusted-proxies", "proxy.example"], "DIRECTORY_TRUSTED_PROXIES"),
            (&["--max-connections", "0"], "DIRECTORY_MAX_CONNECTIONS"),
            (&["--max-files-per-peer", "x"], "DIRECTORY_MAX_FILES_PER_PEER"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(named), "{args:?}: {error}");
        }
    }

    #[test]
    fn a_test_has_the_bounds_that_are_usual() {
        assert_eq!(parse(&[]).unwrap().bounds, Bounds::default());
    }

    #[test]
    fn an_empty_variable_is_one_that_is_not_set() {
        let command = without_empty(Config::command(), |_| Some(OsString::new()));
        assert!(command.get_arguments().all(|arg| arg.get_env().is_none()));
        let command = without_empty(Config::command(), |_| Some("x".into()));
        assert!(command.get_arguments().filter(|arg| arg.get_env().is_some()).count() > 5);
    }

    #[test]
    fn a_broker_that_cannot_be_used_is_refused() {
        let config = |url: &str| Config { amqp_url: Some(url.to_owned().into()), ..parse(&[]).unwrap() };
        let error = config("http://u:hunter2@host").validated().unwrap_err().to_string();
        assert!(error.starts_with("DIRECTORY_AMQP_URL: ") && !error.contains("hunter2"), "{error}");
        assert!(config("amqps://host/blue?auth=directory").validated().is_ok());
    }

    #[test]
    fn secrets_show_nowhere() {
        let token = "a-secret-of-the-admin";
        let config = Config {
            admin_token: Some(token.to_owned().into()),
            amqp_url: Some("amqp://u:hunter2@host".to_owned().into()),
            ..parse(&[]).unwrap()
        };
        let shown = format!("{:?}", config.validated().unwrap());
        assert!(!shown.contains(token) && !shown.contains("hunter2"), "{shown}");
    }
}
