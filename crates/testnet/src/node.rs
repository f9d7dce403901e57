//! [`Peer`]: a whole peer in this process.

use std::{
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use content::ContentId;
use daemon::{Clock, Lifecycle};
use peer::{
    app::{App, Doors},
    config::Settings,
    link::Links,
};

use crate::Api;

const STOP_LIMIT: Duration = Duration::from_secs(9);

/// A peer that runs; its [`Api`] is its own.
pub struct Peer {
    pub settings: Settings,
    api: Api,
    app: App,
    lifecycle: Lifecycle,
}

impl Deref for Peer {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.api
    }
}

impl Peer {
    pub(crate) async fn start(settings: Settings) -> Self {
        let peer = Self::begin(settings).await;
        if peer.settings.username.is_some() {
            peer.connected().await;
        }
        peer
    }

    pub(crate) async fn begin(settings: Settings) -> Self {
        let lifecycle = Lifecycle::new();
        let doors = Doors::open(&settings).await.unwrap();
        let app = App::start(&settings, doors, Clock::system(), &lifecycle).await.unwrap();
        let api = Api::new(app.pclient_listen, settings.share_dirs[0].clone());
        Self { settings, api, app, lifecycle }
    }

    /// Where its door for other peers really is.
    pub fn pserver(&self) -> SocketAddr {
        self.app.pserver_listen.unwrap()
    }

    pub fn share_dir(&self) -> &Path {
        &self.settings.share_dirs[0]
    }

    pub fn download_dir(&self) -> &Path {
        &self.settings.download_dir
    }

    /// Where a content lies while it arrives.
    pub fn part(&self, id: ContentId) -> PathBuf {
        self.download_dir().join(format!(".trueque-{id}.part"))
    }

    /// Its ways out to other peers.
    pub fn links(&self) -> &Links {
        &self.app.core.links
    }

    /// Bytes that it has sent to other peers since it started.
    pub fn sent(&self) -> u64 {
        self.app.core.sent.total()
    }

    /// Stops in order, and in time.
    pub async fn end(self) -> Settings {
        let Self { settings, api, app, lifecycle } = self;
        drop((api, app));
        let started = Instant::now();
        lifecycle.finish().await;
        assert_eq!(lifecycle.failed_task(), None, "a vital task ended by itself");
        assert!(started.elapsed() < STOP_LIMIT, "the stop took {:?}", started.elapsed());
        settings
    }

    /// Ends at once: nobody is told, nothing is put in order.
    pub async fn kill(self) -> Settings {
        let Self { settings, api, app, lifecycle } = self;
        lifecycle.hard().cancel();
        drop((api, app));
        lifecycle.finish().await;
        settings
    }

    /// As [`Self::again`], and not waited for until it is logged in.
    pub async fn again_unconnected(settings: Settings) -> Self {
        Self::begin(settings).await
    }

    /// Starts again on the folders that another one left.
    pub async fn again(settings: Settings) -> Self {
        Self::start(settings).await
    }
}
