//! The seal of answers: numbered messages of one stream, the last one marked.
//!
//! ```text
//! version 1 | flags 1 | number 4 | salt 16 | ciphertext of (data | kind 1) | tag 16
//! ```
//!
//! AES-256-GCM, under a key that is derived from the question's [`ReplyKey`] and a salt that the answering side draws
//! for each stream: were the same question ever answered twice (a copy kept by the broker, a restart), two different
//! messages must not meet under one key and nonce. Source: RFC 9458 (Oblivious HTTP), 4.4, which has the same trouble.
//! The nonce is the number and whether it is the last, as in STREAM (Hoang, Reyhanitabar, Rogaway, Vizár 2015), so a
//! stream that was cut short, reordered or put together from two is noticed.
//!
//! Data goes in as it was read and comes out where it arrived: neither side copies a piece to seal or to open it, but
//! for the one copy that puts it into its message.

use std::collections::BTreeSet;

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};
use bytes::Bytes;

use super::{
    message::MessageId,
    refused::Refused,
    seal::{KeyName, ReplyKey, VERSION},
};

const INFO: &[u8] = b"trueque relay 1 answer";
const SALT: usize = 16;
/// What the associated data has of the header: all but the salt, which is in the key.
const FIXED: usize = 6;
const HEADER: usize = FIXED + SALT;
const TAG: usize = 16;
const LAST: u8 = 1;
/// Not sealed, and so no more than a hint: the question was sealed for a key that is not the receiver's any more.
const STALE_KEY: u8 = 0x80;

/// What one answer message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A protobuf message, whose type the question implies.
    Message = 1,
    /// Bytes of a file.
    Bytes = 2,
    /// A `Refusal`; always the last.
    Refusal = 3,
    /// Nothing; always the last.
    End = 4,
    /// Nothing, and there is more for whoever asks again; always the last.
    More = 5,
    /// The epoch to ask for, and no answer; always the last.
    Epoch = 6,
}

/// One answer, opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) number: u32,
    pub(crate) last: bool,
    pub(crate) kind: Kind,
    pub(crate) data: Bytes,
}

/// What the body of an answer is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    Sealed(Opened),
    /// Whoever says so is not known: a reason to look at the directory, and for nothing else.
    StaleKey,
}

/// Seals the answers to one question.
pub(crate) struct AnswerSealer {
    key: LessSafeKey,
    request: MessageId,
    salt: [u8; SALT],
    next: u32,
    /// Numbers under which a last message was sealed: there is never a second one.
    closed: BTreeSet<u32>,
}

/// Opens the answers to one question. The first stream that holds is the one that counts.
pub(crate) struct AnswerOpener {
    reply: ReplyKey,
    request: MessageId,
    bound: Option<([u8; SALT], LessSafeKey)>,
}

impl AnswerSealer {
    /// `None` where the key cannot be derived, which does not happen.
    pub(crate) fn new(reply: &ReplyKey, request: MessageId) -> Option<Self> {
        Self::with_salt(reply, request, rand::random())
    }

    fn with_salt(reply: &ReplyKey, request: MessageId, salt: [u8; SALT]) -> Option<Self> {
        Some(Self {
            key: stream_key(reply, &request, &salt)?,
            request,
            salt,
            next: 0,
            closed: BTreeSet::new(),
        })
    }

    /// The messages sealed so far.
    pub(crate) fn count(&self) -> u32 {
        self.next
    }

    /// The next message, with `data` put together. `None` where it cannot be sealed, which does not happen.
    pub(crate) fn seal(&mut self, kind: Kind, data: &[Bytes], last: bool) -> Option<Bytes> {
        let number = self.next;
        self.next = number.checked_add(1)?;
        if last {
            self.closed.insert(number);
        }
        self.seal_as(number, kind, data, last)
    }

    /// A last word in place of a message that may or may not have been sent. It is another message under another nonce,
    /// because it is the last one; `None` where that one was the last itself, or has its last word already.
    pub(crate) fn seal_instead(&mut self, number: u32, kind: Kind, data: &Bytes) -> Option<Bytes> {
        if !self.closed.insert(number) {
            return None;
        }
        self.seal_as(number, kind, std::slice::from_ref(data), true)
    }

    fn seal_as(&self, number: u32, kind: Kind, data: &[Bytes], last: bool) -> Option<Bytes> {
        let length: usize = data.iter().map(Bytes::len).sum();
        let mut body = Vec::with_capacity(HEADER + length + 1 + TAG);
        body.extend_from_slice(&[VERSION, if last { LAST } else { 0 }]);
        body.extend_from_slice(&number.to_be_bytes());
        body.extend_from_slice(&self.salt);
        data.iter().for_each(|bytes| body.extend_from_slice(bytes));
        body.push(kind as u8);
        let associated = associated(&self.request, &body);
        let nonce = nonce(number, last);
        let tag =
            self.key.seal_in_place_separate_tag(nonce, Aad::from(associated), &mut body[HEADER..]).ok()?;
        body.extend_from_slice(tag.as_ref());
        Some(body.into())
    }
}

