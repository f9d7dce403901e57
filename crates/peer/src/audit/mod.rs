//! [`Audit`]: who fetched what from this peer, when, how many bytes, over which path.
//!
//! It slows nobody down: bytes are added up in memory as they go out, and written every two seconds and at the end. A
//! crash loses what came since. A fetch of many spans is one entry: bytes of the same content to the same machine over
//! the same path belong together until ten minutes pass without any.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use content::ContentId;
use daemon::{Clock, Lifecycle};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use wire::{
    PeerId, Username,
    rest::pclient::{AuditEntry, FetchPath},
};

use crate::{
    Failure,
    store::{
        Store,
        audit::{self as table, AuditRow},
    },
    tls::Caller,
};

const WRITE_EVERY: Duration = Duration::from_secs(2);
/// What is too old is not shown, and goes from the disk this often, or sooner where entries are kept for less than a day.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);
/// What rests for longer is another fetch.
const PAUSE: Duration = Duration::from_secs(600);
/// Fetches in memory: 5 MiB of them.
const MOST_OPEN: usize = 32_768;
/// Entries on disk: some 200 MiB.
const MOST_KEPT: u64 = 1_000_000;

/// Clones are the same.
#[derive(Clone)]
pub struct Audit {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Clock,
    /// Zero: nothing is written down.
    keep: Duration,
    open: Mutex<HashMap<Fetch, Sum>>,
    /// Something is open.
    first: Notify,
    /// It is time to write, however soon.
    much: Notify,
}

/// Bytes that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Fetch {
    username: Username,
    peer_id: PeerId,
    content_id: ContentId,
    path: FetchPath,
}

#[derive(Debug)]
struct Sum {
    name: Option<String>,
    started_at: i64,
    ended_at: i64,
    bytes: u64,
}

/// One fetch on its way, to which bytes are added as they go out.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    audit: Audit,
    fetch: Fetch,
    name: Option<String>,
}

impl Audit {
    /// Keeps entries for `keep`; zero keeps none.
    pub fn start(store: Store, clock: Clock, keep: Duration, lifecycle: &Lifecycle) -> Self {
        let inner =
            Inner { store, clock, keep, open: Mutex::default(), first: Notify::new(), much: Notify::new() };
        let audit = Self { inner: Arc::new(inner) };
        let (writer, soft) = (audit.clone(), lifecycle.soft());
        lifecycle.spawn("audit", async move {
            let every = (keep / 24).clamp(WRITE_EVERY, FORGET_EVERY);
            let mut forget_at = Instant::now();
            loop {
                // A peer that nobody fetches from sleeps.
                let idle = writer.inner.open.lock().is_empty();
                let write_at = if idle { forget_at } else { forget_at.min(Instant::now() + WRITE_EVERY) };
                let stopping = tokio::select! {
                    () = soft.cancelled() => true,
                    () = tokio::time::sleep_until(write_at) => false,
                    () = writer.inner.first.notified(), if idle => continue,
                    () = writer.inner.much.notified() => false,
                };
                let forget = Instant::now() >= forget_at;
                if forget {
                    forget_at = Instant::now() + every;
                }
                if let Err(failure) = writer.write(forget).await {
                    tracing::warn!(%failure, "what was fetched could not be written down");
                }
                if stopping {
                    return;
                }
            }
        });
        audit
    }

    /// A page for what a caller fetches.
    pub(crate) fn page(&self, caller: &Caller, content_id: ContentId, name: Option<&str>) -> Page {
        let Caller { peer_id, username, path } = caller.clone();
        let fetch = Fetch { username, peer_id, content_id, path };
        Page { audit: self.clone(), fetch, name: name.map(str::to_owned) }
    }

