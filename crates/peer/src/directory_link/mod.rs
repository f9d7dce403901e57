//! The way to the directory: who has what, and that we are here.
//!
//! - [`DirectoryClient`]: one typed function per call of the directory's REST; several directories are tried in turn.
//! - [`Session`]: the login, its lease and the certificate that comes with it, kept alive by one vital worker.
//! - [`announce`]: tells the directory what changed in our catalog.
//!
//! Nothing here touches a byte of a file, and nothing of a running download depends on it: with the directory down,
//! what is being fetched goes on, and only new questions fail with `unavailable`.

mod accounts;
pub mod announce;
pub mod client;
#[cfg(test)]
pub(crate) mod fake;
mod probe;
mod saved;
pub mod session;
#[cfg(test)]
mod tests;

pub use client::{Announced, DirectoryClient};
pub(crate) use probe::{Probe, Seen};
pub use session::{LinkState, LinkStatus, Session};
