//! The holding side: wants that others left for us, taken into our store and kept as their mailboxes have room; and
//! offers, which are shown to the user.
//!
//! A want is a promise from the moment it is stored, and only then taken off the broker. What it asks for is decided
//! when it is answered, by the same service that answers everybody: a name taken off the list meanwhile gets nothing.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use content::{ContentId, Layout, PieceSet};
use daemon::{Clock, Lifecycle};
use tokio::{sync::mpsc, time::Instant};
use tracing::Instrument;
use wire::{
    ErrorCode, PeerId,
    proto::{self, question::Ask},
    rest::pclient::FetchPath,
};
use zeroize::Zeroizing;

use super::KEPT;
use crate::{
    Failure,
    link::Rung,
    pserver::{consumed, may_go, sent},
    relay::{
        Refused, Relay,
        broker::Receipt,
        message::{Incoming, MessageId, Route},
        open::{Asked, Unopened},
        seal::ReplyKey,
        sink::{AnswerSink, Gone},
    },
    service::{Service, VALUES_PER_PAGE},
    store::{
        Store,
        mail::{self as table, PromiseRow, Taken},
    },
    tls::Caller,
};

/// Wants of all peers that are kept at once.
const MOST_PROMISES: u32 = 1_000;
/// Wants and offers that were answered are remembered for so long, and so many of them. What the broker keeps of them
/// is older by a week at most.
const REMEMBERED: Duration = Duration::from_secs(60 * 24 * 60 * 60);
const MOST_REMEMBERED: u32 = 100_000;
/// How long a full mailbox is tried.
const PATIENCE: Duration = Duration::from_secs(2);
/// A mailbox that was full is left alone for so long, twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Askers that are remembered for it, before those whose pause is over are forgotten.
const MOST_RESTING: usize = 4_096;
/// How often a letter that cannot be dealt with yet is tried. It is kept in hand: given back, it would come again at once,
/// and five times is what the broker allows.
const STUCK_PAUSE: Duration = Duration::from_secs(2);
/// Before the broker loses patience with whoever keeps a message in hand, which is after 30 minutes.
const MOST_STUCK: Duration = Duration::from_secs(20 * 60);

struct Holder {
    relay: Relay,
    service: Service,
    store: Store,
    clock: Clock,
    /// Askers whose mailbox did not take everything, and when to try again.
    resting: HashMap<PeerId, (Instant, Duration)>,
    /// What cannot be dealt with yet, and since when. Nothing more is taken until then.
    stuck: Option<(Letter, Instant)>,
}

/// Something that waited for this peer.
#[derive(Debug)]
enum Letter {
    Sealed(Incoming),
    Open(Box<Asked>),
}

/// How far a promise is.
enum Kept {
    /// Done with, for good or for bad.
    Whole,
    /// The mailbox takes no more now.
    InPart,
}

/// Starts taking wants and keeping them.
pub(crate) fn start(
    relay: Relay,
    service: Service,
    store: Store,
    clock: Clock,
    mut wants: mpsc::Receiver<Incoming>,
    lifecycle: &Lifecycle,
) {
    let mut holder = Holder { relay, service, store, clock, resting: HashMap::new(), stuck: None };
    let soft = lifecycle.soft();
    lifecycle.spawn("wants of others", async move {
        let mut state = holder.relay.state();
        loop {
            let pause = holder.keep_promises().await;
            let pause = if holder.stuck.is_some() { pause.min(STUCK_PAUSE) } else { pause };
            tokio::select! {
                () = soft.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                changed = state.changed() => if changed.is_err() { return },
                letter = wants.recv(), if holder.stuck.is_none() => match letter {
                    Some(letter) => holder.consume(letter).await,
                    None => return,
                },
            }
            holder.try_again().await;
            // All that came together is taken before the first is answered: a newer want replaces an older one.
            while holder.stuck.is_none()
                && let Ok(letter) = wants.try_recv()
            {
                holder.consume(letter).await;
            }
        }
    });
}

impl Holder {
    async fn consume(&mut self, letter: Incoming) {
        let span = consumed(&letter);
        self.take(Letter::Sealed(letter)).instrument(span).await;
    }

    async fn take(&mut self, letter: Letter) {
        let since = Instant::now();
        if let Some(letter) = self.deal_with(letter).await {
            tracing::debug!("what waited for this peer cannot be dealt with yet");
            self.stuck = Some((letter, since));
        }
    }

