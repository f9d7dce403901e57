//! How the peer reads outside bytes, for the fuzz targets alone: what the doors call, under public names and with nothing
//! around it.
//!
//! The relay's keys here are fixed: a message is sealed by ana for beto, and opened by him.

use std::ops::Range;

use bytes::Bytes;
use content::{ContentId, Outline, SafeName};
use http::HeaderValue;
use wire::{PeerId, Username, proto, rest::Audience};

use crate::{
    Failure,
    download::mailed::Pages,
    link::{LinkError, chunks, relay::streams},
    mail::{Parcel, parcel_of},
    offers::deliver,
    pclient::rest::{disposition, range, upload},
    pserver::{fetch, small},
    relay::{
        Kind, answer, ask,
        broker::topology,
        message::Route,
        reorder::Reorder,
        seal::{self, BadKey, OwnKeys, Routing},
    },
    tls,
};

const ANA: PeerId = PeerId::from_bytes([0xa1; 16]);
const BETO: PeerId = PeerId::from_bytes([0xbe; 16]);
const REQUEST: [u8; 16] = [0xc3; 16];

const KINDS: [Kind; ANSWER_KINDS as usize] =
    [Kind::Message, Kind::Bytes, Kind::Refusal, Kind::End, Kind::More, Kind::Epoch];
/// How many kinds of answers there are. The first is a message, the second bytes.
pub const ANSWER_KINDS: u8 = 6;

/// Which bytes of a file of `size` bytes a `Range` wants: `Err` where there are none, `Ok(None)` for all of it.
///
/// # Errors
/// Where no bytes of the file are wanted.
pub fn wanted(header: &str, size: u64) -> Result<Option<Range<u64>>, OutOfRange> {
    match range::wanted(Some(header), size) {
        range::Wanted::Whole => Ok(None),
        range::Wanted::Part(range) => Ok(Some(range)),
        range::Wanted::Unsatisfiable => Err(OutOfRange),
    }
}

/// A range that lies outside the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the range lies outside the file")]
pub struct OutOfRange;

/// `Content-Disposition` for a file's name.
pub fn attachment(file_name: &str) -> HeaderValue {
    disposition::attachment(file_name)
}

/// The text of an audience in a form.
///
/// # Errors
/// What the caller would be told.
pub fn audience(text: &str) -> Result<Audience, wire::http::Problem> {
    upload::parse_audience(text)
}

/// The frames of a `Fetch` answer, read as they come; the data of its chunks.
///
/// # Errors
/// What the download would be told; with it, what had been read until then.
pub fn chunks(frames: impl IntoIterator<Item = Bytes>) -> (Vec<Bytes>, Result<(), Failure>) {
    let (mut parser, mut data) = (chunks::Parser::default(), Vec::new());
    for frame in frames {
        parser.push(frame);
        loop {
            match parser.next() {
                Ok(Some(bytes)) => data.push(bytes),
                Ok(None) => break,
                Err(failure) => return (data, Err(failure)),
            }
        }
    }
    (data, Ok(()))
}

/// A `Fetch` question in its frame.
///
/// # Errors
/// What the caller would be told.
pub fn fetch_question(frame: &[u8]) -> Result<proto::FetchRequest, Failure> {
    fetch::read(frame)
}

/// What a `FetchMany` asks for.
///
/// # Errors
/// What the caller would be told.
pub fn fetch_many(ids: &[Bytes]) -> Result<Vec<ContentId>, Failure> {
    small::read(ids)
}

/// An offer of another peer: its id, content, name and size.
///
/// # Errors
/// What the caller would be told.
pub fn offer(offer: &proto::OfferRequest) -> Result<([u8; 16], ContentId, SafeName, u64), Failure> {
    deliver::read(offer).map(|shown| (shown.token, shown.content_id, shown.name, shown.size))
}

/// Who a certificate names, in DER.
pub fn named_by(certificate: &[u8]) -> Option<(PeerId, Username)> {
    tls::caller_of(&certificate.into()).map(|caller| (caller.peer_id, caller.username))
}

/// Who sent a live question that came to beto with this routing key.
pub fn sender(key: &str) -> Option<PeerId> {
    topology::sender(key, BETO, Route::Live)
}

/// The routing key of a live question to beto.
pub fn routing_key(from: PeerId) -> String {
    topology::destination(BETO, Route::Live, from).1
}

/// The proof of a content from pages that came by mail, each from the peer of that number.
pub fn proof(id: ContentId, pages: &[(u8, u32, proto::Description)]) -> Option<Outline> {
    let mut kept = Pages::default();
    pages.iter().find_map(|(from, first, page)| {
        kept.take(id, PeerId::from_bytes([*from; 16]), *first, page).map(|(outline, ..)| outline)
    })
}

