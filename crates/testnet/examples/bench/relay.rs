//! The same over RabbitMQ, beside what the broker can do at all with messages of that size; and over a connection that
//! the holder made.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use peer::{
    config::{AmqpSetting, PserverListen, Settings},
    link::{Rung, Target},
};
use testnet::{Network, Rabbit, RabbitOptions, until};

use crate::{Bench, MIB, Program, RUNS, WARM, row};

const MESSAGES: usize = 1024;
const WINDOW: usize = 16;
const PREFETCH: u16 = 32;
const QUESTIONS: usize = 4000;

impl Bench {
    pub(crate) fn relay(&self) -> anyhow::Result<()> {
        let broker = self.runtime.block_on(Rabbit::start(RabbitOptions::default()));
        let off = [("PSERVER_LISTEN", "off".to_owned()), ("PEER_AMQP_URL", broker.url())];

        println!(
            "\none 1 GiB file over the relay        MB/s   CPU s   of the broker's limit (peers' CPU; the broker's is not counted)"
        );
        let mut shares = Vec::new();
        for _ in 0..RUNS {
            let bytes = MIB * MESSAGES as u64;
            self.warm(WARM)?;
            let limit = plain(&broker.url())?.as_secs_f64();
            row("RabbitMQ alone, messages of 1 MiB", bytes, limit, 0.0, "");
            let directory = self.directory()?;
            let ana = self.peer_with(&directory, "ana", &off)?;
            let beto = self.peer_with(&directory, "beto", &off)?;
            self.on_the_relay(&[&ana, &beto])?;
            let (_, id) = self.sample(&ana, "relayed.bin", 1024)?;
            self.warm(WARM)?;
            let cost = self.measured(&[&ana, &beto], || {
                let download = self.fetch(&beto, &id)?;
                let done = self.done(&beto, &download)?;
                ensure!(done["sources"][0]["path"] == "relayed", "{done}");
                Ok(())
            })?;
            shares.push(limit / cost.seconds);
            row(
                "trueque, sealed and verified",
                bytes,
                cost.seconds,
                cost.cpu,
                &format!("{:.2}", limit / cost.seconds),
            );
            drop((ana, beto, directory));
            self.clear()?;
        }
        shares.sort_by(f64::total_cmp);
        println!("median of the shares: {:.2}", shares[RUNS / 2]);

        let times = small_questions(&broker.url())?;
        println!(
            "\na question and its answer, sealed    p50 {:.2} ms   p99 {:.2} ms",
            times[times.len() / 2].as_secs_f64() * 1e3,
            times[times.len() * 99 / 100].as_secs_f64() * 1e3
        );

        println!("\nresident MiB while 10 GiB move       sender   receiver   broker");
        let directory = self.directory()?;
        let ana = self.peer_with(&directory, "ana", &off)?;
        let beto = self.peer_with(&directory, "beto", &off)?;
        self.on_the_relay(&[&ana, &beto])?;
        self.ten_gibibytes(&ana, &beto, || Ok((broker.memory_bytes() / MIB).to_string()))?;
        drop((ana, beto, directory));
        self.clear()
    }

    pub(crate) fn reversed(&self) -> anyhow::Result<()> {
        let broker = self.runtime.block_on(Rabbit::start(RabbitOptions::default()));
        println!("\none 1 GiB file, who dialled          MB/s   CPU s");
        for _ in 0..RUNS {
            for path in ["direct", "reversed"] {
                let directory = self.directory()?;
                let amqp = ("PEER_AMQP_URL", broker.url());
                let mut own = vec![amqp.clone()];
                if path == "reversed" {
                    // Nobody listens there.
                    own.push(("PSERVER_ADVERTISE", "127.0.0.1:1".to_owned()));
                }
                let ana = self.peer_with(&directory, "ana", &own)?;
                let beto = self.peer_with(&directory, "beto", &[amqp])?;
                self.on_the_relay(&[&ana, &beto])?;
                let (_, id) = self.sample(&ana, "reversed.bin", 1024)?;
                self.warm(WARM)?;
                let mut ways = String::new();
                let cost = self.measured(&[&ana, &beto], || {
                    let download = self.fetch(&beto, &id)?;
                    ways = self.done(&beto, &download)?["sources"][0]["path"].to_string();
                    Ok(())
                })?;
                ensure!(ways.contains(path), "{ways} instead of {path}");
                let who = if path == "direct" { "the receiver" } else { "the sender (reversed)" };
                row(who, 1024 * MIB, cost.seconds, cost.cpu, "");
                drop((ana, beto, directory));
                self.clear()?;
            }
        }
        Ok(())
    }

    fn on_the_relay(&self, peers: &[&Program]) -> anyhow::Result<()> {
        for peer in peers {
            self.wait("the relay", || Ok(self.get(peer, "/v1/status")?["relay"]["connected"] == true))?;
        }
        Ok(())
    }
}

/// What the broker does with as many messages of 1 MiB: one publisher with confirms, one consumer, a queue in memory.
fn plain(url: &str) -> anyhow::Result<Duration> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let took = runtime.block_on(async {
        let open = async || -> anyhow::Result<_> {
            let connection = Connection::connect(url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            Ok((connection, channel))
        };
        let (_consuming, consumer) = open().await?;
        let (_publishing, publisher) = open().await?;
        let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
        consumer.queue_declare("limit".into(), exclusive, FieldTable::default()).await?;
        consumer.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let arriving = consumer
            .basic_consume(
                "limit".into(),
                "limit".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        publisher.confirm_select(ConfirmSelectOptions::default()).await?;
        let body = vec![7; 1 << 20];
        let start = Instant::now();
        let publish = futures::stream::iter(0..MESSAGES)
            .map(async |_| {
                let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
                publisher.basic_publish("".into(), "limit".into(), options, &body, properties).await?.await
            })
            .buffered(WINDOW)
            .try_for_each(async |_| Ok(()));
        let take = arriving
            .take(MESSAGES)
            .try_for_each(async |message| message.acker.ack(BasicAckOptions::default()).await.map(|_| ()));
        futures::future::try_join(publish, take).await?;
        anyhow::Ok(start.elapsed())
    })?;
    runtime.shutdown_background();
    Ok(took)
}

/// How long small questions take, one after the other, sorted.
fn small_questions(url: &str) -> anyhow::Result<Vec<Duration>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut times = runtime.block_on(async {
        let network = Network::start().await;
        let relayed = |settings: &mut Settings| {
            settings.amqp = AmqpSetting::At(url.to_owned().into());
            settings.pserver_listen = PserverListen::Off;
        };
        let ana = network.peer_with("ana", relayed).await;
        let beto = network.peer_with("beto", relayed).await;
        let id = beto.share("small.txt", b"small").await;
        let beto_id = beto.peer_id().await;
        let link = until("the relay is there", async || {
            let known = ana.peers().await;
            let target =
                known.iter().find(|one| one.peer.peer_id == beto_id).map(|one| Target::from(&one.peer))?;
            ana.links().get(&target, 0).await.ok().filter(|link| link.rung() == Rung::Relayed)
        })
        .await;
        let mut times = Vec::with_capacity(QUESTIONS);
        for _ in 0..QUESTIONS {
            let asked = Instant::now();
            link.describe(id, 0).await.map_err(|error| anyhow::anyhow!("{error}")).context("a question")?;
            times.push(asked.elapsed());
        }
        drop(link);
        network.end([ana, beto]).await;
        anyhow::Ok(times)
    })?;
    runtime.shutdown_background();
    times.sort();
    Ok(times)
}
