//! Serves a router on a listener that the caller brings, in clear or over TLS, until the soft stop.
//!
//! Bounded ([`Limits`]): the number of connections, in all and from one address, the time a client may take to send a
//! request's head, to read what it asked for, and to lie idle, and the time that open answers may take once the stop
//! began. How fast a body has to come is the business of who reads it. A connection that is late is closed without a
//! word: nobody is there who would read it.

mod pace;
mod places;
mod unread;

use std::{error::Error, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::Router;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tower::ServiceExt;

use self::{
    pace::{Answer, Heard, Late, Pace},
    places::Places,
    unread::Unread,
};
use crate::{Lifecycle, addresses::Proxies};

const MAX_HEADER_BYTES: usize = 32 << 10;
const MAX_HEADERS: usize = 100;
/// Requests that one connection has at once.
const MAX_STREAMS: u32 = 128;
/// Requests that a client took back before we could look at them, and those that we refused: more at once than these, and
/// it is not asking but flooding.
const MAX_RESETS: usize = 20;
const MAX_REFUSED: usize = 128;
/// What a connection may send before its bodies are read: of one request, and of all.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 512 << 10;

/// What a listener's clients may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From a connection, or the first byte of a later request, to the end of that request's head. The TLS handshake
    /// has as much again.
    pub headers: Duration,
    /// Between the end of an answer and the next request.
    pub idle: Duration,
    /// How long a client may read nothing of what is being sent to it.
    pub stalled: Duration,
    /// From the end of a request's head to the end of its answer; None where answers may be long.
    pub answer: Option<Duration>,
    /// More are closed as they come.
    pub connections: usize,
    /// More from one address are closed as they come.
    pub per_address: usize,
    /// Addresses that speak for many callers: [`Self::per_address`] is not for them.
    pub proxies: Proxies,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            headers: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            stalled: Duration::from_secs(60),
            answer: None,
            connections: 20_000,
            per_address: 1_000,
            proxies: Proxies::default(),
        }
    }
}

/// The far end of the connection, for rate limits; an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteAddr(pub SocketAddr);

/// Serves until the soft stop, then lets open answers end.
///
/// # Errors
/// None today: a broken connection ends alone. The shape leaves room for a listener that dies.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<rustls::ServerConfig>>,
    lifecycle: &Lifecycle,
) -> io::Result<()> {
    serve_within(listener, router, tls, Limits::default(), lifecycle).await
}

/// The same, with other limits than usual.
///
/// # Errors
/// As [`serve`].
pub async fn serve_within(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<rustls::ServerConfig>>,
    limits: Limits,
    lifecycle: &Lifecycle,
) -> io::Result<()> {
    let acceptor = tls.map(tokio_rustls::TlsAcceptor::from);
    let graceful = GracefulShutdown::new();
    let places =
        Places::new(limits.connections.min(open_files() / 4 * 3), limits.per_address, limits.proxies.clone());
    let soft = lifecycle.soft();
    loop {
        let (stream, remote) = tokio::select! {
            () = soft.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or the caller was gone already: neither ends the server.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let place = match places.take(remote.ip()) {
            Ok(place) => place,
            Err(reason) => {
                metrics::counter!("trueque_refusals_total", "reason" => reason).increment(1);
                continue;
            }
        };
        let _on_a_best_effort = stream.set_nodelay(true);
        let router = router.clone();
        let watcher = graceful.watcher();
        let acceptor = acceptor.clone();
        let (limits, life) = (limits.clone(), lifecycle.clone());
        lifecycle.spawn("connection", async move {
            let _place = place;
            match acceptor {
                None => connection(stream, remote, router, &limits, watcher, &life).await,
                Some(acceptor) => match tokio::time::timeout(limits.headers, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, remote, router, &limits, watcher, &life).await,
                    Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_) => late("handshake"),
                },
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

async fn connection<S>(
    stream: S,
    remote: SocketAddr,
    router: Router,
    limits: &Limits,
    watcher: hyper_util::server::graceful::Watcher,
    lifecycle: &Lifecycle,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let pace = Pace::new(limits);
    let stream = TokioIo::new(Heard::new(stream, pace.clone()));
    let (requests, life) = (pace.clone(), lifecycle.clone());
    let service = tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let open = requests.begin(request.version() == hyper::Version::HTTP_2);
        request.extensions_mut().insert(RemoteAddr(remote));
        let answering = router.clone().oneshot(Unread::of(request, &life));
        async move { Ok::<_, std::convert::Infallible>(answering.await?.map(|body| Answer { body, _open: open })) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // The pace is kept outside, where what comes before the head is seen too.
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(MAX_HEADER_BYTES)
        .max_headers(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_RESETS)
        .max_local_error_reset_streams(MAX_REFUSED)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX));
    let serving = builder.serve_connection(stream, TowerToHyperService::new(service));
    tokio::select! {
        served = watcher.watch(serving.into_owned()) => if let Err(error) = served {
            if let Some(reason) = refused(&*error) {
                metrics::counter!("trueque_refusals_total", "reason" => reason).increment(1);
            }
            tracing::debug!(error, "a connection ended badly");
        },
        why = pace.ended() => match why {
            Late::Headers => late("headers"),
            Late::Stalled => late("stalled"),
            Late::Answer => late("slow answer"),
            Late::Idle => tracing::trace!("an idle connection was closed"),
        },
    }
}

/// Which limit of HTTP itself the client ran into, where it did.
fn refused(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.find_map(|cause| {
        if let Some(http) = cause.downcast_ref::<hyper::Error>() {
            return http.is_parse_too_large().then_some("large headers");
        }
        let h2 = cause.downcast_ref::<h2::Error>()?;
        (h2.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM)).then_some("http2 flood")
    })
}

fn late(what: &'static str) {
    metrics::counter!("trueque_refusals_total", "reason" => what).increment(1);
    tracing::debug!(what, "a client took too long and was hung up on");
}

/// How many files and connections this process may have open. Asks the system for all that it grants: what a shell or
/// a service manager gives a program by itself is often a thousand.
pub fn open_files() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    }
    current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}
