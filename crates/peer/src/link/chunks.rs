//! [`GrpcChunks`]: the bytes of a `Fetch` answer as they come, without putting messages together.
//!
//! A generated client copies every message into one buffer before it is decoded. For the one answer that carries
//! gigabytes this reads the same frames itself: gRPC's five bytes, `Chunk`'s one field, and then the bytes of the data
//! frames, as HTTP/2 delivered them. What other encoders may send (an empty field, unknown fields) is decoded in the
//! ordinary way.
//!
//! Source: the gRPC over HTTP/2 protocol, "Length-Prefixed-Message"; protobuf encoding, field 1 of type LEN is `0x0a`.

use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use wire::{ErrorCode, proto};

use super::LinkError;
use crate::Failure;

/// Larger messages are refused, whatever their length claims.
const MAX_MESSAGE: usize = 4 << 20;
const HEADER: usize = 5;
const DATA_FIELD: u8 = 0x0a;

/// The bytes of a `Fetch` answer, in order.
#[derive(Debug)]
pub struct GrpcChunks {
    body: Incoming,
    parser: Parser,
    done: bool,
}

impl GrpcChunks {
    pub(super) fn new(body: Incoming) -> Self {
        Self { body, parser: Parser::default(), done: false }
    }

    /// The next bytes, as many as came together; `None` at the end.
    ///
    /// # Errors
    /// [`LinkError::Answered`] for what the holder said, [`LinkError::Unreachable`] where the connection broke.
    pub async fn next(&mut self) -> Option<Result<Bytes, LinkError>> {
        loop {
            match self.parser.next() {
                Ok(Some(bytes)) => return Some(Ok(bytes)),
                Ok(None) if self.done => return None,
                Ok(None) => {}
                Err(failure) => return Some(Err(LinkError::Answered(failure))),
            }
            match Pin::new(&mut self.body).frame().await {
                None => {
                    self.done = true;
                    return Some(Err(LinkError::Unreachable("the answer ended without a status".to_owned())));
                }
                Some(Err(error)) => {
                    // The error itself says only that, its source says why.
                    let why =
                        std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
                    return Some(Err(LinkError::Unreachable(format!("the answer broke off: {why}"))));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.parser.push(data),
                    Err(frame) => {
                        self.done = true;
                        let status = frame.trailers_ref().and_then(tonic::Status::from_header_map);
                        match status {
                            Some(status) if status.code() == tonic::Code::Ok => {}
                            Some(status) => return Some(Err(LinkError::Answered(status.into()))),
                            None => {
                                return Some(Err(LinkError::Unreachable(
                                    "the answer has no status".to_owned(),
                                )));
                            }
                        }
                    }
                },
            }
        }
    }

    /// Whether the whole answer has been read.
    pub fn is_end(&self) -> bool {
        self.done && self.body.is_end_stream()
    }
}

/// Finds the data of messages in a run of frames.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// Received and not handed on.
    waiting: std::collections::VecDeque<Bytes>,
    available: usize,
    /// Data bytes of the present message that are still to come.
    in_data: usize,
}

impl Parser {
    pub(crate) fn push(&mut self, data: Bytes) {
        if !data.is_empty() {
            self.available += data.len();
            self.waiting.push_back(data);
        }
    }

