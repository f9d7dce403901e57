//! Every peer, in memory: who it is, whose it is, until when its lease lasts.
//!
//! A mirror of the table `peers`. The writer changes it after each commit and before it answers, so that what was
//! acknowledged is seen by the next request; nobody else changes it. It spares every lookup a join, and makes a
//! session's token a lookup in a map.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound::{Excluded, Unbounded},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::RwLock;
use rusqlite::{Connection, Row};
use wire::{GroupName, PeerId, Username};

use super::groups::Group;
use crate::{leases, secrets::Digest256};

pub(super) const COLUMNS: &str = "id, peer_id, username, token, sealing_key, endpoints, version, lease_until, last_seen, revision, files, restricted, logged_in_at";

/// One peer. What changes often is atomic; the rest changes by replacing the entry.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) row: i64,
    pub(super) peer_id: PeerId,
    pub(super) username: Username,
    pub(super) token: Option<Digest256>,
    pub(super) sealing_key: String,
    pub(super) endpoints: Vec<String>,
    pub(super) version: String,
    pub(super) logged_in_at: i64,
    pub(super) lease_until: AtomicI64,
    pub(super) last_seen: AtomicI64,
    pub(super) revision: AtomicU64,
    pub(super) files: AtomicU64,
    pub(super) restricted: AtomicU64,
}

impl Entry {
    pub(super) fn online(&self, now: i64) -> bool {
        leases::online(self.lease_until.load(Relaxed), now)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let bad =
            |column| rusqlite::Error::InvalidColumnType(column, String::new(), rusqlite::types::Type::Null);
        let endpoints: String = row.get(5)?;
        Ok(Self {
            row: row.get(0)?,
            peer_id: PeerId::from_bytes(row.get(1)?),
            username: row.get::<_, String>(2)?.parse().map_err(|_| bad(2))?,
            token: row.get(3)?,
            sealing_key: row.get(4)?,
            endpoints: serde_json::from_str(&endpoints).map_err(|_| bad(5))?,
            version: row.get(6)?,
            lease_until: AtomicI64::new(row.get(7)?),
            last_seen: AtomicI64::new(row.get(8)?),
            revision: AtomicU64::new(row.get(9)?),
            files: AtomicU64::new(row.get(10)?),
            restricted: AtomicU64::new(row.get(11)?),
            logged_in_at: row.get(12)?,
        })
    }
}

/// What a committed transaction changed.
#[derive(Debug)]
pub(super) enum Effect {
    /// The row of this peer changed in ways that are rare; it is read again.
    Peer(Box<Entry>),
    Lease {
        row: i64,
        last_seen: i64,
        lease_until: i64,
    },
    Catalog {
        row: i64,
        revision: u64,
        files: u64,
        restricted: u64,
    },
    /// A group as it is now; without one, it is gone.
    Group(GroupName, Option<Box<Group>>),
    /// The number of the last change of revocations.
    Revoked(i64),
}

/// Every call takes the lock for itself and for a moment only, so that no reading, however long, is in the writer's way.
#[derive(Debug, Default)]
pub(super) struct Roster {
    maps: RwLock<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    rows: HashMap<i64, Arc<Entry>>,
    ids: BTreeMap<PeerId, i64>,
    tokens: HashMap<Digest256, i64>,
    accounts: HashMap<Username, Vec<i64>>,
}

impl Roster {
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let mut maps = Maps::default();
        let mut peers = conn.prepare(&format!("SELECT {COLUMNS} FROM peers"))?;
        for entry in peers.query_map([], Entry::read)? {
            maps.replace(entry?);
        }
        Ok(Self { maps: RwLock::new(maps) })
    }

    pub(super) fn row(&self, row: i64) -> Option<Arc<Entry>> {
        self.maps.read().rows.get(&row).cloned()
    }

    pub(super) fn peer(&self, peer: PeerId) -> Option<Arc<Entry>> {
        let maps = self.maps.read();
        maps.rows.get(maps.ids.get(&peer)?).cloned()
    }

    pub(super) fn token(&self, token: &Digest256) -> Option<Arc<Entry>> {
        let maps = self.maps.read();
        maps.rows.get(maps.tokens.get(token)?).cloned()
    }

    pub(super) fn of_account(&self, username: &Username) -> Vec<Arc<Entry>> {
        let maps = self.maps.read();
        maps.accounts
            .get(username)
            .into_iter()
            .flatten()
            .filter_map(|row| maps.rows.get(row).cloned())
            .collect()
    }

    pub(super) fn online(&self, now: i64) -> Vec<Arc<Entry>> {
        self.maps.read().rows.values().filter(|entry| entry.online(now)).cloned().collect()
    }

    /// In the order of their ids.
    pub(super) fn after(&self, peer: Option<PeerId>, limit: usize) -> Vec<Arc<Entry>> {
        let from = peer.map_or(Unbounded, Excluded);
        let maps = self.maps.read();
        maps.ids
            .range((from, Unbounded))
            .filter_map(|(_, row)| maps.rows.get(row).cloned())
            .take(limit)
            .collect()
    }

    pub(super) fn apply(&self, effects: Vec<Effect>) {
        let rare = |effect: &Effect| matches!(effect, Effect::Peer(_));
        if effects.iter().any(rare) {
            let mut maps = self.maps.write();
            effects.into_iter().for_each(|effect| match effect {
                Effect::Peer(entry) => maps.replace(*entry),
                often => maps.touch(&often),
            });
        } else {
            let maps = self.maps.read();
            effects.iter().for_each(|effect| maps.touch(effect));
        }
    }
}

impl Maps {
    fn replace(&mut self, entry: Entry) {
        let row = entry.row;
        let entry = Arc::new(entry);
        if let Some(old) = self.rows.insert(row, entry.clone()) {
            if let Some(token) = old.token {
                self.tokens.remove(&token);
            }
            if let Some(rows) = self.accounts.get_mut(&old.username) {
                rows.retain(|other| *other != row);
            }
        }
        if let Some(token) = entry.token {
            self.tokens.insert(token, row);
        }
        self.ids.insert(entry.peer_id, row);
        self.accounts.entry(entry.username.clone()).or_default().push(row);
    }

    fn touch(&self, effect: &Effect) {
        match *effect {
            // Those of groups go to who keeps groups.
            Effect::Peer(_) | Effect::Group(..) | Effect::Revoked(_) => {}
            Effect::Lease { row, last_seen, lease_until } => {
                if let Some(entry) = self.rows.get(&row) {
                    entry.last_seen.store(last_seen, Relaxed);
                    entry.lease_until.store(lease_until, Relaxed);
                }
            }
            Effect::Catalog { row, revision, files, restricted } => {
                if let Some(entry) = self.rows.get(&row) {
                    entry.revision.store(revision, Relaxed);
                    entry.files.store(files, Relaxed);
                    entry.restricted.store(restricted, Relaxed);
                }
            }
        }
    }
}

/// The peer of this row, as the transaction sees it.
pub(super) fn read_row(conn: &Connection, row: i64) -> rusqlite::Result<Entry> {
    conn.prepare_cached(&format!("SELECT {COLUMNS} FROM peers WHERE id = ?1"))?.query_row([row], Entry::read)
}
