//! Mail: files and offers for, and from, peers that are off.
//!
//! Who wants a file of a peer that is off leaves a small *want* in its durable queue at the broker. When the holder is
//! on it takes the want into its own store ([`holder`]) and sends the proof and the pieces to the asker's durable
//! mailbox, as many as the mailbox takes; the rest it sends when there is room. When the asker is on it takes its
//! parcels out ([`asker`]) and hands them to the download, which checks each piece like any other. So two peers that
//! are never on together exchange a file, a mailbox at a time.
//!
//! An offer to a machine that is off is left in the same queue ([`letters`]), and answered to the mailbox of whoever
//! made it.
//!
//! Nothing here is believed: a want counts for the peer whose key sealed it, and is answered only with what that peer
//! may have; a parcel counts for the want whose key sealed it. Wants and parcels may come twice, late, or never: the
//! truth of a download stays with the asker, who asks again for what is missing.

mod asker;
mod holder;
mod letters;

pub use asker::Mail;
pub(crate) use asker::{Inbox, Parcel, Received, parcel_of};
pub(crate) use holder::start as start_holder;
pub use letters::OfferAnswered;

use std::time::Duration;

/// A want is forgotten after this long, as the broker's queues forget what lies in them.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Bytes before a piece in its parcel: its index.
const INDEX: usize = 4;
