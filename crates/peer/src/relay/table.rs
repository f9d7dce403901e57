//! [`Table`]: the questions that wait for answers, and the task that brings each answer to its question.
//!
//! What came is acknowledged as soon as it has its place here: how much may be under way is decided when it is asked
//! for, and a question has room for what it asked for and a little more. (Were a piece acknowledged only when it is
//! used, those that came too early could fill the consumer's prefetch, and the one that all wait for would not come.)
//! When the connection to the broker is lost, the queue of answers is lost with it, and every question that waited on
//! it fails at once.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use wire::PeerId;

use super::{
    broker::RelayState,
    message::{AnswerQueue, Incoming, MessageId, Route},
    refused::Refused,
};

/// Questions that wait at once.
const MOST: usize = 4_096;

#[derive(Debug, Default)]
pub(crate) struct Table {
    waiting: Mutex<HashMap<MessageId, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    peer: PeerId,
    queue: AnswerQueue,
    /// Bytes that may still come, all messages together.
    room: usize,
    answers: mpsc::Sender<Vec<u8>>,
}

/// How much may come as an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// A question's place in the table, and what comes for it. Dropping it ends the waiting.
#[derive(Debug)]
pub(crate) struct Entry {
    table: Arc<Table>,
    id: MessageId,
    coming: mpsc::Receiver<Vec<u8>>,
}

impl Table {
    /// Waits for at most so many answers; `None` where too many questions wait already.
    pub(crate) fn wait(
        self: &Arc<Self>,
        id: MessageId,
        peer: PeerId,
        queue: AnswerQueue,
        most: Most,
    ) -> Option<Entry> {
        let (answers, coming) = mpsc::channel(most.messages);
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MOST {
            return None;
        }
        waiting.insert(id, Waiting { peer, queue, room: most.bytes, answers });
        show(&waiting);
        Some(Entry { table: self.clone(), id, coming })
    }

    /// Puts an answer where it belongs.
    fn put(&self, answer: &mut Incoming) -> Result<(), Refused> {
        let (Route::Answer(_), Some(id)) = (answer.route, answer.correlation_id) else {
            return Err(Refused::Misplaced);
        };
        let mut waiting = self.waiting.lock();
        let question = waiting.get_mut(&id).ok_or(Refused::NobodyAsks)?;
        if question.peer != answer.from {
            return Err(Refused::Misplaced);
        }
        let body = std::mem::take(&mut answer.body);
        // What waits to be read is memory that somebody else fills.
        let room = question.room.checked_sub(body.len()).ok_or(Refused::TooMuch)?;
        question.answers.try_send(body).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::TooMany,
            mpsc::error::TrySendError::Closed(_) => Refused::NobodyAsks,
        })?;
        question.room = room;
        Ok(())
    }

    /// Fails the questions to a peer that says that it will not answer them.
    pub(super) fn lost_by(&self, peer: PeerId) {
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, question| question.peer != peer);
        show(&waiting);
    }

    /// Fails the questions whose answers would come in at another queue than `present`.
    fn lost(&self, present: Option<AnswerQueue>) {
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, question| Some(question.queue) == present);
        show(&waiting);
    }
}

