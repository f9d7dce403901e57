//! Offers left at the broker for machines that are off, and what those say when they find them.
//!
//! A letter is the same `Offer` as over gRPC, sealed, in the durable queue of one machine. It is left once: whoever
//! offers looks again every two seconds, and finds here that it lies there already. It is left anew where nobody can
//! open it any more, because one of the keys was replaced, and after two days, in case the broker lost it. More than
//! once does no harm: an offer is known by its id, however often and by whatever way it comes.

use std::time::Duration;

use prost::Message;
use tokio::time::Instant;
use wire::{
    ErrorCode, PeerId,
    proto::{self, OfferAnswer, question::Ask},
};
use zeroize::Zeroizing;

use super::{KEPT, Mail};
use crate::{
    Failure,
    link::{LinkError, Target},
    relay::{
        Kind,
        answer::{AnswerOpener, Answered},
        broker::{Receipt, RelayState},
        message::Incoming,
        seal::ReplyKey,
    },
    store::mail::{self as table, OfferLetterRow},
};

/// After this long a letter is left once more.
const LEAVE_AGAIN: Duration = Duration::from_secs(2 * 24 * 60 * 60);
/// A machine whose queue took nothing is left alone for so long.
const PAUSE: Duration = Duration::from_secs(30);
/// Machines that are left alone at once; beyond that they are tried.
const MOST_PAUSED: usize = 1_024;

/// What a machine said to an offer that it found.
#[derive(Debug)]
pub struct OfferAnswered {
    /// Of the offer.
    pub(crate) token: [u8; 16],
    pub(crate) by: PeerId,
    pub(crate) answer: Result<OfferAnswer, Failure>,
    /// Given when the answer is kept.
    pub(crate) receipt: Receipt,
}

impl Mail {
    /// Leaves an offer for a machine, unless it lies there already. What says why not is for the user.
    ///
    /// # Errors
    /// Why it does not lie there: no relay, a queue that is full, a machine that was never on the relay.
    pub(crate) async fn leave_offer(&self, to: &Target, offer: &proto::OfferRequest) -> Result<(), String> {
        match &*self.inner.relay.state().borrow() {
            RelayState::On { blocked: None, .. } => {}
            RelayState::On { blocked: Some(why), .. } => {
                return Err(format!("the relay takes nothing: {why}"));
            }
            RelayState::Away { .. } => return Err("the relay is not connected".to_owned()),
            RelayState::Off { why } => return Err(format!("there is no relay ({why})")),
        }
        let token: [u8; 16] =
            offer.offer_id.as_ref().try_into().map_err(|_| "an offer id has 16 bytes".to_owned())?;
        // Who makes an offer and who looks again may do so at once: the second finds the letter of the first.
        let _turn = self.inner.turns.of([token]).await;
        if self.lies_there(to, &token)? {
            return Ok(());
        }
        if let Some(why) = self.paused(to.peer_id) {
            return Err(why);
        }
        let left = self.leave_letter(to, token, offer.clone()).await;
        let outcome = if left.is_ok() { "left" } else { "refused" };
        metrics::counter!("trueque_offer_letters_total", "outcome" => outcome).increment(1);
        if let Err(why) = &left {
            tracing::debug!(peer.id = %to.peer_id, why, "an offer could not be left at the relay");
            self.pause(to.peer_id, why);
        }
        left
    }

