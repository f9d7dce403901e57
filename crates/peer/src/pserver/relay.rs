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

use super::{grpc::content_id, listing::LIST_PAGE, refuse, sent, small::SmallFiles, traced};
use crate::{
    Failure,
    link::Rung,
    relay::{
        Kind, Limits, Relay,
        message::Incoming,
        open::{Asked, Terms},
        sink::{AnswerSink, Gone},
    },
    service::{Full, Place, Places, Portion, Portions, Service, Standing, Words, refused},
    tls::Caller,
};

/// Questions that are being answered; more are told to come again.
const MAX_QUESTIONS: usize = 64;
/// Questions that were taken from the broker: those, and those that are being opened or refused.
const MAX_TAKEN: usize = 2 * MAX_QUESTIONS;
/// Of those, one user's; more of them are dropped.
const MAX_TAKEN_OF_ONE: usize = 96;
/// `Watch` is a question that mostly waits; of all callers together, and of one user.
const MAX_WATCHES: (usize, usize) = (1_024, 256);
const QUESTIONS: Words = Words {
    all: "too many questions over the relay",
    own: "too many questions of one user over the relay",
    given: "place for a question given to another",
};
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
    questions: Places,
    watches: Portions,
    taken: Portions,
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
            questions: Places::new(MAX_QUESTIONS, &QUESTIONS),
            watches: Portions::new(MAX_WATCHES.0, MAX_WATCHES.1),
            taken: Portions::new(MAX_TAKEN, MAX_TAKEN_OF_ONE),
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
                    let Ok(asked) = door.relay.open(question).await else { return };
                    if matches!(asked.ask, Ask::Watch(_)) {
                        // Those that mostly wait have places of their own.
                        drop(place);
                        return door.take(asked).await;
                    }
                    // A refusal may wait for the broker too: nobody's wait for all the places there are.
                    match door.taken.take(&asked.caller.username) {
                        Ok(_portion) => door.take(asked).await,
                        Err(_) => {
                            refuse("questions of one user dropped");
                            asked.receipt.done().await;
                        }
                    }
                    drop(place);
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
        let answered = match self.place(&caller, &ask) {
            Ok(place) => self.answer(&caller, ask, &terms, sink, place).instrument(span).await,
            Err(failure) => sink.end(Err(failure)).await,
        };
        if let Err(gone) = answered {
            tracing::debug!(peer.id = %peer, error = %gone, "an answer over the relay ended early");
        }
    }

    fn place(&self, caller: &Caller, ask: &Ask) -> Result<Room, Failure> {
        if !matches!(ask, Ask::Watch(_)) {
            return self.questions.take(&caller.username).map(Room::Place);
        }
        let portion = self.watches.take(&caller.username).map_err(|full| match full {
            Full::All => refused("too many watches over the relay"),
            Full::Own => refused("too many watches of one user over the relay"),
        });
        portion.map(|_portion| Room::Watch { _portion })
    }

    async fn answer(
        &self,
        caller: &Caller,
        ask: Ask,
        terms: &Terms,
        sink: AnswerSink,
        room: Room,
    ) -> Result<(), Gone> {
        let standing = self.service.standing(caller, Vec::new());
        let mut giving = Giving { sink, standing, room };
        let ended = match ask {
            Ask::List(from) => self.list(caller, &from, terms, &mut giving).await,
            Ask::Describe(question) => self.describe(caller, &question, &mut giving).await,
            Ask::Fetch(question) => self.fetch(caller, &question, terms, &mut giving).await,
            Ask::FetchMany(question) => self.fetch_many(caller, &question, terms, &mut giving).await,
            Ask::Watch(question) => self.watch(caller, &question, terms, &mut giving).await,
            Ask::Ping(_) => giving.one(&proto::Pong { version: env!("CARGO_PKG_VERSION").to_owned() }).await,
            Ask::DialMe(question) => {
                let dialled = (self.on_dial_me)(caller.clone(), question).await;
                dialled.map(|()| Said::Not(Kind::End)).map_err(Stop::Refused)
            }
            Ask::Offer(offer) => match self.service.offer(caller, &offer).await {
                Ok(reply) => giving.one(&reply).await,
                Err(failure) => Err(failure.into()),
            },
            Ask::Want(_) => Err(Failure::invalid("a want is left where wants wait").into()),
        };
        match ended {
            Ok(Said::All) => Ok(()),
            Ok(Said::Not(word)) => giving.sink.end(Ok(word)).await,
            Err(Stop::Refused(failure)) => giving.sink.withdraw(failure).await,
            Err(Stop::Gone(gone)) => Err(gone),
        }
    }

    async fn describe(
        &self,
        caller: &Caller,
        question: &proto::DescribeRequest,
        giving: &mut Giving,
    ) -> Result<Said, Stop> {
        let id = content_id(&question.content_id)?;
        giving.standing.is_now_of(vec![id]);
        giving.one(&self.service.describe(caller, id, question.first_piece)?).await
    }

    async fn list(
        &self,
        caller: &Caller,
        from: &proto::ListFrom,
        terms: &Terms,
        giving: &mut Giving,
    ) -> Result<Said, Stop> {
        let _place = self.service.list_place(caller)?;
        let mut after = last_known(from)?;
        let (mut credit, mut before) = (terms.credit, Vec::new());
        loop {
            let page = self.service.list(caller, after.clone(), LIST_PAGE);
            after = page.next;
            // Each message has something that the asker may see: it goes on from there.
            if !page.files.is_empty() {
                credit -= 1;
                // The page before may still be on its way.
                let told: Vec<_> =
                    page.files.iter().filter_map(|file| content_id(&file.content_id).ok()).collect();
                giving.standing.is_now_of([before, told.clone()].concat());
                before = told;
                let page = proto::FilePage { files: page.files };
                if after.is_none() {
                    return giving.one(&page).await;
                }
                giving.message(&page, false).await?;
            }
            match (&after, credit) {
                (None, _) => return giving.not(Kind::End).await,
                (Some(_), 0) => return giving.not(Kind::More).await,
                (Some(_), _) => {}
            }
        }
    }

    async fn fetch(
        &self,
        caller: &Caller,
        question: &proto::FetchRequest,
        terms: &Terms,
        giving: &mut Giving,
    ) -> Result<Said, Stop> {
        let message_size = message_size(terms.max_message);
        let allowed = u64::from(terms.credit) * message_size as u64;
        let id = content_id(&question.content_id)?;
        giving.standing.is_now_of(vec![id]);
        may_go(self.relay.limits(), self.service.size(caller, id)?)?;
        let reading = self.service.fetch(caller, id, question.offset, question.length)?;
        let mut reading = reading.at_most(allowed).counted(sent(Rung::Relayed));
        if question.length == 0 {
            return Ok(Said::Not(Kind::End));
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
                        Ok(Some(block)) => block?,
                        Ok(None) => return Err(Failure::internal("a file ended early").into()),
                        // The asker has given up by now.
                        Err(_) => return giving.arrived().await,
                    };
                }
                let some = block.split_to(block.len().min(missing));
                missing -= some.len();
                data.push(some);
            }
            giving.bytes(&data, left == 0).await?;
        }
        giving.arrived().await
    }

    async fn fetch_many(
        &self,
        caller: &Caller,
        question: &proto::FetchManyRequest,
        terms: &Terms,
        giving: &mut Giving,
    ) -> Result<Said, Stop> {
        let sent = sent(Rung::Relayed);
        let limits = self.relay.limits().clone();
        let may_go = Arc::new(move |size| may_go(&limits, size));
        let mut files = SmallFiles::open(&self.service, caller.clone(), &question.content_ids, sent, may_go)?;
        let message_size = message_size(terms.max_message);
        let (mut batch, mut bytes, mut before) = (Vec::new(), 0, Vec::new());
        while let Some(file) = files.next().await {
            let file = file?;
            let length = file.data.len() + FILE_FRAME;
            if !batch.is_empty() && bytes + length > message_size {
                before = giving.files(&files, std::mem::take(&mut batch), before, false).await?;
                bytes = 0;
                if giving.sink.count() >= terms.credit {
                    return giving.not(Kind::More).await;
                }
            }
            bytes += length;
            batch.push(file);
        }
        if batch.is_empty() {
            return giving.not(Kind::End).await;
        }
        giving.files(&files, batch, before, true).await?;
        giving.arrived().await
    }

    async fn watch(
        &self,
        caller: &Caller,
        question: &proto::WatchRequest,
        terms: &Terms,
        giving: &mut Giving,
    ) -> Result<Said, Stop> {
        let id = content_id(&question.content_id)?;
        giving.standing.is_now_of(vec![id]);
        let mut watching = self.service.watch(caller, id)?;
        let mut over = std::pin::pin!(sleep(WATCH_PERIOD));
        while giving.sink.count() < terms.credit {
            tokio::select! {
                state = watching.next() => match state {
                    Some(state) => giving.message(&state?, false).await?,
                    None => return giving.not(Kind::End).await,
                },
                () = over.as_mut() => break,
                () = self.soft.cancelled() => return giving.not(Kind::End).await,
            }
        }
        giving.not(Kind::More).await
    }
}

