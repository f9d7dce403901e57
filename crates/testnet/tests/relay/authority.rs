//! The directory as the broker's authority, with the configuration that is shipped in `docs/rabbitmq`: what keeps peers
//! apart, and what becomes of the relay when somebody leaves or the directory is away.
//!
//! There are two ways, and each must refuse and allow the same: *tokens*, which RabbitMQ checks by itself, and *answers*,
//! where it asks the directory about everything.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use daemon::Clock;
use futures::StreamExt;
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicQosOptions, ExchangeBindOptions, ExchangeDeclareOptions,
        ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use peer::{
    config::AmqpSetting,
    directory_link::{LinkState, LinkStatus},
    relay::message::Route,
};
use rcgen::{KeyPair, SigningKey};
use reqwest::Method;
use serde_json::json;
use testnet::{Member, Rabbit, until, until_within};
use wire::rest::pclient::{CheckResult, Examination};

use crate::{
    intruder::{nobody_sends_as_another, nobody_takes_dead_letters},
    mail::on_the_relay,
    offers,
    ruled::{
        Client, MISMATCH, REFUSED, Ruled, User, Way, bind, code_of, consume, declare, declare_as,
        declare_with, publish, publish_bytes, shipped, taking,
    },
    station::{Station, take},
};

#[tokio::test]
async fn with_tokens() {
    let mut ruled = Ruled::by(Way::Tokens).await;
    peers_are_kept_apart(&ruled).await;
    nobody_sends_as_another(&ruled).await;
    two_stations_talk(&ruled).await;
    a_whole_peer_is_let_in(&ruled).await;
    what_the_directory_did_not_sign_is_worth_nothing(&ruled).await;
    queues_hold_what_the_operator_allows(&ruled).await;
    a_token_that_has_ended_opens_nothing_and_its_successor_goes_on(&ruled).await;
    tokens_hold_without_the_directory(&mut ruled).await;
    ruled.end().await;
}

#[tokio::test]
async fn with_answers() {
    let mut ruled = Ruled::by(Way::Answers).await;
    peers_are_kept_apart(&ruled).await;
    nobody_sends_as_another(&ruled).await;
    two_stations_talk(&ruled).await;
    a_whole_peer_is_let_in(&ruled).await;
    nobody_makes_exchanges(&ruled).await;
    who_has_logged_out_is_let_in_no_more(&ruled).await;
    nobody_is_let_in_without_the_directory(&mut ruled).await;
    ruled.end().await;
}

/// The other configuration that is shipped: the same limits, and one user for all peers.
#[tokio::test]
async fn with_one_user() {
    let rabbit = Rabbit::start(shipped(None, &[], &[])).await;
    rabbit.ctl(&["add_user", "trueque", "a-password"]).await;
    let own = r"^trueque\.";
    rabbit.ctl(&["set_permissions", "trueque", own, own, own]).await;
    let url = format!("amqp://trueque:a-password@{}", rabbit.address());
    let (one, mut other) = (Station::at(&url).await, Station::at(&url).await);
    for route in [Route::Live, Route::Want, Route::Mailbox] {
        one.send(other.id, route, "a word").await.unwrap();
    }
    assert_eq!(take(&mut other.inbox.live, 1).await, ["a word"]);
    assert_eq!(take(&mut other.inbox.wants, 1).await, ["a word"]);
    assert_eq!(take(&mut other.inbox.mailbox, 1).await, ["a word"]);
    nobody_takes_dead_letters(&url, "trueque", other.id).await;
    one.stop().await;
    other.stop().await;
    let guest = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await;
    assert_eq!(code_of(&guest.err().unwrap()), Some(REFUSED), "there is no `guest`");
}

