//! What comes over the relay: the envelope that the broker sees, and what is inside when it was opened. libFuzzer cannot
//! seal, so what is inside is sealed here, by a peer that lies.

use bytes::Bytes;
use content::{ContentId, Layout, PieceSet};
use peer::fuzzing::{Mailed, Opened};
use prost::Message;
use wire::proto::{self, question::Ask};

use crate::{frugally, grpc, input::Input, within};

/// A stranger's bytes are refused, a lying peer's are read like any other message, and nobody in between changes one.
pub(crate) fn question(data: &[u8]) {
    let mut input = Input::new(data);
    let (mode, flip) = (input.byte(), input.u32() as usize);
    let plain = input.rest();
    if mode % 4 == 0 {
        let opened = frugally(8, data, || peer::fuzzing::open_question(plain.to_vec()));
        assert!(opened.is_err(), "a stranger's bytes are no question");
        return;
    }
    let body = peer::fuzzing::seal_question(plain).expect("good keys");
    if mode % 4 == 1 {
        let mut changed = body.to_vec();
        let at = flip % (changed.len() * 8);
        changed[at / 8] ^= 1 << (at % 8);
        assert!(peer::fuzzing::open_question(changed).is_err(), "bit {at}");
        return;
    }
    let expected = proto::Question::decode(plain);
    // A list of ids grows in memory: see the same over gRPC.
    let opened = frugally(16 * 3, data, || peer::fuzzing::open_question(body.to_vec()));
    let question = match (opened, expected) {
        (Ok(opened), Ok(expected)) => {
            assert_eq!(opened, expected);
            opened
        }
        (Err(_), Err(_)) => return,
        (opened, expected) => panic!("{opened:?} and {expected:?}"),
    };
    match question.ask {
        Some(Ask::FetchMany(asked)) => {
            if let Ok(ids) = peer::fuzzing::fetch_many(&asked.content_ids) {
                assert!(ids.len() <= 1_000);
            }
        }
        Some(Ask::Offer(told)) => grpc::offer(&told),
        Some(Ask::Want(want)) => {
            let layout = Layout::new(u64::from(question.max_message) << 20);
            if let (Some(missing), Ok(layout)) = (want.missing, layout)
                && let Ok(set) = PieceSet::from_bytes(layout.count(), &missing.bits)
            {
                assert!(set.held() <= layout.count());
            }
        }
        _ => {}
    }
}

/// Answers come out as they went in, in order, whatever the broker does to their order; and no message of them takes
/// more memory than its bytes can answer for.
pub(crate) fn answer(data: &[u8]) {
    let mut input = Input::new(data);
    let (mode, order) = (input.byte(), input.u32());
    if mode % 4 == 0 {
        let opened = frugally(8, data, || peer::fuzzing::open_answers(vec![input.rest().to_vec()], 4));
        assert_eq!((opened.refused, opened.messages.len()), (1, 0), "a stranger's bytes are no answer");
        return;
    }
    let mut parts = Vec::new();
    while !input.is_empty() && parts.len() < 8 {
        let kind = input.byte();
        parts.push((kind & 0x0f, kind & 0x80 != 0, input.part()));
    }
    let mut bodies: Vec<Vec<u8>> =
        peer::fuzzing::seal_answers(&parts).expect("a good key").iter().map(|body| body.to_vec()).collect();
    if mode % 4 == 1 && !bodies.is_empty() {
        let at = order as usize % bodies.len();
        let bit = order as usize / 8 % (bodies[at].len() * 8);
        bodies[at][bit / 8] ^= 1 << (bit % 8);
        let opened = peer::fuzzing::open_answers(bodies, 8);
        assert!(opened.refused >= 1 && came(&opened) < parts.len());
        return;
    }
    let turn = order as usize % bodies.len().max(1);
    bodies.rotate_left(turn);
    let credit = if mode & 0x80 == 0 { 8 } else { 2 };
    let opened = frugally(16, data, || peer::fuzzing::open_answers(bodies, credit));
    assert!(came(&opened) <= credit as usize);
    let ends = parts.iter().any(|(_, last, _)| *last);
    if credit == 8 && !ends {
        assert_eq!(came(&opened) + opened.refused, parts.len());
        let of = |kind: u8| {
            parts.iter().filter(move |part| part.0 % peer::fuzzing::ANSWER_KINDS == kind).map(|part| part.2)
        };
        assert!(opened.messages.iter().eq(of(0)) && opened.bytes.iter().eq(of(1)), "in order, as they were");
    }
    for failure in &opened.failures {
        crate::is_short(&failure.detail);
    }
    for message in &opened.messages {
        inside(message);
    }
}

fn came(opened: &Opened) -> usize {
    opened.messages.len() + opened.bytes.len() + opened.failures.len() + opened.empty
}

/// What a message of an answer may be, whichever the question was.
fn inside(message: &Bytes) {
    let copy = message.to_vec();
    // A list is as long as honest ones are, whatever its bytes could say; and one that grows is moved.
    let list = |most: usize, entry: usize| 2 * message.len() + 2 * most * entry;
    if let Some(page) = within(list(8_192, 104), || peer::fuzzing::file_page(message.clone())) {
        assert!(page.files.len() <= 8_192);
    }
    if let Some(batch) = within(list(1_000, 72), || peer::fuzzing::file_batch(message.clone())) {
        assert!(batch.files.len() <= 1_000);
    }
    if let Some(pieces) = within(list(1_024, 32), || peer::fuzzing::piece_set(message.clone())) {
        assert!(pieces.receivers.len() <= 1_024);
    }
    for kind in 0..peer::fuzzing::ANSWER_KINDS {
        match frugally(48, &copy, || peer::fuzzing::parcel(kind, message.clone())) {
            Some(Mailed::Piece { length, .. }) => assert_eq!((kind, length + 4), (1, copy.len())),
            Some(Mailed::Page { first_piece, page }) => {
                let id = ContentId::of(&copy);
                assert!(
                    peer::fuzzing::proof(id, &[(1, first_piece, page.clone())])
                        .is_none_or(|outline| outline.values().is_empty() && page.size <= 1 << 20)
                );
            }
            Some(Mailed::Settled(Some(failure))) => crate::is_short(&failure.detail),
            Some(Mailed::Settled(None)) | None => {}
        }
    }
}
