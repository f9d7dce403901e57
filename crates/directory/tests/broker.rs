//! The directory as the authority of the broker: what peers are told, and what RabbitMQ is answered.

#![expect(clippy::unwrap_used, reason = "help for tests")]

mod common;

use std::net::SocketAddr;

use axum::body::Body;
use common::{ADMIN, Answer, Peer, TestApp, app, app_with, open};
use daemon::serve::RemoteAddr;
use directory::config::Config;
use http::{Request, StatusCode, header};
use serde_json::{Value, json};

const BROKER: &str = "amqps://broker:5671?auth=directory";

fn authority() -> TestApp {
    app_with(|config| Config { amqp_url: Some(BROKER.to_owned().into()), ..config })
}

/// A question, as the plugin asks it, from an address; `headers` are further ones.
async fn ask(
    app: &TestApp,
    path: &str,
    from: &str,
    headers: &[(&str, &str)],
    form: &[(&str, &str)],
) -> Answer {
    let body = serde_urlencoded::to_string(form).unwrap();
    let mut request = Request::post(format!("/v1/broker/{path}"))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::from(body)).unwrap();
    let from: SocketAddr = from.parse().unwrap();
    request.extensions_mut().insert(RemoteAddr(from));
    app.send(request).await
}

/// `allow` or `deny`, asked from this machine.
async fn verdict(app: &TestApp, path: &str, form: &[(&str, &str)]) -> String {
    let answer = ask(app, path, "127.0.0.1:1", &[], form).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(answer.headers[header::CONTENT_TYPE], "text/plain");
    answer.text
}

async fn login(app: &TestApp, peer: &str, password: &str) -> String {
    verdict(app, "user", &[("username", peer), ("password", password)]).await
}

/// The one of a peer's two users that takes.
fn takes(peer: &Peer) -> String {
    format!("{}.takes", peer.id)
}

/// What the plugin asks about a queue or an exchange.
async fn resource(app: &TestApp, user: &str, kind: &str, name: &str, permission: &str) -> String {
    let form = [
        ("username", user),
        ("vhost", "/"),
        ("resource", kind),
        ("name", name),
        ("permission", permission),
        ("tags", ""),
    ];
    verdict(app, "resource", &form).await
}

async fn topic(app: &TestApp, user: &str, name: &str, permission: &str, key: &str) -> String {
    let form = [
        ("username", user),
        ("vhost", "/"),
        ("resource", "topic"),
        ("name", name),
        ("permission", permission),
        ("tags", ""),
        ("routing_key", key),
        ("variable_map.username", user),
    ];
    verdict(app, "topic", &form).await
}

