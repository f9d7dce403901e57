//! The promises of the relay, with a real RabbitMQ, one file for each theme. A broker costs seconds, so a test makes
//! several checks with one; each is a function with a name that says what is promised.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what goes wrong should end the test, there")]
#![expect(
    clippy::print_stdout,
    reason = "figures that were measured on the way are shown where a test fails"
)]

mod authority;
mod broker;
mod conformance;
mod doctor;
mod faults;
mod hostile;
mod intruder;
mod keys;
mod limits;
mod mail;
mod offers;
mod reverse;
mod ruled;
mod station;
mod talk;
mod tap;
mod tls;
mod trust;
mod withdrawn;

use testnet::sample;

const MIB: usize = 1 << 20;

/// A file of whole mebibytes.
fn big(seed: u64, mebibytes: usize) -> bytes::Bytes {
    sample(seed, mebibytes * MIB)
}
