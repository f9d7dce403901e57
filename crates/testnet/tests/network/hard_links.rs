//! What lies in a shared folder and is not the user's to share: other names of the peer's own keys.

use serde_json::json;
use testnet::{Network, until};

use crate::big;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hard_link_to_a_key_is_never_shared() {
    let network = Network::start().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    for secret in ["identity.key", "sealing.key"] {
        let key = ana.settings.data_dir.join(secret);
        let link = ana.share_dir().join(format!("innocent {secret}.txt"));
        std::fs::hard_link(&key, &link).unwrap();
        let reply = ana.post("/v1/files", &json!({ "path": link })).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (422, "unprocessable"), "{reply:?}");
        // Its content can be guessed by nobody, and asked for by nobody.
        let id = content::ContentId::of(&testnet::read(&key));
        let refused = ben.content(id, None).await;
        assert!(!refused.status.is_success(), "{refused:?}");
    }
    // Two names of an ordinary file are two names.
    let file = big(780, 1);
    let path = ana.put("one.bin", &file);
    std::fs::hard_link(&path, ana.share_dir().join("two.bin")).unwrap();
    let id = content::ContentId::of(&file);
    until("both are found, and nothing else", async || {
        let found = ana.get("/v1/files").await.json();
        let names: Vec<_> = found["items"].as_array()?.iter().map(|item| item["name"].clone()).collect();
        (names == ["one.bin", "two.bin"]).then_some(())
    })
    .await;
    ben.found("one.bin", id, 1).await;
    network.end([ana, ben]).await;
}
