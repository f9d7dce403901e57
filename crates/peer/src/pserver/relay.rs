//! The relay's side of every question: the seal says who asks, the service answers, and the answers go back sealed.
//!
//! The same questions as over gRPC get the same answers, in the same words; only how they are cut into messages is the
//! relay's own. An asker takes so many messages and no more, so an answer that is longer ends with "more", and whoever
//! still wants it asks again. A question is acknowledged when it was opened: its queue lives no longer than our connection,
//! so nobody would hand it out again. If this process ends before the answer does, the asker notices the silence.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use content::{ContentId, PIECE_SIZE};
use daemon::Lifecycle;
use futures::future::BoxFuture;
use prost::Message;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use wire::{
    ErrorCode,
    proto::{self, question::Ask},
};

use super::{
    grpc::{LIST_PAGE, content_id},
    refuse, sent,
    small::SmallFiles,
    traced,
};
use crate::{
    Failure,
    link::Rung,
    relay::{
        Kind, Limits, Relay,
        message::Incoming,
        open::{Asked, Terms},
        sink::{AnswerSink, Gone},
    },
    service::Service,
    tls::Caller,
};

/// Questions that are being answered; more are told to come again.
const MAX_QUESTIONS: usize = 64;
/// Questions that were taken from the broker: those, and those that are being opened or refused.
const MAX_TAKEN: usize = 2 * MAX_QUESTIONS;
/// `Watch` is a question that mostly waits.
const MAX_WATCHES: usize = 1_024;
/// A watch ends after this long, and its asker begins another one.
const WATCH_PERIOD: Duration = Duration::from_secs(30);
/// What fits into a message, beside the files themselves, for each of them.
const FILE_FRAME: usize = 64;
const LEAST_MESSAGE: usize = 64 << 10;

/// Dials a peer that asks for it, and serves it on that connection.
pub type OnDialMe =
    Arc<dyn Fn(Caller, proto::DialMe) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// Answers questions that come over the relay. Clones are the same.
#[derive(Clone)]
pub struct RelayDoor {
    relay: Relay,
    service: Service,
    on_dial_me: OnDialMe,
    questions: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    /// Ends the answers that have no end of their own.
    soft: CancellationToken,
}

impl RelayDoor {
    /// Answers what comes in at `live`, until the soft stop.
    pub fn open(
        relay: Relay,
        mut live: mpsc::Receiver<Incoming>,
        service: Service,
        on_dial_me: OnDialMe,
        lifecycle: &Lifecycle,
    ) {
        let soft = lifecycle.soft();
        let door = Self {
            relay,
            service,
            on_dial_me,
            questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
            watches: Arc::new(Semaphore::new(MAX_WATCHES)),
            soft: soft.clone(),
        };
        let taken = Arc::new(Semaphore::new(MAX_TAKEN));
        let tasks = lifecycle.clone();
        lifecycle.spawn("questions over the relay", async move {
            while let Ok(place) = taken.clone().acquire_owned().await {
                let question = tokio::select! {
                    () = soft.cancelled() => return,
                    question = live.recv() => question,
                };
                let Some(question) = question else { return };
                let (door, span) = (door.clone(), traced::consumed(&question));
                let answering = async move {
                    if let Ok(asked) = door.relay.open(question).await {
                        // Those that mostly wait have places of their own.
                        let place = Some(place).filter(|_| !matches!(asked.ask, Ask::Watch(_)));
                        door.take(asked).await;
                        drop(place);
                    }
                };
                tasks.spawn("question over the relay", answering.instrument(span));
            }
        });
    }

    async fn take(&self, asked: Asked) {
        let Asked { caller, request, reply, ask, terms, receipt } = asked;
        receipt.done().await;
        metrics::counter!("trueque_relay_questions_total", "kind" => kind_of(&ask)).increment(1);
        let peer = caller.peer_id;
        let span = traced::answer(kind_of(&ask), Some(peer));
        let sink = AnswerSink::new(&self.relay, peer, terms.back, request, &reply, terms.patience);
        // Logged, and nothing can be said.
        let Ok(sink) = sink else { return };
        let places = if matches!(ask, Ask::Watch(_)) { &self.watches } else { &self.questions };
        let answered = match places.try_acquire() {
            Ok(_place) => self.answer(&caller, ask, &terms, sink).instrument(span).await,
            Err(_) => sink.end(Err(too_many())).await,
        };
        if let Err(gone) = answered {
            tracing::debug!(peer.id = %peer, error = %gone, "an answer over the relay ended early");
        }
    }