    /// Bytes that belong to some chunk's data; `None` until more frames come.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            if self.in_data > 0 {
                let Some(front) = self.waiting.front_mut() else { return Ok(None) };
                let bytes = front.split_to(front.len().min(self.in_data));
                if front.is_empty() {
                    self.waiting.pop_front();
                }
                self.available -= bytes.len();
                self.in_data -= bytes.len();
                return Ok(Some(bytes));
            }
            let Some(header) = self.peek(HEADER) else { return Ok(None) };
            if header[0] != 0 {
                return Err(broken("a compressed message, which was not asked for"));
            }
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            if length > MAX_MESSAGE {
                return Err(Failure::new(
                    ErrorCode::TooLarge,
                    format!("a holder sent a message of {length} bytes"),
                ));
            }
            // Field 1 and a length of up to four bytes, or less where the message is shorter.
            let Some(start) = self.peek((HEADER + length).min(HEADER + 5)) else { return Ok(None) };
            if let Some((data, prefix)) = plain_chunk(&start[HEADER..], length) {
                self.skip(HEADER + prefix);
                self.in_data = data;
                continue;
            }
            let Some(message) = self.peek(HEADER + length) else { return Ok(None) };
            let chunk = proto::Chunk::decode(message.slice(HEADER..))
                .map_err(|_| broken("a message that is no chunk"))?;
            self.skip(HEADER + length);
            if !chunk.data.is_empty() {
                return Ok(Some(chunk.data));
            }
        }
    }

    /// The first `count` bytes, where they are here. Copies only what spans frames.
    fn peek(&self, count: usize) -> Option<Bytes> {
        if self.available < count {
            return None;
        }
        if let Some(front) = self.waiting.front()
            && front.len() >= count
        {
            return Some(front.slice(..count));
        }
        let mut joined = BytesMut::with_capacity(count);
        for bytes in &self.waiting {
            let more = bytes.len().min(count - joined.len());
            joined.extend_from_slice(&bytes[..more]);
        }
        Some(joined.freeze())
    }

    fn skip(&mut self, mut count: usize) {
        self.available -= count;
        while let Some(front) = self.waiting.front_mut().filter(|_| count > 0) {
            let some = front.len().min(count);
            front.advance(some);
            count -= some;
            if front.is_empty() {
                self.waiting.pop_front();
            }
        }
    }
}

/// `(length of the data, bytes before it)` where the message is exactly one data field.
fn plain_chunk(start: &[u8], length: usize) -> Option<(usize, usize)> {
    let (&tag, rest) = start.split_first()?;
    if tag != DATA_FIELD {
        return None;
    }
    let mut rest = rest;
    let before = rest.len();
    let data = usize::try_from(prost::encoding::decode_varint(&mut rest).ok()?).ok()?;
    let prefix = 1 + before - rest.len();
    (prefix.checked_add(data)? == length).then_some((data, prefix))
}

fn broken(what: &str) -> Failure {
    Failure::new(ErrorCode::Internal, format!("a holder sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut frame = vec![0];
        frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(message);
        frame
    }

    fn read(stream: &[u8], cuts: usize) -> Result<Vec<u8>, Failure> {
        let mut parser = Parser::default();
        let mut all = Vec::new();
        for part in stream.chunks(cuts) {
            parser.push(Bytes::copy_from_slice(part));
            while let Some(bytes) = parser.next()? {
                all.extend_from_slice(&bytes);
            }
        }
        Ok(all)
    }

    #[test]
    fn golden_bytes() {
        let frame = [
            0, 0, 0, 0, 5, // not compressed, five bytes
            0x0a, 3, // field 1, three bytes
            b'a', b'b', b'c',
        ];
        assert_eq!(framed(&proto::Chunk { data: Bytes::from_static(b"abc") }.encode_to_vec()), frame);
        assert_eq!(read(&frame, 1).unwrap(), b"abc");
    }

    #[test]
    fn odd_but_legal_and_illegal_messages() {
        let unknown_field = [&[0x0a, 1, b'x'][..], &[0x12, 1, b'y']].concat(); // a second field that we do not know
        let twice = [0x0a, 1, b'x', 0x0a, 1, b'z']; // the last one counts
        assert_eq!(read(&framed(&unknown_field), 3).unwrap(), b"x");
        assert_eq!(read(&framed(&twice), 2).unwrap(), b"z");
        assert_eq!(read(&framed(&[]), 1).unwrap(), b"");
        assert!(read(&framed(&[0x0a, 9, b'x']), 4).is_err(), "promises more than the message has");
        assert!(read(&[1, 0, 0, 0, 0], 5).is_err(), "compressed");
        assert_eq!(read(&[0, 255, 255, 255, 255], 5).unwrap_err().code, ErrorCode::TooLarge);
    }

    proptest! {
        #[test]
        fn however_the_frames_are_cut(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..8),
            cuts in 1usize..200,
        ) {
            let stream: Vec<u8> =
                chunks.iter().flat_map(|data| framed(&proto::Chunk { data: data.clone().into() }.encode_to_vec())).collect();
            prop_assert_eq!(read(&stream, cuts).unwrap(), chunks.concat());
        }

        #[test]
        fn any_bytes_are_read_or_refused(stream in prop::collection::vec(any::<u8>(), 0..300)) {
            let _no_panic = read(&stream, 7);
        }
    }
}
