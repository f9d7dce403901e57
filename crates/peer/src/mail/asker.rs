//! The asking side: wants to absent holders, and what comes into our mailbox for them.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use content::{ContentId, PieceSet};
use daemon::{Clock, Lifecycle};
use parking_lot::Mutex;
use prost::Message;
use tokio::{sync::mpsc, time::Instant};
use wire::{
    ErrorCode, PeerId,
    proto::{self, question::Ask},
    rest::directory::Holder,
};
use zeroize::Zeroizing;

use super::{INDEX, KEPT, letters, letters::OfferAnswered};
use crate::{
    Failure,
    link::{LinkError, Target},
    relay::{
        Kind, Relay,
        answer::{AnswerOpener, Answered},
        broker::Receipt,
        message::Incoming,
        seal::ReplyKey,
    },
    service::message_of,
    store::{
        Store,
        mail::{self as table, WantRow},
    },
    turns::Turns,
};

/// Parcels of one download that wait to be written.
const WAITING: usize = 8;
/// A download that begins with the process has so long to ask for its parcels.
const PATIENCE: Duration = Duration::from_secs(10);
/// After this long without an answer, a holder is asked again, in case the want was lost.
const ASK_AGAIN: Duration = Duration::from_secs(24 * 60 * 60);

/// Something that came for a want.
#[derive(Debug)]
pub(crate) enum Parcel {
    /// A page of the proof.
    Described {
        first_piece: u32,
        description: proto::Description,
    },
    Piece {
        index: u32,
        bytes: Bytes,
    },
    /// Nothing more comes; why not all of it did.
    Settled(Option<Failure>),
}

/// A parcel and who sent it. The receipt is given when it is dealt with.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) from: PeerId,
    pub(crate) parcel: Parcel,
    pub(crate) receipt: Receipt,
}

/// The mailbox of this peer. Clones are the same.
#[derive(Clone)]
pub struct Mail {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) relay: Relay,
    pub(super) store: Store,
    clock: Clock,
    inboxes: Mutex<HashMap<ContentId, mpsc::Sender<Received>>>,
    /// Told when a download begins to take its parcels.
    opened: tokio::sync::Notify,
    /// Takes what is said to offers that were left.
    offers: mpsc::Sender<OfferAnswered>,
    /// One letter of an offer is left at a time.
    pub(super) turns: Turns,
    /// Machines whose queues took no offer, until when they are left alone, and why.
    pub(super) unposted: Mutex<HashMap<PeerId, (Instant, String)>>,
}

/// The parcels of one download, until it is dropped.
pub(crate) struct Inbox {
    mail: Mail,
    id: ContentId,
    sender: mpsc::Sender<Received>,
    parcels: mpsc::Receiver<Received>,
}

impl Mail {
    /// Starts taking parcels out of the mailbox. Beside it, what is said to offers that were left.
    pub(crate) fn start(
        relay: Relay,
        store: Store,
        clock: Clock,
        mailbox: mpsc::Receiver<Incoming>,
        lifecycle: &Lifecycle,
    ) -> (Self, mpsc::Receiver<OfferAnswered>) {
        let (offers, answered) = mpsc::channel(WAITING);
        let inner = Inner {
            relay,
            store,
            clock,
            inboxes: Mutex::default(),
            opened: tokio::sync::Notify::new(),
            offers,
            turns: Turns::default(),
            unposted: Mutex::default(),
        };
        let mail = Self { inner: Arc::new(inner) };
        lifecycle.spawn("mailbox", mail.clone().deliver(mailbox, lifecycle.soft()));
        (mail, answered)
    }

    /// Whether a file of this size may be asked for by mail.
    pub(crate) fn takes(&self, size: u64) -> bool {
        self.inner.relay.limits().takes(size)
    }

    /// The parcels that come for a content, from now on.
    pub(crate) fn inbox(&self, id: ContentId) -> Inbox {
        let (sender, parcels) = mpsc::channel(WAITING);
        self.inner.inboxes.lock().insert(id, sender.clone());
        self.inner.opened.notify_waiters();
        Inbox { mail: self.clone(), id, sender, parcels }
    }

