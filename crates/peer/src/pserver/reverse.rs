//! Dialling back: a peer that cannot dial us asks over the relay to be dialled, and asks its questions over the
//! connection that we make. Everything is served on it as on a connection that the listener took, and it counts with
//! those.
//!
//! A question must not make us knock at doors of the asker's choice. We dial only what the directory lists for the peer
//! that asked, whose certificate must then be there; the token goes out when it is proven, and not before. Few are
//! dialled at a time and each asker seldom. What exactly went wrong stays in our log: told to the asker, it would say
//! what our network looks like from inside.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{io::AsyncWriteExt, sync::Semaphore};
use wire::{ErrorCode, PeerId};

use super::{Pserver, ended, refuse};
use crate::{
    Failure,
    connection::{self, Connection, MAX_ENDPOINTS},
    directory_link::DirectoryClient,
    link::{CONNECT_TIMEOUT, reverse::Token},
    tls::Purpose,
};

/// Peers that are being dialled at a time.
const MAX_FLIGHTS: usize = 4;
/// An asker may ask again after this long.
const PERIOD: Duration = Duration::from_secs(1);
/// So often it may ask in one go: a peer opens two connections.
const AT_ONCE: u32 = 2;
/// Askers that are remembered.
const MAX_ASKERS: usize = 1_024;

/// Dials those who ask for it. Clones are the same.
#[derive(Debug, Clone)]
pub struct DialBacks {
    server: Pserver,
    directory: DirectoryClient,
    pace: Arc<Mutex<Pace>>,
    flights: Arc<Semaphore>,
}

impl DialBacks {
    pub fn new(server: Pserver, directory: DirectoryClient) -> Self {
        Self { server, directory, pace: Arc::default(), flights: Arc::new(Semaphore::new(MAX_FLIGHTS)) }
    }

    /// Dials `asker` at one of the endpoints that it names and the directory lists for it, says the token, and serves
    /// it from there on. Back when that has begun.
    ///
    /// # Errors
    /// `invalid_argument`, `rate_limited`, or `unavailable` where no connection came about.
    pub async fn dial(&self, asker: PeerId, named: &[String], token: &[u8]) -> Result<(), Failure> {
        let listed = async { Ok(self.directory.peer(asker).await?.endpoints) };
        self.dial_listed(asker, listed, named, token).await
    }

    /// With what the directory lists as an argument.
    pub(super) async fn dial_listed(
        &self,
        asker: PeerId,
        listed: impl Future<Output = Result<Vec<String>, Failure>>,
        named: &[String],
        token: &[u8],
    ) -> Result<(), Failure> {
        let Some(token) = Token::try_from(token).ok().filter(|_| named.len() <= MAX_ENDPOINTS) else {
            refuse("reversal malformed");
            return Err(Failure::invalid(
                "a question to be dialled has 16 bytes of token and a few endpoints",
            ));
        };
        let Ok(_flight) = self.flights.try_acquire() else { return Err(too_many("reversals in flight")) };
        if self.server.connections.is_full() {
            return Err(too_many("connections"));
        }
        if !self.pace.lock().may_ask(asker, Instant::now()) {
            return Err(too_many("reversal too soon"));
        }

        let dialling = async {
            let mut endpoints = listed.await?;
            endpoints.retain(|endpoint| named.contains(endpoint));
            if endpoints.is_empty() {
                refuse("reversal endpoint not listed");
                return Err(Failure::invalid("the directory lists none of these endpoints for you"));
            }
            let dialled = self.dial_and_say(asker, &endpoints, token).await;
            dialled.map_err(|error| {
                tracing::debug!(peer.id = %asker, error = format!("{error:#}"), "a peer could not be dialled back");
                Failure::unavailable("you could not be dialled")
            })
        };
        let in_time = tokio::time::timeout(CONNECT_TIMEOUT, dialling).await;
        let connection = in_time.map_err(|_| Failure::unavailable("you could not be dialled"))??;
        tracing::debug!(peer.id = %asker, "dialled a peer that asked for it");
        let server = self.server.clone();
        self.server.lifecycle.spawn("reversed connection to a peer", async move {
            ended(server.serve(connection).await);
        });
        Ok(())
    }

    async fn dial_and_say(
        &self,
        asker: PeerId,
        endpoints: &[String],
        token: Token,
    ) -> anyhow::Result<Connection> {
        let mut connection = connection::dial(asker, endpoints, Purpose::Reversal, &self.server.tls).await?;
        connection.stream.write_all(token.as_bytes()).await?;
        connection.stream.flush().await?;
        Ok(connection)
    }
}

fn too_many(reason: &'static str) -> Failure {
    refuse(reason);
    Failure::new(ErrorCode::RateLimited, "too many ask to be dialled; come again in a second")
}

/// How often each asker may ask. Pure: the time is an argument.
#[derive(Debug, Default)]
struct Pace {
    /// Until when an asker's past questions count.
    counts_until: HashMap<PeerId, Instant>,
}

impl Pace {
    fn may_ask(&mut self, asker: PeerId, now: Instant) -> bool {
        if self.counts_until.len() >= MAX_ASKERS {
            self.counts_until.retain(|_, until| *until > now);
        }
        if self.counts_until.len() >= MAX_ASKERS && !self.counts_until.contains_key(&asker) {
            return false;
        }
        let until = self.counts_until.entry(asker).or_insert(now);
        *until = (*until).max(now);
        let may = *until <= now + PERIOD * (AT_ONCE - 1);
        if may {
            *until += PERIOD;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asker_may_ask_twice_at_once_and_then_once_a_second() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let [ana, ben] = [1, 2].map(|n| PeerId::from_bytes([n; 16]));
        let asks = |pace: &mut Pace, millis| pace.may_ask(ana, start + Duration::from_millis(millis));
        let answers = [0, 0, 0, 999, 1_000, 1_500, 2_000, 10_000, 10_000, 10_000];
        let answers = answers.map(|at| asks(&mut pace, at));
        assert_eq!(answers, [true, true, false, false, true, false, true, true, true, false]);
        assert!(pace.may_ask(ben, start), "each has a pace of its own");
    }

    #[test]
    fn so_many_askers_are_remembered_and_no_more() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let asker = |n: usize| PeerId::from_bytes((n as u128).to_be_bytes());
        assert!((0..MAX_ASKERS).all(|n| pace.may_ask(asker(n), start)));
        assert!(!pace.may_ask(asker(MAX_ASKERS), start));
        assert!(pace.may_ask(asker(0), start), "who is known is known");
        assert!(pace.may_ask(asker(MAX_ASKERS), start + PERIOD), "the others are forgotten");
        assert!(pace.counts_until.len() <= 2);
    }
}
