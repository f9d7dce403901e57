//! The program `directory`: settings, logs, the data folder, the listener; then it serves until it is told to stop.

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use daemon::{Clock, Lifecycle, Traces, logging, metrics, private};
use directory::{
    App,
    config::{Config, Word},
    passwords::Passwords,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let config = match Config::read() {
        Ok(config) => config,
        Err(error) => return failed(&error),
    };
    let run = || -> anyhow::Result<ExitCode> {
        if config.word == Some(Word::Health) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(daemon::health::ask(config.secured()?, config.listen))?;
            return Ok(ExitCode::SUCCESS);
        }
        let traces = Traces::open(config.otlp_endpoint.as_deref())?;
        logging::init(config.log_format, &config.log_filter, traces.as_ref()).context("RUST_LOG")?;
        private::keep();
        daemon::settings::warn_of_unknown();
        metrics::init()?;
        tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(config, traces))
    };
    run().unwrap_or_else(|error| failed(&error))
}

async fn run(config: Config, traces: Option<Traces>) -> anyhow::Result<ExitCode> {
    let lifecycle = Lifecycle::new();
    metrics::keep_tidy(&lifecycle);
    if let Some(traces) = traces {
        traces.export("trueque-directory", None, &lifecycle);
    }
    let app = App::open(&config, Clock::system(), Passwords::standard()?)?;
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("DIRECTORY_LISTEN: {} cannot be listened on", config.listen))?;
    let address = listener.local_addr()?;
    let serving = lifecycle.clone();
    let scheme = config.scheme();
    lifecycle.spawn_vital("rest", async move {
        if let Err(error) = directory::serve(listener, &config, app, &serving).await {
            tracing::error!(error = format!("{error:#}"), "serving ended");
        }
    });
    // Whoever started this reads the line to learn the port, so it goes out at once.
    let mut out = std::io::stdout();
    writeln!(out, "directory listening on {scheme}://{address}")?;
    out.flush()?;
    Ok(lifecycle.run().await?)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    let _nobody_reads = writeln!(std::io::stderr(), "directory: {error:#}");
    ExitCode::FAILURE
}
