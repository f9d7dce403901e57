//! What every catalog must do, as one suite of named steps. Each step gets an empty catalog of its own.

mod groups;
mod sizes;
mod trust;

use std::{collections::BTreeSet, future::Future, sync::Arc};

use content::ContentId;
use wire::{
    PeerId, Username,
    rest::{
        Audience,
        directory::{CatalogDelta, CatalogKey, CatalogPut, ReportKind},
    },
};

use super::{Catalog, CatalogError, Items, Login, Renewal, Search, Session};
use crate::words;

const NOW: i64 = 1_800_000_000_000;
const LEASE: i64 = 30_000;

/// Runs every step; `open` gives a new and empty catalog.
pub(super) async fn suite<F: Future<Output = Arc<dyn Catalog>>>(open: impl Fn() -> F) {
    accounts_and_invites(&*open().await).await;
    sessions_come_and_go(&*open().await).await;
    a_peer_that_changes_hands_loses_its_catalog(&*open().await).await;
    deltas_follow_revisions(&*open().await).await;
    entries_are_put_again_and_removed(&*open().await).await;
    locate_lists_the_best_holders_first(&*open().await).await;
    sizes::each_holder_states_a_size_of_its_own(&*open().await).await;
    locating_many_describes_each_peer_once(&*open().await).await;
    groups::restricted_entries_exist_for_their_audience_only(&*open().await).await;
    groups::only_its_owner_changes_a_group_and_outsiders_do_not_see_it(&*open().await).await;
    groups::a_file_for_a_group_is_seen_by_its_members_while_they_are(&*open().await).await;
    groups::nothing_counts_or_pages_what_is_hidden(&*open().await).await;
    trust::sessions_are_listed_and_ended(&*open().await).await;
    trust::who_was_ended_by_force_is_revoked_until_the_next_login(&*open().await).await;
    trust::an_account_is_one_for_ever(&*open().await).await;
    searches_find_words_however_written(&*open().await).await;
    filters_narrow_a_search(&*open().await).await;
    the_best_held_come_first_and_pages_do_not_overlap(&*open().await).await;
    one_row_per_content(&*open().await).await;
    peers_and_their_files_come_in_pages(&*open().await).await;
    many_changes_leave_the_index_true(&*open().await).await;
}

async fn accounts_and_invites(catalog: &dyn Catalog) {
    let (ana, bob) = (user("ana"), user("bob"));
    assert_eq!(catalog.account(&ana).await.unwrap(), None);
    catalog.create_account(&ana, "hash".to_owned(), None, NOW).await.unwrap();
    assert_eq!(catalog.account(&ana).await.unwrap().unwrap().password_hash, "hash");
    assert_eq!(catalog.create_account(&ana, "other".to_owned(), None, NOW).await, Err(CatalogError::Taken));

    let by = |invite: u8, name: &'static str, now| async move {
        catalog.create_account(&user(name), String::new(), Some([invite; 32]), now).await
    };
    catalog.create_invite([1; 32], 1, NOW + 10, NOW).await.unwrap();
    assert_eq!(by(2, "bob", NOW).await, Err(CatalogError::Invite), "unknown");
    assert_eq!(by(1, "bob", NOW + 10).await, Err(CatalogError::Invite), "ended");
    assert_eq!(by(1, "ana", NOW).await, Err(CatalogError::Taken), "a refusal uses nothing up");
    by(1, "bob", NOW).await.unwrap();
    assert_eq!(by(1, "eve", NOW).await, Err(CatalogError::Invite), "used up");

    assert!(!catalog.account(&bob).await.unwrap().unwrap().disabled);
    catalog.disable_account(&bob, NOW).await.unwrap();
    assert!(catalog.account(&bob).await.unwrap().unwrap().disabled);
    assert_eq!(catalog.disable_account(&user("eve"), NOW).await, Err(CatalogError::NotFound("the account")));
}