impl AnswerOpener {
    pub(crate) fn new(reply: ReplyKey, request: MessageId) -> Self {
        Self { reply, request, bound: None }
    }

    /// Opens in place.
    ///
    /// # Errors
    /// [`Refused::Malformed`], [`Refused::Version`]; [`Refused::Forged`] where the seal does not hold;
    /// [`Refused::Duplicate`] for another stream than the one that counts.
    pub(crate) fn open(&mut self, mut body: Vec<u8>) -> Result<Answered, Refused> {
        let [version, flags, ..] = body[..] else { return Err(Refused::Malformed) };
        if version != VERSION {
            return Err(Refused::Version);
        }
        if flags == STALE_KEY {
            return Ok(Answered::StaleKey);
        }
        if flags & !LAST != 0 || body.len() < HEADER + 1 + TAG {
            return Err(Refused::Malformed);
        }
        let last = flags == LAST;
        let number = u32::from_be_bytes([body[2], body[3], body[4], body[5]]);
        let mut salt = [0; SALT];
        salt.copy_from_slice(&body[FIXED..HEADER]);
        let fresh = match &self.bound {
            Some((bound, _)) if *bound != salt => return Err(Refused::Duplicate),
            Some(_) => None,
            None => Some(stream_key(&self.reply, &self.request, &salt).ok_or(Refused::Malformed)?),
        };
        let key = fresh.as_ref().or(self.bound.as_ref().map(|(_, key)| key)).ok_or(Refused::Malformed)?;
        let associated = associated(&self.request, &body);
        key.open_in_place(nonce(number, last), Aad::from(associated), &mut body[HEADER..])
            .map_err(|_| Refused::Forged)?;
        if let Some(key) = fresh {
            self.bound = Some((salt, key));
        }
        let kind_at = body.len() - TAG - 1;
        let kind = match body[kind_at] {
            1 => Kind::Message,
            2 => Kind::Bytes,
            3 => Kind::Refusal,
            4 => Kind::End,
            5 => Kind::More,
            6 => Kind::Epoch,
            _ => return Err(Refused::Malformed),
        };
        let data = Bytes::from(body).slice(HEADER..kind_at);
        Ok(Answered::Sealed(Opened { number, last, kind, data }))
    }
}

/// Tells an asker that it sealed for a key that is not ours; `own` is the one that is.
pub(crate) fn stale_key_hint(own: KeyName) -> Bytes {
    [&[VERSION, STALE_KEY], own.as_slice()].concat().into()
}

fn stream_key(reply: &ReplyKey, request: &MessageId, salt: &[u8; SALT]) -> Option<LessSafeKey> {
    let secret = Salt::new(HKDF_SHA256, salt).extract(reply.as_bytes());
    let info = [INFO, request.as_slice()];
    secret.expand(&info, &AES_256_GCM).ok().map(UnboundKey::from).map(LessSafeKey::new)
}

