//! The seal of a question: only its receiver can read it, and the receiver knows who asked.
//!
//! HPKE (RFC 9180) in mode Auth with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and AES-256-GCM, once for each question.
//! Both peers and the version are in `info`; everything that the broker reads (route, ids, where the answers go) is in
//! the associated data, so nothing can be cut out of one message and pasted into another. Both sides get the same
//! [`ReplyKey`] from it, by which the answers are sealed: see [`super::answer`].
//!
//! What it does not give: whoever steals a peer's sealing key can read what was sealed for it, and can ask it in other
//! peers' names (RFC 9180, 9.1.1). A stolen key is one that has to be replaced.

use bytes::Bytes;
use hpke::{Deserializable, Kem as _, OpModeR, OpModeS, Serializable, aead::AesGcm256, kdf::HkdfSha256};
use prost::Message;
use sha2::{Digest, Sha256};
use wire::{PeerId, proto};
use zeroize::Zeroizing;

use super::{
    message::{AnswerQueue, MessageId, Route},
    refused::Refused,
};
use crate::identity::Identity;

type Kem = hpke::kem::X25519HkdfSha256;

/// The version of everything that is sealed, and of the envelope around it.
pub(super) const VERSION: u8 = 1;
const INFO: &[u8] = b"trueque relay 1 question";
const EXPORT: &[u8] = b"answers";

/// Names a public key: the first bytes of its SHA-256. Tells a key that was replaced from a forgery.
pub(crate) type KeyName = [u8; 8];

/// This peer's sealing keys.
pub(crate) struct OwnKeys {
    private: <Kem as hpke::Kem>::PrivateKey,
    public: PeerKey,
}

/// Another peer's public sealing key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PeerKey {
    key: <Kem as hpke::Kem>::PublicKey,
    name: KeyName,
}

/// A key that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its sealing key cannot be used")]
pub(crate) struct BadKey;

/// What the broker sees of a question, and what the seal is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Routing {
    pub(crate) from: PeerId,
    pub(crate) to: PeerId,
    pub(crate) route: Route,
    pub(crate) message_id: MessageId,
    pub(crate) answer_to: Option<AnswerQueue>,
}

/// What seals the answers to one question. It can be kept, for answers that come when this process is another one.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ReplyKey(Zeroizing<[u8; 32]>);

impl OwnKeys {
    /// # Errors
    /// [`BadKey`] for bytes that are no key, which those of an [`Identity`] never are.
    pub(crate) fn of(identity: &Identity) -> Result<Self, BadKey> {
        Self::from_private(identity.sealing_private())
    }

    pub(crate) fn from_private(bytes: &[u8; 32]) -> Result<Self, BadKey> {
        let private = <Kem as hpke::Kem>::PrivateKey::from_bytes(bytes).map_err(|_| BadKey)?;
        let public = PeerKey::new(Kem::sk_to_pk(&private));
        Ok(Self { private, public })
    }

    pub(crate) fn name(&self) -> KeyName {
        self.public.name
    }

    pub(crate) fn public(&self) -> &PeerKey {
        &self.public
    }
}

impl PeerKey {
    fn new(key: <Kem as hpke::Kem>::PublicKey) -> Self {
        let hash = Sha256::digest(key.to_bytes());
        let mut name = KeyName::default();
        name.copy_from_slice(&hash[..8]);
        Self { key, name }
    }

    /// As the directory lists it.
    ///
    /// # Errors
    /// [`BadKey`] for anything but 64 hex digits.
    pub(crate) fn from_hex(text: &str) -> Result<Self, BadKey> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| BadKey)?;
        <Kem as hpke::Kem>::PublicKey::from_bytes(&bytes).map(Self::new).map_err(|_| BadKey)
    }

    pub(crate) fn to_hex(&self) -> String {
        hex::encode(self.key.to_bytes())
    }

    pub(crate) fn name(&self) -> KeyName {
        self.name
    }
}

impl Routing {
    fn info(&self) -> Vec<u8> {
        [INFO, self.from.as_bytes(), self.to.as_bytes()].concat()
    }

