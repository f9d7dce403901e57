//! [`Greetings`]: connections of which nobody knows yet whose they are.
//!
//! Until its handshake is over a connection has an address and nothing else, and costs whoever opens it next to nothing.
//! So these have a bound of their own, apart from the connections of those who have proven who they are, and each address
//! has so many: who opens thousands and says nothing keeps out those of its own address, for five seconds. An IPv6
//! address counts by its first 64 bits, which is what one subscriber is given.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use parking_lot::Mutex;

use super::refuse;

/// Handshakes under way, of all addresses.
const MOST: usize = 512;
/// Of one. Many peers may be behind it.
const MOST_OF_ONE: usize = 128;

/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Greetings {
    under_way: Arc<Mutex<UnderWay>>,
}

#[derive(Debug, Default)]
struct UnderWay {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One handshake, until it is dropped.
#[derive(Debug)]
pub(super) struct Greeting {
    home: Greetings,
    address: IpAddr,
}

impl Greetings {
    /// None, and counted, where there are too many.
    pub(super) fn begin(&self, from: IpAddr) -> Option<Greeting> {
        let address = subscriber(from);
        let mut under_way = self.under_way.lock();
        if under_way.all >= MOST {
            refuse("too many handshakes");
            return None;
        }
        let of_one = under_way.by_address.entry(address).or_default();
        if *of_one >= MOST_OF_ONE {
            refuse("too many handshakes of one address");
            return None;
        }
        *of_one += 1;
        under_way.all += 1;
        Some(Greeting { home: self.clone(), address })
    }
}

impl Drop for Greeting {
    fn drop(&mut self) {
        let mut under_way = self.home.under_way.lock();
        under_way.all -= 1;
        if let Some(of_one) = under_way.by_address.get_mut(&self.address) {
            *of_one -= 1;
            if *of_one == 0 {
                under_way.by_address.remove(&self.address);
            }
        }
    }
}

fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_and_all_have_no_more_than_there_is() {
        let greetings = Greetings::default();
        let v4 = |last| IpAddr::from([10, 0, 0, last]);
        let mut held: Vec<Greeting> = (0..MOST_OF_ONE).map(|_| greetings.begin(v4(1)).unwrap()).collect();
        assert!(greetings.begin(v4(1)).is_none());
        assert!(greetings.begin(Ipv6Addr::from(0xffff_0a00_0001).into()).is_none(), "the same, mapped");
        let v6 = |last: u16| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, last));
        for last in 0..u16::try_from(MOST_OF_ONE).unwrap() {
            held.push(greetings.begin(v6(last)).unwrap());
        }
        assert!(greetings.begin(v6(9_999)).is_none(), "one subscriber");
        for last in 2..=3 {
            held.extend((0..MOST_OF_ONE).map(|_| greetings.begin(v4(last)).unwrap()));
        }
        assert_eq!(held.len(), MOST);
        assert!(greetings.begin(v4(9)).is_none(), "all of them are taken");
        drop(held);
        assert!(greetings.begin(v4(1)).is_some());
        assert!(greetings.under_way.lock().by_address.is_empty());
    }
}