fn password(broker: &Value) -> String {
    broker["password"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_peer_is_told_who_it_is_there_and_the_next_password_in_time() {
    let app = authority();
    let ana = app.join("ana").await;
    let told = &ana.session["broker"];
    assert_eq!(told["url"], "amqps://broker:5671", "as its client reads it");
    assert_eq!(told["username"], ana.id.as_str());
    assert!((451..=900).contains(&told["expires_in"].as_u64().unwrap()), "{told}");
    assert_eq!(told["taking"]["username"], takes(&ana));

    let renew = async || {
        let answer = app.call("PUT", "/v1/sessions/current", &ana.token, Some(json!({}))).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json()["broker"].clone()
    };
    let mut current = told.clone();
    let mut passwords = vec![password(&current)];
    let mut of_takes = vec![password(&current["taking"])];
    for _ in 0..90 {
        app.pass(10);
        let next = renew().await;
        let (left, before) = (next["expires_in"].as_u64().unwrap(), current["expires_in"].as_u64().unwrap());
        if password(&next) == password(&current) {
            assert_eq!(left + 10, before, "the same password ends when it was to end");
        } else {
            assert!(before - 10 <= 450 && left > 450, "the next one came early or late: {before}, {left}");
            passwords.push(password(&next));
            of_takes.push(password(&next["taking"]));
        }
        assert_eq!(Some(&password(&next["taking"])), of_takes.last(), "both change together");
        current = next;
    }
    assert_eq!(passwords.len(), 3, "in a quarter of an hour");
    assert_eq!(login(&app, &ana.id, passwords.last().unwrap()).await, "allow");
    assert_eq!(login(&app, &ana.id, &passwords[0]).await, "deny", "it has ended");
    assert_eq!(login(&app, &takes(&ana), of_takes.last().unwrap()).await, "allow");
    assert_eq!(login(&app, &takes(&ana), &of_takes[0]).await, "deny", "it has ended");
}

#[tokio::test]
async fn who_logs_in_is_a_peer_with_an_open_session() {
    let app = authority();
    let (ana, beto) = (app.join("ana").await, app.join("beto").await);
    let token = password(&ana.session["broker"]);
    assert_eq!(login(&app, &ana.id, &token).await, "allow");
    let to_take = password(&ana.session["broker"]["taking"]);
    assert_eq!(login(&app, &takes(&ana), &to_take).await, "allow");
    for user in [&ana.id, &takes(&ana)] {
        assert_eq!(login(&app, user, &ana.token).await, "allow", "the session's own token");
    }
    for (who, password) in [
        (beto.id.as_str(), token.as_str()),
        (&ana.id, &to_take),
        (&takes(&ana), &token),
        (&takes(&beto), &to_take),
        (&beto.id, &ana.token),
        (&ana.id, ""),
        (&ana.id, common::PASSWORD),
        (&ana.id, &token[1..]),
        ("guest", "guest"),
        ("ana", &token),
        ("", ""),
    ] {
        assert_eq!(login(&app, who, password).await, "deny", "{who}");
    }
    let vhost = async |name: &str| {
        verdict(&app, "vhost", &[("username", &ana.id), ("vhost", name), ("ip", "::1")]).await
    };
    assert_eq!((vhost("/").await.as_str(), vhost("other").await.as_str()), ("allow", "deny"));

    // Who has logged out, or was disabled, is nobody from the next question on.
    app.call("DELETE", "/v1/sessions/current", &ana.token, None).await;
    assert_eq!((login(&app, &ana.id, &token).await.as_str(), vhost("/").await.as_str()), ("deny", "deny"));
    let mailbox = format!("trueque.{}.mailbox.v1", beto.id);
    assert_eq!(resource(&app, &takes(&beto), "queue", &mailbox, "read").await, "allow");
    let disabled = app.call("POST", "/v1/accounts/beto/disable", ADMIN, None).await;
    assert_eq!(disabled.status, StatusCode::NO_CONTENT);
    assert_eq!(resource(&app, &takes(&beto), "queue", &mailbox, "read").await, "deny");
}

#[tokio::test]
async fn a_peer_may_use_what_is_its_own() {
    let app = authority();
    let (ana, beto) = (app.join("ana").await, app.join("beto").await);
    let (own, other) = (format!("trueque.{}.wants.v1", ana.id), format!("trueque.{}.wants.v1", beto.id));
    let (publishes, takes) = (ana.id.as_str(), takes(&ana));
    for permission in ["configure", "write", "read"] {
        assert_eq!(resource(&app, &takes, "queue", &own, permission).await, "allow");
        assert_eq!(resource(&app, publishes, "queue", &own, permission).await, "deny");
        assert_eq!(resource(&app, &takes, "queue", &other, permission).await, "deny");
        assert_eq!(resource(&app, &takes, "exchange", &own, permission).await, "deny");
    }
    assert_eq!(resource(&app, publishes, "exchange", "trueque.requests", "write").await, "allow");
    assert_eq!(resource(&app, &takes, "exchange", "trueque.requests", "write").await, "deny");
    assert_eq!(resource(&app, &takes, "exchange", "trueque.requests", "read").await, "allow");
    assert_eq!(resource(&app, publishes, "exchange", "trueque.requests", "configure").await, "deny");
    assert_eq!(resource(&app, publishes, "exchange", "amq.default", "write").await, "deny");
    assert_eq!(resource(&app, &takes, "queue", &own, "own").await, "deny", "not a permission");
    assert_eq!(resource(&app, &takes, "thing", &own, "read").await, "deny", "not a resource");

    let (sent, forged) = (format!("{}.live.{}", beto.id, ana.id), format!("{}.live.{}", ana.id, beto.id));
    assert_eq!(topic(&app, publishes, "trueque.requests", "write", &sent).await, "allow");
    assert_eq!(topic(&app, &takes, "trueque.requests", "write", &sent).await, "deny");
    assert_eq!(topic(&app, publishes, "trueque.requests", "write", &forged).await, "deny");
    assert_eq!(topic(&app, &takes, "trueque.requests", "read", &forged).await, "allow", "to itself");
    assert_eq!(topic(&app, &takes, "trueque.requests", "read", &sent).await, "deny");
    assert_eq!(topic(&app, publishes, "amq.topic", "write", &sent).await, "deny");
}

#[tokio::test]
async fn only_the_broker_is_answered() {
    let app = authority();
    let ana = app.join("ana").await;
    let form = [("username", ana.id.as_str()), ("password", ana.token.as_str())];
    let from = async |address, headers: &[(&str, &str)], path: &str| {
        let answer = ask(&app, path, address, headers, &form).await;
        if answer.status == StatusCode::OK { answer.text } else { answer.problem() }
    };
    let (here, there) = ("[::1]:9", "10.0.0.9:9");
    assert_eq!(from(here, &[], "user").await, "allow");
    assert_eq!(from("[::ffff:127.0.0.1]:9", &[], "user").await, "allow");
    assert_eq!(from(there, &[], "user").await, "403 permission_denied");
    for proxy in ["forwarded", "x-forwarded-for", "X-Real-IP"] {
        assert_eq!(from(here, &[(proxy, "for=10.0.0.9")], "user").await, "403 permission_denied");
    }
    let secret = std::fs::read_to_string(app.config.data_dir.join("broker.secret")).unwrap();
    assert_eq!(from(there, &[], &format!("user?secret={secret}")).await, "allow");
    assert_eq!(from(there, &[], "user?secret=nonsense").await, "403 permission_denied");
    assert_eq!(from(here, &[], "user?secret=").await, "403 permission_denied");
    assert_eq!(from(there, &[], "user?secrets=x").await, "400 invalid_argument");

    // Without an address nothing says that it is the broker.
    let silent = Request::post("/v1/broker/user").body(Body::from("username=x")).unwrap();
    assert_eq!(app.send(silent).await.problem(), "403 permission_denied");
}

#[tokio::test]
async fn broken_questions_are_refused() {
    let app = authority();
    for (path, form) in [("user", &[][..]), ("vhost", &[("username", "x")]), ("topic", &[("name", "x")])] {
        assert_eq!(
            ask(&app, path, "127.0.0.1:1", &[], form).await.problem(),
            "400 invalid_argument",
            "{path}"
        );
    }
    let twice = ask(&app, "user", "127.0.0.1:1", &[], &[("username", "x"), ("username", "y")]).await;
    assert_eq!(twice.problem(), "400 invalid_argument");
    let long = "x".repeat(16 << 10);
    let answer = ask(&app, "user", "127.0.0.1:1", &[], &[("username", &long)]).await;
    assert_eq!(answer.problem(), "413 too_large");
    assert_eq!(app.get("/v1/broker/user", "").await.problem(), "405 method_not_allowed");
}

#[tokio::test]
async fn the_public_key_is_public_and_stays() {
    let app = authority();
    let pem = app.get("/v1/broker/key.pem", "").await;
    assert!(pem.text.starts_with("-----BEGIN PUBLIC KEY-----"), "{}", pem.text);
    let jwks = app.get("/v1/broker/jwks.json", "").await.json();
    assert_eq!((&jwks["keys"][0]["kid"], &jwks["keys"][0]["alg"]), (&json!("trueque"), &json!("RS256")));
    let ana = app.join("ana").await;

    // A directory that starts again, or another one on the same data, knows the token.
    let TestApp { router, clock, config, folder, passwords } = app;
    drop(router);
    let router = directory::http::router(open(&config, &clock));
    let again = TestApp { router, clock, config, folder, passwords };
    assert_eq!(again.get("/v1/broker/key.pem", "").await.text, pem.text);
    assert_eq!(login(&again, &ana.id, &password(&ana.session["broker"])).await, "allow");
}

#[tokio::test]
async fn a_directory_without_a_broker_of_its_own_answers_nothing_about_it() {
    for app in
        [app(), app_with(|config| Config { amqp_url: Some("amqp://x:y@z".to_owned().into()), ..config })]
    {
        let answer = ask(&app, "user", "127.0.0.1:1", &[], &[("username", "x")]).await;
        assert_eq!(answer.problem(), "404 not_found");
        for path in ["/v1/broker/key.pem", "/v1/broker/jwks.json"] {
            assert_eq!(app.get(path, "").await.problem(), "404 not_found");
        }
        assert!(!app.config.data_dir.join("broker.key").exists());
        assert_eq!(app.join("ana").await.session["broker"]["password"], Value::Null);
    }
}
