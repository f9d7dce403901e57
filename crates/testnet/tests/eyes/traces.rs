//! One trace from whoever asks pclient to the other peer's disk and to the directory, by either path.

use std::{collections::BTreeSet, time::Duration};

use content::ContentId;
use reqwest::Method;
use serde_json::json;
use testnet::{Api, Network, Process, Rabbit, sample, until};
use wire::rest::pclient::{Download, PeerPath};

use super::{
    collector::{Collector, Spot},
    programs::{Directory, PEER, SETTING, figure, peer},
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const ASKER: &str = "00f067aa0ba902b7";
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

/// Fetches a content as part of a trace that the asker began.
async fn fetch(api: &Api, id: ContentId, sampled: &str) -> Download {
    let ask = api.request(Method::POST, "/v1/downloads").json(&json!({ "content_id": id }));
    let ask = ask.header("traceparent", format!("00-{TRACE}-{ASKER}-{sampled}"));
    let started: Download = Api::reply(ask).await.read();
    api.done(&started.id).await
}

/// The spans of the asker's trace, which must be one tree under the asker's own span.
fn tree(collector: &Collector) -> Vec<Spot> {
    let spans: Vec<Spot> = collector.spans().into_iter().filter(|span| span.trace == TRACE).collect();
    let known: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).chain([ASKER]).collect();
    for span in &spans {
        assert!(known.contains(span.parent.as_str()), "{span:?} hangs on nothing: {spans:#?}");
    }
    let [root] = &spans.iter().filter(|span| span.parent == ASKER).collect::<Vec<_>>()[..] else {
        panic!("not one root: {spans:#?}")
    };
    assert_eq!((root.name.as_str(), root.kind), ("POST /v1/downloads", SERVER));
    spans
}

/// The names of a span and of those above it, from the root on, each with the end of whose it is.
#[track_caller]
fn line(spans: &[Spot], instance: &str, name: &str, kind: i32) -> Vec<String> {
    let is_it = |span: &&Spot| span.instance == instance && span.name == name && span.kind == kind;
    let mut at = spans.iter().find(is_it);
    assert!(at.is_some(), "no {name:?} of {instance:?}: {spans:#?}");
    let mut names = Vec::new();
    while let Some(span) = at {
        names.push(span.name.clone());
        at = spans.iter().find(|other| other.id == span.parent);
    }
    names.reverse();
    names
}

/// What went from one to the other by one way, counted at both ends.
async fn counted(receiver: &Api, sender: &Api, path: &str, bytes: u32) {
    let metrics = |api: &Api| api.request(Method::GET, "/metrics");
    let received = format!("trueque_received_bytes_total{{path=\"{path}\"}}");
    let sent = format!("trueque_sent_bytes_total{{path=\"{path}\"}}");
    let first = format!("trueque_fetch_first_byte_seconds_count{{path=\"{path}\"}}");
    assert_eq!(figure(metrics(receiver), &received).await, f64::from(bytes));
    assert_eq!(figure(metrics(sender), &sent).await, f64::from(bytes));
    assert!(figure(metrics(receiver), &first).await >= 1.0);
    assert_eq!(figure(metrics(receiver), "trueque_downloads{state=\"running\"}").await, 0.0);
    until("nothing is being read any more", async || {
        (figure(metrics(sender), "trueque_uploads_running").await == 0.0).then_some(())
    })
    .await;
}

