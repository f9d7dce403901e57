//! Names: odd ones are kept as they are, and bad ones are refused on every way in.

use content::ContentId;
use serde_json::json;
use testnet::{Liar, Lie, Member, Network, sample};

fn odd_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "with some  spaces.txt",
        "🦀🎉 crab.mp4",
        "שלום עולם.txt",
        "مرحبا.pdf",
        "-rf",
        "<img src=x>",
        "$(reboot)`x`.sh",
        "'\";DROP TABLE files;--",
        "%2e%2e%2fx",
        "ab:c|d?e*f.txt",
        "e\u{301}tude.txt",
        ".hidden",
        "...",
        "deep/er/still/file.txt",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push(format!("{}.bin", "x".repeat(251)));
    names.push("é".repeat(127));
    names
}

const BAD: [&str; 14] = [
    "",
    ".",
    "..",
    "../x",
    "a/../../x",
    "/etc/x",
    "C:\\x",
    "C:x",
    "a\0b",
    "a\\b",
    "\u{1b}[2J",
    "line\nfeed",
    "\u{202e}fdp.exe",
    ".trueque-part",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_names_stay_as_they_are_from_end_to_end() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    let mut shared = Vec::new();
    for (n, name) in odd_names().into_iter().enumerate() {
        shared.push((ana.share(&name, &sample(50 + n as u64, 100 + n)).await, name));
    }
    for (id, name) in &shared {
        ben.held_by(*id, 1).await;
        let done = ben.fetch(*id).await;
        assert_eq!(done.name, *name);
        let path = std::path::PathBuf::from(done.path.unwrap());
        assert_eq!(path, ben.download_dir().join(name));
        let content = ben.content(*id, None).await;
        assert_eq!(content.status, 200, "{name}");
        let shown = content.headers["content-disposition"].as_bytes();
        assert!(shown.starts_with(b"attachment") && !shown.contains(&b'\n'), "{shown:?}");
    }
    let uploaded = ben.upload("🦀 -rf <img src=x>.txt", sample(99, 10)).await;
    assert_eq!(uploaded.json()["name"], "🦀 -rf <img src=x>.txt");
    let listed = ben.files_of(ana.peer_id().await).await;
    assert_eq!(listed.len(), shared.len());
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_names_are_refused_on_every_way_in() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    let member = Member::join(&network.url(), "mallory", &["127.0.0.1:1".to_owned()]).await;
    let id = ana.share("fine.txt", &sample(60, 1_000)).await;
    ben.held_by(id, 1).await;
    let long = "x".repeat(256);
    for name in BAD.into_iter().chain([long.as_str()]) {
        let download = ben.post("/v1/downloads", &json!({ "content_id": id, "name": name })).await;
        assert_eq!(
            (download.status.as_u16(), download.code().as_str()),
            (400, "invalid_argument"),
            "{name:?}"
        );
        let batch = json!({ "downloads": [{ "content_id": id }, { "content_id": id, "name": name }] });
        assert_eq!(ben.post("/v1/downloads/batch", &batch).await.status, 400, "{name:?}");
        // The directory does not take it from a peer either.
        let announced = member.announce(&[(id, name, 1_000)]).await;
        assert_eq!(
            (announced.status.as_u16(), announced.code().as_str()),
            (400, "invalid_argument"),
            "{name:?}"
        );
        // What a form may carry in a header; the rest cannot be said there.
        if !name.is_empty() && !name.contains(['\n', '\0', '\u{1b}']) {
            let form = ben.upload(name, sample(61, 10)).await;
            assert_eq!(form.status, 400, "{name:?}: {:?}", form.json());
        }
    }
    assert!(ben.get("/v1/downloads").await.json()["items"].as_array().unwrap().is_empty());
    assert_eq!(ben.get("/v1/files").await.json()["items"].as_array().unwrap().len(), 0);
    let outside = |path: &str| !std::path::Path::new(path).exists();
    assert!(outside("/etc/x") && !network.folder("x").exists() && !network.folder("ben/x").exists());
    for (path, status) in [("/etc/passwd", 403), ("../data/identity.key", 403), ("nothing.txt", 404)] {
        let path = if path.starts_with('/') { path.into() } else { ben.share_dir().join(path) };
        let reply = ben.post("/v1/files", &json!({ "path": path })).await;
        assert!([400, 422, status].contains(&reply.status.as_u16()), "{path:?}: {}", reply.status);
    }
    drop(member);
    network.end([ben, ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_a_hostile_peer_says_choose_nothing() {
    let network = Network::start().await;
    let file = sample(62, 5_000);
    let liar = Liar::start(&network, "mallory", Lie::None, "<script>alert(1)<img>", file.clone()).await;
    let ben = network.peer("ben").await;
    let id = liar.id();
    let found = ben.found("alert", id, 1).await;
    assert_eq!(found.name, "<script>alert(1)<img>");
    let done = ben.fetch(id).await;
    assert_eq!(done.name, "<script>alert(1)<img>");
    assert!(done.path.unwrap().starts_with(&ben.download_dir().display().to_string()));
    assert_eq!(ContentId::of(&file), id);
    liar.end().await;
    network.end([ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_a_hostile_directory_says_choose_nothing_either() {
    for (at, bad) in
        ["../../outside.bin", "/tmp/trueque-outside.bin", "a\0b", "\u{1b}[2J.bin"].into_iter().enumerate()
    {
        let network = Network::start().await;
        let ana = network.peer("ana").await;
        let ben = network.peer("ben").await;
        let (single, batch) = (sample(64, 5_000), sample(65, 6_000));
        let ids = [ana.share("one/innocent.bin", &single).await, ana.share("two/innocent.bin", &batch).await];
        ben.held_by(ids[0], 1).await;
        ben.held_by(ids[1], 1).await;
        network.directory.tamper("one/innocent.bin", bad);
        if at % 2 == 1 {
            network.directory.tamper("two/innocent.bin", bad);
        }
        // Nobody chose a name here, so the directory's would be taken if it were good.
        let started = [ben.start(ids[0]).await];
        let both = ben.post("/v1/downloads/batch", &json!({ "downloads": [{ "content_id": ids[1] }] })).await;
        let many = both.read::<wire::rest::pclient::BatchReply>().items;
        for download in started.iter().chain(&many) {
            let done = ben.done(&download.id).await;
            let path = std::path::PathBuf::from(done.path.unwrap());
            assert!(path.starts_with(ben.download_dir()), "{bad:?}: {path:?}");
            assert!(!path.to_string_lossy().contains(bad), "{path:?}");
        }
        assert!(!network.folder("outside.bin").exists());
        assert!(!std::path::Path::new("/tmp/trueque-outside.bin").exists());
        network.end([ben, ana]).await;
    }
}
