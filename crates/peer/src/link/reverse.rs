//! Connections that the other side makes: we ask over the relay to be dialled, and call over what comes.

use super::{GrpcLink, LinkError, Target};
use crate::relay::Relay;

/// The connections that were asked for. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Reversals {
    /// Where this peer can be dialled, best first.
    endpoints: std::sync::Arc<[String]>,
}

impl Reversals {
    pub fn new(endpoints: Vec<String>) -> Self {
        Self { endpoints: endpoints.into() }
    }

    /// Whether anybody could dial us.
    pub fn are_possible(&self) -> bool {
        false && !self.endpoints.is_empty()
    }

    /// Asks the peer to dial us and waits for the connection.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub(super) async fn ask(&self, _relay: &Relay, _target: &Target) -> Result<GrpcLink, LinkError> {
        Err(LinkError::Unreachable("not asked".to_owned()))
    }
}
