//! [`Turns`]: one after the other for each key, where looking whether something is there and making it must not be
//! interleaved: the download of a content, the letter of an offer.

use std::collections::BTreeSet;

use tokio::sync::{Mutex, MutexGuard};

/// Keys share so many turns.
const TURNS: usize = 64;

#[derive(Debug)]
pub(crate) struct Turns([Mutex<()>; TURNS]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::new(())))
    }
}

impl Turns {
    /// Waits for the turns of all these keys, random bytes; dropping what it answers gives them on. They are taken in one
    /// order by everybody, so that nobody waits for somebody who waits for them.
    pub(crate) async fn of(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Vec<MutexGuard<'_, ()>> {
        let turn_of = |key: &[u8]| usize::from(key.first().copied().unwrap_or_default()) % TURNS;
        let turns: BTreeSet<usize> = keys.into_iter().map(|key| turn_of(key.as_ref())).collect();
        let mut taken = Vec::with_capacity(turns.len());
        for turn in turns {
            taken.push(self.0[turn].lock().await);
        }
        taken
    }
}