async fn sessions_come_and_go(catalog: &dyn Catalog) {
    let ana = join(catalog, "ana", 1).await;
    let session = Session { peer_id: ana, username: user("ana") };
    assert_eq!(catalog.session(&[1; 32], NOW).await.unwrap(), Some(session.clone()));
    assert_eq!(catalog.session(&[9; 32], NOW).await.unwrap(), None);

    assert!(online(catalog, ana, NOW + LEASE - 1).await && !online(catalog, ana, NOW + LEASE).await);
    let online_at = async |now| catalog.online(now).await.unwrap();
    assert_eq!((online_at(NOW).await, online_at(NOW + LEASE).await), (1, 0));
    let endpoints = vec!["10.0.0.1:1".to_owned()];
    let renewal =
        |after| Renewal { now: NOW + after, lease_until: NOW + after + LEASE, ..Renewal::default() };
    let with_endpoints = Renewal { endpoints: Some(endpoints.clone()), ..renewal(10) };
    assert_eq!(catalog.renew(ana, with_endpoints).await, Ok(0));
    assert!(online(catalog, ana, NOW + LEASE).await);
    catalog.renew(ana, renewal(20)).await.unwrap();
    let seen = async || catalog.peer(ana, &user("ana"), NOW).await.unwrap().unwrap();
    let peer = seen().await;
    assert_eq!((peer.endpoints, peer.last_seen.as_millisecond()), (endpoints.clone(), NOW + 20));
    let key = "cd".repeat(32);
    assert_ne!(peer.sealing_key, key);
    let with_key = Renewal { sealing_key: Some(key.clone()), ..renewal(20) };
    assert_eq!(catalog.renew(ana, with_key).await, Ok(0));
    catalog.renew(ana, renewal(20)).await.unwrap();
    let peer = seen().await;
    assert_eq!((peer.endpoints, peer.sealing_key), (endpoints, key));
    let is_logged_in = async |now| catalog.is_logged_in(ana, now).await.unwrap();
    assert!(is_logged_in(NOW).await && is_logged_in(NOW + 10 * LEASE).await && !is_logged_in(i64::MAX).await);
    assert!(!catalog.is_logged_in(PeerId::from_bytes([99; 16]), NOW).await.unwrap());

    // A new login of the same peer ends the old session.
    catalog.login(Login { token: [2; 32], ..login("ana", 1) }).await.unwrap();
    assert_eq!(catalog.session(&[1; 32], NOW).await.unwrap(), None);
    assert_eq!(catalog.session(&[2; 32], NOW).await.unwrap(), Some(session));

    catalog.logout(ana, NOW + 30).await.unwrap();
    assert_eq!(catalog.session(&[2; 32], NOW).await.unwrap(), None);
    assert!(!online(catalog, ana, NOW + 30).await && !is_logged_in(NOW + 30).await);
    assert_eq!(
        catalog.renew(ana, renewal(0)).await,
        Err(CatalogError::NotFound("the session")),
        "what has ended cannot be renewed"
    );

    catalog.login(Login { token: [3; 32], ..login("ana", 1) }).await.unwrap();
    catalog.disable_account(&user("ana"), NOW).await.unwrap();
    assert_eq!(catalog.session(&[3; 32], NOW).await.unwrap(), None);
    assert!(!online(catalog, ana, NOW).await && !is_logged_in(NOW).await);
    assert_eq!(catalog.login(login("ana", 1)).await, Err(CatalogError::NotFound("the account")));
    assert_eq!(catalog.session(&[1; 32], i64::MAX).await.unwrap(), None);
}

async fn a_peer_that_changes_hands_loses_its_catalog(catalog: &dyn Catalog) {
    let peer = join(catalog, "ana", 1).await;
    announce(catalog, peer, 0, vec![put("song.mp3")]).await;
    catalog.create_account(&user("bob"), String::new(), None, NOW).await.unwrap();
    assert_eq!(catalog.login(Login { token: [2; 32], ..login("bob", 1) }).await, Ok(0));
    assert_eq!(catalog.session(&[1; 32], NOW).await.unwrap(), None);
    assert_eq!(catalog.session(&[2; 32], NOW).await.unwrap().unwrap().username, user("bob"));
    assert_eq!(found(catalog, "song").await, Vec::<String>::new());
    assert_eq!(catalog.locate(&id("song.mp3"), &user("bob"), NOW).await.unwrap(), None);
}

