//! [`PeerBook`]: who a peer id is and which sealing key is theirs, as the directory says, and for which epoch it takes
//! questions, as it says itself.
//!
//! The seal proves that a question comes from whoever holds a key; whose key that is, only the directory knows. What it
//! said is believed for five minutes, and up to a day, as long as a certificate holds, while it cannot be asked. A
//! question sealed with another key than the one in the book is a reason to ask again, but not more often than every
//! 10 s for each peer: strangers do not make us flood the directory.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use wire::{
    ErrorCode, PeerId,
    rest::{directory::PeerItem, pclient::FetchPath},
};

use super::{
    refused::Refused,
    seal::{KeyName, PeerKey},
    seen::Epoch,
};
use crate::{Failure, tls::Caller};

const FRESH: Duration = Duration::from_secs(5 * 60);
const USABLE: Duration = Duration::from_secs(24 * 60 * 60);
/// The directory is asked for one peer at most this often.
const PAUSE: Duration = Duration::from_secs(10);
const MOST_PEERS: usize = 4_096;
/// Questions to the directory at once; whoever comes then is refused.
const MOST_LOOKUPS: usize = 16;

/// Asks the directory for one peer.
pub(crate) type Lookup = Arc<dyn Fn(PeerId) -> BoxFuture<'static, Result<PeerItem, Failure>> + Send + Sync>;

/// A peer as the directory knows it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) caller: Caller,
    pub(crate) key: PeerKey,
}

/// The peers that were looked up lately.
pub(crate) struct PeerBook {
    lookup: Lookup,
    lookups: Semaphore,
    pages: Mutex<HashMap<PeerId, Arc<Page>>>,
}

#[derive(Default)]
struct Page {
    entry: Mutex<Entry>,
    /// One at a time asks; the others wait for what it hears.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default, Clone)]
struct Entry {
    known: Option<(Arc<Known>, Instant)>,
    asked: Option<Instant>,
    /// What came of it, for those who would ask again too soon: a directory that is away makes nobody unknown.
    refused: Option<Refused>,
    /// The key that the peer said was stale, when the directory had another one.
    replaced: Option<KeyName>,
    /// For which it takes our questions.
    epoch: Option<Epoch>,
}

impl PeerBook {
    pub(crate) fn new(lookup: Lookup) -> Self {
        Self { lookup, lookups: Semaphore::new(MOST_LOOKUPS), pages: Mutex::default() }
    }

    /// Who the peer is that seals with the key of this name.
    ///
    /// # Errors
    /// [`Refused::UnknownSender`], or [`Refused::NoDirectory`] where that cannot be found out now.
    pub(crate) async fn sender(&self, peer: PeerId, key: KeyName) -> Result<Arc<Known>, Refused> {
        let page = self.page(peer);
        let fits = |entry: &Entry, now: Instant, age: Duration| {
            let known = entry.known.as_ref().filter(|(known, at)| known.key.name() == key && now - *at < age);
            known.map(|(known, _)| known.clone())
        };
        if let Some(known) = fits(&page.entry.lock(), Instant::now(), FRESH) {
            return Ok(known);
        }
        let answer = self.look_up(peer, &page).await;
        if let Some(known) = fits(&page.entry.lock(), Instant::now(), USABLE) {
            return Ok(known);
        }
        Err(answer.err().unwrap_or(Refused::UnknownSender))
    }

    /// What is known of a peer is not so any more; it is looked up before it is believed again.
    pub(crate) fn forget(&self, peer: PeerId) {
        if let Some(page) = self.pages.lock().get(&peer) {
            page.entry.lock().known = None;
        }
    }

    /// The key to seal for a peer with, where it is another one than `listed`, which somebody read at the directory
    /// some time ago.
    pub(crate) fn instead_of(&self, peer: PeerId, listed: &PeerKey) -> Option<PeerKey> {
        let page = self.pages.lock().get(&peer).cloned()?;
        let entry = page.entry.lock();
        let (known, _) = entry.known.as_ref()?;
        (entry.replaced == Some(listed.name())).then(|| known.key.clone())
    }

