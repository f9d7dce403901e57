//! `GET /openapi.json`: what this API is, for programs. A [`Call`] for each route of the map, in its order.
//!
//! The types describe themselves; here stands what they cannot know. A test asks the router for the methods of every
//! route, so that none is missing here and none is made up; `docs/openapi/pclient.json` is the same document, kept. The
//! page and its files are not told of: they are for browsers.

use std::sync::LazyLock;

use content::ContentId;
use http::{HeaderName, StatusCode, header};
use serde::Deserialize;
use utoipa::{
    ToSchema,
    openapi::{
        OpenApi,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use wire::{
    ErrorCode::{
        AlreadyExists, Conflict, Misdirected, NotFound, PermissionDenied, RangeNotSatisfiable, RateLimited,
        StorageFull, Timeout, TooLarge, Unauthenticated, Unavailable, Unprocessable,
    },
    GroupName, PeerId, Username,
    http::{
        Problem,
        openapi::{Api, Call},
    },
    rest::{
        accounts::{Group, GroupRequest, LoginRequest, PasswordRequest, SessionItem},
        directory::{PageQuery, PeerFile, PeersQuery, SearchItem, SearchQuery},
        pclient::{
            AuditEntry, AuditQuery, BatchReply, BatchRequest, Download, DownloadRequest, DownloadsQuery,
            Event, Examination, FilePatch, FilesQuery, HolderWithPath, Offer, OfferRequest, OffersQuery,
            PeerWithPath, Pieces, ShareFolderReply, ShareReply, ShareRequest, SharedFile, Status, Ticket,
            TicketRequest,
        },
        schema::Number,
    },
};

use super::NoQuery;

const ABOUT: &str = "What a person, a page or a program asks of the peer on its own machine.\n\nA request has one \
     `Host`: a name of this machine, or one of `PCLIENT_ALLOWED_HOSTS`; a browser's comes from pclient's own origin \
     alone. Sizes are in bytes, durations in seconds, times in RFC 3339 UTC. Parameters and fields that a call does not \
     take are refused, and so is an integer with a fraction, even `1.0`. `HEAD` is answered wherever `GET` is. A path that is not here gets `not_found` (404), a method \
     that a path does not take `method_not_allowed` (405), a body with a `Content-Encoding` \
     `unsupported_media_type` (415).";

/// The document, as it is served.
static DOCUMENT: LazyLock<Result<String, serde_json::Error>> = LazyLock::new(|| document().to_json());

/// A file that is sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "the form is read part by part, as it comes")]
struct Upload {
    /// The bytes. The part's file name is the name that the file gets in the first shared folder, as in `FileName`.
    #[schema(value_type = String, content_media_type = "application/octet-stream")]
    file: Vec<u8>,
    /// Who may find and fetch it: plainly, as `network` or `ana,@lab`, or as in JSON.
    #[schema(
        nullable = false,
        max_length = 65536,
        pattern = r#"^(@?[a-z][a-z0-9._-]{2,31}(,@?[a-z][a-z0-9._-]{2,31})*|"network"|\[("@?[a-z][a-z0-9._-]{2,31}"(,"@?[a-z][a-z0-9._-]{2,31}")*)?\])$"#
    )]
    audience: Option<String>,
}

/// `GET /openapi.json`.
pub(super) async fn serve(_: NoQuery) -> Result<([(HeaderName, &'static str); 1], &'static str), Problem> {
    let document = DOCUMENT.as_deref().map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], document))
}

/// The document.
pub fn document() -> OpenApi {
    Api::new("Trueque: pclient", env!("CARGO_PKG_VERSION"), ABOUT)
        .security("token", token())
        .security("ticket", ticket())
        .refuses(PermissionDenied, "A page of another site sent it.")
        .refuses(Misdirected, "The `Host` is not a name of this machine.")
        .tag("peer", "This peer itself.")
        .tag("account", "The account that is logged in here, and its groups.")
        .tag("files", "The files that this peer shares.")
        .tag("finding", "What there is on the network, and who has it.")
        .tag("downloads", "Files that are fetched.")
        .tag("content", "The bytes of files.")
        .tag("offers", "Files that somebody sends to somebody.")
        .tag("service", "For watchdogs, Prometheus and programs.")
        .calls("peer", peer())
        .calls("account", account())
        .calls("files", files())
        .calls("finding", finding())
        .calls("downloads", downloads())
        .calls("content", content())
        .calls("offers", offers())
        .calls("service", service())
        .document()
}

