//! The promises of the whole network, on real sockets, one file for each theme. One program, so that it is linked
//! once and its tests run side by side; each test has a network, a runtime and folders of its own.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what goes wrong should end the test, there")]

mod audit;
mod cli;
mod content;
mod crash;
mod doctor;
mod doors;
mod files;
mod flood;
mod forgotten;
mod hard_links;
mod hostile;
mod kept;
mod lease;
mod liars;
mod modes;
mod names;
mod offers;
mod rest;
mod secrets;
mod sizes;
mod small;
mod swarm;
mod trust;
mod waiting;
mod withdrawn;

use testnet::sample;

const MIB: usize = 1 << 20;

/// A file of whole mebibytes.
fn big(seed: u64, mebibytes: usize) -> bytes::Bytes {
    sample(seed, mebibytes * MIB)
}
