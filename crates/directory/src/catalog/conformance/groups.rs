//! Audiences and groups: who sees and changes a group, and what a file that is for some shows to whom.

use super::*;
use wire::rest::{accounts::Group, directory::ReportKind};

fn group(owner: &str, name: &str, members: &[&str]) -> Group {
    Group {
        name: name.parse().unwrap(),
        owner: user(owner),
        members: members.iter().map(|name| user(name)).collect(),
    }
}

pub(super) async fn only_its_owner_changes_a_group_and_outsiders_do_not_see_it(catalog: &dyn Catalog) {
    for (n, name) in (1..).zip(["ana", "bob", "eve"]) {
        join(catalog, name, n).await;
    }
    let lab = "lab".parse().unwrap();
    let revision = async |name| catalog.trust_revision(&user(name)).await.unwrap();
    let before = [revision("ana").await, revision("bob").await, revision("eve").await];
    catalog.create_group(group("ana", "lab", &["bob"])).await.unwrap();
    let after = [revision("ana").await, revision("bob").await, revision("eve").await];
    assert!(before[0] != after[0] && before[1] != after[1]);
    assert_eq!(before[2], after[2], "news of it are for those in it");

    let seen = async |name| catalog.group(&lab, &user(name)).await.unwrap();
    assert_eq!(seen("ana").await, Some(group("ana", "lab", &["bob"])));
    assert_eq!(seen("bob").await, seen("ana").await);
    assert_eq!(seen("eve").await, None);
    let set =
        async |caller, member, belongs| catalog.set_member(&lab, &user(caller), &user(member), belongs).await;
    let unknown = Err(CatalogError::NotFound("the group"));
    assert_eq!(set("eve", "eve", true).await, unknown);
    assert_eq!(set("bob", "eve", true).await, Err(CatalogError::NotYours));
    assert_eq!(set("bob", "bob", false).await, Err(CatalogError::NotYours));
    assert_eq!(set("ana", "nobody", true).await, Err(CatalogError::NotFound("the account")));
    assert_eq!(catalog.delete_group(&lab, &user("bob")).await, Err(CatalogError::NotYours));
    assert_eq!(catalog.delete_group(&lab, &user("eve")).await, unknown);

    set("ana", "eve", true).await.unwrap();
    let steady = revision("ana").await;
    set("ana", "eve", true).await.unwrap();
    assert_eq!(revision("ana").await, steady, "who is there already is no news");
    assert_eq!(seen("eve").await.unwrap().members, [user("bob"), user("eve")]);
    set("ana", "bob", false).await.unwrap();
    set("ana", "bob", false).await.unwrap();
    assert_eq!(seen("bob").await, None);
    assert_ne!(revision("bob").await, after[1]);

    let taken = Err(CatalogError::GroupTaken);
    assert_eq!(catalog.create_group(group("bob", "lab", &[])).await, taken);
    catalog.delete_group(&lab, &user("ana")).await.unwrap();
    assert_eq!(seen("ana").await, None);
    assert_eq!(catalog.create_group(group("bob", "lab", &[])).await, taken, "a name stays with its owner");
    catalog.create_group(group("ana", "lab", &[])).await.unwrap();
    assert_eq!(seen("eve").await, None, "and its members are gone");

    let refused = catalog.create_group(group("ana", "new", &["nobody"])).await;
    assert!(matches!(refused, Err(CatalogError::Limit(_))), "{refused:?}");
    for n in 0..crate::catalog::MAX_GROUPS_PER_OWNER - 1 {
        catalog.create_group(group("ana", &format!("g{n:03}"), &["bob"])).await.unwrap();
    }
    let refused = catalog.create_group(group("ana", "one.more", &[])).await;
    assert!(matches!(refused, Err(CatalogError::Limit(_))), "{refused:?}");
    let page = catalog.groups(None, 150, &user("bob")).await.unwrap();
    assert_eq!((page.items.len(), page.items[0].name.as_str()), (150, "g000"));
    let rest = catalog.groups(page.next, 150, &user("bob")).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (49, None));
    assert_eq!(catalog.groups(None, 10, &user("eve")).await.unwrap().items, []);
}

