//! [`Table`]: the questions that wait for answers, and the task that brings each answer to its question.
//!
//! A piece that came is acknowledged when whoever asked for it comes back for the next one: so much and no more is
//! under way. Small answers are acknowledged as they come, or a reader that dawdles would hold up everybody else's
//! pieces. When the connection to the broker is lost, the queue of answers is lost with it, and every question that
//! waited on it fails at once.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use wire::PeerId;

use super::{
    broker::{Receipt, RelayState},
    message::{AnswerQueue, Incoming, MessageId, Route},
    refused::Refused,
};

/// Questions that wait at once.
const MOST: usize = 4_096;
/// Answers of at most this size are acknowledged as they come.
const SMALL: usize = 32 << 10;
/// Ended questions that wait to be tidied up after. More than that are handed out again by the broker.
const MOST_LEFTOVERS: usize = 256;

/// An answer on its way to its question, and what has to be said when it was taken.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) body: Vec<u8>,
    pub(crate) receipt: Option<Receipt>,
}

#[derive(Debug)]
pub(crate) struct Table {
    waiting: Mutex<HashMap<MessageId, Waiting>>,
    leftovers: mpsc::Sender<Leftovers>,
}

#[derive(Debug)]
struct Waiting {
    peer: PeerId,
    queue: AnswerQueue,
    answers: mpsc::Sender<Arrived>,
}

/// What a question leaves behind when nobody waits for it any more.
type Leftovers = Vec<Receipt>;

/// A question's place in the table, and what comes for it. Dropping it ends the waiting.
#[derive(Debug)]
pub(crate) struct Entry {
    table: Arc<Table>,
    id: MessageId,
    coming: mpsc::Receiver<Arrived>,
    /// Messages that are here, but not dealt with.
    held: Vec<Receipt>,
}

impl Table {
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<Leftovers>) {
        let (leftovers, tidying) = mpsc::channel(MOST_LEFTOVERS);
        (Arc::new(Self { waiting: Mutex::default(), leftovers }), tidying)
    }

    /// Waits for at most `most` answers; `None` where too many questions wait already.
    pub(crate) fn wait(
        self: &Arc<Self>,
        id: MessageId,
        peer: PeerId,
        queue: AnswerQueue,
        most: usize,
    ) -> Option<Entry> {
        let (answers, coming) = mpsc::channel(most);
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MOST {
            return None;
        }
        waiting.insert(id, Waiting { peer, queue, answers });
        metrics::gauge!("trueque_relay_questions_waiting").set(waiting.len() as f64);
        Some(Entry { table: self.clone(), id, coming, held: Vec::new() })
    }

    /// Tidies up after a question that nobody waits for any more.
    fn tidy_up(&self, leftovers: Leftovers) {
        // Without a place in the queue they are dropped, and then the broker hands them out again.
        let _full_or_stopping = self.leftovers.try_send(leftovers);
    }

    /// Where the answer belongs.
    fn route(&self, answer: &Incoming) -> Result<mpsc::Sender<Arrived>, Refused> {
        let (Route::Answer(_), Some(id)) = (answer.route, answer.correlation_id) else {
            return Err(Refused::Misplaced);
        };
        let waiting = self.waiting.lock();
        let waiting = waiting.get(&id).ok_or(Refused::NobodyAsks)?;
        if waiting.peer == answer.from { Ok(waiting.answers.clone()) } else { Err(Refused::Misplaced) }
    }

    async fn arrived(&self, answer: Incoming) {
        metrics::counter!("trueque_relay_received_bytes_total").increment(answer.body.len() as u64);
        let to = match self.route(&answer) {
            Ok(to) => to,
            Err(refused) => {
                refused.count();
                return answer.receipt.done().await;
            }
        };
        let Incoming { body, receipt, .. } = answer;
        let small = body.len() <= SMALL;
        let (now, later) = if small { (Some(receipt), None) } else { (None, Some(receipt)) };
        if let Some(receipt) = now {
            receipt.done().await;
        }
        // As many fit as were asked for, and some more.
        if let Err(refused) = to.try_send(Arrived { body, receipt: later }) {
            let closed = matches!(refused, mpsc::error::TrySendError::Closed(_));
            if closed { Refused::NobodyAsks } else { Refused::TooMany }.count();
            if let Some(receipt) = refused.into_inner().receipt {
                receipt.done().await;
            }
        }
    }

    /// Fails the questions whose answers would come in at another queue than `present`.
    fn lost(&self, present: Option<AnswerQueue>) {
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, question| Some(question.queue) == present);
        metrics::gauge!("trueque_relay_questions_waiting").set(waiting.len() as f64);
    }
}

/// Brings answers to their questions until the stop.
pub(crate) async fn bring_answers(
    table: Arc<Table>,
    mut answers: mpsc::Receiver<Incoming>,
    mut leftovers: mpsc::Receiver<Leftovers>,
    mut state: watch::Receiver<RelayState>,
    soft: CancellationToken,
) {
    loop {
        tokio::select! {
            answer = answers.recv() => match answer {
                Some(answer) => table.arrived(answer).await,
                None => break,
            },
            Some(receipts) = leftovers.recv() => for receipt in receipts {
                receipt.done().await;
            },
            changed = state.changed() => {
                table.lost(answers_at(&state.borrow_and_update()));
                if changed.is_err() {
                    break;
                }
            }
            () = soft.cancelled() => break,
        }
    }
    table.lost(None);
}

/// Where answers come in now.
pub(crate) fn answers_at(state: &RelayState) -> Option<AnswerQueue> {
    match state {
        RelayState::On { answers, .. } => Some(*answers),
        RelayState::Off { .. } | RelayState::Away { .. } => None,
    }
}

impl Entry {
    /// The next answer as it comes; `None` when none can come any more.
    pub(crate) async fn next(&mut self) -> Option<Arrived> {
        self.coming.recv().await
    }

    /// Leaves it to the table to say that these were dealt with.
    pub(crate) fn leave(&mut self, receipts: impl IntoIterator<Item = Receipt>) {
        self.held.extend(receipts);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        {
            let mut waiting = self.table.waiting.lock();
            waiting.remove(&self.id);
            metrics::gauge!("trueque_relay_questions_waiting").set(waiting.len() as f64);
        }
        self.coming.close();
        let mut left = std::mem::take(&mut self.held);
        while let Ok(arrived) = self.coming.try_recv() {
            left.extend(arrived.receipt);
        }
        if !left.is_empty() {
            self.table.tidy_up(left);
        }
    }
}
