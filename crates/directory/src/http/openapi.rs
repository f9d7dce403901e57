//! `GET /openapi.json`: what this API is, for programs. A [`Call`] for each route of the map, in its order.
//!
//! The types describe themselves; here stands what they cannot know. A test asks the router for the methods of every
//! route, so that none is missing here and none is made up; `docs/openapi/directory.json` is the same document, kept.

use std::sync::LazyLock;

use ::http::{HeaderName, StatusCode, header};
use content::ContentId;
use utoipa::openapi::{
    OpenApi,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};
use wire::{
    ErrorCode::{
        AlreadyExists, Conflict, NotFound, PermissionDenied, RateLimited, StorageFull, TooLarge,
        Unauthenticated, Unavailable, Unprocessable,
    },
    PeerId, Username,
    http::{
        NoQuery, Problem,
        openapi::{Api, Call},
    },
    rest::directory::{
        AccountReply, AccountRequest, CatalogDelta, CatalogReply, InviteReply, InviteRequest, LocateReply,
        LocateRequest, Located, PageQuery, PeerFile, PeerItem, PeersQuery, RenewReply, RenewRequest, Report,
        SearchItem, SearchQuery, SessionReply, SessionRequest,
    },
};

use super::broker::{ResourceQuestion, TopicQuestion, UserQuestion, VhostQuestion};

const ABOUT: &str = "Who takes part in a network of Trueque, and who holds what. Peers use it; people use their peer's \
     own API.\n\nSizes are in bytes, durations in seconds, times in RFC 3339 UTC. Parameters and fields that a call does \
     not take are refused, and so is an integer with a fraction, even `1.0`. `HEAD` is answered wherever `GET` is. A path that is not here gets `not_found` (404), a \
     method that a path does not take `method_not_allowed` (405), a body with a `Content-Encoding` \
     `unsupported_media_type` (415).";

/// The document, as it is served.
static DOCUMENT: LazyLock<Result<String, serde_json::Error>> = LazyLock::new(|| document().to_json());

/// `GET /openapi.json`.
pub(super) async fn serve(_: NoQuery) -> Result<([(HeaderName, &'static str); 1], &'static str), Problem> {
    let document = DOCUMENT.as_deref().map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], document))
}

/// The document.
pub fn document() -> OpenApi {
    Api::new("Trueque: directory", env!("CARGO_PKG_VERSION"), ABOUT)
        .security("session", bearer("The `token` of a session."))
        .security("admin", bearer("What `DIRECTORY_ADMIN_TOKEN` is set to."))
        .security("broker", of_the_broker())
        .refuses(PermissionDenied, "A page of another site sent it.")
        .refuses(RateLimited, "Too much is asked from this address, or for this account.")
        .refuses(Unavailable, "Too many requests are open.")
        .tag("service", "What anybody may ask: does it work, and whom does it trust.")
        .tag("accounts", "Who may take part.")
        .tag("sessions", "A peer logs in, is heard of, and leaves.")
        .tag("catalog", "What a peer has.")
        .tag("finding", "What there is, and who has it.")
        .tag("peers", "Who takes part, and what each has.")
        .tag("broker", "What RabbitMQ asks about peers, and how it can check their tokens by itself.")
        .calls("service", service())
        .calls("accounts", accounts())
        .calls("sessions", sessions())
        .calls("catalog", catalog())
        .calls("finding", finding())
        .calls("peers", peers())
        .calls("broker", broker())
        .document()
}

fn service() -> [Call; 5] {
    [
        Call::get("/healthz", "alive", "The process answers.").text("text/plain", "It does."),
        Call::get("/readyz", "ready", "It takes work.")
            .text("text/plain", "It does.")
            .refuses(Unavailable, "The catalog does not answer."),
        Call::get("/metrics", "metrics", "Numbers for Prometheus.")
            .text("text/plain", "The text format of Prometheus, version 0.0.4."),
        Call::get("/openapi.json", "describe", "This document.").object("OpenAPI 3.1."),
        Call::get("/v1/ca.pem", "authority", "The certificate of the network's own authority.")
            .text("application/x-pem-file", "PEM."),
    ]
}

fn accounts() -> [Call; 3] {
    [
        writes(Call::post("/v1/accounts", "register", "Creates an account."))
            .body::<AccountRequest>()
            .answers::<AccountReply>(StatusCode::CREATED, "It is created.")
            .refuses(PermissionDenied, "This directory creates no accounts, or none without a good invite.")
            .refuses(AlreadyExists, "The username is taken.")
            .refuses(RateLimited, "Too many attempts from this address, or for this username."),
        admin(Call::post(
            "/v1/accounts/{username}/disable",
            "disable",
            "Closes an account; its sessions end.",
        ))
        .part::<Username>("username", "The account.")
        .nothing(StatusCode::NO_CONTENT, "It is closed.")
        .refuses(NotFound, "There is no such account."),
        admin(Call::post("/v1/invites", "invite", "Makes an invite, with which accounts can be created."))
            .body::<InviteRequest>()
            .answers::<InviteReply>(StatusCode::CREATED, "It is made."),
    ]
}

fn sessions() -> [Call; 3] {
    [
        writes(Call::post("/v1/sessions", "login", "Logs a peer in."))
            .says("A former session of the same peer ends.")
            .body::<SessionRequest>()
            .answers::<SessionReply>(StatusCode::CREATED, "The peer is logged in, and online.")
            .refuses(Unauthenticated, "The username or the password is wrong.")
            .refuses(PermissionDenied, "The account is disabled.")
            .refuses(Unprocessable, "The account has as many peers as it may.")
            .refuses(RateLimited, "Too many attempts from this address, or for this username."),
        writes(session(Call::put("/v1/sessions/current", "renew", "Renews the lease.")))
            .body::<RenewRequest>()
            .answers::<RenewReply>(StatusCode::OK, "It is renewed."),
        writes(session(Call::delete("/v1/sessions/current", "logout", "Ends the session.")))
            .nothing(StatusCode::NO_CONTENT, "The peer is offline at once for everybody."),
    ]
}

