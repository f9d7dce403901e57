//! Somebody who is a peer, knows AMQP and wants to send as another: every way that RabbitMQ knows to get a message under
//! another's key to a peer. The broker refuses it; where a version of it does not, the message shows whose it is, and the
//! peer drops it, counts it, and goes on.

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicGetOptions, BasicPublishOptions, BasicRejectOptions, ConfirmSelectOptions, ExchangeBindOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    },
    types::{AMQPValue, FieldArray, FieldTable, ShortString},
};
use testnet::{Peer, until};
use wire::{
    PeerId,
    rest::pclient::{CheckResult, Examination},
};

use crate::{
    mail::on_the_relay,
    ruled::{
        Client, MISMATCH, NOT_ALLOWED, REFUSED, Ruled, User, Way, bind, code_of, declare, publish, taking,
    },
    tap::refused,
};

const REQUESTS: &str = "trueque.requests";

/// A way into an exchange for which a message's key is not looked at.
#[derive(Debug, Clone, Copy)]
enum Detour {
    /// The dead letters of an own queue, because it expired there,
    Expired,
    /// because it was refused there,
    Rejected,
    /// or because there was no room.
    Overflowed,
    /// The exchange for what an own exchange cannot route.
    Alternate,
    /// The exchange that an own exchange is bound to.
    Bound,
}

const DETOURS: [Detour; 5] =
    [Detour::Expired, Detour::Rejected, Detour::Overflowed, Detour::Alternate, Detour::Bound];

impl Detour {
    /// Why a peer refuses what comes this way.
    fn reason(self) -> &'static str {
        match self {
            Self::Expired | Self::Rejected | Self::Overflowed => "dead letter",
            Self::Alternate | Self::Bound => "another user",
        }
    }

    /// Makes everything that the detour needs, with names that begin with `own`, and sends something to `key` by it. What
    /// leads there comes first, so that it is what is refused.
    async fn send(self, channel: &Channel, own: &str, key: &str, user: &str) -> lapin::Result<()> {
        let (queue, exchange) = (format!("{own}.queue"), format!("{own}.exchange"));
        let mut of_queue = table([("x-dead-letter-exchange", REQUESTS), ("x-dead-letter-routing-key", key)]);
        let mut of_exchange = FieldTable::default();
        let mut kind = ExchangeKind::Fanout;
        match self {
            Self::Expired => {
                of_queue.insert("x-message-ttl".into(), AMQPValue::LongLongInt(1));
            }
            Self::Overflowed => {
                of_queue.insert("x-max-length".into(), AMQPValue::LongLongInt(1));
            }
            Self::Alternate => {
                of_exchange = table([("alternate-exchange", REQUESTS)]);
                kind = ExchangeKind::Direct;
            }
            Self::Rejected | Self::Bound => {}
        }
        let by_queue = matches!(self, Self::Expired | Self::Rejected | Self::Overflowed);
        if by_queue {
            let durable = QueueDeclareOptions { durable: true, ..Default::default() };
            channel.queue_declare(name(&queue), durable, of_queue).await?;
        }
        let options = ExchangeDeclareOptions::default();
        channel.exchange_declare(name(&exchange), kind, options, of_exchange).await?;
        if by_queue {
            let options = QueueBindOptions::default();
            channel
                .queue_bind(name(&queue), name(&exchange), "".into(), options, FieldTable::default())
                .await?;
        }
        if matches!(self, Self::Bound) {
            let options = ExchangeBindOptions::default();
            let (to, from) = (name(REQUESTS), name(&exchange));
            channel.exchange_bind(to, from, "".into(), options, FieldTable::default()).await?;
        }
        publish(channel, &exchange, key, user).await?;
        match self {
            // The first one makes room for it.
            Self::Overflowed => publish(channel, &exchange, key, user).await?,
            Self::Rejected => {
                let got = channel.basic_get(name(&queue), BasicGetOptions::default()).await?;
                got.unwrap().acker.reject(BasicRejectOptions { requeue: false }).await?;
            }
            Self::Expired | Self::Alternate | Self::Bound => {}
        }
        Ok(())
    }
}

fn name(text: &str) -> ShortString {
    text.into()
}