async fn deltas_follow_revisions(catalog: &dyn Catalog) {
    let peer = join(catalog, "ana", 1).await;
    let delta = |base_revision, revision, name: &str| CatalogDelta {
        base_revision,
        revision,
        put: vec![put(name)],
        ..CatalogDelta::default()
    };
    assert_eq!(catalog.apply(peer, delta(0, 5, "one.txt")).await, Ok(5));
    assert_eq!(catalog.apply(peer, delta(0, 5, "one.txt")).await, Ok(5), "the same again");
    assert_eq!(
        catalog.apply(peer, delta(4, 6, "two.txt")).await,
        Err(CatalogError::Conflict { revision: 5 })
    );
    assert_eq!(found(catalog, "two").await, Vec::<String>::new());
    assert_eq!(catalog.apply(peer, delta(5, 9, "two.txt")).await, Ok(9));
    assert_eq!(found(catalog, "txt").await, ["one.txt", "two.txt"]);

    let reset = CatalogDelta { reset: true, ..delta(77, 1, "three.txt") };
    assert_eq!(catalog.apply(peer, reset).await, Ok(1), "a reset follows nothing");
    assert_eq!(found(catalog, "txt").await, ["three.txt"]);
    assert_eq!(catalog.login(Login { token: [2; 32], ..login("ana", 1) }).await, Ok(1), "a login keeps it");
    let nobody = PeerId::from_bytes([99; 16]);
    assert_eq!(catalog.apply(nobody, delta(0, 1, "x")).await, Err(CatalogError::NotFound("the peer")));
}

async fn entries_are_put_again_and_removed(catalog: &dyn Catalog) {
    let (ana, bob) = (join(catalog, "ana", 1).await, join(catalog, "bob", 2).await);
    let of = |name: &str, content: &str| CatalogPut { content_id: id(content), ..put(name) };
    announce(catalog, ana, 0, vec![of("first.txt", "x"), of("second.txt", "x"), of("first.txt", "y")]).await;
    announce(catalog, bob, 0, vec![of("first.txt", "x")]).await;
    let names = |content: &'static str| async move {
        let located = catalog.locate(&id(content), &user("ana"), NOW).await.unwrap();
        located.map(|located| (located.names, located.holders.len()))
    };
    assert_eq!(names("x").await, Some((vec!["first.txt".to_owned(), "second.txt".to_owned()], 2)));

    // The same name again, with another type: it replaces.
    let again = CatalogPut { media_type: Some("text/plain".to_owned()), ..of("second.txt", "x") };
    announce(catalog, ana, 1, vec![again]).await;
    assert_eq!(files(catalog, ana).await, ["first.txt", "first.txt", "second.txt"]);

    let key = |name: &str, content: &str| CatalogKey { content_id: id(content), name: name.to_owned() };
    let remove = vec![key("first.txt", "x"), key("nothing", "x"), key("nothing", "z")];
    let delta = CatalogDelta { base_revision: 2, revision: 3, remove, ..CatalogDelta::default() };
    catalog.apply(ana, delta).await.unwrap();
    assert_eq!(names("x").await, Some((vec!["first.txt".to_owned(), "second.txt".to_owned()], 2)));
    let remove = vec![key("second.txt", "x"), key("first.txt", "y")];
    let delta = CatalogDelta { base_revision: 3, revision: 4, remove, ..CatalogDelta::default() };
    catalog.apply(ana, delta).await.unwrap();
    assert_eq!(names("x").await, Some((vec!["first.txt".to_owned()], 1)));
    assert_eq!(names("y").await, None);
    assert_eq!(found(catalog, "second").await, Vec::<String>::new());
    let item = catalog.peer(ana, &user("ana"), NOW).await.unwrap().unwrap();
    assert_eq!(item.files, 0);

    // Removed and put in one delta: put wins.
    let delta = CatalogDelta {
        base_revision: 1,
        revision: 2,
        put: vec![of("first.txt", "x")],
        remove: vec![key("first.txt", "x")],
        ..CatalogDelta::default()
    };
    catalog.apply(bob, delta).await.unwrap();
    assert_eq!(names("x").await, Some((vec!["first.txt".to_owned()], 1)));
}