    /// Deals with the letter that all others wait for, if it can be done now.
    async fn try_again(&mut self) {
        let Some((letter, since)) = self.stuck.take() else { return };
        if letter.is_stale() {
            return; // it comes again, by the next connection
        }
        if since.elapsed() >= MOST_STUCK {
            return letter.give_back().await;
        }
        self.stuck = self.deal_with(letter).await.map(|letter| (letter, since));
    }

    /// Gives it back where it has to wait for the directory, or for a login.
    async fn deal_with(&mut self, letter: Letter) -> Option<Letter> {
        let asked = match letter {
            Letter::Open(asked) => *asked,
            Letter::Sealed(incoming) => match self.relay.open(incoming).await {
                Ok(asked) => asked,
                Err(Unopened::Later(incoming)) => return Some(Letter::Sealed(incoming)),
                Err(Unopened::Dropped) => return None,
            },
        };
        match &asked.ask {
            Ask::Want(_) => {
                self.take_want(asked).await;
                None
            }
            Ask::Offer(_) => self.take_offer(asked).await,
            _ => {
                metrics::counter!("trueque_relay_refused_total", "reason" => "not for a peer that is off")
                    .increment(1);
                asked.receipt.done().await;
                None
            }
        }
    }

    /// Shows it to the user, and says so to the mailbox of whoever made it.
    async fn take_offer(&mut self, asked: Asked) -> Option<Letter> {
        let Ask::Offer(offer) = &asked.ask else { return None };
        let (sender, ticket) = (asked.caller.peer_id, asked.request);
        if self.store.read(|c| table::is_answered(c, sender, &ticket)).unwrap_or(false) {
            Refused::Replayed.count();
            asked.receipt.done().await;
            return None;
        }
        let answer = self.service.offer(&asked.caller, offer).await;
        if matches!(&answer, Err(failure) if failure.code == ErrorCode::Unavailable) {
            return Some(Letter::Open(Box::new(asked)));
        }
        let Asked { caller, request, reply, receipt, .. } = asked;
        let outcome = if answer.is_ok() { "taken" } else { "refused" };
        metrics::counter!("trueque_offer_letters_total", "outcome" => outcome).increment(1);
        // Who keeps a full mailbox is not waited for with each of its letters. They hear it when both are on.
        let asker = caller.peer_id;
        let rests = self.resting.get(&asker).is_some_and(|(until, _)| *until > Instant::now());
        if !rests && self.answer_offer(asker, request, &reply, answer).await.is_err() {
            tracing::debug!(peer.id = %asker, "an offer could not be answered by mail");
            self.rest(asker);
        }
        self.set_answered(asker, request).await;
        receipt.done().await;
        None
    }

    async fn answer_offer(
        &self,
        to: PeerId,
        request: MessageId,
        reply: &ReplyKey,
        answer: Result<proto::OfferReply, Failure>,
    ) -> Result<(), Failure> {
        let mut sink = AnswerSink::new(&self.relay, to, Route::Mailbox, request, reply, PATIENCE)?;
        let told = match answer {
            Ok(reply) => match sink.message(&reply, true).await {
                Ok(()) => sink.confirmed().await,
                Err(gone) => Err(gone),
            },
            Err(failure) => sink.end(Err(failure)).await,
        };
        told.map_err(|gone| full(&gone))
    }

    async fn take_want(&mut self, asked: Asked) {
        let Asked { caller, ask: Ask::Want(want), request, reply, receipt, .. } = asked else { return };
        let Ok(content_id) = ContentId::try_from(want.content_id.as_ref()) else {
            metrics::counter!("trueque_relay_refused_total", "reason" => "malformed").increment(1);
            return receipt.done().await;
        };
        let promise = PromiseRow {
            asker: caller.peer_id,
            username: caller.username,
            content_id,
            ticket: request,
            reply_key: Zeroizing::new(*reply.as_bytes()),
            missing: want.missing.map(|pieces| pieces.bits.to_vec()),
            asked_at: self.clock.now().as_second(),
        };
        self.resting.remove(&promise.asker);
        match self.store.write(move |t| table::add_promise(t, &promise, MOST_PROMISES)).await {
            Ok(Taken::Yes) => receipt.done().await,
            Ok(Taken::Copy) => {
                Refused::Replayed.count();
                receipt.done().await;
            }
            Ok(Taken::Full) => {
                metrics::counter!("trueque_refusals_total", "reason" => "too many wants").increment(1);
                receipt.refuse(false).await;
            }
            Err(error) => {
                tracing::warn!(%error, "a want could not be kept; it stays at the broker");
                receipt.refuse(true).await;
            }
        }
    }

