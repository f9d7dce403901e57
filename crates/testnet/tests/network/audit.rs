//! Who fetched what: what the owner of a peer is told of it.

use std::process::Output;

use testnet::{Network, Peer, sample, until};
use tokio::process::Command;
use wire::rest::{
    Page,
    pclient::{AuditEntry, FetchPath},
};

async fn audit(peer: &Peer, query: &str) -> Page<AuditEntry> {
    peer.get(&format!("/v1/audit?{query}")).await.read()
}

async fn until_written(peer: &Peer, bytes: u64) -> Vec<AuditEntry> {
    until("all that went out is written down", async || {
        let entries = audit(peer, "limit=200").await.items;
        (entries.iter().map(|entry| entry.bytes).sum::<u64>() >= bytes).then_some(entries)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_kept_who_fetched_what_and_told_to_the_owner_alone() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    let carla = network.peer("carla").await;
    let big = ana.share("big.bin", &sample(900, (5 << 20) + 1)).await;
    let small = ana.share("small file.txt", b"small").await;
    ben.found("big", big, 1).await;
    ben.fetch(big).await;
    carla.found("small", small, 1).await;
    carla.fetch(small).await;

    let entries = until_written(&ana, (5 << 20) + 6).await;
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (entry.username.as_str(), entry.content_id, entry.bytes, entry.path))
        .collect();
    assert_eq!(
        told,
        [("carla", small, 5, FetchPath::Direct), ("ben", big, (5 << 20) + 1, FetchPath::Direct)]
    );
    assert_eq!(entries[1].name.as_deref(), Some("big.bin"));
    assert_eq!(entries[1].peer_id, ben.peer_id().await);
    assert!(audit(&ben, "").await.items.is_empty(), "nobody has fetched from ben");

    assert_eq!(audit(&ana, "username=ben").await.items, entries[1..]);
    assert_eq!(audit(&ana, &format!("content_id={small}")).await.items, entries[..1]);
    let first = audit(&ana, "limit=1").await;
    assert_eq!(first.items, entries[..1]);
    let second = audit(&ana, &format!("limit=1&cursor={}", first.next_cursor.unwrap())).await;
    assert_eq!((second.items, second.next_cursor), (entries[1..].to_vec(), None));
    assert_eq!(ana.get("/v1/audit?user=ben").await.status, 400);

    // It outlives the process, and goes to other programs line by line.
    let ana = Peer::again(ana.end().await).await;
    let url = format!("http://{}", ana.address());
    let mut command = Command::new(env!("CARGO_BIN_EXE_testnet-peer"));
    command.env_clear().args(["audit", "--all", "--json-lines", "--pclient", &url]);
    let Output { status, stdout, stderr } = command.output().await.unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    let lines: Vec<AuditEntry> = stdout
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(lines, entries);
    let mut command = Command::new(env!("CARGO_BIN_EXE_testnet-peer"));
    let table = command.env_clear().args(["audit", "--pclient", &url]).output().await.unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("5.00 MiB  direct  big.bin"), "{table}");
    network.end([ana, ben, carla]).await;
}
