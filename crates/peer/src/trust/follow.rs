//! Asks the directory whom to trust, whenever it says that this has changed, and when somebody here changed it.
//!
//! An answer is taken whole or not at all. One that cannot be had is asked for again, at most ten seconds apart; what
//! was said before holds until then.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use backon::{BackoffBuilder, ExponentialBuilder};
use daemon::{Clock, Lifecycle};
use wire::{
    GroupName, Username,
    rest::accounts::{Group, MAX_TRUST_GROUPS, Revoked, TrustQuery},
};

use super::{Known, MAX_REVOKED, Trust, saved};
use crate::{
    Failure,
    directory_link::{DirectoryClient, Session},
    library::Library,
    service::Service,
};

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// Groups that the files of one peer are for.
const MAX_GROUPS: usize = 1_000;
const PAGE: u32 = 200;
const FILE: &str = "revoked.json";

/// What following needs of the peer.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) trust: Trust,
    pub(crate) client: DirectoryClient,
    pub(crate) session: Session,
    pub(crate) library: Library,
    pub(crate) service: Service,
    pub(crate) clock: Clock,
    pub(crate) data_dir: PathBuf,
}

/// Takes up what was known before, and keeps it up to date.
pub(crate) fn start(parts: Parts, lifecycle: &Lifecycle) {
    let path = parts.data_dir.join(FILE);
    let before = saved::load(&path, parts.clock.now());
    parts.trust.apply(Known::new(0, None, before, []));
    let soft = lifecycle.soft();
    lifecycle.spawn("follow whom to trust", async move {
        let following = follow(&parts, path);
        soft.run_until_cancelled(following).await;
    });
}

async fn follow(parts: &Parts, path: PathBuf) {
    let inner = &parts.trust.inner;
    let (mut heard, mut asked) = (inner.heard.subscribe(), inner.asked.subscribe());
    let mut retries = retries();
    let mut retry: Option<Duration> = None;
    loop {
        let again = async {
            match retry {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = again => {}
            changed = heard.changed() => if changed.is_err() { return },
            changed = asked.changed() => if changed.is_err() { return },
        }
        let ticket = *asked.borrow_and_update();
        let (revision, known) = (*heard.borrow_and_update(), parts.trust.known());
        let account = parts.session.status().username;
        let is_news =
            revision != known.revision || account != known.account || *inner.answered.borrow() < ticket;
        retry = None;
        if is_news && revision != 0 && account.is_some() {
            match ask(parts, account).await {
                Ok((known, revoked)) => {
                    parts.trust.apply(known);
                    parts.service.recheck();
                    let path = path.clone();
                    let saving = tokio::task::spawn_blocking(move || saved::save(&path, &revoked));
                    let _a_panic_was_logged = saving.await;
                    retries = self::retries();
                }
                Err(failure) => {
                    tracing::warn!(error = %failure, "whom to trust cannot be asked now; what was said before holds");
                    metrics::counter!("trueque_trust_failures_total").increment(1);
                    retry = Some(retries.next().unwrap_or(LAST_RETRY));
                }
            }
        }
        inner.answered.send_replace(ticket);
    }
}

/// The whole answer: all pages of the revoked, and all groups.
async fn ask(parts: &Parts, account: Option<Username>) -> Result<(Known, Vec<Revoked>), Failure> {
    let mut names: BTreeSet<GroupName> = parts.library.groups()?;
    while names.len() > MAX_GROUPS {
        metrics::counter!("trueque_refusals_total", "reason" => "too many groups").increment(1);
        names = names.into_iter().take(MAX_GROUPS).collect();
    }
    let names: Vec<&str> = names.iter().map(GroupName::as_str).collect();
    let mut portions = names.chunks(MAX_TRUST_GROUPS);
    let text = |portion: Option<&[&str]>| portion.map(|names| names.join(","));
    let mut query = TrustQuery { groups: text(portions.next()), limit: Some(PAGE), cursor: None };
    let first = parts.client.trust(&query).await?;
    let (mut revoked, mut groups): (Vec<Revoked>, Vec<Group>) = (first.items, first.groups);
    (query.groups, query.cursor) = (None, first.next_cursor);
    while query.cursor.is_some() && revoked.len() < MAX_REVOKED {
        let page = parts.client.trust(&query).await?;
        revoked.extend(page.items);
        query.cursor = page.next_cursor;
    }
    if query.cursor.is_some() {
        metrics::counter!("trueque_refusals_total", "reason" => "too many revoked").increment(1);
        tracing::error!("more sessions were ended than can be kept in mind; some are not refused");
    }
    for portion in portions {
        let query = TrustQuery { groups: text(Some(portion)), limit: Some(1), cursor: None };
        groups.extend(parts.client.trust(&query).await?.groups);
    }
    Ok((Known::new(first.trust_revision, account, revoked.iter().cloned(), groups), revoked))
}

fn retries() -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_RETRY)
        .with_max_delay(LAST_RETRY)
        .without_max_times()
        .with_jitter()
        .build()
}
