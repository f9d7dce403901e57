//! `testnet-broker`: a RabbitMQ for a script. It prints the URL, and goes when its input closes or it is told to stop.

use std::{
    io::{Write, copy, sink},
    process::ExitCode,
};

use anyhow::Context;
use daemon::Lifecycle;
use testnet::{Rabbit, RabbitOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<ExitCode> {
    let rabbit = Rabbit::start(RabbitOptions::default()).await;
    let mut out = std::io::stdout();
    writeln!(out, "{}", rabbit.url())?;
    out.flush().context("the URL")?;
    let lifecycle = Lifecycle::new();
    let stopping = lifecycle.clone();
    // A plain thread: reading the input cannot be called off, and must not hold up the end.
    std::thread::spawn(move || {
        let _closed = copy(&mut std::io::stdin().lock(), &mut sink());
        stopping.stop();
    });
    Ok(lifecycle.run().await?)
}