/// An answer under way. Whatever it waits for, it ends when its asker may not have it any more.
struct Giving {
    sink: AnswerSink,
    standing: Standing,
    room: Room,
}

/// What an answer takes up.
enum Room {
    Place(Place),
    Watch { _portion: Portion },
}

impl Room {
    /// Waits until others have it.
    async fn revoked(&self) -> Failure {
        match self {
            Self::Place(place) => place.revoked().await,
            Self::Watch { .. } => std::future::pending().await,
        }
    }
}

/// How an answer that was not refused ends.
enum Said {
    /// With what was sent.
    All,
    /// With a word that has not been said yet.
    Not(Kind),
}

/// Why an answer ends before its end.
enum Stop {
    Refused(Failure),
    Gone(Gone),
}

impl Giving {
    async fn message(&mut self, message: &impl Message, last: bool) -> Result<(), Stop> {
        let Self { sink, standing, room } = self;
        as_long(standing, room, sink.message(message, last)).await
    }

    async fn bytes(&mut self, data: &[Bytes], last: bool) -> Result<(), Stop> {
        let Self { sink, standing, room } = self;
        as_long(standing, room, sink.bytes(data, last)).await
    }

    /// Some of the files that were asked for; `before` are those in the message before, which may still be on its way.
    async fn files(
        &mut self,
        from: &SmallFiles,
        batch: Vec<proto::FileChunk>,
        before: Vec<ContentId>,
        last: bool,
    ) -> Result<Vec<ContentId>, Stop> {
        let given = batch.iter().filter(|file| file.error.is_empty());
        let given: Vec<_> = given.filter_map(|file| from.content(file.index)).collect();
        self.standing.is_now_of([before, given.clone()].concat());
        match self.message(&proto::FileBatch { files: batch }, last).await {
            Ok(()) => Ok(given),
            Err(stop) => Err(stop.for_some()),
        }
    }