fn table<const N: usize>(words: [(&str, &str); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, word) in words {
        table.insert(key.into(), AMQPValue::LongString(word.into()));
    }
    table
}

/// A queue like a peer's, whose owner looks at what the broker put there.
struct Witness {
    client: Client,
    queue: String,
}

impl Witness {
    async fn called(ruled: &Ruled, who: &str) -> Self {
        let client = ruled.client(who).await;
        let (queue, key) = (client.queue("witness"), format!("{}.live.*", client.id()));
        client.takes.may("declare", async |channel| declare(&channel, &queue).await).await;
        client.takes.may("bind", async |channel| bind(&channel, &queue, REQUESTS, &key).await).await;
        Self { client, queue }
    }

    /// Waits for the next message; the last word of its key, and its user.
    async fn next(&self) -> (String, Option<String>) {
        let channel = self.client.takes.channel().await;
        let got = until("the witness has got it", async || {
            channel.basic_get(name(&self.queue), BasicGetOptions { no_ack: true }).await.unwrap()
        })
        .await;
        let last = got.delivery.routing_key.as_str().rsplit('.').next().unwrap().to_owned();
        (last, got.delivery.properties.user_id().as_ref().map(ToString::to_string))
    }
}

/// The story's people: who tries, in whose name, at whom.
struct Attempt<'a> {
    ruled: &'a Ruled,
    marta: &'a Client,
    pablo: PeerId,
    witness: &'a Witness,
    nora: PeerId,
}

impl Attempt<'_> {
    /// Sends to the witness and to a peer, each under the key of somebody else. Where the broker lets it pass, it shows
    /// whose it is, and the peer refuses it for this reason. Whether it let anything pass.
    async fn shows_or_fails(
        &self,
        what: &str,
        reason: &str,
        send: impl AsyncFn(PeerId) -> lapin::Result<()>,
    ) -> bool {
        if let Err(error) = send(self.witness.client.id()).await {
            let again = send(self.nora).await.expect_err(what);
            for error in [error, again] {
                assert!(matches!(code_of(&error), Some(REFUSED | NOT_ALLOWED)), "{what}: {error}");
            }
            return false;
        }
        let (last, user) = self.witness.next().await;
        let marta = self.marta.id().to_string();
        assert!(last == marta || user.as_ref() == Some(&marta), "{what}: {last} by {user:?}");
        let before = refused(reason);
        send(self.nora).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        until(&format!("{what} is refused as {reason}"), async || (refused(reason) > before).then_some(()))
            .await;
        true
    }

    /// The key of whom it is not.
    fn forged(&self, to: PeerId) -> String {
        format!("{to}.live.{}", self.pablo)
    }
}

pub(crate) async fn nobody_sends_as_another(ruled: &Ruled) {
    daemon::metrics::init().unwrap();
    let marta = ruled.client("marta").await;
    let pablo = ruled.member("pablo").await.peer_id;
    let witness = Witness::called(ruled, "olga").await;
    let nora = ruled.network.peer("nora").await;
    on_the_relay(&nora).await;
    let attempt = Attempt { ruled, marta: &marta, pablo, witness: &witness, nora: nora.peer_id().await };

    directly(&attempt).await;
    by_copies(&attempt).await;
    for detour in DETOURS {
        for to in [attempt.nora, witness.client.id()] {
            let (own, key) = (marta.queue(&format!("{detour:?}.{to}")), attempt.forged(to));
            let send =
                async |channel: Channel| detour.send(&channel, &own, &key, &marta.id().to_string()).await;
            marta.may_not(REFUSED, &format!("{detour:?}"), send).await;
        }
    }
    by_changing_rights(&attempt).await;
    it_is_well(&nora).await;
    nora.end().await;
}

async fn directly(Attempt { marta, pablo, nora, .. }: &Attempt<'_>) {
    let (me, forged, right) =
        (marta.id().to_string(), format!("{nora}.live.{pablo}"), format!("{nora}.live.{}", marta.id()));
    marta
        .may_not(REFUSED, "under their key", async |channel| publish(&channel, REQUESTS, &forged, &me).await)
        .await;
    let as_them = async |channel: Channel| publish(&channel, REQUESTS, &right, &pablo.to_string()).await;
    marta.publishes.may_not(MISMATCH, "with their user", as_them).await;
    let queue = format!("trueque.{nora}.wants.v1");
    marta
        .may_not(REFUSED, "past the exchanges", async |channel| publish(&channel, "", &queue, &me).await)
        .await;
    // Nobody says who it is. It is marta's, and she is not believed.
    let before = refused("no user");
    let channel = marta.publishes.channel().await;
    send_with(&channel, &right, BasicProperties::default()).await.unwrap();
    until("it is refused as no user", async || (refused("no user") > before).then_some(())).await;
}

