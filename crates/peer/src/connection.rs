//! [`Connection`]: one mutual-TLS connection to another peer, and who that is, proven by a certificate of the network.
//!
//! [`dial`] makes one, [`accept`] takes one; neither waits by itself, the caller sets the time. Who asks on it and who
//! answers is no matter of who dialled: see [`Purpose`]. With whom it is not to be had, see [`Trust`], there is none.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow, ensure};
use futures::{StreamExt, stream::FuturesUnordered};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use tokio_util::sync::CancellationToken;
use wire::PeerId;

use crate::{
    allowed::AllowedEndpoints,
    tls::{self, Caller, NetworkTls, Purpose},
    trust::Trust,
};

/// An endpoint that is silent for so long is tried on beside the next one: an address that swallows everything must
/// not take the time that the good ones need.
const NEXT_AFTER: Duration = Duration::from_millis(300);
/// The directory lists no more of one peer.
pub(crate) const MAX_ENDPOINTS: usize = 16;

/// Ready for bytes in both directions.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) other: Caller,
    pub(crate) purpose: Purpose,
    /// Fires when we are no more who we said we were: then nothing more may go over it.
    pub(crate) ended: CancellationToken,
    /// Says when the other is not to be dealt with any more.
    pub(crate) trust: Trust,
}

/// Takes the connection that somebody made to us.
pub(crate) async fn accept(stream: TcpStream, tls: &NetworkTls) -> anyhow::Result<Connection> {
    let credentials = tls.present().context("logged out: there is no certificate to show")?;
    stream.set_nodelay(true)?;
    let stream = TlsAcceptor::from(credentials.server()).accept(stream).await?;
    let purpose = match stream.get_ref().1.alpn_protocol() {
        Some(alpn) if alpn == Purpose::Reversal.alpn() => Purpose::Reversal,
        // The library has refused everything else. Who offers nothing calls, as they always did.
        _ => Purpose::Calls,
    };
    Connection::new(stream.into(), purpose, credentials.ended(), tls.trust())
}

/// Connects to a peer at the first of its endpoints at which it is found.
pub(crate) async fn dial(
    peer: PeerId,
    endpoints: &[String],
    purpose: Purpose,
    tls: &NetworkTls,
) -> anyhow::Result<Connection> {
    let credentials = tls.present().context("this peer is logged out")?;
    let config = credentials.client(purpose);
    let mut untried = endpoints.iter().take(MAX_ENDPOINTS).peekable();
    let mut attempts = FuturesUnordered::new();
    let mut last = anyhow!("it takes no calls");
    loop {
        if let Some(endpoint) = untried.next() {
            let (config, allowed) = (config.clone(), tls.allowed());
            attempts.push(async move {
                let connected = connect(peer, endpoint, purpose, config, allowed).await;
                connected.with_context(|| endpoint.clone())
            });
        }
        let ended = tokio::select! {
            ended = attempts.next() => ended,
            () = tokio::time::sleep(NEXT_AFTER), if untried.peek().is_some() => continue,
        };
        match ended {
            None => return Err(last),
            Some(Err(error)) => last = error,
            Some(Ok(stream)) => {
                return Connection::new(stream, purpose, credentials.ended(), tls.trust());
            }
        }
    }
}

/// Whoever is there has proven to be the peer, or there is no connection: that is the check of the server's name.
async fn connect(
    peer: PeerId,
    endpoint: &str,
    purpose: Purpose,
    config: Arc<ClientConfig>,
    allowed: &AllowedEndpoints,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(&*allowed.addresses(endpoint).await?).await?;
    stream.set_nodelay(true)?;
    let stream = TlsConnector::from(config).connect(tls::server_name(peer)?, stream).await?;
    let agreed = stream.get_ref().1.alpn_protocol() == Some(purpose.alpn());
    ensure!(agreed, "it does not know what the connection is for");
    Ok(stream.into())
}

impl Connection {
    fn new(
        stream: TlsStream<TcpStream>,
        purpose: Purpose,
        ended: CancellationToken,
        trust: &Trust,
    ) -> anyhow::Result<Self> {
        let other = tls::other_end(stream.get_ref().1).context("the certificate names no peer")?;
        trust.admit(&other)?;
        Ok(Self { stream, other, purpose, ended, trust: trust.clone() })
    }
}