/// Brings answers to their questions until the stop.
pub(crate) async fn bring_answers(
    table: Arc<Table>,
    mut answers: mpsc::Receiver<Incoming>,
    mut state: watch::Receiver<RelayState>,
    soft: CancellationToken,
) {
    loop {
        tokio::select! {
            answer = answers.recv() => {
                let Some(mut answer) = answer else { break };
                if let Err(refused) = table.put(&mut answer) {
                    refused.count();
                }
                answer.receipt.done().await;
            }
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

fn show(waiting: &HashMap<MessageId, Waiting>) {
    metrics::gauge!("trueque_relay_questions_waiting").set(waiting.len() as f64);
}

impl Entry {
    /// The next answer as it comes; `None` when none can come any more.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        self.coming.recv().await
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut waiting = self.table.waiting.lock();
        waiting.remove(&self.id);
        show(&waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::broker::Receipt;

    const ANA: PeerId = PeerId::from_bytes([1; 16]);
    const BETO: PeerId = PeerId::from_bytes([2; 16]);
    const HERE: AnswerQueue = [3; 8];

    fn most(messages: usize) -> Most {
        Most { messages, bytes: 16 }
    }

    fn answer(from: PeerId, to: Option<MessageId>, body: &[u8]) -> Incoming {
        Incoming {
            from,
            route: Route::Answer(HERE),
            message_id: [0; 16],
            correlation_id: to,
            answer_to: None,
            trace: None,
            redelivered: false,
            body: body.to_vec(),
            receipt: Receipt::of_none(),
        }
    }

    #[tokio::test]
    async fn what_a_peer_has_lost_fails_and_nobody_elses() {
        let table = Arc::new(Table::default());
        let mut of_ana = table.wait([1; 16], ANA, HERE, most(2)).unwrap();
        let mut of_beto = table.wait([2; 16], BETO, HERE, most(2)).unwrap();
        table.lost_by(ANA);
        assert_eq!(of_ana.next().await, None);
        assert_eq!(table.put(&mut answer(BETO, Some([2; 16]), b"b")), Ok(()));
        assert_eq!(of_beto.next().await, Some(b"b".to_vec()));
    }

    #[tokio::test]
    async fn answers_come_to_their_question_and_no_more_than_it_takes() {
        let table = Arc::new(Table::default());
        let mut one = table.wait([1; 16], ANA, HERE, most(2)).unwrap();
        let mut two = table.wait([2; 16], BETO, HERE, most(2)).unwrap();
        let put = |from, to, body| table.put(&mut answer(from, to, body));
        assert_eq!(put(ANA, Some([1; 16]), b"a"), Ok(()));
        assert_eq!(put(BETO, Some([2; 16]), b"b"), Ok(()));
        assert_eq!(put(BETO, Some([1; 16]), b"c"), Err(Refused::Misplaced), "by another than was asked");
        assert_eq!(put(ANA, Some([3; 16]), b"d"), Err(Refused::NobodyAsks));
        assert_eq!(put(ANA, None, b"e"), Err(Refused::Misplaced));
        assert_eq!(put(ANA, Some([1; 16]), b"f"), Ok(()));
        assert_eq!(put(ANA, Some([1; 16]), b"g"), Err(Refused::TooMany));
        assert_eq!((one.next().await.unwrap(), two.next().await.unwrap()), (b"a".to_vec(), b"b".to_vec()));
        drop(one);
        assert_eq!(put(ANA, Some([1; 16]), b"h"), Err(Refused::NobodyAsks), "nobody waits any more");
    }

    #[tokio::test]
    async fn a_connection_that_is_lost_ends_the_waiting_and_a_block_does_not() {
        let table = Arc::new(Table::default());
        let on = |answers, blocked| RelayState::On { answers, blocked, server: "amqp://broker".into() };
        let (state, seen) = watch::channel(on(HERE, None));
        let (sender, answers) = mpsc::channel(1);
        let soft = CancellationToken::new();
        let bringing = bring_answers(table.clone(), answers, seen, soft.clone());
        let looking = async {
            let mut question = table.wait([1; 16], ANA, HERE, most(2)).unwrap();
            state.send_replace(on(HERE, Some("memory".to_owned())));
            sender.send(answer(ANA, Some([1; 16]), b"a")).await.unwrap();
            assert_eq!(question.next().await, Some(b"a".to_vec()));
            state.send_replace(on([4; 8], None));
            assert_eq!(question.next().await, None, "its queue is gone");
            let mut question = table.wait([2; 16], ANA, [4; 8], most(2)).unwrap();
            state.send_replace(RelayState::Away { why: String::new() });
            assert_eq!(question.next().await, None);
            let mut question = table.wait([3; 16], ANA, [4; 8], most(2)).unwrap();
            soft.cancel();
            assert_eq!(question.next().await, None, "the stop ends the waiting too");
        };
        tokio::join!(bringing, looking);
    }

    #[test]
    fn an_answer_has_no_more_bytes_than_were_asked_for() {
        let table = Arc::new(Table::default());
        let _question = table.wait([1; 16], ANA, HERE, most(9)).unwrap();
        let put = |length| table.put(&mut answer(ANA, Some([1; 16]), &vec![0; length]));
        assert_eq!(put(17), Err(Refused::TooMuch));
        assert_eq!(
            (put(10), put(7), put(6), put(1)),
            (Ok(()), Err(Refused::TooMuch), Ok(()), Err(Refused::TooMuch))
        );
    }

    #[test]
    fn it_is_bounded() {
        let table = Arc::new(Table::default());
        let id = |n: usize| (n as u128).to_be_bytes();
        let waiting: Vec<_> = (0..MOST).map(|n| table.wait(id(n), ANA, HERE, most(1)).unwrap()).collect();
        assert!(table.wait(id(MOST), ANA, HERE, most(1)).is_none());
        drop(waiting);
        assert!(table.wait(id(MOST), ANA, HERE, most(1)).is_some());
    }
}
