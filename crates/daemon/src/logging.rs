//! Logs: to stderr, as text for people or JSON for machines. `RUST_LOG` filters.
//!
//! Fields carry names that others chose. In text they are escaped, all of them and here, so that no field makes up a
//! line or speaks to the terminal that shows it; JSON has its own escapes.
//!
//! RabbitMQ's client calls every lost connection an error, and prints returned messages with their whole bodies. Who uses
//! it says what matters, so it is silent unless the filter names it, and about returned messages always. The watcher of
//! folders tells of each folder that goes; of it only warnings are shown.

use std::{fmt, io::IsTerminal};

use clap::ValueEnum;
use tracing_subscriber::{
    EnvFilter, Layer,
    field::RecordFields,
    fmt::{
        FormatFields, MakeWriter,
        format::{DefaultFields, Writer},
    },
    prelude::*,
    registry::LookupSpan,
};

use crate::{Traces, terminal::write_escaped};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Starts logging, and tracing where it is asked for; the filter is about logs alone. A second call in one process changes
/// nothing.
///
/// # Errors
/// Where `filter` is not a filter.
pub fn init(
    format: LogFormat,
    filter: &str,
    traces: Option<&Traces>,
) -> Result<(), tracing_subscriber::filter::ParseError> {
    // Of two directives for the same target the later one holds.
    let filter = EnvFilter::try_new(format!("lapin=off,notify=warn,{filter},lapin::returned_messages=off"))?;
    let registry = tracing_subscriber::registry();
    let _already_set = match traces {
        None => registry.with(filter).with(lines(format)).try_init(),
        Some(traces) => registry.with(lines(format).with_filter(filter)).with(traces.layer()).try_init(),
    };
    Ok(())
}

fn lines<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    match format {
        LogFormat::Text => text(std::io::stderr, std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => {
            let json = tracing_subscriber::fmt::layer().json().flatten_event(true);
            json.with_writer(std::io::stderr).boxed()
        }
    }
}

/// Events as lines for people.
fn text<S, W>(writer: W, colours: bool) -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt::layer().fmt_fields(Escaped).with_ansi(colours).with_writer(writer)
}

/// Fields as they are usually written, escaped.
struct Escaped;

impl<'writer> FormatFields<'writer> for Escaped {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut plain = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut plain), fields)?;
        write_escaped(&mut writer, &plain)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_field_makes_up_a_line_or_speaks_to_the_terminal() {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::registry().with(text(move || writer.clone(), false));
        tracing::subscriber::with_default(subscriber, || {
            let evil = "a\n2026-11-05T10:00:00Z ERROR peer: made up\u{1b}[31m\u{202e}";
            let span = tracing::error_span!("download", file.name = %evil);
            span.in_scope(|| tracing::warn!(file.path = %evil, other = evil, "{evil}"));
        });
        let lines = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert!(!lines.trim_end().contains(['\u{1b}', '\u{202e}']), "{lines}");
        assert_eq!(lines.matches("\\n2026-11-05T10:00:00Z ERROR peer: made up").count(), 4, "{lines}");
    }
}
