//! Somebody with a valid certificate who means harm: as a caller of a peer's door, message by message and frame by
//! frame, and as a holder of a file. The peer is a real process, so that its memory can be looked at; beside all of it an
//! honest peer fetches and is served.

use bytes::Bytes;
use content::ContentId;
use testnet::{
    CALM, END_HEADERS, END_STREAM, FrameKind, Liar, Lie, Member, Network, Process, RawCaller, framed,
    grpc_channel, new_header, raw_headers, until,
};
use tokio::net::TcpStream;
use wire::{
    PeerId,
    proto::{self, files_client::FilesClient},
};

use crate::{MIB, big};

const PEER: &str = env!("CARGO_BIN_EXE_testnet-peer");
/// What no message, however many and however wrong, takes a peer beyond.
const MOST_MEMORY: u64 = 160 << 20;
/// What a caller who takes all places and reads nothing has been seen to cost, and a third more. With a read buffer kept by
/// each thread it was 260 MiB and more.
const MOST_BY_A_CALLER: u64 = 200 << 20;
const METHODS: [&str; 6] = ["List", "Describe", "Fetch", "FetchMany", "Watch", "Offer"];
/// Window sizes of SETTINGS: of a stream, and the header table.
const WINDOW: u16 = 4;

struct Victim<'a> {
    process: &'a Process,
    id: PeerId,
    member: &'a Member,
    large: ContentId,
    small: Vec<ContentId>,
}

impl Victim<'_> {
    async fn raw(&self, settings: &[(u16, u32)]) -> std::io::Result<RawCaller> {
        RawCaller::connect(self.member, self.process.pserver.unwrap(), self.id, settings).await
    }

    async fn files(&self) -> Option<FilesClient<tonic::transport::Channel>> {
        let address = self.process.pserver.unwrap();
        grpc_channel(address, self.id, self.member.client_config()).await.ok().map(FilesClient::new)
    }

    /// A question that is right, for each method.
    fn question(&self, method: &str) -> Vec<u8> {
        use prost::Message;
        let content_id = Bytes::copy_from_slice(self.large.as_bytes());
        match method {
            "Describe" => proto::DescribeRequest { content_id, first_piece: 0 }.encode_to_vec(),
            "Fetch" => proto::FetchRequest { content_id, offset: 0, length: 64 << 20 }.encode_to_vec(),
            "FetchMany" => {
                let ids = self.small.iter().cycle().take(1_000);
                let content_ids = ids.map(|id| Bytes::copy_from_slice(id.as_bytes())).collect();
                proto::FetchManyRequest { content_ids }.encode_to_vec()
            }
            "Watch" => proto::WatchRequest { content_id }.encode_to_vec(),
            _ => Vec::new(),
        }
    }
}