fn for_the_lab(name: &str) -> CatalogPut {
    CatalogPut { audience: Some(Audience::Users(vec!["@lab".parse().unwrap()])), ..put(name) }
}

/// Whether `viewer` sees the file by any of the ways there are; all of them must agree.
async fn sees(catalog: &dyn Catalog, holder: PeerId, name: &str, viewer: &str) -> bool {
    let viewer = user(viewer);
    let content = id(name);
    let ways = [
        !catalog.search(&search(name), &viewer, NOW).await.unwrap().items.is_empty(),
        catalog.locate(&content, &viewer, NOW).await.unwrap().is_some(),
        !catalog.locate_many(&[content], &viewer, NOW).await.unwrap().items.is_empty(),
        !catalog.peer_files(holder, None, 10, &viewer).await.unwrap().items.is_empty(),
        catalog.peer(holder, &viewer, NOW).await.unwrap().unwrap().files > 0,
        catalog.report(&content, holder, ReportKind::Unreachable, &viewer).await.is_ok(),
    ];
    assert!(ways.iter().all(|way| *way == ways[0]), "{viewer} {name}: {ways:?}");
    ways[0]
}

pub(super) async fn a_file_for_a_group_is_seen_by_its_members_while_they_are(catalog: &dyn Catalog) {
    let mut peers = Vec::new();
    for (n, name) in (1..).zip(["ana", "bob", "eve"]) {
        peers.push(join(catalog, name, n).await);
    }
    announce(catalog, peers[0], 0, vec![for_the_lab("plan.txt")]).await;
    let all = async |file: &str, holder: usize| {
        let mut seeing = Vec::new();
        for viewer in ["ana", "bob", "eve"] {
            if sees(catalog, peers[holder], file, viewer).await {
                seeing.push(viewer);
            }
        }
        seeing
    };
    assert_eq!(all("plan.txt", 0).await, ["ana"], "there is no such group");
    // Somebody else's group of that name is not what ana means: she does not belong to it.
    catalog.create_group(group("eve", "lab", &["bob"])).await.unwrap();
    assert_eq!(all("plan.txt", 0).await, ["ana"]);
    let lab = "lab".parse().unwrap();
    let set = async |member: &str, belongs| {
        catalog.set_member(&lab, &user("eve"), &user(member), belongs).await.unwrap();
    };
    set("ana", true).await;
    assert_eq!(all("plan.txt", 0).await, ["ana", "bob", "eve"], "members, and the group's owner");
    set("bob", false).await;
    assert_eq!(all("plan.txt", 0).await, ["ana", "eve"]);
    set("bob", true).await;
    assert_eq!(all("plan.txt", 0).await, ["ana", "bob", "eve"]);
    // The members see what its owner shares, too.
    announce(catalog, peers[2], 0, vec![for_the_lab("notes.txt")]).await;
    assert_eq!(all("notes.txt", 2).await, ["ana", "bob", "eve"]);
    catalog.delete_group(&lab, &user("eve")).await.unwrap();
    assert_eq!((all("plan.txt", 0).await, all("notes.txt", 2).await), (vec!["ana"], vec!["eve"]));
}

