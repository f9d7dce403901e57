//! Getting files.

mod part;
mod plan;

pub use part::{Part, Parts, PieceError};
