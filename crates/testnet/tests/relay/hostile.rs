//! Somebody on the broker who means harm: bodies that are no messages and too large, more questions than anybody has, and
//! answers that were not asked for. The peer is a real process, so that its memory can be looked at; beside all of it an
//! honest peer fetches.

use bytes::Bytes;
use futures::StreamExt;
use lapin::{BasicProperties, Connection, ConnectionProperties, options::BasicPublishOptions};
use peer::{
    config::AmqpSetting,
    link::Target,
    relay::message::{Outgoing, Route},
};
use testnet::{Member, Network, Peer, Process, Rabbit, RabbitOptions, until};
use wire::PeerId;

use super::{
    mail::on_the_relay,
    station::{Station, anybody, message},
    talk::relay_only,
};
use crate::{MIB, big};

const PEER: &str = env!("CARGO_BIN_EXE_testnet-peer");
const MOST_MEMORY: u64 = 240 << 20;

fn peak_memory(process: &Process) -> u64 {
    let status = String::from_utf8(testnet::read(format!("/proc/{}/status", process.pid()))).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// A counter of the process; nought where it has none.
async fn counted(process: &Process, name: &str) -> u64 {
    let metrics = String::from_utf8(process.get("/metrics").await.body.to_vec()).unwrap();
    let value = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
    metrics.lines().find_map(value).unwrap_or(0)
}

/// Bodies of eight megabytes that are nothing, to every queue of the victim.
async fn writes_garbage(url: &str, victim: PeerId) {
    let url = url.to_owned();
    // In a runtime of its own: what the broker's client leaves running there is not counted as ours.
    let writing = move || {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
            let channel = connection.create_channel().await.unwrap();
            let garbage = vec![0xa5; 8 * MIB];
            for number in 0..90 {
                let (exchange, kind) = match number % 3 {
                    0 => ("trueque.requests", "live"),
                    1 => ("trueque.requests", "want"),
                    _ => ("trueque.answers", "mailbox"),
                };
                let key = format!("{victim}.{kind}.{}", anybody());
                let properties = BasicProperties::default()
                    .with_user_id("guest".into())
                    .with_message_id("ab".repeat(16).into());
                let options = BasicPublishOptions::default();
                // A full queue refuses some of it.
                let _taken_or_not =
                    channel.basic_publish(exchange.into(), key.into(), options, &garbage, properties).await;
            }
        })
    };
    tokio::task::spawn_blocking(writing).await.unwrap();
}

/// More than one user may have, so that some are refused however quickly the others are answered: each goes on for half a
/// minute.
const WATCHES: u32 = 300;

/// Hundreds of questions of a real asker at once, whose answers nobody reads.
async fn asks_for_everything(mallory: &Peer, target: &Target, id: content::ContentId) {
    let link = mallory.links().get(target, 0).await.unwrap();
    let mut asking = Vec::new();
    for at in 0..WATCHES + 320 {
        let link = link.clone();
        asking.push(Box::pin(async move {
            match at % 4 {
                _ if at < WATCHES => link.watch(id).await.map(drop),
                0 => link.describe(id, at).await.map(drop),
                1 => link.fetch(id, 0..24 * MIB as u64).await.map(drop),
                2 => link.fetch_many(&vec![id; 1_000]).await.map(drop),
                _ => link.list().await.map(drop),
            }
        }));
    }
    let asked = futures::stream::iter(asking).buffer_unordered(400);
    let refused = asked.filter(|answer| std::future::ready(answer.is_err())).count().await;
    assert!(refused > 0, "hundreds of questions at once, and every one was answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_member_takes_neither_memory_nor_anybodys_turn_over_the_relay() {
    let rabbit = Rabbit::start(RabbitOptions::default()).await;
    let broker = rabbit.url();
    let network = Network::start().await;
    let settings = [("PEER_AMQP_URL", broker.as_str()), ("PSERVER_LISTEN", "off")];
    let ana = Process::peer(&network, PEER, "ana", &settings).await;
    let ben = network.peer_with("ben", |settings| relay_only(settings, &broker)).await;
    let mallory = network.peer_with("mallory", |settings| relay_only(settings, &broker)).await;
    on_the_relay(&ben).await;
    on_the_relay(&mallory).await;
    until("ana is on the relay", async || ana.status().await.relay.connected.then_some(())).await;
    let ana_id = ana.peer_id().await;
    let file = big(450, 24);
    let id = ana.share("wanted.bin", &file).await;
    ben.found("wanted", id, 1).await;

    let holders = mallory.holders(id).await;
    let target = Target::from(&holders[0].holder);
    let attacks = async {
        writes_garbage(&broker, ana_id).await;
        asks_for_everything(&mallory, &target, id).await;
    };
    let (_, fetched) = tokio::join!(attacks, ben.fetch(id));
    assert_eq!(fetched.size, Some(file.len() as u64));
    assert!(counted(&ana, "trueque_relay_refused_total{reason=\"too large\"} ").await > 0);

    // As a holder: whatever ana asks, a flood of bodies comes back.
    let other = big(451, 6);
    let wanted = ben.share("with a liar.bin", &other).await;
    let liar = Member::join(&network.url(), "liar", &[]).await;
    let told = liar.announce(&[(wanted, "with a liar.bin", other.len() as u64)]).await;
    assert!(told.status.is_success(), "{told:?}");
    let mut station = Station::of(liar.peer_id, AmqpSetting::At(broker.clone().into()));
    station.on().await;
    ana.held_by(wanted, 2).await;
    let flood = async {
        while let Some(question) = station.inbox.live.recv().await {
            let answers = Route::Answer(question.answer_to.unwrap());
            for _ in 0..20 {
                let body = Bytes::from(vec![1; 2 * MIB]);
                let correlation_id = Some(question.message_id);
                let answer = Outgoing { correlation_id, ..message(question.from, answers, body) };
                let _gone_or_not = station.broker.publish(answer).await;
            }
            question.receipt.done().await;
        }
    };
    tokio::select! {
        () = flood => panic!("the broker let go of the liar"),
        done = ana.fetch(wanted) => assert_eq!(done.size, Some(other.len() as u64)),
    }
    let peak = peak_memory(&ana);
    println!("peak memory: {} MiB", peak >> 20);
    assert!(peak < MOST_MEMORY, "{peak} bytes");
    station.stop().await;
    assert_eq!(ana.terminate().await, Some(0));
    drop(liar);
    network.end([ben, mallory]).await;
}