fn peer() -> [Call; 5] {
    [
        guarded(Call::get("/v1/status", "status", "Tells how the peer stands."))
            .answers::<Status>(StatusCode::OK, "In one look."),
        of_directory(Call::post("/v1/login", "login", "Logs in at the directory."))
            .says("An account that is not there is created, where the directory does that: for everybody, or with an `invite`.")
            .body::<LoginRequest>()
            .answers::<Status>(StatusCode::OK, "The peer is logged in.")
            .refuses(Unauthenticated, "The username or the password is wrong.")
            .refuses(PermissionDenied, "The account is disabled.")
            .refuses(Unprocessable, "The account has as many peers as it may.")
            .refuses(RateLimited, "The directory has had too many attempts.")
            .refuses(StorageFull, "The disk is full, here or at the directory."),
        guarded(Call::post("/v1/logout", "logout", "Logs out at the directory."))
            .nothing(StatusCode::NO_CONTENT, "The peer is offline at once for everybody.")
            .refuses(Unavailable, "The peer is stopping.")
            .refuses(StorageFull, "The disk is full."),
        guarded(Call::get("/v1/events", "events", "Tells what happens, while it does."))
            .says(
                "Server-sent events. Each has the name of its kind in `event`, a number in `id`, and an `Event` in \
                 `data`. The stream ends when the peer stops.",
            )
            .header(
                "Last-Event-ID",
                "The `id` of the last event that was seen: what came after it is told first, as far as it is kept. \
                 Without it the present status is told first.",
                "^[0-9a-f]{1,8}-[0-9]{1,19}$",
            )
            .events::<Event>("Events, without an end."),
        guarded(Call::post("/v1/doctor", "doctor", "Examines what the peer needs."))
            .says(
                "It writes into its folders, dials its own addresses and sends a sealed question to itself through the \
                 relay, so that it takes up to some seconds.",
            )
            .answers::<Examination>(StatusCode::OK, "What works, what does not, and what to do.")
            .refuses(RateLimited, "Another examination runs."),
    ]
}

fn account() -> [Call; 9] {
    let unknown = "There is no such group, or this account does not belong to it.";
    let not_yours = "Only its owner changes a group.";
    let full = "The disk of the directory is full.";
    [
        of_directory(Call::put("/v1/accounts/{username}/password", "set_password", "Sets another password."))
            .says(
                "All other sessions of the account end, and their certificates are refused from then on. The session of \
                 this peer goes on.",
            )
            .part::<Username>("username", "The account that is logged in here.")
            .body::<PasswordRequest>()
            .nothing(StatusCode::NO_CONTENT, "It is set.")
            .refuses(PermissionDenied, "It is somebody else's account, or `current` is not its password.")
            .refuses(RateLimited, "The directory has had too many attempts.")
            .refuses(StorageFull, full),
        of_directory(Call::get("/v1/sessions", "sessions", "Lists where the account is logged in."))
            .query::<PageQuery>()
            .lists::<SessionItem>("The open sessions."),
        of_directory(Call::delete("/v1/sessions/{peer_id}", "end_session", "Ends a session of the account."))
            .says("Other peers refuse its certificate within a lease. It may log in again.")
            .part::<PeerId>("peer_id", "The peer.")
            .nothing(StatusCode::NO_CONTENT, "It is ended.")
            .refuses(NotFound, "This account has no such peer.")
            .refuses(StorageFull, full),
        of_directory(Call::get("/v1/groups", "groups", "Lists the groups that the account owns or belongs to."))
            .query::<PageQuery>()
            .lists::<Group>("By name."),
        of_directory(Call::post("/v1/groups", "create_group", "Makes a group."))
            .says("Its name is the account's from now on, also when the group is deleted.")
            .body::<GroupRequest>()
            .answers::<Group>(StatusCode::CREATED, "It is made.")
            .refuses(AlreadyExists, "The name is taken.")
            .refuses(TooLarge, "It has too many members.")
            .refuses(Unprocessable, "The account has as many groups as it may, or a member has no account.")
            .refuses(StorageFull, full),
        of_directory(Call::get("/v1/groups/{name}", "group", "Tells who is in a group."))
            .part::<GroupName>("name", "The group.")
            .answers::<Group>(StatusCode::OK, "The group.")
            .refuses(NotFound, unknown),
        of_directory(Call::delete("/v1/groups/{name}", "delete_group", "Deletes a group."))
            .part::<GroupName>("name", "The group.")
            .nothing(StatusCode::NO_CONTENT, "Audiences that name it name nobody by it.")
            .refuses(PermissionDenied, not_yours)
            .refuses(NotFound, unknown)
            .refuses(StorageFull, full),
        of_directory(Call::put("/v1/groups/{name}/members/{username}", "add_member", "Takes somebody in."))
            .part::<GroupName>("name", "The group.")
            .part::<Username>("username", "Who.")
            .nothing(StatusCode::NO_CONTENT, "They belong to it.")
            .refuses(PermissionDenied, not_yours)
            .refuses(NotFound, "There is no such account, or no such group, or this account does not belong to it.")
            .refuses(Unprocessable, "The group has as many members as it may.")
            .refuses(StorageFull, full),
        of_directory(Call::delete("/v1/groups/{name}/members/{username}", "remove_member", "Takes somebody out."))
            .part::<GroupName>("name", "The group.")
            .part::<Username>("username", "Who.")
            .nothing(StatusCode::NO_CONTENT, "They do not belong to it.")
            .refuses(PermissionDenied, not_yours)
            .refuses(NotFound, unknown)
            .refuses(StorageFull, full),
    ]
}

