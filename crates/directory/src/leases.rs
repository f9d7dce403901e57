//! When a peer counts as online, and when its session ends. Pure: the time is an argument.
//!
//! A lease is a promise of the peer to be heard of again before it ends. Nothing sweeps leases: whoever asks compares,
//! so that a peer that fell silent is offline in the very millisecond its lease ends, whatever else is going on.

use std::time::Duration;

use crate::authority::VALIDITY;

/// The shortest lease that can be set: shorter ones would be renewals and nothing else.
pub const SHORTEST: Duration = Duration::from_secs(1);

/// A session whose peer was not heard of for this long takes no more calls; the peer logs in again.
pub const SESSION_IDLE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The end of a lease granted at `now`, in milliseconds since 1970.
pub fn until(now: i64, lease: Duration) -> i64 {
    now.saturating_add(millis(lease))
}

/// Whether a lease that ends at `lease_until` holds at `now`.
pub fn online(lease_until: i64, now: i64) -> bool {
    lease_until > now
}

/// Whether a session whose peer was last heard of at `last_seen` still takes calls.
pub fn session_open(last_seen: i64, now: i64) -> bool {
    now.saturating_sub(last_seen) < millis(SESSION_IDLE)
}

/// When the last certificate has ended that was issued until `now`.
pub fn certificates_end(now: i64) -> i64 {
    // With the minutes by which clocks may differ.
    now.saturating_add(millis(VALIDITY + Duration::from_secs(3600)))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_holds_until_its_last_millisecond() {
        let until = until(1_000, Duration::from_secs(30));
        assert!(online(until, 1_000) && online(until, 30_999));
        assert!(!online(until, 31_000) && !online(0, 1));
    }

    #[test]
    fn nothing_overflows_at_the_ends_of_time() {
        assert!(online(until(i64::MAX, Duration::MAX), i64::MAX - 1));
        assert!(!session_open(i64::MIN, i64::MAX));
    }

    #[test]
    fn sessions_end_after_a_month_of_silence() {
        let idle = millis(SESSION_IDLE);
        assert!(session_open(0, idle - 1) && !session_open(0, idle));
    }
}
