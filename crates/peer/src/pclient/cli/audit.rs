//! `peer audit`: who fetched what from this peer.

use wire::rest::pclient::{AuditEntry, AuditQuery, FetchPath};

use super::{
    AuditArgs, Stop,
    api::Api,
    screen::{Screen, escaped, size},
};

/// More than are kept.
const ALL: usize = 10_000_000;

pub(super) async fn audit(api: &Api, args: AuditArgs, screen: &mut Screen) -> Result<(), Stop> {
    let query = AuditQuery { content_id: args.content_id, username: args.user, ..AuditQuery::default() };
    let limit = if args.all { ALL } else { args.limit as usize };
    let (entries, more): (Vec<AuditEntry>, bool) = api.some("/v1/audit", &query, limit).await?;
    if more {
        screen.remark(&format!("the newest {}; there are more: see --limit and --all", entries.len()));
    }
    if args.json_lines {
        return entries.iter().try_for_each(|entry| screen.json_line(entry));
    }
    if screen.json {
        return screen.json(&entries);
    }
    let row = |entry: &AuditEntry| {
        let what = entry.name.as_deref().map_or_else(|| entry.content_id.to_string(), escaped);
        let at = entry.started_at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        vec![at, entry.username.to_string(), size(entry.bytes), word(entry.path).to_owned(), what]
    };
    let rows: Vec<_> = entries.iter().map(row).collect();
    screen.table(&["SINCE", "USER", "SENT", "PATH", "NAME"], &[2], &rows)
}

fn word(path: FetchPath) -> &'static str {
    match path {
        FetchPath::Direct => "direct",
        FetchPath::Reversed => "reversed",
        FetchPath::Relayed => "relayed",
        FetchPath::Mailed => "mailed",
    }
}