/// A question of ana's to beto, sealed; the bytes inside need not be one.
///
/// # Errors
/// [`Unusable`], which does not happen with these keys.
pub fn seal_question(plain: &[u8]) -> Result<Bytes, Unusable> {
    let (ana, beto) = keys()?;
    Ok(seal::seal_bytes(&ana, beto.public(), &routing(), plain)?.0)
}

/// What beto reads of a body that came for him.
///
/// # Errors
/// Why it is not taken.
pub fn open_question(body: Vec<u8>) -> Result<proto::Question, &'static str> {
    let (ana, beto) = keys().map_err(|_| "no keys")?;
    let opened = seal::Envelope::read(body).and_then(|sealed| sealed.open(&beto, ana.public(), &routing()));
    opened.map(|(question, _)| question).map_err(|refused| refused.reason())
}

/// Answers to one question, sealed: kind, whether it is the last, and what is inside.
pub fn seal_answers(answers: &[(u8, bool, &[u8])]) -> Option<Vec<Bytes>> {
    let mut sealer = answer::AnswerSealer::new(&reply_key(), REQUEST)?;
    let sealed = answers.iter().map(|(kind, last, plain)| {
        let kind = KINDS[usize::from(*kind) % KINDS.len()];
        sealer.seal(kind, &[Bytes::copy_from_slice(plain)], *last)
    });
    sealed.collect()
}

/// What whoever asked gets from the bodies of answers, in whatever order they come, where at most `credit` were asked
/// for. Refusals of single messages are only counted.
pub fn open_answers(bodies: Vec<Vec<u8>>, credit: u32) -> Opened {
    let mut opener = answer::AnswerOpener::new(reply_key(), REQUEST);
    let mut order = Reorder::new(credit);
    let mut opened = Opened::default();
    for body in bodies {
        match opener.open(body) {
            Ok(answer::Answered::Sealed(one)) => {
                opened.refused += usize::from(order.push(one.number, one.last, one).is_err());
            }
            Ok(answer::Answered::StaleKey) | Err(_) => opened.refused += 1,
        }
        while let Some(due) = order.pop() {
            opened.last |= due.last;
            match ask::read(due) {
                None => opened.empty += 1,
                Some(Ok(ask::Part::Message(bytes))) => opened.messages.push(bytes),
                Some(Ok(ask::Part::Bytes(bytes))) => opened.bytes.push(bytes),
                Some(Ok(ask::Part::More)) => opened.empty += 1,
                Some(Err(LinkError::Answered(failure))) => opened.failures.push(failure),
                Some(Err(_)) => opened.refused += 1,
            }
        }
    }
    opened
}

/// See [`open_answers`].
#[derive(Debug, Default)]
pub struct Opened {
    pub messages: Vec<Bytes>,
    pub bytes: Vec<Bytes>,
    pub failures: Vec<Failure>,
    pub empty: usize,
    pub refused: usize,
    pub last: bool,
}

/// A page of another peer's files.
pub fn file_page(message: Bytes) -> Option<proto::FilePage> {
    streams::decode(message)
}

/// Small files that were asked for.
pub fn file_batch(message: Bytes) -> Option<proto::FileBatch> {
    streams::decode(message)
}

/// What another peer has of a file.
pub fn piece_set(message: Bytes) -> Option<proto::PieceSet> {
    streams::decode(message)
}

/// What a parcel out of the mailbox holds, opened already.
#[derive(Debug, PartialEq)]
pub enum Mailed {
    Piece { index: u32, length: usize },
    Page { first_piece: u32, page: proto::Description },
    Settled(Option<Failure>),
}

/// Reads a parcel of some kind.
pub fn parcel(kind: u8, plain: Bytes) -> Option<Mailed> {
    let kind = KINDS[usize::from(kind) % KINDS.len()];
    Some(match parcel_of(kind, plain)? {
        Parcel::Piece { index, bytes } => Mailed::Piece { index, length: bytes.len() },
        Parcel::Described { first_piece, description } => Mailed::Page { first_piece, page: description },
        Parcel::Settled(refusal) => Mailed::Settled(refusal),
    })
}

/// A key that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key cannot be used")]
pub struct Unusable;

impl From<BadKey> for Unusable {
    fn from(_: BadKey) -> Self {
        Self
    }
}

fn keys() -> Result<(OwnKeys, OwnKeys), BadKey> {
    Ok((OwnKeys::from_private(&[1; 32])?, OwnKeys::from_private(&[2; 32])?))
}

fn reply_key() -> seal::ReplyKey {
    seal::ReplyKey::from_bytes([7; 32])
}

fn routing() -> Routing {
    Routing { from: ANA, to: BETO, route: Route::Live, message_id: REQUEST, answer_to: Some([9; 8]) }
}