    /// Everything of fixed length but the last, which may be missing.
    fn associated(&self, receiver: KeyName, sender: KeyName) -> Result<Vec<u8>, Refused> {
        let route = match self.route {
            Route::Live => 1,
            Route::Want => 2,
            Route::Answer(_) | Route::Mailbox => return Err(Refused::Misplaced),
        };
        let answer_to = self.answer_to.as_ref().map_or(&[][..], |queue| queue);
        Ok([
            self.to.as_bytes().as_slice(),
            self.from.as_bytes(),
            &[route],
            &self.message_id,
            &receiver,
            &sender,
            answer_to,
        ]
        .concat())
    }
}

impl ReplyKey {
    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Seals a question.
///
/// # Errors
/// [`BadKey`] where `to` is a point that no honest peer has.
pub(crate) fn seal(
    own: &OwnKeys,
    to: &PeerKey,
    routing: &Routing,
    question: &proto::Question,
) -> Result<(Bytes, ReplyKey), BadKey> {
    seal_bytes(own, to, routing, &question.encode_to_vec())
}

/// Seals what should be an encoded question.
///
/// # Errors
/// As [`seal`].
pub(crate) fn seal_bytes(
    own: &OwnKeys,
    to: &PeerKey,
    routing: &Routing,
    question: &[u8],
) -> Result<(Bytes, ReplyKey), BadKey> {
    let associated = routing.associated(to.name, own.name()).map_err(|_| BadKey)?;
    let mode = OpModeS::Auth((own.private.clone(), own.public.key.clone()));
    let (enc, mut context) =
        hpke::setup_sender::<AesGcm256, HkdfSha256, Kem>(&mode, &to.key, &routing.info())
            .map_err(|_| BadKey)?;
    let ciphertext = context.seal(question, &associated).map_err(|_| BadKey)?;
    let mut reply = Zeroizing::new([0; 32]);
    context.export(EXPORT, reply.as_mut_slice()).map_err(|_| BadKey)?;
    let sealed = proto::Sealed {
        version: VERSION.into(),
        receiver_key: Bytes::copy_from_slice(&to.name),
        sender_key: Bytes::copy_from_slice(&own.name()),
        enc: Bytes::copy_from_slice(&enc.to_bytes()),
        ciphertext: ciphertext.into(),
    };
    Ok((sealed.encode_to_vec().into(), ReplyKey(reply)))
}

/// A question as it came, before it is opened.
#[derive(Debug)]
pub(crate) struct Envelope {
    enc: Bytes,
    ciphertext: Bytes,
    pub(crate) receiver_key: KeyName,
    pub(crate) sender_key: KeyName,
}

impl Envelope {
    /// # Errors
    /// [`Refused::Malformed`] or [`Refused::Version`].
    pub(crate) fn read(body: Vec<u8>) -> Result<Self, Refused> {
        let sealed = proto::Sealed::decode(Bytes::from(body)).map_err(|_| Refused::Malformed)?;
        if sealed.version != u32::from(VERSION) {
            return Err(Refused::Version);
        }
        let name = |bytes: &Bytes| KeyName::try_from(bytes.as_ref()).map_err(|_| Refused::Malformed);
        Ok(Self {
            receiver_key: name(&sealed.receiver_key)?,
            sender_key: name(&sealed.sender_key)?,
            enc: sealed.enc,
            ciphertext: sealed.ciphertext,
        })
    }

    /// Opens it, where it was sealed for us by the peer with the key `from`.
    ///
    /// # Errors
    /// [`Refused::Forged`] where it was not; [`Refused::Malformed`] where what was sealed is no question.
    pub(crate) fn open(
        &self,
        own: &OwnKeys,
        from: &PeerKey,
        routing: &Routing,
    ) -> Result<(proto::Question, ReplyKey), Refused> {
        let associated = routing.associated(self.receiver_key, self.sender_key)?;
        let enc = <Kem as hpke::Kem>::EncappedKey::from_bytes(&self.enc).map_err(|_| Refused::Malformed)?;
        let mode = OpModeR::Auth(from.key.clone());
        let mut context =
            hpke::setup_receiver::<AesGcm256, HkdfSha256, Kem>(&mode, &own.private, &enc, &routing.info())
                .map_err(|_| Refused::Forged)?;
        let question = context.open(&self.ciphertext, &associated).map_err(|_| Refused::Forged)?;
        let mut reply = Zeroizing::new([0; 32]);
        context.export(EXPORT, reply.as_mut_slice()).map_err(|_| Refused::Forged)?;
        let question = proto::Question::decode(Bytes::from(question)).map_err(|_| Refused::Malformed)?;
        Ok((question, ReplyKey(reply)))
    }
}

impl std::fmt::Debug for OwnKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OwnKeys").field("public", &self.public).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PeerKey({})", hex::encode(self.name))
    }
}