pub(super) async fn nothing_counts_or_pages_what_is_hidden(catalog: &dyn Catalog) {
    let (ana, _) = (join(catalog, "ana", 1).await, join(catalog, "bob", 2).await);
    let (empty, _) = (join(catalog, "carl", 3).await, join(catalog, "dora", 4).await);
    catalog.create_group(group("ana", "lab", &["dora"])).await.unwrap();
    let hidden = (0..300).map(|n| for_the_lab(&format!("report {n:03}.txt")));
    let open = (0..5).map(|n| put(&format!("report open {n}.txt")));
    announce(catalog, ana, 0, hidden.chain(open).collect()).await;
    let outsider = user("bob");
    let page = |limit| Search { limit, ..search("report") };
    for limit in [1, 4, 5, 6, 200] {
        let found = catalog.search(&page(limit), &outsider, NOW).await.unwrap();
        assert_eq!((found.items.len(), found.next.is_some()), (limit.min(5), limit < 5), "{limit}");
        let files = catalog.peer_files(ana, None, limit, &outsider).await.unwrap();
        assert_eq!((files.items.len(), files.next.is_some()), (limit.min(5), limit < 5), "{limit}");
    }
    assert_eq!(catalog.peer(ana, &outsider, NOW).await.unwrap().unwrap().files, 5);
    assert_eq!(catalog.peer(ana, &user("dora"), NOW).await.unwrap().unwrap().files, 305);
    // Nothing but hidden files looks like nothing.
    let only = (0..300).map(|n| for_the_lab(&format!("memo {n:03}.txt"))).collect();
    announce(catalog, ana, 1, only).await;
    let found = catalog.search(&Search { limit: 1, ..search("memo") }, &outsider, NOW).await.unwrap();
    let none = catalog.search(&Search { limit: 1, ..search("nothing") }, &outsider, NOW).await.unwrap();
    assert_eq!((found.items.len(), found.next), (none.items.len(), none.next));
    assert_eq!(catalog.peer_files(empty, None, 1, &outsider).await.unwrap().next, None);
}

pub(super) async fn restricted_entries_exist_for_their_audience_only(catalog: &dyn Catalog) {
    let (ana, bob) = (join(catalog, "ana", 1).await, join(catalog, "bob", 2).await);
    let secret =
        CatalogPut { audience: Some(Audience::Users(vec![user("carl").into()])), ..put("secret plan.txt") };
    let open = CatalogPut { audience: Some(Audience::Network), ..put("open plan.txt") };
    announce(catalog, ana, 0, vec![secret.clone(), open]).await;
    // Bob has the same bytes under another name, for everybody.
    announce(catalog, bob, 0, vec![CatalogPut { content_id: secret.content_id, ..put("public.txt") }]).await;

    for (viewer, sees) in [("ana", true), ("carl", true), ("bob", false), ("car", false)] {
        let viewer = user(viewer);
        let page = catalog.search(&search("plan"), &viewer, NOW).await.unwrap();
        assert_eq!(page.items.len(), if sees { 2 } else { 1 }, "{viewer}");
        let page = catalog.search(&search("public"), &viewer, NOW).await.unwrap();
        assert_eq!(page.items[0].holders, if sees { 2 } else { 1 }, "{viewer}");
        let by_holder = Search { holder: Some(user("ana")), ..search("") };
        let page = catalog.search(&by_holder, &viewer, NOW).await.unwrap();
        assert_eq!(page.items.len(), if sees { 2 } else { 1 }, "{viewer}");
        let located = catalog.locate(&secret.content_id, &viewer, NOW).await.unwrap().unwrap();
        assert_eq!(
            (located.holders.len(), located.names.len()),
            if sees { (2, 2) } else { (1, 1) },
            "{viewer}"
        );
        let many = catalog.locate_many(&[secret.content_id], &viewer, NOW).await.unwrap();
        assert_eq!(many.items[0].holders.len(), if sees { 2 } else { 1 }, "{viewer}");
        let listed = catalog.peer_files(ana, None, 10, &viewer).await.unwrap().items;
        assert_eq!(listed.len(), if sees { 2 } else { 1 }, "{viewer}");
        let peer = catalog.peer(ana, &viewer, NOW).await.unwrap().unwrap();
        assert_eq!(peer.files, if sees { 2 } else { 1 }, "{viewer}");
    }
    // The audience is withdrawn.
    announce(catalog, ana, 1, vec![CatalogPut { audience: Some(Audience::Users(Vec::new())), ..secret }])
        .await;
    assert_eq!(catalog.search(&search("secret"), &user("carl"), NOW).await.unwrap().items, []);
}