async fn locate_lists_the_best_holders_first(catalog: &dyn Catalog) {
    let mut peers = Vec::new();
    for (n, pieces_held) in [(1, 1), (2, 3), (3, 3), (4, 3)] {
        let peer = join(catalog, &format!("user{n}"), n).await;
        announce(catalog, peer, 0, vec![CatalogPut { size: 3 << 20, pieces_held, ..put("film.mkv") }]).await;
        peers.push(peer);
    }
    catalog.logout(peers[3], NOW).await.unwrap();
    let viewer = user("user1");
    let film = id("film.mkv");
    let order = || async {
        let located = catalog.locate(&film, &viewer, NOW).await.unwrap().unwrap();
        let at = |peer| peers.iter().position(|other| *other == peer).unwrap() + 1;
        located.holders.iter().map(|holder| at(holder.peer_id)).collect::<Vec<_>>()
    };
    assert_eq!(order().await, [2, 3, 1, 4], "online, then whole");
    let report = |of: usize, kind| catalog.report(&film, peers[of - 1], kind, &viewer);
    report(2, ReportKind::Unreachable).await.unwrap();
    assert_eq!(order().await, [2, 3, 1, 4], "nobody else may have that trouble");
    report(2, ReportKind::Corrupt).await.unwrap();
    report(2, ReportKind::Missing).await.unwrap();
    assert_eq!(order().await, [3, 1, 2, 4]);
    let again = CatalogPut { size: 3 << 20, pieces_held: 3, ..put("film.mkv") };
    announce(catalog, peers[1], 1, vec![again]).await;
    assert_eq!(order().await, [2, 3, 1, 4], "announced anew, reports are forgotten");

    let unknown = |result| assert_eq!(result, Err(CatalogError::NotFound("the holder")));
    unknown(catalog.report(&id("other"), peers[1], ReportKind::Corrupt, &viewer).await);
    unknown(catalog.report(&film, PeerId::from_bytes([99; 16]), ReportKind::Corrupt, &viewer).await);
}

async fn locating_many_describes_each_peer_once(catalog: &dyn Catalog) {
    let (ana, bob) = (join(catalog, "ana", 1).await, join(catalog, "bob", 2).await);
    announce(catalog, ana, 0, vec![put("a"), put("b")]).await;
    announce(catalog, bob, 0, vec![put("b"), put("c")]).await;
    let ids = [id("c"), id("nothing"), id("a"), id("b"), id("a")];
    let reply = catalog.locate_many(&ids, &user("ana"), NOW).await.unwrap();
    assert_eq!(reply.peers.iter().map(|peer| peer.peer_id).collect::<Vec<_>>(), [bob, ana]);
    let found: Vec<(&str, Vec<u32>)> = reply
        .items
        .iter()
        .map(|item| (item.name.as_str(), item.holders.iter().map(|holder| holder.peer).collect()))
        .collect();
    assert_eq!(found, [("c", vec![0]), ("a", vec![1]), ("b", vec![1, 0]), ("a", vec![1])]);
}

async fn searches_find_words_however_written(catalog: &dyn Catalog) {
    let ana = join(catalog, "ana", 1).await;
    let names = [
        "Holiday Video 2024.mkv",
        "holiday/notes (draft).txt",
        "Canción de Año Nuevo.mp3",
        "libfoo-2.so",
        "go c x1.txt",
        "東京の夜.jpg",
        "🦀 crab.png",
        "say \"hello\" AND* -NOT.txt",
    ];
    announce(catalog, ana, 0, names.map(put).to_vec()).await;
    for (q, expected) in [
        ("holiday", vec![0, 1]),
        ("video holiday", vec![0]),
        ("VIDEO HOLIDAY 2024", vec![0]),
        ("holi", vec![0, 1]),
        ("liday", vec![0, 1]),
        ("draft notes", vec![1]),
        ("cancion ano", vec![2]),
        ("CANCIÓN", vec![2]),
        ("libf", vec![3]),
        ("bfo", vec![3]),
        ("go", vec![4]),
        ("c", vec![2 + 2, 6]),
        ("x1", vec![4]),
        ("東京", vec![5]),
        ("夜", vec![5]),
        ("🦀", vec![6]),
        ("\"hello\"", vec![7]),
        ("hello AND", vec![7]),
        ("hello* OR", vec![]),
        ("-NOT", vec![1, 7]),
        ("NEAR(hello)", vec![]),
        ("hello) (", vec![7]),
        ("***", vec![]),
        ("nothing", vec![]),
        ("holiday nothing", vec![]),
        ("zq", vec![]),
        ("", (0..8).collect()),
    ] {
        let expected: BTreeSet<&str> = expected.into_iter().map(|at: usize| names[at]).collect();
        let got = found(catalog, q).await;
        let mut got: BTreeSet<&str> = got.iter().map(String::as_str).collect();
        if q == "c" {
            got.remove("Canción de Año Nuevo.mp3");
        }
        assert_eq!(got, expected, "{q:?}");
    }
}

