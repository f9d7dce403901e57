//! Streams of messages, put together from the answers to as many questions as they take.

use std::time::{Duration, Instant};

use bytes::Bytes;
use content::ContentId;
use futures::{StreamExt, stream};
use prost::Message;
use wire::proto::{self, question::Ask};

use super::{RelayLink, bytes_of, unexpected};
use crate::{
    link::{LinkError, Messages},
    relay::ask::{Answers, Part, Question},
    service::MAX_FETCH_MANY,
};

/// Messages that one question about many small things takes.
const CREDIT: u32 = 8;
/// Changes that one watch takes before it is begun anew.
const WATCH_CREDIT: u32 = 64;
/// A peer ends a watch after half a minute by itself.
const WATCH_PATIENCE: Duration = Duration::from_secs(40);
/// A watch that ends at once is not begun anew at once.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// A stream that comes by the batch.
pub(super) trait Batches: Send + 'static {
    type Item: Send + 'static;

    /// The next batch, which may be empty; `None` at the end. Not called again after an error.
    fn next(&mut self) -> impl Future<Output = Option<Result<Vec<Self::Item>, LinkError>>> + Send;
}

/// The batches as one stream. A peer that refuses does so before it begins.
pub(super) async fn of<B: Batches>(mut batches: B) -> Result<Messages<B::Item>, LinkError> {
    let (first, batches) = match batches.next().await {
        Some(Ok(first)) => (first, Some(batches)),
        Some(Err(error)) => return Err(error),
        None => (Vec::new(), None),
    };
    let rest = stream::unfold(batches, |batches| async {
        let mut batches = batches?;
        match batches.next().await? {
            Ok(batch) => Some((batch.into_iter().map(Ok).collect(), Some(batches))),
            Err(error) => Some((vec![Err(error)], None)),
        }
    });
    let first: Vec<_> = first.into_iter().map(Ok).collect();
    Ok(stream::once(std::future::ready(first)).chain(rest).flat_map(stream::iter).boxed())
}

pub(super) struct List {
    link: RelayLink,
    /// The last file that came.
    from: proto::ListFrom,
    /// Files that the present question brought.
    came: usize,
    answers: Option<Answers>,
}

impl List {
    pub(super) fn new(link: RelayLink) -> Self {
        Self { link, from: proto::ListFrom::default(), came: 0, answers: None }
    }
}

impl Batches for List {
    type Item = proto::File;

