//! What none of the receiver's machines took is left for them at the relay, where there is one, and what they say to it
//! when they find it is heard, days later perhaps.
//!
//! It still waits here, too: whoever comes while this peer is on is told directly, and the letter that they find beside
//! it is the same offer.

use daemon::Lifecycle;
use tokio::sync::mpsc;
use wire::{
    PeerId,
    rest::{
        directory::PeerItem,
        pclient::{OfferDirection, OfferState},
    },
};

use super::{
    Offers,
    deliver::{Delivery, message_of, settle},
};
use crate::{
    Failure,
    link::Target,
    mail::OfferAnswered,
    store::offers::{self as table, OfferRow},
};

/// Machines of one user for which an offer is left.
const LETTERS: usize = 8;

/// The machines of one user for which something may be left.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    machines: Vec<Target>,
    /// One of them takes no more: what is said of it goes for the next offers too.
    full: Option<String>,
}

impl Outbox {
    /// The machines, without those that have just answered; the last ones seen first.
    pub(super) fn without(machines: &[PeerItem], told: &[(PeerId, Delivery)]) -> Self {
        let answered = |peer: PeerId| {
            told.iter().any(|(by, said)| *by == peer && !matches!(said, Delivery::NotReached(_)))
        };
        let mut machines: Vec<&PeerItem> = machines.iter().filter(|m| !answered(m.peer_id)).collect();
        machines.sort_by_key(|machine| std::cmp::Reverse((machine.last_seen, machine.peer_id)));
        Self { machines: machines.into_iter().take(LETTERS).map(Target::from).collect(), full: None }
    }

    /// Whether there is still room, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.machines.is_empty() && self.full.is_none()
    }
}

pub(super) fn spawn(offers: &Offers, mut answered: mpsc::Receiver<OfferAnswered>, lifecycle: &Lifecycle) {
    let (offers, soft) = (offers.clone(), lifecycle.soft());
    lifecycle.spawn("answers to offers by mail", async move {
        while let Some(Some(answer)) = soft.run_until_cancelled(answered.recv()).await {
            let OfferAnswered { token, by, answer, receipt } = answer;
            match offers.heard(token, by, answer).await {
                Ok(()) => receipt.done().await,
                Err(error) => {
                    tracing::warn!(%error, "what was said to an offer could not be kept");
                    receipt.refuse(true).await;
                }
            }
        }
    });
}

impl Offers {
    /// Leaves an offer that waits for each machine of the outbox. The row with what there is to say about it.
    pub(super) async fn leave(&self, row: OfferRow, outbox: &mut Outbox) -> OfferRow {
        let Some(mail) = self.parts().mail.as_ref().filter(|_| !outbox.machines.is_empty()) else {
            return row;
        };
        let offer = message_of(&row);
        let (mut lies, mut trouble) = (false, outbox.full.clone());
        if trouble.is_none() {
            for machine in &outbox.machines {
                match mail.leave_offer(machine, &offer).await {
                    Ok(()) => lies = true,
                    Err(why) => trouble = Some(why),
                }
            }
        }
        let told = row.why.clone().unwrap_or_else(|| format!("{} is offline", row.username));
        let why = match trouble {
            _ if lies => format!("{told}; it waits for them at the relay"),
            Some(why) => {
                let said = format!("{told}; it waits here until both are on: {why}");
                outbox.full = Some(why);
                said
            }
            None => told,
        };
        OfferRow { why: Some(why), ..row }
    }

    /// A machine found the offer that was left for it, and says what became of it.
    async fn heard(
        &self,
        token: [u8; 16],
        by: PeerId,
        answer: Result<wire::proto::OfferAnswer, Failure>,
    ) -> Result<(), Failure> {
        let row = self.parts().store.read(|c| table::by_token(c, OfferDirection::Sent, &token))?;
        let Some(row) = row.filter(|row| row.state == OfferState::Waiting) else { return Ok(()) };
        let delivery = match answer {
            Ok(answer) => Delivery::Delivered(answer),
            Err(failure) => Delivery::Refused(failure),
        };
        let settled = settle(&row, vec![(by, delivery)]);
        let settled = self.advance(&row, settled).await?;
        match &self.parts().mail {
            Some(mail) if settled.state != OfferState::Waiting => mail.forget_offer(token).await,
            _ => Ok(()),
        }
    }
}
