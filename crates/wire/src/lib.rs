//! What two processes *agree on*: messages, words for errors, and the manners of both REST APIs.
//!
//! No servers and no I/O. `directory` and `peer` never use each other; they meet here.
//!
//! - [`ErrorCode`]: one table of what can go wrong, in the words of HTTP, gRPC and the relay.
//! - [`proto`]: what two peers say to each other, generated from `proto/trueque/v1`.
//! - [`rest`]: the JSON of both REST APIs.
//! - [`http`]: how both of them read a request and word a refusal.
//! - [`trace`]: how a trace goes on in the process that is asked.

mod detail;
mod error;
pub mod http;
mod ids;
pub mod proto;
pub mod rest;
pub mod trace;

pub use detail::{MAX_DETAIL, shortened};
pub use error::{CODE_METADATA, ErrorCode, Retry};
pub use ids::{GroupName, IdError, Member, PeerId, Username, UsernameError};
