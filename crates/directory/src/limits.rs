//! How much each caller may ask, by address and by account: of everything, and of logging in and registering, which are
//! dear and which guessers try.
//!
//! An address may be a whole classroom, so its allowance is wide; an account is one person, so its is narrow, and
//! guessing passwords from many addresses does not get around it. Calls weigh by their work ([`weight`]), so that an
//! allowance is one of work, not of requests.
//!
//! Memory is bounded: callers are counted in a fixed number of slots, chosen by a hash that nobody outside can foresee.
//! Two callers may share a slot, and then an allowance; who has not come for a while takes no memory.

use std::{
    fmt,
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use daemon::addresses::neighbourhood;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock};
use wire::{ErrorCode, Username, http::Problem};

/// Callers that are told apart.
const SLOTS: u32 = 1 << 18;
const FORGET_EVERY: u32 = 1 << 16;
/// Requests that are being read or answered: from one address, and in all. Each may hold a body in memory.
const OPEN_PER_ADDRESS: u32 = 256;
const OPEN: u32 = 8_192;

/// What a call costs, in lookups of one content; batches cost more by their size, see [`Rates::charge`].
pub fn weight(method: &str, route: &str) -> u32 {
    match (method, route) {
        // Whoever watches is not told that all is lost because somebody else asks too much.
        (_, "/healthz" | "/readyz") => 0,
        // So little is nearly always left: who searches too much keeps the lease.
        ("PUT", "/v1/sessions/current") => 10,
        // Reads an index, or is written to disk.
        (_, "/v1/search" | "/v1/peers/{peer_id}/files") | ("PUT" | "DELETE", _) => 100,
        (_, "/v1/files/{content_id}/reports" | "/v1/catalog" | "/v1/peers") => 100,
        (_, "/metrics" | "/openapi.json") => 200,
        _ => 1,
    }
}

/// The limits of one dear call.
pub struct Limits {
    call: &'static str,
    addresses: Limiter,
    accounts: Limiter,
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
            let checked = self.addresses.check(&neighbourhood(address), 1);
            checked.map_err(|wait| refused("too many attempts", self.call, "address", wait))?;
        }
        let checked = self.accounts.check(account, 1);
        checked.map_err(|wait| refused("too many attempts", self.call, "account", wait))
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("call", &self.call).finish_non_exhaustive()
    }
}

/// The limits of all calls together.
pub struct Rates {
    addresses: Option<Limiter>,
    accounts: Option<Limiter>,
    open: Arc<OpenRequests>,
}

impl Rates {
    /// What an address and an account may ask in a second, in lookups; as much again may come at once. 0 is no limit.
    pub fn new(of_address: u32, of_account: u32) -> Self {
        let limiter = |rate| NonZeroU32::new(rate).map(|rate| Limiter::within(Quota::per_second(rate)));
        Self { addresses: limiter(of_address), accounts: limiter(of_account), open: Arc::default() }
    }

    /// A request from this address begins; it is open for as long as the answer lives.
    ///
    /// # Errors
    /// `rate_limited`; `unavailable` where too many are open in all.
    pub fn begin(&self, address: Option<IpAddr>, weight: u32) -> Result<Option<OpenRequest>, Problem> {
        let Some(address) = address.map(neighbourhood) else { return Ok(None) };
        if let (Some(limiter), 1..) = (&self.addresses, weight) {
            let checked = limiter.check(&address, weight);
            checked.map_err(|wait| refused("too much is asked", "any", "address", wait))?;
        }
        OpenRequests::take(&self.open, &address).map(Some)
    }

    /// This account asks for so much.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn charge(&self, account: &Username, weight: u32) -> Result<(), Problem> {
        let (Some(limiter), 1..) = (&self.accounts, weight) else { return Ok(()) };
        let checked = limiter.check(account, weight);
        checked.map_err(|wait| refused("too much is asked", "any", "account", wait))
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates").finish_non_exhaustive()
    }
}

fn refused(what: &str, call: &'static str, by: &'static str, wait: Duration) -> Problem {
    metrics::counter!("directory_rate_limited_total", "call" => call, "by" => by).increment(1);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Problem::new(ErrorCode::RateLimited, format!("{what} from this {by}")).retry_after(seconds)
}

struct Limiter {
    slots: DefaultKeyedRateLimiter<u32>,
    hash: RandomState,
    burst: NonZeroU32,
    checks: AtomicU32,
}

impl Limiter {
    fn new(burst: u32, one_more_every: Duration) -> Self {
        // The duration is a constant above zero, so the fallback is never taken.
        let quota = Quota::with_period(one_more_every).unwrap_or(Quota::per_second(NonZeroU32::MIN));
        Self::within(quota.allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN)))
    }

    fn within(quota: Quota) -> Self {
        Self {
            slots: RateLimiter::keyed(quota),
            hash: RandomState::new(),
            burst: quota.burst_size(),
            checks: AtomicU32::new(0),
        }
    }

    /// The error is the time to wait.
    fn check(&self, caller: &impl Hash, weight: u32) -> Result<(), Duration> {
        if self.checks.fetch_add(1, Relaxed) % FORGET_EVERY == FORGET_EVERY - 1 {
            self.slots.retain_recent();
            self.slots.shrink_to_fit();
        }
        // What weighs more than can come at once takes all of it.
        let weight = NonZeroU32::new(weight).unwrap_or(NonZeroU32::MIN).min(self.burst);
        match self.slots.check_key_n(&slot(&self.hash, caller), weight) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(until.wait_time_from(self.slots.clock().now())),
            Err(_more_than_the_burst) => Err(Duration::from_secs(1)),
        }
    }
}

