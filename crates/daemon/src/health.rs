//! [`ask`]: one process asks another of the same program, on this machine, whether it is ready. For health checks in
//! places that have no curl, such as a container with nothing else in it.
//!
//! Over HTTPS the certificate is checked as other callers check it: its name, its time, its authority. So one that ran out
//! is not healthy.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, bail};

/// For all of it: a program that needs longer is not well.
const LIMIT: Duration = Duration::from_secs(5);

/// What a server shows over HTTPS.
#[derive(Debug)]
pub struct Secured {
    /// A name that its certificate is for.
    pub name: String,
    /// In DER: the certificate, and those that lead from it to its authority. They are believed beside the authorities
    /// that this system knows.
    pub chain: Vec<Vec<u8>>,
}

/// Asks `/readyz` of what listens at `listen`, over HTTPS where it is secured.
///
/// # Errors
/// Nobody answers in time, or shows a certificate that is not believed, or the answer is another one than 200; the message
/// says which.
pub async fn ask(secured: Option<Secured>, listen: SocketAddr) -> anyhow::Result<()> {
    let dialled = dialled(listen);
    let _already_made = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut client =
        reqwest::Client::builder().timeout(LIMIT).redirect(reqwest::redirect::Policy::none()).no_proxy();
    let url = match secured {
        None => format!("http://{dialled}/readyz"),
        Some(Secured { name, chain }) => {
            let chain = chain.iter().map(|der| reqwest::Certificate::from_der(der));
            client = client.tls_certs_merge(chain.collect::<Result<Vec<_>, _>>()?).resolve(&name, dialled);
            format!("https://{name}:{}/readyz", dialled.port())
        }
    };
    let client = client.build()?;
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
