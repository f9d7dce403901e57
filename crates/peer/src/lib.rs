//! The `peer`: the program on every machine that has files and gets files.
//!
//! ```text
//!   pclient (REST, command line)        pserver (gRPC for other peers)
//!            │                                   │
//!            ▼                                   ▼
//!        download ──► link ──► (other peers)  service
//!            │                                   │
//!            └──────────► library ◄──────────────┘ ◄── shares (folders: scan, watch, hash)
//!                            │
//!                          store            directory_link (lease, announce, search, locate)
//! ```
//!
//! Doors (`pclient`, `pserver`) translate and call; they decide nothing about the business.

pub mod allowed;
pub mod app;
pub mod audit;
pub mod config;
mod connection;
pub mod data_dir;
pub mod directory_link;
pub mod doctor;
pub mod download;
pub mod events;
pub mod failure;
#[doc(hidden)]
pub mod fuzzing;
pub mod identity;
pub mod library;
pub mod link;
pub mod mail;
pub mod meter;
pub mod offers;
pub mod pclient;
mod place;
pub mod pserver;
pub mod relay;
pub mod service;
pub mod shares;
pub mod store;
pub mod throttle;
pub mod tls;
pub mod trust;
mod turns;

pub use failure::Failure;
