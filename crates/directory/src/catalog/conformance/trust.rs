//! Sessions that are ended, accounts that are closed, and who is revoked by it.

use super::*;

async fn revoked(catalog: &dyn Catalog) -> Vec<(Option<PeerId>, String)> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = catalog.revoked(after, 2, NOW).await.unwrap();
        all.extend(page.items.into_iter().map(|item| (item.peer_id, item.username.to_string())));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

pub(super) async fn sessions_are_listed_and_ended(catalog: &dyn Catalog) {
    let first = join(catalog, "ana", 1).await;
    let second = PeerId::from_bytes([2; 16]);
    catalog.login(Login { now: NOW + 5, ..login("ana", 2) }).await.unwrap();
    join(catalog, "bob", 3).await;
    let ana = user("ana");
    let listed = catalog.sessions(&ana, None, 1, NOW).await.unwrap();
    assert_eq!((listed.items.len(), listed.next), (1, Some(first)));
    let rest = catalog.sessions(&ana, listed.next, 1, NOW).await.unwrap();
    let session = &rest.items[0];
    assert_eq!((session.peer_id, session.created.as_millisecond(), session.online), (second, NOW + 5, true));
    assert_eq!((session.endpoints.as_slice(), rest.next), (["127.0.0.1:2".to_owned()].as_slice(), None));

    let unknown = Err(CatalogError::NotFound("the session"));
    assert_eq!(catalog.end_session(&user("bob"), second, NOW).await, unknown, "somebody else's");
    assert_eq!(catalog.end_session(&ana, PeerId::from_bytes([9; 16]), NOW).await, unknown);
    catalog.end_session(&ana, second, NOW).await.unwrap();
    assert_eq!(catalog.session(&[2; 32], NOW).await.unwrap(), None);
    let shown = catalog.peer(second, &user("bob"), NOW).await.unwrap().unwrap();
    assert!(!shown.online && shown.endpoints.is_empty() && shown.sealing_key.is_empty(), "{shown:?}");
    assert_eq!(catalog.sessions(&ana, None, 10, NOW).await.unwrap().items.len(), 1);
    catalog.logout(first, NOW).await.unwrap();
    assert_eq!(catalog.sessions(&ana, None, 10, NOW).await.unwrap().items, []);
    assert_eq!(revoked(catalog).await, [(Some(second), "ana".to_owned())], "a logout revokes nobody");
    catalog.end_session(&ana, first, NOW).await.unwrap();
    assert_eq!(revoked(catalog).await.len(), 2, "but who has logged out can be ended too");
}

pub(super) async fn who_was_ended_by_force_is_revoked_until_the_next_login(catalog: &dyn Catalog) {
    let peer = join(catalog, "ana", 1).await;
    join(catalog, "bob", 2).await;
    let (ana, bob) = (user("ana"), user("bob"));
    let revision = async || catalog.trust_revision(&bob).await.unwrap();
    let mut last = revision().await;
    let mut news = async || std::mem::replace(&mut last, revision().await) != last;
    assert!((1..1 << 53).contains(&revision().await) && !news().await);

    catalog.end_session(&ana, peer, NOW).await.unwrap();
    assert_eq!(revoked(catalog).await, [(Some(peer), "ana".to_owned())]);
    assert!(news().await);
    catalog.login(Login { token: [7; 32], ..login("ana", 1) }).await.unwrap();
    assert_eq!(revoked(catalog).await, []);
    assert!(news().await);
    catalog.login(Login { token: [8; 32], ..login("ana", 1) }).await.unwrap();
    catalog.logout(peer, NOW).await.unwrap();
    assert!(!news().await, "coming and going is no news");

    catalog.login(Login { token: [9; 32], ..login("ana", 1) }).await.unwrap();
    catalog.disable_account(&ana, NOW).await.unwrap();
    assert_eq!(revoked(catalog).await, [(None, "ana".to_owned()), (Some(peer), "ana".to_owned())]);
    assert!(news().await);
    catalog.enable_account(&ana).await.unwrap();
    assert_eq!(revoked(catalog).await, [(Some(peer), "ana".to_owned())], "what was ended stays ended");
    assert_eq!(catalog.session(&[9; 32], NOW).await.unwrap(), None);
    catalog.login(Login { token: [10; 32], ..login("ana", 1) }).await.unwrap();
    assert_eq!(revoked(catalog).await, []);
    assert_eq!(catalog.enable_account(&user("eve")).await, Err(CatalogError::NotFound("the account")));

    // Another password ends all sessions but the one that set it, and a login under way with the old one.
    let other = PeerId::from_bytes([3; 16]);
    catalog.login(login("ana", 3)).await.unwrap();
    catalog.set_password(&ana, "new".to_owned(), Some(other), NOW).await.unwrap();
    assert_eq!(catalog.account(&ana).await.unwrap().unwrap().password_hash, "new");
    assert_eq!(catalog.session(&[10; 32], NOW).await.unwrap(), None);
    assert!(catalog.session(&[3; 32], NOW).await.unwrap().is_some());
    assert_eq!(revoked(catalog).await, [(Some(peer), "ana".to_owned())]);
    assert_eq!(catalog.login(login("ana", 1)).await, Err(CatalogError::NotFound("the account")));
    catalog.set_password(&ana, String::new(), None, NOW).await.unwrap();
    assert_eq!(catalog.session(&[3; 32], NOW).await.unwrap(), None);

    // A machine that goes over to another account is revoked for the former one, and known for the new one.
    catalog.login(Login { token: [11; 32], ..login("bob", 1) }).await.unwrap();
    assert!(revoked(catalog).await.contains(&(Some(peer), "ana".to_owned())));
    assert!(!revoked(catalog).await.contains(&(Some(peer), "bob".to_owned())));
    let in_two_days = catalog.revoked(None, 10, NOW + 2 * 24 * 3_600_000).await.unwrap();
    assert_eq!(in_two_days.items, [], "their certificates have all ended");
}

pub(super) async fn an_account_is_one_for_ever(catalog: &dyn Catalog) {
    let peer = join(catalog, "ana", 1).await;
    announce(catalog, peer, 0, vec![put("song.mp3")]).await;
    let again = async || catalog.create_account(&user("ana"), "of another".to_owned(), None, NOW).await;
    assert_eq!(again().await, Err(CatalogError::Taken));
    catalog.disable_account(&user("ana"), NOW).await.unwrap();
    assert_eq!(again().await, Err(CatalogError::Taken), "also when it is closed");
    assert_eq!(catalog.account(&user("ana")).await.unwrap().unwrap().password_hash, "");
    // Who logs in with ana's machine under another name gets nothing of hers.
    catalog.create_account(&user("eve"), String::new(), None, NOW).await.unwrap();
    assert_eq!(catalog.login(Login { token: [2; 32], ..login("eve", 1) }).await, Ok(0));
    assert_eq!(catalog.peer(peer, &user("eve"), NOW).await.unwrap().unwrap().files, 0);
    assert_eq!(catalog.locate(&id("song.mp3"), &user("eve"), NOW).await.unwrap(), None);
}