fn catalog() -> [Call; 1] {
    [writes(session(Call::post("/v1/catalog", "announce", "Tells what changed in a peer's catalog.")))
        .says("A delta that was taken already is answered as before.")
        .body::<CatalogDelta>()
        .answers::<CatalogReply>(StatusCode::OK, "It is taken.")
        .refuses(Conflict, "The catalog is at another revision, the `revision` of this document.")
        .refuses(TooLarge, "It has too many entries.")
        .refuses(StorageFull, "The peer, or its account, has as many files as it may.")
        .refuses(Unprocessable, "A content has as many names as it may.")]
}

fn finding() -> [Call; 4] {
    [
        session(Call::get("/v1/search", "search", "Finds contents by parts of their names."))
            .says(
                "A single letter is found only where a word begins; scripts that write without spaces are found by a \
                 single character anywhere.",
            )
            .query::<SearchQuery>()
            .lists::<SearchItem>("What was found, the best first."),
        session(Call::post("/v1/files/locate", "locate_many", "Tells who holds each of many contents."))
            .body::<LocateRequest>()
            .answers::<LocateReply>(StatusCode::OK, "Those that somebody holds."),
        session(Call::get("/v1/files/{content_id}", "locate", "Tells who holds a content."))
            .part::<ContentId>("content_id", "The content.")
            .answers::<Located>(StatusCode::OK, "Its holders.")
            .refuses(NotFound, "Nobody holds it."),
        writes(session(Call::post(
            "/v1/files/{content_id}/reports",
            "report",
            "Tells what was wrong with a holder of a content.",
        )))
        .part::<ContentId>("content_id", "The content.")
        .body::<Report>()
        .nothing(StatusCode::NO_CONTENT, "It is noted.")
        .refuses(NotFound, "That peer does not hold it."),
    ]
}

fn peers() -> [Call; 3] {
    [
        session(Call::get("/v1/peers", "peers", "Lists who takes part."))
            .query::<PeersQuery>()
            .lists::<PeerItem>("The peers."),
        session(Call::get("/v1/peers/{peer_id}", "peer", "Tells of one peer."))
            .part::<PeerId>("peer_id", "The peer.")
            .answers::<PeerItem>(StatusCode::OK, "The peer.")
            .refuses(NotFound, "There is no such peer."),
        session(Call::get("/v1/peers/{peer_id}/files", "peer_files", "Lists what a peer holds."))
            .part::<PeerId>("peer_id", "The peer.")
            .query::<PageQuery>()
            .lists::<PeerFile>("What the caller may see of it.")
            .refuses(NotFound, "There is no such peer."),
    ]
}

fn broker() -> [Call; 6] {
    [
        for_the_broker(Call::get(
            "/v1/broker/key.pem",
            "broker_key",
            "The key for `auth_oauth2.signing_keys.trueque`.",
        ))
        .text("application/x-pem-file", "PEM."),
        for_the_broker(Call::get(
            "/v1/broker/jwks.json",
            "broker_jwks",
            "The same, for `auth_oauth2.jwks_url`.",
        ))
        .object("A JSON Web Key Set (RFC 7517)."),
        question::<UserQuestion>("/v1/broker/user", "broker_user", "May somebody log in with this password?"),
        question::<VhostQuestion>("/v1/broker/vhost", "broker_vhost", "May they use this virtual host?"),
        question::<ResourceQuestion>(
            "/v1/broker/resource",
            "broker_resource",
            "May they do this with that queue or exchange?",
        ),
        question::<TopicQuestion>(
            "/v1/broker/topic",
            "broker_topic",
            "May they publish or bind with this key?",
        ),
    ]
}

fn question<T: utoipa::ToSchema>(path: &'static str, id: &'static str, summary: &'static str) -> Call {
    for_the_broker(Call::post(path, id, summary))
        .says(
            "Answered on the same machine where no proxy is between, or with the `secret`. Fields that are not known \
             are not looked at: each version of the plugin `rabbitmq_auth_backend_http` sends more of them.",
        )
        .needs(&["", "broker"])
        .body_as::<T>("application/x-www-form-urlencoded")
        .text("text/plain", "`allow` or `deny`.")
        .refuses(PermissionDenied, "Only the broker may ask this.")
        .refuses(Unavailable, "The catalog is busy.")
}

fn for_the_broker(call: Call) -> Call {
    call.refuses(NotFound, "This directory is not the authority of a broker.")
}

/// A call of a peer that is logged in.
fn session(call: Call) -> Call {
    call.needs(&["session"])
        .refuses(Unauthenticated, "No session of this token is open.")
        .refuses(Unavailable, "The catalog is busy.")
}

/// A call of the admin.
fn admin(call: Call) -> Call {
    writes(call.needs(&["admin"]))
        .refuses(Unauthenticated, "This is not the admin token.")
        .refuses(PermissionDenied, "This directory has no admin token set.")
}

/// A call that changes the catalog.
fn writes(call: Call) -> Call {
    call.refuses(Unavailable, "Too much waits to be written.").refuses(StorageFull, "The disk is full.")
}

fn bearer(about: &str) -> SecurityScheme {
    SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about)).build())
}

fn of_the_broker() -> SecurityScheme {
    let about = "The content of `broker.secret` in the directory's data folder; needed from other machines.";
    SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::with_description("secret", about)))
}
