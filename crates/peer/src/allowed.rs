//! [`AllowedEndpoints`]: where this peer may dial, whatever the directory lists.
//!
//! A peer proves who it is before anything is said to it, so a listed address of somebody else learns nothing but that a
//! connection came. Where even that is too much (a network with inner doors that should not be knocked at), the operator
//! names what may be dialled. A name is looked up once, and what is dialled are the addresses that were looked at.

use std::{io, net::SocketAddr, str::FromStr, sync::Arc};

use ipnet::IpNet;

/// One entry of `PEER_ALLOWED_ENDPOINTS`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Whatever has an address in it.
    Net(IpNet),
    /// This name, wherever it leads; lower case.
    Host(String),
}

/// Clones are the same. By default everything may be dialled.
#[derive(Debug, Clone, Default)]
pub struct AllowedEndpoints {
    /// None: no limit.
    only: Option<Arc<[Allowed]>>,
}

impl FromStr for Allowed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Ok(net) = text.parse::<IpNet>() {
            return Ok(Self::Net(net.trunc()));
        }
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            return Ok(Self::Net(address.into()));
        }
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if text.is_empty() || !text.chars().all(fits) {
            return Err("it is no address, no network such as 10.0.0.0/8, and no name of a host".to_owned());
        }
        Ok(Self::Host(text.to_ascii_lowercase()))
    }
}

impl AllowedEndpoints {
    /// Only these, where there are any.
    pub fn only(entries: Vec<Allowed>) -> Self {
        Self { only: (!entries.is_empty()).then(|| entries.into()) }
    }

    /// The addresses of an endpoint, `host:port`, that may be dialled.
    ///
    /// # Errors
    /// Where it has no address, or (`PermissionDenied`, and counted) none that is allowed.
    pub(crate) async fn addresses(&self, endpoint: &str) -> io::Result<Vec<SocketAddr>> {
        let found = tokio::net::lookup_host(endpoint).await?;
        let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
        let allowed: Vec<_> = found.filter(|address| self.allows(host, *address)).collect();
        if allowed.is_empty() {
            metrics::counter!("trueque_refusals_total", "reason" => "endpoint not allowed").increment(1);
            let why = "PEER_ALLOWED_ENDPOINTS does not let it be dialled";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        Ok(allowed)
    }

    fn allows(&self, host: &str, address: SocketAddr) -> bool {
        let Some(only) = &self.only else { return true };
        let ip = address.ip().to_canonical();
        only.iter().any(|allowed| match allowed {
            Allowed::Net(net) => net.contains(&ip),
            Allowed::Host(name) => host.eq_ignore_ascii_case(name),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(list: &str) -> AllowedEndpoints {
        AllowedEndpoints::only(list.split(',').map(|entry| entry.parse().unwrap()).collect())
    }

    #[test]
    fn only_what_is_listed_may_be_dialled() {
        let list = only("10.1.0.0/16,192.0.2.7,fd00::/8,Peer.Example");
        let allows = |host: &str, address: &str| list.allows(host, address.parse().unwrap());
        for (host, address, expected) in [
            ("10.1.2.3", "10.1.2.3:1", true),
            ("10.2.2.3", "10.2.2.3:1", false),
            ("[::ffff:10.1.2.3]", "[::ffff:10.1.2.3]:1", true),
            ("192.0.2.7", "192.0.2.7:1", true),
            ("192.0.2.8", "192.0.2.8:1", false),
            ("[fd12::1]", "[fd12::1]:1", true),
            ("peer.example", "203.0.113.1:1", true),
            ("other.example", "203.0.113.1:1", false),
            ("a.peer.example", "203.0.113.1:1", false),
            ("169.254.169.254", "169.254.169.254:80", false),
        ] {
            assert_eq!(allows(host, address), expected, "{host} at {address}");
        }
        assert!(AllowedEndpoints::only(Vec::new()).allows("x", "127.0.0.1:1".parse().unwrap()));
        for wrong in ["", "10.0.0.0/33", "http://x", "a:1", "*"] {
            assert!(wrong.parse::<Allowed>().is_err(), "{wrong}");
        }
    }
}
