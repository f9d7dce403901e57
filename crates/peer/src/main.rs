//! The program `peer`: settings, then either a question to the peer that runs here, or the peer itself.

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use daemon::{Clock, Lifecycle, Traces, logging, memory, metrics, private, settings as dotenv};
use peer::{
    app::{App, Doors},
    config::{Cli, Settings},
    pclient::cli,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    start().unwrap_or_else(|error| {
        let _nobody_reads = writeln!(std::io::stderr(), "peer: {error:#}");
        ExitCode::FAILURE
    })
}

fn start() -> anyhow::Result<ExitCode> {
    memory::small_pages();
    dotenv::load_dotenv()?;
    let Cli { settings, command } = match Cli::from_process() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Some(command) => Ok(runtime.block_on(cli::run(command, &settings))),
        None => {
            let traces = Traces::open(settings.otlp_endpoint.as_deref())?;
            logging::init(settings.log_format, &settings.log_filter, traces.as_ref()).context("RUST_LOG")?;
            private::keep();
            dotenv::warn_of_unknown();
            metrics::init()?;
            runtime.block_on(serve(settings, traces))
        }
    }
}

async fn serve(settings: Settings, traces: Option<Traces>) -> anyhow::Result<ExitCode> {
    let lifecycle = Lifecycle::new();
    metrics::keep_tidy(&lifecycle);
    let doors = Doors::open(&settings).await?;
    let started = App::start(&settings, doors, Clock::system(), &lifecycle).await;
    // What had begun when a part failed ends with it, and is not a failure of its own.
    let app = started.inspect_err(|_| lifecycle.stop())?;
    if let Some(traces) = traces {
        traces.export("trueque-peer", Some(app.core.about.peer_id.to_string()), &lifecycle);
    }
    // Whoever started this reads the lines to learn the ports, so they go out at once.
    let mut out = std::io::stdout();
    if let Some(address) = app.pserver_listen {
        writeln!(out, "pserver listening on {address}")?;
    }
    writeln!(out, "pclient listening on http://{}", app.pclient_listen)?;
    out.flush()?;
    drop(app);
    Ok(lifecycle.run().await?)
}
