//! Which bytes of a file a request wants: `Range` and `If-Range` (RFC 9110, section 14), as plain arithmetic.
//!
//! One range is served. What is not a range of bytes, or is more than one, is ignored as the RFC allows, and the whole
//! file is the answer; a range that lies outside the file is refused.

use std::ops::Range;

/// What to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Whole,
    /// Not empty, and inside the file.
    Part(Range<u64>),
    Unsatisfiable,
}

/// Reads `Range` for a file of `size` bytes.
pub(crate) fn wanted(range: Option<&str>, size: u64) -> Wanted {
    let Some((unit, set)) = range.and_then(|range| range.split_once('=')) else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else { return Wanted::Whole };
    match (first, last) {
        ("", suffix) => match number(suffix) {
            None => Wanted::Whole,
            Some(0) => Wanted::Unsatisfiable,
            // The last bytes of nothing: there is no way to say that as a part.
            Some(_) if size == 0 => Wanted::Whole,
            Some(length) => Wanted::Part(size.saturating_sub(length)..size),
        },
        (first, "") => match number(first) {
            None => Wanted::Whole,
            Some(first) if first >= size => Wanted::Unsatisfiable,
            Some(first) => Wanted::Part(first..size),
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first > last => Wanted::Whole,
            (Some(first), Some(_)) if first >= size => Wanted::Unsatisfiable,
            (Some(first), Some(last)) => Wanted::Part(first..last.saturating_add(1).min(size)),
            _ => Wanted::Whole,
        },
    }
}

/// Digits alone; a number beyond all files is one that lies outside.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        let part = Wanted::Part;
        for (range, size, expected) in [
            (None, 10, Wanted::Whole),
            (Some("bytes=0-3"), 10, part(0..4)),
            (Some("bytes=0-0"), 1, part(0..1)),
            (Some("bytes=3-"), 10, part(3..10)),
            (Some("bytes=-3"), 10, part(7..10)),
            (Some("bytes=-99"), 10, part(0..10)),
            (Some("bytes=5-99999999999999999999999"), 10, part(5..10)),
            (Some("BYTES = 1-2"), 10, part(1..3)),
            (Some("bytes=9-9"), 10, part(9..10)),
            (Some("bytes=10-"), 10, Wanted::Unsatisfiable),
            (Some("bytes=10-20"), 10, Wanted::Unsatisfiable),
            (Some("bytes=-0"), 10, Wanted::Unsatisfiable),
            (Some("bytes=0-"), 0, Wanted::Unsatisfiable),
            (Some("bytes=0-0"), 0, Wanted::Unsatisfiable),
            (Some("bytes=-1"), 0, Wanted::Whole),
            (Some("bytes=5-2"), 10, Wanted::Whole),
            (Some("bytes=a-b"), 10, Wanted::Whole),
            (Some("bytes=-"), 10, Wanted::Whole),
            (Some("bytes=1"), 10, Wanted::Whole),
            (Some("bytes=+1-2"), 10, Wanted::Whole),
            (Some("bytes=0-1,3-4"), 10, Wanted::Whole),
            (Some("pieces=0-1"), 10, Wanted::Whole),
            (Some("bytes"), 10, Wanted::Whole),
            (Some(""), 10, Wanted::Whole),
        ] {
            assert_eq!(wanted(range, size), expected, "{range:?} of {size}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_inside_the_file_and_not_empty(text in "(bytes=)?[0-9,-]{0,24}", size in 0..50u64) {
            if let Wanted::Part(range) = wanted(Some(&text), size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn a_range_inside_is_taken_as_it_is(first in 0..1000u64, more in 0..1000u64) {
            let last = first + more;
            prop_assert_eq!(wanted(Some(&format!("bytes={first}-{last}")), 2000), Wanted::Part(first..last + 1));
        }
    }
}
