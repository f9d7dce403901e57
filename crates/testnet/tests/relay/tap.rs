//! A broker that may not be trusted: it reads every message, keeps copies, changes them and makes up its own. It learns
//! who talks to whom and how much, and nothing else; whatever it hands over that a peer did not write is dropped and
//! counted.

use std::{collections::VecDeque, sync::Arc};

use daemon::Lifecycle;
use futures::StreamExt;
use http::StatusCode;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    message::Delivery,
    options::{
        BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
        QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldTable},
};
use parking_lot::Mutex;
use peer::link::{Link, LinkError, Rung, Target};
use serde_json::json;
use testnet::{Network, PATIENCE, Peer, Rabbit, RabbitOptions, sample, until};
use tokio::time::timeout;
use wire::PeerId;

use super::{
    mail::{on_the_relay, until_offline},
    talk::relay_only,
};
use crate::MIB;

/// The flags of an answer that is not sealed.
const HINT: u8 = 0x80;
const EXCHANGES: [&str; 2] = ["trueque.requests", "trueque.answers"];

/// A copy of every message, and a hand to write with.
struct Tap {
    channel: Channel,
    seen: Arc<Mutex<Vec<Message>>>,
    lifecycle: Lifecycle,
    connection: Connection,
    _ground: Ground,
}

/// Where the broker's client runs: what it leaves running there is not counted as ours.
struct Ground(Option<tokio::runtime::Runtime>);

impl Drop for Ground {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A client of the broker's, and where it runs.
async fn connected(rabbit: &Rabbit) -> (Connection, Ground) {
    let ground = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = {
        let _there = ground.enter();
        lapin::runtime::default_runtime().unwrap()
    };
    let properties = ConnectionProperties::default();
    let connection = Connection::connect_with_runtime(&rabbit.url(), properties, runtime).await.unwrap();
    (connection, Ground(Some(ground)))
}

#[derive(Clone)]
struct Message {
    exchange: String,
    key: String,
    properties: BasicProperties,
    body: Vec<u8>,
}

impl Tap {
    async fn on(rabbit: &Rabbit) -> Self {
        let (connection, ground) = connected(rabbit).await;
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
        channel.queue_declare("tap".into(), exclusive, FieldTable::default()).await.unwrap();
        for exchange in EXCHANGES {
            let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
            channel
                .exchange_declare(exchange.into(), ExchangeKind::Topic, durable, FieldTable::default())
                .await
                .unwrap();
            channel
                .queue_bind(
                    "tap".into(),
                    exchange.into(),
                    "#".into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
                .unwrap();
        }
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let consumer =
            channel.basic_consume("tap".into(), "tap".into(), options, FieldTable::default()).await;
        let mut consumer = consumer.unwrap();
        let seen = Arc::<Mutex<Vec<Message>>>::default();
        let notes = seen.clone();
        let lifecycle = Lifecycle::new();
        lifecycle.spawn("tap", async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                notes.lock().push(delivery.into());
            }
        });
        Self { channel, seen, lifecycle, connection, _ground: ground }
    }

    async fn write(&self, message: &Message) {
        let confirm = self
            .channel
            .basic_publish(
                message.exchange.as_str().into(),
                message.key.as_str().into(),
                BasicPublishOptions::default(),
                &message.body,
                message.properties.clone(),
            )
            .await
            .unwrap();
        confirm.await.unwrap();
    }

    fn all(&self) -> Vec<Message> {
        self.seen.lock().clone()
    }

    /// The questions of one peer to another, in order.
    fn questions(&self, from: PeerId, to: PeerId) -> Vec<Message> {
        let key = format!("{to}.live.{from}");
        let is_one = |message: &&Message| message.exchange == EXCHANGES[0] && message.key == key;
        self.seen.lock().iter().filter(is_one).cloned().collect()
    }

    /// Those that are sealed.
    fn answers(&self, question: &Message) -> Vec<Message> {
        let id = question.properties.message_id();
        let is_one =
            |message: &&Message| message.properties.correlation_id() == id && message.body[1] != HINT;
        self.seen.lock().iter().filter(is_one).cloned().collect()
    }

