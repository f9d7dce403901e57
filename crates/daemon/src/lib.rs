//! How a process of ours *lives*: it starts with settings that are right or not at all, says where it listens, does
//! its work in tasks that somebody awaits, and ends in order.
//!
//! Knows nothing of files, peers or directories.

pub mod addresses;
pub mod clock;
pub mod health;
pub mod lifecycle;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod private;
pub mod serve;
pub mod settings;
pub mod terminal;
pub mod traces;

pub use clock::Clock;
pub use lifecycle::Lifecycle;
pub use traces::Traces;
