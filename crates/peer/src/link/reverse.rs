//! Connections that the other side makes: a peer that we cannot dial is asked over the relay to dial us, and we ask over
//! what comes.
//!
//! The question carries a [`Token`]; the peer says it first on the connection that it makes. It is good once, for five
//! seconds, and only from that peer, whose certificate has named it by then: so no connection is ever taken for an
//! answer to something that was not asked. Everything else is hung up on and counted, in `pserver`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use subtle::ConstantTimeEq;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::oneshot,
};
use wire::PeerId;

use super::{GrpcLink, LinkError, Target};
use crate::relay::Relay;

/// Longer than anybody waits for a connection: what comes later was not waited for.
const TOKEN_LIFE: Duration = Duration::from_secs(5);
/// Connections that are waited for at a time.
const MAX_EXPECTED: usize = 256;

/// Says which question a connection answers. `Debug` does not show it.
#[derive(Clone, Copy)]
pub(crate) struct Token([u8; Self::LENGTH]);

impl Token {
    pub(crate) const LENGTH: usize = 16;

    /// The first bytes of a connection.
    pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Self> {
        let mut bytes = [0; Self::LENGTH];
        from.read_exact(&mut bytes).await?;
        Ok(Self(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Token {
    type Error = std::array::TryFromSliceError;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes.try_into().map(Self)
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The connections that were asked for. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Reversals {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Where this peer can be dialled, best first.
    endpoints: Vec<String>,
    expected: Mutex<Vec<Expected>>,
}

#[derive(Debug)]
struct Expected {
    from: PeerId,
    token: Token,
    until: Instant,
    asker: Asker,
}

/// Who waits for a connection.
#[derive(Debug)]
pub(crate) struct Asker(oneshot::Sender<GrpcLink>);

impl Asker {
    /// False where it waits no more.
    pub(crate) fn take(self, link: GrpcLink) -> bool {
        self.0.send(link).is_ok()
    }
}

impl Reversals {
    pub fn new(endpoints: Vec<String>) -> Self {
        Self { inner: Arc::new(Inner { endpoints, expected: Mutex::default() }) }
    }

    /// Whether anybody could dial us.
    pub fn are_possible(&self) -> bool {
        !self.inner.endpoints.is_empty()
    }

    /// Asks the peer to dial us and waits for the connection.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub(super) async fn ask(&self, relay: &Relay, target: &Target) -> Result<GrpcLink, LinkError> {
        let (token, arrival) = self.expect(target.peer_id, Instant::now())?;
        let token = Bytes::copy_from_slice(token.as_bytes());
        tokio::select! {
            link = arrival => link.map_err(|_| LinkError::Silent),
            // That it has dialled is of no use without the connection; that it cannot saves the waiting.
            Err(error) = relay.dial_me(target, &self.inner.endpoints, token) => Err(error),
        }
    }

    /// From now on a connection from this peer with this token is taken, once.
    pub(crate) fn expect(
        &self,
        from: PeerId,
        now: Instant,
    ) -> Result<(Token, oneshot::Receiver<GrpcLink>), LinkError> {
        let mut expected = self.inner.expected.lock();
        expected.retain(|expected| expected.is_good(now));
        if expected.len() >= MAX_EXPECTED {
            metrics::counter!("trueque_refusals_total", "reason" => "reversals expected").increment(1);
            return Err(LinkError::Unreachable("too many peers are asked to dial us".to_owned()));
        }
        let (asker, arrival) = oneshot::channel();
        let token = Token(rand::random());
        expected.push(Expected { from, token, until: now + TOKEN_LIFE, asker: Asker(asker) });
        Ok((token, arrival))
    }

    /// Who waits for a connection from this peer with this token. Nobody does so twice.
    pub(crate) fn claim(&self, from: PeerId, token: &Token, now: Instant) -> Option<Asker> {
        let mut expected = self.inner.expected.lock();
        expected.retain(|expected| expected.is_good(now));
        let of_this = |expected: &Expected| {
            expected.from == from && bool::from(expected.token.as_bytes().ct_eq(token.as_bytes()))
        };
        let at = expected.iter().position(of_this)?;
        Some(expected.swap_remove(at).asker)
    }
}

impl Expected {
    fn is_good(&self, now: Instant) -> bool {
        now < self.until && !self.asker.0.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANA: PeerId = PeerId::from_bytes([1; 16]);
    const BEN: PeerId = PeerId::from_bytes([2; 16]);

    #[test]
    fn a_token_is_good_once_from_one_peer_and_for_a_while() {
        let (reversals, start) = (Reversals::default(), Instant::now());
        let claims = |from, token: &Token, at| reversals.claim(from, token, at).is_some();

        let (token, _waits) = reversals.expect(BEN, start).unwrap();
        assert!(!claims(BEN, &Token([0; 16]), start), "a wrong one");
        assert!(!claims(ANA, &token, start), "from another peer");
        assert!(claims(BEN, &token, start + TOKEN_LIFE - Duration::from_millis(1)));
        assert!(!claims(BEN, &token, start), "a second time");

        let (late, _waits) = reversals.expect(BEN, start).unwrap();
        assert!(!claims(BEN, &late, start + TOKEN_LIFE));
        let (deserted, waits) = reversals.expect(BEN, start).unwrap();
        drop(waits);
        assert!(!claims(BEN, &deserted, start), "nobody waits");
        assert_ne!(late.as_bytes(), deserted.as_bytes());
    }

    #[test]
    fn as_many_are_expected_as_fit() {
        let (reversals, start) = (Reversals::default(), Instant::now());
        let waiting: Vec<_> = (0..MAX_EXPECTED).map(|_| reversals.expect(ANA, start).unwrap()).collect();
        assert!(reversals.expect(BEN, start).is_err());
        let (token, arrival) = waiting.into_iter().next().unwrap();
        assert_eq!(format!("{token:?}"), "Token(…)");
        drop(arrival);
        assert!(reversals.expect(BEN, start).is_ok(), "who gave up leaves room");
    }
}
