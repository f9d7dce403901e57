//! The commands that look something up: `status`, `files`, `search`, `downloads`, `peers`.

use http::Method;
use wire::rest::{
    directory::{SearchItem, SearchQuery},
    pclient::{
        Download, DownloadState, DownloadsQuery, FilesQuery, PeerPath, PeerWithPath, RelayStatus, SharedFile,
        Status,
    },
};

use super::{
    DownloadsArgs, Exit, FilesArgs, PeersArgs, SearchArgs, Stop,
    api::Api,
    screen::{Screen, counted, escaped, named, size},
};

/// A list is shown whole, within reason.
const ALL: usize = 1_000_000;

pub(super) async fn status(api: &Api, screen: &mut Screen) -> Result<(), Stop> {
    let status: Status = api.get("/v1/status", &()).await?;
    if screen.json {
        return screen.json(&status);
    }
    let user =
        status.username.as_ref().map_or("logged out".to_owned(), |user| format!("logged in as {user}"));
    screen.line(format!("peer       {} ({user}), version {}", status.peer_id, status.version))?;
    let link = match (status.directory.connected, &status.directory.error) {
        (true, _) => "connected".to_owned(),
        (false, Some(why)) => format!("not connected: {}", escaped(why)),
        (false, None) => "not connected".to_owned(),
    };
    screen.line(format!("directory  {}: {link}", escaped(&status.directory.url)))?;
    let pserver = match &status.pserver.listen {
        Some(listen) => format!("{listen}, known as {}", escaped(&status.pserver.advertise.join(", "))),
        None => "takes no calls".to_owned(),
    };
    screen.line(format!("pserver    {pserver}"))?;
    screen.line(format!("relay      {}", relay(&status.relay)))?;
    let shared = &status.shared;
    let mut line = format!("shared     {}, {}", counted_u64(shared.files, "file"), size(shared.bytes));
    if shared.hashing_files > 0 {
        line += &format!(
            "; {} with {} are being hashed",
            counted_u64(shared.hashing_files, "file"),
            size(shared.hashing_bytes)
        );
    } else if !shared.announced {
        line += "; not all announced yet";
    }
    screen.line(line)?;
    let transfers = &status.transfers;
    screen.line(format!("transfers  {}/s in, {}/s out", size(transfers.down_bps), size(transfers.up_bps)))
}

fn relay(status: &RelayStatus) -> String {
    let state = match (status.connected, &status.server) {
        (true, Some(server)) => format!("connected to {}", escaped(server)),
        (true, None) => "connected".to_owned(),
        (false, _) if status.off => "off".to_owned(),
        (false, _) => "not connected".to_owned(),
    };
    match &status.why {
        Some(why) => format!("{state}: {}", escaped(why)),
        None => state,
    }
}

pub(super) async fn files(api: &Api, args: FilesArgs, screen: &mut Screen) -> Result<(), Stop> {
    let query = FilesQuery { q: args.part, ..FilesQuery::default() };
    let files: Vec<SharedFile> = api.all("/v1/files", &query, ALL).await?;
    if screen.json {
        return screen.json(&files);
    }
    let row = |file: &SharedFile| {
        vec![file.content_id.to_string(), size(file.size), named(&file.audience), escaped(&file.name)]
    };
    let rows: Vec<_> = files.iter().map(row).collect();
    screen.table(&["CONTENT ID", "SIZE", "FOR", "NAME"], &[1], &rows)
}

pub(super) async fn search(api: &Api, args: SearchArgs, screen: &mut Screen) -> Result<(), Stop> {
    let words = args.words.join(" ");
    let query = SearchQuery {
        q: (!words.is_empty()).then_some(words),
        media_type: args.media_type,
        min_size: args.min_size.map(|size| size.0),
        max_size: args.max_size.map(|size| size.0),
        holder: args.holder,
        online: args.online.then_some(true),
        limit: None,
        cursor: None,
    };
    let limit = if args.all { ALL } else { args.limit as usize };
    let (found, more): (Vec<SearchItem>, bool) = api.some("/v1/search", &query, limit).await?;
    if more {
        screen.remark(&format!("the first {}; there are more: see --limit and --all", found.len()));
    }
    if screen.json {
        return screen.json(&found);
    }
    show_found(&found, screen)
}

