//! The broker of the tests is what it says: a real one, kept alone, gone when it should be.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what goes wrong should end the test, there")]

use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use futures::future::join_all;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use testnet::{Rabbit, RabbitOptions, until};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    process::Command,
};

const QUEUE: &str = "kept";

/// One message in a durable queue, confirmed.
async fn keep_one(url: &str, kind: &str) {
    let channel = channel(url).await;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(QUEUE.into(), durable, arguments).await.unwrap();
    let persistent = BasicProperties::default().with_delivery_mode(2);
    let mandatory = BasicPublishOptions { mandatory: true, ..Default::default() };
    let sent = channel.basic_publish("".into(), QUEUE.into(), mandatory, b"one", persistent);
    assert!(matches!(sent.await.unwrap().await.unwrap(), Confirmation::Ack(None)));
}

/// The message. A queue that has just lost its leader refuses until it has another one.
async fn take_one(url: &str) -> Vec<u8> {
    until("there is a message", async || {
        let got = channel(url).await.basic_get(QUEUE.into(), BasicGetOptions { no_ack: true }).await;
        got.ok().flatten().map(|message| message.delivery.data.clone())
    })
    .await
}

async fn channel(url: &str) -> Channel {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    connection.create_channel().await.unwrap()
}

async fn nobody_listens(address: SocketAddr) {
    until("nobody listens there", async || TcpStream::connect(address).await.is_err().then_some(())).await;
}

#[tokio::test]
async fn it_keeps_what_was_confirmed_over_kill_and_stop() {
    let mut rabbit = Rabbit::start(RabbitOptions::default()).await;
    keep_one(&rabbit.url(), "quorum").await;
    rabbit.settle().await;
    rabbit.kill().await;
    nobody_listens(rabbit.address()).await;
    rabbit.start_again().await;
    rabbit.stop().await;
    nobody_listens(rabbit.address()).await;
    rabbit.start_again().await;
    assert_eq!(take_one(&rabbit.url()).await, b"one");
    assert!(rabbit.memory_bytes() > 50 << 20);
    assert!(rabbit.log().contains("Server startup complete"));
}

#[tokio::test]
async fn its_plugins_and_configuration_are_its_own() {
    let rabbit = Rabbit::start(RabbitOptions {
        plugins: vec!["rabbitmq_auth_backend_cache"],
        config: vec!["max_message_size = 1048576".to_owned()],
    })
    .await;
    let plugins = rabbit.ctl(&["eval", "[Name || {Name, _, _} <- application:which_applications()]."]).await;
    assert!(plugins.contains("rabbitmq_auth_backend_cache") && !plugins.contains("rabbitmq_management"));
    let size = rabbit.ctl(&["eval", "application:get_env(rabbit, max_message_size)."]).await;
    assert_eq!(size.trim(), "{ok,1048576}");
}

#[tokio::test]
async fn an_alarm_blocks_publishers_until_it_ends() {
    let rabbit = Rabbit::start(RabbitOptions::default()).await;
    rabbit.memory_alarm(true).await;
    let url = rabbit.url();
    let publishing = keep_one(&url, "classic");
    tokio::pin!(publishing);
    let blocked = tokio::time::timeout(Duration::from_secs(1), &mut publishing).await;
    assert!(blocked.is_err(), "a publish went through an alarm");
    rabbit.memory_alarm(false).await;
    publishing.await;
}

#[tokio::test]
async fn a_frozen_one_is_silent_and_comes_back() {
    let rabbit = Rabbit::start(RabbitOptions::default()).await;
    rabbit.freeze().await;
    let url = rabbit.url();
    let asking = keep_one(&url, "classic");
    tokio::pin!(asking);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut asking).await.is_err());
    rabbit.thaw().await;
    asking.await;
}

#[tokio::test]
async fn a_cluster_outlives_one_of_its_nodes() {
    let mut nodes = Rabbit::cluster(3, RabbitOptions::default()).await;
    keep_one(&nodes[0].url(), "quorum").await;
    nodes[0].kill().await;
    assert_eq!(take_one(&nodes[1].url()).await, b"one");
    nodes[0].start_again().await;
    keep_one(&nodes[2].url(), "quorum").await;
    // All of them at once, and back.
    join_all(nodes.iter().map(Rabbit::settle)).await;
    join_all(nodes.iter_mut().map(Rabbit::kill)).await;
    join_all(nodes.iter_mut().map(Rabbit::start_again)).await;
    assert_eq!(take_one(&nodes[1].url()).await, b"one");
}

#[tokio::test]
async fn everybody_shares_one() {
    assert_eq!(Rabbit::shared().await, Rabbit::shared().await);
    channel(&Rabbit::shared().await).await;
}

#[tokio::test]
async fn nothing_is_left_of_one_that_is_dropped() {
    let rabbit = Rabbit::start(RabbitOptions::default()).await;
    let address = rabbit.address();
    drop(rabbit);
    assert!(TcpStream::connect(address).await.is_err());
}

/// The program for scripts, and the worst end that it can have.
#[tokio::test]
async fn nothing_is_left_when_the_one_who_started_it_is_killed() {
    let temporary = tempfile::tempdir().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_testnet-broker"))
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let url = BufReader::new(program.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
    channel(&url).await;
    let is_empty = |folder: &Path| std::fs::read_dir(folder).unwrap().next().is_none();
    assert!(!is_empty(temporary.path()), "it works in the folder for what is temporary");
    program.kill().await.unwrap();
    nobody_listens(url.rsplit('@').next().unwrap().parse().unwrap()).await;
    until("the folder is gone", async || is_empty(temporary.path()).then_some(())).await;
}

/// As scripts end it.
#[tokio::test]
async fn the_program_for_scripts_goes_when_its_input_closes() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_testnet-broker"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let url = BufReader::new(program.stdout.take().unwrap()).lines().next_line().await.unwrap().unwrap();
    drop(program.stdin.take());
    assert!(program.wait().await.unwrap().success());
    nobody_listens(url.rsplit('@').next().unwrap().parse().unwrap()).await;
}