async fn peers_are_kept_apart(ruled: &Ruled) {
    let (ana, beto) = (ruled.client("ana").await, ruled.client("beto").await);
    let (own, theirs) = (ana.queue("mailbox.v1"), beto.queue("mailbox.v1"));
    let (me, them) = (ana.id().to_string(), beto.id().to_string());
    for (client, queue) in [(&ana, &own), (&beto, &theirs)] {
        client.takes.may("declare its own", async |channel| declare(&channel, queue).await).await;
        let key = format!("{}.mailbox.*", client.id());
        client
            .takes
            .may("bind it", async |channel| bind(&channel, queue, "trueque.answers", &key).await)
            .await;
    }
    let to_them = format!("{them}.mailbox.{me}");
    let published = async |channel: Channel| publish(&channel, "trueque.answers", &to_them, &me).await;
    ana.publishes.may("publish", published).await;
    // Whoever may declare may not publish.
    ana.takes.may_not(REFUSED, "publish", published).await;

    // What belongs to somebody else.
    let them_only = theirs.as_str();
    ana.may_not(REFUSED, "consume", async |channel| consume(&channel, them_only).await).await;
    ana.may_not(REFUSED, "get", async |channel| {
        channel.basic_get(them_only.into(), BasicGetOptions::default()).await
    })
    .await;
    ana.may_not(REFUSED, "purge", async |channel| {
        channel.queue_purge(them_only.into(), QueuePurgeOptions::default()).await
    })
    .await;
    ana.may_not(REFUSED, "delete", async |channel| {
        channel.queue_delete(them_only.into(), QueueDeleteOptions::default()).await
    })
    .await;
    ana.may_not(REFUSED, "declare what is theirs", async |channel| declare(&channel, them_only).await).await;
    let another = beto.queue("wants.v1");
    ana.may_not(REFUSED, "declare in their name", async |channel| declare(&channel, &another).await).await;
    ana.may_not(REFUSED, "bind", async |channel| {
        bind(&channel, them_only, "trueque.answers", &format!("{me}.mailbox.*")).await
    })
    .await;
    let bound = format!("{them}.mailbox.*");
    ana.may_not(REFUSED, "unbind", async |channel| {
        let (queue, exchange) = (them_only.into(), "trueque.answers".into());
        channel.queue_unbind(queue, exchange, bound.as_str().into(), FieldTable::default()).await
    })
    .await;

    // Looked at, a queue tells how much lies in it. RabbitMQ asks nobody whether it may.
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let looking = ana.takes.channel().await;
    match looking.queue_declare(them_only.into(), passive, FieldTable::default()).await {
        Ok(queue) => assert_eq!(queue.message_count(), 1),
        Err(error) => assert_eq!(code_of(&error), Some(REFUSED), "{error}"),
    }

    // What is on its way to somebody else.
    for key in [bound.as_str(), "#", "*.mailbox.*", "*.mailbox.#", &format!("*.{me}"), &me] {
        for exchange in ["trueque.requests", "trueque.answers"] {
            ana.may_not(REFUSED, key, async |channel| bind(&channel, &own, exchange, key).await).await;
        }
    }

    // In somebody else's name.
    let forged = format!("{me}.mailbox.{them}");
    let answers = "trueque.answers";
    ana.may_not(REFUSED, "publish as them", async |channel| publish(&channel, answers, &forged, &me).await)
        .await;
    let as_them = async |channel: Channel| publish(&channel, answers, &to_them, &them).await;
    ana.publishes.may_not(MISMATCH, "show their id", as_them).await;
    ana.may_not(REFUSED, "publish past the exchanges", async |channel| {
        publish(&channel, "", them_only, &me).await
    })
    .await;

    // What all share.
    ana.may_not(REFUSED, "delete an exchange", async |channel| {
        channel.exchange_delete(answers.into(), ExchangeDeleteOptions::default()).await
    })
    .await;
    ana.may_not(REFUSED, "bind exchanges", async |channel| {
        let (to, from, key) = ("trueque.requests".into(), answers.into(), "#".into());
        channel.exchange_bind(to, from, key, ExchangeBindOptions::default(), FieldTable::default()).await
    })
    .await;
    let dead = "trueque.dead";
    ana.may_not(REFUSED, "read dead letters", async |channel| consume(&channel, dead).await).await;
    ana.may_not(REFUSED, "write dead letters", async |channel| publish(&channel, dead, "x", &me).await).await;
    ana.may_not(REFUSED, "delete dead letters", async |channel| {
        channel.queue_delete(dead.into(), QueueDeleteOptions::default()).await
    })
    .await;

    // After all that, what was sent is there, once, and for its receiver.
    let got = beto.takes.may("get", async |channel| {
        channel.basic_get(them_only.into(), BasicGetOptions { no_ack: true }).await
    });
    let message = got.await.unwrap();
    assert_eq!((message.message_count, message.delivery.routing_key.as_str()), (0, to_them.as_str()));
    assert_eq!(message.delivery.properties.user_id().as_ref().unwrap().as_str(), me);
    let locked = async |channel: Channel| {
        let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
        channel.queue_declare(own.as_str().into(), exclusive, FieldTable::default()).await
    };
    beto.may_not(REFUSED, "take a name away", locked).await;
}

