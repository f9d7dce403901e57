//! The door for other peers: gRPC over mutual TLS 1.3, over connections that the listener took and over those that this
//! peer made because it was asked to ([`reverse`]).
//!
//! Each connection gets its certificate check before a byte of HTTP is read, within a time limit, and carries who is
//! calling into every request. A renewed certificate is used from the next connection on; without one (logged out)
//! callers are hung up on.
//!
//! The listener also takes what others dial because *we* asked them to: such a connection says so in its handshake, and
//! which question it answers in its first bytes. It becomes a way out, in `link`, and nothing is served on it.
//!
//! [`fetch`] answers the one call that carries gigabytes; [`grpc`] all others, by generated code. [`relay`] is the door
//! for those who can neither dial nor be dialled, and answers the same.

mod deadline;
pub(crate) mod fetch;
mod greetings;
mod grpc;
mod linger;
mod listing;
mod relay;
mod reverse;
pub(crate) mod small;
#[cfg(test)]
mod tests;
mod traced;

use std::time::{Duration, Instant};

use daemon::Lifecycle;
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use greetings::{Greeting, Greetings};
use linger::Linger;
pub(crate) use relay::may_go;
pub use relay::{OnDialMe, RelayDoor};
pub use reverse::DialBacks;
pub(crate) use traced::consumed;

use wire::rest::pclient::FetchPath;

use crate::{
    connection::{self, Connection},
    link::{GrpcLink, Reversals, Rung, h2, reverse::Token},
    service::{Full, Portions, Service},
    tls::{Caller, NetworkTls, Purpose},
    trust::Trust,
};

/// A caller that has not proven who it is, and what for it came, by then is hung up on.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections of all callers together, whoever dialled, and of one user: a peer opens two.
const MAX_CONNECTIONS: (usize, usize) = (1_024, 32);

/// Serves other peers. Clones are the same.
#[derive(Debug, Clone)]
pub struct Pserver {
    router: axum::Router,
    tls: NetworkTls,
    reversals: Reversals,
    connections: Portions,
    greetings: Greetings,
    lifecycle: Lifecycle,
}

impl Pserver {
    /// # Errors
    /// Where the reflection service cannot be built.
    pub fn new(
        service: Service,
        tls: NetworkTls,
        reversals: Reversals,
        lifecycle: &Lifecycle,
    ) -> anyhow::Result<Self> {
        let router = grpc::router(service, lifecycle.soft())?;
        let connections = Portions::new(MAX_CONNECTIONS.0, MAX_CONNECTIONS.1);
        let greetings = Greetings::default();
        Ok(Self { router, tls, reversals, connections, greetings, lifecycle: lifecycle.clone() })
    }