async fn filters_narrow_a_search(catalog: &dyn Catalog) {
    let (ana, bob) = (join(catalog, "ana", 1).await, join(catalog, "bob", 2).await);
    let file = |name: &str, size, media_type: &str| CatalogPut {
        size,
        media_type: Some(media_type.to_owned()),
        pieces_held: 1,
        ..put(name)
    };
    let film = file("a film.mp4", 5 << 20, "video/mp4");
    announce(catalog, ana, 0, vec![film.clone(), file("b film.mkv", 1 << 30, "video/x-matroska")]).await;
    announce(
        catalog,
        bob,
        0,
        vec![CatalogPut { pieces_held: 5, ..film }, file("c film.txt", 0, "text/plain")],
    )
    .await;
    catalog.logout(ana, NOW).await.unwrap();

    let of = |search: Search| async move {
        let page = catalog.search(&search, &user("ana"), NOW).await.unwrap();
        page.items.iter().map(|item| item.name[..1].to_owned()).collect::<String>()
    };
    for (words, text) in [("film", "with words"), ("", "without")] {
        let all = || search(words);
        let media = |text: &str| Search { media_type: Some(text.to_owned()), ..all() };
        assert_eq!(of(all()).await, "abc", "{text}");
        assert_eq!(of(media("video/mp4")).await, "a", "{text}");
        assert_eq!(of(media("video/*")).await, "ab", "{text}");
        assert_eq!(of(media("audio/*")).await, "", "{text}");
        assert_eq!(of(Search { min_size: 5 << 20, ..all() }).await, "ab", "{text}");
        assert_eq!(of(Search { min_size: (5 << 20) + 1, ..all() }).await, "b", "{text}");
        assert_eq!(of(Search { max_size: 5 << 20, ..all() }).await, "ac", "{text}");
        assert_eq!(of(Search { max_size: 0, ..all() }).await, "c", "{text}");
        assert_eq!(of(Search { holder: Some(user("ana")), ..all() }).await, "ab", "{text}");
        assert_eq!(of(Search { holder: Some(user("nobody")), ..all() }).await, "", "{text}");
        assert_eq!(of(Search { online: true, ..all() }).await, "ac", "{text}");
        assert_eq!(of(Search { online: true, holder: Some(user("ana")), ..all() }).await, "", "{text}");
    }
    let page = catalog.search(&search("film"), &user("ana"), NOW).await.unwrap();
    let seen: Vec<_> = page.items.iter().map(|item| (item.holders, item.online, item.complete)).collect();
    assert_eq!(seen, [(2, 1, true), (1, 0, false), (1, 1, true)]);
    let page = catalog.search(&search("film"), &user("ana"), NOW + LEASE).await.unwrap();
    assert!(page.items.iter().all(|item| item.online == 0 && !item.complete), "leases end by themselves");
}

async fn the_best_held_come_first_and_pages_do_not_overlap(catalog: &dyn Catalog) {
    // File n is held by 1 + n % 4 peers; in the order of results, more holders first, then older first.
    const FILES: usize = 103;
    for n in 1..=4_u8 {
        let peer = join(catalog, &format!("user{n}"), n).await;
        let files = (0..FILES).filter(|file| file % 4 + 1 >= usize::from(n));
        let mut entries: Vec<CatalogPut> = files.map(|file| put(&format!("file {file:03}.bin"))).collect();
        entries.sort_by_key(|put| put.content_id);
        announce(catalog, peer, 0, entries).await;
    }
    for words in ["file", "bin", ""] {
        let mut names = Vec::new();
        let mut holders = Vec::new();
        let mut after = None;
        for round in 0.. {
            let page = catalog
                .search(&Search { limit: 10, after, ..search(words) }, &user("user1"), NOW)
                .await
                .unwrap();
            names.extend(page.items.iter().map(|item| item.name.clone()));
            holders.extend(page.items.iter().map(|item| item.holders));
            assert_eq!(page.items.len(), if round < FILES / 10 { 10 } else { FILES % 10 }, "{words} {round}");
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(holders.is_sorted_by(|one, next| one >= next), "{words}");
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), FILES, "{words}");
        let page =
            catalog.search(&Search { limit: FILES, ..search(words) }, &user("user1"), NOW).await.unwrap();
        assert_eq!(page.next, None, "a page that just holds everything is the last");
        assert_eq!(page.items.into_iter().map(|item| item.name).collect::<Vec<_>>(), names, "{words}");
    }
}

