//! [`RelayChunks`]: the bytes of a `Fetch`, asked for ahead as far as the peer's window reaches.
//!
//! A question asks for some neighbouring pieces, and several are under way at once. The first goes out alone: a peer
//! that refuses does so before anything else is asked.

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use bytes::Bytes;
use content::{ContentId, PIECE_SIZE};
use futures::{StreamExt, future::BoxFuture, stream::FuturesOrdered};
use wire::{
    ErrorCode,
    proto::{self, question::Ask},
};

use super::{RelayLink, bytes_of, unexpected};
use crate::{
    Failure,
    link::{LinkError, SILENCE_TIMEOUT},
    relay::{
        ask::{Answers, Part, Question},
        window::{Place, TIMELY, Window},
    },
};

/// A peer whose places are taken, by our own questions or others', is asked for the same pieces so often.
const TRIES: u32 = 6;
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The bytes of a relayed `Fetch`, in order. Dropping it ends the asking.
#[derive(Debug)]
pub struct RelayChunks {
    fetch: Fetch,
    window: Window,
    /// What nobody was asked for yet.
    left: Range<u64>,
    asking: FuturesOrdered<BoxFuture<'static, Result<Portion, LinkError>>>,
    /// Those that were asked, in order.
    portions: VecDeque<Portion>,
    /// What came while the fetch began.
    first: Option<Bytes>,
    /// The place of a fetch that has nothing under way is kept for what comes next, so that only a fetch that begins
    /// has to wait for one.
    kept: Option<Place>,
    /// Whether anything came.
    begun: bool,
    over: bool,
}

/// What does not change in a fetch.
#[derive(Debug, Clone)]
struct Fetch {
    link: RelayLink,
    id: ContentId,
    end: u64,
}

/// Neighbouring pieces that one question asks for.
#[derive(Debug)]
struct Portion {
    /// What is still to come of it.
    range: Range<u64>,
    /// One for each piece of it that is under way.
    places: Vec<Place>,
    answers: Answers,
    tries: u32,
    /// When it was asked, or the last piece came.
    since: Instant,
}

impl Fetch {
    /// Asks for `range`. The question says how long the whole fetch is, and the peer judges it as a whole.
    async fn ask(self, range: Range<u64>, places: Vec<Place>) -> Result<Portion, LinkError> {
        let since = Instant::now();
        let answers = self.send(&range).await?;
        Ok(Portion { range, places, answers, tries: 1, since })
    }

    async fn send(&self, range: &Range<u64>) -> Result<Answers, LinkError> {
        let ask = Ask::Fetch(proto::FetchRequest {
            content_id: bytes_of(self.id),
            offset: range.start,
            length: self.end - range.start,
        });
        let max_message = self.link.message_size();
        let messages = (range.end - range.start).div_ceil(max_message.into()).max(1);
        let credit = u32::try_from(messages).unwrap_or(u32::MAX);
        self.link.ask(Question { credit, max_message, ..Question::new(ask) }).await
    }
}

impl RelayChunks {
    pub(super) async fn begin(link: RelayLink, id: ContentId, range: Range<u64>) -> Result<Self, LinkError> {
        let window = link.relay.window(link.target.peer_id);
        let place = window.place().await;
        let fetch = Fetch { link, id, end: range.end };
        let mut chunks = Self {
            fetch: fetch.clone(),
            window,
            left: range,
            asking: FuturesOrdered::new(),
            portions: VecDeque::new(),
            first: None,
            kept: place,
            begun: false,
            over: false,
        };
        let (portion, places) = chunks.next_portion();
        let portion = fetch.ask(portion, places).await?;
        chunks.portions.push_back(portion);
        chunks.first = chunks.come().await.transpose()?;
        Ok(chunks)
    }

    /// The next bytes, as many as came together; `None` at the end.
    ///
    /// # Errors
    /// [`LinkError::Answered`] for what the holder said, [`LinkError::Unreachable`] where the way broke.
    pub async fn next(&mut self) -> Option<Result<Bytes, LinkError>> {
        match self.first.take() {
            Some(bytes) => Some(Ok(bytes)),
            None => self.come().await,
        }
    }

