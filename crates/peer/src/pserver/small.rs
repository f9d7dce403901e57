//! [`SmallFiles`]: what a `FetchMany` asks for, read some files at a time. The same for both doors.

use std::sync::Arc;

use bytes::Bytes;
use content::ContentId;
use wire::proto;

use super::grpc::content_id;
use crate::{
    Failure,
    service::{MAX_FETCH_MANY, Service, UploadPlace},
    tls::Caller,
};

/// Small files read in one go on a blocking thread.
const READ_TOGETHER: usize = 32;
/// Bytes after which such a go ends early.
const READ_TOGETHER_BYTES: usize = 1 << 20;

/// The files that one caller asked for together.
#[derive(Debug)]
pub(super) struct SmallFiles {
    reader: Reader,
    sent: metrics::Counter,
    _place: UploadPlace,
}

#[derive(Debug, Clone)]
struct Reader {
    service: Service,
    caller: Caller,
    ids: Arc<[ContentId]>,
    next: usize,
}

impl SmallFiles {
    /// # Errors
    /// `invalid_argument` for too many ids, or what is none; `rate_limited` where all upload places are taken.
    pub(super) fn open(
        service: &Service,
        caller: Caller,
        ids: &[Bytes],
        sent: metrics::Counter,
    ) -> Result<Self, Failure> {
        let ids = read(ids)?;
        let place = service.upload_place()?;
        let reader = Reader { service: service.clone(), caller, ids: ids.into(), next: 0 };
        Ok(Self { reader, sent, _place: place })
    }

    /// The next ones, in the order asked; `None` after the last.
    pub(super) async fn read_some(&mut self) -> Option<Vec<proto::FileChunk>> {
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
        Some(files)
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
            let mut file = proto::FileChunk { index, ..Default::default() };
            match self.service.read_small(&self.caller, *id) {
                Ok(read) => {
                    bytes += read.bytes.len();
                    (file.data, file.restricted) = (read.bytes, read.restricted);
                }
                Err(failure) => file.error = failure.code.to_string(),
            }
            files.push(file);
            if bytes >= READ_TOGETHER_BYTES {
                break;
            }
        }
        files
    }
}
