//! [`Ruled`]: a broker with the configuration that is shipped in `docs/rabbitmq`, ruled by a directory; and [`Client`],
//! who is logged in there as a peer is, and asks for what a peer does not ask for.

use std::path::Path;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ErrorKind,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use rcgen::{KeyPair, SigningKey};
use serde_json::Value;
use tempfile::TempDir;
use testnet::{Member, Network, Rabbit, RabbitOptions};
use tokio::net::TcpListener;
use wire::{PeerId, rest::directory::BrokerLogin};

pub(crate) const REFUSED: u16 = 403;
pub(crate) const MISMATCH: u16 = 406;
pub(crate) const NOT_ALLOWED: u16 = 530;

/// How the directory rules the broker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Tokens,
    Answers,
}

/// A network whose directory rules a broker.
pub(crate) struct Ruled {
    pub(crate) network: Network,
    pub(crate) rabbit: Rabbit,
    pub(crate) way: Way,
    key: KeyPair,
    _folder: TempDir,
}

impl Ruled {
    pub(crate) async fn by(way: Way) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("directory");
        std::fs::create_dir(&data).unwrap();
        // The broker wants the key at its start and the directory wants the broker's address at its own, so the key is
        // there before both.
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
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
        Self { network, rabbit, way, key, _folder: folder }
    }

    pub(crate) async fn member(&self, name: &str) -> Member {
        Member::join(&self.network.url(), name, &[]).await
    }

    pub(crate) async fn client(&self, name: &str) -> Client {
        let member = self.member(name).await;
        let refused = |error| panic!("{name} is not let in: {error}\n{}", self.rabbit.log());
        let publishes = User(self.login(&member).await.unwrap_or_else(refused));
        let takes = User(self.login_to_take(&member).await.unwrap_or_else(refused));
        Client { member, publishes, takes }
    }

    /// As who publishes.
    pub(crate) async fn login(&self, member: &Member) -> lapin::Result<Connection> {
        let broker = member.broker.as_ref().unwrap();
        let (username, password) = (broker.username.as_ref().unwrap(), broker.password.as_ref().unwrap());
        assert_eq!(*username, member.peer_id.to_string());
        self.connect(username, password).await
    }

    /// As who takes.
    pub(crate) async fn login_to_take(&self, member: &Member) -> lapin::Result<Connection> {
        let taking = taking(member);
        self.connect(&taking.username, &taking.password).await
    }

    pub(crate) async fn connect(&self, username: &str, password: &str) -> lapin::Result<Connection> {
        let url = format!("amqp://{username}:{password}@{}", self.rabbit.address());
        Connection::connect(&url, ConnectionProperties::default()).await
    }

    /// This token with something else in it, signed by the right key.
    pub(crate) fn token_like(&self, token: &str, change: impl FnOnce(&mut Value)) -> String {
        let [head, claims, _] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
        let mut claims: Value =
            serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        change(&mut claims);
        let signed = format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.key.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    pub(crate) async fn end(self) {
        self.network.stop().await;
    }
}

/// The configuration as it is shipped, with the places of this test, and in its time.
pub(crate) fn shipped(
    rules: Option<&str>,
    plugins: &[&'static str],
    places: &[(&str, &str)],
) -> RabbitOptions {
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
pub(crate) struct Client {
    pub(crate) member: Member,
    pub(crate) publishes: User,
    pub(crate) takes: User,
}

/// One of the two that a peer is at the broker.
pub(crate) struct User(pub(crate) Connection);

impl Client {
    pub(crate) fn id(&self) -> PeerId {
        self.member.peer_id
    }

    pub(crate) fn queue(&self, kind: &str) -> String {
        format!("trueque.{}.{kind}", self.id())
    }

    /// The attempt is refused, with this code, as whichever of the two it is made.
    pub(crate) async fn may_not<T>(
        &self,
        code: u16,
        what: &str,
        attempt: impl AsyncFn(Channel) -> lapin::Result<T>,
    ) {
        self.publishes.may_not(code, what, &attempt).await;
        self.takes.may_not(code, what, &attempt).await;
    }
}

impl User {
    pub(crate) async fn channel(&self) -> Channel {
        self.0.create_channel().await.unwrap()
    }

    pub(crate) async fn may<T>(
        &self,
        what: &str,
        attempt: impl AsyncFnOnce(Channel) -> lapin::Result<T>,
    ) -> T {
        attempt(self.channel().await).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// The attempt is refused, with this code.
    pub(crate) async fn may_not<T>(
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

pub(crate) fn taking(member: &Member) -> BrokerLogin {
    member.broker.as_ref().unwrap().taking.clone().unwrap()
}

pub(crate) fn code_of(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

pub(crate) async fn declare(channel: &Channel, name: &str) -> lapin::Result<()> {
    declare_as(channel, name, "classic").await
}

pub(crate) async fn declare_as(channel: &Channel, name: &str, kind: &str) -> lapin::Result<()> {
    declare_with(channel, name, kind, &[]).await
}

pub(crate) async fn declare_with(
    channel: &Channel,
    name: &str,
    kind: &str,
    limits: &[(&str, i64)],
) -> lapin::Result<()> {
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    for (name, limit) in limits {
        arguments.insert((*name).into(), AMQPValue::LongLongInt(*limit));
    }
    channel.queue_declare(name.into(), durable, arguments).await.map(drop)
}

pub(crate) async fn bind(channel: &Channel, name: &str, exchange: &str, key: &str) -> lapin::Result<()> {
    let options = QueueBindOptions::default();
    channel.queue_bind(name.into(), exchange.into(), key.into(), options, FieldTable::default()).await
}

/// Waits for the broker's word on it.
pub(crate) async fn publish(channel: &Channel, exchange: &str, key: &str, user: &str) -> lapin::Result<()> {
    publish_bytes(channel, exchange, key, user, b"x").await
}

pub(crate) async fn publish_bytes(
    channel: &Channel,
    exchange: &str,
    key: &str,
    user: &str,
    bytes: &[u8],
) -> lapin::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties = BasicProperties::default().with_user_id(user.into());
    let sent = channel.basic_publish(exchange.into(), key.into(), options, bytes, properties).await?;
    sent.await.map(drop)
}

pub(crate) async fn consume(channel: &Channel, queue: &str) -> lapin::Result<()> {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.map(drop)
}
