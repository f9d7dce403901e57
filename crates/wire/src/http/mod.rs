//! The manners of both REST APIs: how a request is read, and how a refusal is worded.
//!
//! [`Problem`] is the one error document (RFC 9457); [`JsonBody`], [`Query`] and [`Path`] read requests strictly and
//! answer with it; [`page`] cuts lists into pages; [`layers`] is the stack of middleware that both routers wear; [`site`]
//! tells what a stranger's page sent; [`openapi`] puts their documents together.

mod extract;
pub mod layers;
pub mod openapi;
mod pace;
pub mod page;
mod problem;
pub mod site;

pub use extract::{JsonBody, NoQuery, Nothing, Path, Query, read_body, read_json, read_query};
pub use problem::{Problem, ProblemDocument};