async fn on_the_relay(peer: &Process) {
    until("the peer is on the relay", async || peer.status().await.relay.connected.then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relayed_fetch_is_one_trace_through_both_peers_the_queue_and_the_directory() {
    let (broker, collector, network) =
        (Rabbit::shared().await, Collector::start().await, Network::start().await);
    let directory = Directory::start(&network.folder("traced directory"), &collector.url()).await;
    let relay_only = [("PEER_AMQP_URL", broker.as_str()), ("PSERVER_LISTEN", "off")];
    let ana = peer(&network, &directory, "ana", &collector.url(), &relay_only).await;
    let ben = peer(&network, &directory, "ben", &collector.url(), &relay_only).await;
    on_the_relay(&ana).await;
    on_the_relay(&ben).await;
    let (ana_id, ben_id) = (ana.peer_id().await.to_string(), ben.peer_id().await.to_string());
    let id = ben.share("a secret diary.bin", &sample(500, 5 << 20)).await;
    ana.found("diary", id, 1).await;

    let download = fetch(&ana, id, "01").await;
    assert_eq!(download.sources[0].path, PeerPath::Relayed);
    counted(&ana, &ben, "relayed", 5 << 20).await;
    // What is left is sent when they stop.
    assert_eq!((ana.terminate().await, ben.terminate().await), (Some(0), Some(0)));
    assert_eq!(directory.terminate().await, Some(0));

    let spans = tree(&collector);
    let services: BTreeSet<(&str, &str)> =
        spans.iter().map(|span| (span.service.as_str(), span.instance.as_str())).collect();
    let wanted = [("trueque-directory", ""), ("trueque-peer", &ana_id), ("trueque-peer", &ben_id)];
    assert_eq!(services, BTreeSet::from(wanted));
    assert_eq!(
        line(&spans, "", "GET /v1/files/{content_id}", SERVER),
        ["POST /v1/downloads", "download", "ask the directory", "GET /v1/files/{content_id}"]
    );
    assert_eq!(
        line(&spans, &ben_id, "read from disk", INTERNAL),
        [
            "POST /v1/downloads",
            "download",
            "fetch",
            "publish a question",
            "consume a question",
            "fetch",
            "read from disk"
        ]
    );
    assert_eq!(
        line(&spans, &ben_id, "describe", SERVER),
        [
            "POST /v1/downloads",
            "download",
            "Describe",
            "publish a question",
            "consume a question",
            "describe"
        ]
    );
    assert_eq!(
        line(&spans, &ana_id, "sync and place", INTERNAL),
        ["POST /v1/downloads", "download", "sync and place"]
    );
    for (name, kind, at) in
        [("publish a question", PRODUCER, &ana_id), ("consume a question", CONSUMER, &ben_id)]
    {
        assert!(
            spans.iter().any(|span| span.name == name && span.kind == kind && span.instance == *at),
            "{name}"
        );
    }
    let fetched = spans.iter().find(|span| span.name == "fetch" && span.kind == CLIENT).unwrap();
    assert_eq!((fetched.fields["path"].as_str(), &fetched.fields["peer.id"]), ("relayed", &ben_id));
    let download = spans.iter().find(|span| span.name == "download").unwrap();
    assert_eq!(download.fields["content.id"], id.to_string()[..8]);
    for secret in ["diary", &id.to_string(), "password", "Bearer"] {
        assert!(!collector.heard(secret), "{secret} was told");
    }
    drop(collector);
    network.end([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_fetch_is_one_trace_and_who_does_not_trace_sends_nothing() {
    let (collector, network) = (Collector::start().await, Network::start().await);
    let directory = Directory::start(&network.folder("traced directory"), &collector.url()).await;
    let ana = peer(&network, &directory, "ana", &collector.url(), &[]).await;
    let ben = peer(&network, &directory, "ben", &collector.url(), &[]).await;
    // As a setting that is empty, which is one that is not set.
    let eva = peer(&network, &directory, "eva", "", &[]).await;
    let (ana_id, ben_id, eva_id) =
        (ana.peer_id().await.to_string(), ben.peer_id().await.to_string(), eva.peer_id().await.to_string());
    let id = ben.share("direct.bin", &sample(501, 5 << 20)).await;
    ana.found("direct", id, 1).await;
    let download = fetch(&ana, id, "01").await;
    assert_eq!(download.sources[0].path, PeerPath::Direct);
    counted(&ana, &ben, "direct", 5 << 20).await;
    assert_eq!(figure(directory.metrics(), "directory_leases_online").await, 3.0);
    assert!(figure(directory.metrics(), "directory_commit_seconds_count").await > 0.0);
    let of_eva = eva.share("of eva.bin", &sample(502, 2 << 20)).await;
    ana.found("of eva", of_eva, 1).await;
    fetch(&ana, of_eva, "00").await;
    assert_eq!(
        (ana.terminate().await, ben.terminate().await, eva.terminate().await),
        (Some(0), Some(0), Some(0))
    );
    assert_eq!(directory.terminate().await, Some(0));

    let spans = tree(&collector);
    assert_eq!(
        line(&spans, &ben_id, "read from disk", INTERNAL),
        ["POST /v1/downloads", "download", "fetch", "Fetch", "read from disk"]
    );
    assert_eq!(
        line(&spans, &ben_id, "Describe", SERVER),
        ["POST /v1/downloads", "download", "Describe", "Describe"]
    );
    line(&spans, &ana_id, "fetch", CLIENT);
    line(&spans, "", "GET /v1/files/{content_id}", SERVER);
    assert!(spans.iter().all(|span| span.kind != PRODUCER && span.kind != CONSUMER), "{spans:#?}");
    let downloads = spans.iter().filter(|span| span.name == "download").count();
    assert_eq!(downloads, 1, "an asker who wants no trace gets none: {spans:#?}");
    assert!(collector.spans().iter().all(|span| span.instance != eva_id));
    drop(collector);
    network.end([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_never_answers_holds_nobody_up() {
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = format!("http://{}", deaf.local_addr().unwrap());
    let network = Network::start().await;
    let ben = network.peer("ben").await;
    let ana = Process::peer(&network, PEER, "ana", &[(SETTING, &collector)]).await;
    let id = ben.share("unseen.bin", &sample(503, 3 << 20)).await;
    ana.found("unseen", id, 1).await;
    fetch(&ana, id, "01").await;
    let asked = std::time::Instant::now();
    assert_eq!(ana.terminate().await, Some(0));
    assert!(asked.elapsed() < Duration::from_secs(8), "the stop took {:?}", asked.elapsed());
    network.end([ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_none_stops_the_program_and_names_the_setting() {
    let network = Network::start().await;
    for wrong in ["collector", "localhost:4318", "ftp://here", "http://here?x=y", "http://u:sesame@here"] {
        let said = Process::refused(&network, PEER, "ana", &[(SETTING, wrong)]).await;
        assert!(said.contains(SETTING) && !said.contains("sesame"), "{wrong}: {said}");
    }
    network.end([]).await;
}
