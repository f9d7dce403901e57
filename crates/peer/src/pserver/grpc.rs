//! gRPC's side of every call: reads the question, asks the service, words the answer.

use std::{pin::Pin, sync::Arc};

use axum::{Router, middleware, routing::post};
use content::ContentId;
use futures::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes};
use wire::{
    ErrorCode,
    proto::{self, files_server::FilesServer},
};

use super::{deadline, deadline::Held, fetch, listing::Listing, sent, small::SmallFiles, traced};
use crate::{Failure, link::Rung, service::Service, tls::Caller};

/// The largest question: 1,000 content ids.
const MAX_QUESTION: usize = 64 << 10;

/// Every gRPC service of a peer, as one router.
pub(super) fn router(service: Service, soft: CancellationToken) -> anyhow::Result<Router> {
    let files =
        FilesServer::new(Door { service: service.clone(), soft }).max_decoding_message_size(MAX_QUESTION);
    let (_reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let routes = Routes::default().add_service(health).add_service(reflection).add_service(files);
    let fast = Router::new().route("/trueque.v1.Files/Fetch", post(fetch::fetch)).with_state(service);
    Ok(routes
        .into_axum_router()
        .merge(fast)
        .layer(middleware::from_fn(deadline::layer))
        .layer(middleware::from_fn(traced::layer)))
}

struct Door {
    service: Service,
    /// Ends the answers that have no end of their own.
    soft: CancellationToken,
}

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl proto::files_server::Files for Door {
    type ListStream = Answer<proto::File>;
    type FetchStream = Answer<proto::Chunk>;
    type FetchManyStream = Answer<proto::FileChunk>;
    type WatchStream = Answer<proto::PieceSet>;

    async fn list(&self, request: Request<proto::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let caller = caller(&request)?;
        let place = self.service.list_place(&caller)?;
        let files = futures::stream::iter(Listing::new(&self.service, caller, place)).map(Ok);
        Ok(Response::new(Box::pin(files)))
    }

    async fn describe(
        &self,
        request: Request<proto::DescribeRequest>,
    ) -> Result<Response<proto::Description>, Status> {
        let caller = caller(&request)?;
        let question = request.into_inner();
        let id = content_id(&question.content_id)?;
        let description = self.service.describe(&caller, id, question.first_piece)?;
        let place = self.service.description_place(&caller, &description)?;
        let mut response = Response::new(description);
        response.extensions_mut().insert(Held::new(place));
        Ok(response)
    }

    /// The router answers this path by [`fetch`] before it comes here; this is the same answer by the generated code.
    async fn fetch(
        &self,
        request: Request<proto::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let (caller, sent) = (caller(&request)?, sent(rung(&request)));
        let question = request.into_inner();
        let id = content_id(&question.content_id)?;
        let reading = self.service.fetch(&caller, id, question.offset, question.length)?.counted(sent);
        let chunks = futures::stream::unfold(reading, |mut reading| async move {
            let block = reading.next().await?;
            Some((block.map(|data| proto::Chunk { data }).map_err(Status::from), reading))
        });
        Ok(Response::new(Box::pin(chunks)))
    }

    async fn fetch_many(
        &self,
        request: Request<proto::FetchManyRequest>,
    ) -> Result<Response<Self::FetchManyStream>, Status> {
        let (caller, sent) = (caller(&request)?, sent(rung(&request)));
        let ids = request.into_inner().content_ids;
        let files = SmallFiles::open(&self.service, caller, &ids, sent, Arc::new(|_| Ok(())))?;
        let files = futures::stream::unfold(Some(files), |files| async move {
            let mut files = files?;
            match files.next().await? {
                Ok(file) => Some((Ok(file), Some(files))),
                Err(failure) => Some((Err(failure.into()), None)),
            }
        });
        Ok(Response::new(Box::pin(files)))
    }

    async fn offer(
        &self,
        request: Request<proto::OfferRequest>,
    ) -> Result<Response<proto::OfferReply>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.service.offer(&caller, request.get_ref()).await?))
    }

    async fn watch(
        &self,
        request: Request<proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = caller(&request)?;
        let id = content_id(&request.get_ref().content_id)?;
        let watching = self.service.watch(&caller, id)?;
        let states = futures::stream::unfold(Some(watching), |watching| async move {
            let mut watching = watching?;
            match watching.next().await? {
                Ok(state) => Some((Ok(state), Some(watching))),
                Err(failure) => Some((Err(failure.into()), None)),
            }
        });
        Ok(Response::new(Box::pin(states.take_until(self.soft.clone().cancelled_owned()))))
    }
}

/// Who asks. Every connection was told; a request without it never came through one.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let known = request.extensions().get::<Caller>().cloned();
    known.ok_or_else(|| ErrorCode::Unauthenticated.to_status("the connection carries no peer's certificate"))
}

/// Which way the answer goes; every connection was told that too.
fn rung<T>(request: &Request<T>) -> Rung {
    request.extensions().get().copied().unwrap_or(Rung::Direct)
}

pub(super) fn content_id(bytes: &[u8]) -> Result<ContentId, Failure> {
    ContentId::try_from(bytes).map_err(|_| Failure::invalid("a content id has 32 bytes"))
}