fn files() -> [Call; 6] {
    [
        guarded(Call::get("/v1/files", "files", "Lists what this peer shares."))
            .query::<FilesQuery>()
            .lists::<SharedFile>("By name."),
        writes(Call::post("/v1/files", "share", "Shares a file or a folder."))
            .says(
                "As JSON, what lies in a shared folder already; as a form, a file that is sent and kept in the first \
                 shared folder.",
            )
            .body::<ShareRequest>()
            .body_as::<Upload>("multipart/form-data")
            .answers::<ShareReply>(StatusCode::CREATED, "The file is shared.")
            .answers::<ShareFolderReply>(StatusCode::ACCEPTED, "It is a folder, and its files follow.")
            .refuses(PermissionDenied, "It lies in no shared folder, or may not be read.")
            .refuses(NotFound, "There is no such file or folder.")
            .refuses(Conflict, "The name of the upload leads through a file.")
            .refuses(Unprocessable, "It cannot be read, is being written to, or was given to this peer alone; or nobody has a name in its audience.")
            .refuses(RateLimited, "Too many files wait to be hashed.")
            .refuses(Timeout, "The upload stands still."),
        guarded(Call::get("/v1/files/{content_id}", "file", "Tells of a file that this peer shares."))
            .part::<ContentId>("content_id", "The file.")
            .answers::<SharedFile>(StatusCode::OK, "The file.")
            .refuses(NotFound, "This peer does not share it."),
        writes(Call::patch("/v1/files/{content_id}", "change", "Changes who may have a file."))
            .part::<ContentId>("content_id", "The file.")
            .body::<FilePatch>()
            .answers::<SharedFile>(StatusCode::OK, "The file, changed.")
            .refuses(NotFound, "This peer does not share it.")
            .refuses(Unprocessable, "It names somebody who has no account, or a group that the account neither owns nor belongs to."),
        writes(Call::delete("/v1/files/{content_id}", "unshare", "Shares a file no longer."))
            .part::<ContentId>("content_id", "The file.")
            .nothing(StatusCode::NO_CONTENT, "It is not shared any more, and stays where it is.")
            .refuses(NotFound, "This peer does not share it."),
        guarded(Call::get("/v1/audit", "audit", "Lists who fetched what from this peer."))
            .says(
                "Bytes of one content to one machine over one path are one entry, until ten minutes pass without any. \
                 The latest two seconds may be missing.",
            )
            .query::<AuditQuery>()
            .lists::<AuditEntry>("The newest first."),
    ]
}

fn finding() -> [Call; 5] {
    [
        of_directory(Call::get("/v1/search", "search", "Finds contents by parts of their names."))
            .says(
                "A single letter is found only where a word begins; scripts that write without spaces are found by a \
                 single character anywhere.",
            )
            .query::<SearchQuery>()
            .lists::<SearchItem>("What was found, the best first."),
        of_directory(Call::get("/v1/files/{content_id}/holders", "holders", "Tells who has a content."))
            .part::<ContentId>("content_id", "The content.")
            .lists::<HolderWithPath>("All of them, on one page.")
            .refuses(NotFound, "Nobody holds it."),
        of_directory(Call::get("/v1/peers", "peers", "Lists who takes part."))
            .query::<PeersQuery>()
            .lists::<PeerWithPath>("The peers."),
        of_directory(Call::get("/v1/peers/{peer_id}", "peer", "Tells of one peer."))
            .part::<PeerId>("peer_id", "The peer.")
            .answers::<PeerWithPath>(StatusCode::OK, "The peer.")
            .refuses(NotFound, "There is no such peer."),
        of_directory(Call::get("/v1/peers/{peer_id}/files", "peer_files", "Lists what a peer holds."))
            .part::<PeerId>("peer_id", "The peer.")
            .query::<PageQuery>()
            .lists::<PeerFile>("What this account may see of it.")
            .refuses(NotFound, "There is no such peer."),
    ]
}

