//! [`SmallFiles`]: what a `FetchMany` asks for, read some files at a time. The same for both doors.

use std::{sync::Arc, vec};

use bytes::Bytes;
use content::ContentId;
use wire::proto;

use super::grpc::content_id;
use crate::{
    Failure,
    service::{MAX_FETCH_MANY, Service, Standing, UploadPlace},
    tls::Caller,
};

/// Small files read in one go on a blocking thread.
const READ_TOGETHER: usize = 32;
/// Bytes after which such a go ends early.
const READ_TOGETHER_BYTES: usize = 512 << 10;

/// The files that one caller asked for together.
#[derive(Debug)]
pub(super) struct SmallFiles {
    reader: Reader,
    ready: vec::IntoIter<proto::FileChunk>,
    standing: Standing,
    sent: metrics::Counter,
    place: UploadPlace,
}

/// Whether a file of this size may go by the way that it is asked for.
pub(super) type MayGo = Arc<dyn Fn(u64) -> Result<(), Failure> + Send + Sync>;

#[derive(Clone)]
struct Reader {
    service: Service,
    caller: Caller,
    ids: Arc<[ContentId]>,
    next: usize,
    may_go: MayGo,
}

impl SmallFiles {
    /// # Errors
    /// `invalid_argument` for too many ids, or what is none; `rate_limited` where all upload places are taken.
    pub(super) fn open(
        service: &Service,
        caller: Caller,
        ids: &[Bytes],
        sent: metrics::Counter,
        may_go: MayGo,
    ) -> Result<Self, Failure> {
        let ids = read(ids)?;
        let place = service.upload_place(&caller)?;
        let standing = service.standing(&caller, Vec::new());
        let reader = Reader { service: service.clone(), caller, ids: ids.into(), next: 0, may_go };
        Ok(Self { reader, ready: Vec::new().into_iter(), standing, sent, place })
    }

    /// The next one, in the order asked; `None` after the last. Whether the caller may have it was looked at after the
    /// last change.
    ///
    /// # Errors
    /// `rate_limited` once others have its place; then there is no more.
    pub(super) async fn next(&mut self) -> Option<Result<proto::FileChunk, Failure>> {
        loop {
            if let Err(given_away) = self.place.check() {
                return Some(Err(given_away));
            }
            if self.standing.has_changed() {
                self.forget_hidden();
            }
            if let Some(file) = self.ready.next() {
                return Some(Ok(file));
            }
            self.read_some().await?;
        }
    }

    /// The content of a file that was asked for at this index.
    pub(super) fn content(&self, index: u32) -> Option<ContentId> {
        self.reader.ids.get(index as usize).copied()
    }

    async fn read_some(&mut self) -> Option<()> {
        if self.reader.next >= self.reader.ids.len() {
            return None;
        }
        let reader = self.reader.clone();
        let read = tokio::task::spawn_blocking(move || reader.read_together()).await;
        let files = read.inspect_err(|error| tracing::error!(%error, "reading small files failed")).ok()?;
        self.reader.next += files.len();
        let bytes: usize = files.iter().map(|file| file.data.len()).sum();
        self.reader.service.throttle(bytes as u64).await;
        self.sent.increment(bytes as u64);
        self.ready = files.into_iter();
        Some(())
    }

    fn forget_hidden(&mut self) {
        let mut ready: Vec<_> = self.ready.by_ref().collect();
        let Reader { service, caller, ids, .. } = &self.reader;
        for file in ready.iter_mut().filter(|file| file.error.is_empty()) {
            let id = ids.get(file.index as usize);
            if let Some(Err(failure)) = id.map(|id| service.may_have(caller, *id)) {
                *file = refused(file.index, &failure);
            }
        }
        self.ready = ready.into_iter();
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("next", &self.next).finish_non_exhaustive()
    }
}

/// What is asked for.
pub(crate) fn read(ids: &[Bytes]) -> Result<Vec<ContentId>, Failure> {
    if ids.len() > MAX_FETCH_MANY {
        let detail = format!("{} files asked for; at most {MAX_FETCH_MANY} go together", ids.len());
        return Err(Failure::invalid(detail));
    }
    ids.iter().map(|id| content_id(id)).collect()
}

impl Reader {
    fn read_together(&self) -> Vec<proto::FileChunk> {
        let mut files = Vec::with_capacity(READ_TOGETHER);
        let mut bytes = 0;
        for (index, id) in (0u32..).zip(self.ids.iter()).skip(self.next).take(READ_TOGETHER) {
            let may_go = self.service.size(&self.caller, *id).and_then(|size| (self.may_go)(size));
            files.push(match may_go.and_then(|()| self.service.read_small(&self.caller, *id)) {
                Ok(read) => {
                    bytes += read.bytes.len();
                    let (data, restricted) = (read.bytes, read.restricted);
                    proto::FileChunk { index, data, restricted, ..Default::default() }
                }
                Err(failure) => refused(index, &failure),
            });
            if bytes >= READ_TOGETHER_BYTES {
                break;
            }
        }
        files
    }
}

fn refused(index: u32, failure: &Failure) -> proto::FileChunk {
    proto::FileChunk { index, error: failure.code.to_string(), ..Default::default() }
}
