//! `POST /v1/tickets`: a ticket opens one content for reading, for some hours.
//!
//! A browser's `<video>` and a player that is given a link cannot send a token in a header, and a token in an address
//! would open everything to whoever sees the address. A ticket stands in the address instead: signed by a key that
//! lives as long as this process, good for `GET /v1/content/{content_id}` of that one content. Nothing is remembered
//! about it, so there is nothing to bound.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::hmac::{self, HMAC_SHA256, Key};
use axum::{Json, extract::State};
use content::ContentId;
use http::{Method, StatusCode, Uri};
use serde::Deserialize;
use wire::{
    http::JsonBody,
    rest::pclient::{Ticket, TicketRequest},
};

use super::NoQuery;

/// Long enough for a film with pauses.
const LIFE: Duration = Duration::from_secs(6 * 3600);

/// Writes tickets, and knows its own again. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Tickets {
    key: Arc<Key>,
    born: Instant,
}

/// The query of a call that a ticket opens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WithTicket {
    #[expect(dead_code, reason = "the guard has looked at it; here it is only allowed to be there")]
    ticket: Option<String>,
}

/// `POST /v1/tickets`.
pub(super) async fn issue(
    State(tickets): State<Tickets>,
    _: NoQuery,
    JsonBody(TicketRequest { content_id }): JsonBody<TicketRequest>,
) -> (StatusCode, Json<Ticket>) {
    let ticket = tickets.write(&content_id, Instant::now());
    (StatusCode::CREATED, Json(Ticket { ticket, expires_in: LIFE.as_secs() }))
}

impl Default for Tickets {
    fn default() -> Self {
        let key = Key::new(HMAC_SHA256, &rand::random::<[u8; 32]>());
        Self { key: Arc::new(key), born: Instant::now() }
    }
}

impl Tickets {
    /// Whether the request carries a ticket for just what it asks.
    pub(super) fn open(&self, method: &Method, uri: &Uri, now: Instant) -> bool {
        let content = uri.path().strip_prefix("/v1/content/").and_then(|id| id.parse().ok());
        let ticket = uri.query().and_then(|query| query.strip_prefix("ticket="));
        let reads = matches!(*method, Method::GET | Method::HEAD);
        reads && content.zip(ticket).is_some_and(|(content, ticket)| self.is_good(&content, ticket, now))
    }

    fn write(&self, content: &ContentId, now: Instant) -> String {
        let ends = (now.saturating_duration_since(self.born) + LIFE).as_secs();
        let tag = hmac::sign(&self.key, signed(content, ends).as_bytes());
        format!("{ends}-{}", hex::encode(tag))
    }

    fn is_good(&self, content: &ContentId, ticket: &str, now: Instant) -> bool {
        let Some((ends, tag)) = ticket.split_once('-') else { return false };
        let (Ok(ends), Ok(tag)) = (ends.parse::<u64>(), hex::decode(tag)) else { return false };
        let is_ours = hmac::verify(&self.key, signed(content, ends).as_bytes(), &tag).is_ok();
        is_ours && now.saturating_duration_since(self.born).as_secs() < ends
    }
}

/// What the signature covers: the content, and the second of this process at which the ticket ends.
fn signed(content: &ContentId, ends: u64) -> String {
    format!("{content} {ends}")
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_ticket_opens_its_own_content_for_reading_and_for_a_time() {
        let tickets = Tickets::default();
        let now = Instant::now();
        let (film, other) = (ContentId::of(b"film"), ContentId::of(b"other"));
        let ticket = tickets.write(&film, now);
        let uri = |path: &str, ticket: &str| format!("{path}?ticket={ticket}").parse::<Uri>().unwrap();
        let own = uri(&format!("/v1/content/{film}"), &ticket);
        assert!(tickets.open(&Method::GET, &own, now));
        assert!(tickets.open(&Method::HEAD, &own, now + LIFE / 2));

        assert!(!tickets.open(&Method::DELETE, &own, now), "another method");
        assert!(!tickets.open(&Method::GET, &own, now + LIFE), "too late");
        assert!(!Tickets::default().open(&Method::GET, &own, now), "another process");
        for (path, given) in [
            (format!("/v1/content/{other}"), ticket.clone()),
            (format!("/v1/files/{film}"), ticket.clone()),
            (format!("/v1/content/{film}"), format!("9{ticket}")),
            (format!("/v1/content/{film}"), ticket.replace('-', "")),
            (format!("/v1/content/{film}"), String::new()),
        ] {
            assert!(!tickets.open(&Method::GET, &uri(&path, &given), now), "{path} {given}");
        }
        assert!(
            !tickets.open(&Method::GET, &format!("/v1/content/{film}").parse().unwrap(), now),
            "no ticket"
        );
    }
}