/// The most memory that a process has had at once.
fn peak_memory(process: &Process) -> u64 {
    let status = String::from_utf8(testnet::read(format!("/proc/{}/status", process.pid()))).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// One of the counters by which refusals are told.
async fn refusals(process: &Process, reason: &str) -> u64 {
    let line = format!("trueque_refusals_total{{reason=\"{reason}\"}} ");
    let metrics = String::from_utf8(process.get("/metrics").await.body.to_vec()).unwrap();
    metrics.lines().find_map(|text| text.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

/// Messages that are too large, claim to be, or are no messages.
async fn sends_oversized_messages(victim: &Victim<'_>) {
    for method in METHODS {
        for (compressed, length, message) in [
            (0, u32::MAX, vec![0; 100]),
            (0, 4 << 20, vec![7; 4 << 20]),
            (1, 10, vec![0; 10]),
            (9, 0, vec![]),
            (0, 3, vec![0xff; 3]),
            // A field that claims to be longer than all there is.
            (0, 7, vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]),
            (0, 0, vec![]),
        ] {
            let Ok(mut raw) = victim.raw(&[]).await else { continue };
            let Ok(stream) = raw.call(method).await else { continue };
            let framed = framed(compressed, length, &message);
            for portion in framed.chunks(16 << 10) {
                if raw.frame(FrameKind::Data, 0, stream, portion).await.is_err() {
                    break;
                }
                raw.drain().await;
            }
            let _gone = raw.frame(FrameKind::Data, END_STREAM, stream, &[]).await;
            raw.drain().await;
        }
    }
}

/// Questions that never end, on as many streams as there may be: the connections, kept open.
async fn asks_without_an_end(victim: &Victim<'_>) -> Vec<RawCaller> {
    let mut open = Vec::new();
    for _ in 0..8 {
        let Ok(mut raw) = victim.raw(&[]).await else { break };
        let mut streams = Vec::new();
        for at in 0..256 {
            streams.extend(raw.call(METHODS[at % METHODS.len()]).await);
        }
        // More than any window lets through; what is beyond it is their bug if they keep it.
        for stream in streams {
            let _gone = raw.frame(FrameKind::Data, 0, stream, &framed(0, 60_000, &[8; 15_000])).await;
        }
        raw.drain().await;
        open.push(raw);
    }
    open
}

/// Answers that nobody reads: windows of almost nothing, and hundreds of questions. One user has 32 connections, and some
/// are left for what comes after.
async fn reads_no_answer(victim: &Victim<'_>) -> Vec<RawCaller> {
    let mut open = Vec::new();
    for method in METHODS {
        for _ in 0..3 {
            let Ok(mut raw) = victim.raw(&[(WINDOW, 1)]).await else { break };
            for _ in 0..200 {
                if raw.ask(method, &victim.question(method)).await.is_err() {
                    break;
                }
            }
            raw.drain().await;
            open.push(raw);
        }
    }
    open
}

/// Streams that are opened and reset at once (CVE-2023-44487). The other side may still listen after its last word.
async fn resets_rapidly(victim: &Victim<'_>) {
    let Ok(mut raw) = victim.raw(&[]).await else { return };
    for at in 0..20_000 {
        let Ok(stream) = raw.call("Describe").await else { break };
        if raw.frame(FrameKind::Reset, 0, stream, &8u32.to_be_bytes()).await.is_err() {
            break;
        }
        if at % 500 == 0 {
            raw.drain().await;
        }
    }
    assert_eq!(raw.until_hung_up().await, Some(CALM), "twenty thousand resets");
}

/// A header block that never ends (RUSTSEC-2024-0332), and one that is too large.
async fn continues_headers(victim: &Victim<'_>) {
    let Ok(mut raw) = victim.raw(&[]).await else { return };
    let mut filler = Vec::new();
    new_header(&mut filler, "x-filler", &"y".repeat(16_000));
    raw.frame(FrameKind::Headers, 0, 1, &raw_headers("List")).await.unwrap();
    let mut sent = 0;
    while sent < 64 << 20 {
        if raw.frame(FrameKind::Continuation, 0, 1, &filler).await.is_err() {
            break;
        }
        sent += filler.len();
        raw.drain().await;
    }
    assert!(raw.until_hung_up().await.is_some_and(|code| code != 0), "{sent} bytes of headers");
}

/// Frames that want an answer, and settings that change for ever.
async fn pings_and_settles(victim: &Victim<'_>) {
    let Ok(mut raw) = victim.raw(&[]).await else { return };
    for _ in 0..5_000 {
        let pinged = raw.frame(FrameKind::Ping, 0, 0, &[7; 8]).await.is_err();
        let windows = [&WINDOW.to_be_bytes()[..], &7u32.to_be_bytes()].concat();
        if pinged || raw.frame(FrameKind::Settings, 0, 0, &windows).await.is_err() {
            return;
        }
    }
    let _gone = raw.frame(FrameKind::Headers, END_HEADERS | END_STREAM, 2, &[0xff; 40]).await;
    raw.until_hung_up().await;
}

/// The same question again and again, and in an order that makes no sense.
async fn repeats_itself(victim: &Victim<'_>) {
    let Some(mut files) = victim.files().await else { return };
    let content_id = Bytes::copy_from_slice(victim.large.as_bytes());
    for first_piece in (0..500u32).rev() {
        let question = proto::DescribeRequest { content_id: content_id.clone(), first_piece };
        let _busy_or_not = files.describe(question).await;
        let offset = u64::from(first_piece) << 40;
        let question = proto::FetchRequest { content_id: content_id.clone(), offset, length: u64::MAX };
        assert!(files.fetch(question).await.is_err());
    }
    let many = vec![content_id.clone(); 1_001];
    assert!(files.fetch_many(proto::FetchManyRequest { content_ids: many }).await.is_err());
    let offer = proto::OfferRequest {
        offer_id: vec![1; 60_000].into(),
        content_id,
        name: "../../etc/passwd".into(),
        size: u64::MAX,
    };
    assert!(files.offer(offer).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_caller_takes_neither_memory_nor_anybodys_turn() {
    let network = Network::start().await;
    let ana = Process::peer(&network, PEER, "ana", &[]).await;
    let ben = network.peer("ben").await;
    let member = Member::join(&network.url(), "mallory", &[]).await;
    let large = ana.share("large.bin", &big(730, 64)).await;
    let mut small = Vec::new();
    for seed in 0..8 {
        small.push(ana.share(&format!("small {seed}.bin"), &testnet::sample(740 + seed, MIB)).await);
    }
    let victim = Victim { process: &ana, id: ana.peer_id().await, member: &member, large, small };

    // Half-open, from one address: they are told to go away, and the others get in.
    let door = ana.pserver.unwrap();
    let mut half_open = Vec::new();
    for _ in 0..400 {
        half_open.push(TcpStream::connect(door).await.unwrap());
    }
    until("some of those who say nothing are refused", async || {
        (refusals(&ana, "too many handshakes of one address").await > 0).then_some(())
    })
    .await;
    drop(half_open);

    sends_oversized_messages(&victim).await;
    let unfinished = asks_without_an_end(&victim).await;
    let unread = reads_no_answer(&victim).await;
    until("what one user has too much of is refused", async || {
        let streams = refusals(&ana, "too many watches of one user").await;
        let uploads = refusals(&ana, "all upload places of one user are taken").await;
        let uploads = uploads + refusals(&ana, "all upload places are taken").await;
        (streams > 0 && uploads > 0).then_some(())
    })
    .await;

    // All places are mallory's, who reads nothing. An honest receiver gets its own at once.
    ben.found("large", large, 1).await;
    ben.fetch(large).await;
    assert!(refusals(&ana, "upload place given to another").await > 0);

    resets_rapidly(&victim).await;
    continues_headers(&victim).await;
    pings_and_settles(&victim).await;
    repeats_itself(&victim).await;

    let mut connections = Vec::new();
    for _ in 0..100 {
        connections.push(victim.raw(&[]).await);
    }
    until("one user does not get all connections", async || {
        (refusals(&ana, "too many connections of one user").await > 0).then_some(())
    })
    .await;
    let id = ana.share("after all of it.bin", &big(731, 8)).await;
    ben.found("after all", id, 1).await;
    ben.fetch(id).await;
    let peak = peak_memory(&ana);
    println!("peak memory: {} MiB", peak >> 20);
    assert!(peak < MOST_BY_A_CALLER, "{peak} bytes");
    drop((connections, unfinished, unread));
    assert_eq!(ana.terminate().await, Some(0));
    drop(member);
    network.end([ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_holder_takes_neither_memory_nor_the_download() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = Process::peer(&network, PEER, "ben", &[]).await;
    let lies = [
        Lie::Oversized,
        Lie::Drip,
        Lie::Flood,
        Lie::Twice,
        Lie::Backwards,
        Lie::Endless,
        Lie::LongProof,
        Lie::WrongPieces,
        Lie::Silent,
        Lie::TooMuch,
    ];
    let (mut liars, mut wanted) = (Vec::new(), Vec::new());
    for (at, lie) in (0u64..).zip(lies) {
        // One that travels by pieces, and one that is a single piece: FetchMany is for those.
        for length in [6 * MIB, MIB / 2] {
            let file = testnet::sample(760 + 2 * at + u64::from(length < MIB), length);
            let name = format!("lie {at} {length}.bin");
            let id = ana.share(&name, &file).await;
            liars.push(Liar::start(&network, &format!("liar-{at}-{length}"), lie, &name, file).await);
            ben.held_by(id, 2).await;
            wanted.push((id, name));
        }
    }
    let downloads = ben.start_many(&wanted).await;
    for download in downloads {
        ben.done(&download.id).await;
    }
    let peak = peak_memory(&ben);
    println!("peak memory: {} MiB", peak >> 20);
    assert!(peak < MOST_MEMORY, "{peak} bytes");
    assert_eq!(ben.terminate().await, Some(0));
    for liar in liars {
        liar.end().await;
    }
    network.end([ana]).await;
}
