//! Offers: "fetch this from me". A user shows another one of the files that they share; the other takes it or does not.
//!
//! ```text
//!   POST /v1/offers ──► store (waiting) ──► deliver ──► Offer ──► store (offered) ──► GET /v1/offers
//!                            ▲                 │                                        accept, decline
//!                            └── waiting: again, when the other is online                     │
//!                                                                          download ◄─────────┘
//! ```
//!
//! - An offer goes to a *user*: to each of their machines that is online, else to the first that comes. For those that
//!   are off it lies at the relay, so that they find it when we are off ourselves.
//! - It carries no bytes. Whoever accepts it starts an ordinary download; the offerer is one of the holders.
//! - Nothing is told back later: the sender knows that it was delivered, and what was said in that moment.
//! - What waits or is open ends after seven days. Everything survives a restart.
//!
//! [`deliver`] tells one machine, [`posted`] leaves it for those that are off, [`waiting`] comes back to what could not
//! be told, [`sizes`] holds an accepted offer
//! to the size that it named.

pub(crate) mod deliver;
mod posted;
mod sizes;
#[cfg(test)]
mod tests;
mod waiting;

use std::{sync::Arc, time::Duration};

use content::ContentId;
use daemon::{Clock, Lifecycle};
use futures::{StreamExt, stream};
use tokio::sync::{Notify, broadcast, mpsc};
use wire::{
    ErrorCode, PeerId, Username,
    proto::{self, OfferAnswer},
    rest::{
        Audience,
        directory::PeerItem,
        pclient::{DownloadState, Offer, OfferDirection, OfferParty, OfferState},
    },
};

use self::{
    deliver::{Delivery, Shown, answer_of, deliver, message_of, read, settle},
    posted::Outbox,
    sizes::Sizes,
};
use crate::{
    Failure,
    config::Offerer,
    directory_link::{DirectoryClient, Session},
    download::Downloads,
    library::{Library, SharedEntry},
    link::{Links, Target},
    mail::{Mail, OfferAnswered},
    store::{
        Store,
        offers::{self as table, Added, Limits, OfferRow},
    },
    tls::Caller,
    trust::Trust,
};

/// Offers that nobody has answered end after this time, on either side.
pub const LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// Open offers of one user that are shown here; more are told to come back.
pub const MAX_OPEN_OF_ONE: u64 = 100;
/// Open offers of one direction.
const MAX_OPEN: u64 = 10_000;
/// Offers of one direction that are over and still remembered.
const MAX_OVER: u64 = 10_000;
const RECEIVED: Limits = Limits { open_of_one: MAX_OPEN_OF_ONE, open: MAX_OPEN, kept: MAX_OPEN + MAX_OVER };
const SENT: Limits = Limits { open_of_one: MAX_OPEN, open: MAX_OPEN, kept: MAX_OPEN + MAX_OVER };
/// How long whoever sends waits to hear that it was delivered.
const FIRST_ATTEMPT: Duration = Duration::from_secs(5);
/// Machines of one user that are told, and those of them at once.
const MACHINES: usize = 32;
const TOLD_AT_ONCE: usize = 8;
/// Changes that a slow listener may lag behind.
const EVENTS: usize = 1024;

/// What offers need from the rest of the peer.
pub struct Parameters {
    pub store: Store,
    pub clock: Clock,
    pub library: Library,
    pub directory: DirectoryClient,
    pub session: Session,
    pub links: Links,
    pub downloads: Downloads,
    pub own_id: PeerId,
    /// Where offers are left for those who are off.
    pub mail: Option<Mail>,
    /// Whose offers are accepted without asking.
    pub accept_from: Vec<Offerer>,
    /// Who belongs to which group.
    pub trust: Trust,
}

/// All offers of this peer, those of others and its own. Clones are the same.
#[derive(Clone)]
pub struct Offers {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parameters,
    /// One answer at a time: what is accepted and declined at once is one of the two.
    answering: tokio::sync::Mutex<()>,
    sizes: Sizes,
    /// Something waits that did not before.
    wake: Notify,
    events: broadcast::Sender<Offer>,
}

/// What a round of telling gave.
struct Told {
    row: OfferRow,
    /// A machine was reached and did not take it.
    refused: bool,
    /// Why it waits, but for what the relay has to do with it.
    why: Option<String>,
    /// Where the next one may be left.
    outbox: Outbox,
}

