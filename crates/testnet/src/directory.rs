//! A directory in this process: stopped, killed and started again at the same address, on the same data.

use std::net::SocketAddr;

use daemon::{Clock, Lifecycle};
use directory::{App, config::Config, passwords::Passwords};
use tokio::net::TcpListener;
use url::Url;

/// One directory; while it is down, its address stays its own.
pub struct Directory {
    config: Config,
    address: SocketAddr,
    running: Option<Lifecycle>,
}

impl Directory {
    pub(crate) async fn start(config: Config) -> Self {
        let mut directory = Self { address: config.listen, config, running: None };
        directory.up().await;
        directory
    }

    pub fn url(&self) -> Url {
        format!("http://{}", self.address).parse().unwrap()
    }

    /// Serves again what its data folder holds.
    pub async fn up(&mut self) {
        assert!(self.running.is_none(), "the directory runs already");
        let app = App::open(&self.config, Clock::system(), Passwords::cheap_for_tests().unwrap()).unwrap();
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let lifecycle = Lifecycle::new();
        let (config, serving) = (self.config.clone(), lifecycle.clone());
        lifecycle.spawn_vital("rest", async move {
            directory::serve(listener, &config, app, &serving).await.unwrap();
        });
        self.running = Some(lifecycle);
    }

    /// Ends in the middle of whatever it does.
    pub async fn kill(&mut self) {
        if let Some(lifecycle) = self.running.take() {
            lifecycle.hard().cancel();
            lifecycle.finish().await;
        }
    }

    /// Ends in order.
    pub async fn stop(&mut self) {
        if let Some(lifecycle) = self.running.take() {
            lifecycle.finish().await;
        }
    }
}
