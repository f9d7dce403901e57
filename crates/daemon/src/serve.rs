//! Serves a router on a listener that the caller brings, in clear or over TLS, until the soft stop.
//!
//! Bounded ([`Limits`]): the number of connections, the time a client may take to send a request's head, the time a
//! connection may lie idle, and the time that open answers may take once the stop began. How fast a body has to come is
//! the business of who reads it. A connection that is late is closed without a word: nobody is there who would read it.

mod pace;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

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
    sync::Semaphore,
};
use tower::ServiceExt;

use self::pace::{Answer, Heard, Late, Pace};
use crate::Lifecycle;

const MAX_HEADER_BYTES: usize = 32 << 10;

/// What a listener's clients may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// From a connection, or the first byte of a later request, to the end of that request's head. The TLS handshake
    /// has as much again.
    pub headers: Duration,
    /// Between the end of an answer and the next request.
    pub idle: Duration,
    /// More are closed as they come.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { headers: Duration::from_secs(10), idle: Duration::from_secs(75), connections: 20_000 }
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
    let places = Arc::new(Semaphore::new(limits.connections.min(open_files() / 2)));
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
        let Ok(place) = places.clone().try_acquire_owned() else {
            metrics::counter!("trueque_refusals_total", "reason" => "connections").increment(1);
            continue;
        };
        let _on_a_best_effort = stream.set_nodelay(true);
        let router = router.clone();
        let watcher = graceful.watcher();
        let acceptor = acceptor.clone();
        let limits = limits.clone();
        lifecycle.spawn("connection", async move {
            let _place = place;
            match acceptor {
                None => connection(stream, remote, router, &limits, watcher).await,
                Some(acceptor) => match tokio::time::timeout(limits.headers, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => connection(stream, remote, router, &limits, watcher).await,
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
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let pace = Pace::new(limits);
    let stream = TokioIo::new(Heard { stream, pace: pace.clone() });
    let requests = pace.clone();
    let service = tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        let open = requests.begin(request.version() == hyper::Version::HTTP_2);
        request.extensions_mut().insert(RemoteAddr(remote));
        let answering = router.clone().oneshot(request.map(axum::body::Body::new));
        async move { Ok::<_, std::convert::Infallible>(answering.await?.map(|body| Answer { body, _open: open })) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // The pace is kept outside, where what comes before the head is seen too.
    builder.http1().timer(TokioTimer::new()).header_read_timeout(None).max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .max_concurrent_streams(128)
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX));
    let serving = builder.serve_connection(stream, TowerToHyperService::new(service));
    tokio::select! {
        served = watcher.watch(serving.into_owned()) => if let Err(error) = served {
            tracing::debug!(error, "a connection ended badly");
        },
        why = pace.ended() => match why {
            Late::Headers => late("headers"),
            Late::Idle => tracing::trace!("an idle connection was closed"),
        },
    }
}

fn late(what: &'static str) {
    metrics::counter!("trueque_refusals_total", "reason" => what).increment(1);
    tracing::debug!(what, "a client took too long and was hung up on");
}

/// How many files and connections this process may have open. Asks the system for all that it grants: what a shell or
/// a service manager gives a program by itself is often a thousand.
fn open_files() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        return maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    }
    current.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX))
}
