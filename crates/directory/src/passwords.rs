//! Passwords, kept as Argon2id.
//!
//! Hashing is slow and large on purpose, so it runs on blocking threads, on half of the cores at most: whoever guesses
//! passwords leaves the others to everybody else. When too many wait, the caller is told to come back. A login under a
//! name that does not exist is verified too, against a hash that no password fits, so that the time of the answer does not
//! tell which names exist. The passwords given here are zeroed when they are done with.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// The shortest password, in characters.
pub const SHORTEST: usize = 8;
/// The longest, in bytes: it is hashed, so a longer one adds nothing but work.
pub const LONGEST: usize = 1024;

/// What may wait for one core; at some 30 ms each, the last one waits for [`LONGEST_WAIT`].
const WAITING_PER_CORE: usize = 64;
/// About as long as the last in the queue waits.
pub const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Hashes and verifies. Clones share the limit.
#[derive(Clone)]
pub struct Passwords {
    argon: Argon2<'static>,
    /// A hash of a password that nobody knows.
    decoy: Arc<str>,
    /// At the same time: each takes 19 MiB, and a core for itself.
    running: Arc<Semaphore>,
    /// Running or waiting.
    places: Arc<Semaphore>,
    verified: Arc<AtomicU64>,
}

/// Why a password could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    #[error("too many logins at once")]
    Busy,
    #[error("a password could not be hashed: {0}")]
    Broken(String),
}

impl Passwords {
    /// With the strength that the Argon2 crate recommends (OWASP's: 19 MiB, two passes).
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn standard() -> Result<Self, PasswordError> {
        Self::with(Params::default())
    }

    /// So cheap that tests do not wait. Never for a real directory.
    ///
    /// # Errors
    /// Where the system gives no random numbers.
    pub fn cheap_for_tests() -> Result<Self, PasswordError> {
        Self::with(Params::new(8, 1, 1, None).map_err(broken)?)
    }

    fn with(params: Params) -> Result<Self, PasswordError> {
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let unknown: [u8; 32] = rand::random();
        let decoy = argon.hash_password(&unknown).map_err(broken)?.to_string();
        let cores = (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1);
        Ok(Self {
            argon,
            decoy: decoy.into(),
            running: Arc::new(Semaphore::new(cores)),
            places: Arc::new(Semaphore::new(cores * WAITING_PER_CORE)),
            verified: Arc::default(),
        })
    }

    /// What is stored in place of the password.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] when too many wait.
    pub async fn hash(&self, password: Zeroizing<String>) -> Result<String, PasswordError> {
        let argon = self.argon.clone();
        self.blocking(move || Ok(argon.hash_password(password.as_bytes()).map_err(broken)?.to_string())).await
    }

    /// Whether the password is the one of `hash`; never without a hash, and no faster then.
    ///
    /// # Errors
    /// [`PasswordError::Busy`] when too many wait.
    pub async fn verify(
        &self,
        password: Zeroizing<String>,
        hash: Option<String>,
    ) -> Result<bool, PasswordError> {
        let argon = self.argon.clone();
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.decoy.to_string());
        let verified = self.verified.clone();
        self.blocking(move || {
            let hash = PasswordHash::new(&hash).map_err(broken)?;
            verified.fetch_add(1, Ordering::Relaxed);
            Ok(argon.verify_password(password.as_bytes(), &hash).is_ok() && known)
        })
        .await
    }

    /// How many passwords were held against a hash, those of nobody counted: the work that a login costs.
    pub fn verified(&self) -> u64 {
        self.verified.load(Ordering::Relaxed)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let Ok(_place) = self.places.try_acquire() else {
            metrics::counter!("directory_refusals_total", "reason" => "passwords_busy").increment(1);
            return Err(PasswordError::Busy);
        };
        let running = self.running.clone().acquire_owned().await.map_err(broken)?;
        tokio::task::spawn_blocking(move || {
            let _running = running;
            work()
        })
        .await
        .map_err(broken)?
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passwords").finish_non_exhaustive()
    }
}

fn broken(error: impl fmt::Display) -> PasswordError {
    PasswordError::Broken(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_password_of_a_known_account_is_right() {
        let passwords = Passwords::cheap_for_tests().unwrap();
        let hash = passwords.hash("correct horse".to_owned().into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$"));
        assert!(passwords.verify("correct horse".to_owned().into(), Some(hash.clone())).await.unwrap());
        assert!(!passwords.verify("wrong horse".to_owned().into(), Some(hash)).await.unwrap());
        assert!(!passwords.verify("correct horse".to_owned().into(), None).await.unwrap());
    }

    #[tokio::test]
    async fn when_too_many_wait_the_next_is_told_to_come_back() {
        let passwords = Passwords::cheap_for_tests().unwrap();
        let cores = u32::try_from(passwords.running.available_permits()).unwrap();
        assert!(cores as usize <= (std::thread::available_parallelism().unwrap().get() / 2).max(1));
        // Nobody is done.
        let busy = passwords.running.clone().acquire_many_owned(cores).await.unwrap();
        let places = passwords.places.available_permits();
        let verify = || passwords.verify("a guess".to_owned().into(), None);
        let mut waiting = Vec::new();
        for _ in 0..places {
            let mut wait = Box::pin(verify());
            assert!(futures::poll!(&mut wait).is_pending());
            waiting.push(wait);
        }
        assert_eq!(verify().await, Err(PasswordError::Busy));
        drop(busy);
        for wait in waiting {
            assert!(!wait.await.unwrap());
        }
        assert!(!verify().await.unwrap());
    }

    #[test]
    fn the_standard_is_what_owasp_asks_for() {
        let passwords = Passwords::standard().unwrap();
        assert!(passwords.decoy.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", passwords.decoy);
    }
}
