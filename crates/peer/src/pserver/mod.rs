//! The door for other peers: gRPC over mutual TLS 1.3, over connections that the listener took.
//!
//! Each connection gets its certificate check before a byte of HTTP is read, within a time limit, and carries who is
//! calling into every request. A renewed certificate is used from the next connection on; without one (logged out)
//! callers are hung up on.
//!
//! [`fetch`] answers the one call that carries gigabytes; [`grpc`] all others, by generated code.

mod deadline;
mod fetch;
mod grpc;

use std::{sync::Arc, time::Duration};

use daemon::Lifecycle;
use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;

use crate::{
    link::h2,
    service::Service,
    tls::{self, NetworkTls},
};

/// A caller that has not proven who it is by then is hung up on.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_CONNECTIONS: usize = 1_024;

/// Serves other peers until the soft stop.
///
/// # Errors
/// Where the reflection service cannot be built.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    tls: NetworkTls,
    lifecycle: Lifecycle,
) -> anyhow::Result<()> {
    let router = grpc::router(service, lifecycle.soft())?;
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let soft = lifecycle.soft();
    loop {
        let place = places.clone().acquire_owned().await?;
        let accepted = tokio::select! {
            () = soft.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, tls, inner) = (router.clone(), tls.clone(), lifecycle.clone());
                lifecycle.spawn("connection from a peer", async move {
                    let _place = place;
                    if let Err(error) = connection(stream, router, &tls, &inner).await {
                        tracing::debug!(error = %format!("{error:#}"), "a connection from a peer ended badly");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    router: axum::Router,
    tls: &NetworkTls,
    lifecycle: &Lifecycle,
) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let config =
        tls.server().ok_or_else(|| anyhow::anyhow!("logged out: there is no certificate to show"))?;
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream));
    let stream = handshake.await?.inspect_err(|_| refuse("tls"))?;
    let caller =
        tls::caller(stream.get_ref().1).ok_or_else(|| anyhow::anyhow!("the certificate names no peer"))?;
    let router = router.map_request(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(caller.clone());
        request.map(axum::body::Body::new)
    });
    let serving = http2::Builder::new(h2::Tracked(lifecycle.clone()))
        .timer(TokioTimer::new())
        .initial_stream_window_size(h2::STREAM_WINDOW)
        .initial_connection_window_size(h2::CONNECTION_WINDOW)
        .max_frame_size(h2::MAX_FRAME)
        .max_send_buf_size(h2::SEND_BUFFER)
        .max_concurrent_streams(h2::MAX_STREAMS)
        .max_header_list_size(h2::MAX_HEADERS)
        .keep_alive_interval(h2::PING_CALLER_EVERY)
        .keep_alive_timeout(h2::PING_CALLER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = std::pin::pin!(serving);
    let soft = lifecycle.soft();
    tokio::select! {
        ended = serving.as_mut() => return Ok(ended?),
        () = soft.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    Ok(serving.await?)
}

fn refuse(reason: &'static str) {
    metrics::counter!("trueque_refusals_total", "reason" => reason).increment(1);
}
