//! [`GrpcLink`]: questions to a peer as gRPC calls, over one connection whose far end is proven to be that peer before
//! anything is sent. Whether we dialled or the peer did makes no difference.

use std::{
    future::Future,
    ops::Range,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use content::ContentId;
use daemon::Lifecycle;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use prost::Message;
use tonic::{Streaming, body::Body, codegen::Service};
use tracing::Span;
use wire::{CODE_METADATA, proto, trace};

use super::{GrpcChunks, LinkError, SILENCE_TIMEOUT, Target, h2};
use crate::{
    Failure,
    connection::{self, Connection},
    tls::{NetworkTls, Purpose},
};

const FETCH_PATH: &str = "/trueque.v1.Files/Fetch";

/// One connection to a peer. Clones use the same.
#[derive(Debug, Clone)]
pub struct GrpcLink {
    channel: Channel,
}

/// A connection as the generated client wants it.
#[derive(Debug, Clone)]
struct Channel {
    sender: http2::SendRequest<Body>,
}

/// Dials the target.
pub(super) async fn connect(
    target: &Target,
    tls: &NetworkTls,
    lifecycle: &Lifecycle,
) -> Result<GrpcLink, LinkError> {
    let dialled = connection::dial(target.peer_id, &target.endpoints, Purpose::Calls, tls).await;
    let unreachable = |error: anyhow::Error| LinkError::Unreachable(format!("{error:#}"));
    GrpcLink::over(dialled.map_err(unreachable)?, lifecycle).await.map_err(unreachable)
}

impl GrpcLink {
    /// Asks over a connection to a peer, whoever made it.
    pub(crate) async fn over(connection: Connection, lifecycle: &Lifecycle) -> anyhow::Result<Self> {
        let Connection { stream, ended, other, trust, .. } = connection;
        let tasks = h2::Tracked {
            lifecycle: lifecycle.clone(),
            ended: ended.clone(),
            trust: trust.clone(),
            other: other.clone(),
        };
        let (sender, serving) = http2::Builder::new(tasks)
            .timer(TokioTimer::new())
            .initial_stream_window_size(h2::STREAM_WINDOW)
            .initial_connection_window_size(h2::CONNECTION_WINDOW)
            .max_frame_size(h2::MAX_FRAME)
            .max_send_buf_size(h2::SEND_BUFFER)
            .max_header_list_size(h2::MAX_HEADERS)
            .keep_alive_interval(h2::PING_EVERY)
            .keep_alive_timeout(h2::PING_TIMEOUT)
            .handshake(TokioIo::new(stream))
            .await?;
        lifecycle.spawn("connection to a peer", async move {
            tokio::select! {
                served = serving => if let Err(error) = served {
                    tracing::debug!(%error, "a connection to a peer ended badly");
                },
                () = trust.over(&ended, &other) => {}
            }
        });
        Ok(Self { channel: Channel { sender } })
    }

    /// Whether the connection still takes questions.
    pub fn is_open(&self) -> bool {
        !self.channel.sender.is_closed()
    }

    /// Size, proof from `first_piece` on, and pieces.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn describe(&self, id: ContentId, first_piece: u32) -> Result<proto::Description, LinkError> {
        let request = proto::DescribeRequest { content_id: bytes_of(id), first_piece };
        let mut client = self.client();
        in_time(client.describe(request)).await
    }

    /// The bytes `range`, whole pieces, as they come. The caller watches for silence.
    ///
    /// # Errors
    /// See [`LinkError`]; later ones come from [`GrpcChunks::next`].
    pub async fn fetch(&self, id: ContentId, range: Range<u64>) -> Result<GrpcChunks, LinkError> {
        let question = proto::FetchRequest {
            content_id: bytes_of(id),
            offset: range.start,
            length: range.end - range.start,
        };
        let length = question.encoded_len();
        let mut frame = BytesMut::with_capacity(5 + length);
        frame.put_u8(0);
        frame.put_u32(u32::try_from(length).map_err(|error| LinkError::Answered(Failure::internal(error)))?);
        question.encode(&mut frame).map_err(|error| LinkError::Answered(Failure::internal(error)))?;

        let mut request = Request::new(Body::new(Full::new(frame.freeze()).map_err(|never| match never {})));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static(FETCH_PATH);
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));

        let mut channel = self.channel.clone();
        let response = tokio::time::timeout(SILENCE_TIMEOUT, channel.call(request))
            .await
            .map_err(|_| LinkError::Silent)?
            .map_err(|error| LinkError::Unreachable(error.to_string()))?;
        if response.status() != http::StatusCode::OK {
            return Err(LinkError::Answered(Failure::unavailable(format!(
                "the peer answered {}",
                response.status()
            ))));
        }
        // An answer of trailers only: the refusal is in the headers.
        match tonic::Status::from_header_map(response.headers()) {
            Some(status) if status.code() != tonic::Code::Ok => Err(LinkError::Answered(status.into())),
            _ => Ok(GrpcChunks::new(response.into_body())),
        }
    }

    /// Up to 1,000 small files in one stream.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn fetch_many(&self, ids: &[ContentId]) -> Result<Streaming<proto::FileChunk>, LinkError> {
        let request = proto::FetchManyRequest { content_ids: ids.iter().copied().map(bytes_of).collect() };
        let mut client = self.client();
        in_time(client.fetch_many(request)).await
    }

    /// Follows what the peer has of a content, and who else fetches it.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn watch(&self, id: ContentId) -> Result<Streaming<proto::PieceSet>, LinkError> {
        let mut client = self.client();
        in_time(client.watch(proto::WatchRequest { content_id: bytes_of(id) })).await
    }

    /// What the peer lets us see of its files.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn list(&self) -> Result<Streaming<proto::File>, LinkError> {
        let mut client = self.client();
        in_time(client.list(proto::ListRequest {})).await
    }

    /// Tells the peer's user of a file to fetch from us.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn offer(&self, offer: proto::OfferRequest) -> Result<proto::OfferReply, LinkError> {
        let mut client = self.client();
        in_time(client.offer(offer)).await
    }

    fn client(&self) -> proto::files_client::FilesClient<Channel> {
        proto::files_client::FilesClient::new(self.channel.clone())
            .max_decoding_message_size(proto::MAX_MESSAGE)
    }
}

/// Tells an answer that says no from a connection that said nothing.
pub(crate) fn link_error(status: tonic::Status) -> LinkError {
    let answered =
        status.metadata().contains_key(CODE_METADATA) || std::error::Error::source(&status).is_none();
    if answered {
        LinkError::Answered(status.into())
    } else {
        LinkError::Unreachable(status.message().to_owned())
    }
}

async fn in_time<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>> + Send,
) -> Result<T, LinkError> {
    match tokio::time::timeout(SILENCE_TIMEOUT, call).await {
        Err(_) => Err(LinkError::Silent),
        Ok(Err(status)) => Err(link_error(status)),
        Ok(Ok(response)) => Ok(response.into_inner()),
    }
}

fn bytes_of(id: ContentId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // HTTP/2 wants a scheme and a host; the certificate says who it is.
        let path = request.uri().path_and_query().cloned();
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(http::uri::Scheme::HTTPS);
        parts.authority = Some(http::uri::Authority::from_static("peer.trueque"));
        parts.path_and_query = path;
        if let Ok(uri) = http::Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        trace::tell(request.headers_mut(), &Span::current());
        Box::pin(self.sender.send_request(request))
    }
}