    /// Entries that are not too old, the newest first, after the one with this number.
    ///
    /// # Errors
    /// Where the store cannot be read.
    pub fn entries(
        &self,
        content: Option<ContentId>,
        user: Option<&Username>,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, AuditEntry)>, Failure> {
        let oldest = self.oldest();
        let rows = self.inner.store.read(|c| table::page(c, (content, user), oldest, after, limit))?;
        rows.into_iter().map(|row| Ok((row.seq, entry(row)?))).collect()
    }

    /// What ended before is too old.
    fn oldest(&self) -> i64 {
        self.inner.clock.millis() - millis(self.inner.keep)
    }

    fn add(&self, page: &Page, bytes: u64) {
        if self.inner.keep.is_zero() {
            return;
        }
        let now = self.inner.clock.millis();
        let mut open = self.inner.open.lock();
        if let Some(sum) = open.get_mut(&page.fetch) {
            sum.bytes += bytes;
            sum.ended_at = now;
            return;
        }
        if open.len() >= MOST_OPEN {
            metrics::counter!("trueque_audit_missed_total").increment(1);
            return;
        }
        let sum = Sum { name: page.name.clone(), started_at: now, ended_at: now, bytes };
        open.insert(page.fetch.clone(), sum);
        match open.len() {
            1 => self.inner.first.notify_one(),
            half if half == MOST_OPEN / 2 => self.inner.much.notify_one(),
            _ => {}
        }
    }

    /// Writes what has gone out since the last time. What cannot be written is tried again.
    async fn write(&self, forget: bool) -> Result<(), Failure> {
        let open = std::mem::take(&mut *self.inner.open.lock());
        if open.is_empty() && !forget {
            return Ok(());
        }
        let mut rows: Vec<AuditRow> = open.into_iter().map(row).collect();
        // Their numbers are the order in which they are shown.
        rows.sort_by_key(|row| row.started_at);
        let rows: Arc<[AuditRow]> = rows.into();
        let before = self.oldest();
        let writing = rows.clone();
        let written = self.inner.store.write(move |t| {
            for row in writing.iter() {
                table::record(t, row, millis(PAUSE))?;
            }
            if forget {
                table::forget(t, before, MOST_KEPT)?;
            }
            Ok(())
        });
        let written = written.await;
        if written.is_err() {
            let mut open = self.inner.open.lock();
            for row in rows.iter().cloned() {
                put_back(&mut open, row);
            }
        }
        written
    }
}

impl Page {
    /// Bytes have gone out.
    pub(crate) fn add(&self, bytes: u64) {
        self.audit.add(self, bytes);
    }
}

fn row((fetch, sum): (Fetch, Sum)) -> AuditRow {
    let Fetch { username, peer_id, content_id, path } = fetch;
    let Sum { name, started_at, ended_at, bytes } = sum;
    AuditRow { seq: 0, started_at, ended_at, username, peer_id, content_id, name, path, bytes }
}

fn put_back(open: &mut HashMap<Fetch, Sum>, row: AuditRow) {
    let AuditRow { username, peer_id, content_id, path, name, started_at, ended_at, bytes, .. } = row;
    let fetch = Fetch { username, peer_id, content_id, path };
    if open.len() >= MOST_OPEN && !open.contains_key(&fetch) {
        metrics::counter!("trueque_audit_missed_total").increment(1);
        return;
    }
    let sum = open.entry(fetch).or_insert(Sum { name, started_at, ended_at, bytes: 0 });
    sum.bytes += bytes;
    sum.started_at = sum.started_at.min(started_at);
}

fn entry(row: AuditRow) -> Result<AuditEntry, Failure> {
    let time = |millis| Timestamp::from_millisecond(millis).map_err(Failure::internal);
    Ok(AuditEntry {
        started_at: time(row.started_at)?,
        ended_at: time(row.ended_at)?,
        username: row.username,
        peer_id: row.peer_id,
        content_id: row.content_id,
        name: row.name,
        bytes: row.bytes,
        path: row.path,
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2)
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("keep", &self.inner.keep).finish_non_exhaustive()
    }
}
