//! A small OpenTelemetry collector: takes spans by OTLP over HTTP and keeps them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Bytes, extract::State, http::HeaderMap, routing::post};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value},
};
use prost::Message;
use tokio::{net::TcpListener, task::AbortHandle};

/// One span, with whose it is.
#[derive(Debug, Clone)]
pub(crate) struct Spot {
    pub(crate) service: String,
    /// The peer's id; empty for a directory.
    pub(crate) instance: String,
    pub(crate) name: String,
    /// As OTLP counts them: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub(crate) kind: i32,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) fields: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Default)]
struct Kept {
    spans: Arc<Mutex<Vec<Spot>>>,
    /// All that came, as it came.
    raw: Arc<Mutex<Vec<u8>>>,
}

/// Listens until it is dropped.
pub(crate) struct Collector {
    address: SocketAddr,
    kept: Kept,
    serving: AbortHandle,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Kept::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(kept.clone());
        #[expect(clippy::disallowed_methods, reason = "it stands outside of what is tested")]
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, kept, serving: serving.abort_handle() }
    }

    /// As the setting wants it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn spans(&self) -> Vec<Spot> {
        self.kept.spans.lock().unwrap().clone()
    }

    /// Whether these letters came in anything.
    pub(crate) fn heard(&self, text: &str) -> bool {
        self.kept.raw.lock().unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    }
}

async fn take(State(kept): State<Kept>, headers: HeaderMap, body: Bytes) -> Vec<u8> {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    kept.raw.lock().unwrap().extend_from_slice(&body);
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut spans = kept.spans.lock().unwrap();
    for of_one in request.resource_spans {
        let who = texts(of_one.resource.unwrap().attributes);
        let whose = |key: &str| who.get(key).cloned().unwrap_or_default();
        assert_eq!(whose("service.version"), env!("CARGO_PKG_VERSION"));
        for span in of_one.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
            assert!(span.events.is_empty(), "lines of logs: {span:?}");
            spans.push(Spot {
                service: whose("service.name"),
                instance: whose("service.instance.id"),
                name: span.name,
                kind: span.kind,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                fields: texts(span.attributes),
            });
        }
    }
    ExportTraceServiceResponse::default().encode_to_vec()
}

fn texts(fields: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |field: KeyValue| match field.value.unwrap().value.unwrap() {
        Value::StringValue(text) => (field.key, text),
        other => (field.key, format!("{other:?}")),
    };
    fields.into_iter().map(text).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