    /// Whether a holder that is off could be asked now.
    pub(crate) fn is_possible(&self) -> bool {
        self.inner.relay.is_on()
    }

    /// The holders that were asked for a content and have not said that nothing more comes. A want that is sealed with
    /// other keys than a holder or this peer has now is lost: nobody can open it.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) fn asked(&self, id: ContentId, holders: &[&Holder]) -> Result<Vec<PeerId>, Failure> {
        let since = self.now() - ASK_AGAIN.as_secs().cast_signed();
        let wants = self.inner.store.read(|c| table::wants_of(c, &id))?;
        let is_lost = |want: &WantRow| {
            let holder = holders.iter().find(|holder| holder.peer_id == want.holder);
            let now = holder.and_then(|holder| self.inner.relay.letter_keys(&Target::from(*holder)).ok());
            want.keys.zip(now).is_some_and(|(then, now)| then != now)
        };
        Ok(wants
            .iter()
            .filter(|want| !want.settled && want.asked_at > since && !is_lost(want))
            .map(|want| want.holder)
            .collect())
    }

    /// Leaves a want for a holder that is off. `missing` is what is not here yet, where the proof is.
    ///
    /// # Errors
    /// Where the broker does not take it: the holder was never on the relay, or has too many wants already.
    pub(crate) async fn want(
        &self,
        holder: &Target,
        id: ContentId,
        missing: Option<&PieceSet>,
    ) -> Result<(), LinkError> {
        let want = proto::Want {
            content_id: Bytes::copy_from_slice(id.as_bytes()),
            missing: missing.map(|pieces| message_of(pieces, &[])),
        };
        let letter = self.inner.relay.letter(holder, Ask::Want(want))?;
        let ticket = letter.id;
        // The key is kept before anything can be answered with it.
        let row = WantRow {
            ticket,
            content_id: id,
            holder: holder.peer_id,
            reply_key: Zeroizing::new(*letter.reply.as_bytes()),
            keys: Some(letter.keys),
            asked_at: self.now(),
            settled: false,
        };
        let stored = self.inner.store.write(move |t| table::add_want(t, &row)).await;
        stored.map_err(LinkError::Answered)?;
        let sent = self.inner.relay.leave(letter).await;
        if sent.is_err() {
            let settled = self.inner.store.write(move |t| table::settle_want(t, &ticket)).await;
            settled.map_err(LinkError::Answered)?;
        }
        metrics::counter!("trueque_wants_total", "outcome" => if sent.is_ok() { "left" } else { "refused" })
            .increment(1);
        sent
    }

    /// Nothing more is wanted of a content: what still comes is dropped.
    ///
    /// # Errors
    /// What the store says.
    pub(crate) async fn forget(&self, id: ContentId) -> Result<(), Failure> {
        self.inner.store.write(move |t| table::forget_wants(t, &id)).await
    }

    async fn deliver(self, mut mailbox: mpsc::Receiver<Incoming>, soft: tokio_util::sync::CancellationToken) {
        let oldest = self.now() - KEPT.as_secs().cast_signed();
        if let Err(error) = self.inner.store.write(move |t| table::forget_wants_before(t, oldest)).await {
            tracing::warn!(%error, "old wants could not be forgotten");
        }
        while let Some(Some(incoming)) = soft.run_until_cancelled(mailbox.recv()).await {
            self.take(incoming, &soft).await;
        }
    }

    async fn take(&self, incoming: Incoming, soft: &tokio_util::sync::CancellationToken) {
        let from = incoming.from;
        if let Some(letter) = self.letter_of(&incoming) {
            match letters::read(&letter, incoming) {
                Ok(answered) => {
                    let _stopping = soft.run_until_cancelled(self.inner.offers.send(answered)).await;
                }
                Err((why, receipt)) => drop_parcel(why, receipt).await,
            }
            return;
        }
        let (want, parcel, receipt) = match self.read(incoming) {
            Ok(read) => read,
            Err((why, receipt)) => return drop_parcel(why, receipt).await,
        };
        if matches!(parcel, Parcel::Settled(_)) {
            let ticket = want.ticket;
            if let Err(error) = self.inner.store.write(move |t| table::settle_want(t, &ticket)).await {
                tracing::warn!(%error, "a want could not be settled");
            }
        }
        let received = Received { from, parcel, receipt };
        let delivering = self.hand_over(want.content_id, received);
        let _stopping = soft.run_until_cancelled(delivering).await;
    }

    /// Hands a parcel to its download. One that nobody takes, because the download is paused or gone, is dropped: who
    /// goes on with it asks again.
    async fn hand_over(&self, id: ContentId, received: Received) {
        let waiting = tokio::time::timeout(PATIENCE, async {
            loop {
                let opened = self.inner.opened.notified();
                let inbox = self.inner.inboxes.lock().get(&id).cloned();
                match inbox {
                    Some(inbox) => return inbox,
                    None => opened.await,
                }
            }
        });
        let undelivered = match waiting.await {
            Ok(inbox) => inbox.send(received).await.map_err(|unsent| unsent.0).err(),
            Err(_) => Some(received),
        };
        if let Some(unsent) = undelivered {
            metrics::counter!("trueque_relay_refused_total", "reason" => "not wanted any more").increment(1);
            unsent.receipt.done().await;
        }
    }

    /// Opens a parcel with the key of the want that it answers.
    fn read(&self, incoming: Incoming) -> Result<(WantRow, Parcel, Receipt), (&'static str, Receipt)> {
        let Incoming { from, correlation_id, body, receipt, .. } = incoming;
        let parcel = || -> Result<(WantRow, Parcel), &'static str> {
            let ticket = correlation_id.ok_or("no ticket")?;
            let want = self.inner.store.read(|c| table::want(c, &ticket)).map_err(|_| "store")?;
            let want = want.ok_or("unknown ticket")?;
            if want.holder != from {
                return Err("another's ticket");
            }
            // A holder that began anew has another stream: each parcel is opened by itself.
            let mut opener = AnswerOpener::new(ReplyKey::from_bytes(*want.reply_key), ticket);
            let opened = match opener.open(body) {
                Ok(Answered::Sealed(opened)) => opened,
                // Not believed, and not needed: the next look sees at the directory that the keys are others.
                Ok(Answered::StaleKey) => return Err("stale key"),
                Err(_) => return Err("forged parcel"),
            };
            let parcel = parcel_of(opened.kind, opened.data).ok_or("malformed parcel")?;
            Ok((want, parcel))
        };
        match parcel() {
            Ok((want, parcel)) => Ok((want, parcel, receipt)),
            Err(why) => Err((why, receipt)),
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.inner.clock.now().as_second()
    }
}