    async fn come(&mut self) -> Option<Result<Bytes, LinkError>> {
        while !self.over {
            self.ask_ahead();
            let Some(front) = self.portions.front_mut() else {
                match self.asking.next().await {
                    Some(Ok(portion)) => self.portions.push_back(portion),
                    Some(Err(error)) => return self.fail(error),
                    None => self.over = true,
                }
                continue;
            };
            let part = tokio::select! {
                biased;
                part = front.answers.next() => part,
                Some(asked) = self.asking.next() => {
                    match asked {
                        Ok(portion) => self.portions.push_back(portion),
                        Err(error) => return self.fail(error),
                    }
                    continue;
                }
            };
            match part {
                Some(Ok(Part::Bytes(bytes))) => {
                    self.arrived(bytes.len() as u64);
                    return Some(Ok(bytes));
                }
                // Fewer bytes than were asked for are noticed by whoever counts them.
                None => drop(self.portions.pop_front()),
                Some(Ok(Part::Message(_) | Part::More)) => {
                    return self.fail(LinkError::Answered(unexpected()));
                }
                Some(Err(LinkError::Answered(failure))) if is_busy(&failure) => {
                    self.window.shrink();
                    if let Err(error) = self.ask_again(failure).await {
                        return self.fail(error);
                    }
                }
                Some(Err(error)) => return self.fail(error),
            }
        }
        None
    }

    /// Asks for what the window allows, once it is known that the peer answers.
    fn ask_ahead(&mut self) {
        while self.begun && !self.left.is_empty() {
            if self.kept.is_none() {
                self.kept = self.window.try_place();
            }
            if self.kept.is_none() {
                return;
            }
            let (range, places) = self.next_portion();
            self.asking.push_back(Box::pin(self.fetch.clone().ask(range, places)));
        }
    }

    /// The next pieces to be asked for, with a place for each: that which is kept, and more while there are free ones.
    fn next_portion(&mut self) -> (Range<u64>, Vec<Place>) {
        let start = self.left.start;
        let pieces = (self.left.end - start).div_ceil(PIECE_SIZE).max(1);
        let most = usize::try_from(pieces).unwrap_or(usize::MAX).min(self.window.pieces_together());
        let mut places: Vec<Place> = self.kept.take().into_iter().collect();
        places.extend(std::iter::from_fn(|| self.window.try_place()).take(most.saturating_sub(1)));
        let end = (start + places.len().max(1) as u64 * PIECE_SIZE).min(self.left.end);
        self.left.start = end;
        (start..end, places)
    }

    /// Counts what came, and gives back the places of pieces that are whole.
    fn arrived(&mut self, bytes: u64) {
        let is_last = self.portions.len() == 1 && self.asking.is_empty() && !self.left.is_empty();
        self.begun = true;
        let Some(front) = self.portions.front_mut() else { return };
        front.range.start = (front.range.start + bytes).min(front.range.end);
        let under_way = (front.range.end - front.range.start).div_ceil(PIECE_SIZE);
        while front.places.len() as u64 > under_way {
            if front.since.elapsed() < TIMELY {
                self.window.grow();
            }
            front.since = Instant::now();
            let place = front.places.pop();
            if is_last && under_way == 0 {
                self.kept = place;
            }
        }
    }

    /// The peer has no place now. Where this fetch has begun, part of the crowd may be its own: the rest waits.
    async fn ask_again(&mut self, failure: Failure) -> Result<(), LinkError> {
        let may = |front: &&mut Portion| {
            front.tries < TRIES && front.range.start.is_multiple_of(PIECE_SIZE) && self.begun
        };
        let Some(front) = self.portions.front_mut().filter(may) else {
            return Err(LinkError::Answered(failure));
        };
        tokio::time::sleep(FIRST_PAUSE * 2u32.pow(front.tries - 1)).await;
        front.tries += 1;
        front.since = Instant::now();
        front.answers = self.fetch.send(&front.range).await?;
        Ok(())
    }

    fn fail(&mut self, error: LinkError) -> Option<Result<Bytes, LinkError>> {
        if error == LinkError::Silent {
            self.window.shrink();
        }
        self.over = true;
        Some(Err(error))
    }
}

impl Drop for RelayChunks {
    fn drop(&mut self) {
        // Whoever asked may lose patience a moment before we do.
        let waits = |front: &Portion| front.since.elapsed() >= SILENCE_TIMEOUT.mul_f64(0.9);
        if !self.over && self.portions.front().is_some_and(waits) {
            self.window.shrink();
        }
    }
}

fn is_busy(failure: &Failure) -> bool {
    matches!(failure.code, ErrorCode::RateLimited | ErrorCode::Unavailable)
}