/// Everything that the peer's own relay declares and does is allowed.
async fn two_stations_talk(ruled: &Ruled) {
    let (carla, diego) = (ruled.member("carla").await, ruled.member("diego").await);
    let station = |member: &Member| {
        let station = Station::of(member.peer_id, AmqpSetting::FromDirectory);
        let state = LinkState::Connected;
        station.link.send_replace(LinkStatus { username: None, state, broker: member.broker.clone() });
        station
    };
    let (mut one, mut other) = (station(&carla), station(&diego));
    let answers = one.on().await;
    other.on().await;
    for route in [Route::Live, Route::Want, Route::Mailbox] {
        one.send(other.id, route, "a word").await.unwrap();
    }
    assert_eq!(take(&mut other.inbox.live, 1).await, ["a word"]);
    assert_eq!(take(&mut other.inbox.wants, 1).await, ["a word"]);
    assert_eq!(take(&mut other.inbox.mailbox, 1).await, ["a word"]);
    other.send(one.id, Route::Answer(answers), "an answer").await.unwrap();
    assert_eq!(take(&mut one.inbox.answers, 1).await, ["an answer"]);
    one.stop().await;
    other.stop().await;
}

async fn what_the_directory_did_not_sign_is_worth_nothing(ruled: &Ruled) {
    let (ana, eve) = (ruled.member("elena").await, ruled.member("eve").await);
    let refused = async |username: &str, password: &str, why: &str| {
        let error = ruled.connect(username, password).await.err().unwrap_or_else(|| panic!("{why}"));
        assert_eq!(code_of(&error), Some(REFUSED), "{why}: {error}");
    };
    let id = ana.peer_id.to_string();
    let token = ana.broker.as_ref().unwrap().password.clone().unwrap();
    refused(&id, "", "no token").await;
    refused(&id, "guest", "a password").await;
    refused("guest", "guest", "the broker's own user").await;
    let (signed, signature) = token.rsplit_once('.').unwrap();
    refused(&id, signed, "no signature").await;
    let [head, claims] = signed.split('.').collect::<Vec<_>>().try_into().unwrap();
    let unsigned = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none","kid":"trueque"}"#);
    refused(&id, &format!("{unsigned}.{claims}."), "signed by nobody").await;
    // The public key is no secret, so it must not do as the secret of another algorithm.
    let by_hash = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","kid":"trueque"}"#);
    refused(&id, &format!("{by_hash}.{claims}.{signature}"), "another algorithm").await;
    let other = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let other = BASE64_URL_SAFE_NO_PAD.encode(other.sign(signed.as_bytes()).unwrap());
    refused(&id, &format!("{head}.{claims}.{other}"), "another key").await;
    let for_others = ruled.token_like(&token, |claims| claims["aud"] = json!(["somebody else"]));
    refused(&id, &for_others, "for another service").await;
    let over = ruled.token_like(&token, |claims| claims["exp"] = json!(1_700_000_000));
    refused(&id, &over, "over").await;

    // Whoever shows a token is the one in it, whatever name they say.
    let eve = eve.peer_id;
    let takes = User(ruled.connect(&format!("{eve}.takes"), &taking(&ana).password).await.unwrap());
    let mailbox = format!("trueque.{eve}.mailbox.v1");
    takes.may_not(REFUSED, "the name beside it", async |channel| declare(&channel, &mailbox).await).await;
    let publishes = User(ruled.connect(&eve.to_string(), &token).await.unwrap());
    let (answers, to_her) = ("trueque.answers", format!("{eve}.mailbox.{id}"));
    let as_eve = async |channel: Channel| publish(&channel, answers, &to_her, &eve.to_string()).await;
    publishes.may_not(MISMATCH, "publish under the name beside it", as_eve).await;
}

