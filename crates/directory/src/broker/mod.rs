//! The broker of the relay: where it is, as whom peers log in there, and who may do what.
//!
//! `DIRECTORY_AMQP_URL` names it and says which of two ways it is:
//!
//! - As it stands: all peers use the user in it, or RabbitMQ's own `guest`. Nothing keeps them apart there but the seal.
//! - With `?auth=directory` behind it: the directory is the broker's authority. A peer is two users there, one that
//!   publishes and one that takes; each one's password is a [`token`](tokens) that lasts for minutes, and each may use
//!   what [`rules`] say. RabbitMQ either believes the
//!   tokens by their signature, or asks `/v1/broker/*` about everything; see `docs/rabbitmq/README.md`.
//!
//! The directory itself never connects to the broker.

pub(crate) mod rules;
pub(crate) mod tokens;

use std::{fmt, path::Path};

use anyhow::Context;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::Url;
use wire::{PeerId, rest::directory};

use self::{rules::User, tokens::Signer};
use crate::{files, secrets};

/// How a broker is named in a setting.
#[derive(Debug)]
pub struct Address {
    /// As peers are told.
    url: SecretString,
    /// The virtual host, where the directory is the authority.
    ruled: Option<String>,
}

/// The relay's broker.
#[derive(Debug)]
pub struct Broker {
    url: SecretString,
    authority: Option<Authority>,
}

/// What the directory needs to say who may do what on the broker.
pub(crate) struct Authority {
    pub(crate) signer: Signer,
    pub(crate) vhost: String,
    /// Shows that a question is the broker's.
    pub(crate) secret: String,
}

impl Address {
    /// Reads `amqp://…` or `amqps://…`, one or, separated by commas, several of one cluster.
    ///
    /// # Errors
    /// What is wrong, without a word of the text, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut urls = Vec::new();
        let mut ruled = Vec::new();
        for one in text.split(',') {
            let (url, vhost) = parse_one(one.trim())?;
            urls.push(url);
            ruled.push(vhost);
        }
        // One of them is enough to say it, but they must not contradict each other.
        let ruled_by = ruled.iter().flatten().next().cloned();
        if let Some(vhost) = &ruled_by {
            if ruled.iter().flatten().any(|other| other != vhost) {
                return Err("the addresses of one cluster have one virtual host".to_owned());
            }
            if ruled.contains(&None) {
                return Err(format!("`{BY_DIRECTORY}` must stand behind every address, or behind none"));
            }
        }
        Ok(Self { url: urls.join(",").into(), ruled: ruled_by })
    }
}

const BY_DIRECTORY: &str = "?auth=directory";

