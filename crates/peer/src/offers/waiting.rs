//! What could not be told yet: told when the other is online, for seven days. And what nobody answered: ended then.
//!
//! The directory is asked about the users for whom something waits, some of them at a time, so that one who never comes
//! does not keep the others waiting and the directory is not asked more than it is by a download that waits.

use std::{collections::HashMap, time::Duration};

use daemon::Lifecycle;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;
use wire::{
    PeerId, Username,
    rest::{
        directory::PeerItem,
        pclient::{OfferDirection, OfferState},
    },
};

use super::{LIFETIME, MAX_OVER, Offers, posted::Outbox};
use crate::{
    Failure,
    directory_link::LinkState,
    store::offers::{self as table, OfferRow},
};

/// How often the directory is asked while something waits.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often what is too old is ended.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Users who are looked for at a time.
const USERS: usize = 16;
const USERS_AT_ONCE: usize = 4;
/// Offers to one user that are told in one go.
const OFFERS: usize = 100;
/// A peer that takes no more offers is left alone for so long.
const PAUSE: Duration = Duration::from_secs(30);
/// Offers that end in one go.
const SWEPT: usize = 1_000;

/// What is remembered from look to look.
#[derive(Default)]
struct Memory {
    /// Who was looked for last: the next ones come after, in the order of their names.
    last: Option<Username>,
    /// When the directory last heard of a peer: one that it heard of since is worth another attempt to connect.
    seen: Mutex<HashMap<PeerId, Timestamp>>,
    /// Users whose peers said that they take no more now, and until when they are left alone.
    paused: Mutex<HashMap<Username, Instant>>,
}

pub(super) fn spawn(offers: &Offers, lifecycle: &Lifecycle) {
    let (offers, soft) = (offers.clone(), lifecycle.soft());
    lifecycle.spawn("offers that wait", async move {
        soft.run_until_cancelled(Box::pin(run(&offers))).await;
    });
}

async fn run(offers: &Offers) {
    offers.accept_what_was_chosen_since().await;
    let mut memory = Memory::default();
    let mut next_sweep = Instant::now();
    // None while nothing waits.
    let mut next_look = Some(Instant::now());
    loop {
        let now = Instant::now();
        if now >= next_sweep {
            offers.sweep().await;
            next_sweep = now + SWEEP_EVERY;
        }
        if next_look.is_some_and(|at| now >= at) {
            let something_waits = offers.look(&mut memory).await.unwrap_or_else(|failure| {
                tracing::debug!(error = %failure, "offers that wait could not be looked at");
                true
            });
            next_look = something_waits.then(|| Instant::now() + LOOK_EVERY);
        }
        let wake = next_look.map_or(next_sweep, |at| at.min(next_sweep));
        tokio::select! {
            // Whoever left something here has just tried to tell it.
            () = offers.inner.wake.notified() => next_look = next_look.or(Some(Instant::now() + LOOK_EVERY)),
            () = tokio::time::sleep_until(wake) => {}
        }
    }
}

impl Memory {
    /// Whether the directory has heard of a peer since the last look.
    fn is_fresh(&self, machine: &PeerItem) -> bool {
        machine.online
            && self.seen.lock().insert(machine.peer_id, machine.last_seen) != Some(machine.last_seen)
    }

    fn is_paused(&self, user: &Username) -> bool {
        let mut paused = self.paused.lock();
        let is_paused = paused.get(user).is_some_and(|until| *until > Instant::now());
        if !is_paused {
            paused.remove(user);
        }
        is_paused
    }

    fn pause(&self, user: &Username) {
        self.paused.lock().insert(user.clone(), Instant::now() + PAUSE);
    }

    fn forget(&self) {
        self.seen.lock().clear();
        self.paused.lock().clear();
    }
}

impl Offers {
    /// Looks for some of the users for whom something waits, and tells them. Whether anything waits.
    async fn look(&self, memory: &mut Memory) -> Result<bool, Failure> {
        let session = self.parts().session.status();
        let Some(account) = session.username.filter(|_| session.state == LinkState::Connected) else {
            return Ok(true);
        };
        let users_after = |last: Option<&Username>| {
            self.parts().store.read(|c| table::waited_for(c, &account, last, USERS))
        };
        let mut users = users_after(memory.last.as_ref())?;
        if users.is_empty() && memory.last.is_some() {
            users = users_after(None)?;
        }
        memory.last = users.last().cloned();
        if users.is_empty() {
            memory.forget();
            return Ok(false);
        }
        let (memory, account) = (&*memory, &account);
        let telling = users.into_iter().map(|user| async move {
            if let Err(failure) = self.tell_what_waits(account, &user, memory).await {
                tracing::debug!(error = %failure, "a user could not be told of what waits for them");
            }
        });
        stream::iter(telling).buffer_unordered(USERS_AT_ONCE).collect::<()>().await;
        Ok(true)
    }

    async fn tell_what_waits(
        &self,
        account: &Username,
        user: &Username,
        memory: &Memory,
    ) -> Result<(), Failure> {
        if memory.is_paused(user) {
            return Ok(());
        }
        let machines = self.others(&self.parts().directory.peers_of(user).await?);
        for machine in &machines {
            if memory.is_fresh(machine) {
                self.parts().links.heard_of(machine.peer_id);
            }
        }
        let rows = self.parts().store.read(|c| table::waiting_for(c, account, user, OFFERS))?;
        // Where nobody took an offer: what was said of it, and where the next ones may still be left.
        let mut absent: Option<(Option<String>, Outbox)> = None;
        for row in rows {
            if let Err(failure) = self.shared_with(&row.content_id, user, account) {
                let why = Some(failure.detail);
                let withdrawn = OfferRow { state: OfferState::Expired, why, ..row.clone() };
                self.advance(&row, withdrawn).await?;
                continue;
            }
            if let Some((why, outbox)) = &mut absent {
                let left = self.leave(OfferRow { why: why.clone(), ..row.clone() }, outbox).await;
                self.advance(&row, left).await?;
                continue;
            }
            let told = self.attempt(row, &machines).await?;
            if told.refused {
                memory.pause(user);
            }
            // Nobody took it, so nobody would take the next one.
            if told.row.state == OfferState::Waiting {
                if !told.outbox.is_open() {
                    break;
                }
                absent = Some((told.why, told.outbox));
            }
        }
        Ok(())
    }

    /// Ends what nobody answered in time, and forgets what has been over for long.
    pub(super) async fn sweep(&self) {
        if let Some(mail) = &self.parts().mail {
            mail.forget_old_offers().await;
        }
        let lifetime = i64::try_from(LIFETIME.as_millis()).unwrap_or(i64::MAX);
        let until = self.parts().clock.millis().saturating_sub(lifetime);
        loop {
            let swept = self.parts().store.write(move |t| table::sweep(t, until, SWEPT, MAX_OVER)).await;
            let Ok(ended) = swept else { return };
            ended.iter().for_each(|row| self.tell(row));
            if ended.len() < SWEPT {
                return;
            }
        }
    }

    /// What was offered before its sender was chosen, or in the moment in which the last run ended.
    async fn accept_what_was_chosen_since(&self) {
        let mut after = None;
        while !self.parts().accept_from.is_empty() {
            let open =
                |c: &_| table::page(c, OfferDirection::Received, Some(OfferState::Offered), after, OFFERS);
            let Ok(rows) = self.parts().store.read(open) else { return };
            let Some(last) = rows.last() else { return };
            after = Some(last.seq);
            for row in rows {
                self.accept_if_chosen(row).await;
            }
        }
    }
}