/// Limits hold also for who declares none.
async fn queues_hold_what_the_operator_allows(ruled: &Ruled) {
    let ana = ruled.client("fabio").await;
    let (id, limited) = (ana.id(), "trueque.requests");
    let of_others = [Some(1_000), Some(4 << 20), Some(30_000)];
    for (kind, kind_of_queue, limits) in [
        ("requests.x", "classic", [Some(1_000), Some(16 << 20), Some(30_000)]),
        ("answers.x", "classic", [None, Some(64 << 20), None]),
        ("wants.v1", "quorum", [Some(1_000), Some(4 << 20), Some(604_800_000)]),
        ("mailbox.v9", "quorum", [None, Some(1 << 30), Some(604_800_000)]),
        ("mailbox.classic", "classic", of_others),
        ("anything", "classic", of_others),
        ("anything.at.length", "stream", [None, Some(64 << 20), None]),
        ("mailbox.at.length", "stream", [None, Some(64 << 20), None]),
    ] {
        let name = ana.queue(kind);
        ana.takes.may("declare", async |channel| declare_as(&channel, &name, kind_of_queue).await).await;
        let limit = |key| {
            let of = format!("rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{name}\">>))");
            format!("rabbit_policy:get(<<\"{key}\">>, element(2, {of}))")
        };
        let all = ["max-length", "max-length-bytes", "message-ttl"].map(limit).join(", ");
        let shown = ruled.rabbit.ctl(&["eval", &format!("[{all}].")]).await;
        let expected =
            limits.map(|limit| limit.map_or("undefined".to_owned(), |limit: u32| limit.to_string()));
        assert_eq!(
            shown.split_whitespace().collect::<String>(),
            format!("[{}]", expected.join(",")),
            "{kind}"
        );
    }
    let (name, key) = (ana.queue("anything"), format!("{id}.anything.{id}"));
    bind(&ana.takes.channel().await, &name, limited, &key).await.unwrap();
    let channel = ana.publishes.channel().await;
    for _ in 0..1_010 {
        publish(&channel, limited, &key, &id.to_string()).await.unwrap();
    }
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let channel = ana.takes.channel().await;
    let queue = channel.queue_declare(name.as_str().into(), passive, FieldTable::default()).await.unwrap();
    assert_eq!(queue.message_count(), 1_000);

    // A stream forgets whole segments only, and its maker says how large one is, unless the broker does.
    let (name, key) = (ana.queue("much"), format!("{id}.much.{id}"));
    let channel = ana.takes.channel().await;
    declare_with(
        &channel,
        &name,
        "stream",
        &[("x-stream-max-segment-size-bytes", 1 << 30), ("x-max-length-bytes", 1 << 40)],
    )
    .await
    .unwrap();
    bind(&channel, &name, limited, &key).await.unwrap();
    let channel = ana.publishes.channel().await;
    for _ in 0..100 {
        publish_bytes(&channel, limited, &key, &id.to_string(), &vec![0; 1 << 20]).await.unwrap();
    }
    until("the first of 100 MiB are forgotten", async || {
        let first = oldest(&ana.takes.channel().await, &name).await;
        (first >= 28).then_some(())
    })
    .await;
}

/// The number of the oldest message in a stream.
async fn oldest(channel: &Channel, stream: &str) -> i64 {
    channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    let mut from = FieldTable::default();
    from.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(stream.into(), "".into(), options, from).await.unwrap();
    let delivery = consumer.next().await.unwrap().unwrap();
    channel.close(200, "seen".into()).await.unwrap();
    let headers = delivery.properties.headers().clone().unwrap();
    match headers.inner().get("x-stream-offset") {
        Some(AMQPValue::LongLongInt(offset)) => *offset,
        other => panic!("no number: {other:?}"),
    }
}

async fn a_whole_peer_is_let_in(ruled: &Ruled) {
    let gema = ruled.network.peer("gema").await;
    on_the_relay(&gema).await;
    let seen: Examination = gema.post("/v1/doctor", &()).await.read();
    for name in ["relay", "relay_round_trip", "relay_queues", "relay_dead_letters"] {
        let check = seen.checks.iter().find(|check| check.name == name).unwrap();
        assert_eq!(check.result, CheckResult::Ok, "{check:?}");
    }
    // It may leave something for one that is off, who finds it.
    let iris = ruled.network.peer("iris").await;
    on_the_relay(&iris).await;
    let iris = iris.end().await;
    let id = gema.share("for iris.txt", b"for iris").await;
    let why = offers::send(&gema, id, "iris").await.why;
    assert_eq!(why.as_deref(), Some("iris is offline; it waits for them at the relay"));
    gema.end().await;
    let iris = testnet::Peer::again(iris).await;
    assert_eq!(offers::received(&iris).await.name, "for iris.txt");
    iris.end().await;
}