fn slot(hash: &RandomState, caller: &impl Hash) -> u32 {
    // The remainder fits.
    u32::try_from(hash.hash_one(caller) % u64::from(SLOTS)).unwrap_or_default()
}

/// How many requests are open, by address and in all.
#[derive(Debug)]
struct OpenRequests {
    all: AtomicU32,
    slots: Box<[AtomicU32]>,
    hash: RandomState,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct OpenRequest {
    open: Arc<OpenRequests>,
    slot: u32,
}

impl Default for OpenRequests {
    fn default() -> Self {
        let slots = (0..SLOTS).map(|_| AtomicU32::new(0)).collect();
        Self { all: AtomicU32::new(0), slots, hash: RandomState::new() }
    }
}

impl OpenRequests {
    fn take(self: &Arc<Self>, address: &IpAddr) -> Result<OpenRequest, Problem> {
        // Counted first, and given back with the place: so no two take the last one.
        let place = OpenRequest { slot: slot(&self.hash, address), open: self.clone() };
        let of_address = place.count().fetch_add(1, Relaxed);
        let of_all = self.all.fetch_add(1, Relaxed);
        if of_address >= OPEN_PER_ADDRESS {
            return Err(refused("too many requests are open", "open", "address", Duration::from_secs(1)));
        }
        if of_all >= OPEN {
            metrics::counter!("directory_refusals_total", "reason" => "requests").increment(1);
            return Err(Problem::new(ErrorCode::Unavailable, "too many requests are open"));
        }
        Ok(place)
    }
}

impl OpenRequest {
    fn count(&self) -> &AtomicU32 {
        &self.open.slots[self.slot as usize]
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.count().fetch_sub(1, Relaxed);
        self.open.all.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([10, 0, 0, last]))
    }

    #[test]
    fn an_account_and_an_address_have_limits_of_their_own() {
        let limits = Limits::new("test");
        let ana: Username = "ana".parse().unwrap();
        let address = ip(1);
        for _ in 0..10 {
            limits.check(address, &ana).unwrap();
        }
        let refused = limits.check(address, &ana).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (ErrorCode::RateLimited, Some(2)));
        for n in 0..89 {
            limits.check(address, &format!("user{n}").parse().unwrap()).unwrap();
        }
        assert!(limits.check(address, &"another".parse().unwrap()).is_err());
        assert!(limits.check(ip(2), &"another".parse().unwrap()).is_ok());
    }

    #[test]
    fn all_calls_have_limits_by_their_weight() {
        let rates = Rates::new(1_000, 550);
        let (ana, ben): (Username, Username) = ("ana".parse().unwrap(), "ben".parse().unwrap());
        let search = weight("GET", "/v1/search");
        for _ in 0..500 / search {
            rates.charge(&ana, search).unwrap();
        }
        let refused = rates.charge(&ana, search).unwrap_err();
        assert_eq!((refused.code, refused.retry_after), (ErrorCode::RateLimited, Some(1)));
        rates.charge(&ana, weight("PUT", "/v1/sessions/current")).expect("the lease is held all the same");
        rates.charge(&ben, 1).unwrap();
        rates.charge(&"cleo".parse().unwrap(), u32::MAX).unwrap();

        for _ in 0..1_000 / search {
            rates.begin(ip(1), search).unwrap();
        }
        assert_eq!(rates.begin(ip(1), search).unwrap_err().code, ErrorCode::RateLimited);
        rates.begin(ip(1), weight("GET", "/healthz")).unwrap();
        rates.begin(ip(2), search).unwrap();
        rates.begin(None, search).unwrap();
    }

    #[test]
    fn without_a_rate_there_is_no_limit() {
        let rates = Rates::new(0, 0);
        for _ in 0..10_000 {
            rates.begin(ip(1), 1_000_000).unwrap();
            rates.charge(&"ana".parse().unwrap(), 1_000_000).unwrap();
        }
    }

    #[test]
    fn open_requests_are_bounded_by_address_and_in_all() {
        let rates = Rates::new(0, 0);
        let mut open: Vec<_> = (0..OPEN_PER_ADDRESS).map(|_| rates.begin(ip(1), 1).unwrap()).collect();
        assert_eq!(rates.begin(ip(1), 1).unwrap_err().code, ErrorCode::RateLimited);
        rates.begin(ip(2), 1).unwrap();
        open.pop();
        rates.begin(ip(1), 1).unwrap();
        open.clear();
        let many: Vec<_> = (0..OPEN)
            .map(|n| {
                let [_, _, a, b] = (n % 100).to_be_bytes();
                rates.begin(Some(IpAddr::from([10, 1, a, b])), 1).unwrap()
            })
            .collect();
        assert_eq!(rates.begin(ip(3), 1).unwrap_err().code, ErrorCode::Unavailable);
        drop(many);
        rates.begin(ip(3), 1).unwrap();
    }

    #[test]
    fn memory_is_bounded_whoever_comes_and_who_has_gone_is_forgotten() {
        let limiter = Limiter::new(10, Duration::from_secs(60));
        for n in 0..2 * SLOTS {
            let _either = limiter.check(&n, 1);
        }
        assert!(limiter.slots.len() <= SLOTS as usize);
        let limiter = Limiter::new(1, Duration::from_nanos(1));
        for n in 0..10 * FORGET_EVERY {
            let _either = limiter.check(&n, 1);
        }
        assert!(limiter.slots.len() <= FORGET_EVERY as usize, "{}", limiter.slots.len());
    }
}
