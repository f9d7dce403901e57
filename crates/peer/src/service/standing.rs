//! [`Standing`]: whether a caller may still have what it is being given.
//!
//! An answer takes as long as its caller takes it, and meanwhile a name may be taken off the list. Whatever makes less
//! visible (an audience, a file that is not shared any more, an account that was disabled) rings one bell,
//! [`Service::recheck`]; every answer under way then asks anew, as if its question came now. A bell that has not rung
//! costs one load of a number for each block.

use content::ContentId;
use tokio::sync::watch;

use super::Service;
use crate::{Failure, tls::Caller};

/// What one caller is being given, and whether it still may have it.
pub struct Standing {
    service: Service,
    caller: Caller,
    contents: Vec<ContentId>,
    bell: watch::Receiver<()>,
}

impl Standing {
    /// The first check looks in any case, so that nothing is missed between the question and this.
    pub(super) fn new(service: &Service, caller: &Caller, contents: Vec<ContentId>) -> Self {
        let mut bell = service.inner.bell.subscribe();
        bell.mark_changed();
        Self { service: service.clone(), caller: caller.clone(), contents, bell }
    }

    /// Other contents are being given from now on, as they were just seen.
    pub(crate) fn is_now_of(&mut self, contents: Vec<ContentId>) {
        self.contents = contents;
    }

    /// Looks again if something has changed since the last time.
    ///
    /// # Errors
    /// What the question would be answered now.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        if self.has_changed() { self.look() } else { Ok(()) }
    }

    /// Whether it is to be looked at again; then says no until the next time.
    pub(crate) fn has_changed(&mut self) -> bool {
        let changed = self.bell.has_changed().unwrap_or(false);
        if changed {
            self.bell.mark_unchanged();
        }
        changed
    }

    /// Waits until the caller may not have one of them any more.
    pub(crate) async fn lost(&mut self) -> Failure {
        loop {
            if let Err(failure) = self.check() {
                return failure;
            }
            if self.bell.changed().await.is_err() {
                return std::future::pending().await;
            }
            self.bell.mark_changed();
        }
    }

    fn look(&self) -> Result<(), Failure> {
        let looked = self.contents.iter().try_for_each(|id| self.service.may_have(&self.caller, *id));
        looked.inspect_err(|_| {
            metrics::counter!("trueque_answers_withdrawn_total").increment(1);
            tracing::info!(peer.id = %self.caller.peer_id, "an answer was ended: its caller may not have it any more");
        })
    }
}

impl std::fmt::Debug for Standing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Standing").field("contents", &self.contents.len()).finish_non_exhaustive()
    }
}
