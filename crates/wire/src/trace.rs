//! One trace through many processes: which span of whom another span belongs under.
//!
//! Whoever asks sends its span's name along, as a W3C `traceparent` (in HTTP's headers, gRPC's metadata, a header of an
//! AMQP message); whoever answers puts its own span under it. `tracestate` is not carried: no vendor's word is of use to
//! us. Where nothing traces (no `OTEL_EXPORTER_OTLP_ENDPOINT`), there is no name to send and nothing is put anywhere.
//!
//! Source: W3C Trace Context, Level 1, 3.2 "Traceparent Header".

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, Status, TraceContextExt, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The header's name, everywhere.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The name of a span for those who are asked from within it; none where nothing traces.
pub fn traceparent(span: &Span) -> Option<String> {
    let context = span.context();
    let span = context.span();
    let id = span.span_context();
    let flags = id.trace_flags() & TraceFlags::SAMPLED;
    id.is_valid().then(|| format!("00-{:032x}-{:016x}-{flags:02x}", id.trace_id(), id.span_id()))
}

/// Sends the name of a span along with a question.
pub fn tell(headers: &mut HeaderMap, span: &Span) {
    if let Some(value) = traceparent(span).and_then(|name| HeaderValue::from_str(&name).ok()) {
        headers.insert(TRACEPARENT, value);
    }
}

/// Puts a new span under that of whoever asked. What is no `traceparent` is passed over, as the standard says.
pub fn follow(span: &Span, traceparent: Option<&str>) {
    let Some(asker) = traceparent.and_then(read) else { return };
    // Refused where nothing traces.
    let _nobody_traces = span.set_parent(Context::new().with_remote_span_context(asker));
}

/// The same, with the name in the headers of the question.
pub fn follow_headers(span: &Span, headers: &HeaderMap) {
    follow(span, headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()));
}

/// What is known of a span only at its end, for the trace alone: logs say it elsewhere.
pub fn note(span: &Span, key: &'static str, value: i64) {
    span.set_attribute(key, value);
}

/// Marks what a span stands for as failed. A word of ours alone: others' words may name files.
pub fn failed(span: &Span, why: &'static str) {
    if !span.is_disabled() {
        span.set_status(Status::error(why));
    }
}

fn read(text: &str) -> Option<SpanContext> {
    let field = |range: std::ops::Range<usize>| {
        let field = text.get(range)?;
        let is_hex = field.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        is_hex.then_some(field)
    };
    let (version, trace, span, flags) = (field(0..2)?, field(3..35)?, field(36..52)?, field(53..55)?);
    let dashes = [2, 35, 52].iter().all(|at| text.as_bytes()[*at] == b'-');
    // A later version may say more behind another dash, and version ff is none.
    let ends = text.len() == 55 || (version != "00" && text.as_bytes()[55] == b'-');
    if version == "ff" || !dashes || !ends {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    Some(SpanContext::new(trace, span, flags, true, TraceState::NONE)).filter(SpanContext::is_valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_name_is_read_as_the_standard_says() {
        let read_ = read(NAME).unwrap();
        assert_eq!(read_.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(read_.span_id().to_string(), "00f067aa0ba902b7");
        assert!(read_.is_sampled() && read_.is_remote());
        assert!(!read(&NAME.replace("-01", "-00")).unwrap().is_sampled());
        assert!(read(&NAME.replace("-01", "-ff")).unwrap().is_sampled(), "flags that nobody knows yet");
        assert!(read(&format!("cc{}-what-is-new", &NAME[2..])).is_some(), "a later version says more");
    }

    #[test]
    fn what_is_no_name_is_passed_over() {
        let zeros = |range: std::ops::Range<usize>| {
            let mut name = NAME.to_owned();
            name.replace_range(range.clone(), &"0".repeat(range.len()));
            name
        };
        let broken = [
            String::new(),
            "00".to_owned(),
            NAME[..54].to_owned(),
            format!("{NAME}-more"),
            format!("{NAME} "),
            format!("ff{}", &NAME[2..]),
            format!("cc{}x", &NAME[2..]),
            NAME.to_uppercase(),
            NAME.replace('-', "_"),
            NAME.replace('7', "ñ"),
            NAME.replace("4b", "+b"),
            zeros(3..35),
            zeros(36..52),
        ];
        for name in broken {
            assert!(read(&name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn where_nothing_traces_nothing_is_told() {
        let span = tracing::error_span!("request");
        follow(&span, Some(NAME));
        let mut headers = HeaderMap::new();
        tell(&mut headers, &span);
        assert!(traceparent(&span).is_none() && headers.is_empty());
    }
}
