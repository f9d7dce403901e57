//! What operators see: traces as a collector gets them, and the dashboard.
#![expect(clippy::unwrap_used, reason = "helpers of tests: what goes wrong should end the test, there")]

mod collector;
mod dashboard;
mod programs;
mod traces;