    async fn end(self) {
        self.connection.close(200, "the test is over".into()).await.unwrap();
        self.lifecycle.finish().await;
    }
}

impl From<Delivery> for Message {
    fn from(delivery: Delivery) -> Self {
        Self {
            exchange: delivery.exchange.to_string(),
            key: delivery.routing_key.to_string(),
            properties: delivery.properties,
            body: delivery.data,
        }
    }
}

impl Message {
    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut other = self.clone();
        change(&mut other);
        other
    }

    fn size(&self) -> usize {
        self.body.len()
    }

    fn flipped(&self, at: usize) -> Self {
        self.with(|message| message.body[at] ^= 1)
    }

    /// Everything about it that the broker reads, as text.
    fn label(&self) -> String {
        format!("{} {} {:?}", self.exchange, self.key, self.properties)
    }
}

/// How often something of this kind was refused, by all peers of this process.
pub(crate) fn refused(reason: &str) -> u64 {
    let line = format!("trueque_relay_refused_total{{reason=\"{reason}\"}} ");
    let metrics = daemon::metrics::render();
    metrics.lines().find_map(|text| text.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

/// Writes a message and waits until it was refused for this reason.
async fn is_refused(tap: &Tap, message: &Message, reason: &str, what: &str) {
    let before = refused(reason);
    tap.write(message).await;
    until(&format!("{what} is refused as {reason}"), async || (refused(reason) > before).then_some(())).await;
}

/// Two peers that have nothing but a relay, and somebody who reads all that goes over it.
async fn tapped() -> (Rabbit, Tap, Network, [Peer; 2]) {
    daemon::metrics::init().unwrap();
    let rabbit = Rabbit::start(RabbitOptions::default()).await;
    let tap = Tap::on(&rabbit).await;
    let url = rabbit.url();
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &url)).await;
    let ben = network.peer_with("ben", |settings| relay_only(settings, &url)).await;
    (rabbit, tap, network, [ana, ben])
}

async fn relayed(asker: &Peer, holder: &Peer) -> Link {
    let target = target(asker, holder).await;
    on_the_relay(holder).await;
    until("the relay is there", async || {
        asker.links().get(&target, 0).await.ok().filter(|link| link.rung() == Rung::Relayed)
    })
    .await
}

