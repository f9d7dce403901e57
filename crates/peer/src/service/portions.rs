//! [`Portions`]: so many at once for all callers together, and so many of them for each user.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use wire::Username;

/// Clones are the same.
#[derive(Debug, Clone)]
pub struct Portions {
    most: usize,
    each: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_user: HashMap<Username, usize>,
}

/// One, until it is dropped.
#[derive(Debug)]
pub struct Portion {
    home: Portions,
    user: Username,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Nobody gets more now.
    All,
    /// This user has what one user may have.
    Own,
}

impl Portions {
    pub fn new(most: usize, each: usize) -> Self {
        Self { most, each, taken: Arc::default() }
    }

    /// Takes one for this user.
    ///
    /// # Errors
    /// See [`Full`].
    pub fn take(&self, user: &Username) -> Result<Portion, Full> {
        let mut taken = self.taken.lock();
        if taken.by_user.get(user).is_some_and(|own| *own >= self.each) {
            return Err(Full::Own);
        }
        if taken.all >= self.most {
            return Err(Full::All);
        }
        taken.all += 1;
        *taken.by_user.entry(user.clone()).or_default() += 1;
        Ok(Portion { home: self.clone(), user: user.clone() })
    }

    /// Whether nobody gets more now.
    pub fn is_full(&self) -> bool {
        self.taken.lock().all >= self.most
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        let mut taken = self.home.taken.lock();
        taken.all -= 1;
        if let Some(own) = taken.by_user.get_mut(&self.user) {
            *own -= 1;
            if *own == 0 {
                taken.by_user.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_more_than_their_own_and_all_have_no_more_than_there_is() {
        let portions = Portions::new(3, 2);
        let [ana, ben, eva]: [Username; 3] = ["ana", "ben", "eva"].map(|name| name.parse().unwrap());
        let anas = [portions.take(&ana).unwrap(), portions.take(&ana).unwrap()];
        assert_eq!(portions.take(&ana).unwrap_err(), Full::Own);
        let bens = portions.take(&ben).unwrap();
        assert_eq!(portions.take(&eva).unwrap_err(), Full::All);
        drop(anas);
        let evas = portions.take(&eva).unwrap();
        drop((bens, evas));
        let taken = portions.taken.lock();
        assert_eq!((taken.all, taken.by_user.len()), (0, 0));
    }
}
