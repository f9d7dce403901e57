//! The end of a session: said to the directory, and said again until it was heard where that is what a user wanted.

use std::time::Duration;

use tokio::time::timeout;

use super::{Worker, may_pass, retries};
use crate::Failure;

/// How long a goodbye may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);
/// Why a peer that was logged out still has something to say.
pub(super) const UNHEARD: &str = "the directory has not heard of the logout yet, and is told when it answers; until then it and others \
                       take this machine for logged in";

impl Worker {
    /// False where the directory may not have heard it.
    pub(super) async fn say_goodbye(&self, goodbye: impl Future<Output = Result<(), Failure>>) -> bool {
        if self.active.is_none() {
            return true;
        }
        match timeout(GOODBYE_LIMIT, goodbye).await {
            Ok(Ok(())) => true,
            Ok(Err(failure)) => {
                tracing::debug!(error = %failure, "the directory did not hear the goodbye");
                !may_pass(failure.code)
            }
            Err(_) => {
                tracing::debug!("the goodbye to the directory took too long");
                false
            }
        }
    }

    /// Tries again, where the directory does not know of a logout.
    pub(super) async fn tell_of_the_end(&mut self) {
        self.due = None;
        let Some(former) = &self.ended else { return };
        let (client, own) = (&self.parts.client, self.parts.identity.peer_id());
        match client.end_former_session(&former.token, own).await {
            Err(failure) if may_pass(failure.code) => self.due = Some(self.next_try()),
            // Also where it does not know that session any more.
            Ok(()) | Err(_) => {
                tracing::info!("the directory knows of the logout");
                self.ended = None;
                self.retries = retries();
                self.drop_session(None);
            }
        }
    }
}