    async fn next(&mut self) -> Option<Result<Vec<proto::File>, LinkError>> {
        let answers = match &mut self.answers {
            Some(answers) => answers,
            None => {
                let question = Question { credit: CREDIT, ..Question::new(Ask::List(self.from.clone())) };
                match self.link.ask(question).await {
                    Ok(answers) => self.answers.insert(answers),
                    Err(error) => return Some(Err(error)),
                }
            }
        };
        match batch::<proto::FilePage>(answers.next().await)? {
            Ok(Some(page)) => {
                if let Some(last) = page.files.last() {
                    self.from = proto::ListFrom {
                        after_name: last.name.clone(),
                        after_content_id: last.content_id.clone(),
                    };
                }
                self.came += page.files.len();
                Some(Ok(page.files))
            }
            // A peer that does not go on would be asked for ever.
            Ok(None) if std::mem::take(&mut self.came) == 0 => Some(Err(LinkError::Answered(unexpected()))),
            Ok(None) => {
                self.answers = None;
                Some(Ok(Vec::new()))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

pub(super) struct ManyFiles {
    link: RelayLink,
    /// What is still to be answered.
    ids: Vec<Bytes>,
    /// How many were answered before the present question, and by it.
    before: u32,
    answered: u32,
    answers: Option<Answers>,
}

impl ManyFiles {
    pub(super) fn new(link: RelayLink, ids: Vec<Bytes>) -> Self {
        Self { link, ids, before: 0, answered: 0, answers: None }
    }
}

impl Batches for ManyFiles {
    type Item = proto::FileChunk;

    async fn next(&mut self) -> Option<Result<Vec<proto::FileChunk>, LinkError>> {
        let answers = match &mut self.answers {
            Some(answers) => answers,
            None => {
                let ask = Ask::FetchMany(proto::FetchManyRequest { content_ids: self.ids.clone() });
                let max_message = self.link.message_size();
                match self.link.ask(Question { credit: CREDIT, max_message, ..Question::new(ask) }).await {
                    Ok(answers) => self.answers.insert(answers),
                    Err(error) => return Some(Err(error)),
                }
            }
        };
        match batch::<proto::FileBatch>(answers.next().await)? {
            Ok(Some(batch)) => {
                self.answered =
                    self.answered.saturating_add(u32::try_from(batch.files.len()).unwrap_or(u32::MAX));
                let mut files = batch.files;
                files.iter_mut().for_each(|file| file.index = file.index.saturating_add(self.before));
                Some(Ok(files))
            }
            Ok(None) => {
                // In the order asked: the rest is asked for again. A peer that does not go on would be asked for ever.
                let answered = (self.answered as usize).min(self.ids.len());
                if answered == 0 {
                    return Some(Err(LinkError::Answered(unexpected())));
                }
                self.ids.drain(..answered);
                self.before = self.before.saturating_add(self.answered);
                (self.answered, self.answers) = (0, None);
                Some(Ok(Vec::new()))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

pub(super) struct Watch {
    link: RelayLink,
    id: ContentId,
    answers: Option<(Answers, Instant)>,
}

impl Watch {
    pub(super) fn new(link: RelayLink, id: ContentId) -> Self {
        Self { link, id, answers: None }
    }
}

impl Batches for Watch {
    type Item = proto::PieceSet;

    async fn next(&mut self) -> Option<Result<Vec<proto::PieceSet>, LinkError>> {
        let (answers, begun) = match &mut self.answers {
            Some(answers) => answers,
            None => {
                let ask = Ask::Watch(proto::WatchRequest { content_id: bytes_of(self.id) });
                match self.link.ask(Question { credit: WATCH_CREDIT, ..Question::new(ask) }).await {
                    Ok(answers) => self.answers.insert((answers, Instant::now())),
                    Err(error) => return Some(Err(error)),
                }
            }
        };
        match batch::<proto::PieceSet>(answers.next().await)? {
            Ok(Some(pieces)) => {
                answers.be_patient(WATCH_PATIENCE);
                Some(Ok(vec![pieces]))
            }
            Ok(None) => {
                let pause = WATCH_PAUSE.saturating_sub(begun.elapsed());
                self.answers = None;
                tokio::time::sleep(pause).await;
                Some(Ok(Vec::new()))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

/// A message with a list: its field, and the most entries that it has among honest peers.
pub(crate) trait Listing: Message + Default {
    const FIELD: u32;
    const MOST: usize;
}

impl Listing for proto::FilePage {
    const FIELD: u32 = 1;
    const MOST: usize = 8_192;
}

impl Listing for proto::FileBatch {
    const FIELD: u32 = 1;
    const MOST: usize = MAX_FETCH_MANY;
}

impl Listing for proto::PieceSet {
    const FIELD: u32 = 3;
    const MOST: usize = 1_024;
}

/// Decodes it where the list is not too long.
pub(crate) fn decode<T: Listing>(bytes: Bytes) -> Option<T> {
    proto::has_at_most(&bytes, T::FIELD, T::MOST).then(|| T::decode(bytes).ok()).flatten()
}

/// The message of one answer; `Some(Ok(None))` where there is more for whoever asks again.
fn batch<T: Listing>(part: Option<Result<Part, LinkError>>) -> Option<Result<Option<T>, LinkError>> {
    Some(match part? {
        Ok(Part::Message(bytes)) => decode(bytes).map(Some).ok_or_else(|| LinkError::Answered(unexpected())),
        Ok(Part::More) => Ok(None),
        Ok(Part::Bytes(_)) => Err(LinkError::Answered(unexpected())),
        Err(error) => Err(error),
    })
}