    async fn answer(&self, caller: &Caller, ask: Ask, terms: &Terms, sink: AnswerSink) -> Result<(), Gone> {
        match ask {
            Ask::List(from) => self.list(caller, &from, terms, sink).await,
            Ask::Describe(question) => {
                let described = content_id(&question.content_id)
                    .and_then(|id| self.service.describe(caller, id, question.first_piece));
                one(sink, described).await
            }
            Ask::Fetch(question) => self.fetch(caller, &question, terms, sink).await,
            Ask::FetchMany(question) => self.fetch_many(caller, &question, terms, sink).await,
            Ask::Watch(question) => self.watch(caller, &question, terms, sink).await,
            Ask::Ping(_) => {
                one(sink, Ok(proto::Pong { version: env!("CARGO_PKG_VERSION").to_owned() })).await
            }
            Ask::DialMe(question) => {
                let dialled = (self.on_dial_me)(caller.clone(), question).await;
                sink.end(dialled.map(|()| Kind::End)).await
            }
            Ask::Offer(offer) => one(sink, self.service.offer(caller, &offer).await).await,
            Ask::Want(_) => sink.end(Err(Failure::invalid("a want is left where wants wait"))).await,
        }
    }

    async fn list(
        &self,
        caller: &Caller,
        from: &proto::ListFrom,
        terms: &Terms,
        mut sink: AnswerSink,
    ) -> Result<(), Gone> {
        let begun = self.service.quiet_place().and_then(|place| Ok((place, last_known(from)?)));
        let (_place, mut after) = match begun {
            Ok(begun) => begun,
            Err(failure) => return sink.end(Err(failure)).await,
        };
        let mut credit = terms.credit;
        loop {
            let page = self.service.list(caller, after.clone(), LIST_PAGE);
            after = page.next;
            // Each message has something that the asker may see: it goes on from there.
            if !page.files.is_empty() {
                credit -= 1;
                sink.message(&proto::FilePage { files: page.files }, after.is_none()).await?;
                if after.is_none() {
                    return sink.confirmed().await;
                }
            }
            match (&after, credit) {
                (None, _) => return sink.end(Ok(Kind::End)).await,
                (Some(_), 0) => return sink.end(Ok(Kind::More)).await,
                (Some(_), _) => {}
            }
        }
    }

    async fn fetch(
        &self,
        caller: &Caller,
        question: &proto::FetchRequest,
        terms: &Terms,
        mut sink: AnswerSink,
    ) -> Result<(), Gone> {
        let message_size = message_size(terms.max_message);
        let allowed = u64::from(terms.credit) * message_size as u64;
        let opened = content_id(&question.content_id).and_then(|id| {
            may_go(self.relay.limits(), self.service.size(caller, id)?)?;
            self.service.fetch(caller, id, question.offset, question.length)
        });
        let mut reading = match opened {
            Ok(reading) => reading.at_most(allowed).counted(sent(Rung::Relayed)),
            Err(failure) => return sink.end(Err(failure)).await,
        };
        if question.length == 0 {
            return sink.end(Ok(Kind::End)).await;
        }
        // Whoever asked for more than it takes knows what is missing.
        let mut left = question.length.min(allowed);
        let mut block = Bytes::new();
        while left > 0 {
            let mut missing = usize::try_from(left).map_or(message_size, |left| left.min(message_size));
            left -= missing as u64;
            let mut data = Vec::new();
            while missing > 0 {
                if block.is_empty() {
                    block = match timeout(terms.patience, reading.next()).await {
                        Ok(Some(Ok(block))) => block,
                        Ok(Some(Err(failure))) => return sink.end(Err(failure)).await,
                        Ok(None) => return sink.end(Err(Failure::internal("a file ended early"))).await,
                        // The asker has given up by now.
                        Err(_) => return sink.confirmed().await,
                    };
                }
                let some = block.split_to(block.len().min(missing));
                missing -= some.len();
                data.push(some);
            }
            sink.bytes(&data, left == 0).await?;
        }
        sink.confirmed().await
    }

