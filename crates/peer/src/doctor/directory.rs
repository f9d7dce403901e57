//! The directories: do they answer, is this peer logged in, and do the clocks agree.

use jiff::Timestamp;
use wire::rest::pclient::Check;

use super::{Parameters, failed, ok, span, took, warning};
use crate::{
    config::is_loopback,
    directory_link::{LinkState, LinkStatus, Probe, Seen},
};

/// A certificate that ends before this many seconds is worth a word.
const SOON: i64 = 14 * 24 * 3_600;
/// What may be the way of the answer, and the second in which it was written.
const MOST_DRIFT: i64 = 10;
/// From here on what has a time in it is not taken any more.
const TOO_MUCH_DRIFT: i64 = 300;

pub(super) async fn look(parts: &Parameters) -> Vec<Check> {
    let probes = parts.directory.probe().await;
    let now = parts.clock.now();
    let others = probes.iter().any(|probe| probe.seen.is_ok());
    let mut checks: Vec<Check> =
        probes.iter().flat_map(|probe| one(probe, others, now.as_second())).collect();
    checks.push(session(&parts.session.status()));
    let dates = probes.iter().filter_map(|probe| probe.seen.as_ref().ok()?.date);
    // Where there are several: the one that agrees least.
    let worst = dates.map(|there| drift(now, there)).max_by_key(|seconds| seconds.abs());
    checks.extend(worst.map(clock));
    checks
}

/// What is seen of one directory. `others`: another one answers in its place.
fn one(probe: &Probe, others: bool, now: i64) -> Vec<Check> {
    let Probe { url, seen } = probe;
    let seen = match seen {
        Ok(seen) => seen,
        Err(failure) if others => {
            return vec![warning(
                "directory",
                failure.detail.clone(),
                "another one answers in its place; see to it, or take it out of PEER_DIRECTORY",
            )];
        }
        Err(failure) => {
            let advice = "see that it runs and that this machine reaches it; PEER_DIRECTORY says where it is";
            return vec![failed("directory", failure.detail.clone(), advice)];
        }
    };
    let Seen { took: time, ready, certificate_until, .. } = seen;
    let in_clear = url.starts_with("http://") && url.parse().is_ok_and(|url| !is_loopback(&url));
    let found = format!("{url} answers in {}", took(*time));
    let mut checks = vec![match (ready, in_clear) {
        (false, _) => {
            let advice = "look at the directory's log: its catalog does not answer";
            failed("directory", format!("{found}, and cannot do its work"), advice)
        }
        (true, true) => {
            let advice = "give it a certificate and use https: names and passwords can be read on the way";
            warning("directory", format!("{found}, without TLS"), advice)
        }
        (true, false) => ok("directory", found),
    }];
    checks.extend(certificate_until.map(|until| certificate(url, until - now)));
    checks
}

fn certificate(url: &str, left: i64) -> Check {
    let name = "directory_certificate";
    match left {
        SOON.. => ok(name, format!("of {url}: holds for {}", span(left))),
        0.. => {
            let advice = "renew it: without it no peer logs in";
            warning(name, format!("of {url}: ends in {}", span(left)), advice)
        }
        _ => failed(name, format!("of {url}: ended {} ago", span(-left)), "renew it"),
    }
}

fn session(link: &LinkStatus) -> Check {
    let user = link.username.as_ref().map(ToString::to_string).unwrap_or_default();
    match &link.state {
        LinkState::Connected => ok("session", format!("logged in as {user}; others see this peer")),
        LinkState::Disconnected { why } => failed(
            "session",
            format!("the lease is not renewed, so others do not see this peer: {why}"),
            "what is being fetched goes on; the peer tries again by itself, at most ten seconds apart",
        ),
        LinkState::LoggedOut { why } => {
            let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            let advice = "peer login, or PEER_USERNAME and PEER_PASSWORD";
            failed("session", format!("nobody is logged in{why}"), advice)
        }
    }
}

/// Seconds by which our clock is ahead.
fn drift(now: Timestamp, there: Timestamp) -> i64 {
    now.as_second() - there.as_second()
}

fn clock(ahead: i64) -> Check {
    let off = format!(
        "this machine's clock is {} {} the directory's",
        span(ahead.abs()),
        if ahead > 0 { "ahead of" } else { "behind" }
    );
    let advice = "set both by NTP; the one that differs from other clocks is wrong";
    match ahead.abs() {
        0..=MOST_DRIFT => ok("clock", "agrees with the directory's"),
        ..TOO_MUCH_DRIFT => warning("clock", off, advice),
        _ => failed("clock", format!("{off}: certificates and tokens are refused"), advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::rest::pclient::CheckResult::{Failed, Ok, Warning};

    #[test]
    fn clocks_and_certificates() {
        for (ahead, result, words) in [
            (0, Ok, "agrees with the directory's"),
            (-10, Ok, "agrees with the directory's"),
            (11, Warning, "this machine's clock is 11 seconds ahead of the directory's"),
            (-299, Warning, "this machine's clock is 4 minutes behind the directory's"),
            (
                7_200,
                Failed,
                "this machine's clock is 2 hours ahead of the directory's: certificates and tokens are refused",
            ),
        ] {
            let check = clock(ahead);
            assert_eq!((check.result, check.found.as_str()), (result, words), "{ahead}");
            assert_eq!(check.advice.is_some(), result != Ok);
        }
        for (left, result, words) in [
            (SOON, Ok, "of https://d: holds for 14 days"),
            (SOON - 1, Warning, "of https://d: ends in 13 days"),
            (0, Warning, "of https://d: ends in 0 seconds"),
            (-7_200, Failed, "of https://d: ended 2 hours ago"),
        ] {
            let check = certificate("https://d", left);
            assert_eq!((check.result, check.found.as_str()), (result, words), "{left}");
        }
    }
}
