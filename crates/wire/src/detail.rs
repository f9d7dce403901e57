//! [`shortened`]: what a refusal says is for people to read. It may repeat what was sent, which may be as long as a body.

/// The most bytes of a refusal's detail.
pub const MAX_DETAIL: usize = 1_000;

/// The text, cut at a character where it is longer than [`MAX_DETAIL`].
pub fn shortened(mut detail: String) -> String {
    if detail.len() > MAX_DETAIL {
        detail.truncate(detail.floor_char_boundary(MAX_DETAIL - '…'.len_utf8()));
        detail.push('…');
        detail.shrink_to_fit();
    }
    detail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_detail_is_cut_at_a_character() {
        assert_eq!(shortened("short".to_owned()), "short");
        assert_eq!(shortened("x".repeat(MAX_DETAIL)).len(), MAX_DETAIL);
        let cut = shortened("é".repeat(MAX_DETAIL));
        assert!(cut.len() <= MAX_DETAIL && cut.ends_with("é…"), "{cut}");
    }
}