    /// The peer said that this key is not its own any more: the one that the directory lists now, where that is
    /// another one.
    pub(crate) async fn replaced(&self, peer: PeerId, stale: &PeerKey) -> Option<PeerKey> {
        let page = self.page(peer);
        let _unknown_is_no_key = self.look_up(peer, &page).await;
        let mut entry = page.entry.lock();
        let key = entry.known.as_ref().map(|(known, _)| known.key.clone())?;
        if key.name() == stale.name() {
            return None;
        }
        entry.replaced = Some(stale.name());
        Some(key)
    }

    /// What a question to this peer is for; empty where it was not told yet.
    pub(crate) fn epoch(&self, peer: PeerId) -> Bytes {
        let page = self.pages.lock().get(&peer).cloned();
        page.and_then(|page| page.entry.lock().epoch).map_or_else(Bytes::new, |epoch| epoch.to_vec().into())
    }

    /// The peer said so.
    pub(crate) fn set_epoch(&self, peer: PeerId, epoch: Epoch) {
        self.page(peer).entry.lock().epoch = Some(epoch);
    }

    /// Asks the directory, unless it was asked a moment ago.
    async fn look_up(&self, peer: PeerId, page: &Page) -> Result<(), Refused> {
        let _one_at_a_time = page.looking.lock().await;
        let last = page.entry.lock().clone();
        if last.asked.is_some_and(|at| at.elapsed() < PAUSE) {
            return last.refused.map_or(Ok(()), Err);
        }
        let Ok(_place) = self.lookups.try_acquire() else { return Err(Refused::NoDirectory) };
        let found = (self.lookup)(peer).await;
        let mut entry = page.entry.lock();
        entry.asked = Some(Instant::now());
        let heard = match found {
            Ok(item) => PeerKey::from_hex(&item.sealing_key).map_err(|_| Refused::UnknownSender).map(|key| {
                let caller = Caller { peer_id: peer, username: item.username, path: FetchPath::Relayed };
                entry.known = Some((Arc::new(Known { caller, key }), Instant::now()));
            }),
            Err(failure) if failure.code == ErrorCode::NotFound => {
                entry.known = None;
                Err(Refused::UnknownSender)
            }
            Err(failure) => {
                tracing::debug!(peer.id = %peer, error = %failure, "a peer could not be looked up");
                Err(Refused::NoDirectory)
            }
        };
        entry.refused = heard.err();
        heard
    }

    fn page(&self, peer: PeerId) -> Arc<Page> {
        let mut pages = self.pages.lock();
        if pages.len() >= MOST_PEERS && !pages.contains_key(&peer) {
            // Whoever is being looked up now stays; of the others, those asked for longest ago go.
            let mut ages: Vec<_> = pages
                .iter()
                .filter(|(_, page)| Arc::strong_count(page) == 1)
                .map(|(peer, page)| (page.entry.lock().asked, *peer))
                .collect();
            ages.sort_unstable();
            ages.iter().take(MOST_PEERS / 4).for_each(|(_, peer)| drop(pages.remove(peer)));
        }
        pages.entry(peer).or_default().clone()
    }
}

impl std::fmt::Debug for PeerBook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerBook").field("peers", &self.pages.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// What the directory says, and how often it was asked.
    #[derive(Clone, Default)]
    struct Directory {
        says: Arc<Mutex<Option<Result<u8, ErrorCode>>>>,
        asked: Arc<AtomicUsize>,
    }

    impl Directory {
        fn book(&self) -> PeerBook {
            let directory = self.clone();
            PeerBook::new(Arc::new(move |peer_id| {
                directory.asked.fetch_add(1, Ordering::Relaxed);
                let says = directory.says.lock().unwrap();
                Box::pin(async move {
                    let item = |key: u8| PeerItem {
                        peer_id,
                        username: "ana".parse().unwrap(),
                        endpoints: Vec::new(),
                        online: true,
                        last_seen: jiff::Timestamp::UNIX_EPOCH,
                        sealing_key: hex::encode([key; 32]),
                        relay: true,
                        version: String::new(),
                        files: 0,
                    };
                    says.map(item).map_err(|code| Failure::new(code, "no"))
                })
            }))
        }