impl Offers {
    /// Takes up what an earlier run left. `answered` is what is said to offers that were left for somebody.
    pub fn start(
        parameters: Parameters,
        answered: Option<mpsc::Receiver<OfferAnswered>>,
        lifecycle: &Lifecycle,
    ) -> Self {
        let inner = Inner {
            parts: parameters,
            answering: tokio::sync::Mutex::default(),
            sizes: Sizes::default(),
            wake: Notify::new(),
            events: broadcast::Sender::new(EVENTS),
        };
        let offers = Self { inner: Arc::new(inner) };
        sizes::spawn(&offers, lifecycle);
        waiting::spawn(&offers, lifecycle);
        if let Some(answered) = answered {
            posted::spawn(&offers, answered, lifecycle);
        }
        offers
    }

    /// Offers a shared file to a user, and tells them if they are there. One that waits already is answered as it is:
    /// `false`.
    ///
    /// # Errors
    /// `not_found` for a file that is not shared and a user who never had a peer; `permission_denied` for a file that
    /// is not for them; `unprocessable` for this very machine; `unavailable` without a directory; `rate_limited`.
    pub async fn send(&self, id: ContentId, to: Username) -> Result<(Offer, bool), Failure> {
        let account = self.account().ok_or_else(|| {
            Failure::new(ErrorCode::Unauthenticated, "this peer is not logged in at a directory")
        })?;
        let entry = self.shared_with(&id, &to, &account)?;
        let machines = self.parts().directory.peers_of(&to).await?;
        let others = self.others(&machines);
        if others.is_empty() {
            return Err(if machines.is_empty() {
                Failure::not_found(format!("nobody called {to} has been on this network"))
            } else {
                let detail = format!("{to} has no other machine than this one");
                Failure::new(ErrorCode::Unprocessable, detail)
            });
        }
        let new = OfferRow {
            seq: 0,
            direction: OfferDirection::Sent,
            token: rand::random(),
            account,
            username: to,
            peer_id: None,
            content_id: id,
            name: entry.name.clone(),
            size: entry.size,
            state: OfferState::Waiting,
            offered_at: self.parts().clock.millis(),
            why: None,
            download_id: None,
        };
        let (row, is_new) = match self.parts().store.write(move |t| table::send(t, &new, SENT)).await? {
            Added::New(row) => {
                metrics::counter!("trueque_offers_total", "direction" => "sent").increment(1);
                (row, true)
            }
            Added::Known { row, .. } => (row, false),
            Added::Full(reason) => return Err(refused(reason, "too many offers wait to be delivered")),
        };
        for machine in &others {
            // The user asks now, so what did not answer a moment ago gets another chance.
            self.parts().links.heard_of(machine.peer_id);
        }
        let seq = row.seq;
        let attempt = tokio::time::timeout(FIRST_ATTEMPT, self.attempt(row.clone(), &others)).await;
        let row = match attempt {
            Ok(told) => told?.row,
            Err(_) => self.parts().store.read(|c| table::get(c, seq))?.unwrap_or(row),
        };
        if row.state == OfferState::Waiting {
            self.inner.wake.notify_one();
        }
        Ok((self.view(&row), is_new))
    }

    /// Takes in what another peer offers, and says what has become of it.
    ///
    /// # Errors
    /// `invalid_argument` for what no catalog would hold; `rate_limited` where too many offers are open.
    pub async fn receive(
        &self,
        caller: &Caller,
        offer: &proto::OfferRequest,
    ) -> Result<OfferAnswer, Failure> {
        let account = self.account().ok_or_else(|| Failure::unavailable("nobody is logged in here"))?;
        let Shown { token, content_id, name, size } = read(offer)?;
        let new = OfferRow {
            seq: 0,
            direction: OfferDirection::Received,
            token,
            account,
            username: caller.username.clone(),
            peer_id: Some(caller.peer_id),
            content_id,
            name,
            size,
            state: OfferState::Offered,
            offered_at: self.parts().clock.millis(),
            why: None,
            download_id: None,
        };
        match self.parts().store.write(move |t| table::receive(t, &new, RECEIVED)).await? {
            Added::New(row) => {
                metrics::counter!("trueque_offers_total", "direction" => "received").increment(1);
                self.tell(&row);
                let state = self.accept_if_chosen(row).await.state;
                Ok(answer_of(state))
            }
            Added::Known { row, changed } => {
                if changed {
                    self.tell(&row);
                }
                Ok(answer_of(row.state))
            }
            Added::Full(reason) => Err(refused(reason, "too many offers wait for an answer here")),
        }
    }

    /// Fetches what was offered.
    ///
    /// # Errors
    /// `not_found`; `conflict` for one that was declined or has expired; `unprocessable` for one of our own, and where
    /// the file is known to have another size; what [`Downloads::start`] refuses.
    pub async fn accept(&self, id: &str) -> Result<Offer, Failure> {
        let _one_at_a_time = self.inner.answering.lock().await;
        let row = self.received(id)?;
        match row.state {
            OfferState::Accepted => Ok(self.view(&row)),
            OfferState::Offered => Ok(self.view(&self.take(row).await?)),
            OfferState::Declined => Err(moved_on("it was declined; its content id can still be downloaded")),
            OfferState::Expired | OfferState::Waiting | OfferState::Delivered => {
                Err(moved_on("it has expired; its content id can still be downloaded"))
            }
        }
    }