/// Further keys, in the headers `CC` and `BCC`. RabbitMQ 4 looks at them, 3 does not: but a message shows the first key.
async fn by_copies(attempt: &Attempt<'_>) {
    let marta = attempt.marta;
    for header in ["CC", "BCC"] {
        let send = async |to: PeerId| {
            let mut headers = FieldTable::default();
            let copy = AMQPValue::LongString(attempt.forged(to).into());
            headers.insert(header.into(), AMQPValue::FieldArray(FieldArray::from(vec![copy])));
            let properties =
                BasicProperties::default().with_user_id(marta.id().to_string().into()).with_headers(headers);
            let own = format!("{0}.live.{0}", marta.id());
            send_with(&marta.publishes.channel().await, &own, properties).await
        };
        attempt.shows_or_fails(header, "wrong key", send).await;
    }
}

async fn send_with(channel: &Channel, key: &str, properties: BasicProperties) -> lapin::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = BasicPublishOptions::default();
    channel.basic_publish(REQUESTS.into(), key.into(), options, b"x", properties).await?.await.map(drop)
}

/// A channel of RabbitMQ remembers what it was allowed, also when its connection gets another token: so whoever publishes
/// once, and then shows the token of who takes, has both rights together. RabbitMQ 4 takes only tokens of the same user, and
/// these two are not; and where it asks about everything, a connection keeps its user.
async fn by_changing_rights(attempt: &Attempt<'_>) {
    let version = attempt.ruled.rabbit.ctl(&["eval", "rabbit_misc:version()."]).await;
    let major = version.trim_matches(|c: char| !c.is_ascii_digit()).split('.').next().unwrap();
    let closed = attempt.ruled.way == Way::Answers || major.parse::<u32>().expect(&version) >= 4;
    let Attempt { ruled, marta, .. } = attempt;
    for detour in DETOURS {
        let send = async |to: PeerId| {
            let changing = User(ruled.login(&marta.member).await?);
            let channel = changing.0.create_channel().await?;
            let me = marta.id().to_string();
            publish(&channel, REQUESTS, &format!("{me}.live.{me}"), &me).await?;
            let token = taking(&marta.member).password;
            changing.0.update_secret(token.as_str().into(), "other rights".into()).await?;
            let own = marta.queue(&format!("changing.{detour:?}.{to}"));
            detour.send(&channel, &own, &attempt.forged(to), &me).await
        };
        let passed = attempt.shows_or_fails(&format!("{detour:?}, with both"), detour.reason(), send).await;
        assert!(!(passed && closed), "{detour:?} passed RabbitMQ {version}");
    }
}

/// Where one user serves all peers, the broker refuses nothing of this. What was a dead letter still shows.
pub(crate) async fn nobody_takes_dead_letters(url: &str, user: &str, peer: PeerId) {
    daemon::metrics::init().unwrap();
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    for detour in [Detour::Expired, Detour::Rejected, Detour::Overflowed] {
        let (before, channel) = (refused(detour.reason()), connection.create_channel().await.unwrap());
        let (own, key) = (format!("trueque.own.{detour:?}"), format!("{peer}.live.{}", "07".repeat(16)));
        detour.send(&channel, &own, &key, user).await.unwrap();
        until(&format!("{detour:?} is refused"), async || (refused(detour.reason()) > before).then_some(()))
            .await;
    }
}

/// A sealed question through the broker to itself is answered.
async fn it_is_well(peer: &Peer) {
    let seen: Examination = peer.post("/v1/doctor", &()).await.read();
    for what in ["relay", "relay_round_trip", "relay_queues"] {
        let check = seen.checks.iter().find(|check| check.name == what).unwrap();
        assert_eq!(check.result, CheckResult::Ok, "{check:?}");
    }
}
