//! Traces: spans go to an OpenTelemetry collector (OTLP, protobuf over HTTP), where one is named.
//!
//! Where none is, nothing of this is installed, and a span below the level of logs costs a comparison. Otherwise each
//! span that ends is worded and put into a queue; a task takes them out and sends them in batches. A full queue drops
//! spans and a collector that does not answer loses them: both are counted, and neither holds anybody up.
//!
//! Only spans of our own leave the process, without log lines, and of their fields only those in [`TOLD`]: a
//! field that somebody adds for logs (a file's name, a path) does not go anywhere by itself. Content ids are cut short.

use std::{fmt, str::FromStr, time::Duration};

use anyhow::Context;
use opentelemetry::{KeyValue, Value, trace::SpanKind, trace::TracerProvider};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracerProvider, Span, SpanData, SpanExporter as _, SpanProcessor},
};
use reqwest::Url;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior},
};
use tracing::{Level, Metadata};
use tracing_subscriber::{Layer, filter::LevelFilter, registry::LookupSpan};

use crate::Lifecycle;

/// The setting.
const SETTING: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
/// Spans that wait to be sent.
const QUEUE: usize = 4_096;
/// Spans of one batch.
const BATCH: usize = 512;
const SEND_EVERY: Duration = Duration::from_secs(1);
const SEND_LIMIT: Duration = Duration::from_secs(10);
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Failures are told no oftener.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// The parts of the program whose spans are told of.
const OURS: [&str; 4] = ["daemon", "directory", "peer", "wire"];
/// The fields that are told of. None of them holds what a user wrote.
const TOLD: [&str; 14] = [
    "content.id",
    "download.id",
    "http.method",
    "http.route",
    "http.status",
    "messaging.destination",
    "messaging.system",
    "path",
    "peer.id",
    "pieces",
    "request.id",
    "rpc.method",
    "size_bytes",
    "small_files",
];
const CONTENT_ID: &str = "content.id";
/// Characters of a content id that are told.
const SHORT_ID: usize = 8;

/// Where a collector takes traces.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoint(Url);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut url = Url::parse(text.trim()).map_err(|error| error.to_string())?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err("write it as http://HOST:4318 or https://HOST:4318".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds a name or password, which do not belong there".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("holds a query or fragment, which do not belong there".to_owned());
        }
        // OpenTelemetry's rule for this setting: it names the base, and each signal has a path under it.
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The way of spans to a collector. Spans are kept from [`Self::layer`] on and sent from [`Self::export`] on.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    spans: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
    endpoint: Endpoint,
}

impl Traces {
    /// Opens the way to the collector that the setting names, such as `http://HOST:4318`; none where none is named.
    ///
    /// # Errors
    /// Where that is no address. The message names the setting and not its value, which may hold a password.
    pub fn open(endpoint: Option<&str>) -> anyhow::Result<Option<Self>> {
        let Some(endpoint) = endpoint.filter(|text| !text.is_empty()) else { return Ok(None) };
        let endpoint = endpoint.parse().map_err(anyhow::Error::msg);
        endpoint.and_then(Self::to).context(SETTING).map(Some)
    }

