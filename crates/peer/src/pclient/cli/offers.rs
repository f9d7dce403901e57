//! `peer offers`: what others offer, what was offered to them, and the answers.

use serde::de::DeserializeOwned;
use wire::rest::pclient::{Offer, OfferDirection, OfferState, OffersQuery};

use super::{
    AnswerArgs, Exit, OfferCommand, OffersArgs, Stop,
    api::Api,
    screen::{Screen, escaped, size},
};

/// A list is shown whole, within reason.
const ALL: usize = 1_000_000;

pub(super) async fn offers(api: &Api, args: OffersArgs, screen: &mut Screen) -> Result<(), Stop> {
    match args.answer {
        Some(OfferCommand::Accept(ids)) => answer(api, ids, "accept", screen).await,
        Some(OfferCommand::Decline(ids)) => answer(api, ids, "decline", screen).await,
        None => list(api, args, screen).await,
    }
}

async fn list(api: &Api, args: OffersArgs, screen: &mut Screen) -> Result<(), Stop> {
    let direction = if args.sent { OfferDirection::Sent } else { OfferDirection::Received };
    let state = args.state.map(|word| {
        read_word(&word)
            .ok_or_else(|| Stop::new(Exit::Usage, format!("--state: `{word}` is not a state of an offer")))
    });
    let query =
        OffersQuery { direction: Some(direction), state: state.transpose()?, ..OffersQuery::default() };
    let offers: Vec<Offer> = api.all("/v1/offers", &query, ALL).await?;
    if screen.json {
        return screen.json(&offers);
    }
    let row = |offer: &Offer| {
        let state = word(offer.state).to_owned();
        let why = offer.why.as_deref().map(escaped).unwrap_or_default();
        vec![offer.id.clone(), state, other(offer), size(offer.size), escaped(&offer.name), why]
    };
    let rows: Vec<_> = offers.iter().map(row).collect();
    let other = if args.sent { "TO" } else { "FROM" };
    screen.table(&["ID", "STATE", other, "SIZE", "NAME", "WHY"], &[3], &rows)
}

async fn answer(api: &Api, args: AnswerArgs, verb: &str, screen: &mut Screen) -> Result<(), Stop> {
    let mut answered = Vec::new();
    for id in args.ids {
        let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
        let offer: Offer = api.post(&format!("/v1/offers/{id}/{verb}"), &()).await?;
        if !screen.json {
            let line = match &offer.download_id {
                Some(download) => format!("{}: download {download}", escaped(&offer.name)),
                None => format!("{}: {}", escaped(&offer.name), word(offer.state)),
            };
            screen.line(line)?;
        }
        answered.push(offer);
    }
    if screen.json {
        return screen.json(&answered);
    }
    Ok(())
}

/// A sent offer in one line.
pub(super) fn worded(offer: &Offer) -> String {
    let why = offer.why.as_ref().map(|why| format!(": {}", escaped(why))).unwrap_or_default();
    let state = word(offer.state);
    format!("{}  {}  to {}  {state}{why}", escaped(&offer.name), size(offer.size), other(offer))
}

/// Who is on the other side.
fn other(offer: &Offer) -> String {
    match offer.direction {
        OfferDirection::Received => offer.from.username.to_string(),
        OfferDirection::Sent => offer.to.username.to_string(),
    }
}

/// The state as the REST API writes it.
fn word(state: OfferState) -> &'static str {
    match state {
        OfferState::Waiting => "waiting",
        OfferState::Offered => "offered",
        OfferState::Delivered => "delivered",
        OfferState::Accepted => "accepted",
        OfferState::Declined => "declined",
        OfferState::Expired => "expired",
    }
}

fn read_word<T: DeserializeOwned>(word: &str) -> Option<T> {
    serde_json::from_value(word.into()).ok()
}