/// It will not get better: taken out, and counted.
async fn drop_parcel(why: &'static str, receipt: Receipt) {
    metrics::counter!("trueque_relay_refused_total", "reason" => why).increment(1);
    receipt.done().await;
}

pub(crate) fn parcel_of(kind: Kind, mut data: Bytes) -> Option<Parcel> {
    match kind {
        Kind::Bytes if data.len() >= INDEX => Some(Parcel::Piece { index: data.get_u32(), bytes: data }),
        Kind::Message if data.len() > proto::MAX_MESSAGE => None,
        Kind::Message => match proto::Parcel::decode(data).ok()?.what? {
            proto::parcel::What::Described(page) => {
                Some(Parcel::Described { first_piece: page.first_piece, description: page.description? })
            }
            proto::parcel::What::Settled(settled) => Some(Parcel::Settled(settled.refusal.map(|refusal| {
                Failure::new(refusal.code.parse().unwrap_or(ErrorCode::Internal), refusal.detail)
            }))),
        },
        _ => None,
    }
}

impl Inbox {
    /// The next parcel. Waits for ever where none comes.
    pub(crate) async fn next(&mut self) -> Received {
        match self.parcels.recv().await {
            Some(received) => received,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut inboxes = self.mail.inner.inboxes.lock();
        // A download that was started anew has put its own in this one's place.
        if inboxes.get(&self.id).is_some_and(|present| present.same_channel(&self.sender)) {
            inboxes.remove(&self.id);
        }
    }
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail").field("inboxes", &self.inner.inboxes.lock().len()).finish_non_exhaustive()
    }
}
