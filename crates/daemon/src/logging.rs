//! Logs: to stderr, as text for people or JSON for machines. `RUST_LOG` filters.
//!
//! RabbitMQ's client calls every lost connection an error, and prints returned messages with their whole bodies. Who uses
//! it says what matters, so it is silent unless the filter names it, and about returned messages always.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Starts logging. A second call in one process changes nothing.
///
/// # Errors
/// Where `filter` is not a filter.
pub fn init(format: LogFormat, filter: &str) -> Result<(), tracing_subscriber::filter::ParseError> {
    // Of two directives for the same target the later one holds.
    let filter = EnvFilter::try_new(format!("lapin=off,{filter},lapin::returned_messages=off"))?;
    let colours = std::io::stderr().is_terminal();
    let layer = match format {
        LogFormat::Text => fmt::layer().with_ansi(colours).with_writer(std::io::stderr).boxed(),
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed(),
    };
    let _already_set = tracing_subscriber::registry().with(filter).with(layer).try_init();
    Ok(())
}