    /// An answer of one message, or the last one.
    async fn one(&mut self, message: &impl Message) -> Result<Said, Stop> {
        self.message(message, true).await?;
        self.arrived().await
    }

    /// Waits until all of it is with the broker.
    async fn arrived(&mut self) -> Result<Said, Stop> {
        let Self { sink, standing, room } = self;
        as_long(standing, room, sink.arrived()).await.map(|()| Said::All)
    }

    /// The same, and then there is a word to say.
    async fn not(&mut self, word: Kind) -> Result<Said, Stop> {
        self.arrived().await.map(|_| Said::Not(word))
    }
}

/// Sends, unless the asker is taken off the list first, or has to make room.
async fn as_long(
    standing: &mut Standing,
    room: &Room,
    sending: impl Future<Output = Result<(), Gone>>,
) -> Result<(), Stop> {
    tokio::select! {
        biased;
        lost = standing.lost() => Err(Stop::Refused(lost)),
        given_away = room.revoked() => Err(Stop::Refused(given_away)),
        sent = sending => sent.map_err(Stop::Gone),
    }
}

impl Stop {
    /// One of many files is not theirs any more: they ask again, and are told which.
    fn for_some(self) -> Self {
        match self {
            Self::Refused(_) => Failure::unavailable("what you may have has changed: ask again").into(),
            gone @ Self::Gone(_) => gone,
        }
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

/// After which file a list goes on; from the beginning where none is named.
fn last_known(from: &proto::ListFrom) -> Result<Option<(String, ContentId)>, Failure> {
    if from.after_name.is_empty() && from.after_content_id.is_empty() {
        return Ok(None);
    }
    Ok(Some((from.after_name.clone(), content_id(&from.after_content_id)?)))
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

impl std::fmt::Debug for RelayDoor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RelayDoor").field("free", &self.questions.free()).finish_non_exhaustive()
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