    /// Sends what can be sent now. Answers when to come back.
    async fn keep_promises(&mut self) -> Duration {
        let promises = match self.store.read(table::promises) {
            Ok(promises) => promises,
            Err(error) => {
                tracing::warn!(%error, "the wants of others cannot be read");
                return LONGEST_PAUSE;
            }
        };
        metrics::gauge!("trueque_promises").set(promises.len() as f64);
        let mut next = LONGEST_PAUSE;
        for promise in promises {
            if !self.relay.is_on() {
                return LONGEST_PAUSE; // the change of its state wakes us
            }
            let now = Instant::now();
            if let Some((until, _)) = self.resting.get(&promise.asker).filter(|(until, _)| *until > now) {
                next = next.min(*until - now);
                continue;
            }
            let asker = promise.asker;
            match self.keep(&promise).await {
                Ok(Kept::Whole) => {
                    self.resting.remove(&asker);
                    self.set_answered(asker, promise.ticket).await;
                }
                Ok(Kept::InPart) => next = next.min(self.rest(asker)),
                Err(error) => {
                    tracing::warn!(peer.id = %asker, %error, "a want could not be answered yet");
                    next = next.min(self.rest(asker));
                }
            }
        }
        next
    }

    /// A copy of it is not answered again.
    async fn set_answered(&self, sender: PeerId, ticket: MessageId) {
        let now = self.clock.now().as_second();
        let oldest = now - REMEMBERED.as_secs().cast_signed();
        let noted =
            self.store.write(move |t| table::set_answered(t, sender, &ticket, now, oldest, MOST_REMEMBERED));
        if let Err(error) = noted.await {
            tracing::warn!(%error, "what was answered could not be noted");
        }
    }

    fn rest(&mut self, asker: PeerId) -> Duration {
        let pause = self.resting.get(&asker).map_or(FIRST_PAUSE, |(_, last)| (*last * 2).min(LONGEST_PAUSE));
        let now = Instant::now();
        if self.resting.len() >= MOST_RESTING {
            self.resting.retain(|_, (until, _)| *until > now);
        }
        self.resting.insert(asker, (now + pause, pause));
        pause
    }

    async fn keep(&self, promise: &PromiseRow) -> Result<Kept, Failure> {
        if self.clock.now().as_second() - promise.asked_at > KEPT.as_secs().cast_signed() {
            return Ok(Kept::Whole);
        }
        let (peer_id, username) = (promise.asker, promise.username.clone());
        let caller = Caller { peer_id, username, path: FetchPath::Mailed };
        let id = promise.content_id;
        let described = match self.service.describe(&caller, id, 0) {
            Ok(described) => described,
            Err(refusal) => return self.settle(promise, Some(refusal)).await,
        };
        if let Err(refusal) = may_go(self.relay.limits(), described.size) {
            return self.settle(promise, Some(refusal)).await;
        }
        let layout = Layout::new(described.size).map_err(Failure::internal)?;
        let mut missing = match &promise.missing {
            None => {
                if self.send_proof(promise, &caller, described).await.is_err() {
                    return Ok(Kept::InPart);
                }
                PieceSet::full(layout.count())
            }
            Some(bits) => match PieceSet::from_bytes(layout.count(), bits) {
                Ok(missing) => missing,
                Err(_) => {
                    let refusal = Failure::invalid("the missing pieces are not of this file");
                    return self.settle(promise, Some(refusal)).await;
                }
            },
        };
        let to_send: Vec<u32> = missing.iter().collect();
        for index in to_send {
            match self.send_piece(promise, &caller, layout, index).await? {
                Sent::All => {}
                Sent::Full => return Ok(Kept::InPart),
                Sent::Refused(refusal) => return self.settle(promise, Some(refusal)).await,
            }
            missing.remove(index);
            // An empty set in bytes is "every piece" on the wire; here what is left of nothing is settled at once.
            if !missing.is_empty() {
                let (ticket, bits) = (promise.ticket, missing.to_bytes());
                self.store.write(move |t| table::set_missing(t, &ticket, &bits)).await?;
            }
        }
        self.settle(promise, None).await
    }

