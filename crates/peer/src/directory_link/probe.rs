//! A look at each directory for the doctor: does it answer, by what clock, and until when its certificate holds.
//!
//! Unlike all other calls this one asks every directory that is set, and raises no doubt about the session.

use std::time::{Duration, Instant};

use http::header;
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};

use super::client::{self, DirectoryClient};
use crate::{Failure, tls};

const LIMIT: Duration = Duration::from_secs(5);

/// One directory, looked at.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) url: String,
    pub(crate) seen: Result<Seen, Failure>,
}

/// What it answered.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) took: Duration,
    /// Whether it says that it can do its work.
    pub(crate) ready: bool,
    /// Its clock, to the second.
    pub(crate) date: Option<Timestamp>,
    /// When its certificate ends, in Unix seconds; none over plain HTTP.
    pub(crate) certificate_until: Option<i64>,
}

impl DirectoryClient {
    /// Looks at each directory.
    pub(crate) async fn probe(&self) -> Vec<Probe> {
        let probing = self.0.bases.iter().map(async |base| {
            let url = client::base_text(base).to_owned();
            let seen = self.look_at(&url).await;
            Probe { url, seen }
        });
        futures::future::join_all(probing).await
    }

    async fn look_at(&self, url: &str) -> Result<Seen, Failure> {
        let asked = Instant::now();
        let asking = self.0.http.get(format!("{url}/readyz")).timeout(LIMIT).send();
        let answer = asking.await.map_err(|error| client::unanswered(url, &error))?;
        let date = answer.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let certificate = answer.extensions().get::<reqwest::tls::TlsInfo>();
        Ok(Seen {
            took: asked.elapsed(),
            ready: answer.status().is_success(),
            date: date.and_then(|date| DateTimeParser::new().parse_timestamp(date).ok()),
            certificate_until: certificate.and_then(|it| it.peer_certificate()).and_then(tls::end_of),
        })
    }
}
