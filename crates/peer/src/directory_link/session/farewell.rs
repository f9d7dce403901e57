//! The end of a session: said to the directory, and said again until it was heard where that is what a user wanted.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{LAST_RETRY, LinkState, Worker, may_pass, retries};
use crate::{Failure, directory_link::saved::SavedSession};

/// How long the goodbye at a stop may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);
/// Why a peer that was logged out still has something to say.
const UNHEARD: &str = "the directory has not heard of the logout yet, and is told when it answers; until then it and others \
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

    /// Keeps in mind, through a restart too, that the directory does not know of a logout yet.
    pub(super) fn tell_later(&mut self, former: SavedSession) {
        tracing::warn!("the directory has not heard of the logout; it is told when it answers");
        self.file.save(&former);
        self.ended = Some(former);
        self.due = Some(Instant::now() + self.retries.next().unwrap_or(LAST_RETRY));
        self.show(LinkState::LoggedOut { why: Some(UNHEARD.to_owned()) });
    }

    pub(super) async fn tell_of_the_end(&mut self) {
        self.due = None;
        let Some(former) = &self.ended else { return };
        let (client, own) = (&self.parts.client, self.parts.identity.peer_id());
        match client.end_former_session(&former.token, own).await {
            Err(failure) if may_pass(failure.code) => {
                self.due = Some(Instant::now() + self.retries.next().unwrap_or(LAST_RETRY));
            }
            told => {
                tracing::info!(
                    error = told.err().map(tracing::field::display),
                    "the directory knows of the logout"
                );
                self.ended = None;
                self.retries = retries();
                self.file.forget();
                self.show(LinkState::LoggedOut { why: None });
            }
        }
    }
}
