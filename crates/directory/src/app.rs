//! [`App`]: everything that a request may need, and nothing that belongs to one request.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use daemon::{Clock, addresses::Proxies};
use secrecy::SecretString;
use tokio::sync::Semaphore;

use crate::{
    authority::Authority,
    broker::Broker,
    catalog::{Catalog, sqlite::SqliteCatalog},
    config::{Config, Registration},
    cursors::Cursors,
    leases,
    limits::{Limits, Rates},
    passwords::Passwords,
};

/// Bytes of deltas that are read and written at the same time.
const MAX_DELTA_BYTES: usize = 128 << 20;

/// The state behind the routes.
#[derive(Debug)]
pub struct App {
    pub(crate) catalog: Arc<dyn Catalog>,
    pub(crate) authority: Authority,
    pub(crate) passwords: Passwords,
    pub(crate) clock: Clock,
    pub(crate) lease: Duration,
    pub(crate) registration: Registration,
    pub(crate) broker: Option<Broker>,
    pub(crate) admin_token: Option<SecretString>,
    pub(crate) registrations: Limits,
    pub(crate) logins: Limits,
    pub(crate) rates: Rates,
    pub(crate) proxies: Proxies,
    /// A permit for each byte.
    pub(crate) deltas: Semaphore,
    pub(crate) cursors: Cursors,
}

impl App {
    /// Opens the data folder.
    ///
    /// # Errors
    /// What in the folder cannot be made or read.
    pub fn open(config: &Config, clock: Clock, passwords: Passwords) -> anyhow::Result<Arc<Self>> {
        let named = || format!("DIRECTORY_DATA_DIR: {}", config.data_dir.display());
        Self::in_folder(config, clock, passwords).with_context(named)
    }

    fn in_folder(config: &Config, clock: Clock, passwords: Passwords) -> anyhow::Result<Arc<Self>> {
        // The authority first: it makes the folder, private.
        let authority = Authority::open(&config.data_dir, clock.millis())?;
        let cursors = Cursors::new(&authority.secret_for("cursors"))?;
        let broker = match config.broker()? {
            Some(address) => Some(Broker::open(address, &config.data_dir)?),
            None => None,
        };
        let catalog = Arc::new(SqliteCatalog::open(&config.data_dir)?.within(config.bounds.catalog()));
        Ok(Arc::new(Self {
            catalog,
            authority,
            passwords,
            clock,
            lease: config.lease,
            registration: config.registration,
            broker,
            admin_token: config.admin_token.clone(),
            registrations: Limits::new("register"),
            logins: Limits::new("login"),
            rates: Rates::new(config.bounds.address_rate_limit, config.bounds.rate_limit),
            proxies: config.bounds.trusted_proxies.clone(),
            deltas: Semaphore::new(MAX_DELTA_BYTES),
            cursors,
        }))
    }

    /// The time, and the end of a lease that begins now, in milliseconds since 1970.
    pub(crate) fn lease_from_now(&self) -> (i64, i64) {
        let now = self.clock.millis();
        (now, leases::until(now, self.lease))
    }

    /// Whether peers can be asked through the relay.
    pub(crate) fn relay(&self) -> bool {
        self.broker.is_some()
    }
}
