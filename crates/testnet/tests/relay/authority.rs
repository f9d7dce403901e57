//! The directory as the broker's authority, with the configuration that is shipped in `docs/rabbitmq`: what keeps peers
//! apart, and what becomes of the relay when somebody leaves or the directory is away.
//!
//! There are two ways, and each must refuse and allow the same: *tokens*, which RabbitMQ checks by itself, and *answers*,
//! where it asks the directory about everything.

use std::{path::Path, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use daemon::Clock;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeBindOptions,
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use peer::{config::AmqpSetting, relay::message::Route};
use rcgen::{KeyPair, SigningKey};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use testnet::{Member, Network, Rabbit, RabbitOptions, until, until_within};
use tokio::net::TcpListener;
use wire::{
    PeerId,
    rest::pclient::{CheckResult, Examination},
};

use crate::{
    mail::on_the_relay,
    offers,
    station::{Station, take, told},
};

const REFUSED: u16 = 403;
const MISMATCH: u16 = 406;

#[derive(Clone, Copy)]
enum Way {
    Tokens,
    Answers,
}

/// A network whose directory rules a broker.
struct Ruled {
    network: Network,
    rabbit: Rabbit,
    key: KeyPair,
    _folder: TempDir,
}

impl Ruled {
    async fn by(way: Way) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("directory");
        std::fs::create_dir(&data).unwrap();
        // The broker wants the key at its start and the directory wants the broker's address at its own, so the key is
        // there before both.
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        std::fs::write(data.join("broker.key"), key.serialize_pem()).unwrap();
        let public = folder.path().join("public.pem");
        std::fs::write(&public, key.public_key_pem()).unwrap();
        let listen = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();

        let public = public.to_str().unwrap();
        let options = match way {
            Way::Tokens => shipped(
                Some("trueque-tokens.conf"),
                &["rabbitmq_auth_backend_oauth2"],
                &[("/etc/rabbitmq/trueque-broker.pem", public)],
            ),
            Way::Answers => shipped(
                Some("trueque-http.conf"),
                &["rabbitmq_auth_backend_http", "rabbitmq_auth_backend_cache"],
                &[("127.0.0.1:3000", &listen.to_string())],
            ),
        };
        let rabbit = Rabbit::start(options).await;
        // How often a channel asks again what it was allowed; a minute otherwise.
        rabbit.ctl(&["eval", "application:set_env(rabbit, channel_tick_interval, 1000)."]).await;
        let url = format!("amqp://{}?auth=directory", rabbit.address());
        let network = Network::with(|config| {
            config.data_dir = data;
            config.listen = listen;
            config.amqp_url = Some(url.into());
        })
        .await;
        Self { network, rabbit, key, _folder: folder }
    }

    async fn member(&self, name: &str) -> Member {
        Member::join(&self.network.url(), name, &[]).await
    }

    async fn peer(&self, name: &str) -> Client {
        let member = self.member(name).await;
        let connection = self.login(&member).await.unwrap();
        Client { member, connection }
    }

    async fn login(&self, member: &Member) -> lapin::Result<Connection> {
        let password = member.broker.as_ref().unwrap().password.clone().unwrap();
        self.connect(&member.peer_id.to_string(), &password).await
    }

    async fn connect(&self, username: &str, password: &str) -> lapin::Result<Connection> {
        let url = format!("amqp://{username}:{password}@{}", self.rabbit.address());
        Connection::connect(&url, ConnectionProperties::default()).await
    }

    /// The token of this member with something else in it, signed by the right key.
    fn token_like(&self, member: &Member, change: impl FnOnce(&mut Value)) -> String {
        let token = member.broker.as_ref().unwrap().password.as_ref().unwrap();
        let [head, claims, _] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
        let mut claims: Value =
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        change(&mut claims);
        let signed = format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.key.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    async fn end(self) {
        self.network.stop().await;
    }
}

/// The configuration as it is shipped, with the places of this test, and in its time.
fn shipped(rules: Option<&str>, plugins: &[&'static str], places: &[(&str, &str)]) -> RabbitOptions {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rabbitmq");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let definitions = folder.join("definitions.json");
    let mut config = read("trueque.conf") + &rules.map(read).unwrap_or_default();
    let here = [
        ("/etc/rabbitmq/trueque-definitions.json", definitions.to_str().unwrap()),
        // The machine of a test may have less.
        ("disk_free_limit.absolute = 2GB", "disk_free_limit.absolute = 50MB"),
        // What takes a minute takes a second here.
        ("auth_cache.cache_ttl = 60000", "auth_cache.cache_ttl = 1000"),
    ];
    for (what, with) in here.iter().chain(places) {
        config = config.replace(what, with);
    }
    RabbitOptions { plugins: plugins.to_vec(), config: config.lines().map(str::to_owned).collect() }
}

/// Somebody who is logged in at the broker as a peer, and knows AMQP.
struct Client {
    member: Member,
    connection: Connection,
}

impl Client {
    fn id(&self) -> PeerId {
        self.member.peer_id
    }

    fn queue(&self, kind: &str) -> String {
        format!("trueque.{}.{kind}", self.id())
    }

    async fn channel(&self) -> Channel {
        self.connection.create_channel().await.unwrap()
    }

    async fn may<T>(&self, what: &str, attempt: impl AsyncFnOnce(Channel) -> lapin::Result<T>) -> T {
        attempt(self.channel().await).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// The attempt is refused, with this code.
    async fn may_not<T>(
        &self,
        code: u16,
        what: &str,
        attempt: impl AsyncFnOnce(Channel) -> lapin::Result<T>,
    ) {
        match attempt(self.channel().await).await {
            Ok(_) => panic!("it was possible: {what}"),
            Err(error) => assert_eq!(code_of(&error), Some(code), "{what}: {error}"),
        }
    }
}

fn code_of(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

async fn declare(channel: &Channel, name: &str) -> lapin::Result<()> {
    declare_as(channel, name, "classic").await
}

async fn declare_as(channel: &Channel, name: &str, kind: &str) -> lapin::Result<()> {
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    channel.queue_declare(name.into(), durable, arguments).await.map(drop)
}

async fn bind(channel: &Channel, name: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let options = QueueBindOptions::default();
    channel.queue_bind(name.into(), exchange.into(), key.into(), options, FieldTable::default()).await
}

/// Waits for the broker's word on it.
async fn publish(channel: &Channel, exchange: &str, key: &str, user: &str) -> lapin::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties = BasicProperties::default().with_user_id(user.into());
    let sent = channel.basic_publish(exchange.into(), key.into(), options, b"x", properties).await?;
    sent.await.map(drop)
}

async fn consume(channel: &Channel, queue: &str) -> lapin::Result<()> {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.map(drop)
}

#[tokio::test]
async fn with_tokens() {
    let mut ruled = Ruled::by(Way::Tokens).await;
    peers_are_kept_apart(&ruled).await;
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
    one.stop().await;
    other.stop().await;
    let guest = Connection::connect(&rabbit.url(), ConnectionProperties::default()).await;
    assert_eq!(code_of(&guest.err().unwrap()), Some(REFUSED), "there is no `guest`");
}

async fn peers_are_kept_apart(ruled: &Ruled) {
    let (ana, beto) = (ruled.peer("ana").await, ruled.peer("beto").await);
    let (own, theirs) = (ana.queue("mailbox.v1"), beto.queue("mailbox.v1"));
    let (me, them) = (ana.id().to_string(), beto.id().to_string());
    for (client, queue) in [(&ana, &own), (&beto, &theirs)] {
        client.may("declare its own", async |channel| declare(&channel, queue).await).await;
        let key = format!("{}.mailbox.*", client.id());
        client.may("bind it", async |channel| bind(&channel, queue, "trueque.answers", &key).await).await;
    }
    let to_them = format!("{them}.mailbox.{me}");
    ana.may("publish", async |channel| publish(&channel, "trueque.answers", &to_them, &me).await).await;

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
    ana.may_not(MISMATCH, "show their id", async |channel| publish(&channel, answers, &to_them, &them).await)
        .await;
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
    let got = beto.may("get", async |channel| {
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
        let broker = member.broker.clone().unwrap();
        let station = Station::of(member.peer_id, AmqpSetting::FromDirectory);
        station.link.send_replace(told(&broker.url, &broker.username.unwrap(), &broker.password.unwrap()));
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
    let for_others = ruled.token_like(&ana, |claims| claims["aud"] = json!(["somebody else"]));
    refused(&id, &for_others, "for another service").await;
    let over = ruled.token_like(&ana, |claims| claims["exp"] = json!(1_700_000_000));
    refused(&id, &over, "over").await;

    // Whoever shows a token is the one in it, whatever name they say.
    let connection = ruled.connect(&eve.peer_id.to_string(), &token).await.unwrap();
    let somebody = Client { member: eve, connection };
    let mailbox = format!("trueque.{}.mailbox.v1", somebody.id());
    somebody.may_not(REFUSED, "the name beside it", async |channel| declare(&channel, &mailbox).await).await;
}

/// Limits hold also for who declares none.
async fn queues_hold_what_the_operator_allows(ruled: &Ruled) {
    let ana = ruled.peer("fabio").await;
    let (id, limited) = (ana.id(), "trueque.requests");
    let of_others = [Some(1_000), Some(4 << 20), Some(30_000)];
    for (kind, kind_of_queue, limits) in [
        ("requests.x", "classic", [Some(1_000), Some(16 << 20), Some(30_000)]),
        ("answers.x", "classic", [None, Some(64 << 20), None]),
        ("wants.v1", "quorum", [Some(1_000), Some(4 << 20), Some(604_800_000)]),
        ("mailbox.v9", "quorum", [None, Some(1 << 30), Some(604_800_000)]),
        ("mailbox.classic", "classic", of_others),
        ("anything", "classic", of_others),
    ] {
        let name = ana.queue(kind);
        ana.may("declare", async |channel| declare_as(&channel, &name, kind_of_queue).await).await;
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
    let channel = ana.channel().await;
    bind(&channel, &name, limited, &key).await.unwrap();
    for _ in 0..1_010 {
        publish(&channel, limited, &key, &id.to_string()).await.unwrap();
    }
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let queue = channel.queue_declare(name.as_str().into(), passive, FieldTable::default()).await.unwrap();
    assert_eq!(queue.message_count(), 1_000);
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
    let hugo = ruled.peer("hugo").await;
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
    let now = || Clock::system().now().as_second();
    let short = ruled.token_like(&member, |claims| claims["exp"] = json!(now() + 3));
    let id = member.peer_id.to_string();
    let ines = Client { connection: ruled.connect(&id, &short).await.unwrap(), member };
    let own = ines.queue("mailbox.v1");
    let key = format!("{id}.mailbox.{id}");
    ines.may("declare", async |channel| declare(&channel, &own).await).await;
    ines.may("bind", async |channel| bind(&channel, &own, "trueque.answers", &key).await).await;
    let channel = ines.channel().await;
    until("it may not log in any more", async || ruled.connect(&id, &short).await.err()).await;
    let publishing = async || publish(&channel, "trueque.answers", &key, &id).await.err();
    let refused = until("it may not publish any more", publishing).await;
    assert_eq!(code_of(&refused), Some(REFUSED), "{refused}");
    ines.may_not(REFUSED, "declare", async |channel| declare(&channel, &own).await).await;

    assert!(ines.connection.status().connected());
    let next = ines.member.broker.as_ref().unwrap().password.clone().unwrap();
    ines.connection.update_secret(next.as_str().into(), "the one before ended".into()).await.unwrap();
    ines.may("publish", async |channel| publish(&channel, "trueque.answers", &key, &id).await).await;
}

/// Also of somebody who has logged out: that is what it costs that the broker asks nobody.
async fn tokens_hold_without_the_directory(ruled: &mut Ruled) {
    let (juan, ana) = (ruled.member("juan").await, ruled.member("lola").await);
    let gone = juan.ask(Method::DELETE, "/v1/sessions/current", None).await;
    assert_eq!(gone.status, 204);
    ruled.network.directory.kill().await;
    for member in [&juan, &ana] {
        let client = ruled.login(member).await.unwrap();
        let own = format!("trueque.{}.wants.v1", member.peer_id);
        declare(&client.create_channel().await.unwrap(), &own).await.unwrap();
    }
    ruled.network.directory.up().await;
}

async fn who_has_logged_out_is_let_in_no_more(ruled: &Ruled) {
    let ines = ruled.peer("ines").await;
    let own = ines.queue("mailbox.v1");
    ines.may("declare", async |channel| declare(&channel, &own).await).await;
    let gone = ines.member.ask(Method::DELETE, "/v1/sessions/current", None).await;
    assert_eq!(gone.status, 204);
    let limit = Duration::from_secs(10);
    until_within(limit, "it may not log in any more", async || ruled.login(&ines.member).await.err()).await;
    until_within(limit, "it may do nothing any more", async || {
        declare(&ines.channel().await, &own).await.err()
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
