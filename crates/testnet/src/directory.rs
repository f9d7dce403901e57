//! A directory in this process: stopped, killed and started again at the same address, on the same data; and one
//! whose answers somebody tampers with on the way.

use std::{net::SocketAddr, sync::Arc};

use axum::{middleware::map_response, response::Response};
use daemon::{Clock, Lifecycle};
use directory::{App, config::Config, passwords::Passwords};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use url::Url;

const MAX_ANSWER: usize = 64 << 20;

/// One directory; while it is down, its address stays its own.
pub struct Directory {
    config: Config,
    address: SocketAddr,
    running: Option<Lifecycle>,
    tampering: Tampering,
}

/// What is put in the place of what, in every answer.
type Tampering = Arc<Mutex<Option<(String, String)>>>;

impl Directory {
    pub(crate) async fn start(config: Config) -> Self {
        let mut directory =
            Self { address: config.listen, config, running: None, tampering: Tampering::default() };
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
        let (serving, tampering) = (lifecycle.clone(), self.tampering.clone());
        let router = directory::http::router(app).layer(map_response(move |answer: Response| {
            let tampering = tampering.clone();
            async move { tampered(answer, &tampering).await }
        }));
        lifecycle.spawn_vital("rest", async move {
            daemon::serve::serve(listener, router, None, &serving).await.unwrap();
        });
        self.running = Some(lifecycle);
    }

    /// From now on every answer has `with` where it had `what`, as JSON writes them.
    pub fn tamper(&self, what: &str, with: &str) {
        let inner = |text: &str| {
            let text = serde_json::to_string(text).unwrap();
            text[1..text.len() - 1].to_owned()
        };
        *self.tampering.lock() = Some((inner(what), inner(with)));
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

async fn tampered(answer: Response, tampering: &Tampering) -> Response {
    let Some((what, with)) = tampering.lock().clone() else { return answer };
    let (mut head, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, MAX_ANSWER).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap().replace(&what, &with);
    head.headers.remove("content-length");
    Response::from_parts(head, body.into())
}