    fn to(endpoint: Endpoint) -> anyhow::Result<Self> {
        let _already_made = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut client = reqwest::Client::builder()
            .connect_timeout(CONNECT_LIMIT)
            .timeout(SEND_LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if endpoint.0.scheme() == "http" {
            // A machine without the system's authorities needs none for this.
            client = client.tls_certs_only([]);
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client.build()?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint.0.as_str())
            .with_timeout(SEND_LIMIT)
            .build()?;
        let (queue, spans) = Queue::new(QUEUE);
        let provider = SdkTracerProvider::builder()
            .with_resource(Resource::builder_empty().build())
            .with_span_processor(queue)
            .build();
        Ok(Self { provider, spans, exporter, endpoint })
    }

    /// Takes in the spans of this program, whatever is logged of them.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let ours = tracing_subscriber::filter::filter_fn(is_told).with_max_level_hint(LevelFilter::DEBUG);
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("trueque"))
            .with_context_activation(false)
            .with_tracked_inactivity(false)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_filter(ours)
    }

    /// Sends spans until everything else has ended, and then those that are left. `instance` tells processes of one
    /// program apart.
    pub fn export(self, service: &'static str, instance: Option<String>, lifecycle: &Lifecycle) {
        let Self { provider, mut spans, mut exporter, endpoint } = self;
        let mut who = vec![
            KeyValue::new("service.name", service),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ];
        who.extend(instance.map(|instance| KeyValue::new("service.instance.id", instance)));
        exporter.set_resource(&Resource::builder_empty().with_attributes(who).build());
        lifecycle.spawn_last(|over| async move {
            // While it lives, spans are made.
            let _provider = provider;
            let mut sender = Sender { exporter, endpoint, complained: None, lost: 0 };
            let mut batch = Vec::with_capacity(BATCH);
            let mut due = tokio::time::interval(SEND_EVERY);
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while !over.is_cancelled() {
                let room = BATCH - batch.len();
                tokio::select! {
                    () = over.cancelled() => {}
                    _ = due.tick() => sender.send(std::mem::take(&mut batch)).await,
                    _ = spans.recv_many(&mut batch, room), if room > 0 => {}
                }
                if batch.len() == BATCH {
                    sender.send(std::mem::take(&mut batch)).await;
                }
            }
            spans.close();
            loop {
                sender.send(std::mem::take(&mut batch)).await;
                if spans.recv_many(&mut batch, BATCH).await == 0 {
                    return;
                }
            }
        });
    }
}

/// Sends batches, and complains when that fails.
struct Sender {
    exporter: SpanExporter,
    endpoint: Endpoint,
    complained: Option<Instant>,
    /// Since it complained last.
    lost: usize,
}

impl Sender {
    async fn send(&mut self, batch: Vec<SpanData>) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len();
        let sent = tokio::time::timeout(SEND_LIMIT, self.exporter.export(batch)).await;
        let error = match sent {
            Ok(Ok(())) => return counted("sent", count),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        counted("not taken", count);
        self.lost += count;
        if self.complained.is_none_or(|at| at.elapsed() >= COMPLAIN_EVERY) {
            self.complained = Some(Instant::now());
            let lost = std::mem::take(&mut self.lost);
            tracing::warn!(collector.url = %self.endpoint, error, spans = lost, "spans could not be sent and are lost");
        }
    }
}

/// Where spans wait to be sent.
#[derive(Debug)]
struct Queue {
    spans: mpsc::Sender<SpanData>,
}

impl Queue {
    fn new(places: usize) -> (Self, mpsc::Receiver<SpanData>) {
        let (spans, receiver) = mpsc::channel(places);
        (Self { spans }, receiver)
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &opentelemetry::Context) {}

