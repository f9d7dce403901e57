//! What a liar says about a size costs others nothing: each holder is believed for itself, and the proof decides.

use bytes::Bytes;
use content::ContentId;
use reqwest::Method;
use testnet::{Liar, Lie, Member, Network, Peer, sample};
use wire::rest::pclient::Download;

use crate::{MIB, big};

/// The sizes that a liar may state for a file of three pieces: in one piece, in far more, in as many, in fewer.
const LIES: [u64; 5] = [5, 99 << 20, 3_000_000, (3 << 20) + 1, 2 << 20];

/// The bytes are true, and came from the honest one alone.
#[track_caller]
fn came_from(honest: &Peer, name: &str, done: &Download, size: usize) {
    assert_eq!(done.size, Some(size as u64));
    let names: Vec<&str> = done.sources.iter().filter(|s| s.bytes > 0).map(|s| s.username.as_str()).collect();
    assert_eq!(names, [name], "{:?} of {}", done.sources, honest.pserver());
}

/// Somebody whose door is closed says that the content has that size, and has it before or after the honest one.
async fn with_a_claim(network: &Network, files: &[(ContentId, u64)], name: &str) -> Member {
    let member = Member::join(&network.url(), name, &["127.0.0.1:9".to_owned()]).await;
    let files: Vec<_> = files.iter().map(|(id, size)| (*id, "evil.bin", *size)).collect();
    assert_eq!(member.announce(&files).await.status, 200);
    member
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_of_whoever_has_nothing_block_nobody() {
    for liar_is_first in [true, false] {
        let network = Network::start().await;
        let (ana, ben) = (network.peer("ana").await, network.peer("ben").await);
        let files: Vec<Bytes> = (0..5).map(|n| big(900 + n, 3)).collect();
        let lies: Vec<_> = files.iter().map(|file| ContentId::of(file)).zip(LIES).collect();
        let mut liar = None;
        if liar_is_first {
            liar = Some(with_a_claim(&network, &lies, "mallory").await);
        }
        for (n, file) in files.iter().enumerate() {
            ana.share(&format!("{n}.bin"), file).await;
        }
        if !liar_is_first {
            ben.held_by(lies[4].0, 1).await;
            liar = Some(with_a_claim(&network, &lies, "mallory").await);
        }
        ben.held_by(lies[4].0, 2).await;
        for (id, _) in &lies[..4] {
            came_from(&ana, "ana", &ben.fetch(*id).await, 3 * MIB);
        }
        // A reader too, and then the whole.
        let some = ben.content(lies[4].0, Some("bytes=0-9")).await;
        assert_eq!((some.status.as_u16(), &some.body[..]), (206, &files[4][..10]));
        came_from(&ana, "ana", &ben.fetch(lies[4].0).await, 3 * MIB);
        drop(liar);
        network.end([ben, ana]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_liars_outvote_nobody_and_neither_do_those_who_are_off() {
    let network = Network::start().await;
    let (ana, ben) = (network.peer("ana").await, network.peer("ben").await);
    let (one, other) = (big(910, 3), big(911, 3));
    let lies = [(ContentId::of(&one), 3_000_000), (ContentId::of(&other), 5)];
    let mut liars = Vec::new();
    for name in ["mallory", "mike", "mona"] {
        liars.push(with_a_claim(&network, &lies, name).await);
    }
    ana.share("one.bin", &one).await;
    let id = ana.share("other.bin", &other).await;
    ben.held_by(id, 4).await;
    came_from(&ana, "ana", &ben.fetch(lies[0].0).await, one.len());
    for liar in &liars {
        assert_eq!(liar.ask(Method::DELETE, "/v1/sessions/current", None).await.status, 204);
    }
    ben.held_by(id, 1).await;
    let located = ben.get("/v1/search?q=other").await.json();
    assert_eq!(located["items"][0]["size"], other.len(), "the word of those who are online");
    came_from(&ana, "ana", &ben.fetch(id).await, other.len());
    drop(liars);
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn liars_with_an_open_door_are_found_out() {
    // The proof of as many pieces is true, and so is that of half as many, whose values are pairs; the last piece
    // is not. Who proves and then rests sends nothing that could find it out.
    let size = 4 << 20;
    let lies = [
        Lie::Claims(size - 7),
        Lie::Claims(size / 2),
        Lie::Claims(3 << 20),
        Lie::Claims(5),
        Lie::Claims(9 << 20),
        Lie::ClaimsAndRests(size - 7),
        Lie::ClaimsAndRests(size / 2),
    ];
    for (n, lie) in (0..).zip(lies) {
        let network = Network::start().await;
        let file = big(920 + n, 4);
        // Three that agree: the receiver meets them first.
        let mut liars = Vec::new();
        for name in ["mallory", "mike", "mona"] {
            liars.push(Liar::start(&network, name, lie, "wanted.bin", file.clone()).await);
        }
        let ben = network.peer("ben").await;
        let id = liars[0].id();
        ben.found("wanted", id, 3).await;
        let download = ben.start(id).await;
        testnet::until("a liar was asked", async || {
            (liars.iter().map(Liar::asked).sum::<u64>() > 0).then_some(())
        })
        .await;
        let ana = network.peer("ana").await;
        ana.share("wanted.bin", &file).await;
        let done = ben.done(&download.id).await;
        assert_eq!(done.size, Some(size), "{lie:?}");
        for liar in liars {
            liar.end().await;
        }
        network.end([ben, ana]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_one_piece_and_batches_arrive_beside_liars() {
    let network = Network::start().await;
    let (ana, ben) = (network.peer("ana").await, network.peer("ben").await);
    let files: Vec<Bytes> = (0..12).map(|n| sample(930 + n, 1_000)).collect();
    let ids: Vec<ContentId> = files.iter().map(|file| ContentId::of(file)).collect();
    let sizes = [5, 9 << 20, 1_001, 0];
    let lies: Vec<_> = ids.iter().copied().zip(sizes.into_iter().cycle()).collect();
    let closed = with_a_claim(&network, &lies, "mallory").await;
    let liar = Liar::start(&network, "mike", Lie::Claims(1_001), "1.bin", files[1].clone()).await;
    for (n, file) in files.iter().enumerate() {
        ana.share(&format!("{n}.bin"), file).await;
    }
    ben.held_by(ids[11], 2).await;
    for id in &ids[..4] {
        ben.fetch(*id).await;
    }
    let batch: Vec<_> = (4..12).map(|n| (ids[n], format!("{n}.bin"))).collect();
    for download in ben.start_many(&batch).await {
        let done = ben.done(&download.id).await;
        came_from(&ana, "ana", &done, 1_000);
    }
    drop(closed);
    liar.end().await;
    network.end([ben, ana]).await;
}