fn nonce(number: u32, last: bool) -> Nonce {
    let mut nonce = [0; 12];
    nonce[0] = u8::from(last);
    nonce[8..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn associated(request: &MessageId, body: &[u8]) -> [u8; 16 + FIXED] {
    let mut associated = [0; 16 + FIXED];
    associated[..16].copy_from_slice(request);
    associated[16..].copy_from_slice(&body[..FIXED]);
    associated
}

impl std::fmt::Debug for AnswerSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerSealer").field("next", &self.next).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for AnswerOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerOpener").field("bound", &self.bound.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REQUEST: MessageId = [0xc3; 16];

    fn reply_key() -> ReplyKey {
        let bytes = hex::decode("e263187487951162867125d3a18e7ec75ff242f2ec8a2b359c227aff520c8c48").unwrap();
        ReplyKey::from_bytes(bytes.try_into().unwrap())
    }

    fn sealer() -> AnswerSealer {
        AnswerSealer::new(&reply_key(), REQUEST).unwrap()
    }

    fn opener() -> AnswerOpener {
        AnswerOpener::new(reply_key(), REQUEST)
    }

    #[test]
    fn a_refusal_in_place_of_a_message_is_another_message_and_the_last_one() {
        let mut sealer = sealer();
        let data = sealer.seal(Kind::Bytes, &[Bytes::from_static(b"data")], false).unwrap();
        let no = Bytes::from_static(b"no");
        let instead = sealer.seal_instead(0, Kind::Refusal, &no).unwrap();
        assert_eq!(sealer.seal_instead(0, Kind::Refusal, &no), None, "never twice under one nonce");
        let mut opener = opener();
        assert_eq!(opener.open(instead.to_vec()), opened(0, true, Kind::Refusal, b"no"));
        assert_eq!(opener.open(data.to_vec()), opened(0, false, Kind::Bytes, b"data"));
        sealer.seal(Kind::End, &[], true).unwrap();
        assert_eq!(sealer.seal_instead(1, Kind::Refusal, &no), None, "a last word is the last word");
        assert!(sealer.seal_instead(2, Kind::Refusal, &no).is_some());
    }

    fn opened(number: u32, last: bool, kind: Kind, data: &'static [u8]) -> Result<Answered, Refused> {
        Ok(Answered::Sealed(Opened { number, last, kind, data: Bytes::from_static(data) }))
    }

    /// The answer to the question of `seal`'s golden test, made by the same other program.
    #[test]
    fn golden_bytes() {
        let mut sealer = AnswerSealer::with_salt(&reply_key(), REQUEST, [0xf6; 16]).unwrap();
        let piece = [Bytes::from_static(b"a "), Bytes::from_static(b"piece")];
        let first = sealer.seal(Kind::Bytes, &piece, false).unwrap();
        let second = sealer.seal(Kind::End, &[], true).unwrap();
        assert_eq!(
            hex::encode(&first),
            "010000000000f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6b0d5c8935cf48f59c7239dfe9b78101ac9e41ba5c3835cdf"
        );
        assert_eq!(
            hex::encode(&second),
            "010100000001f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f644120144959beba411fd590e3686c83cdd"
        );
        let mut opener = opener();
        assert_eq!(opener.open(second.to_vec()), opened(1, true, Kind::End, b""), "in any order");
        assert_eq!(opener.open(first.to_vec()), opened(0, false, Kind::Bytes, b"a piece"));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let body = sealer().seal(Kind::Message, &[Bytes::from_static(b"yes")], true).unwrap();
        for at in 0..body.len() * 8 {
            let mut flipped = body.to_vec();
            flipped[at / 8] ^= 1 << (at % 8);
            // One bit makes it a hint, which nobody is bound to believe.
            let answer = opener().open(flipped);
            assert!(matches!(answer, Err(_) | Ok(Answered::StaleKey)), "bit {at}: {answer:?}");
        }
        for length in 0..body.len() {
            assert!(opener().open(body[..length].to_vec()).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn an_answer_belongs_to_its_question_and_its_stream() {
        let mut sealer = sealer();
        let first = sealer.seal(Kind::Bytes, &[Bytes::from_static(b"one")], false).unwrap();
        let second = sealer.seal(Kind::Bytes, &[Bytes::from_static(b"two")], true).unwrap();
        let mut of_another = AnswerOpener::new(reply_key(), [7; 16]);
        assert_eq!(of_another.open(first.to_vec()), Err(Refused::Forged), "another question");
        let mut with_another = AnswerOpener::new(ReplyKey::from_bytes([7; 32]), REQUEST);
        assert_eq!(with_another.open(first.to_vec()), Err(Refused::Forged), "another key");

        let again = self::sealer().seal(Kind::Bytes, &[Bytes::from_static(b"one")], false).unwrap();
        assert_ne!(again[HEADER..], first[HEADER..], "answered twice, it is sealed with two keys");
        let mut opener = opener();
        opener.open(second.to_vec()).unwrap();
        assert_eq!(opener.open(again.to_vec()), Err(Refused::Duplicate), "one stream counts");
        opener.open(first.to_vec()).unwrap();
    }

    #[test]
    fn a_forgery_does_not_become_the_stream_that_counts() {
        let mut forged = sealer().seal(Kind::End, &[], true).unwrap().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        let true_one = sealer().seal(Kind::End, &[], true).unwrap();
        let mut opener = opener();
        assert_eq!(opener.open(forged), Err(Refused::Forged));
        assert_eq!(opener.open(true_one.to_vec()), opened(0, true, Kind::End, b""));
    }

    #[test]
    fn the_hint_is_no_answer() {
        let hint = stale_key_hint([7; 8]);
        assert_eq!(hint, [&[1, 0x80], [7; 8].as_slice()].concat());
        assert_eq!(opener().open(hint.to_vec()), Ok(Answered::StaleKey));
        assert_eq!(opener().open(vec![2, 0]), Err(Refused::Version));
        assert_eq!(opener().open(Vec::new()), Err(Refused::Malformed));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..5), last: bool) {
            let parts: Vec<Bytes> = parts.into_iter().map(Bytes::from).collect();
            let body = sealer().seal(Kind::Bytes, &parts, last).unwrap();
            let answer = opener().open(body.to_vec()).unwrap();
            prop_assert_eq!(answer, Answered::Sealed(Opened { number: 0, last, kind: Kind::Bytes, data: parts.concat().into() }));
        }

        #[test]
        fn strangers_bytes_are_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let answer = opener().open(body);
            prop_assert!(matches!(answer, Err(_) | Ok(Answered::StaleKey)));
        }
    }
}
