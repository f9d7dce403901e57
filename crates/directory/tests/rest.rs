//! The REST API through its router: what each call answers, and what time does to it.

mod common;

use common::{ADMIN, PASSWORD, app, app_with, csr, file, id, open, session};
use directory::config::{Config, Registration};
use http::{StatusCode, header};
use insta::{assert_json_snapshot, assert_snapshot};
use serde_json::{Value, json};

#[tokio::test]
async fn public_calls() {
    let app = app();
    for (path, text) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
        let answer = app.get(path, "").await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::OK, text));
    }
    assert_eq!(app.get("/metrics", "").await.status, StatusCode::OK);
    let ca = app.get("/v1/ca.pem", "").await;
    assert_eq!(ca.headers[header::CONTENT_TYPE], "application/x-pem-file");
    assert!(ca.text.starts_with("-----BEGIN CERTIFICATE-----"));
}

#[tokio::test]
async fn registering() {
    let app = app();
    let answer = app.register("ana").await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_json_snapshot!(answer.json(), @r#"
    {
      "username": "ana"
    }
    "#);
    assert_eq!(app.register("ana").await.problem(), "409 already_exists");
    assert_eq!(app.register("An").await.problem(), "400 invalid_argument");
    let short = json!({ "username": "bob", "password": "1234567" });
    assert_eq!(app.post("/v1/accounts", "", short).await.problem(), "400 invalid_argument");
    let long = json!({ "username": "bob", "password": "x".repeat(1025) });
    assert_eq!(app.post("/v1/accounts", "", long).await.problem(), "400 invalid_argument");
}

#[tokio::test]
async fn registering_by_invite_or_not_at_all() {
    let app = app_with(|config| Config { registration: Registration::Invite, ..config });
    assert_eq!(app.register("ana").await.problem(), "403 permission_denied");
    let invites = json!({ "uses": 1, "expires_in": 60 });
    assert_eq!(app.post("/v1/invites", "", invites.clone()).await.problem(), "401 unauthenticated");
    assert_eq!(app.post("/v1/invites", "wrong", invites.clone()).await.problem(), "401 unauthenticated");
    let answer = app.post("/v1/invites", ADMIN, invites.clone()).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let by = |invite: &Value, username: &str| json!({ "username": username, "password": PASSWORD, "invite": invite });
    let invite = &answer.json()["invite"];
    assert_eq!(app.post("/v1/accounts", "", by(&json!("x"), "ana")).await.problem(), "403 permission_denied");
    assert_eq!(app.post("/v1/accounts", "", by(invite, "ana")).await.status, StatusCode::CREATED);
    assert_eq!(app.post("/v1/accounts", "", by(invite, "bob")).await.problem(), "403 permission_denied");
    let late = app.post("/v1/invites", ADMIN, invites).await.json()["invite"].clone();
    app.pass(60);
    assert_eq!(app.post("/v1/accounts", "", by(&late, "bob")).await.problem(), "403 permission_denied");
    for bad in [json!({ "uses": 0, "expires_in": 60 }), json!({ "uses": 1, "expires_in": 1_u64 << 40 })] {
        assert_eq!(app.post("/v1/invites", ADMIN, bad).await.problem(), "400 invalid_argument");
    }

    let closed =
        app_with(|config| Config { registration: Registration::Closed, admin_token: None, ..config });
    assert_eq!(closed.register("ana").await.problem(), "403 permission_denied");
    let answer = closed.post("/v1/invites", ADMIN, json!({ "uses": 1, "expires_in": 60 })).await;
    assert_eq!(answer.problem(), "403 permission_denied");
}

#[tokio::test]
async fn a_session() {
    let app = app_with(|config| Config { amqp_url: Some("amqp://broker".to_owned().into()), ..config });
    let peer = app.join("ana").await;
    assert_json_snapshot!(peer.session, {
        ".token" => "[token]", ".peer_id" => "[peer]", ".certificate_pem" => "[pem]", ".ca_pem" => "[pem]",
        ".trust_revision" => "[number]",
    }, @r#"
    {
      "broker": {
        "url": "amqp://broker"
      },
      "ca_pem": "[pem]",
      "catalog_revision": 0,
      "certificate_pem": "[pem]",
      "lease_seconds": 30,
      "peer_id": "[peer]",
      "token": "[token]",
      "trust_revision": "[number]"
    }
    "#);
    let renewed = app.call("PUT", "/v1/sessions/current", &peer.token, Some(json!({}))).await;
    assert_json_snapshot!(renewed.json(), { ".trust_revision" => "[number]" }, @r#"
    {
      "broker": {
        "url": "amqp://broker"
      },
      "catalog_revision": 0,
      "lease_seconds": 30,
      "trust_revision": "[number]"
    }
    "#);
    let sealing_key = async || {
        let own = app.get(&format!("/v1/peers/{}", peer.id), &peer.token).await.json();
        own["sealing_key"].as_str().unwrap().to_owned()
    };
    assert_eq!(sealing_key().await, "ab".repeat(32));
    let with_key = json!({ "sealing_key": "cd".repeat(32) });
    assert_eq!(
        app.call("PUT", "/v1/sessions/current", &peer.token, Some(with_key)).await.status,
        StatusCode::OK
    );
    assert_eq!(sealing_key().await, "cd".repeat(32));
    let with_nonsense = json!({ "sealing_key": "xy" });
    let refused = app.call("PUT", "/v1/sessions/current", &peer.token, Some(with_nonsense)).await;
    assert_eq!(refused.problem(), "400 invalid_argument");
    let with_csr = json!({ "csr_pem": csr(&peer.key), "endpoints": [] });
    let renewed = app.call("PUT", "/v1/sessions/current", &peer.token, Some(with_csr)).await.json();
    assert!(renewed["certificate_pem"].as_str().unwrap().starts_with("-----BEGIN"));
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let of_other = json!({ "csr_pem": csr(&other) });
    let refused = app.call("PUT", "/v1/sessions/current", &peer.token, Some(of_other)).await;
    assert_eq!(refused.problem(), "400 invalid_argument");

    let gone = app.call("DELETE", "/v1/sessions/current", &peer.token, None).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(app.get("/v1/peers", &peer.token).await.problem(), "401 unauthenticated");
}

#[tokio::test]
async fn logging_in_needs_the_password_of_an_account_that_is_not_disabled() {
    let app = app();
    let peer = app.join("ana").await;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let wrong = |member: &str, value: Value| {
        let mut session = session("ana", &csr(&key));
        session[member] = value;
        session
    };
    for (member, value, problem) in [
        ("password", json!("wrong horse"), "401 unauthenticated"),
        ("password", json!("x".repeat(2000)), "401 unauthenticated"),
        ("username", json!("nobody"), "401 unauthenticated"),
        ("csr_pem", json!("no pem"), "400 invalid_argument"),
        ("csr_pem", json!("x".repeat(20_000)), "400 invalid_argument"),
        ("sealing_key", json!("AB".repeat(32)), "400 invalid_argument"),
        ("endpoints", json!(["nowhere"]), "400 invalid_argument"),
        ("endpoints", json!(vec!["a:1"; 17]), "400 invalid_argument"),
        ("version", json!("x".repeat(65)), "400 invalid_argument"),
    ] {
        let answer = app.post("/v1/sessions", "", wrong(member, value)).await;
        assert_eq!(answer.problem(), problem, "{member}");
    }
    let disable = |token| app.call("POST", "/v1/accounts/ana/disable", token, None);
    assert_eq!(disable(&peer.token).await.problem(), "401 unauthenticated");
    assert_eq!(disable(ADMIN).await.status, StatusCode::NO_CONTENT);
    assert_eq!(app.get("/v1/peers", &peer.token).await.problem(), "401 unauthenticated");
    app.pass(60);
    let answer = app.post("/v1/sessions", "", session("ana", &csr(&peer.key))).await;
    assert_eq!(answer.problem(), "403 permission_denied");
    let unknown = app.call("POST", "/v1/accounts/nobody/disable", ADMIN, None).await;
    assert_eq!(unknown.problem(), "404 not_found");
}

#[tokio::test]
async fn keys_must_be_ed25519_and_must_have_signed() {
    let app = app();
    app.register("ana").await;
    let ecdsa = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let answer = app.post("/v1/sessions", "", session("ana", &csr(&ecdsa))).await;
    assert_eq!(answer.problem(), "400 invalid_argument");
    assert!(answer.text.contains("Ed25519"), "{}", answer.text);

    // One byte of the signature, which is what the request ends with.
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut der =
        rcgen::CertificateParams::new(Vec::new()).unwrap().serialize_request(&key).unwrap().der().to_vec();
    *der.last_mut().unwrap() ^= 1;
    use base64::{Engine, prelude::BASE64_STANDARD};
    let forged = format!(
        "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
        BASE64_STANDARD.encode(der)
    );
    let answer = app.post("/v1/sessions", "", session("ana", &forged)).await;
    assert_eq!(answer.problem(), "400 invalid_argument");
    assert!(answer.text.contains("not signed by the key"), "{}", answer.text);
}

#[tokio::test]
async fn guessing_passwords_is_slowed_down() {
    let app = app();
    let peer = app.join("ana").await;
    let mut attempt = session("ana", &csr(&peer.key));
    attempt["password"] = json!("wrong horse");
    let mut last = None;
    for _ in 0..12 {
        last = Some(app.post("/v1/sessions", "", attempt.clone()).await);
    }
    let last = last.unwrap();
    assert_eq!(last.problem(), "429 rate_limited");
    let wait: u64 = last.headers[header::RETRY_AFTER].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
}

#[tokio::test]
async fn a_catalog_and_its_conflicts() {
    let app = app();
    let ana = app.join("ana").await;
    let delta = |base: u64, revision: u64, name: &str| json!({ "base_revision": base, "revision": revision, "put": [file(name)], "remove": [] });
    let answer = app.post("/v1/catalog", &ana.token, delta(0, 1, "a.txt")).await;
    assert_json_snapshot!(answer.json(), @r#"
    {
      "revision": 1
    }
    "#);
    let again = app.post("/v1/catalog", &ana.token, delta(0, 1, "a.txt")).await;
    assert_eq!(again.status, StatusCode::OK);
    let conflict = app.post("/v1/catalog", &ana.token, delta(7, 8, "b.txt")).await;
    assert_json_snapshot!(conflict.json(), { ".request_id" => "[id]" }, @r#"
    {
      "code": "conflict",
      "detail": "the catalog of this peer is at revision 1",
      "request_id": "[id]",
      "revision": 1,
      "status": 409,
      "title": "The state has moved on",
      "type": "about:blank"
    }
    "#);
    let reset = json!({ "base_revision": 0, "revision": 1, "reset": true, "put": [], "remove": [] });
    assert_eq!(app.post("/v1/catalog", &ana.token, reset).await.status, StatusCode::OK);
    assert_eq!(app.get(&format!("/v1/files/{}", id("a.txt")), &ana.token).await.problem(), "404 not_found");
}

#[tokio::test]
async fn entries_that_are_refused_are_named() {
    let app = app();
    let ana = app.join("ana").await;
    let refused = async |member: &str, value: Value| {
        let mut entry = file("good");
        entry[member] = value;
        let delta = json!({ "base_revision": 0, "revision": 1, "put": [file("first"), entry] });
        let answer = app.post("/v1/catalog", &ana.token, delta).await;
        assert_eq!(answer.problem(), "400 invalid_argument", "{member}");
        answer.json()["detail"].as_str().unwrap().to_owned()
    };
    assert_snapshot!(refused("name", json!("../x")).await, @r#"`put[1]` ("../x"): a file name has the part `..`, which leads elsewhere"#);
    assert_snapshot!(refused("name", json!("\u{1b}[2J")).await, @r#"`put[1]` ("\u{1b}[2J"): a file name has the character U+001B, which is not allowed"#);
    assert_snapshot!(refused("size", json!(1_u64 << 43)).await, @r#"`put[1]` ("good"): a file of 8796093022208 bytes is larger than the 4398046511104 bytes that can be shared"#);
    assert_snapshot!(refused("pieces_held", json!(2)).await, @r#"`put[1]` ("good"): `pieces_held` is 2, of a file of 1 pieces"#);
    assert_snapshot!(refused("media_type", json!("x")).await, @r#"`put[1]` ("good"): `media_type` is not `type/subtype` of at most 127 characters"#);

    let many = json!({ "base_revision": 0, "revision": 1, "put": vec![file("x"); 10_001] });
    assert_eq!(app.post("/v1/catalog", &ana.token, many).await.problem(), "413 too_large");
    // As large as an honest delta can be, nearly.
    let put: Vec<Value> =
        (0..10_000).map(|n| file(&format!("{n}{}", format!("/{}", "y".repeat(200)).repeat(4)))).collect();
    let honest = json!({ "base_revision": 0, "revision": 1, "put": put });
    assert!(honest.to_string().len() > 8 << 20);
    assert_eq!(app.post("/v1/catalog", &ana.token, honest).await.status, StatusCode::OK);
}

#[tokio::test]
async fn searching_locating_and_leases() {
    let app = app();
    let (ana, bob) = (app.join("ana").await, app.join("bob").await);
    let film = json!({
        "content_id": id("film"), "name": "A Film (2024).mkv", "size": 2_000_000, "media_type": "Video/X-Matroska",
        "pieces_held": 2,
    });
    app.announce(&ana, json!([film, file("notes.txt")])).await;
    app.announce(
        &bob,
        json!([{ "content_id": id("film"), "name": "film.mkv", "size": 2_000_000, "pieces_held": 1 }]),
    )
    .await;

    let found = app.get("/v1/search?q=2024+film", &bob.token).await.json();
    assert_json_snapshot!(found, { ".items[].content_id" => "[id]" }, @r#"
    {
      "items": [
        {
          "complete": true,
          "content_id": "[id]",
          "holders": 2,
          "media_type": "video/x-matroska",
          "name": "A Film (2024).mkv",
          "online": 2,
          "size": 2000000
        }
      ],
      "next_cursor": null
    }
    "#);
    let located = app.get(&format!("/v1/files/{}", id("film")), &bob.token).await.json();
    assert_json_snapshot!(located, { ".content_id" => "[id]", ".holders[].peer_id" => "[peer]" }, @r#"
    {
      "content_id": "[id]",
      "holders": [
        {
          "endpoints": [
            "127.0.0.1:50051"
          ],
          "last_seen": "2026-11-22T12:00:00Z",
          "online": true,
          "peer_id": "[peer]",
          "pieces_held": 2,
          "relay": false,
          "sealing_key": "abababababababababababababababababababababababababababababababab",
          "size": 2000000,
          "username": "ana"
        },
        {
          "endpoints": [
            "127.0.0.1:50051"
          ],
          "last_seen": "2026-11-22T12:00:00Z",
          "online": true,
          "peer_id": "[peer]",
          "pieces_held": 1,
          "relay": false,
          "sealing_key": "abababababababababababababababababababababababababababababababab",
          "size": 2000000,
          "username": "bob"
        }
      ],
      "names": [
        "A Film (2024).mkv",
        "film.mkv"
      ],
      "size": 2000000
    }
    "#);
    let many = json!({ "content_ids": [id("nothing"), id("film"), id("notes.txt")] });
    let many = app.post("/v1/files/locate", &bob.token, many).await.json();
    assert_eq!(
        many["items"][0]["holders"],
        json!([
            { "peer": 0, "size": 2_000_000, "pieces_held": 2 },
            { "peer": 1, "size": 2_000_000, "pieces_held": 1 },
        ])
    );
    assert_eq!(many["items"][1]["name"], "notes.txt");
    assert_eq!(many["peers"][1]["username"], "bob");

    // Only Bob is heard of again.
    app.pass(20);
    app.call("PUT", "/v1/sessions/current", &bob.token, Some(json!({}))).await;
    app.pass(10);
    let item = app.get("/v1/search?q=film&online=true", &bob.token).await.json()["items"][0].clone();
    assert_eq!((&item["online"], &item["complete"]), (&json!(1), &json!(false)));
    let notes = app.get("/v1/search?q=notes&online=true", &bob.token).await.json();
    assert_eq!(notes["items"], json!([]));
    app.pass(20);
    let peers = app.get("/v1/peers", &bob.token).await.json();
    assert!(peers["items"].as_array().unwrap().iter().all(|peer| peer["online"] == false));
    // A session outlives its lease.
    let renewed = app.call("PUT", "/v1/sessions/current", &ana.token, Some(json!({}))).await;
    assert_eq!(renewed.status, StatusCode::OK);
}

#[tokio::test]
async fn peers_reports_and_pages() {
    let app = app();
    let (ana, bob) = (app.join("ana").await, app.join("bob").await);
    app.announce(&ana, json!((0..5).map(|n| file(&format!("{n}.txt"))).collect::<Vec<_>>())).await;
    let peer = app.get(&format!("/v1/peers/{}", ana.id), &bob.token).await.json();
    assert_json_snapshot!(peer, { ".peer_id" => "[peer]", ".sealing_key" => "[key]" }, @r#"
    {
      "endpoints": [
        "127.0.0.1:50051"
      ],
      "files": 5,
      "last_seen": "2026-11-22T12:00:00Z",
      "online": true,
      "peer_id": "[peer]",
      "relay": false,
      "sealing_key": "[key]",
      "username": "ana",
      "version": "0.1.0"
    }
    "#);
    for path in ["/v1/search?limit=2&q=txt".to_owned(), format!("/v1/peers/{}/files?limit=2", ana.id)] {
        let mut names = std::collections::BTreeSet::new();
        let mut next = String::new();
        for size in [2, 2, 1] {
            let page = app.get(&format!("{path}{next}"), &bob.token).await.json();
            assert_eq!(page["items"].as_array().unwrap().len(), size, "{path}");
            names.extend(page["items"].as_array().unwrap().iter().map(|item| item["name"].to_string()));
            next = page["next_cursor"].as_str().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        }
        assert_eq!((names.len(), next.as_str()), (5, ""), "{path}");
    }
    let of_ana = app.get("/v1/peers?username=ana", &bob.token).await.json();
    assert_eq!((&of_ana["items"][0]["username"], &of_ana["next_cursor"]), (&json!("ana"), &Value::Null));
    assert_eq!(of_ana["items"].as_array().unwrap().len(), 1);
    assert_eq!(app.get("/v1/peers?username=eve", &bob.token).await.json()["items"], json!([]));
    assert_eq!(app.get("/v1/peers?username=Eve", &bob.token).await.problem(), "400 invalid_argument");
    let first = app.get("/v1/peers?limit=1", &bob.token).await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = app.get(&format!("/v1/peers?limit=1&cursor={cursor}"), &bob.token).await.json();
    assert_ne!(first["items"], second["items"]);
    assert_eq!(second["next_cursor"], Value::Null);

    let report = |content: &str, peer: &str, kind: &str| {
        (format!("/v1/files/{}/reports", id(content)), json!({ "peer_id": peer, "kind": kind }))
    };
    let (path, body) = report("1.txt", &ana.id, "corrupt");
    assert_eq!(app.post(&path, &bob.token, body).await.status, StatusCode::NO_CONTENT);
    let (path, body) = report("1.txt", &bob.id, "missing");
    assert_eq!(app.post(&path, &bob.token, body).await.problem(), "404 not_found");
    let (path, body) = report("1.txt", &ana.id, "boring");
    assert_eq!(app.post(&path, &bob.token, body).await.problem(), "400 invalid_argument");
}

#[tokio::test]
async fn what_is_shared_with_some_is_hidden_from_others() {
    let app = app();
    let (ana, bob, carl) = (app.join("ana").await, app.join("bob").await, app.join("carl").await);
    let mut secret = file("secret.txt");
    secret["audience"] = json!(["carl"]);
    app.announce(&ana, json!([secret])).await;
    for (peer, sees) in [(&ana, 1), (&bob, 0), (&carl, 1)] {
        let found = app.get("/v1/search?q=secret", &peer.token).await.json();
        assert_eq!(found["items"].as_array().unwrap().len(), sees);
        let located = app.get(&format!("/v1/files/{}", id("secret.txt")), &peer.token).await;
        assert_eq!(located.status, if sees == 1 { StatusCode::OK } else { StatusCode::NOT_FOUND });
        let files = app.get(&format!("/v1/peers/{}/files", ana.id), &peer.token).await.json();
        assert_eq!(files["items"].as_array().unwrap().len(), sees);
        let item = app.get(&format!("/v1/peers/{}", ana.id), &peer.token).await.json();
        assert_eq!(item["files"], sees);
    }
}

#[tokio::test]
async fn the_same_folder_opens_again() {
    let app = app();
    let ana = app.join("ana").await;
    app.announce(&ana, json!([file("a.txt")])).await;
    let ca = app.get("/v1/ca.pem", "").await.text;
    let (config, clock) = (app.config.clone(), app.clock.clone());
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(config.data_dir.join(name)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("ca.key"), mode("")), (0o600, 0o700));

    let (folder, passwords) = (app.folder.clone(), app.passwords.clone());
    drop(app);
    let again = common::TestApp {
        router: directory::http::router(open(&config, &clock)),
        clock,
        config,
        folder,
        passwords,
    };
    assert_eq!(again.get("/v1/ca.pem", "").await.text, ca);
    let found = again.get("/v1/search?q=a.txt", &ana.token).await.json();
    assert_eq!(found["items"][0]["online"], 1);
}
