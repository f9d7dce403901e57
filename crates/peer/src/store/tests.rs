//! The store as its users see it: what was acknowledged is there after a restart, and reads do not wait for writes.

use std::{
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use super::*;

fn count(store: &Store) -> i64 {
    store.read(|c| c.query_row("SELECT count(*) FROM meta", [], |row| row.get(0))).unwrap()
}

fn put(key: String) -> impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()> + Send + 'static {
    move |tx| tx.execute("INSERT INTO meta VALUES (?1, 1)", [key]).map(|_| ())
}

#[tokio::test]
async fn what_was_answered_is_read_at_once_and_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/peer.sqlite");
    let store = Store::open(&path).unwrap();
    store.write(put("a".into())).await.unwrap();
    assert_eq!(count(&store), 1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for file in fs::read_dir(path.parent().unwrap()).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }
    drop(store);
    assert!(!path.with_extension("sqlite-wal").exists(), "a store closed in order leaves one file");
    assert_eq!(count(&Store::open(&path).unwrap()), 1);
}

#[tokio::test]
async fn a_closure_that_fails_or_panics_does_not_undo_its_neighbours() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("peer.sqlite")).unwrap();
    let (held, hold) = std::sync::mpsc::sync_channel::<()>(0);
    // While the writer is kept busy the others gather in its queue and are committed as one group.
    let busy = store.write(move |_| {
        let _ = hold.recv();
        Ok(())
    });
    let good = store.write(put("a".into()));
    let half = store.write(|tx| {
        tx.execute("INSERT INTO meta VALUES ('half', 1)", [])?;
        tx.execute("INSERT INTO nowhere VALUES (1)", [])
    });
    let panics = store.write(|tx| {
        tx.execute("INSERT INTO meta VALUES ('panics', 1)", [])?;
        panic!("on purpose");
        #[expect(unreachable_code, reason = "gives the closure its type")]
        Ok(())
    });
    let twice = store.write(put("a".into()));
    let last = store.write(put("b".into()));
    let release = async move {
        tokio::task::yield_now().await;
        held.send(()).unwrap();
    };
    let (busy, good, half, panics, twice, last, ()) =
        tokio::join!(busy, good, half, panics, twice, last, release);
    assert!(busy.is_ok() && good.is_ok() && last.is_ok());
    assert!(half.is_err() && panics.is_err() && twice.is_err());
    assert_eq!(count(&store), 2);
}

#[tokio::test]
async fn what_follows_a_commit_runs_in_its_order_even_when_nobody_waits() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("peer.sqlite")).unwrap();
    let (done, seen) =
        (Arc::new(parking_lot::Mutex::new(Vec::new())), Arc::new(parking_lot::Mutex::new(Vec::new())));
    let writes = (0..500u32).map(|n| {
        let (done, seen) = (done.clone(), seen.clone());
        let work = move |tx: &Transaction<'_>| {
            done.lock().push(n);
            put(n.to_string())(tx)
        };
        store.write_then(work, move |()| seen.lock().push(n))
    });
    for answer in futures::future::join_all(writes).await {
        answer.unwrap();
    }
    assert_eq!(seen.lock().len(), 500);
    assert_eq!(*seen.lock(), *done.lock());
    tokio::task::yield_now().await; // a fresh turn, so that the next poll gets as far as the queue

    let after = Arc::new(AtomicU32::new(0));
    let write = store.write_then(put("left".into()), {
        let after = after.clone();
        move |()| {
            after.fetch_add(1, Ordering::SeqCst);
        }
    });
    assert!(futures::FutureExt::now_or_never(write).is_none(), "the caller goes away");
    drop(store); // waits for the writer
    assert_eq!(after.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_full_disk_has_a_word_of_its_own_and_the_store_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("peer.sqlite")).unwrap();
    store.write(put("a".into())).await.unwrap();
    store.write(|tx| tx.pragma_update(None, "max_page_count", 40)).await.unwrap();
    let big = |tx: &Transaction<'_>| tx.execute("INSERT INTO meta VALUES ('big', zeroblob(1000000))", []);
    assert_eq!(store.write(big).await.unwrap_err().code, ErrorCode::StorageFull);
    assert_eq!(count(&store), 1);
    store.write(|tx| tx.pragma_update(None, "max_page_count", 100_000)).await.unwrap();
    store.write(big).await.unwrap();
    assert_eq!(count(&store), 2);
}

#[test]
fn what_is_no_store_of_ours_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peer.sqlite");
    fs::write(&path, "this is a text, and long enough to be looked at as a header of a database").unwrap();
    assert!(Store::open(&path).unwrap_err().detail.contains("peer.sqlite"));

    let newer = folder.path().join("newer.sqlite");
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 9999).unwrap();
    assert!(Store::open(&newer).unwrap_err().detail.contains("newer version"));
}

#[tokio::test]
async fn a_copy_taken_in_mid_flight_as_after_a_crash_has_all_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("peer.sqlite");
    let store = Store::open(&path).unwrap();
    for n in 0..50 {
        store.write(put(n.to_string())).await.unwrap();
    }
    // What lies on disk now, with the log not folded in, is what a killed process leaves.
    let crashed = folder.path().join("crashed.sqlite");
    fs::copy(path.with_extension("sqlite-wal"), crashed.with_extension("sqlite-wal")).unwrap();
    fs::copy(&path, &crashed).unwrap();
    assert_eq!(count(&Store::open(&crashed).unwrap()), 50);
}