/// The address as peers read it, and its virtual host where the directory is the authority.
fn parse_one(text: &str) -> Result<(String, Option<String>), String> {
    let url = Url::parse(text).map_err(|_| "it must be amqp://HOST:PORT or amqps://HOST:PORT")?;
    if !["amqp", "amqps"].contains(&url.scheme()) {
        return Err("it must start with amqp:// or amqps://".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("it names no host".to_owned());
    }
    let Some(query) = url.query() else { return Ok((text.to_owned(), None)) };
    if query != "auth=directory" {
        return Err(format!("it takes nothing behind the address but `{BY_DIRECTORY}`"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("with `{BY_DIRECTORY}` it names no user: each peer has its own"));
    }
    let vhost = match url.path().strip_prefix('/').unwrap_or_default() {
        "" => "/".to_owned(),
        path => {
            percent_decode_str(path).decode_utf8().map_err(|_| "its virtual host is not UTF-8")?.into_owned()
        }
    };
    let told = text.split_once('?').map_or(text, |(told, _)| told);
    Ok((told.to_owned(), Some(vhost)))
}

impl Broker {
    /// Where the directory is the authority, its key and its secret are in the data folder, made there if it has none.
    ///
    /// # Errors
    /// What in the folder cannot be made or read.
    pub(crate) fn open(address: Address, folder: &Path) -> anyhow::Result<Self> {
        let Address { url, ruled } = address;
        let authority = match ruled {
            None => None,
            Some(vhost) => {
                Some(Authority { signer: Signer::open(folder)?, vhost, secret: secret_in(folder)? })
            }
        };
        Ok(Self { url, authority })
    }

    pub(crate) fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// The broker as `peer` is to use it. The passwords stay the same until half of their life is over.
    ///
    /// # Errors
    /// Where signing fails, which it does not with a key that was read.
    pub(crate) fn of_peer(&self, peer: PeerId, now_millis: i64) -> anyhow::Result<directory::Broker> {
        let url = self.url.expose_secret().to_owned();
        let Some(authority) = &self.authority else {
            let (username, password, expires_in, taking) = (None, None, None, None);
            return Ok(directory::Broker { url, username, password, expires_in, taking });
        };
        let (publishes, takes) = (User::that_publishes(peer), User::that_takes(peer));
        let token = authority.token(publishes, now_millis)?;
        let password = authority.token(takes, now_millis)?.text;
        Ok(directory::Broker {
            url,
            username: Some(publishes.to_string()),
            password: Some(token.text),
            expires_in: Some(token.expires_in),
            taking: Some(directory::BrokerLogin { username: takes.to_string(), password }),
        })
    }
}

impl Authority {
    fn token(&self, user: User, now_millis: i64) -> anyhow::Result<tokens::Token> {
        self.signer.token(user, &rules::scopes(user, &self.vhost), now_millis)
    }

    /// Whether `text` is a token of this user that still holds.
    pub(crate) fn is_token_of(&self, user: User, text: &str, now_millis: i64) -> anyhow::Result<bool> {
        self.signer.is_token(text, user, &rules::scopes(user, &self.vhost), now_millis)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("vhost", &self.vhost).finish_non_exhaustive()
    }
}

fn secret_in(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("broker.secret");
    if let Some(text) = files::read_small(&path)? {
        let secret = text.trim().to_owned();
        anyhow::ensure!(secrets::digest(&secret).is_some(), "{} is not a secret", path.display());
        return Ok(secret);
    }
    let secret = secrets::fresh();
    files::write_whole(&path, &secret).context("the broker's secret")?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let told = |text: &str| {
            let Address { url, ruled } = Address::parse(text).unwrap();
            (url.expose_secret().to_owned(), ruled)
        };
        let as_is = |text: &str| assert_eq!(told(text), (text.to_owned(), None));
        as_is("amqp://broker");
        as_is("amqps://ana:s%40cret@broker:5671/blue");
        let both = "amqp://a:1,amqp://b:2";
        as_is(both);
        let ruled = |text: &str, vhost: &str| (text.to_owned(), Some(vhost.to_owned()));
        assert_eq!(told("amqp://broker?auth=directory"), ruled("amqp://broker", "/"));
        assert_eq!(told("amqp://broker/?auth=directory"), ruled("amqp://broker/", "/"));
        assert_eq!(told("amqps://broker/a%2Fb?auth=directory"), ruled("amqps://broker/a%2Fb", "a/b"));
        assert_eq!(told("amqp://a:1?auth=directory, amqp://b:2?auth=directory"), ruled(both, "/"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, said) in [
            ("", "amqp://"),
            ("http://broker", "must start with"),
            ("amqp://", "no host"),
            ("secret", "amqp://"),
            ("amqp://x:secret@broker?auth=directory", "names no user"),
            ("amqp://x:secret@broker?heartbeat=1", "nothing behind"),
            ("amqp://a?auth=directory,amqp://b", "every address"),
            ("amqp://a/x?auth=directory,amqp://b/y?auth=directory", "one virtual host"),
            ("amqp://a/%ff?auth=directory", "not UTF-8"),
            ("amqp://a,,amqp://b", "amqp://"),
        ] {
            let why = Address::parse(text).unwrap_err();
            assert!(why.contains(said) && !why.contains("secret"), "{text}: {why}");
        }
    }

    #[test]
    fn the_key_and_the_secret_stay() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let address = Address::parse("amqp://broker?auth=directory").unwrap();
            let broker = Broker::open(address, folder.path()).unwrap();
            let peer = broker.of_peer(PeerId::from_bytes([7; 16]), 1_800_000_000_000).unwrap();
            (peer.password.unwrap(), broker.authority.unwrap().secret)
        };
        assert_eq!(open(), open());
        std::fs::write(folder.path().join("broker.secret"), "").unwrap();
        let address = Address::parse("amqp://broker?auth=directory").unwrap();
        assert!(Broker::open(address, folder.path()).is_err(), "an empty secret would let everybody in");
    }
}
