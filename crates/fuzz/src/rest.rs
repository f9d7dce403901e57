//! What both REST APIs read: bodies, queries, cursors, headers, and the small texts in them.

use content::ContentId;
use http::Uri;
use peer::events::EventId;
use serde::{Serialize, de::DeserializeOwned};
use wire::{
    PeerId, Username,
    http::{page, read_json, read_query},
    rest::{Audience, accounts as a, directory as d, pclient as p},
};

use crate::{frugally, input::Input, is_short};

/// A body that is taken means the same when it is written again; a refusal of it is short.
pub(crate) fn request_body(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let body = input.rest();
    match kind % 12 {
        0 => {
            let session = match frugally(8, data, || directory::fuzzing::session(body)) {
                Ok(session) => session,
                Err(problem) => return is_short(&problem.detail),
            };
            assert!(session.endpoints.len() <= 16 && session.endpoints.iter().all(|at| at.len() <= 255));
            assert!(hex_of(&session.sealing_key, 64) && session.version.len() <= 64);
            assert!(!format!("{session:?}").contains(&format!("{:?}", session.password)), "it is not shown");
            same_again(&session, body);
        }
        1 => read_twice::<d::RenewRequest>(body),
        2 => read_twice::<d::AccountRequest>(body),
        3 => read_twice::<d::LocateRequest>(body),
        4 => read_twice::<d::Report>(body),
        5 => read_twice::<d::InviteRequest>(body),
        6 => read_twice::<a::LoginRequest>(body),
        7 => read_twice::<p::ShareRequest>(body),
        8 => read_twice::<p::FilePatch>(body),
        9 => read_twice::<p::BatchRequest>(body),
        10 => read_twice::<p::OfferRequest>(body),
        _ => read_twice::<p::TicketRequest>(body),
    }
}

fn read_twice<T: DeserializeOwned + Serialize>(body: &[u8]) {
    match frugally(8, body, || read_json::<T>(body)) {
        Ok(read) => same_again(&read, body),
        Err(problem) => is_short(&problem.detail),
    }
}

fn same_again<T: DeserializeOwned + Serialize>(read: &T, body: &[u8]) {
    let written = serde_json::to_vec(read).expect("it is JSON");
    let again: T = read_json(&written).unwrap_or_else(|problem| {
        panic!("{} was {}: {}", written.escape_ascii(), body.escape_ascii(), &problem.detail)
    });
    assert_eq!(serde_json::to_vec(&again).expect("it is JSON"), written);
}

fn hex_of(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Queries, cursors and small texts: what is taken is within its limits, and is written in one way.
pub(crate) fn query(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte();
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    match kind % 12 {
        0 => {
            let Ok(uri) = format!("/v1/search?{text}").parse::<Uri>() else { return };
            match frugally(64, data, || directory::fuzzing::search(&uri)) {
                Ok(search) => {
                    assert!((1..=200).contains(&search.limit) && search.min_size <= search.max_size);
                    assert!(search.after.is_none_or(|after| after >= 0));
                    let Some(words) = search.words else { return };
                    assert!(words.grams(|gram| u32::try_from(gram.len()).unwrap_or(0)).len() <= 6);
                }
                Err(problem) => is_short(&problem.detail),
            }
        }
        1 => query_of::<d::PageQuery>(text),
        2 => query_of::<d::PeersQuery>(text),
        3 => query_of::<p::FilesQuery>(text),
        4 => query_of::<p::DownloadsQuery>(text),
        5 => query_of::<p::OffersQuery>(text),
        6 => {
            cursor::<i64>(text);
            cursor::<(String, ContentId)>(text);
        }
        7 => in_one_way::<EventId>(text),
        8 => in_one_way::<ContentId>(text),
        9 => {
            in_one_way::<PeerId>(text);
            in_one_way::<Username>(text);
        }
        10 => match frugally(64, data, || peer::fuzzing::audience(text)) {
            Ok(Audience::Users(users)) => assert!(users.len() <= wire::rest::MAX_AUDIENCE),
            Ok(Audience::Network) => {}
            Err(problem) => is_short(&problem.detail),
        },
        _ => {
            if let Err(why) = frugally(64, data, || peer::relay::broker::check_addresses(text)) {
                is_short(&why);
            }
        }
    }
}

fn query_of<T: DeserializeOwned>(text: &str) {
    let Ok(uri) = format!("/?{text}").parse::<Uri>() else { return };
    if let Err(problem) = frugally(32, text.as_bytes(), || read_query::<T>(&uri)) {
        is_short(&problem.detail);
    }
}

fn cursor<K: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(Some(key)) = frugally(8, text.as_bytes(), || page::decode_cursor::<K>(Some(text))) {
        assert!(text.len() <= 4096);
        assert_eq!(page::decode_cursor(Some(&page::encode_cursor(&key))), Ok(Some(key)));
    }
}

fn in_one_way<T: std::str::FromStr + ToString>(text: &str) {
    if let Ok(read) = frugally(8, text.as_bytes(), || text.parse::<T>()) {
        assert_eq!(read.to_string(), text);
    }
}

/// A range that is served lies inside the file, is not empty, and is asked for by its own name again.
pub(crate) fn range_header(data: &[u8]) {
    let mut input = Input::new(data);
    let size = input.u64() >> (input.byte() % 64);
    let Ok(header) = std::str::from_utf8(input.rest()) else { return };
    let wanted = frugally(1, data, || peer::fuzzing::wanted(header, size));
    let Ok(Some(part)) = wanted else { return };
    assert!(part.start < part.end && part.end <= size, "{part:?} of {size}");
    let exactly = format!("bytes={}-{}", part.start, part.end - 1);
    assert_eq!(peer::fuzzing::wanted(&exactly, size), Ok(Some(part)));
}
