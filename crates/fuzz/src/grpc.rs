//! What comes over gRPC: the answer that is read below the generated code, and the questions of other peers.

use bytes::Bytes;
use content::{ContentId, Layout, MAX_FILE_SIZE, SafeName};
use prost::Message;
use wire::proto;

use crate::{frugally, input::Input};

const HEADER: usize = 5;
const MAX_MESSAGE: usize = 4 << 20;

/// However an answer is cut into frames, it reads as the generated decoder would read it, message by message.
pub(crate) fn fetch_answer(data: &[u8]) {
    let mut input = Input::new(data);
    let cut = usize::from(input.byte()) + 1;
    let stream = input.rest();
    let frames: Vec<Bytes> = stream.chunks(cut).map(Bytes::copy_from_slice).collect();
    // A slice of a frame is a few words.
    let (read, ended) = frugally(128, data, || peer::fuzzing::chunks(frames));
    let read = read.concat();

    let (whole, rest) = by_the_generated_decoder(stream);
    assert!(read.starts_with(&whole), "whole messages are read as they are");
    match rest {
        // What came of a message that is not here yet may have been handed on.
        Some(rest) => assert!(ended.is_ok() && read.len() - whole.len() <= rest.len()),
        None => assert!(ended.is_err() && read.len() == whole.len(), "what is wrong there is wrong here"),
    }
}

/// The data of all whole messages, and what is left of the stream; none where a message cannot be read.
fn by_the_generated_decoder(mut stream: &[u8]) -> (Vec<u8>, Option<&[u8]>) {
    let mut data = Vec::new();
    loop {
        let Some((header, rest)) = stream.split_at_checked(HEADER) else { return (data, Some(stream)) };
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if header[0] != 0 || length > MAX_MESSAGE {
            return (data, None);
        }
        let Some((message, rest)) = rest.split_at_checked(length) else { return (data, Some(stream)) };
        let Ok(chunk) = proto::Chunk::decode(message) else { return (data, None) };
        data.extend_from_slice(&chunk.data);
        stream = rest;
    }
}

/// A question that is taken is one message, and asks for what can exist.
pub(crate) fn peer_question(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let body = input.rest();
    match kind % 5 {
        0 => {
            let Ok(question) = frugally(4, data, || peer::fuzzing::fetch_question(body)) else { return };
            let length = u32::from_be_bytes([body[1], body[2], body[3], body[4]]) as usize;
            assert_eq!(length, body.len() - HEADER, "a frame is as long as it says");
            if let (Ok(layout), Ok(_)) =
                (Layout::new(question.length), ContentId::try_from(question.content_id.as_ref()))
                && let Some(pieces) = layout.whole_pieces(question.offset, question.length)
            {
                assert!(pieces.start < pieces.end && layout.span(&pieces).end <= layout.size());
            }
        }
        1 => {
            // Two bytes are an entry that takes 32, and a list that grows is moved.
            let decode = || proto::FetchManyRequest::decode(body).ok().map(|asked| asked.content_ids);
            let Some(ids) = frugally(16 * 3, data, decode) else { return };
            if let Ok(read) = peer::fuzzing::fetch_many(&ids) {
                assert!(read.len() <= 1_000 && read.iter().map(|id| id.as_bytes().as_slice()).eq(ids));
            }
        }
        2 => {
            let Ok(told) = frugally(8, data, || proto::OfferRequest::decode(body)) else { return };
            offer(&told);
        }
        3 => {
            let Ok(key) = std::str::from_utf8(body) else { return };
            if let Some(from) = peer::fuzzing::sender(key) {
                assert_eq!(peer::fuzzing::routing_key(from), key, "a key is written in one way");
            }
        }
        _ => {
            let named = frugally(64, data, || peer::fuzzing::named_by(body));
            if let Some((peer, user)) = named {
                assert!(body.windows(32).any(|at| at == peer.to_string().as_bytes()));
                assert!(body.windows(user.as_str().len()).any(|at| at == user.as_str().as_bytes()));
            }
        }
    }
}

/// An offer that is taken is of a file that can be.
pub(crate) fn offer(told: &proto::OfferRequest) {
    match peer::fuzzing::offer(told) {
        Ok((token, id, name, size)) => {
            assert_eq!(
                (token.as_slice(), id.as_bytes().as_slice()),
                (&told.offer_id[..], &told.content_id[..])
            );
            assert!(SafeName::new(&told.name) == Ok(name) && size == told.size && size <= MAX_FILE_SIZE);
        }
        Err(failure) => crate::is_short(&failure.detail),
    }
}
