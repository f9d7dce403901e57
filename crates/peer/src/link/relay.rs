//! [`RelayLink`]: questions to a peer as sealed messages over the broker.

use std::ops::Range;

use bytes::Bytes;
use content::ContentId;
use wire::proto;

use super::{LinkError, Messages, Target};
use crate::relay::Relay;

/// The way to one peer over the relay.
#[derive(Debug, Clone)]
pub struct RelayLink {
    relay: Relay,
    target: Target,
}

/// The bytes of a relayed `Fetch`, in order.
#[derive(Debug)]
pub struct RelayChunks(());

impl RelayChunks {
    pub async fn next(&mut self) -> Option<Result<Bytes, LinkError>> {
        None
    }
}

impl RelayLink {
    pub(super) fn new(relay: Relay, target: Target) -> Self {
        Self { relay, target }
    }

    fn off(&self) -> LinkError {
        let _ = (&self.relay, &self.target);
        LinkError::Unreachable("the relay is off".to_owned())
    }

    /// Size, proof from `first_piece` on, and pieces.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn describe(&self, _id: ContentId, _first: u32) -> Result<proto::Description, LinkError> {
        Err(self.off())
    }

    /// The bytes `range`, whole pieces, as they come.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn fetch(&self, _id: ContentId, _range: Range<u64>) -> Result<RelayChunks, LinkError> {
        Err(self.off())
    }

    /// Up to 1,000 small files in one stream.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn fetch_many(&self, _ids: &[ContentId]) -> Result<Messages<proto::FileChunk>, LinkError> {
        Err(self.off())
    }

    /// Follows what the peer has of a content.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn watch(&self, _id: ContentId) -> Result<Messages<proto::PieceSet>, LinkError> {
        Err(self.off())
    }

    /// What the peer lets us see of its files.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn list(&self) -> Result<Messages<proto::File>, LinkError> {
        Err(self.off())
    }
}
