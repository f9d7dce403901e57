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
    GroupName, PeerId, Username,
    http::{
        NoQuery, Problem,
        openapi::{Api, Call},
    },
    rest::accounts::{
        Group, GroupRequest, LookupReply, LookupRequest, PasswordRequest, SessionItem, TrustQuery, TrustReply,
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
        .tag("groups", "Users under one name, for audiences.")
        .tag("trust", "What peers have to know beside certificates.")
        .tag("catalog", "What a peer has.")
        .tag("finding", "What there is, and who has it.")
        .tag("peers", "Who takes part, and what each has.")
        .tag("broker", "What RabbitMQ asks about peers, and how it can check their tokens by itself.")
        .calls("service", service())
        .calls("accounts", accounts())
        .calls("sessions", sessions())
        .calls("groups", groups())
        .calls("trust", trust())
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

fn accounts() -> [Call; 6] {
    [
        writes(Call::post("/v1/accounts", "register", "Creates an account."))
            .body::<AccountRequest>()
            .answers::<AccountReply>(StatusCode::CREATED, "It is created.")
            .refuses(PermissionDenied, "This directory creates no accounts, or none without a good invite.")
            .refuses(AlreadyExists, "The username is taken.")
            .refuses(RateLimited, "Too many attempts from this address, or for this username."),
        session(Call::post("/v1/accounts/lookup", "lookup", "Tells which of some names are accounts."))
            .body::<LookupRequest>()
            .answers::<LookupReply>(StatusCode::OK, "Those that are, in the order asked."),
        admin(Call::post(
            "/v1/accounts/{username}/disable",
            "disable",
            "Closes an account; its sessions end.",
        ))
        .part::<Username>("username", "The account.")
        .nothing(StatusCode::NO_CONTENT, "It is closed.")
        .refuses(NotFound, "There is no such account."),
        admin(Call::post(
            "/v1/accounts/{username}/enable",
            "enable",
            "Opens an account again; what was ended stays ended.",
        ))
        .part::<Username>("username", "The account.")
        .nothing(StatusCode::NO_CONTENT, "It may log in.")
        .refuses(NotFound, "There is no such account."),
        writes(session(Call::put(
            "/v1/accounts/{username}/password",
            "set_password",
            "Sets another password.",
        )))
        .needs(&["session", "admin"])
        .says("All other sessions of the account end, and their certificates are refused from then on.")
        .part::<Username>("username", "The caller's own account; any, for the admin.")
        .body::<PasswordRequest>()
        .nothing(StatusCode::NO_CONTENT, "It is set.")
        .refuses(PermissionDenied, "It is somebody else's account, or `current` is not its password.")
        .refuses(NotFound, "There is no such account.")
        .refuses(RateLimited, "Too many attempts from this address, or for this username."),
        admin(Call::post("/v1/invites", "invite", "Makes an invite, with which accounts can be created."))
            .body::<InviteRequest>()
            .answers::<InviteReply>(StatusCode::CREATED, "It is made."),
    ]
}

fn sessions() -> [Call; 5] {
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
        session(Call::get("/v1/sessions", "sessions", "Lists where the caller's account is logged in."))
            .query::<PageQuery>()
            .lists::<SessionItem>("The open sessions."),
        writes(session(Call::delete("/v1/sessions/{peer_id}", "end_session", "Ends a session of the caller's account.")))
            .says(
                "The peer is offline at once, and other peers refuse its certificate within a lease; until it logs in \
                 again, nothing is sent to it. It works on a peer that has logged out too.",
            )
            .part::<PeerId>("peer_id", "The peer.")
            .nothing(StatusCode::NO_CONTENT, "It is ended.")
            .refuses(NotFound, "This account has no such peer."),
    ]
}

fn groups() -> [Call; 6] {
    let unknown = "There is no such group, or the caller does not belong to it.";
    let not_yours = "Only its owner changes a group.";
    [
        writes(session(Call::post("/v1/groups", "create_group", "Makes a group.")))
            .says("Its name is the caller's from now on, also when the group is deleted.")
            .body::<GroupRequest>()
            .answers::<Group>(StatusCode::CREATED, "It is made.")
            .refuses(AlreadyExists, "The name is taken.")
            .refuses(TooLarge, "It has too many members.")
            .refuses(Unprocessable, "The account has as many groups as it may, or a member has no account."),
        session(Call::get("/v1/groups", "groups", "Lists the groups that the caller owns or belongs to."))
            .query::<PageQuery>()
            .lists::<Group>("By name."),
        session(Call::get("/v1/groups/{name}", "group", "Tells who is in a group."))
            .part::<GroupName>("name", "The group.")
            .answers::<Group>(StatusCode::OK, "The group.")
            .refuses(NotFound, unknown),
        writes(session(Call::delete("/v1/groups/{name}", "delete_group", "Deletes a group.")))
            .part::<GroupName>("name", "The group.")
            .nothing(StatusCode::NO_CONTENT, "Audiences that name it name nobody by it.")
            .refuses(PermissionDenied, not_yours)
            .refuses(NotFound, unknown),
        writes(session(Call::put(
            "/v1/groups/{name}/members/{username}",
            "add_member",
            "Takes somebody in.",
        )))
        .part::<GroupName>("name", "The group.")
        .part::<Username>("username", "Who.")
        .nothing(StatusCode::NO_CONTENT, "They belong to it.")
        .refuses(PermissionDenied, not_yours)
        .refuses(NotFound, "There is no such account, or no such group, or the caller does not belong to it.")
        .refuses(Unprocessable, "The group has as many members as it may."),
        writes(session(Call::delete(
            "/v1/groups/{name}/members/{username}",
            "remove_member",
            "Takes somebody out.",
        )))
        .part::<GroupName>("name", "The group.")
        .part::<Username>("username", "Who.")
        .nothing(StatusCode::NO_CONTENT, "They do not belong to it.")
        .refuses(PermissionDenied, not_yours)
        .refuses(NotFound, unknown),
    ]
}

fn trust() -> [Call; 1] {
    [session(Call::get(
        "/v1/trust",
        "trust",
        "Tells whose certificates are to be refused, and who is in groups.",
    ))
    .says("It has changed whenever a login or a renewal answers another `trust_revision`.")
    .query::<TrustQuery>()
    .answers::<TrustReply>(StatusCode::OK, "A page of the revoked, and the groups.")]
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
