//! The suite of all catalogs on this one, and what only a file on a disk can get wrong.

use std::sync::Arc;

use content::ContentId;
use wire::rest::directory::{CatalogDelta, CatalogPut};

use super::SqliteCatalog;
use crate::catalog::{Catalog, Login, Renewal, Search, conformance};

#[tokio::test]
async fn conforms() {
    let root = tempfile::tempdir().unwrap();
    conformance::suite(|| async {
        let folder = tempfile::tempdir_in(root.path()).unwrap().keep();
        Arc::new(SqliteCatalog::open(&folder).unwrap()) as Arc<dyn Catalog>
    })
    .await;
}

/// The file is copied while it is open, which is what a crash leaves: nothing was closed, nothing checkpointed.
#[tokio::test]
async fn what_was_answered_survives_a_crash() {
    let (before, after) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let catalog = SqliteCatalog::open(before.path()).unwrap();
    let ana = "ana".parse().unwrap();
    catalog.create_account(&ana, "hash".to_owned(), None, 0).await.unwrap();
    let login = Login {
        peer_id: wire::PeerId::from_bytes([1; 16]),
        username: ana.clone(),
        password_hash: "hash".to_owned(),
        token: [1; 32],
        sealing_key: "0".repeat(64),
        endpoints: vec!["a:1".to_owned()],
        version: "1".to_owned(),
        now: 1,
        lease_until: 100,
    };
    let peer = login.peer_id;
    catalog.login(login).await.unwrap();
    let put = |n: u64| CatalogPut {
        content_id: ContentId::of(&n.to_be_bytes()),
        name: format!("file {n}"),
        size: n,
        media_type: None,
        pieces_held: 1,
        audience: None,
    };
    for revision in 1..=20 {
        let put = (0..50).map(|n| put(revision * 50 + n)).collect();
        let delta = CatalogDelta { base_revision: revision - 1, revision, put, ..CatalogDelta::default() };
        catalog.apply(peer, delta).await.unwrap();
    }
    catalog.renew(peer, Renewal { now: 2, lease_until: 200, ..Renewal::default() }).await.unwrap();
    for entry in std::fs::read_dir(before.path()).unwrap() {
        let entry = entry.unwrap();
        // The shared memory file is rebuilt from the log.
        if !entry.file_name().to_string_lossy().ends_with("-shm") {
            std::fs::copy(entry.path(), after.path().join(entry.file_name())).unwrap();
        }
    }

    let again = SqliteCatalog::open(after.path()).unwrap();
    assert_eq!(again.account(&ana).await.unwrap().unwrap().password_hash, "hash");
    assert_eq!(again.session(&[1; 32], 3).await.unwrap().unwrap().peer_id, peer);
    let item = again.peer(peer, &ana, 150).await.unwrap().unwrap();
    assert!(item.online);
    assert_eq!((item.files, item.endpoints), (1000, vec!["a:1".to_owned()]));
    let located = again.locate(&put(1049).content_id, &ana, 150).await.unwrap().unwrap();
    assert_eq!((located.size, located.names), (1049, vec!["file 1049".to_owned()]));
    let search = Search {
        words: Some(crate::words::Query::new("1049 file")),
        media_type: None,
        min_size: 0,
        max_size: u64::MAX,
        holder: None,
        online: true,
        limit: 10,
        after: None,
    };
    assert_eq!(again.search(&search, &ana, 150).await.unwrap().items.len(), 1);
    let delta =
        CatalogDelta { base_revision: 20, revision: 21, put: vec![put(7)], ..CatalogDelta::default() };
    assert_eq!(again.apply(peer, delta).await, Ok(21));
    assert_eq!(again.locate(&put(7).content_id, &ana, 150).await.unwrap().unwrap().size, 7);
}

#[tokio::test]
async fn many_callers_read_what_was_just_written() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Arc::new(SqliteCatalog::open(folder.path()).unwrap());
    let threads: Vec<_> = (0..4)
        .map(|n| {
            let catalog = catalog.clone();
            std::thread::spawn(move || {
                for round in 0..50 {
                    let name = format!("user{n}.{round}").parse().unwrap();
                    let create = catalog.create_account(&name, "hash".to_owned(), None, 0);
                    futures::executor::block_on(create).unwrap();
                    assert!(futures::executor::block_on(catalog.account(&name)).unwrap().is_some());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[tokio::test]
async fn a_file_of_another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(SqliteCatalog::open(folder.path()).unwrap());
    let conn = rusqlite::Connection::open(folder.path().join("catalog.sqlite")).unwrap();
    conn.pragma_update(None, "user_version", 99).unwrap();
    let error = SqliteCatalog::open(folder.path()).unwrap_err();
    assert!(format!("{error:#}").contains("version 99"), "{error:#}");
}

#[tokio::test]
async fn a_file_of_the_first_version_goes_on_and_knows_groups() {
    let folder = tempfile::tempdir().unwrap();
    let ana = "ana".parse().unwrap();
    let catalog = SqliteCatalog::open(folder.path()).unwrap();
    catalog.create_account(&ana, "hash".to_owned(), None, 0).await.unwrap();
    drop(catalog);
    let conn = rusqlite::Connection::open(folder.path().join("catalog.sqlite")).unwrap();
    conn.execute_batch(
        "ALTER TABLE peers DROP COLUMN logged_in_at; DROP TABLE groups; DROP TABLE members; DROP TABLE revocations;
         DROP TABLE trust; PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(conn);
    let group =
        wire::rest::accounts::Group { name: "lab".parse().unwrap(), owner: ana.clone(), members: vec![] };
    let catalog = SqliteCatalog::open(folder.path()).unwrap();
    assert_eq!(catalog.account(&ana).await.unwrap().unwrap().password_hash, "hash");
    catalog.create_group(group.clone()).await.unwrap();
    catalog.end_session(&ana, wire::PeerId::from_bytes([1; 16]), 1).await.unwrap_err();
    let revision = catalog.trust_revision(&ana).await.unwrap();
    drop(catalog);
    let again = SqliteCatalog::open(folder.path()).unwrap();
    assert_eq!(again.group(&group.name, &ana).await.unwrap(), Some(group));
    assert_eq!(again.trust_revision(&ana).await.unwrap(), revision, "a restart is no news");
}

#[tokio::test]
async fn many_callers_share_commits() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Arc::new(SqliteCatalog::open(folder.path()).unwrap());
    let creations =
        (0..500).map(|n| {
            let catalog = catalog.clone();
            async move {
                catalog.create_account(&format!("user{n}").parse().unwrap(), String::new(), None, 0).await
            }
        });
    let results = futures::future::join_all(creations).await;
    assert!(results.into_iter().all(|result| result == Ok(())));
}
