//! [`RelayLink`]: questions to a peer as sealed messages over the broker.
//!
//! Answers come in portions that were asked for, so what is one stream over gRPC is several questions here, and each
//! goes on where the one before ended: [`streams`] for messages, [`chunks`] for the bytes of a `Fetch`.

mod chunks;
pub(crate) mod streams;

use std::ops::Range;

use bytes::Bytes;
use content::ContentId;
use wire::proto::{self, question::Ask};

pub(crate) use chunks::RelayChunks;

use super::{LinkError, Messages, Target};
use crate::{
    Failure,
    relay::{
        Relay,
        ask::{Answers, Question},
    },
};

/// The way to one peer over the relay.
#[derive(Debug, Clone)]
pub struct RelayLink {
    relay: Relay,
    target: Target,
}

impl RelayLink {
    pub(super) fn new(relay: Relay, target: Target) -> Self {
        Self { relay, target }
    }

    /// Size, proof from `first_piece` on, and pieces.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn describe(&self, id: ContentId, first_piece: u32) -> Result<proto::Description, LinkError> {
        let ask = Ask::Describe(proto::DescribeRequest { content_id: bytes_of(id), first_piece });
        self.ask(Question::new(ask)).await?.message().await
    }

    /// The bytes `range`, whole pieces, as they come. Waits until the peer begins to answer.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn fetch(&self, id: ContentId, range: Range<u64>) -> Result<RelayChunks, LinkError> {
        RelayChunks::begin(self.clone(), id, range).await
    }

    /// Up to 1,000 small files in one stream.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn fetch_many(&self, ids: &[ContentId]) -> Result<Messages<proto::FileChunk>, LinkError> {
        let ids = ids.iter().copied().map(bytes_of).collect();
        streams::of(streams::ManyFiles::new(self.clone(), ids)).await
    }

    /// Follows what the peer has of a content.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn watch(&self, id: ContentId) -> Result<Messages<proto::PieceSet>, LinkError> {
        streams::of(streams::Watch::new(self.clone(), id)).await
    }

    /// What the peer lets us see of its files.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn list(&self) -> Result<Messages<proto::File>, LinkError> {
        streams::of(streams::List::new(self.clone())).await
    }

    /// Tells the peer's user of a file to fetch from us.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn offer(&self, offer: proto::OfferRequest) -> Result<proto::OfferReply, LinkError> {
        self.ask(Question::new(Ask::Offer(offer))).await?.message().await
    }

    async fn ask(&self, question: Question) -> Result<Answers, LinkError> {
        self.relay.ask(&self.target, question).await
    }

    /// How large the messages of an answer should be now.
    fn message_size(&self) -> u32 {
        self.relay.window(self.target.peer_id).message_size()
    }
}

fn unexpected() -> Failure {
    Failure::unavailable("the peer answered something that is not in the protocol")
}

fn bytes_of(id: ContentId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}
