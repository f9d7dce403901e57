//! `GET /v1/events`: what happens, as server-sent events.
//!
//! Without `Last-Event-ID` a listener first gets the present status; with it, what it missed, as far as it is kept.
//! The stream ends when the peer stops, so that an open page does not hold up the stop.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::sse::{Event as SseEvent, KeepAlive, Sse},
};
use futures::{Stream, StreamExt, stream};
use http::HeaderMap;
use wire::{http::Problem, rest::pclient::Event};

use super::{NoQuery, Pclient};
use crate::events::{EventId, Numbered};

/// Comments in between, so that a listener that is gone is noticed and proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn listen(
    State(pclient): State<Pclient>,
    _: NoQuery,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>, Problem> {
    let last: Option<EventId> = match headers.get("last-event-id") {
        None => None,
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.parse().ok());
            Some(id.ok_or_else(|| Problem::invalid("`Last-Event-ID` is not one that this API gave"))?)
        }
    };
    // Listening begins before the status is read: nothing falls between.
    let coming = pclient.events.listen(last);
    let present = last.is_none().then(|| to_sse(None, &Event::Status(Box::new(pclient.status()))));
    let coming = coming.map(|Numbered { id, event }| to_sse(Some(id), &event));
    let stop = pclient.stop.clone().cancelled_owned();
    let all = stream::iter(present).chain(coming).take_until(stop).map(Ok);
    Ok(Sse::new(all).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn to_sse(id: Option<EventId>, event: &Event) -> SseEvent {
    let name = match event {
        Event::Download(_) => "download",
        Event::DownloadRemoved { .. } => "download_removed",
        Event::File(_) => "file",
        Event::Offer(_) => "offer",
        Event::Peer { .. } => "peer",
        Event::Status(_) => "status",
    };
    // JSON has no line breaks, which is all that could go wrong in here.
    let sse = SseEvent::default().event(name).data(serde_json::to_string(event).unwrap_or_default());
    match id {
        Some(id) => sse.id(id.to_string()),
        None => sse,
    }
}

#[cfg(test)]
mod unit {
    use axum::response::IntoResponse;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn nothing_in_an_event_makes_up_another() {
        let evil = "7\n\nevent: status\ndata: {}\r\n\rid: 9\u{2028}".to_owned();
        let event = to_sse(None, &Event::DownloadRemoved { id: evil });
        let answer = Sse::new(stream::iter([Ok::<_, Infallible>(event)])).into_response();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        let fields = |name: &str| text.split(['\n', '\r']).filter(|line| line.starts_with(name)).count();
        assert_eq!((fields("event:"), fields("data:"), fields("id:")), (1, 1, 0), "{text}");
    }
}
