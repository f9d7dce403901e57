//! [`Places`]: how many connections there may be, in all and from one address, so that no single address takes all
//! that there are. Memory is bounded by the connections that are open.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

use crate::addresses::{Proxies, neighbourhood};

/// The places of one listener. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Places {
    all: usize,
    per_address: usize,
    proxies: Proxies,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// One place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    address: IpAddr,
    taken: Arc<Mutex<Taken>>,
}

impl Places {
    pub(super) fn new(all: usize, per_address: usize, proxies: Proxies) -> Self {
        Self { all, per_address, proxies, taken: Arc::default() }
    }

    /// A place for a connection from there, or which limit is in the way. A proxy of ours speaks for many, so it may
    /// take all places.
    pub(super) fn take(&self, remote: IpAddr) -> Result<Place, &'static str> {
        let address = neighbourhood(remote);
        let mut taken = self.taken.lock();
        if taken.all >= self.all {
            return Err("connections");
        }
        let of_this = taken.by.get(&address).copied().unwrap_or(0);
        if of_this >= self.per_address && !self.proxies.has(remote) {
            return Err("connections of one address");
        }
        taken.all += 1;
        taken.by.insert(address, of_this + 1);
        drop(taken);
        Ok(Place { address, taken: self.taken.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        taken.all -= 1;
        match taken.by.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.by.remove(&self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_takes_its_share_and_a_proxy_takes_all() {
        let places = Places::new(4, 2, "10.0.0.9".parse().unwrap());
        let ip = |last: u8| IpAddr::from([10, 0, 0, last]);
        let first = places.take(ip(1)).unwrap();
        let _second = places.take(ip(1)).unwrap();
        assert_eq!(places.take(ip(1)).unwrap_err(), "connections of one address");
        drop(first);
        let _again = places.take(ip(1)).unwrap();
        let of_proxy: Vec<Place> = (0..2).map(|_| places.take(ip(9)).unwrap()).collect();
        assert_eq!(places.take(ip(2)).unwrap_err(), "connections");
        drop(of_proxy);
        let _of_proxy: Vec<Place> = (0..2).map(|_| places.take(ip(9)).unwrap()).collect();
        assert_eq!(places.take(ip(9)).unwrap_err(), "connections");
    }

    #[test]
    fn who_has_gone_takes_no_memory() {
        let places = Places::new(4, 2, Proxies::default());
        drop((
            places.take(IpAddr::from([10, 0, 0, 1])).unwrap(),
            places.take(IpAddr::from([10, 0, 0, 1])).unwrap(),
        ));
        let taken = places.taken.lock();
        assert_eq!((taken.all, taken.by.len()), (0, 0));
    }
}
