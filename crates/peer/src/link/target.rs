//! [`Target`]: whom a link leads to, and where they can be called, as the directory says.

use wire::{
    PeerId, Username,
    rest::directory::{Holder, PeerItem},
};

/// A peer and how it can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub peer_id: PeerId,
    pub username: Username,
    /// `host:port`, best first; none for a peer that takes no calls.
    pub endpoints: Vec<String>,
    /// Its X25519 public key, for what goes over the relay; 64 hex digits.
    pub sealing_key: String,
}

impl From<&Holder> for Target {
    fn from(holder: &Holder) -> Self {
        Self {
            peer_id: holder.peer_id,
            username: holder.username.clone(),
            endpoints: holder.endpoints.clone(),
            sealing_key: holder.sealing_key.clone(),
        }
    }
}

impl From<&PeerItem> for Target {
    fn from(peer: &PeerItem) -> Self {
        Self {
            peer_id: peer.peer_id,
            username: peer.username.clone(),
            endpoints: peer.endpoints.clone(),
            sealing_key: peer.sealing_key.clone(),
        }
    }
}
