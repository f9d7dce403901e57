//! `Content-Disposition: attachment` for any file name (RFC 6266): a plain name that every client reads, and the exact
//! one in `filename*` (RFC 8187).

use std::fmt::Write;

use http::HeaderValue;

/// The header's value. Names come from other people: nothing in one can end the header or name a folder.
pub(crate) fn attachment(file_name: &str) -> HeaderValue {
    let plain: String = file_name
        .chars()
        .map(|c| match c {
            '"' | '\\' | '/' | '%' => '_',
            ' '..='~' => c,
            _ => '_',
        })
        .collect();
    let mut value = format!("attachment; filename=\"{plain}\"");
    if plain != file_name {
        value.push_str("; filename*=UTF-8''");
        for byte in file_name.bytes() {
            if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
                value.push(char::from(byte));
            } else {
                let _never_fails = write!(value, "%{byte:02X}");
            }
        }
    }
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_and_odd_names() {
        for (name, expected) in [
            ("a.txt", "attachment; filename=\"a.txt\""),
            ("two words.txt", "attachment; filename=\"two words.txt\""),
            ("a\"b.txt", "attachment; filename=\"a_b.txt\"; filename*=UTF-8''a%22b.txt"),
            ("né.txt", "attachment; filename=\"n_.txt\"; filename*=UTF-8''n%C3%A9.txt"),
            ("50%.txt", "attachment; filename=\"50_.txt\"; filename*=UTF-8''50%25.txt"),
        ] {
            assert_eq!(attachment(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_a_header_that_a_quote_cannot_leave(name in any::<String>()) {
            let value = attachment(&name);
            let text = value.to_str().unwrap();
            let inside = text.strip_prefix("attachment; filename=\"").unwrap();
            let (_, rest) = inside.split_once('"').unwrap();
            prop_assert!(rest.is_empty() || rest.starts_with("; filename*=UTF-8''"));
            prop_assert!(!rest.contains('"') && !rest[1.min(rest.len())..].contains("; file") || rest.matches(';').count() == 1);
        }
    }
}
