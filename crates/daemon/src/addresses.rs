//! Addresses of callers, as limits see them: whom to count as one, and whose word to take about where a request is from.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use ipnet::IpNet;

/// The address that a caller is counted under: one customer has a whole /64 of IPv6, so that is one caller; and an IPv4
/// address that came through a socket of IPv6 is what it is.
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Proxies whose word on the caller's address is taken. None by default: the header that says it can be made up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Arc<[IpNet]>);

impl Proxies {
    pub fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// Who asked, where `remote` is the far end of the connection and `forwarded` the values of `X-Forwarded-For`, in
    /// their order. Each proxy writes behind what it got whom it got it from, so the list is read from its end, for as
    /// long as it was written by proxies of ours; what stands before that, anybody may have made up.
    pub fn caller<'a>(&self, remote: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut caller = remote.to_canonical();
        let mut before = forwarded.rev().flat_map(|value| value.rsplit(','));
        while self.has(caller) {
            let Some(said) = before.next().and_then(address) else { break };
            caller = said;
        }
        caller
    }
}

/// `192.0.2.1`, `2001:db8::1`, and both with a port as some proxies write it.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let parsed = text.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|it| it.ip()));
    parsed.map(|address| address.to_canonical())
}

impl FromStr for Proxies {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let networks = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| {
            let one = part.parse::<IpAddr>().map(|address| IpNet::from(address.to_canonical()));
            one.or_else(|_| part.parse()).map_err(|_| {
                format!(
                    "{part:?} is neither an address nor a network such as 10.0.0.0/8; separate them by commas"
                )
            })
        });
        networks.collect::<Result<Vec<_>, _>>().map(|networks| Self(networks.into()))
    }
}

impl fmt::Display for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(IpNet::to_string).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_of_ipv6_is_one_caller() {
        assert_eq!(neighbourhood(ip("2001:db8:1:2::1")), neighbourhood(ip("2001:db8:1:2:ffff::9")));
        assert_ne!(neighbourhood(ip("2001:db8:1:2::1")), neighbourhood(ip("2001:db8:1:3::1")));
        assert_eq!(neighbourhood(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
    }

    #[test]
    fn only_proxies_of_ours_are_believed_and_only_about_whom_they_saw() {
        let proxies: Proxies = "10.0.0.0/8, 127.0.0.1,2001:db8::5".parse().unwrap();
        for (remote, forwarded, caller) in [
            ("192.0.2.1", &["198.51.100.1"][..], "192.0.2.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("::ffff:127.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            ("2001:db8::5", &["2001:db8:9::1"], "2001:db8:9::1"),
            // What the caller made up stands before what our proxy wrote.
            ("127.0.0.1", &["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", &["1.1.1.1,198.51.100.1, 10.9.9.9"], "198.51.100.1"),
            ("127.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("127.0.0.1", &["[2001:db8:9::1]:4711"], "2001:db8:9::1"),
            ("127.0.0.1", &["1.1.1.1, unknown"], "127.0.0.1"),
            ("127.0.0.1", &[""], "127.0.0.1"),
            ("10.1.1.1", &["10.2.2.2"], "10.2.2.2"),
        ] {
            let got = proxies.caller(ip(remote), forwarded.iter().copied());
            assert_eq!(got, ip(caller), "{remote} {forwarded:?}");
        }
        assert_eq!(Proxies::default().caller(ip("127.0.0.1"), ["1.1.1.1"].into_iter()), ip("127.0.0.1"));
    }

    #[test]
    fn proxies_are_written_as_addresses_and_networks() {
        assert_eq!("".parse(), Ok(Proxies::default()));
        let proxies: Proxies = "::ffff:10.0.0.1, fd00::/8".parse().unwrap();
        assert_eq!(proxies.to_string(), "10.0.0.1/32,fd00::/8");
        for bad in ["localhost", "10.0.0.0/33", "10.0.0.1:80", "*"] {
            assert!(bad.parse::<Proxies>().unwrap_err().contains(bad), "{bad}");
        }
    }
}
