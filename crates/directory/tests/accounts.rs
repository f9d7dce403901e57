//! Accounts' own affairs through the router: groups, sessions, passwords, and whom peers are told not to trust.

#![expect(clippy::unwrap_used, reason = "help for tests")]

mod common;

use std::collections::BTreeSet;

use common::{ADMIN, PASSWORD, Peer, TestApp, app, csr, file, id, session};
use http::StatusCode;
use serde_json::{Value, json};

async fn login(app: &TestApp, username: &str, password: &str) -> common::Answer {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut body = session(username, &csr(&key));
    body["password"] = json!(password);
    app.post("/v1/sessions", "", body).await
}

async fn again(app: &TestApp, peer: &Peer, username: &str) -> common::Answer {
    app.post("/v1/sessions", "", session(username, &csr(&peer.key))).await
}

async fn trust(app: &TestApp, peer: &Peer, groups: &str) -> Value {
    let answer = app.get(&format!("/v1/trust{groups}"), &peer.token).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()
}

fn revoked(trust: &Value) -> BTreeSet<(Option<String>, String)> {
    let items = trust["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            (item["peer_id"].as_str().map(str::to_owned), item["username"].as_str().unwrap().to_owned())
        })
        .collect()
}

#[tokio::test]
async fn members_learn_which_names_are_accounts() {
    let app = app();
    let (ana, _) = (app.join("ana").await, app.join("bob").await);
    let ask = async |token: &str, names: Vec<String>| {
        app.post("/v1/accounts/lookup", token, json!({ "usernames": names })).await
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let found = ask(&ana.token, names(&["nobody", "bob", "ana"])).await;
    assert_eq!((found.status, found.json()), (StatusCode::OK, json!({ "usernames": ["bob", "ana"] })));
    assert_eq!(ask("", names(&["ana"])).await.problem(), "401 unauthenticated");
    assert_eq!(ask(&ana.token, names(&[])).await.problem(), "400 invalid_argument");
    assert_eq!(ask(&ana.token, names(&["No Name"])).await.problem(), "400 invalid_argument");
    let many = |count| (0..count).map(|n| format!("user{n}")).collect();
    assert_eq!(ask(&ana.token, many(1_000)).await.json(), json!({ "usernames": [] }));
    assert_eq!(ask(&ana.token, many(1_001)).await.problem(), "413 too_large");
}

#[tokio::test]
async fn groups_are_made_changed_and_hidden() {
    let app = app();
    let (ana, bob, eve) = (app.join("ana").await, app.join("bob").await, app.join("eve").await);
    let body = json!({ "name": "lab", "members": ["bob", "bob"] });
    let made = app.post("/v1/groups", &ana.token, body.clone()).await;
    let lab = json!({ "name": "lab", "owner": "ana", "members": ["bob"] });
    assert_eq!((made.status, made.json()), (StatusCode::CREATED, lab.clone()));
    for token in [&ana.token, &eve.token] {
        assert_eq!(app.post("/v1/groups", token, body.clone()).await.problem(), "409 already_exists");
    }
    for bad in
        [json!({ "name": "La" }), json!({ "name": "@lab" }), json!({}), json!({ "name": "x1y", "x": 1 })]
    {
        assert_eq!(app.post("/v1/groups", &ana.token, bad).await.problem(), "400 invalid_argument");
    }
    let many: Vec<String> = (0..1001).map(|n| format!("user{n}")).collect();
    let many = app.post("/v1/groups", &ana.token, json!({ "name": "all", "members": many })).await;
    assert_eq!(many.problem(), "413 too_large");
    let unknown = app.post("/v1/groups", &ana.token, json!({ "name": "all", "members": ["nobody"] })).await;
    assert_eq!(unknown.problem(), "422 unprocessable");

    for token in [&ana.token, &bob.token] {
        assert_eq!(app.get("/v1/groups/lab", token).await.json(), lab);
        let listed = app.get("/v1/groups", token).await.json();
        assert_eq!(listed, json!({ "items": [lab], "next_cursor": null }));
    }
    assert_eq!(app.get("/v1/groups/lab", &eve.token).await.problem(), "404 not_found");
    let listed = app.get("/v1/groups", &eve.token).await.json();
    assert_eq!(listed, json!({ "items": [], "next_cursor": null }));

    let eves = "/v1/groups/lab/members/eve";
    for (method, path) in [("PUT", eves), ("DELETE", eves), ("DELETE", "/v1/groups/lab")] {
        assert_eq!(app.call(method, path, &eve.token, None).await.problem(), "404 not_found", "{path}");
        assert_eq!(app.call(method, path, &bob.token, None).await.problem(), "403 permission_denied");
    }
    for method in ["PUT", "PUT", "DELETE", "DELETE"] {
        assert_eq!(app.call(method, eves, &ana.token, None).await.status, StatusCode::NO_CONTENT);
    }
    let nobody = app.call("PUT", "/v1/groups/lab/members/nobody", &ana.token, None).await;
    assert_eq!(nobody.problem(), "404 not_found");
    assert_eq!(app.call("DELETE", "/v1/groups/lab", &ana.token, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(app.get("/v1/groups/lab", &ana.token).await.problem(), "404 not_found");
}

#[tokio::test]
async fn a_file_for_a_group_is_there_for_its_members_alone() {
    let app = app();
    let (ana, bob, eve) = (app.join("ana").await, app.join("bob").await, app.join("eve").await);
    app.post("/v1/groups", &ana.token, json!({ "name": "lab", "members": ["bob"] })).await;
    let mut secret = file("plan.txt");
    secret["audience"] = json!(["@lab"]);
    app.announce(&ana, json!([secret, file("open plan.txt")])).await;
    let plan = id("plan.txt");
    for (peer, sees) in [(&ana, true), (&bob, true), (&eve, false)] {
        let found = app.get("/v1/search?q=plan", &peer.token).await.json();
        assert_eq!(found["items"].as_array().unwrap().len(), if sees { 2 } else { 1 });
        let page = app.get("/v1/search?q=plan&limit=1", &peer.token).await.json();
        assert_eq!(page["next_cursor"].is_null(), !sees, "no cursor tells of what is hidden");
        let status = if sees { StatusCode::OK } else { StatusCode::NOT_FOUND };
        assert_eq!(app.get(&format!("/v1/files/{plan}"), &peer.token).await.status, status);
        let report = json!({ "peer_id": ana.id, "kind": "unreachable" });
        let told = app.post(&format!("/v1/files/{plan}/reports"), &peer.token, report).await;
        assert_eq!(told.status.is_success(), sees, "a report is no way to guess");
        let shown = app.get(&format!("/v1/peers/{}", ana.id), &peer.token).await.json();
        assert_eq!(shown["files"], if sees { 2 } else { 1 });
        let files = app.get(&format!("/v1/peers/{}/files?limit=1", ana.id), &peer.token).await.json();
        assert_eq!(files["next_cursor"].is_null(), !sees);
    }
    // Cursors are sealed, and of one call.
    let page = app.get("/v1/search?q=plan&limit=1", &bob.token).await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = app.get(&format!("/v1/search?q=plan&limit=1&cursor={cursor}"), &bob.token).await.json();
    assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
    let elsewhere = app.get(&format!("/v1/peers/{}/files?cursor={cursor}", ana.id), &bob.token).await;
    assert_eq!(elsewhere.problem(), "400 invalid_argument");
}

#[tokio::test]
async fn sessions_are_listed_and_ended_by_their_account_alone() {
    let app = app();
    let (first, bob) = (app.join("ana").await, app.join("bob").await);
    app.pass(10);
    let second = app.peer_of("ana").await;
    let listed = app.get("/v1/sessions", &first.token).await.json();
    let listed = listed["items"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    let of = |peer: &Peer| listed.iter().find(|item| item["peer_id"] == peer.id.as_str()).unwrap();
    let expected = json!({
        "peer_id": second.id, "endpoints": ["127.0.0.1:50051"], "version": "0.1.0",
        "created": "2026-11-22T12:00:10Z", "last_seen": "2026-11-22T12:00:10Z", "online": true, "current": false,
    });
    assert_eq!(of(&second), &expected);
    assert_eq!(
        (&of(&first)["current"], &of(&first)["created"]),
        (&json!(true), &json!("2026-11-22T12:00:00Z"))
    );

    let path = format!("/v1/sessions/{}", second.id);
    assert_eq!(app.call("DELETE", &path, &bob.token, None).await.problem(), "404 not_found");
    assert_eq!(app.get("/v1/sessions", &second.token).await.status, StatusCode::OK);
    let before = trust(&app, &bob, "").await;
    assert_eq!(app.call("DELETE", &path, &first.token, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(app.get("/v1/sessions", &second.token).await.problem(), "401 unauthenticated");
    let renewed = app.call("PUT", "/v1/sessions/current", &bob.token, Some(json!({}))).await.json();
    assert_ne!(renewed["trust_revision"], before["trust_revision"]);
    let after = trust(&app, &bob, "").await;
    assert_eq!(after["trust_revision"], renewed["trust_revision"]);
    assert_eq!(revoked(&after), [(Some(second.id.clone()), "ana".to_owned())].into());

    // A login makes it good; a day later nobody has to remember.
    let renewed = again(&app, &second, "ana").await;
    assert_eq!(renewed.status, StatusCode::CREATED);
    assert_eq!(revoked(&trust(&app, &bob, "").await), BTreeSet::new());
    let path = format!("/v1/sessions/{}", first.id);
    assert_eq!(app.call("DELETE", &path, &first.token, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(revoked(&trust(&app, &bob, "").await).len(), 1);
    app.pass(2 * 24 * 3600);
    assert_eq!(revoked(&trust(&app, &bob, "").await), BTreeSet::new());
}

#[tokio::test]
async fn trust_comes_in_pages_and_tells_of_ones_own_groups() {
    let app = app();
    let (ana, bob) = (app.join("ana").await, app.join("bob").await);
    app.post("/v1/groups", &ana.token, json!({ "name": "lab", "members": [] })).await;
    let groups = trust(&app, &ana, "?groups=lab,other").await["groups"].clone();
    assert_eq!(groups, json!([{ "name": "lab", "owner": "ana", "members": [] }]));
    assert_eq!(trust(&app, &bob, "?groups=lab").await["groups"], json!([]));
    for _ in 0..3 {
        let peer = app.peer_of("ana").await;
        app.call("DELETE", &format!("/v1/sessions/{}", peer.id), &peer.token, None).await;
    }
    let (mut all, mut cursor) = (BTreeSet::new(), String::new());
    for page in 0..3 {
        let answer = trust(&app, &bob, &format!("?limit=1{cursor}")).await;
        all.extend(revoked(&answer));
        assert_eq!(answer["next_cursor"].is_null(), page == 2);
        cursor = format!("&cursor={}", answer["next_cursor"].as_str().unwrap_or_default());
    }
    assert_eq!(all.len(), 3);
    let many = vec!["lab"; 51].join(",");
    for bad in ["?groups=", "?groups=La", "?groups=lab,,x", "?limit=0", &format!("?groups={many}")] {
        assert_eq!(
            app.get(&format!("/v1/trust{bad}"), &bob.token).await.problem(),
            "400 invalid_argument",
            "{bad}"
        );
    }
}

#[tokio::test]
async fn a_closed_account_is_revoked_and_may_be_opened_again() {
    let app = app();
    let (ana, bob) = (app.join("ana").await, app.join("bob").await);
    let call = async |word: &str, token: &str| {
        app.call("POST", &format!("/v1/accounts/ana/{word}"), token, None).await
    };
    assert_eq!(call("enable", &bob.token).await.problem(), "401 unauthenticated");
    assert_eq!(call("disable", ADMIN).await.status, StatusCode::NO_CONTENT);
    assert_eq!(app.get("/v1/peers", &ana.token).await.problem(), "401 unauthenticated");
    assert_eq!(again(&app, &ana, "ana").await.problem(), "403 permission_denied");
    assert_eq!(app.register("ana").await.problem(), "409 already_exists", "the name stays taken");
    let told = revoked(&trust(&app, &bob, "").await);
    assert_eq!(told, [(None, "ana".to_owned()), (Some(ana.id.clone()), "ana".to_owned())].into());
    // Nothing of hers is where letters would go.
    let shown = app.get(&format!("/v1/peers/{}", ana.id), &bob.token).await.json();
    assert_eq!((&shown["sealing_key"], &shown["endpoints"]), (&json!(""), &json!([])));
    assert_eq!(call("enable", ADMIN).await.status, StatusCode::NO_CONTENT);
    assert_eq!(
        app.get("/v1/peers", &ana.token).await.problem(),
        "401 unauthenticated",
        "what ended has ended"
    );
    assert_eq!(again(&app, &ana, "ana").await.status, StatusCode::CREATED);
    assert_eq!(revoked(&trust(&app, &bob, "").await), BTreeSet::new());
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_or_the_admin() {
    let app = app();
    let (ana, bob) = (app.join("ana").await, app.join("bob").await);
    let other = app.peer_of("ana").await;
    let set = async |token: &str, body: Value| {
        app.call("PUT", "/v1/accounts/ana/password", token, Some(body)).await
    };
    let good = json!({ "current": PASSWORD, "new": "better horse" });
    assert_eq!(set(&bob.token, good.clone()).await.problem(), "403 permission_denied");
    assert_eq!(set("", good.clone()).await.problem(), "401 unauthenticated");
    let wrong = json!({ "current": "a wrong guess", "new": "better horse" });
    assert_eq!(set(&ana.token, wrong).await.problem(), "403 permission_denied");
    assert_eq!(set(&ana.token, json!({ "new": "better horse" })).await.problem(), "400 invalid_argument");
    let short = json!({ "current": PASSWORD, "new": "short" });
    assert_eq!(set(&ana.token, short).await.problem(), "400 invalid_argument");
    assert_eq!(login(&app, "ana", PASSWORD).await.status, StatusCode::CREATED, "nothing has changed");

    assert_eq!(set(&ana.token, good).await.status, StatusCode::NO_CONTENT);
    assert_eq!(login(&app, "ana", PASSWORD).await.problem(), "401 unauthenticated");
    assert_eq!(login(&app, "ana", "better horse").await.status, StatusCode::CREATED);
    assert_eq!(app.get("/v1/peers", &other.token).await.problem(), "401 unauthenticated");
    assert_eq!(app.get("/v1/peers", &ana.token).await.status, StatusCode::OK, "the session that changed it");
    assert!(revoked(&trust(&app, &ana, "").await).contains(&(Some(other.id), "ana".to_owned())));

    assert_eq!(set(ADMIN, json!({ "new": "by the admin" })).await.status, StatusCode::NO_CONTENT);
    assert_eq!(app.get("/v1/peers", &ana.token).await.problem(), "401 unauthenticated");
    app.pass(60);
    assert_eq!(login(&app, "ana", "by the admin").await.status, StatusCode::CREATED);
    let unknown =
        app.call("PUT", "/v1/accounts/nobody/password", ADMIN, Some(json!({ "new": "by the admin" })));
    assert_eq!(unknown.await.problem(), "404 not_found");
}

#[tokio::test]
async fn a_login_costs_the_same_whoever_it_is() {
    let app = app();
    app.join("ana").await;
    app.join("closed").await;
    app.call("POST", "/v1/accounts/closed/disable", ADMIN, None).await;
    for (name, password) in
        [("ana", "a wrong guess"), ("nobody", "a wrong guess"), ("closed", "a wrong guess")]
    {
        let before = app.passwords.verified();
        let refused = login(&app, name, password).await;
        assert_eq!(refused.problem(), "401 unauthenticated", "{name}");
        assert_eq!(refused.json()["detail"], "the username or the password is wrong", "{name}");
        assert_eq!(app.passwords.verified() - before, 1, "{name}");
    }
}

#[tokio::test]
async fn a_machine_that_goes_over_to_another_account_takes_nothing_along() {
    let app = app();
    let (ana, bob) = (app.join("ana").await, app.join("bob").await);
    app.announce(&ana, json!([file("song.mp3")])).await;
    app.register("eve").await;
    assert_eq!(again(&app, &ana, "eve").await.status, StatusCode::CREATED);
    assert_eq!(app.get("/v1/peers", &ana.token).await.problem(), "401 unauthenticated");
    let gone = app.get(&format!("/v1/files/{}", id("song.mp3")), &bob.token).await;
    assert_eq!(gone.problem(), "404 not_found");
    // The certificate that names ana goes on for a day, and nobody takes it.
    let told = revoked(&trust(&app, &bob, "").await);
    assert_eq!(told, [(Some(ana.id.clone()), "ana".to_owned())].into());
}
