//! [`Trust`]: what this peer knows of others beside their certificates, which are believed for a day: whose session was
//! ended since, and who belongs to the groups that its files are for.
//!
//! The directory says so ([`follow`] asks it), within a third of the lease. Whoever is revoked is refused at once and
//! everywhere: at the handshake, at each question, over the relay, and as somebody to dial; what is under way is cut.
//! While the directory is away, what it said last holds, also over a restart ([`saved`]).
//!
//! What is not known errs to the safe side where that is possible: a group that was not told of has no members. Of
//! revocations that is not possible: who was not told of is trusted as far as their certificate goes.

pub mod follow;
mod saved;

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use wire::{
    ErrorCode, GroupName, PeerId, Username,
    rest::accounts::{Group, Revoked},
};

use crate::{Failure, tls::Caller};

/// The most revocations that are kept. Far more than a network has in a day.
pub(crate) const MAX_REVOKED: usize = 100_000;
/// How long whoever changed something waits for this peer to know it too.
const REFRESH_LIMIT: Duration = Duration::from_secs(5);

/// What the directory said last. Clones are the same.
#[derive(Clone)]
pub struct Trust {
    inner: Arc<Inner>,
}

struct Inner {
    known: ArcSwap<Known>,
    /// Rings when something is known that was not.
    news: watch::Sender<()>,
    /// The revision that the directory spoke of last; 0 before.
    heard: watch::Sender<u64>,
    /// How often somebody asked to look again, and how many of these are answered.
    asked: watch::Sender<u64>,
    answered: watch::Sender<u64>,
}

/// One answer of the directory, whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) revision: u64,
    /// Whose view of the groups this is.
    pub(crate) account: Option<Username>,
    peers: HashSet<(PeerId, Username)>,
    accounts: HashSet<Username>,
    groups: BTreeMap<GroupName, Members>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Members {
    owner: Username,
    members: HashSet<Username>,
}

impl Known {
    pub(crate) fn new(
        revision: u64,
        account: Option<Username>,
        revoked: impl IntoIterator<Item = Revoked>,
        groups: impl IntoIterator<Item = Group>,
    ) -> Self {
        let mut known = Self { revision, account, ..Self::default() };
        for Revoked { peer_id, username, .. } in revoked {
            match peer_id {
                Some(peer) => known.peers.insert((peer, username)),
                None => known.accounts.insert(username),
            };
        }
        for Group { name, owner, members } in groups {
            known.groups.insert(name, Members { owner, members: members.into_iter().collect() });
        }
        known
    }

    fn refuses(&self, peer: PeerId, user: &Username) -> bool {
        self.accounts.contains(user) || self.peers.contains(&(peer, user.clone()))
    }

    fn belongs(&self, account: &Username, group: &GroupName, user: &Username) -> bool {
        self.account.as_ref() == Some(account)
            && self
                .groups
                .get(group)
                .is_some_and(|group| group.owner == *user || group.members.contains(user))
    }
}

impl Default for Trust {
    fn default() -> Self {
        let inner = Inner {
            known: ArcSwap::default(),
            news: watch::Sender::default(),
            heard: watch::Sender::default(),
            asked: watch::Sender::default(),
            answered: watch::Sender::default(),
        };
        Self { inner: Arc::new(inner) }
    }
}

impl Trust {
    /// Whether this machine, as this account, is not to be dealt with, whatever its certificate says.
    pub fn refuses(&self, peer: PeerId, user: &Username) -> bool {
        let known = self.inner.known.load();
        // Nearly always, and looked at for each question.
        let nobody = known.accounts.is_empty() && known.peers.is_empty();
        !nobody && known.refuses(peer, user)
    }

    /// Lets through whoever may ask.
    ///
    /// # Errors
    /// `unauthenticated` for who is revoked.
    pub fn admit(&self, caller: &Caller) -> Result<(), Failure> {
        if !self.refuses(caller.peer_id, &caller.username) {
            return Ok(());
        }
        metrics::counter!("trueque_refusals_total", "reason" => "session ended").increment(1);
        Err(Failure::new(ErrorCode::Unauthenticated, "this session was ended; log in again"))
    }

