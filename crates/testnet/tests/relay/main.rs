//! The promises of the relay, with a real RabbitMQ, one file for each theme. A broker costs seconds, so a test makes
//! several checks with one; each is a function with a name that says what is promised.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what goes wrong should end the test, there")]

mod authority;
mod broker;
mod station;
