//! A whole network inside one test process, with faults from outside.
//!
//! - [`Network`]: a directory and its peers, on free ports, with folders of their own; at its end it looks whether
//!   anything is left running.
//! - [`Peer`], [`Process`]: a peer in this process, or the real program in one of its own, which can be killed. Both are
//!   asked through [`Api`], pclient's REST, as users do.
//! - [`Proxy`]: stands in front of a door and cuts, swallows, slows and counts.
//! - [`Rabbit`]: a real RabbitMQ, which can be stopped, killed, frozen and short of memory.
//! - [`Member`]: somebody with a valid certificate of the network; [`Liar`]: one who serves what is not so;
//!   [`RawCaller`]: one who asks as no library would.
//! - [`Flood`]: a crowd that wants a directory to serve nobody else, and [`Honest`], who asks it meanwhile.
//!
//! Waiting is always for a condition, never for a time; [`until`] panics when a condition does not come.
#![expect(missing_debug_implementations, reason = "nobody prints the tools of a test")]
#![expect(clippy::unwrap_used, reason = "this is test code: what goes wrong should end the test, there")]

mod api;
mod bytes;
mod directory;
mod flood;
mod liar;
mod member;
mod network;
mod node;
mod openapi;
mod process;
mod proxy;
mod rabbit;
mod raw;
mod wait;

pub use api::{Api, Reply};
pub use bytes::{read, sample};
pub use directory::Directory;
pub use flood::{Crowd, Flood, Honest, Times};
pub use liar::{Liar, Lie};
pub use member::{Member, grpc_channel};
pub use network::Network;
pub use node::Peer;
pub use openapi::documents;
pub use process::Process;
pub use proxy::Proxy;
pub use rabbit::{Rabbit, RabbitOptions};
pub use raw::{
    CALM, END_HEADERS, END_STREAM, Kind as FrameKind, RawCaller, framed, headers as raw_headers, new_header,
};
pub use wait::{PATIENCE, until, until_within};
