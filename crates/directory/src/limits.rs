//! How often somebody may try to register or to log in: by address and by account name.
//!
//! An address may be a whole classroom, so its allowance is wide; an account is one person, so its is narrow, and
//! guessing passwords from many addresses does not get around it. Memory is bounded: whoever has not tried for a
//! while is forgotten, and beyond a fixed number of names new ones are refused.

use std::{
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock};
use wire::{ErrorCode, Username, http::Problem};

const REMEMBERED: usize = 100_000;
const FORGET_EVERY: u32 = 1_024;

/// The limits of one call.
pub struct Limits {
    call: &'static str,
    addresses: Limiter<IpAddr>,
    accounts: Limiter<Username>,
}

impl Limits {
    /// For `call`, which is named in the metric.
    pub fn new(call: &'static str) -> Self {
        Self {
            call,
            addresses: Limiter::new(100, Duration::from_millis(200)),
            accounts: Limiter::new(10, Duration::from_secs(2)),
        }
    }

    /// Counts an attempt. The address is unknown where the request did not come over a socket.
    ///
    /// # Errors
    /// `rate_limited`, with the time after which to try again.
    pub fn check(&self, address: Option<IpAddr>, account: &Username) -> Result<(), Problem> {
        if let Some(address) = address {
            self.addresses.check(&network(address)).map_err(|wait| self.refused("address", wait))?;
        }
        self.accounts.check(account).map_err(|wait| self.refused("account", wait))
    }

    fn refused(&self, by: &'static str, wait: Duration) -> Problem {
        metrics::counter!("directory_rate_limited_total", "call" => self.call, "by" => by).increment(1);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Problem::new(ErrorCode::RateLimited, format!("too many attempts from this {by}")).retry_after(seconds)
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("call", &self.call).finish_non_exhaustive()
    }
}

struct Limiter<K: Hash + Eq + Clone> {
    keyed: DefaultKeyedRateLimiter<K>,
    checks: AtomicU32,
}

impl<K: Hash + Eq + Clone> Limiter<K> {
    fn new(burst: u32, one_more_every: Duration) -> Self {
        // The duration is a constant above zero, so the fallback is never taken.
        let quota = Quota::with_period(one_more_every).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        let quota = quota.allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
        Self { keyed: RateLimiter::keyed(quota), checks: AtomicU32::new(0) }
    }

    fn check(&self, key: &K) -> Result<(), Duration> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            self.keyed.retain_recent();
            if self.keyed.len() > REMEMBERED {
                return Err(Duration::from_secs(60));
            }
            self.keyed.shrink_to_fit();
        }
        self.keyed.check_key(key).map_err(|until| until.wait_time_from(self.keyed.clock().now()))
    }
}

/// One caller has a whole /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_and_an_address_have_limits_of_their_own() {
        let limits = Limits::new("test");
        let ana: Username = "ana".parse().unwrap();
        let address = Some(IpAddr::from([10, 0, 0, 1]));
        for _ in 0..10 {
            limits.check(address, &ana).unwrap();
        }
        let refused = limits.check(address, &ana).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (ErrorCode::RateLimited, Some(2)));
        for n in 0..89 {
            limits.check(address, &format!("user{n}").parse().unwrap()).unwrap();
        }
        assert!(limits.check(address, &"another".parse().unwrap()).is_err());
        assert!(limits.check(Some(IpAddr::from([10, 0, 0, 2])), &"another".parse().unwrap()).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let one: IpAddr = "2001:db8:1:2::1".parse().unwrap();
        let other: IpAddr = "2001:db8:1:2:ffff::9".parse().unwrap();
        assert_eq!(network(one), network(other));
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), IpAddr::from([10, 0, 0, 1]));
    }
}