        fn says(&self, says: Result<u8, ErrorCode>) {
            *self.says.lock() = Some(says);
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    const ANA: PeerId = PeerId::from_bytes([1; 16]);

    fn key(n: u8) -> PeerKey {
        PeerKey::from_hex(&hex::encode([n; 32])).unwrap()
    }

    /// Makes everything that was heard and asked older.
    fn age(book: &PeerBook, by: Duration) {
        for page in book.pages.lock().values() {
            let mut entry = page.entry.lock();
            entry.asked = entry.asked.map(|at| at - by);
            if let Some((_, at)) = &mut entry.known {
                *at -= by;
            }
        }
    }

    #[tokio::test]
    async fn a_peer_is_looked_up_once_and_again_when_it_uses_another_key() {
        let directory = Directory::default();
        let book = directory.book();
        directory.says(Ok(1));
        assert_eq!(book.sender(ANA, key(1).name()).await.unwrap().caller.username.as_str(), "ana");
        book.sender(ANA, key(1).name()).await.unwrap();
        assert_eq!(directory.asked(), 1);

        directory.says(Ok(2));
        assert_eq!(book.sender(ANA, key(2).name()).await.unwrap_err(), Refused::UnknownSender);
        assert_eq!(directory.asked(), 1, "not within 10 s");
        age(&book, PAUSE);
        book.sender(ANA, key(2).name()).await.unwrap();
        assert_eq!(book.sender(ANA, key(1).name()).await.unwrap_err(), Refused::UnknownSender, "the old key");
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_refused_and_one_that_cannot_be_looked_up_is_believed_for_a_day() {
        let directory = Directory::default();
        let book = directory.book();
        directory.says(Err(ErrorCode::Unavailable));
        assert_eq!(book.sender(ANA, key(1).name()).await.unwrap_err(), Refused::NoDirectory);
        age(&book, PAUSE);
        directory.says(Ok(1));
        book.sender(ANA, key(1).name()).await.unwrap();

        directory.says(Err(ErrorCode::Unavailable));
        age(&book, FRESH);
        book.sender(ANA, key(1).name()).await.unwrap();
        age(&book, USABLE);
        assert_eq!(book.sender(ANA, key(1).name()).await.unwrap_err(), Refused::NoDirectory);

        directory.says(Ok(1));
        age(&book, PAUSE);
        book.sender(ANA, key(1).name()).await.unwrap();
        directory.says(Err(ErrorCode::NotFound));
        age(&book, FRESH);
        assert_eq!(book.sender(ANA, key(1).name()).await.unwrap_err(), Refused::UnknownSender);
    }

    #[tokio::test]
    async fn a_key_that_its_peer_calls_stale_is_replaced_by_what_the_directory_says() {
        let directory = Directory::default();
        let book = directory.book();
        directory.says(Ok(1));
        assert_eq!(book.replaced(ANA, &key(1)).await, None, "whoever says so is not believed");
        directory.says(Ok(2));
        assert_eq!(book.replaced(ANA, &key(1)).await, None, "nor looked up again at once");
        assert_eq!(directory.asked(), 1);
        age(&book, PAUSE);
        assert_eq!(book.replaced(ANA, &key(1)).await, Some(key(2)));
        assert_eq!(book.instead_of(ANA, &key(1)), Some(key(2)), "also for the next question");
        assert_eq!(book.instead_of(ANA, &key(2)), None);
    }

    #[tokio::test]
    async fn a_directory_that_is_away_makes_nobody_unknown() {
        let directory = Directory::default();
        let book = directory.book();
        directory.says(Err(ErrorCode::Unavailable));
        for _ in 0..3 {
            assert_eq!(book.sender(ANA, key(1).name()).await.map(drop), Err(Refused::NoDirectory));
        }
        assert_eq!(directory.asked(), 1, "and it is not asked again at once");
        directory.says(Ok(1));
        age(&book, PAUSE);
        assert!(book.sender(ANA, key(1).name()).await.is_ok());
    }

    #[tokio::test]
    async fn the_book_is_bounded() {
        let directory = Directory::default();
        let book = directory.book();
        directory.says(Err(ErrorCode::NotFound));
        for n in 0..MOST_PEERS + 100 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.to_be_bytes());
            let _unknown = book.sender(PeerId::from_bytes(id), key(1).name()).await;
        }
        assert!(book.pages.lock().len() <= MOST_PEERS);
    }
}