/// One row per content, with who has it.
pub(super) fn show_found(found: &[SearchItem], screen: &mut Screen) -> Result<(), Stop> {
    let row = |item: &SearchItem| {
        // What those have who are off is not known.
        let whole = if item.complete || item.online == 0 { "" } else { ", in part" };
        let holders = format!("{} of {} online{whole}", item.online, item.holders);
        vec![item.content_id.to_string(), size(item.size), holders, escaped(&item.name)]
    };
    let rows: Vec<_> = found.iter().map(row).collect();
    screen.table(&["CONTENT ID", "SIZE", "HOLDERS", "NAME"], &[1], &rows)
}

/// As [`show_found`], where it is not the answer but a help to ask better.
pub(super) fn remark_found(found: &[SearchItem], screen: &mut Screen) {
    for item in found {
        screen.remark(&format!("{}  {:>10}  {}", item.content_id, size(item.size), item.name));
    }
}

pub(super) async fn downloads(api: &Api, args: DownloadsArgs, screen: &mut Screen) -> Result<(), Stop> {
    for (id, method, call) in [
        (&args.pause, Method::POST, "/pause"),
        (&args.resume, Method::POST, "/resume"),
        (&args.cancel, Method::DELETE, ""),
    ] {
        if let Some(id) = id {
            let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
            return api.tell(method, &format!("/v1/downloads/{id}{call}")).await;
        }
    }
    let state = args.state.map(|word| {
        let state = serde_json::from_value::<DownloadState>(word.clone().into());
        state.map_err(|_| Stop::new(Exit::Usage, format!("--state: `{word}` is not a state of a download")))
    });
    let query = DownloadsQuery { state: state.transpose()?, ..DownloadsQuery::default() };
    let downloads: Vec<Download> = api.all("/v1/downloads", &query, ALL).await?;
    if screen.json {
        return screen.json(&downloads);
    }
    let row = |download: &Download| {
        let done = match download.size {
            Some(whole) if whole > 0 => format!("{} %", percent(download.verified_bytes, whole)),
            Some(_) | None => "-".to_owned(),
        };
        let whole = download.size.map_or("-".to_owned(), size);
        let rate = format!("{}/s", size(download.rate_bps));
        let state = word(download.state);
        vec![download.id.clone(), state, done, whole, rate, ways(download), escaped(&download.name)]
    };
    let rows: Vec<_> = downloads.iter().map(row).collect();
    screen.table(&["ID", "STATE", "DONE", "SIZE", "RATE", "BY", "NAME"], &[2, 3, 4], &rows)
}

pub(super) async fn peers(api: &Api, args: PeersArgs, screen: &mut Screen) -> Result<(), Stop> {
    let mut peers: Vec<PeerWithPath> = api.all("/v1/peers", &(), ALL).await?;
    peers.retain(|peer| peer.peer.online || !args.online);
    if screen.json {
        return screen.json(&peers);
    }
    let row = |PeerWithPath { peer, path, why }: &PeerWithPath| {
        vec![
            peer.peer_id.to_string(),
            peer.username.to_string(),
            path.word().to_owned(),
            peer.files.to_string(),
            escaped(&peer.endpoints.join(", ")),
            why.as_deref().map(escaped).unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = peers.iter().map(row).collect();
    screen.table(&["PEER ID", "USER", "PATH", "FILES", "ENDPOINTS", "WHY"], &[3], &rows)
}

/// By which ways its sources are reached: `2 direct, 1 relayed`.
pub(super) fn ways(download: &Download) -> String {
    let count = |path: PeerPath| download.sources.iter().filter(|source| source.path == path).count();
    let named =
        [PeerPath::Direct, PeerPath::Reversed, PeerPath::Relayed].map(|path| (count(path), path.word()));
    let named: Vec<String> =
        named.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
    if named.is_empty() { "-".to_owned() } else { named.join(", ") }
}

/// The state as the REST API writes it.
pub(super) fn word(state: DownloadState) -> String {
    let word = serde_json::to_value(state).ok();
    word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn percent(part: u64, whole: u64) -> u128 {
    u128::from(part) * 100 / u128::from(whole.max(1))
}

fn counted_u64(n: u64, one: &str) -> String {
    counted(usize::try_from(n).unwrap_or(usize::MAX), one)
}
