//! Who may have what, and until when: groups of users, and sessions that were ended while their certificates go on.

use std::time::Duration;

use content::{ContentId, PIECE_SIZE};
use directory::config::Registration;
use futures::StreamExt;
use http::{Method, StatusCode};
use peer::link::{LinkError, Target};
use serde_json::{Value, json};
use testnet::{Api, Member, Network, Peer, Reply, grpc_channel, read, sample, until_within};
use wire::{
    ErrorCode,
    proto::{self, files_client::FilesClient},
    rest::pclient::DownloadState,
};

const LEASE: Duration = Duration::from_secs(3);
/// Within it all peers have heard of what changed; some for a busy machine.
const HEARD: Duration = Duration::from_secs(6);
const ADMIN: &str = "admin-of-the-tests";

async fn network() -> Network {
    Network::with(|config| {
        config.lease = LEASE;
        config.admin_token = Some(ADMIN.to_owned().into());
    })
    .await
}

/// A transfer from such a peer takes a while.
fn slow(settings: &mut peer::config::Settings) {
    settings.upload_limit = daemon::settings::ByteSize(2 << 20);
}

async fn share_with(peer: &Peer, name: &str, bytes: &[u8], audience: &[&str]) -> ContentId {
    let path = peer.put(name, bytes);
    let shared = peer.post("/v1/files", &json!({ "path": path, "audience": audience })).await;
    assert_eq!(shared.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&shared.body));
    ContentId::of(bytes)
}

async fn ask(api: &Api, method: Method, path: &str) -> Reply {
    Api::reply(api.request(method, path)).await
}

/// Another machine of the same account.
async fn machine_of(network: &Network, user: &str, name: &str) -> Peer {
    network
        .peer_with(name, |settings| {
            settings.username = Some(user.parse().unwrap());
            settings.password = Some(format!("password of {user}").into());
        })
        .await
}

/// The admin says something of an account.
async fn admin(network: &Network, account: &str, word: &str) {
    let url = network.url().join(&format!("/v1/accounts/{account}/{word}")).unwrap();
    let http = reqwest::Client::builder().timeout(HEARD).no_proxy().build().unwrap();
    let said = http.post(url).bearer_auth(ADMIN).send().await.unwrap();
    assert_eq!(said.status(), StatusCode::NO_CONTENT);
}

async fn target_of(asker: &Peer, user: &str) -> Target {
    let peers = asker.peers().await;
    Target::from(&peers.iter().find(|one| one.peer.username.as_str() == user).unwrap().peer)
}

/// What a peer says who is asked for the content by its id.
async fn guess(asker: &Peer, holder: &Target, id: ContentId) -> Result<u64, LinkError> {
    asker.links().get(holder, 0).await?.describe(id, 0).await.map(|described| described.size)
}

fn is_not_found(answer: &Result<u64, LinkError>) -> bool {
    matches!(answer, Err(LinkError::Answered(failure)) if failure.code == ErrorCode::NotFound)
}

/// Nothing of the file is there for this peer, whatever way it looks.
async fn knows_nothing(outsider: &Peer, holder: &Target, word: &str, id: ContentId) {
    let found = outsider.get(&format!("/v1/search?q={word}&limit=1")).await.json();
    let nothing = outsider.get("/v1/search?q=no.such.word&limit=1").await.json();
    assert_eq!(found, nothing, "by search");
    assert_eq!(outsider.get(&format!("/v1/files/{id}/holders")).await.status, StatusCode::NOT_FOUND);
    assert!(outsider.files_of(holder.peer_id).await.iter().all(|file| file.content_id != id));
    let shown = outsider.get(&format!("/v1/peers/{}", holder.peer_id)).await.json();
    assert_eq!(shown["files"], json!(outsider.files_of(holder.peer_id).await.len()));
    assert!(is_not_found(&guess(outsider, holder, id).await), "by its id");
    let link = outsider.links().get(holder, 0).await.unwrap();
    let listed: Vec<_> = link.list().await.unwrap().collect().await;
    assert!(listed.iter().all(|file| file.as_ref().unwrap().content_id != id.as_bytes()[..]));
    for refused in [link.fetch(id, 0..4).await.map(drop), link.watch(id).await.map(drop)] {
        assert!(
            matches!(&refused, Err(LinkError::Answered(f)) if f.code == ErrorCode::NotFound),
            "{refused:?}"
        );
    }
    let many = link.fetch_many(&[id]).await;
    let told: Vec<_> = match many {
        Ok(files) => files.collect().await,
        Err(error) => vec![Err(error)],
    };
    assert!(told.iter().all(|file| file.as_ref().map_or(true, |file| file.data.is_empty())), "{told:?}");
    let content = outsider.content(id, None).await;
    assert_eq!(content.status, StatusCode::NOT_FOUND, "{}", String::from_utf8_lossy(&content.body));
}