    async fn fetch_many(
        &self,
        caller: &Caller,
        question: &proto::FetchManyRequest,
        terms: &Terms,
        mut sink: AnswerSink,
    ) -> Result<(), Gone> {
        let sent = sent(Rung::Relayed);
        let limits = self.relay.limits().clone();
        let may_go = Arc::new(move |size| may_go(&limits, size));
        let opened = SmallFiles::open(&self.service, caller.clone(), &question.content_ids, sent, may_go);
        let mut files = match opened {
            Ok(files) => files,
            Err(failure) => return sink.end(Err(failure)).await,
        };
        let message_size = message_size(terms.max_message);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(some) = files.read_some().await {
            for file in some {
                let length = file.data.len() + FILE_FRAME;
                if !batch.is_empty() && bytes + length > message_size {
                    sink.message(&proto::FileBatch { files: std::mem::take(&mut batch) }, false).await?;
                    bytes = 0;
                    if sink.count() >= terms.credit {
                        return sink.end(Ok(Kind::More)).await;
                    }
                }
                bytes += length;
                batch.push(file);
            }
        }
        if batch.is_empty() {
            return sink.end(Ok(Kind::End)).await;
        }
        sink.message(&proto::FileBatch { files: batch }, true).await?;
        sink.confirmed().await
    }

    async fn watch(
        &self,
        caller: &Caller,
        question: &proto::WatchRequest,
        terms: &Terms,
        mut sink: AnswerSink,
    ) -> Result<(), Gone> {
        let begun = content_id(&question.content_id).and_then(|id| self.service.watch(caller, id));
        let mut watching = match begun {
            Ok(watching) => watching,
            Err(failure) => return sink.end(Err(failure)).await,
        };
        let mut over = std::pin::pin!(sleep(WATCH_PERIOD));
        while sink.count() < terms.credit {
            tokio::select! {
                state = watching.next() => match state {
                    Some(state) => sink.message(&state, false).await?,
                    None => return sink.end(Ok(Kind::End)).await,
                },
                () = over.as_mut() => break,
                () = self.soft.cancelled() => return sink.end(Ok(Kind::End)).await,
            }
        }
        sink.end(Ok(Kind::More)).await
    }
}

/// After which file a list goes on; from the beginning where none is named.
fn last_known(from: &proto::ListFrom) -> Result<Option<(String, ContentId)>, Failure> {
    if from.after_name.is_empty() && from.after_content_id.is_empty() {
        return Ok(None);
    }
    Ok(Some((from.after_name.clone(), content_id(&from.after_content_id)?)))
}

/// An answer of one message.
async fn one<T: Message>(mut sink: AnswerSink, answer: Result<T, Failure>) -> Result<(), Gone> {
    match answer {
        Ok(message) => {
            sink.message(&message, true).await?;
            sink.confirmed().await
        }
        Err(failure) => sink.end(Err(failure)).await,
    }
}

/// Bytes of one message: a power of two, so that no message has parts of two pieces.
fn message_size(wanted: usize) -> usize {
    let most = usize::try_from(PIECE_SIZE).unwrap_or(usize::MAX);
    let wanted = wanted.clamp(LEAST_MESSAGE, most);
    1 << wanted.ilog2()
}

fn kind_of(ask: &Ask) -> &'static str {
    match ask {
        Ask::List(_) => "list",
        Ask::Describe(_) => "describe",
        Ask::Fetch(_) => "fetch",
        Ask::FetchMany(_) => "fetch many",
        Ask::Watch(_) => "watch",
        Ask::Ping(_) => "ping",
        Ask::DialMe(_) => "dial me",
        Ask::Offer(_) => "offer",
        Ask::Want(_) => "want",
    }
}

/// Whether this peer sends files of this size over the relay.
pub(crate) fn may_go(limits: &Limits, size: u64) -> Result<(), Failure> {
    if limits.takes(size) {
        return Ok(());
    }
    refuse("too large for the relay");
    let detail = format!("it sends no file of more than {} bytes over the relay", limits.max_file());
    Err(Failure::new(ErrorCode::TooLarge, detail))
}

fn too_many() -> Failure {
    refuse("too many questions over the relay");
    Failure::new(ErrorCode::RateLimited, "too many questions over the relay; try again later")
}

impl std::fmt::Debug for RelayDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayDoor").field("free", &self.questions.available_permits()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_hold_whole_parts_of_a_piece() {
        for (wanted, size) in [
            (0, 64 << 10),
            (64 << 10, 64 << 10),
            (100_000, 64 << 10),
            (300_000, 256 << 10),
            (1 << 20, 1 << 20),
            (usize::MAX, 1 << 20),
        ] {
            assert_eq!(message_size(wanted), size, "{wanted}");
        }
    }
}
