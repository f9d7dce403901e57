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
mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod leases;
pub mod limits;
pub mod passwords;
pub mod secrets;
pub mod words;

use std::sync::Arc;

use daemon::Lifecycle;
use tokio::net::TcpListener;

pub use app::App;

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
    daemon::serve::serve(listener, http::router(app), config.tls()?, lifecycle).await?;
    Ok(())
}
