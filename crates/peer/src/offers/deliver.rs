//! Telling one machine of one offer, and what a round of that says of the offer.

use std::cmp::Reverse;

use content::{ContentId, Layout, SafeName};
use wire::{
    ErrorCode, PeerId,
    proto::{self, OfferAnswer},
    rest::pclient::OfferState,
};

use crate::{
    Failure,
    link::{LinkError, Links, Target},
    store::offers::OfferRow,
};

/// The ways to a peer: a failure closes one, so more attempts than ways lead nowhere.
const WAYS: usize = 3;

/// What came of telling one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivery {
    /// It knows of the offer, and says what became of it.
    Delivered(OfferAnswer),
    /// It answered that it does not take the offer.
    Refused(Failure),
    /// Nobody answered.
    NotReached(String),
}

/// What another peer shows of one of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) token: [u8; 16],
    pub(crate) content_id: ContentId,
    pub(crate) name: SafeName,
    pub(crate) size: u64,
}

/// Reads an offer.
///
/// # Errors
/// `invalid_argument` for what no catalog would hold.
pub(crate) fn read(offer: &proto::OfferRequest) -> Result<Shown, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::invalid(error.to_string());
    Ok(Shown {
        token: offer
            .offer_id
            .as_ref()
            .try_into()
            .map_err(|_| Failure::invalid("an offer id has 16 bytes"))?,
        content_id: ContentId::try_from(offer.content_id.as_ref())
            .map_err(|_| Failure::invalid("a content id has 32 bytes"))?,
        name: SafeName::new(&offer.name).map_err(|error| wrong(&error))?,
        size: Layout::new(offer.size).map_err(|error| wrong(&error))?.size(),
    })
}

/// Tells one machine of an offer, by the best way that is open.
///
/// This is the whole sending side. What is to happen to an offer for a machine that is off belongs here, in the place
/// of [`Delivery::NotReached`]; until then the offer waits in the sender's own store.
pub(super) async fn deliver(links: &Links, offer: &proto::OfferRequest, target: &Target) -> Delivery {
    let mut why = String::new();
    for _ in 0..WAYS {
        let link = match links.get(target, 0).await {
            Ok(link) => link,
            Err(error) => return Delivery::NotReached(error.to_string()),
        };
        match link.offer(offer.clone()).await {
            Ok(reply) => {
                links.succeeded(target.peer_id, link.rung());
                return Delivery::Delivered(reply.answer());
            }
            Err(LinkError::Answered(failure)) => {
                links.succeeded(target.peer_id, link.rung());
                return Delivery::Refused(failure);
            }
            Err(error) => {
                links.failed(target, link.rung());
                why = error.to_string();
            }
        }
    }
    Delivery::NotReached(why)
}

/// The offer after a round in which the machines of its receiver that are online, if any, were told.
pub(super) fn settle(row: &OfferRow, told: Vec<(PeerId, Delivery)>) -> OfferRow {
    let waits = |why: String| OfferRow { state: OfferState::Waiting, why: Some(why), ..row.clone() };
    let Some((peer, best)) = told.into_iter().min_by_key(|(_, delivery)| rank(delivery)) else {
        return waits(format!("{} is offline", row.username));
    };
    match best {
        Delivery::Delivered(answer) => {
            OfferRow { state: state_of(answer), peer_id: Some(peer), why: None, ..row.clone() }
        }
        Delivery::Refused(failure) if is_final(failure.code) => OfferRow {
            state: OfferState::Declined,
            peer_id: Some(peer),
            why: Some(format!("their peer refused it: {failure}")),
            ..row.clone()
        },
        Delivery::Refused(failure) => waits(format!("their peer does not take it now: {failure}")),
        Delivery::NotReached(why) => {
            tracing::debug!(peer.id = %peer, why, "a peer that is online could not be told of an offer");
            waits(format!("{} is online and cannot be reached", row.username))
        }
    }
}

/// What one machine says against the others: the user's own word, then that it is shown to them, then a refusal.
fn rank(delivery: &Delivery) -> Reverse<u8> {
    Reverse(match delivery {
        Delivery::Delivered(OfferAnswer::Accepted) => 6,
        Delivery::Delivered(OfferAnswer::Declined) => 5,
        Delivery::Delivered(OfferAnswer::Open | OfferAnswer::Unspecified) => 4,
        Delivery::Delivered(OfferAnswer::Expired) => 3,
        Delivery::Refused(failure) if !is_final(failure.code) => 2,
        Delivery::Refused(_) => 1,
        Delivery::NotReached(_) => 0,
    })
}

/// Whether telling the same again would get the same answer.
fn is_final(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::InvalidArgument
            | ErrorCode::TooLarge
            | ErrorCode::PermissionDenied
            | ErrorCode::Unprocessable
    )
}

fn state_of(answer: OfferAnswer) -> OfferState {
    match answer {
        OfferAnswer::Accepted => OfferState::Accepted,
        OfferAnswer::Declined => OfferState::Declined,
        OfferAnswer::Expired => OfferState::Expired,
        // A later program may know more answers; it was told, at least.
        OfferAnswer::Open | OfferAnswer::Unspecified => OfferState::Delivered,
    }
}

/// As it goes to the other side.
pub(super) fn message_of(row: &OfferRow) -> proto::OfferRequest {
    proto::OfferRequest {
        offer_id: row.token.to_vec().into(),
        content_id: row.content_id.as_bytes().to_vec().into(),
        name: row.name.to_string(),
        size: row.size,
    }
}

/// What the other side is told of an offer of theirs.
pub(super) fn answer_of(state: OfferState) -> OfferAnswer {
    match state {
        OfferState::Accepted => OfferAnswer::Accepted,
        OfferState::Declined => OfferAnswer::Declined,
        OfferState::Expired => OfferAnswer::Expired,
        OfferState::Waiting | OfferState::Offered | OfferState::Delivered => OfferAnswer::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offers::tests::sent_row;

    #[test]
    fn the_best_that_a_machine_said_counts() {
        let row = sent_row();
        let (one, two) = (PeerId::from_bytes([1; 16]), PeerId::from_bytes([2; 16]));
        let refused = |code| Delivery::Refused(Failure::new(code, "no"));
        let gone = || Delivery::NotReached("gone".to_owned());
        let open = || Delivery::Delivered(OfferAnswer::Open);
        for (told, state, peer, why) in [
            (vec![], OfferState::Waiting, None, Some("ben is offline")),
            (vec![gone()], OfferState::Waiting, None, Some("ben is online and cannot be reached")),
            (vec![gone(), open()], OfferState::Delivered, Some(two), None),
            (vec![open(), Delivery::Delivered(OfferAnswer::Accepted)], OfferState::Accepted, Some(two), None),
            (vec![refused(ErrorCode::RateLimited), open()], OfferState::Delivered, Some(two), None),
            (
                vec![refused(ErrorCode::RateLimited), refused(ErrorCode::InvalidArgument)],
                OfferState::Waiting,
                None,
                Some("their peer does not take it now: no"),
            ),
            (
                vec![refused(ErrorCode::MethodNotAllowed)],
                OfferState::Waiting,
                None,
                Some("their peer does not take it now: no"),
            ),
            (
                vec![gone(), refused(ErrorCode::InvalidArgument)],
                OfferState::Declined,
                Some(two),
                Some("their peer refused it: no"),
            ),
        ] {
            let told: Vec<_> = [one, two].into_iter().zip(told).collect();
            let settled = settle(&row, told.clone());
            assert_eq!(
                (settled.state, settled.peer_id, settled.why.as_deref()),
                (state, peer, why),
                "{told:?}"
            );
        }
    }
}