    /// Whether a group that `account` names has this user in it.
    pub fn belongs(&self, account: &Username, group: &GroupName, user: &Username) -> bool {
        self.inner.known.load().belongs(account, group, user)
    }

    /// Back when the connection of this caller has to end: when we are somebody else, or they are not trusted any more.
    pub(crate) async fn over(&self, ended: &CancellationToken, caller: &Caller) {
        let mut news = self.inner.news.subscribe();
        while !self.refuses(caller.peer_id, &caller.username) {
            tokio::select! {
                () = ended.cancelled() => return,
                changed = news.changed() => if changed.is_err() { return ended.cancelled().await },
            }
        }
    }

    /// The directory spoke of this revision.
    pub(crate) fn hear(&self, revision: u64) {
        self.inner.heard.send_if_modified(|heard| std::mem::replace(heard, revision) != revision);
    }

    /// Asks the directory anew, and waits until that is done or has failed: so that what somebody here has just changed
    /// there holds here when they are answered.
    pub async fn refresh(&self) {
        let mut ticket = 0;
        self.inner.asked.send_modify(|asked| {
            *asked += 1;
            ticket = *asked;
        });
        let mut answered = self.inner.answered.subscribe();
        let _later_then = timeout(REFRESH_LIMIT, answered.wait_for(|answered| *answered >= ticket)).await;
    }

    pub(crate) fn known(&self) -> Arc<Known> {
        self.inner.known.load_full()
    }

    pub(crate) fn apply(&self, known: Known) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!("trueque_revoked").set((known.peers.len() + known.accounts.len()) as f64);
        self.inner.known.store(Arc::new(known));
        self.inner.news.send_replace(());
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let known = self.inner.known.load();
        f.debug_struct("Trust").field("revision", &known.revision).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::rest::pclient::FetchPath;

    fn user(name: &str) -> Username {
        name.parse().unwrap()
    }

    fn revoked(peer: Option<u8>, name: &str) -> Revoked {
        let peer_id = peer.map(|n| PeerId::from_bytes([n; 16]));
        Revoked { peer_id, username: user(name), until: jiff::Timestamp::UNIX_EPOCH }
    }

    fn caller(n: u8, name: &str) -> Caller {
        Caller { peer_id: PeerId::from_bytes([n; 16]), username: user(name), path: FetchPath::Direct }
    }

    #[tokio::test]
    async fn who_is_revoked_is_refused_and_hung_up_on() {
        let trust = Trust::default();
        let ended = CancellationToken::new();
        let [ana, same_machine, ben] = [caller(1, "ana"), caller(1, "eve"), caller(2, "ben")];
        let mut over = Box::pin(trust.over(&ended, &ana));
        let mut ben_over = Box::pin(trust.over(&ended, &ben));
        assert!(trust.admit(&ana).is_ok() && futures::poll!(&mut over).is_pending());
        trust.apply(Known::new(1, None, [revoked(Some(1), "ana")], []));
        assert_eq!(trust.admit(&ana).unwrap_err().code, ErrorCode::Unauthenticated);
        assert!(trust.admit(&same_machine).is_ok(), "under another account it is somebody else");
        over.await;
        assert!(futures::poll!(&mut ben_over).is_pending());
        trust.apply(Known::new(2, None, [revoked(None, "ben")], []));
        assert!(trust.admit(&ana).is_ok() && trust.admit(&caller(9, "ben")).is_err(), "all of ben's");
        ben_over.await;
        let mut over = Box::pin(trust.over(&ended, &ana));
        assert!(futures::poll!(&mut over).is_pending());
        ended.cancel();
        over.await;
    }

    #[test]
    fn a_group_is_what_the_account_sees_of_it_and_else_nobody() {
        let trust = Trust::default();
        let lab: GroupName = "lab".parse().unwrap();
        let belongs = |account: &str, who: &str| trust.belongs(&user(account), &lab, &user(who));
        assert!(!belongs("ana", "ana"));
        let group = Group { name: lab.clone(), owner: user("ana"), members: vec![user("ben")] };
        trust.apply(Known::new(1, Some(user("ana")), [], [group]));
        assert!(belongs("ana", "ana") && belongs("ana", "ben") && !belongs("ana", "eve"));
        assert!(!belongs("eve", "ben"), "what another account was told");
    }
}
