//! What is written down, with a clock that is set by hand.

use super::*;

struct Kept {
    audit: Audit,
    clock: Clock,
    lifecycle: Lifecycle,
    folder: tempfile::TempDir,
}

fn start(keep: Duration) -> Kept {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("peer.db")).unwrap();
    let clock = Clock::by_hand("2026-07-01T12:00:00Z".parse().unwrap());
    let lifecycle = Lifecycle::new();
    // Written by hand here, not by its own clock.
    let audit = Audit {
        inner: Arc::new(Inner {
            store,
            clock: clock.clone(),
            keep,
            open: Mutex::default(),
            first: Notify::new(),
            much: Notify::new(),
        }),
    };
    Kept { audit, clock, lifecycle, folder }
}

fn caller(name: &str, path: FetchPath) -> Caller {
    Caller { peer_id: PeerId::from_bytes([7; 16]), username: name.parse().unwrap(), path }
}

fn all(audit: &Audit) -> Vec<AuditEntry> {
    audit.entries(None, None, None, 100).unwrap().into_iter().map(|(_, entry)| entry).collect()
}

#[tokio::test]
async fn bytes_of_one_fetch_are_one_entry_until_it_rests() {
    let Kept { audit, clock, folder: _folder, .. } = start(Duration::from_secs(86_400));
    let id = ContentId::of(b"a file");
    let page = audit.page(&caller("ben", FetchPath::Direct), id, Some("a file.txt"));
    let relayed = audit.page(&caller("ben", FetchPath::Relayed), id, Some("a file.txt"));
    page.add(5);
    audit.write(false).await.unwrap();
    clock.advance(PAUSE / 2);
    page.add(7);
    relayed.add(1);
    audit.write(false).await.unwrap();
    let mut entries = all(&audit);
    entries.sort_by_key(|entry| entry.bytes);
    assert_eq!(
        entries.iter().map(|entry| (entry.bytes, entry.path)).collect::<Vec<_>>(),
        [(1, FetchPath::Relayed), (12, FetchPath::Direct)]
    );
    assert_eq!(entries[1].name.as_deref(), Some("a file.txt"));
    assert_eq!(entries[1].started_at.to_string(), "2026-07-01T12:00:00Z");
    assert_eq!(entries[1].ended_at.to_string(), "2026-07-01T12:05:00Z");

    clock.advance(PAUSE + Duration::from_secs(1));
    page.add(3);
    audit.write(false).await.unwrap();
    assert_eq!(all(&audit)[0].bytes, 3, "another fetch");
    assert_eq!(all(&audit).len(), 3);
}

#[tokio::test]
async fn what_is_old_is_forgotten_and_what_nobody_wants_is_not_kept() {
    let Kept { audit, clock, folder: _folder, .. } = start(Duration::from_secs(3600));
    audit.page(&caller("ben", FetchPath::Direct), ContentId::of(b"1"), None).add(1);
    audit.write(true).await.unwrap();
    clock.advance(Duration::from_secs(3599));
    audit.page(&caller("ben", FetchPath::Direct), ContentId::of(b"2"), None).add(2);
    audit.write(true).await.unwrap();
    assert_eq!(all(&audit).len(), 2);
    clock.advance(Duration::from_secs(2));
    assert_eq!(all(&audit).len(), 1, "what is too old is not shown, although it is still there");
    audit.write(true).await.unwrap();
    let on_disk = audit.inner.store.read(table::count).unwrap();
    assert_eq!(on_disk, 1);
    assert_eq!(all(&audit).iter().map(|entry| entry.bytes).collect::<Vec<_>>(), [2]);

    let Kept { audit, folder: _folder, .. } = start(Duration::ZERO);
    audit.page(&caller("ben", FetchPath::Direct), ContentId::of(b"1"), None).add(1);
    audit.write(true).await.unwrap();
    assert!(all(&audit).is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_for_a_short_time_goes_soon() {
    let Kept { audit, clock, lifecycle, folder: _folder } = start(Duration::ZERO);
    let keep = Duration::from_secs(20);
    let started = Audit::start(audit.inner.store.clone(), clock.clone(), keep, &lifecycle);
    started.page(&caller("ben", FetchPath::Direct), ContentId::of(b"1"), None).add(1);
    let count = || audit.inner.store.read(table::count).unwrap();
    let until = async |wanted: u32| {
        while count() != wanted {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), until(1)).await.unwrap();
    clock.advance(keep + WRITE_EVERY);
    tokio::time::timeout(Duration::from_secs(600), until(0)).await.expect("it goes while the program runs");
    lifecycle.stop();
    lifecycle.finish().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_long_rest_the_next_fetch_is_written_soon() {
    let Kept { audit, clock, lifecycle, folder: _folder } = start(Duration::ZERO);
    let started = Audit::start(audit.inner.store.clone(), clock, Duration::from_secs(86_400), &lifecycle);
    for n in 1..=2_u8 {
        tokio::time::sleep(Duration::from_secs(90)).await;
        started.page(&caller("ben", FetchPath::Direct), ContentId::of(&[n]), None).add(1);
        let written = async {
            while audit.inner.store.read(table::count).unwrap() != u32::from(n) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(600), written)
            .await
            .expect("long before the next forgetting");
    }
    lifecycle.stop();
    lifecycle.finish().await;
}

#[tokio::test]
async fn it_is_found_by_content_and_by_user_a_page_at_a_time() {
    let Kept { audit, folder: _folder, .. } = start(Duration::from_secs(3600));
    for n in 0..6_u8 {
        let who = if n % 2 == 0 { "ana" } else { "ben" };
        audit.page(&caller(who, FetchPath::Direct), ContentId::of(&[n]), None).add(u64::from(n));
        audit.write(false).await.unwrap();
    }
    let bytes =
        |entries: &[(u64, AuditEntry)]| entries.iter().map(|(_, entry)| entry.bytes).collect::<Vec<_>>();
    let ana = "ana".parse().unwrap();
    let first = audit.entries(None, Some(&ana), None, 2).unwrap();
    assert_eq!(bytes(&first), [4, 2]);
    assert_eq!(bytes(&audit.entries(None, Some(&ana), Some(first[1].0), 2).unwrap()), [0]);
    assert_eq!(bytes(&audit.entries(Some(ContentId::of(&[3])), None, None, 9).unwrap()), [3]);
    assert_eq!(bytes(&audit.entries(Some(ContentId::of(&[3])), Some(&ana), None, 9).unwrap()), [0_u64; 0]);
}

#[tokio::test]
async fn what_cannot_be_held_is_counted_and_the_end_is_written() {
    let Kept { audit, lifecycle, clock, folder: _folder } = start(Duration::from_secs(3600));
    for n in 0..=MOST_OPEN as u64 {
        let id = ContentId::of(&n.to_le_bytes());
        audit.page(&caller("ben", FetchPath::Direct), id, None).add(1);
    }
    assert_eq!(audit.inner.open.lock().len(), MOST_OPEN);
    audit.write(false).await.unwrap();
    assert!(audit.inner.open.lock().is_empty());

    let started = Audit::start(audit.inner.store.clone(), clock, Duration::from_secs(3600), &lifecycle);
    started.page(&caller("eva", FetchPath::Mailed), ContentId::of(b"last"), None).add(9);
    lifecycle.stop();
    lifecycle.finish().await;
    assert_eq!(all(&started)[0].username.as_str(), "eva");
}