impl std::fmt::Debug for ReplyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReplyKey")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use hpke::aead::AesGcm128;

    pub(in super::super) const ANA: PeerId = PeerId::from_bytes([0xa1; 16]);
    pub(in super::super) const BETO: PeerId = PeerId::from_bytes([0xb2; 16]);

    /// Keys whose private half counts up from `first`.
    fn keys(first: u8) -> OwnKeys {
        OwnKeys::from_private(&std::array::from_fn(|at| first + u8::try_from(at).unwrap())).unwrap()
    }

    fn ana_to_beto() -> Routing {
        Routing {
            from: ANA,
            to: BETO,
            route: Route::Live,
            message_id: [0xc3; 16],
            answer_to: Some([0xd4; 8]),
        }
    }

    fn fetch() -> proto::Question {
        let fetch =
            proto::FetchRequest { content_id: vec![0xe5; 32].into(), offset: 1 << 20, length: 5 << 20 };
        let ask = Some(proto::question::Ask::Fetch(fetch));
        proto::Question { credit: 4, max_message: 256 << 10, patience_ms: 10_000, ask, ..Default::default() }
    }

    fn open(
        body: &[u8],
        own: &OwnKeys,
        from: &PeerKey,
        routing: &Routing,
    ) -> Result<proto::Question, Refused> {
        Envelope::read(body.to_vec())?.open(own, from, routing).map(|(question, _)| question)
    }

    /// RFC 9180, A.1.3: the published vector with our KEM, KDF and mode, and AES-128-GCM.
    #[test]
    fn the_rfcs_vector() {
        let bytes = |text: &str| hex::decode(text).unwrap();
        let private = bytes("fdea67cf831f1ca98d8e27b1f6abeb5b7745e9d35348b80fa407ff6958f9137e");
        let sender = bytes("8b0c70873dc5aecb7f9ee4e62406a397b350e57012be45cf53b7105ae731790b");
        let enc = bytes("23fb952571a14a25e3d678140cd0e5eb47a0961bb18afcf85896e5453c312e76");
        let ciphertext = bytes(
            "5fd92cc9d46dbf8943e72a07e42f363ed5f721212cd90bcfd072bfd9f44e06b80fd17824947496e21b680c141b",
        );
        let mut context = hpke::setup_receiver::<AesGcm128, HkdfSha256, Kem>(
            &OpModeR::Auth(<Kem as hpke::Kem>::PublicKey::from_bytes(&sender).unwrap()),
            &<Kem as hpke::Kem>::PrivateKey::from_bytes(&private).unwrap(),
            &<Kem as hpke::Kem>::EncappedKey::from_bytes(&enc).unwrap(),
            b"Ode on a Grecian Urn",
        )
        .unwrap();
        assert_eq!(context.open(&ciphertext, b"Count-0").unwrap(), b"Beauty is truth, truth beauty");
        let mut exported = [0; 32];
        context.export(b"", &mut exported).unwrap();
        assert_eq!(hex::encode(exported), "28c70088017d70c896a8420f04702c5a321d9cbf0279fba899b59e51bac72c85");
    }

    /// A whole question, made by another implementation (a few lines of Python over `hmac` and `cryptography`) from
    /// the keys 01…20, 21…40 and, for the encapsulated one, 41…60.
    #[test]
    fn a_question_made_by_another_program() {
        let body = hex::decode(
            "0801120844571347945591821a08aaa8fff703b50b22222064b101b1d0be5a8704bd078f9895001fc03e8e9f\
             9522f188dd128d9846d484662a469468cb85ff89b0803ab2d64f61753104df2e24f23df78b53a7a0198fe29b\
             01c654a0198d0a897a2f793311cd16b0ef7cf3faf403312df96a6f319a51e62113a450d11b8cb4b9",
        )
        .unwrap();
        let (ana, beto) = (keys(1), keys(0x21));
        let envelope = Envelope::read(body).unwrap();
        assert_eq!((envelope.receiver_key, envelope.sender_key), (beto.name(), ana.name()));
        let (question, reply) = envelope.open(&beto, &ana.public, &ana_to_beto()).unwrap();
        assert_eq!(question, fetch());
        assert_eq!(
            hex::encode(reply.as_bytes()),
            "e263187487951162867125d3a18e7ec75ff242f2ec8a2b359c227aff520c8c48"
        );
    }

    #[test]
    fn only_the_receiver_opens_it_and_both_have_the_key_for_the_answers() {
        let (ana, beto, carla) = (keys(1), keys(0x21), keys(0x81));
        let (body, reply) = seal(&ana, &beto.public, &ana_to_beto(), &fetch()).unwrap();
        let (question, again) =
            Envelope::read(body.to_vec()).unwrap().open(&beto, &ana.public, &ana_to_beto()).unwrap();
        assert_eq!((question, again), (fetch(), reply));
        assert_eq!(open(&body, &carla, &ana.public, &ana_to_beto()), Err(Refused::Forged), "not for carla");
        assert_eq!(open(&body, &beto, &carla.public, &ana_to_beto()), Err(Refused::Forged), "not by carla");
        assert_eq!(format!("{ana:?} {:?}", ana.public).matches("PeerKey").count(), 2, "no key is shown");
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let (ana, beto) = (keys(1), keys(0x21));
        let (body, _) = seal(&ana, &beto.public, &ana_to_beto(), &fetch()).unwrap();
        for at in 0..body.len() * 8 {
            let mut flipped = body.to_vec();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(open(&flipped, &beto, &ana.public, &ana_to_beto()).is_err(), "bit {at}");
        }
        assert!(open(&body[..body.len() - 1], &beto, &ana.public, &ana_to_beto()).is_err(), "cut short");
    }

    #[test]
    fn nothing_of_its_routing_can_be_exchanged() {
        let (ana, beto) = (keys(1), keys(0x21));
        let (body, _) = seal(&ana, &beto.public, &ana_to_beto(), &fetch()).unwrap();
        let as_sent = ana_to_beto();
        for routing in [
            Routing { from: PeerId::from_bytes([7; 16]), ..as_sent },
            Routing { to: PeerId::from_bytes([7; 16]), ..as_sent },
            Routing { from: BETO, to: ANA, ..as_sent },
            Routing { route: Route::Want, ..as_sent },
            Routing { message_id: [7; 16], ..as_sent },
            Routing { answer_to: Some([7; 8]), ..as_sent },
            Routing { answer_to: None, ..as_sent },
        ] {
            assert_eq!(open(&body, &beto, &ana.public, &routing), Err(Refused::Forged), "{routing:?}");
        }
        let mailbox = Routing { route: Route::Mailbox, ..as_sent };
        assert_eq!(open(&body, &beto, &ana.public, &mailbox), Err(Refused::Misplaced));
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let read = |sealed: proto::Sealed| Envelope::read(sealed.encode_to_vec()).map(|_| ());
        let name = Bytes::from_static(&[7; 8]);
        let good = proto::Sealed {
            version: 1,
            receiver_key: name.clone(),
            sender_key: name.clone(),
            ..Default::default()
        };
        assert_eq!(read(good.clone()), Ok(()));
        assert_eq!(read(proto::Sealed { version: 2, ..good.clone() }), Err(Refused::Version));
        assert_eq!(read(proto::Sealed { sender_key: Bytes::new(), ..good.clone() }), Err(Refused::Malformed));
        assert_eq!(Envelope::read(vec![0xff; 50]).map(|_| ()), Err(Refused::Malformed));
        let (ana, beto) = (keys(1), keys(0x21));
        let opened = Envelope::read(good.encode_to_vec()).unwrap().open(&beto, &ana.public, &ana_to_beto());
        assert_eq!(opened.map(|_| ()), Err(Refused::Malformed), "the encapsulated key has no bytes");
        let low = PeerKey::from_hex(&"00".repeat(32)).unwrap();
        assert_eq!(
            seal(&ana, &low, &ana_to_beto(), &fetch()).map(|_| ()),
            Err(BadKey),
            "a point of low order"
        );
        assert_eq!(PeerKey::from_hex("7"), Err(BadKey));
    }
}