/// Otherwise the file is for whoever takes the name later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_for_nobody_who_is_not_there() {
    let network = network().await;
    let (ana, ben) = (network.peer("ana").await, network.peer("ben").await);
    let path = ana.put("plan.txt", b"plan");
    let misspelt = json!({ "path": path, "audience": ["ben", "bne"] });
    let form = reqwest::multipart::Form::new()
        .text("audience", "bne")
        .part("file", reqwest::multipart::Part::text("sent").file_name("sent.txt"));
    let shared = ana.post("/v1/files", &misspelt).await;
    let sent = Api::reply(ana.request(Method::POST, "/v1/files").multipart(form)).await;
    let id = share_with(&ana, "other.txt", b"other", &["ben"]).await;
    let given = ana.request(Method::PATCH, &format!("/v1/files/{id}")).json(&json!({ "audience": ["bne"] }));
    for refused in [shared, sent, Api::reply(given).await] {
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(refused.json()["detail"], "there is no account called bne");
    }
    let audience = ana.get(&format!("/v1/files/{id}")).await.json()["audience"].clone();
    assert_eq!(audience, json!(["ben"]));
    assert!(!ana.share_dir().join("sent.txt").exists(), "nothing is kept of it");
    network.end([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_for_a_group_is_for_its_members_and_nobody_else_by_any_way() {
    let network = network().await;
    let ana = network.peer("ana").await;
    let ben = network.peer("ben").await;
    let eve = network.peer("eve").await;
    let file = sample(61, 300_000);

    let path = ana.put("plan.bin", &file);
    let unknown = ana.post("/v1/files", &json!({ "path": path, "audience": ["@lab"] })).await;
    assert_eq!((unknown.status.as_u16(), unknown.code().as_str()), (422, "unprocessable"));
    let made = ana.post("/v1/groups", &json!({ "name": "lab", "members": ["ben"] })).await;
    assert_eq!(made.status, StatusCode::CREATED);
    assert_eq!(made.json(), json!({ "name": "lab", "owner": "ana", "members": ["ben"] }));
    let id = share_with(&ana, "plan.bin", &file, &["@lab"]).await;
    ben.found("plan", id, 1).await;
    let done = ben.fetch(id).await;
    assert_eq!(read(done.path.unwrap()), file);

    let holder = target_of(&eve, "ana").await;
    knows_nothing(&eve, &holder, "plan", id).await;
    assert_eq!(eve.get("/v1/groups/lab").await.status, StatusCode::NOT_FOUND);
    assert_eq!(eve.get("/v1/groups").await.json()["items"], json!([]));
    for (method, path) in [(Method::PUT, "/v1/groups/lab/members/eve"), (Method::DELETE, "/v1/groups/lab")] {
        assert_eq!(ask(&eve, method, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let taken = eve.post("/v1/groups", &json!({ "name": "lab" })).await;
    assert_eq!(taken.status, StatusCode::CONFLICT);
    assert_eq!(ask(&ben, Method::PUT, "/v1/groups/lab/members/eve").await.status, StatusCode::FORBIDDEN);

    // In by another machine of ana's: the one that serves hears it from the directory.
    let laptop = machine_of(&network, "ana", "laptop").await;
    let added = ask(&laptop, Method::PUT, "/v1/groups/lab/members/eve").await;
    assert_eq!(added.status, StatusCode::NO_CONTENT);
    assert_eq!(eve.search("plan").await.len(), 1, "the directory shows it from that moment");
    until_within(HEARD, "the owner's peer knows the new member", async || {
        guess(&eve, &holder, id).await.is_ok().then_some(())
    })
    .await;
    // And out again.
    for member in ["eve", "ben"] {
        let path = format!("/v1/groups/lab/members/{member}");
        assert_eq!(ask(&laptop, Method::DELETE, &path).await.status, StatusCode::NO_CONTENT);
    }
    assert!(eve.search("plan").await.is_empty() && ben.search("plan").await.is_empty());
    until_within(HEARD, "the owner's peer knows that they are gone", async || {
        is_not_found(&guess(&eve, &holder, id).await).then_some(())
    })
    .await;
    knows_nothing(&eve, &holder, "plan", id).await;
    assert!(is_not_found(&guess(&ben, &holder, id).await));
    assert!(guess(&laptop, &holder, id).await.is_ok(), "its owner's other machine");
    network.end([ana, ben, eve, laptop]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_to_a_member_ends_when_they_are_taken_out() {
    let network = network().await;
    let ana = network.peer_with("ana", slow).await;
    let ben = network.peer("ben").await;
    assert_eq!(
        ana.post("/v1/groups", &json!({ "name": "lab", "members": ["ben"] })).await.status,
        StatusCode::CREATED
    );
    let id = share_with(&ana, "large.bin", &sample(62, 64 << 20), &["@lab"]).await;
    ben.found("large", id, 1).await;
    let holder = target_of(&ben, "ana").await;
    let mut chunks = ben.links().get(&holder, 0).await.unwrap().fetch(id, 0..64 << 20).await.unwrap();
    assert!(chunks.next().await.unwrap().is_ok());
    assert_eq!(ask(&ana, Method::DELETE, "/v1/groups/lab/members/ben").await.status, StatusCode::NO_CONTENT);
    let sent = ana.sent();
    let ended = tokio::time::timeout(HEARD, async {
        while let Some(chunk) = chunks.next().await {
            if let Err(error) = chunk {
                return error;
            }
        }
        panic!("the file came whole");
    })
    .await
    .unwrap();
    assert!(matches!(&ended, LinkError::Answered(f) if f.code == ErrorCode::NotFound), "{ended:?}");
    // At once: less than two seconds' worth went out after it.
    assert!(ana.sent() <= sent + (4 << 20), "{} bytes went out afterwards", ana.sent() - sent);
    network.end([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_while_the_file_is_taken_away_is_told_so_and_does_not_wait_for_ever() {
    let network = network().await;
    let ana = network.peer_with("ana", slow).await;
    let ben = network.peer("ben").await;
    let id = share_with(&ana, "film.mp4", &sample(63, 64 << 20), &["ben"]).await;
    ben.found("film", id, 1).await;
    let download = ben.start(id).await;
    ben.wait(&download.id, "some of it is here", |download| download.verified_bytes > 0).await;
    let path = format!("/v1/content/{id}");
    let watching = ben.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(watching.status(), StatusCode::OK);

    let given = ana.request(Method::PATCH, &format!("/v1/files/{id}")).json(&json!({ "audience": ["ana"] }));
    assert_eq!(Api::reply(given).await.status, StatusCode::OK);
    ben.state(&download.id, DownloadState::Waiting).await;
    // A piece that is not here.
    let missing = async {
        for piece in (0..64).rev() {
            let range = format!("bytes={}-{}", piece * PIECE_SIZE, piece * PIECE_SIZE + 9);
            let reply = ben.content(id, Some(&range)).await;
            if !reply.status.is_success() {
                return reply;
            }
        }
        panic!("all of it is here");
    };
    let (cut, later) = tokio::join!(watching.bytes(), missing);
    assert!(cut.is_err(), "an answer that cannot be finished is not finished");
    assert_eq!((later.status, later.code().as_str()), (StatusCode::SERVICE_UNAVAILABLE, "unavailable"));
    let detail = later.json()["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail, "nobody who has the rest can be asked now: no longer shared with you by ana");
    let head = Api::reply(ben.request(Method::GET, &path).header("range", "bytes=0-9")).await;
    assert_eq!(head.status, StatusCode::PARTIAL_CONTENT, "what is here is read as before");
    network.end([ana, ben]).await;
}

/// Whether the member's certificate opens a door, and a question is answered there.
async fn is_served(member: &Member, ana: &Peer, owner: wire::PeerId, id: ContentId) -> bool {
    let Ok(channel) = grpc_channel(ana.pserver(), owner, member.client_config()).await else { return false };
    let question = proto::DescribeRequest { content_id: id.as_bytes().to_vec().into(), first_piece: 0 };
    FilesClient::new(channel).describe(question).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_outlives_its_session_and_is_refused_within_a_lease() {
    let network = network().await;
    let ana = network.peer("ana").await;
    let owner = ana.peer_id().await;
    let id = ana.share("open.bin", b"for everybody").await;
    let mut eve = Member::join(&network.url(), "eve", &["127.0.0.1:9".to_owned()]).await;
    let dora = Member::join(&network.url(), "dora", &[]).await;
    let target = Target {
        peer_id: eve.peer_id,
        username: "eve".parse().unwrap(),
        endpoints: vec!["127.0.0.1:9".to_owned()],
        sealing_key: String::new(),
    };
    let ended = "its session was ended";
    let refuses_to_dial = async || match ana.links().get(&target, 0).await {
        Err(LinkError::Unreachable(why)) => why == ended,
        other => panic!("{other:?}"),
    };
    assert!(!refuses_to_dial().await);

    for way in ["ended by its owner", "closed by the admin"] {
        assert!(is_served(&eve, &ana, owner, id).await, "{way}: before");
        let channel = grpc_channel(ana.pserver(), owner, eve.client_config()).await.unwrap();
        let question = proto::WatchRequest { content_id: id.as_bytes().to_vec().into() };
        let mut watching = FilesClient::new(channel).watch(question).await.unwrap().into_inner();
        watching.message().await.unwrap().unwrap();

        if way == "ended by its owner" {
            let path = format!("/v1/sessions/{}", eve.peer_id);
            assert_eq!(eve.ask(Method::DELETE, &path, None).await.status, StatusCode::NO_CONTENT);
        } else {
            admin(&network, "eve", "disable").await;
        }
        let cut = tokio::time::timeout(HEARD, watching.message()).await.expect("it is hung up on");
        assert!(cut.is_err(), "{cut:?}");
        assert!(!is_served(&eve, &ana, owner, id).await, "{way}: its certificate holds, and is refused");
        assert!(is_served(&dora, &ana, owner, id).await, "{way}: others are served");
        assert!(refuses_to_dial().await, "{way}");

        if way == "closed by the admin" {
            assert_eq!(eve.log_in().await.status, StatusCode::FORBIDDEN);
            admin(&network, "eve", "enable").await;
        }
        assert_eq!(eve.log_in().await.status, StatusCode::CREATED);
        until_within(HEARD, "it is served again after its login", async || {
            is_served(&eve, &ana, owner, id).await.then_some(())
        })
        .await;
    }

    // A restart forgets nothing, also while the directory is away.
    admin(&network, "eve", "disable").await;
    until_within(HEARD, "it is refused", async || (!is_served(&eve, &ana, owner, id).await).then_some(()))
        .await;
    let mut network = network;
    network.directory.kill().await;
    let ana = Peer::again_unconnected(ana.kill().await).await;
    until_within(HEARD, "the others are served again", async || {
        is_served(&dora, &ana, owner, id).await.then_some(())
    })
    .await;
    assert!(!is_served(&eve, &ana, owner, id).await);
    network.directory.up().await;
    ana.connected().await;
    drop((eve, dora));
    network.end([ana]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_logs_out_is_refused_until_the_next_login() {
    let network = network().await;
    let (ana, ben) = (network.peer("ana").await, network.peer("ben").await);
    let target = target_of(&ana, "ben").await;
    assert!(ana.links().get(&target, 0).await.is_ok());
    assert_eq!(ben.post("/v1/logout", &()).await.status, StatusCode::NO_CONTENT);
    let ended = LinkError::Unreachable("its session was ended".to_owned());
    until_within(HEARD, "its certificate is refused", async || {
        ana.links().get(&target, 0).await.is_err_and(|error| error == ended).then_some(())
    })
    .await;
    let login = json!({ "username": "ben", "password": "password of ben" });
    assert_eq!(ben.post("/v1/login", &login).await.status, StatusCode::OK);
    until_within(HEARD, "it is taken again", async || ana.links().get(&target, 0).await.ok().map(drop)).await;
    network.end([ana, ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_password_ends_the_other_sessions_and_this_peer_goes_on() {
    let network = network().await;
    let ana = network.peer("ana").await;
    let laptop = machine_of(&network, "ana", "laptop").await;
    let (own, other) = (ana.peer_id().await, laptop.peer_id().await);
    let listed = ana.get("/v1/sessions").await.json();
    let sessions: Vec<(String, bool, bool)> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let flag = |name: &str| it[name].as_bool().unwrap();
            (it["peer_id"].as_str().unwrap().to_owned(), flag("current"), flag("online"))
        })
        .collect();
    let mut expected = vec![(own.to_string(), true, true), (other.to_string(), false, true)];
    expected.sort();
    assert_eq!(sessions, expected);

    let set = async |current: &str, new: &str| {
        let body = json!({ "current": current, "new": new });
        Api::reply(ana.request(Method::PUT, "/v1/accounts/ana/password").json(&body)).await
    };
    assert_eq!(set("a wrong guess", "something new").await.status, StatusCode::FORBIDDEN);
    assert_eq!(set("password of ana", "short").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(set("password of ana", "something new").await.status, StatusCode::NO_CONTENT);
    until_within(HEARD, "the other machine is out: its password is not the account's", async || {
        laptop.status().await.username.is_none().then_some(())
    })
    .await;
    assert!(ana.status().await.directory.connected);
    let login = |password: &str| json!({ "username": "ana", "password": password });
    assert_eq!(laptop.post("/v1/login", &login("password of ana")).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(laptop.post("/v1/login", &login("something new")).await.status, StatusCode::OK);

    // Ended without another password, this peer knows the new one and comes back by itself.
    assert_eq!(
        ask(&laptop, Method::DELETE, &format!("/v1/sessions/{own}")).await.status,
        StatusCode::NO_CONTENT
    );
    let online = async || {
        let listed: Value = laptop.get("/v1/sessions").await.json();
        listed["items"].as_array().unwrap().len()
    };
    until_within(HEARD, "it has logged in again", async || (online().await == 2).then_some(())).await;
    network.end([ana, laptop]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_an_invite_becomes_somebody_at_the_first_login_and_nobody_else_does() {
    let network = Network::with(|config| {
        config.admin_token = Some(ADMIN.to_owned().into());
        config.registration = Registration::Invite;
    })
    .await;
    let peer = network.peer_unconnected_with("machine", |settings| settings.username = None).await;
    let http = reqwest::Client::builder().timeout(HEARD).no_proxy().build().unwrap();
    let invites = network.url().join("/v1/invites").unwrap();
    let made = http.post(invites).bearer_auth(ADMIN).json(&json!({ "uses": 1, "expires_in": 60 })).send();
    let made: Value = made.await.unwrap().json().await.unwrap();
    drop(http);
    let login = async |username: &str, invite: Option<&Value>| {
        let mut body = json!({ "username": username, "password": "correct horse" });
        if let Some(invite) = invite {
            body["invite"] = invite.clone();
        }
        let said = peer.post("/v1/login", &body).await;
        (said.status, said.json()["detail"].as_str().unwrap_or_default().to_owned())
    };

    let (refused, why) = login("ana", None).await;
    assert_eq!((refused, why.contains("invite")), (StatusCode::UNAUTHORIZED, true), "{why}");
    let (refused, why) = login("ana", Some(&json!("another"))).await;
    assert_eq!((refused, why.contains("invite")), (StatusCode::UNAUTHORIZED, true), "{why}");
    assert_eq!(login("ana", Some(&made["invite"])).await.0, StatusCode::OK);
    assert_eq!(login("ana", Some(&made["invite"])).await.0, StatusCode::OK, "a second login needs none");
    assert_eq!(login("ben", Some(&made["invite"])).await.0, StatusCode::UNAUTHORIZED, "it is used up");
    assert_eq!(peer.status().await.username, Some("ana".parse().unwrap()));
    network.end([peer]).await;
}