async fn one_row_per_content(catalog: &dyn Catalog) {
    let (ana, bob) = (join(catalog, "ana", 1).await, join(catalog, "bob", 2).await);
    let of = |name: &str| CatalogPut { content_id: id("x"), ..put(name) };
    announce(catalog, ana, 0, vec![of("big red fox.txt"), of("small fox.txt")]).await;
    announce(catalog, bob, 0, vec![of("small fox.txt")]).await;
    let item = |q: &'static str| async move {
        let mut page = catalog.search(&search(q), &user("ana"), NOW).await.unwrap();
        assert!(page.items.len() <= 1, "{q}");
        page.items.pop().map(|item| (item.name, item.holders))
    };
    assert_eq!(item("fox").await, Some(("small fox.txt".to_owned(), 2)), "the name that most use");
    assert_eq!(item("red").await, Some(("big red fox.txt".to_owned(), 2)), "the name that matches");
    assert_eq!(item("red small").await, None, "words of two names are no match");
}

async fn peers_and_their_files_come_in_pages(catalog: &dyn Catalog) {
    let mut all = Vec::new();
    for n in 1..=7 {
        all.push(join(catalog, &format!("user{n}"), n).await);
    }
    all.sort();
    let viewer = user("user1");
    let ids = |page: &Items<wire::rest::directory::PeerItem, PeerId>| {
        page.items.iter().map(|peer| peer.peer_id).collect::<Vec<_>>()
    };
    let first = catalog.peers(None, 4, &viewer, NOW).await.unwrap();
    let second = catalog.peers(first.next, 4, &viewer, NOW).await.unwrap();
    assert_eq!([ids(&first), ids(&second)].concat(), all);
    assert_eq!(second.next, None);
    assert_eq!(catalog.peers(None, 7, &viewer, NOW).await.unwrap().next, None);
    assert_eq!(catalog.peer(PeerId::from_bytes([99; 16]), &viewer, NOW).await.unwrap(), None);

    // A second and a third machine of one account.
    for n in [8, 9] {
        catalog.login(login("user1", n)).await.unwrap();
    }
    let own: Vec<PeerId> = [1, 8, 9].map(|n| PeerId::from_bytes([n; 16])).into();
    let first = catalog.peers_of(&viewer, None, 2, &viewer, NOW).await.unwrap();
    let second = catalog.peers_of(&viewer, first.next, 2, &viewer, NOW).await.unwrap();
    assert_eq!([ids(&first), ids(&second)].concat(), own);
    assert_eq!((ids(&first).len(), second.next), (2, None));
    let all_of_one = catalog.peers_of(&viewer, None, 3, &viewer, NOW).await.unwrap();
    assert_eq!((ids(&all_of_one), all_of_one.next), (own, None));
    let nobody = catalog.peers_of(&user("nobody"), None, 3, &viewer, NOW).await.unwrap();
    assert_eq!((nobody.items, nobody.next), (Vec::new(), None));

    let entries: Vec<CatalogPut> = (0..10).map(|n| put(&format!("{n}.txt"))).collect();
    announce(catalog, all[0], 0, entries).await;
    let first = catalog.peer_files(all[0], None, 6, &viewer).await.unwrap();
    let second = catalog.peer_files(all[0], first.next, 6, &viewer).await.unwrap();
    let names: BTreeSet<&str> =
        first.items.iter().chain(&second.items).map(|file| file.name.as_str()).collect();
    assert_eq!((first.items.len(), second.items.len(), names.len(), second.next), (6, 4, 10, None));
    let unknown = catalog.peer_files(PeerId::from_bytes([99; 16]), None, 6, &viewer).await;
    assert_eq!(unknown, Err(CatalogError::NotFound("the peer")));
}