    fn on_end(&self, mut span: SpanData) {
        if span.span_context.is_sampled() {
            word(&mut span);
            if self.spans.try_send(span).is_err() {
                counted("dropped", 1);
            }
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn counted(outcome: &'static str, spans: usize) {
    metrics::counter!("trueque_spans_total", "outcome" => outcome).increment(spans as u64);
}

/// Whether a span is told of. The spans of tasks last as long as the process.
fn is_told(metadata: &Metadata<'_>) -> bool {
    let part = metadata.target().split("::").next().unwrap_or_default();
    metadata.is_span()
        && *metadata.level() <= Level::DEBUG
        && OURS.contains(&part)
        && metadata.name() != "task"
}

/// Takes out what is not to be told, and names requests by what was requested.
fn word(span: &mut SpanData) {
    span.attributes.retain(|field| TOLD.contains(&field.key.as_str()));
    if let Some(id) = span.attributes.iter_mut().find(|field| field.key.as_str() == CONTENT_ID) {
        let short: String = id.value.as_str().chars().take(SHORT_ID).collect();
        id.value = Value::from(short);
    }
    let field = |key: &str| {
        let field = span.attributes.iter().find(|field| field.key.as_str() == key)?;
        Some(field.value.as_str().into_owned())
    };
    if let (Some(method), Some(route)) = (field("http.method"), field("http.route"))
        && span.span_kind == SpanKind::Internal
    {
        span.span_kind = SpanKind::Server;
        span.name = format!("{method} {route}").into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let read = |text: &str| text.parse::<Endpoint>().map(|endpoint| endpoint.to_string());
        assert_eq!(read("http://127.0.0.1:4318").unwrap(), "http://127.0.0.1:4318/v1/traces");
        assert_eq!(read(" https://otel.example.org/in/ ").unwrap(), "https://otel.example.org/in/v1/traces");
        let broken = [
            "",
            "collector",
            "localhost:4318",
            "grpc://here:4317",
            "http://a:b@here",
            "http://here?x=y",
            "http://",
        ];
        for text in broken {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    /// Spans as the queue holds them, of a program whose spans are all ours.
    fn spans_of(places: usize, program: impl FnOnce()) -> Vec<SpanData> {
        use tracing_subscriber::prelude::*;
        let (queue, mut spans) = Queue::new(places);
        let provider = SdkTracerProvider::builder().with_span_processor(queue).build();
        let mut traces = Traces::to("http://127.0.0.1:9".parse().unwrap()).unwrap();
        traces.provider = provider;
        let subscriber = tracing_subscriber::registry().with(traces.layer());
        tracing::subscriber::with_default(subscriber, program);
        let mut all = Vec::new();
        while let Ok(span) = spans.try_recv() {
            all.push(span);
        }
        all
    }

    #[test]
    fn what_is_told_and_what_is_not() {
        let id = "c59c9cd55a807e3137dba841f0e9680244f73a615071bd5ce8810f8cd0cb1378";
        let spans = spans_of(16, || {
            let request = tracing::error_span!(
                "request",
                http.method = "GET",
                http.route = "/v1/files/{id}",
                token = "secret"
            );
            request.in_scope(|| {
                tracing::warn!(file.name = "diary.txt", "a line of a log");
                drop(tracing::debug_span!("read", content.id = id, file.name = "diary.txt"));
                drop(tracing::debug_span!("task", task.name = "for ever"));
                drop(tracing::trace_span!("detail"));
                drop(tracing::error_span!(target: "hyper", "of others"));
            });
        });
        let [read, request] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((read.name.as_ref(), &read.span_kind), ("read", &SpanKind::Internal));
        assert_eq!(read.attributes, [KeyValue::new("content.id", "c59c9cd5")]);
        assert_eq!(read.parent_span_id, request.span_context.span_id());
        assert_eq!((request.name.as_ref(), &request.span_kind), ("GET /v1/files/{id}", &SpanKind::Server));
        assert_eq!(request.attributes.len(), 2);
        assert!(request.events.events.is_empty(), "{:?}", request.events);
    }

    #[tokio::test]
    async fn failures_are_told_once_a_minute_and_what_was_lost_meanwhile_is_counted() {
        // Nobody listens on a port that was just given back.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let endpoint: Endpoint = format!("http://127.0.0.1:{port}").parse().unwrap();
        let Traces { exporter, endpoint, .. } = Traces::to(endpoint).unwrap();
        let mut sender = Sender { exporter, endpoint, complained: None, lost: 0 };
        let batch = |count| spans_of(8, || (0..count).for_each(|_| drop(tracing::debug_span!("read"))));
        sender.send(batch(3)).await;
        let told = sender.complained;
        assert!(told.is_some() && sender.lost == 0, "{}", sender.lost);
        sender.send(batch(2)).await;
        assert_eq!((sender.complained, sender.lost), (told, 2));
    }

    #[test]
    fn a_full_queue_drops_what_comes_last() {
        let spans = spans_of(3, || (0..5).for_each(|_| drop(tracing::debug_span!("read"))));
        assert_eq!(spans.len(), 3);
    }
}
