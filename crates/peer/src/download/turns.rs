//! [`Turns`]: whoever begins, resumes or ends the download of a content does so after the other, so that a content never
//! has two downloads, and what is told of is there.

use std::collections::BTreeSet;

use content::ContentId;
use tokio::sync::{Mutex, MutexGuard};

/// Contents share so many turns.
const TURNS: usize = 64;

#[derive(Debug)]
pub(super) struct Turns([Mutex<()>; TURNS]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Turns {
    /// Waits for the turns of all these contents; dropping what it answers gives them on. They are taken in one order by
    /// everybody, so that nobody waits for somebody who waits for them.
    pub(super) async fn of(&self, contents: impl IntoIterator<Item = ContentId>) -> Vec<MutexGuard<'_, ()>> {
        let turns: BTreeSet<usize> =
            contents.into_iter().map(|id| usize::from(id.as_bytes()[0]) % TURNS).collect();
        let mut taken = Vec::with_capacity(turns.len());
        for turn in turns {
            taken.push(self.0[turn].lock().await);
        }
        taken
    }
}
