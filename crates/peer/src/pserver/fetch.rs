//! `Fetch`, answered frame by frame: gRPC's header and `Chunk`'s field tag go out as a few bytes of their own, and
//! the file's bytes follow as they were read. The generated encoder would copy each of them once more.
//!
//! On the wire it is ordinary gRPC. Source: the gRPC over HTTP/2 protocol, "Length-Prefixed-Message".

use axum::{
    Extension,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::Frame;
use http_body_util::{BodyExt, Limited, StreamBody};
use prost::Message;
use wire::proto;

use super::sent;
use crate::{
    Failure,
    link::Rung,
    service::{Reading, Service},
    tls::Caller,
};

/// A question has some fifty bytes.
const MAX_QUESTION: usize = 1 << 10;
/// Field 1 of type LEN.
const DATA_FIELD: u8 = 0x0a;

pub(super) async fn fetch(
    State(service): State<Service>,
    Extension(caller): Extension<Caller>,
    Extension(rung): Extension<Rung>,
    request: Request,
) -> Response {
    match open(&service, &caller, request).await {
        Ok(reading) => answer(reading.counted(sent(rung))),
        Err(failure) => tonic::Status::from(failure).into_http::<Body>().into_response(),
    }
}

async fn open(service: &Service, caller: &Caller, request: Request) -> Result<Reading, Failure> {
    let body = Limited::new(request.into_body(), MAX_QUESTION).collect().await;
    let frame = body.map_err(|_| Failure::invalid("the question is too long or broke off"))?.to_bytes();
    let question = read(&frame)?;
    let id = super::grpc::content_id(&question.content_id)?;
    service.fetch(caller, id, question.offset, question.length)
}

/// The one message of a question, out of its frame.
pub(crate) fn read(frame: &[u8]) -> Result<proto::FetchRequest, Failure> {
    let [0, a, b, c, d, message @ ..] = frame else {
        return Err(Failure::invalid("the question is empty or compressed"));
    };
    if u32::from_be_bytes([*a, *b, *c, *d]) as usize != message.len() {
        return Err(Failure::invalid("the question is not one message"));
    }
    proto::FetchRequest::decode(message).map_err(|_| Failure::invalid("the question is no FetchRequest"))
}

fn answer(reading: Reading) -> Response {
    let mut response = Response::new(Body::new(StreamBody::new(frames(reading))));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// What is left to send of an answer.
enum Stage {
    Header(Reading),
    Data(Reading, Bytes),
    End,
}

fn frames(reading: Reading) -> impl futures::Stream<Item = Result<Frame<Bytes>, axum::Error>> {
    futures::stream::unfold(Stage::Header(reading), |state| async move {
        match state {
            Stage::Header(mut reading) => Some(match reading.next().await {
                Some(Ok(block)) => (Ok(Frame::data(prefix(block.len()))), Stage::Data(reading, block)),
                Some(Err(failure)) => (Ok(trailers(&failure.into())), Stage::End),
                None => (Ok(trailers(&tonic::Status::new(tonic::Code::Ok, ""))), Stage::End),
            }),
            Stage::Data(reading, block) => Some((Ok(Frame::data(block)), Stage::Header(reading))),
            Stage::End => None,
        }
    })
}

/// What stands before `length` bytes of data.
fn prefix(length: usize) -> Bytes {
    let mut field = BytesMut::with_capacity(16);
    field.put_u8(DATA_FIELD);
    prost::encoding::encode_varint(length as u64, &mut field);
    let mut prefix = BytesMut::with_capacity(16);
    prefix.put_u8(0);
    prefix.put_u32(u32::try_from(field.len() + length).unwrap_or(u32::MAX));
    prefix.put(field);
    prefix.freeze()
}

fn trailers(status: &tonic::Status) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    let _always_fits = status.add_header(&mut trailers);
    Frame::trailers(trailers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_message() {
        let question = proto::FetchRequest { content_id: vec![7; 32].into(), offset: 0, length: 5 };
        let message = question.encode_to_vec();
        let length = u32::try_from(message.len()).unwrap();
        let frame = |length: u32, message: &[u8]| [&[0], &length.to_be_bytes()[..], message].concat();
        assert_eq!(read(&frame(length, &message)), Ok(question));
        for broken in
            [frame(length + 1, &message), frame(length - 1, &message), frame(length, &message).repeat(2)]
        {
            assert!(read(&broken).is_err(), "{broken:?}");
        }
        assert!(read(&[1, 0, 0, 0, 0]).is_err(), "compressed");
    }

    #[test]
    fn the_prefix_is_what_the_generated_encoder_writes() {
        for length in [0, 1, 127, 128, 512 << 10] {
            let chunk = proto::Chunk { data: vec![7; length].into() };
            let mut whole = prefix(length).to_vec();
            let message = if length == 0 { vec![] } else { chunk.encode_to_vec() };
            whole.extend_from_slice(&chunk.data);
            if length > 0 {
                assert_eq!(whole[5..], message, "{length}");
                assert_eq!(u32::from_be_bytes(whole[1..5].try_into().unwrap()) as usize, message.len());
            }
        }
    }
}
