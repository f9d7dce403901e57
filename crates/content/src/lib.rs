//! *What* is shared: the identity of a file, its pieces, which of them somebody has, and its name.
//!
//! Everything here is pure: no async, no sockets, no clock, no disk. Bytes go in, decisions come out, so that each
//! rule can be proven against `blake3::hash` and by property tests.
//!
//! - [`ContentId`]: the plain BLAKE3 hash of a whole file, the one that `b3sum` prints.
//! - [`Layout`]: how a file of some size falls into pieces of 1 MiB.
//! - [`Outline`]: the chaining value of each piece. It proves itself against the [`ContentId`], and then any piece,
//!   from anybody, in any order.
//! - [`PieceSet`]: which pieces a holder has.
//! - [`SafeName`]: a file name that cannot leave the folder meant for it.

mod id;
mod layout;
mod name;
mod outline;
mod pieces;

pub use id::{ContentId, ParseIdError};
pub use layout::{Layout, MAX_FILE_SIZE, PIECE_SIZE, TooLarge};
pub use name::{NameError, SafeName};
pub use outline::{
    ChainingValue, Outline, OutlineBuilder, OutlineError, PieceDigest, PieceHasher, WrongPiece,
};
pub use pieces::{PieceSet, PieceSetError};
