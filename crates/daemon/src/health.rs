//! [`ask`]: one process asks another of the same program, on this machine, whether it is ready. For health checks in
//! places that have no curl, such as a container with nothing else in it.
//!
//! It believes whatever certificate it sees: that names a host, and this asks an address of this machine. It sends
//! nothing but the question.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail};

/// For all of it: a program that needs longer is not well.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks `/readyz` of what listens at `listen`, by `scheme`.
///
/// # Errors
/// Nobody answers in time, or the answer is another one than 200; the message says which.
pub async fn ask(scheme: &str, listen: SocketAddr) -> anyhow::Result<()> {
    let url = format!("{scheme}://{}/readyz", dialled(listen));
    let _already_made = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = reqwest::Client::builder()
        .timeout(LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tls_danger_accept_invalid_certs(true)
        .tls_certs_only([])
        .build()?;
    let answer = client.get(&url).send().await.with_context(|| format!("{url} does not answer"))?;
    match answer.status() {
        status if status == reqwest::StatusCode::OK => Ok(()),
        status => bail!("{url} answers {status}"),
    }
}

/// The address to dial for one that is listened on.
fn dialled(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    listen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_dialled_here() {
        for (listen, dial) in [
            ("0.0.0.0:3000", "127.0.0.1:3000"),
            ("[::]:3000", "[::1]:3000"),
            ("192.0.2.7:443", "192.0.2.7:443"),
        ] {
            assert_eq!(dialled(listen.parse().unwrap()), dial.parse().unwrap());
        }
    }
}
