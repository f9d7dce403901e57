//! The spans of questions that others ask: under the asker's own, by whatever door they came.

use axum::{extract::Request, middleware::Next, response::Response};
use tracing::{Instrument, Span, debug_span};
use wire::{PeerId, trace};

use crate::{
    relay::message::{Incoming, Route},
    tls::Caller,
};

/// The calls whose names are told; others could be made up.
const METHODS: [&str; 6] = ["List", "Describe", "Fetch", "FetchMany", "Watch", "Offer"];

/// Puts a gRPC call under the span that its metadata names.
pub(super) async fn layer(request: Request, next: Next) -> Response {
    let caller = request.extensions().get::<Caller>().map(|caller| caller.peer_id);
    let method = request.uri().path().strip_prefix("/trueque.v1.Files/");
    let method = METHODS.iter().find(|known| Some(**known) == method).copied().unwrap_or("other");
    let span = answer(method, caller);
    trace::follow_headers(&span, request.headers());
    next.run(request).instrument(span).await
}

/// A question while it is answered.
pub(super) fn answer(method: &'static str, caller: Option<PeerId>) -> Span {
    let peer = caller.map(tracing::field::display);
    debug_span!("answer", otel.kind = "server", otel.name = method, rpc.method = method, peer.id = peer)
}

/// A question that was taken from the broker, under the span that published it.
pub(crate) fn consumed(question: &Incoming) -> Span {
    let queue = if question.route == Route::Want { "wants" } else { "live" };
    let span = debug_span!(
        "consume",
        otel.kind = "consumer",
        otel.name = "consume a question",
        messaging.system = "rabbitmq",
        messaging.destination = queue,
        peer.id = %question.from,
    );
    trace::follow(&span, question.trace.as_deref());
    span
}