    /// Takes connections until the soft stop.
    ///
    /// # Errors
    /// None today; a connection that cannot be taken is passed over.
    pub async fn listen(self, listener: TcpListener) -> anyhow::Result<()> {
        let soft = self.lifecycle.soft();
        loop {
            let accepted = tokio::select! {
                () = soft.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, from)) => {
                    // Who is not let in hears so at once, and may find another way.
                    let Some(greeting) = self.greetings.begin(from.ip()) else { continue };
                    let server = self.clone();
                    self.lifecycle.spawn("connection from a peer", async move {
                        ended(server.take(stream, greeting).await);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// One connection that the listener took: a caller, or one whom we asked to dial us.
    async fn take(&self, stream: TcpStream, place: Greeting) -> anyhow::Result<()> {
        let greeting = async {
            let mut connection =
                connection::accept(stream, &self.tls).await.inspect_err(|_| refuse("tls"))?;
            let token = match connection.purpose {
                Purpose::Calls => None,
                Purpose::Reversal => Some(Token::read(&mut connection.stream).await?),
            };
            anyhow::Ok((connection, token))
        };
        let greeted = tokio::time::timeout(HANDSHAKE_TIMEOUT, greeting).await;
        let (connection, token) = greeted.inspect_err(|_| refuse("slow handshake"))??;
        drop(place);
        match token {
            None => self.serve(connection).await,
            Some(token) => self.hand_over(connection, &token).await,
        }
    }

    /// Answers questions on a connection until it ends.
    async fn serve(&self, connection: Connection) -> anyhow::Result<()> {
        let _portion = self.connections.take(&connection.other.username).map_err(|full| {
            let why = match full {
                Full::All => "connections",
                Full::Own => "too many connections of one user",
            };
            refuse(why);
            anyhow::anyhow!(why)
        })?;
        let Connection { stream, other: mut caller, ended, purpose, trust } = connection;
        let rung = match purpose {
            Purpose::Calls => Rung::Direct,
            Purpose::Reversal => {
                caller.path = FetchPath::Reversed;
                Rung::Reversed
            }
        };
        let other = caller.clone();
        let router =
            self.router.clone().map_request(move |mut request: http::Request<hyper::body::Incoming>| {
                request.extensions_mut().insert(caller.clone());
                request.extensions_mut().insert(rung);
                request.map(axum::body::Body::new)
            });
        let tasks = h2::Tracked {
            lifecycle: self.lifecycle.clone(),
            ended: ended.clone(),
            trust: trust.clone(),
            other: other.clone(),
        };
        let serving = http2::Builder::new(tasks)
            .timer(TokioTimer::new())
            .initial_stream_window_size(h2::QUESTION_WINDOW)
            .initial_connection_window_size(h2::QUESTIONS_WINDOW)
            .max_send_buf_size(h2::SEND_BUFFER)
            .max_concurrent_streams(h2::MAX_STREAMS)
            .max_header_list_size(h2::MAX_HEADERS)
            .max_pending_accept_reset_streams(h2::MAX_RESETS)
            .max_local_error_reset_streams(h2::MAX_OWN_RESETS)
            .keep_alive_interval(h2::PING_CALLER_EVERY)
            .keep_alive_timeout(h2::PING_CALLER_TIMEOUT)
            .serve_connection(TokioIo::new(Linger::new(stream)), TowerToHyperService::new(router));
        let mut serving = std::pin::pin!(serving);
        let soft = self.lifecycle.soft();
        tokio::select! {
            ended = serving.as_mut() => return Ok(ended?),
            // Logged out, we or they: at once, whatever is under way.
            () = trust.over(&ended, &other) => {
                hung_up(&other, &trust);
                return Ok(());
            }
            () = soft.cancelled() => serving.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            ended = serving => Ok(ended?),
            () = trust.over(&ended, &other) => {
                hung_up(&other, &trust);
                Ok(())
            }
        }
    }

    /// Gives a connection that we had asked for to whoever waits for it.
    async fn hand_over(&self, connection: Connection, token: &Token) -> anyhow::Result<()> {
        let Some(asker) = self.reversals.claim(connection.other.peer_id, token, Instant::now()) else {
            refuse("reversal not asked for");
            anyhow::bail!("nobody asked {} for a connection with this token", connection.other.peer_id);
        };
        let link = GrpcLink::over(connection, &self.lifecycle).await?;
        if !asker.take(link) {
            tracing::debug!("a connection came when nobody waited for it any more");
        }
        Ok(())
    }
}

fn ended(how: anyhow::Result<()>) {
    if let Err(error) = how {
        tracing::debug!(error = %format!("{error:#}"), "a connection from a peer ended badly");
    }
}

fn hung_up(other: &Caller, trust: &Trust) {
    if trust.refuses(other.peer_id, &other.username) {
        metrics::counter!("trueque_connections_cut_total").increment(1);
        tracing::info!(peer.id = %other.peer_id, "hung up on a peer whose session was ended");
    }
}

/// Counts the bytes of files that go out by one way.
pub(crate) fn sent(rung: Rung) -> metrics::Counter {
    metrics::counter!("trueque_sent_bytes_total", "path" => rung.as_str())
}

fn refuse(reason: &'static str) {
    metrics::counter!("trueque_refusals_total", "reason" => reason).increment(1);
}
