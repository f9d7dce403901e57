//! *Who has what.* The directory's program: accounts, certificates, leases, and a catalog that can be searched. It
//! never touches a byte of a file, and connects to no address that a peer gave it.
//!
//! - [`config`]: the settings. [`App`]: what a request may need. [`http`]: the routes, a file for each resource.
//! - [`catalog`]: what is remembered, behind a trait; `catalog::sqlite` is its home inside the process.
//! - [`broker`]: where the relay's broker is, and who may do what there.
//! - [`authority`], [`passwords`], [`secrets`], [`limits`]: who is who, and how often they may try.
//! - [`leases`], [`words`]: the rules about time and about searching. Pure.

mod app;
pub mod authority;
pub mod broker;
pub mod catalog;
pub mod config;
mod cursors;
mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod leases;
pub mod limits;
pub mod passwords;
pub mod secrets;
pub mod words;

use std::{sync::Arc, time::Duration};

use daemon::{Lifecycle, serve::Limits};
use tokio::net::TcpListener;

pub use app::App;

/// From the end of a request's head to the end of its answer. A peer gives up after half of it.
const ANSWER: Duration = Duration::from_secs(120);

/// Serves on a listener that the caller brings, until the soft stop; HTTPS where the settings have a certificate.
///
/// # Errors
/// A certificate that cannot be used, or a listener that died.
pub async fn serve(
    listener: TcpListener,
    config: &config::Config,
    app: Arc<App>,
    lifecycle: &Lifecycle,
) -> anyhow::Result<()> {
    let limits = Limits {
        answer: Some(ANSWER),
        connections: config.bounds.max_connections,
        per_address: config.bounds.max_connections_per_address,
        proxies: config.bounds.trusted_proxies.clone(),
        ..Limits::default()
    };
    daemon::serve::serve_within(listener, http::router(app), config.tls()?, limits, lifecycle).await?;
    Ok(())
}