/// Of a token the broker cannot see whether a name is a queue's or an exchange's; where it asks, it is told.
async fn nobody_makes_exchanges(ruled: &Ruled) {
    let hugo = ruled.client("hugo").await;
    let own = hugo.queue("exchange");
    hugo.may_not(REFUSED, "an exchange of one's own", async |channel| {
        let options = ExchangeDeclareOptions::default();
        let (name, kind) = (own.as_str().into(), ExchangeKind::Fanout);
        channel.exchange_declare(name, kind, options, FieldTable::default()).await
    })
    .await;
}

async fn a_token_that_has_ended_opens_nothing_and_its_successor_goes_on(ruled: &Ruled) {
    let member = ruled.member("ines").await;
    let broker = member.broker.clone().unwrap();
    let (publishing, taking) = (broker.password.unwrap(), broker.taking.unwrap());
    let end = Clock::system().now().as_second() + 3;
    let short = |token: &str| ruled.token_like(token, |claims| claims["exp"] = json!(end));
    let id = member.peer_id.to_string();
    let connect = async |name: &str, token: &str| ruled.connect(name, &short(token)).await;
    let publishes = User(connect(&id, &publishing).await.unwrap());
    let takes = User(connect(&taking.username, &taking.password).await.unwrap());
    let ines = Client { member, publishes, takes };
    let own = ines.queue("mailbox.v1");
    let key = format!("{id}.mailbox.{id}");
    ines.takes.may("declare", async |channel| declare(&channel, &own).await).await;
    ines.takes.may("bind", async |channel| bind(&channel, &own, "trueque.answers", &key).await).await;
    let channel = ines.publishes.channel().await;
    until("it may not log in any more", async || connect(&id, &publishing).await.err()).await;
    let attempt = async || publish(&channel, "trueque.answers", &key, &id).await.err();
    let refused = until("it may not publish any more", attempt).await;
    assert_eq!(code_of(&refused), Some(REFUSED), "{refused}");
    ines.takes.may_not(REFUSED, "declare", async |channel| declare(&channel, &own).await).await;

    for (user, next) in [(&ines.publishes, &publishing), (&ines.takes, &taking.password)] {
        assert!(user.0.status().connected());
        user.0.update_secret(next.as_str().into(), "the one before ended".into()).await.unwrap();
    }
    let attempt = async |channel: Channel| publish(&channel, "trueque.answers", &key, &id).await;
    ines.publishes.may("publish", attempt).await;
    ines.takes.may("declare", async |channel| declare(&channel, &own).await).await;
}

/// Also of somebody who has logged out: that is what it costs that the broker asks nobody.
async fn tokens_hold_without_the_directory(ruled: &mut Ruled) {
    let (juan, ana) = (ruled.member("juan").await, ruled.member("lola").await);
    let gone = juan.ask(Method::DELETE, "/v1/sessions/current", None).await;
    assert_eq!(gone.status, 204);
    ruled.network.directory.kill().await;
    for member in [&juan, &ana] {
        let client = ruled.login_to_take(member).await.unwrap();
        let own = format!("trueque.{}.wants.v1", member.peer_id);
        declare(&client.create_channel().await.unwrap(), &own).await.unwrap();
    }
    ruled.network.directory.up().await;
}

async fn who_has_logged_out_is_let_in_no_more(ruled: &Ruled) {
    let ines = ruled.client("ines").await;
    let own = ines.queue("mailbox.v1");
    ines.takes.may("declare", async |channel| declare(&channel, &own).await).await;
    let gone = ines.member.ask(Method::DELETE, "/v1/sessions/current", None).await;
    assert_eq!(gone.status, 204);
    let limit = Duration::from_secs(10);
    until_within(limit, "it may not log in any more", async || ruled.login(&ines.member).await.err()).await;
    until_within(limit, "it may do nothing any more", async || {
        declare(&ines.takes.channel().await, &own).await.err()
    })
    .await;
}

async fn nobody_is_let_in_without_the_directory(ruled: &mut Ruled) {
    let juan = ruled.member("juan").await;
    drop(ruled.login(&juan).await.unwrap());
    ruled.network.directory.kill().await;
    until("the broker's answers are too old", async || ruled.login(&juan).await.err()).await;
    ruled.network.directory.up().await;
    until("the directory is asked again", async || ruled.login(&juan).await.ok()).await;
}