fn downloads() -> [Call; 8] {
    let one = |call: Call| {
        call.part::<Number>("id", "The download.").refuses(NotFound, "There is no such download.")
    };
    [
        guarded(Call::get("/v1/downloads", "downloads", "Lists the downloads."))
            .query::<DownloadsQuery>()
            .lists::<Download>("The newest first."),
        writes(Call::post("/v1/downloads", "start", "Fetches a content."))
            .body::<DownloadRequest>()
            .answers::<Download>(StatusCode::CREATED, "It begins.")
            .answers::<Download>(StatusCode::OK, "It runs already, or is done and untouched.")
            .with_header(StatusCode::CREATED, "Location", "Where the download is asked for.")
            .with_header(StatusCode::OK, "Location", "Where the download is asked for.")
            .refuses(Unprocessable, "As many downloads are remembered as may be."),
        writes(Call::post("/v1/downloads/batch", "start_many", "Fetches many contents."))
            .body::<BatchRequest>()
            .answers::<BatchReply>(StatusCode::CREATED, "They begin, or run already.")
            .refuses(Unprocessable, "As many downloads are remembered as may be."),
        one(guarded(Call::get("/v1/downloads/{id}", "download", "Tells of a download.")))
            .answers::<Download>(StatusCode::OK, "The download."),
        one(writes(Call::delete("/v1/downloads/{id}", "cancel", "Ends and forgets a download.")))
            .nothing(StatusCode::NO_CONTENT, "It is gone, with its part; a finished file stays."),
        one(guarded(Call::get(
            "/v1/downloads/{id}/pieces",
            "pieces",
            "Tells which pieces of a download are here.",
        )))
        .answers::<Pieces>(StatusCode::OK, "The pieces."),
        one(writes(Call::post("/v1/downloads/{id}/pause", "pause", "Pauses a download.")))
            .answers::<Download>(StatusCode::OK, "It rests.")
            .refuses(Unprocessable, "It is over."),
        one(writes(Call::post("/v1/downloads/{id}/resume", "resume", "Resumes a download.")))
            .answers::<Download>(StatusCode::OK, "It goes on.")
            .refuses(Unprocessable, "It is done."),
    ]
}

fn content() -> [Call; 2] {
    let etag = "The content id, in quotes.";
    let headers =
        |call: Call, status| {
            call.with_header(status, "ETag", etag)
                .with_header(status, "Accept-Ranges", "`bytes`.")
                .with_header(status, "Content-Disposition", "`attachment`, with the file's name.")
        };
    let read = Call::get("/v1/content/{content_id}", "read", "Gives the bytes of a file.")
        .says(
            "They are here, or come from the network while they are read. One range is served; what is not a range of \
             bytes, or is several, is answered with the whole file. Content ids name the very bytes, so they never go \
             stale.",
        )
        .needs(&["token", "ticket"])
        .refuses(Unauthenticated, "The token is needed, or a ticket in its place.")
        .part::<ContentId>("content_id", "The content.")
        .header("Range", "The bytes that are wanted, such as `bytes=0-1023`.", "^bytes=([0-9]+-[0-9]*|-[0-9]+)$")
        .header("If-Range", "A `Range` counts only where this is the `ETag`.", "^\"[0-9a-f]{64}\"$")
        .header("If-None-Match", "Where this is the `ETag`, nothing is sent.", "^(\\*|\"[0-9a-f]{64}\")$")
        .bytes(StatusCode::OK, "The whole file.")
        .bytes(StatusCode::PARTIAL_CONTENT, "The range.")
        .nothing(StatusCode::NOT_MODIFIED, "The caller has it.")
        .with_header(StatusCode::PARTIAL_CONTENT, "Content-Range", "`bytes FIRST-LAST/SIZE`.")
        .with_header(StatusCode::NOT_MODIFIED, "ETag", etag)
        .refuses(NotFound, "Nobody holds it.")
        .refuses(RangeNotSatisfiable, "The range lies outside the file.")
        .refuses(Unprocessable, "It was changed since it was hashed, or cannot be read.")
        .refuses(Unavailable, "No holder is online, or the directory cannot be asked.")
        .refuses(StorageFull, "The disk is full.")
        .refuses(Timeout, "No holder answered in time.");
    [
        headers(headers(read, StatusCode::OK), StatusCode::PARTIAL_CONTENT),
        guarded(Call::post("/v1/tickets", "ticket", "Makes a ticket, with which one content is read without the token."))
            .says("For six hours, or until the peer ends: for a browser's `<video>`, or a player that is given a link.")
            .body::<TicketRequest>()
            .answers::<Ticket>(StatusCode::CREATED, "The ticket."),
    ]
}

