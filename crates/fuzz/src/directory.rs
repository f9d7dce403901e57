//! What the directory is sent: catalog deltas and requests for certificates.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use content::{Layout, SafeName};
use directory::authority::{Authority, Request};
use rcgen::{KeyPair, PKCS_ED25519, PublicKeyData, SigningKey};
use tempfile::TempDir;
use wire::{
    PeerId, Username,
    rest::{Audience, MAX_AUDIENCE, directory::MAX_DELTA_ENTRIES},
};

use crate::{frugally, input::Input, is_short};

/// A delta that is taken has entries that a catalog can hold, and means the same when it is written again.
pub(crate) fn catalog_delta(data: &[u8]) {
    // The shortest entry has some 90 bytes, and takes 150; a list that grows is moved.
    let delta = match frugally(8, data, || directory::fuzzing::catalog_delta(data)) {
        Ok(delta) => delta,
        Err(problem) => return is_short(&problem.detail),
    };
    assert!(delta.put.len() + delta.remove.len() <= MAX_DELTA_ENTRIES);
    assert!(delta.revision > 0 && i64::try_from(delta.revision).is_ok());
    assert!(delta.reset || delta.base_revision < delta.revision);
    for put in &delta.put {
        assert!(SafeName::new(&put.name).is_ok(), "{:?}", put.name);
        assert!(put.pieces_held <= Layout::new(put.size).expect("a size that can be").count());
        assert!(put.media_type.as_ref().is_none_or(|kind| kind.len() <= 127 && kind.is_ascii()));
        let Some(Audience::Users(users)) = &put.audience else { continue };
        assert!(users.len() <= MAX_AUDIENCE);
    }
    let again = serde_json::to_vec(&delta).expect("a delta is JSON");
    assert_eq!(directory::fuzzing::catalog_delta(&again), Ok(delta));
}

/// Names in a certificate come from the account, whatever a request asks for; and a request counts only for the key
/// that signed it.
pub(crate) fn certificate_request(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let pem = match kind % 3 {
        0 => match std::str::from_utf8(input.rest()) {
            Ok(text) => text.to_owned(),
            Err(_) => return,
        },
        1 => pem_of(input.rest()),
        _ => {
            let subject = input.part();
            pem_of(&signed(subject, input.rest(), kind & 0x80 != 0))
        }
    };
    let read = frugally(64, pem.as_bytes(), || Request::read(&pem));
    let Ok(request) = read else { return };
    if kind % 3 == 2 {
        assert!(kind & 0x80 == 0, "nothing is taken that was changed after it was signed");
        assert_eq!(request.peer_id, peer::identity::peer_id_of(&KEY.subject_public_key_info()));
    }
    let username: Username = "ana".parse().expect("a username");
    let issued = AUTHORITY.0.issue(&request, &username, 1_800_000_000_000).expect("it is signed");
    let named: Option<(PeerId, Username)> = peer::fuzzing::named_by(&der_of(&issued));
    assert_eq!(named, Some((request.peer_id, username)));
}

static AUTHORITY: LazyLock<(Authority, TempDir)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    (Authority::open(folder.path(), 1_800_000_000_000).expect("an authority"), folder)
});

/// Whoever asks.
static KEY: LazyLock<KeyPair> = LazyLock::new(|| {
    let mut der = b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20".to_vec();
    der.extend_from_slice(&[7; 32]);
    KeyPair::from_pkcs8_der_and_sign_algo(&der.as_slice().into(), &PKCS_ED25519).expect("a key")
});

/// A request with this subject and these attributes, in DER, signed; or changed after it was.
fn signed(subject: &[u8], attributes: &[u8], changed: bool) -> Vec<u8> {
    let body = [b"\x02\x01\x00", subject, &KEY.subject_public_key_info(), attributes].concat();
    let mut body = sequence(&body);
    let signature = KEY.sign(&body).expect("it signs");
    if changed {
        let last = body.len() - 1;
        body[last] ^= 1;
    }
    let algorithm = b"\x30\x05\x06\x03\x2b\x65\x70";
    let bits = [b"\x03\x41\x00", signature.as_slice()].concat();
    sequence(&[body.as_slice(), algorithm, &bits].concat())
}

fn sequence(inside: &[u8]) -> Vec<u8> {
    let length = u32::try_from(inside.len()).expect("it is short").to_be_bytes();
    [&[0x30, 0x84], length.as_slice(), inside].concat()
}

fn pem_of(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    let name = "CERTIFICATE REQUEST";
    format!("-----BEGIN {name}-----\n{}\n-----END {name}-----\n", lines.join("\n"))
}

fn der_of(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64.decode(text).expect("a certificate in PEM")
}