async fn target(asker: &Peer, holder: &Peer) -> Target {
    let id = holder.peer_id().await;
    until("the directory knows the holder", async || {
        asker.peers().await.iter().find(|one| one.peer.peer_id == id).map(|one| Target::from(&one.peer))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_reads_nothing_and_changes_nothing() {
    let (rabbit, tap, network, [ana, ben]) = tapped().await;
    let url = rabbit.url();
    let carla = network.peer_with("carla", |settings| relay_only(settings, &url)).await;
    let [ana_id, ben_id, carla_id] = [ana.peer_id().await, ben.peer_id().await, carla.peer_id().await];

    let name = "plans that nobody else may read.txt";
    let file = sample(600, 5 * MIB + 99);
    let id = ben.share(name, &file).await;
    ana.found("plans", id, 1).await;
    ana.fetch(id).await;
    let link = relayed(&ana, &ben).await;
    let listed: Vec<_> = link.list().await.unwrap().collect().await;
    assert_eq!(listed.len(), 1);
    until("the tap has seen all of it", async || {
        let bytes: usize = tap.all().iter().map(|message| message.body.len()).sum();
        (bytes > file.len()).then_some(())
    })
    .await;
    nothing_shows(&tap, &file, name, id);

    // From here on the broker writes, too.
    assert!(link.describe(id, 0).await.is_ok());
    let question = until("it is answered", async || {
        tap.questions(ana_id, ben_id).pop().filter(|question| tap.answers(question).len() == 1)
    })
    .await;
    questions_that_nobody_asked(&tap, &question, ana_id, ben_id, carla_id).await;
    let answer = tap.answers(&question).pop().unwrap();
    is_refused(&tap, &answer, "nobody asks", "an answer to a question that is over").await;
    answers_that_nobody_gave(&tap, &link, &carla, &ben, id, (ana_id, ben_id)).await;
    assert_eq!(tap.answers(&question).len(), 2, "a copy is ours: the question was answered once");

    assert!(link.describe(id, 0).await.is_ok(), "and all goes on");
    drop(link);
    tap.end().await;
    network.end([ana, ben, carla]).await;
}

/// No message has a part of the file, its name or its content id in it.
fn nothing_shows(tap: &Tap, file: &[u8], name: &str, id: content::ContentId) {
    let messages = tap.all();
    let hex_id = id.to_string();
    let mut secrets: Vec<&[u8]> = vec![name.as_bytes(), b"nobody else", hex_id.as_bytes(), id.as_bytes()];
    // Wherever a message might begin.
    secrets.extend(file.chunks(64 << 10).map(|chunk| &chunk[..chunk.len().min(16)]));
    let firsts: Vec<u8> = secrets.iter().map(|secret| secret[0]).collect();
    for message in &messages {
        let label = message.label();
        assert!(!label.contains(&hex_id) && !label.contains("plans"), "{label}");
        for (at, byte) in message.body.iter().enumerate() {
            for (first, secret) in firsts.iter().zip(&secrets) {
                assert!(byte != first || !message.body[at..].starts_with(secret), "in {label}");
            }
        }
    }
}

async fn questions_that_nobody_asked(tap: &Tap, question: &Message, ana: PeerId, ben: PeerId, carla: PeerId) {
    is_refused(tap, question, "replayed", "a copy").await;
    let last = question.body.len() - 1;
    for at in [last, last / 2, last - 40] {
        is_refused(tap, &question.flipped(at), "forged", "a flipped bit").await;
    }
    let other_id = question.with(|message| {
        message.properties = message.properties.clone().with_message_id("07".repeat(16).into());
    });
    is_refused(tap, &other_id, "forged", "another id").await;
    let answers_elsewhere = question.with(|message| {
        message.properties = message.properties.clone().with_reply_to("07".repeat(8).into());
    });
    is_refused(tap, &answers_elsewhere, "forged", "another queue for the answers").await;
    let by_carla = question.with(|message| message.key = format!("{ben}.live.{carla}"));
    is_refused(tap, &by_carla, "unknown sender", "another sender").await;
    let by_nobody = question.with(|message| message.key = format!("{ben}.live.{}", "07".repeat(16)));
    is_refused(tap, &by_nobody, "unknown sender", "a sender that is nobody").await;
    let garbage = question.with(|message| message.body = vec![0xff; 200]);
    is_refused(tap, &garbage, "malformed", "garbage").await;
    let without_end = question.with(|message| message.body = vec![8; 1 << 20]);
    is_refused(tap, &without_end, "too large", "a question that is too long").await;

    // Carla cannot open it, and says so to whoever seems to have asked; who did not ask, and does not care.
    let hints = refused("nobody asks");
    let to_carla = question.with(|message| message.key = format!("{carla}.live.{ana}"));
    is_refused(tap, &to_carla, "stale key", "a question to another").await;
    until("the hint is not asked for", async || (refused("nobody asks") > hints).then_some(())).await;
}

/// While a question waits for answers.
async fn answers_that_nobody_gave(
    tap: &Tap,
    link: &Link,
    carla: &Peer,
    ben: &Peer,
    id: content::ContentId,
    (ana_id, ben_id): (PeerId, PeerId),
) {
    let mut states = link.watch(id).await.unwrap();
    let first = timeout(PATIENCE, states.next()).await.unwrap().unwrap().unwrap();
    assert!(first.receivers.is_empty());
    let answer = until("the answer is tapped", async || {
        tap.questions(ana_id, ben_id).pop().and_then(|question| tap.answers(&question).pop())
    })
    .await;
    let mut rest = VecDeque::from([
        (answer.clone(), "duplicate", "a copy"),
        (answer.flipped(answer.body.len() - 1), "forged", "a flipped bit"),
        (answer.flipped(5), "forged", "another number"),
        (answer.flipped(1), "forged", "a last answer that is none"),
        (answer.with(|message| message.body = vec![9; 80]), "version", "another version"),
        (answer.with(|message| message.body.clear()), "malformed", "nothing"),
        (
            answer.with(|message| message.key = message.key.replace(&ben_id.to_string(), &"07".repeat(16))),
            "misplaced",
            "by another than was asked",
        ),
    ]);
    // They are read in the order in which they came, while the asker waits for what changes.
    let reading = async {
        let state = timeout(PATIENCE, states.next()).await.expect("the true answer comes").unwrap().unwrap();
        assert_eq!(state.receivers.len(), 1, "carla is a receiver now");
    };
    let writing = async {
        while let Some((message, reason, what)) = rest.pop_front() {
            is_refused(tap, &message, reason, what).await;
        }
        let theirs = relayed(carla, ben).await;
        let mut theirs = theirs.watch(id).await.unwrap();
        timeout(PATIENCE, theirs.next()).await.unwrap().unwrap().unwrap();
        theirs
    };
    let ((), _theirs) = tokio::join!(reading, writing);
}

/// A queue that questions to this peer lead to as well, and that is full; it goes with the connection.
async fn a_full_queue_beside(connection: &Connection, peer: PeerId) {
    let channel = connection.create_channel().await.unwrap();
    let mut limits = FieldTable::default();
    limits.insert("x-max-length".into(), AMQPValue::LongLongInt(0));
    limits.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), options, limits).await.unwrap();
    let key = format!("{peer}.live.*").into();
    let options = QueueBindOptions::default();
    channel
        .queue_bind(queue.name().clone(), EXCHANGES[0].into(), key, options, FieldTable::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_is_noticed_and_new_keys_are_found() {
    daemon::metrics::init().unwrap();
    let mut rabbit = Rabbit::start(RabbitOptions::default()).await;
    let url = rabbit.url();
    let network = Network::start().await;
    let ana = network.peer_with("ana", |settings| relay_only(settings, &url)).await;
    let ben = network.peer_with("ben", |settings| relay_only(settings, &url)).await;
    let id = ben.share("a file.txt", b"a file").await;
    let link = relayed(&ana, &ben).await;
    let with_old_key = target(&ana, &ben).await;
    assert!(link.describe(id, 0).await.is_ok());

    // A queue that takes nothing, beside the peer's own, keeps nobody from an answer.
    let (connection, _ground) = connected(&rabbit).await;
    a_full_queue_beside(&connection, ben.peer_id().await).await;
    assert!(link.describe(id, 0).await.is_ok());

    // A peer that is off is known to be off soon; and at once, where no queue is left.
    let settings = ben.end().await;
    let asked = std::time::Instant::now();
    for (why, limit) in [("the peer's queue at the relay is full", 4), ("the peer is not on the relay", 8)] {
        until(why, async || {
            let answer = link.describe(id, 0).await.map(drop);
            (answer == Err(LinkError::Unreachable(why.to_owned()))).then_some(())
        })
        .await;
        assert!(asked.elapsed() < PATIENCE / limit, "{:?}", asked.elapsed());
        drop(connection.close(200, "".into()).await);
    }

    // It comes back with another key: whoever has the old one is told, and finds the new one.
    std::fs::remove_file(settings.data_dir.join("sealing.key")).unwrap();
    let ben = Peer::again(settings).await;
    assert_ne!(target(&ana, &ben).await.sealing_key, with_old_key.sealing_key);
    until("it is on the relay again", async || {
        let answer = link.describe(id, 0).await.map(drop);
        (answer != Err(LinkError::Unreachable("the peer is not on the relay".to_owned()))).then_some(answer)
    })
    .await
    .unwrap();
    assert!(refused("stale key") > 0);

    // The broker goes: what waits is told, and does not wait for a clock.
    let mut states = link.watch(id).await.unwrap();
    timeout(PATIENCE, states.next()).await.unwrap().unwrap().unwrap();
    rabbit.settle().await;
    rabbit.kill().await;
    let killed = std::time::Instant::now();
    let lost = timeout(PATIENCE, states.next()).await.expect("it is noticed").unwrap();
    assert_eq!(lost.map(drop), Err(LinkError::Unreachable("the relay's connection was lost".to_owned())));
    assert!(killed.elapsed() < PATIENCE / 4, "{:?}", killed.elapsed());
    let away = link.describe(id, 0).await.map(drop).unwrap_err();
    assert!(matches!(away, LinkError::Unreachable(_)), "{away}");

    rabbit.start_again().await;
    until("it goes on by itself", async || link.describe(id, 0).await.ok()).await;
    drop((link, states));
    network.end([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_question_is_answered_twice_whatever_was_restarted() {
    let (_rabbit, tap, network, [ana, ben]) = tapped().await;
    let [ana_id, ben_id] = [ana.peer_id().await, ben.peer_id().await];
    let file = sample(611, 3 * MIB);
    let id = ben.share("asked again.bin", &file).await;
    ana.found("asked again", id, 1).await;
    ana.fetch(id).await;
    let old = tap.questions(ana_id, ben_id);
    assert!(old.len() > 2, "one that tells the epoch, one that describes and one that fetches");

    let ben = Peer::again(ben.end().await).await;
    on_the_relay(&ben).await;
    let bytes =
        || tap.all().iter().filter(|one| one.key.starts_with(&ana_id.to_string())).map(Message::size).sum();
    let before: usize = bytes();
    for (n, question) in old.iter().enumerate() {
        is_refused(&tap, question, "other epoch", &format!("question {n} of before the restart")).await;
        is_refused(&tap, question, "replayed", &format!("a copy of question {n}")).await;
    }
    let told: usize = bytes();
    assert!(told - before < 100 * old.len(), "no more than the epoch is told: {} bytes", told - before);

    // Whoever asked before goes on without a fault.
    let link = relayed(&ana, &ben).await;
    assert!(link.describe(id, 0).await.is_ok());
    let last = tap.questions(ana_id, ben_id).pop().unwrap();
    until("it is answered", async || (tap.answers(&last).len() == 1).then_some(())).await;
    is_refused(&tap, &last, "replayed", "a copy of the last question").await;
    drop(link);
    tap.end().await;
    network.end([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_left_for_a_peer_is_answered_once() {
    let (_rabbit, tap, network, [ana, ben]) = tapped().await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let [ana_id, ben_id] = [ana.peer_id().await, ben.peer_id().await];
    let id = ben.share("for later.bin", &sample(610, 2 * MIB)).await;
    ana.found("for later", id, 1).await;
    let ben = ben.end().await;
    until_offline(&ana, "for later").await;
    let download = ana.start(id).await;
    let offer = json!({ "content_id": ana.share("mine.bin", b"mine").await, "to": "ben" });
    assert_eq!(ana.post("/v1/offers", &offer).await.status, StatusCode::CREATED);
    let letters = until("both lie there", async || {
        let key = format!("{ben_id}.want.{ana_id}");
        let letters: Vec<_> = tap.all().into_iter().filter(|message| message.key == key).collect();
        (letters.len() == 2).then_some(letters)
    })
    .await;

    let ben = Peer::again(ben).await;
    ana.done(&download.id).await;
    until("both are answered", async || (sent_mail(&tap, ana_id, &letters) == [true, true]).then_some(()))
        .await;
    for letter in &letters {
        is_refused(&tap, letter, "replayed", "a copy").await;
    }
    let ben = Peer::again(ben.end().await).await;
    on_the_relay(&ben).await;
    let before = tap.all().iter().filter(|message| is_mail(message, ana_id)).count();
    for letter in &letters {
        is_refused(&tap, letter, "replayed", "a copy, after a restart").await;
    }
    let after = tap.all().iter().filter(|message| is_mail(message, ana_id)).count();
    assert_eq!(after, before, "a copy brings nothing into a mailbox");
    tap.end().await;
    network.end([ana, ben]).await;
}

fn is_mail(message: &Message, to: PeerId) -> bool {
    message.key.starts_with(&format!("{to}.mailbox."))
}

/// Which of these were answered for good, by mail.
fn sent_mail(tap: &Tap, to: PeerId, letters: &[Message]) -> Vec<bool> {
    let all = tap.all();
    let answered = |letter: &Message| {
        let id = letter.properties.message_id();
        all.iter().any(|message| is_mail(message, to) && message.properties.correlation_id() == id)
    };
    letters.iter().map(answered).collect()
}