    /// Ends where the asker is taken off the list, and is tried again: then it is refused.
    async fn send_proof(
        &self,
        promise: &PromiseRow,
        caller: &Caller,
        first: proto::Description,
    ) -> Result<(), Failure> {
        let mut standing = self.service.standing(caller, vec![promise.content_id]);
        tokio::select! {
            lost = standing.lost() => Err(lost),
            sent = self.send_pages(promise, caller, first) => sent,
        }
    }

    async fn send_pages(
        &self,
        promise: &PromiseRow,
        caller: &Caller,
        first: proto::Description,
    ) -> Result<(), Failure> {
        let mut sink = self.sink(promise)?;
        let (mut first_piece, mut description) = (0, first);
        loop {
            let values = description.chaining_values.len() / 32;
            let described = proto::DescribedFrom { first_piece, description: Some(description) };
            let parcel = proto::Parcel { what: Some(proto::parcel::What::Described(described)) };
            sink.message(&parcel, false).await.map_err(|gone| full(&gone))?;
            if values < VALUES_PER_PAGE {
                return sink.confirmed().await.map_err(|gone| full(&gone));
            }
            first_piece += u32::try_from(values).map_err(Failure::internal)?;
            description = self.service.describe(caller, promise.content_id, first_piece)?;
        }
    }

    async fn send_piece(
        &self,
        promise: &PromiseRow,
        caller: &Caller,
        layout: Layout,
        index: u32,
    ) -> Result<Sent, Failure> {
        let range = layout.range(index);
        let mut standing = self.service.standing(caller, vec![promise.content_id]);
        let reading = self.service.fetch(caller, promise.content_id, range.start, range.end - range.start);
        let mut reading = match reading {
            Ok(reading) => reading.counted(sent(Rung::Relayed)),
            Err(busy) if busy.code == ErrorCode::RateLimited => return Ok(Sent::Full),
            Err(refusal) => return Ok(Sent::Refused(refusal)),
        };
        let mut parcel = vec![Bytes::copy_from_slice(&index.to_be_bytes())];
        while let Some(block) = reading.next().await {
            match block {
                Ok(block) => parcel.push(block),
                Err(refusal) => return Ok(Sent::Refused(refusal)),
            }
        }
        let mut sink = self.sink(promise)?;
        let sending = async {
            match sink.bytes(&parcel, false).await {
                Ok(()) => sink.confirmed().await,
                Err(gone) => Err(gone),
            }
        };
        // Dropped, the sending takes back what the mailbox has no room for yet.
        let sent = tokio::select! {
            lost = standing.lost() => return Ok(Sent::Refused(lost)),
            sent = sending => sent,
        };
        Ok(if sent.is_ok() { Sent::All } else { Sent::Full })
    }

    /// Tells the asker that nothing more comes.
    async fn settle(&self, promise: &PromiseRow, refusal: Option<Failure>) -> Result<Kept, Failure> {
        let refusal =
            refusal.map(|Failure { code, detail }| proto::Refusal { code: code.to_string(), detail });
        let settled = proto::Settled { refusal };
        let parcel = proto::Parcel { what: Some(proto::parcel::What::Settled(settled)) };
        let mut sink = self.sink(promise)?;
        let told = match sink.message(&parcel, true).await {
            Ok(()) => sink.confirmed().await,
            Err(gone) => Err(gone),
        };
        Ok(if told.is_ok() { Kept::Whole } else { Kept::InPart })
    }

    fn sink(&self, promise: &PromiseRow) -> Result<AnswerSink, Failure> {
        let reply = ReplyKey::from_bytes(*promise.reply_key);
        AnswerSink::new(&self.relay, promise.asker, Route::Mailbox, promise.ticket, &reply, PATIENCE)
    }
}

impl Letter {
    fn receipt(&self) -> &Receipt {
        match self {
            Self::Sealed(incoming) => &incoming.receipt,
            Self::Open(asked) => &asked.receipt,
        }
    }

    fn is_stale(&self) -> bool {
        self.receipt().is_stale()
    }

    async fn give_back(self) {
        let receipt = match self {
            Self::Sealed(incoming) => incoming.receipt,
            Self::Open(asked) => asked.receipt,
        };
        receipt.refuse(true).await;
    }
}

enum Sent {
    All,
    /// The mailbox, or we ourselves, can take no more now.
    Full,
    Refused(Failure),
}

fn full(gone: &Gone) -> Failure {
    Failure::unavailable(gone.to_string())
}