fn offers() -> [Call; 5] {
    let one =
        |call: Call| call.part::<Number>("id", "The offer.").refuses(NotFound, "There is no such offer.");
    [
        guarded(Call::get("/v1/offers", "offers", "Lists what others offered, or what was offered to them."))
            .query::<OffersQuery>()
            .lists::<Offer>("The newest first."),
        of_directory(writes(Call::post("/v1/offers", "send", "Offers a file to somebody.")))
            .says("It waits for them where no machine of theirs is online.")
            .body::<OfferRequest>()
            .answers::<Offer>(StatusCode::CREATED, "It is offered.")
            .answers::<Offer>(StatusCode::OK, "It was offered before, and waits.")
            .with_header(StatusCode::CREATED, "Location", "Where the offer is asked for.")
            .with_header(StatusCode::OK, "Location", "Where the offer is asked for.")
            .refuses(PermissionDenied, "The file is not for them: put them into its audience first.")
            .refuses(NotFound, "The file is not shared here, or nobody of that name has been on the network.")
            .refuses(Unprocessable, "They have no other machine than this one.")
            .refuses(RateLimited, "Too many offers wait."),
        one(guarded(Call::get("/v1/offers/{id}", "offer", "Tells of an offer.")))
            .answers::<Offer>(StatusCode::OK, "The offer."),
        one(writes(Call::post("/v1/offers/{id}/accept", "accept", "Accepts an offer; its download begins.")))
            .answers::<Offer>(StatusCode::OK, "It is accepted.")
            .refuses(Conflict, "It was declined, or has expired.")
            .refuses(Unprocessable, "It is one of ours, or the file has another size than was offered."),
        one(writes(Call::post("/v1/offers/{id}/decline", "decline", "Declines an offer.")))
            .answers::<Offer>(StatusCode::OK, "It is declined.")
            .refuses(Conflict, "It was accepted, or has expired.")
            .refuses(Unprocessable, "It is one of ours."),
    ]
}

fn service() -> [Call; 4] {
    [
        Call::get("/healthz", "alive", "The process answers.").text("text/plain", "It does."),
        Call::get("/readyz", "ready", "It takes work.")
            .says("Being logged out, or the directory being away, is not a reason not to.")
            .text("text/plain", "It does.")
            .refuses(Unavailable, "The peer is stopping."),
        guarded(Call::get("/metrics", "metrics", "Numbers for Prometheus."))
            .text("text/plain", "The text format of Prometheus, version 0.0.4."),
        guarded(Call::get("/openapi.json", "describe", "This document.")).object("OpenAPI 3.1."),
    ]
}

/// A call that needs the token, where one is set.
fn guarded(call: Call) -> Call {
    call.needs(&["token"]).refuses(Unauthenticated, "The token is needed.")
}

/// A call that is remembered on disk.
fn writes(call: Call) -> Call {
    guarded(call).refuses(Unavailable, "The peer is stopping.").refuses(StorageFull, "The disk is full.")
}

/// A call that the directory answers.
fn of_directory(call: Call) -> Call {
    guarded(call)
        .refuses(Unauthenticated, "This peer is not logged in.")
        .refuses(Unavailable, "The directory cannot be reached, or is busy.")
}

fn token() -> SecurityScheme {
    let about = "What `PCLIENT_TOKEN` is set to. Where it is not set, pclient answers its own machine alone, and nothing \
                 is needed.";
    SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(about)).build())
}

fn ticket() -> SecurityScheme {
    let about = "A ticket of `POST /v1/tickets`, for this content.";
    SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::with_description("ticket", about)))
}