    /// Nobody waits for an answer to this offer any more.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn forget_offer(&self, token: [u8; 16]) -> Result<(), Failure> {
        self.inner.store.write(move |t| table::forget_letters(t, &token)).await
    }

    /// Forgets the letters that no broker keeps any more.
    pub(crate) async fn forget_old_offers(&self) {
        let oldest = self.now() - KEPT.as_secs().cast_signed();
        if let Err(error) = self.inner.store.write(move |t| table::forget_letters_before(t, oldest)).await {
            tracing::warn!(%error, "old letters could not be forgotten");
        }
    }

    fn lies_there(&self, to: &Target, token: &[u8; 16]) -> Result<bool, String> {
        let letter = self.inner.store.read(|c| table::letter_for(c, token, to.peer_id));
        let Some(letter) = letter.map_err(|failure| failure.detail)? else { return Ok(false) };
        let keys = self.inner.relay.letter_keys(to).map_err(reason)?;
        let since = self.now() - LEAVE_AGAIN.as_secs().cast_signed();
        Ok(letter.lies && letter.keys == keys && letter.left_at > since)
    }

    async fn leave_letter(
        &self,
        to: &Target,
        token: [u8; 16],
        offer: proto::OfferRequest,
    ) -> Result<(), String> {
        let letter = self.inner.relay.letter(to, Ask::Offer(offer)).map_err(reason)?;
        let ticket = letter.id;
        // The key is kept before anything can be answered with it.
        let row = OfferLetterRow {
            ticket,
            token,
            receiver: to.peer_id,
            reply_key: Zeroizing::new(*letter.reply.as_bytes()),
            keys: letter.keys,
            left_at: self.now(),
            lies: false,
        };
        let kept = self.inner.store.write(move |t| table::add_letter(t, &row)).await;
        kept.map_err(|failure| failure.detail)?;
        self.inner.relay.leave(letter).await.map_err(reason)?;
        let noted = self.inner.store.write(move |t| table::letter_lies(t, &ticket)).await;
        noted.map_err(|failure| failure.detail)
    }

    fn paused(&self, machine: PeerId) -> Option<String> {
        let paused = self.inner.unposted.lock();
        paused.get(&machine).filter(|(until, _)| *until > Instant::now()).map(|(_, why)| why.clone())
    }

    fn pause(&self, machine: PeerId, why: &str) {
        let (now, mut paused) = (Instant::now(), self.inner.unposted.lock());
        if paused.len() >= MOST_PAUSED {
            paused.retain(|_, (until, _)| *until > now);
        }
        if paused.len() < MOST_PAUSED {
            paused.insert(machine, (now + PAUSE, why.to_owned()));
        }
    }

    /// The letter that something in the mailbox answers.
    pub(super) fn letter_of(&self, incoming: &Incoming) -> Option<OfferLetterRow> {
        let ticket = incoming.correlation_id?;
        self.inner.store.read(|c| table::letter(c, &ticket)).ok()?
    }
}

/// Opens the answer to an offer with the key of its letter.
pub(super) fn read(
    letter: &OfferLetterRow,
    incoming: Incoming,
) -> Result<OfferAnswered, (&'static str, Receipt)> {
    let Incoming { from, body, receipt, .. } = incoming;
    let answer = || {
        if letter.receiver != from {
            return Err("another's ticket");
        }
        let key = ReplyKey::from_bytes(*letter.reply_key);
        let opened = match AnswerOpener::new(key, letter.ticket).open(body) {
            Ok(Answered::Sealed(opened)) => opened,
            // Not believed, and not needed: the next look sees at the directory that the keys are others.
            Ok(Answered::StaleKey) => return Err("stale key"),
            Err(_) => return Err("forged parcel"),
        };
        match opened.kind {
            Kind::Message => {
                let reply = proto::OfferReply::decode(opened.data).map_err(|_| "malformed parcel")?;
                Ok(Ok(reply.answer()))
            }
            Kind::Refusal => {
                let refusal = proto::Refusal::decode(opened.data).map_err(|_| "malformed parcel")?;
                let code = refusal.code.parse().unwrap_or(ErrorCode::Internal);
                Ok(Err(Failure::new(code, refusal.detail)))
            }
            _ => Err("malformed parcel"),
        }
    };
    match answer() {
        Ok(answer) => Ok(OfferAnswered { token: letter.token, by: from, answer, receipt }),
        Err(why) => Err((why, receipt)),
    }
}

fn reason(error: LinkError) -> String {
    match error {
        LinkError::Unreachable(why) => why,
        LinkError::Silent | LinkError::Answered(_) => error.to_string(),
    }
}
