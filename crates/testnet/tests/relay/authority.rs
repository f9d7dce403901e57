//! The directory as the broker's authority, with the configuration that is shipped in `docs/rabbitmq`: what keeps peers
//! apart, and what becomes of the relay when somebody leaves or the directory is away.
//!
//! There are two ways, and each must refuse and allow the same: *tokens*, which RabbitMQ checks by itself, and *http*,
//! where it asks the directory.

use std::{net::SocketAddr, path::Path, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeBindOptions,
        ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions,
        QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use rcgen::{KeyPair, SigningKey};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use testnet::{Member, Network, Rabbit, RabbitOptions, until, until_within};
use tokio::net::TcpListener;
use wire::PeerId;

use crate::station::{Station, take, told};

const REFUSED: u16 = 403;
const MISMATCH: u16 = 406;

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Tokens,
    Http,
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
        Self::with_answers_believed_for(way, Duration::from_secs(60)).await
    }

    /// The time matters where the broker asks.
    async fn with_answers_believed_for(way: Way, time: Duration) -> Self {
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

        let rabbit = Rabbit::start(shipped(way, &public, listen, time)).await;
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

/// The configuration as it is shipped, with the places of this test.
fn shipped(way: Way, public: &Path, directory: SocketAddr, believed: Duration) -> RabbitOptions {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rabbitmq");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let (plugins, rules) = match way {
        Way::Tokens => (vec!["rabbitmq_auth_backend_oauth2"], "trueque-tokens.conf"),
        Way::Http => (vec!["rabbitmq_auth_backend_http", "rabbitmq_auth_backend_cache"], "trueque-http.conf"),
    };
    let definitions = folder.join("definitions.json");
    let config = (read("trueque.conf") + &read(rules))
        .replace("/etc/rabbitmq/trueque-definitions.json", definitions.to_str().unwrap())
        .replace("/etc/rabbitmq/trueque-broker.pem", public.to_str().unwrap())
        .replace("127.0.0.1:3000", &directory.to_string())
        .replace("cache_ttl = 60000", &format!("cache_ttl = {}", believed.as_millis()))
        // The machine of a test may have less.
        .replace("disk_free_limit.absolute = 2GB", "disk_free_limit.absolute = 50MB");
    RabbitOptions { plugins, config: config.lines().map(str::to_owned).collect() }
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
async fn tokens_keep_peers_apart() {
    let ruled = Ruled::by(Way::Tokens).await;
    peers_are_kept_apart(&ruled).await;
    two_stations_talk(&ruled).await;
    what_the_directory_did_not_sign_is_worth_nothing(&ruled).await;
    queues_hold_what_the_operator_allows(&ruled).await;
    ruled.end().await;
}

#[tokio::test]
async fn answers_keep_peers_apart() {
    let ruled = Ruled::by(Way::Http).await;
    peers_are_kept_apart(&ruled).await;
    two_stations_talk(&ruled).await;
    let ana = ruled.peer("hugo").await;
    let own = ana.queue("exchange");
    ana.may_not(REFUSED, "an exchange of one's own", async |channel| {
        let fanout = lapin::ExchangeKind::Fanout;
        let options = ExchangeDeclareOptions::default();
        channel.exchange_declare(own.as_str().into(), fanout, options, FieldTable::default()).await
    })
    .await;
    ruled.end().await;
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
        let station = Station::of(member.peer_id, peer::config::AmqpSetting::FromDirectory);
        station.link.send_replace(told(&broker.url, &broker.username.unwrap(), &broker.password.unwrap()));
        station
    };
    let (one, mut other) = (station(&carla), station(&diego));
    let answers = one.on().await;
    other.on().await;
    use peer::relay::message::Route;
    for route in [Route::Live, Route::Want, Route::Mailbox] {
        one.send(other.id, route, "a word").await.unwrap();
    }
    assert_eq!(take(&mut other.inbox.live, 1).await, ["a word"]);
    assert_eq!(take(&mut other.inbox.wants, 1).await, ["a word"]);
    assert_eq!(take(&mut other.inbox.mailbox, 1).await, ["a word"]);
    other.send(one.id, Route::Answer(answers), "an answer").await.unwrap();
    let mut one = one;
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