    /// Says no to what was offered. The sender is not told unless they ask again.
    ///
    /// # Errors
    /// `not_found`; `conflict` for one that was accepted or has expired; `unprocessable` for one of our own.
    pub async fn decline(&self, id: &str) -> Result<Offer, Failure> {
        let _one_at_a_time = self.inner.answering.lock().await;
        let row = self.received(id)?;
        match row.state {
            OfferState::Declined => Ok(self.view(&row)),
            OfferState::Offered => {
                let declined = OfferRow { state: OfferState::Declined, ..row.clone() };
                Ok(self.view(&self.advance(&row, declined).await?))
            }
            OfferState::Accepted => Err(moved_on("it was accepted; cancel its download instead")),
            OfferState::Expired | OfferState::Waiting | OfferState::Delivered => {
                Err(moved_on("it has expired"))
            }
        }
    }

    pub fn get(&self, id: &str) -> Result<Offer, Failure> {
        self.row(id).map(|row| self.view(&row))
    }

    /// A page of offers, the newest first, after the one named.
    ///
    /// # Errors
    /// `invalid_argument` for what is no id; where the store cannot be read.
    pub fn page(
        &self,
        direction: OfferDirection,
        state: Option<OfferState>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Offer>, Failure> {
        let foreign = || Failure::invalid("`cursor` is not one that an earlier page gave");
        let before = after.map(|id| seq_of(id).ok_or_else(foreign)).transpose()?;
        let rows = self.parts().store.read(|c| table::page(c, direction, state, before, limit))?;
        Ok(rows.iter().map(|row| self.view(row)).collect())
    }

    /// Follows every change of every offer.
    pub fn subscribe(&self) -> broadcast::Receiver<Offer> {
        self.inner.events.subscribe()
    }

    fn parts(&self) -> &Parameters {
        &self.inner.parts
    }

    /// As whom this peer is logged in.
    fn account(&self) -> Option<Username> {
        self.parts().session.status().username
    }

    /// The file, if the user may have it.
    fn shared_with(
        &self,
        id: &ContentId,
        to: &Username,
        account: &Username,
    ) -> Result<Arc<SharedEntry>, Failure> {
        let entry = self.parts().library.get(id);
        let entry = entry.ok_or_else(|| Failure::not_found("this peer does not share such a file"))?;
        match &entry.audience {
            Audience::Users(_) if !self.is_for(&entry.audience, to, account) => Err(Failure::new(
                ErrorCode::PermissionDenied,
                format!("{} is not shared with {to}: put {to} into its audience first", entry.name),
            )),
            Audience::Network | Audience::Users(_) => Ok(entry),
        }
    }

    fn is_for(&self, audience: &Audience, to: &Username, account: &Username) -> bool {
        let trust = &self.parts().trust;
        to == account
            || audience.names(to)
            || audience.groups().any(|group| trust.belongs(account, group, to))
    }

    fn others(&self, machines: &[PeerItem]) -> Vec<PeerItem> {
        machines.iter().filter(|machine| machine.peer_id != self.parts().own_id).cloned().collect()
    }

    /// Tells those of the machines that are online; what none of them took is left for those that were not reached.
    async fn attempt(&self, row: OfferRow, machines: &[PeerItem]) -> Result<Told, Failure> {
        let (links, offer) = (&self.parts().links, &message_of(&row));
        let online = machines.iter().filter(|machine| machine.online).take(MACHINES);
        let online: Vec<Target> = online.map(Target::from).collect();
        let telling = online
            .into_iter()
            .map(|target| async move { (target.peer_id, deliver(links, offer, &target).await) });
        let told: Vec<_> = stream::iter(telling).buffer_unordered(TOLD_AT_ONCE).collect().await;
        let refused = told.iter().any(|(_, delivery)| matches!(delivery, Delivery::Refused(_)));
        let mut outbox = Outbox::without(machines, &told);
        let mut settled = settle(&row, told);
        let why = settled.why.clone();
        if settled.state == OfferState::Waiting {
            settled = self.leave(settled, &mut outbox).await;
        }
        Ok(Told { row: self.advance(&row, settled).await?, refused, why, outbox })
    }

    async fn accept_if_chosen(&self, row: OfferRow) -> OfferRow {
        let chosen = |offerer: &Offerer| match offerer {
            Offerer::Anybody => true,
            Offerer::User(user) => *user == row.username,
        };
        if !self.parts().accept_from.iter().any(chosen) {
            return row;
        }
        let _one_at_a_time = self.inner.answering.lock().await;
        match self.take(row.clone()).await {
            Ok(taken) => taken,
            Err(failure) => {
                tracing::warn!(error = %failure, "an offer of a chosen user could not be accepted, and stays open");
                self.parts().store.read(|c| table::get(c, row.seq)).ok().flatten().unwrap_or(row)
            }
        }
    }

    /// Starts the download of an open offer. Whoever calls it holds the lock.
    async fn take(&self, row: OfferRow) -> Result<OfferRow, Failure> {
        let (download, created) =
            self.parts().downloads.start(row.content_id, Some(row.name.clone())).await?;
        let another_size = download.size.filter(|size| *size != row.size);
        // Nothing is fetched of what is here or on its way: the user has it, and is told. Who offers is not: a refusal
        // would tell anybody who knows a content id that it is here, and how large it is.
        let fetches = created && download.state != DownloadState::Done;
        if let Some(size) = another_size.filter(|_| fetches) {
            self.drop_download(&download).await;
            let refused = sizes::refused(&row, size);
            let why = refused.why.clone().unwrap_or_default();
            self.advance(&row, refused).await?;
            return Err(Failure::new(ErrorCode::Unprocessable, why));
        }
        let id = download.id.clone();
        let why = another_size.map(|size| sizes::another(&row, size));
        let accepted = OfferRow { state: OfferState::Accepted, download_id: Some(id), why, ..row.clone() };
        let accepted = self.advance(&row, accepted).await?;
        if !fetches {
            return Ok(accepted);
        }
        self.expect_size(&accepted).await;
        // What is known of its size already may have ended it.
        Ok(self.parts().store.read(|c| table::get(c, accepted.seq))?.unwrap_or(accepted))
    }

    /// Moves an offer on, durably, and tells it. If somebody else has moved it meanwhile, theirs is the answer.
    async fn advance(&self, from: &OfferRow, to: OfferRow) -> Result<OfferRow, Failure> {
        if *from == to {
            return Ok(to);
        }
        let (before, seq) = (from.clone(), from.seq);
        match self.parts().store.write(move |t| table::advance(t, &before, &to)).await? {
            Some(row) => {
                self.tell(&row);
                Ok(row)
            }
            None => {
                let row = self.parts().store.read(|c| table::get(c, seq))?;
                row.ok_or_else(|| Failure::not_found("there is no such offer"))
            }
        }
    }

    fn row(&self, id: &str) -> Result<OfferRow, Failure> {
        let unknown = || Failure::not_found("there is no such offer");
        let seq = seq_of(id).ok_or_else(unknown)?;
        self.parts().store.read(|c| table::get(c, seq))?.ok_or_else(unknown)
    }

    fn received(&self, id: &str) -> Result<OfferRow, Failure> {
        let row = self.row(id)?;
        match row.direction {
            OfferDirection::Received => Ok(row),
            OfferDirection::Sent => Err(Failure::new(
                ErrorCode::Unprocessable,
                "this offer is one of ours; those to whom it was made answer it",
            )),
        }
    }

    fn tell(&self, row: &OfferRow) {
        if self.inner.events.receiver_count() > 0 {
            let _nobody_left = self.inner.events.send(self.view(row));
        }
    }

    fn view(&self, row: &OfferRow) -> Offer {
        let own = OfferParty { peer_id: Some(self.parts().own_id), username: row.account.clone() };
        let other = OfferParty { peer_id: row.peer_id, username: row.username.clone() };
        let (from, to) = match row.direction {
            OfferDirection::Received => (other, own),
            OfferDirection::Sent => (own, other),
        };
        Offer {
            id: format!("{:016x}", row.seq),
            direction: row.direction,
            from,
            to,
            content_id: row.content_id,
            name: row.name.to_string(),
            size: row.size,
            state: row.state,
            offered_at: jiff::Timestamp::from_millisecond(row.offered_at).unwrap_or_default(),
            download_id: row.download_id.clone(),
            why: row.why.clone(),
        }
    }
}

/// The number behind an offer's id.
fn seq_of(id: &str) -> Option<u64> {
    (id.len() == 16).then(|| u64::from_str_radix(id, 16).ok()).flatten()
}

fn moved_on(detail: &str) -> Failure {
    Failure::new(ErrorCode::Conflict, detail)
}

fn refused(reason: &'static str, detail: &str) -> Failure {
    metrics::counter!("trueque_refusals_total", "reason" => reason).increment(1);
    Failure::new(ErrorCode::RateLimited, format!("{detail}; try again later"))
}

impl std::fmt::Debug for Offers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offers").field("own_id", &self.parts().own_id).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parameters").field("accept_from", &self.accept_from).finish_non_exhaustive()
    }
}