/// Random deltas of several peers, against a plain model of what they hold.
async fn many_changes_leave_the_index_true(catalog: &dyn Catalog) {
    let mut peers = Vec::new();
    for n in 1..=6 {
        peers.push((join(catalog, &format!("user{n}"), n).await, 0, BTreeSet::<usize>::new()));
    }
    let mut state: u32 = 1;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let name = |file: usize| format!("word{} file{file}.txt", file % 7);
    for _ in 0..120 {
        let (peer, revision, held) = &mut peers[random(6)];
        let reset = random(10) == 0;
        if reset {
            held.clear();
        }
        let mut delta = CatalogDelta {
            base_revision: *revision,
            revision: *revision + 1,
            reset,
            ..CatalogDelta::default()
        };
        for _ in 0..random(12) {
            let file = random(40);
            if random(3) == 0 {
                delta.remove.push(CatalogKey { content_id: id(&name(file)), name: name(file) });
                held.remove(&file);
            }
        }
        for _ in 0..random(12) {
            let file = random(40);
            delta.put.push(put(&name(file)));
            held.insert(file);
        }
        *revision = catalog.apply(*peer, delta).await.unwrap();
    }
    for word in 0..7 {
        let page = catalog.search(&search(&format!("word{word}")), &user("user1"), NOW).await.unwrap();
        let got: BTreeSet<(String, u32)> =
            page.items.into_iter().map(|item| (item.name, item.holders)).collect();
        let holders = |file: usize| peers.iter().filter(|(_, _, held)| held.contains(&file)).count();
        let expected: BTreeSet<(String, u32)> = (0..40)
            .filter(|file| file % 7 == word && holders(*file) > 0)
            .map(|file| (name(file), u32::try_from(holders(file)).unwrap()))
            .collect();
        assert_eq!(got, expected, "word{word}");
    }
    for (peer, _, held) in peers {
        let item = catalog.peer(peer, &user("user1"), NOW).await.unwrap().unwrap();
        assert_eq!(item.files, held.len() as u64);
    }
}

fn user(name: &str) -> Username {
    name.parse().unwrap()
}

fn id(text: &str) -> ContentId {
    ContentId::of(text.as_bytes())
}

fn login(username: &str, n: u8) -> Login {
    Login {
        peer_id: PeerId::from_bytes([n; 16]),
        username: user(username),
        password_hash: String::new(),
        token: [n; 32],
        sealing_key: "0".repeat(64),
        endpoints: vec![format!("127.0.0.1:{n}")],
        version: "1".to_owned(),
        now: NOW,
        lease_until: NOW + LEASE,
    }
}

/// A peer of an account of its own, logged in.
async fn join(catalog: &dyn Catalog, username: &str, n: u8) -> PeerId {
    catalog.create_account(&user(username), String::new(), None, NOW).await.unwrap();
    catalog.login(login(username, n)).await.unwrap();
    PeerId::from_bytes([n; 16])
}

/// A whole file of one piece, whose content is its name.
fn put(name: &str) -> CatalogPut {
    CatalogPut {
        content_id: id(name),
        name: name.to_owned(),
        size: 7,
        media_type: None,
        pieces_held: 1,
        audience: None,
    }
}

async fn announce(catalog: &dyn Catalog, peer: PeerId, base_revision: u64, put: Vec<CatalogPut>) {
    let delta = CatalogDelta { base_revision, revision: base_revision + 1, put, ..CatalogDelta::default() };
    assert_eq!(catalog.apply(peer, delta).await, Ok(base_revision + 1));
}

fn search(q: &str) -> Search {
    Search {
        words: (!q.is_empty()).then(|| words::Query::new(q)),
        media_type: None,
        min_size: 0,
        max_size: u64::MAX,
        holder: None,
        online: false,
        limit: 200,
        after: None,
    }
}

/// The names that a search finds, in alphabetical order.
async fn found(catalog: &dyn Catalog, q: &str) -> Vec<String> {
    let page = catalog.search(&search(q), &user("ana"), NOW).await.unwrap();
    let mut names: Vec<String> = page.items.into_iter().map(|item| item.name).collect();
    names.sort();
    names
}

async fn files(catalog: &dyn Catalog, peer: PeerId) -> Vec<String> {
    let page = catalog.peer_files(peer, None, 100, &user("ana")).await.unwrap();
    let mut names: Vec<String> = page.items.into_iter().map(|file| file.name).collect();
    names.sort();
    names
}

async fn online(catalog: &dyn Catalog, peer: PeerId, now: i64) -> bool {
    catalog.peer(peer, &user("ana"), now).await.unwrap().unwrap().online
}
