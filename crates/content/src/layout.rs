//! [`Layout`]: how a file of some size falls into pieces.

use std::ops::Range;

/// Bytes in every piece but the last: 1 MiB, a whole subtree of 1,024 BLAKE3 chunks.
pub const PIECE_SIZE: u64 = 1 << 20;

/// The largest file that can be shared: 4 TiB, whose chaining values take 128 MiB.
pub const MAX_FILE_SIZE: u64 = 1 << 42;

/// The pieces of a file of `size` bytes. An empty file has one piece of no bytes, so that it too can be asked for
/// and verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Layout {
    size: u64,
}

/// A size beyond [`MAX_FILE_SIZE`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a file of {0} bytes is larger than the {MAX_FILE_SIZE} bytes that can be shared")]
pub struct TooLarge(pub u64);

impl Layout {
    /// # Errors
    /// [`TooLarge`] for more than [`MAX_FILE_SIZE`] bytes.
    pub fn new(size: u64) -> Result<Self, TooLarge> {
        if size > MAX_FILE_SIZE { Err(TooLarge(size)) } else { Ok(Self { size }) }
    }

    /// Bytes in the whole file.
    pub fn size(self) -> u64 {
        self.size
    }

    /// Number of pieces, at least one.
    pub fn count(self) -> u32 {
        // 2^42 / 2^20 = 2^22 pieces at the most.
        u32::try_from(self.size.div_ceil(PIECE_SIZE).max(1)).unwrap_or(u32::MAX)
    }

    /// The bytes of piece `index`, as offsets in the file; empty beyond the end.
    pub fn range(self, index: u32) -> Range<u64> {
        let start = (u64::from(index) * PIECE_SIZE).min(self.size);
        start..(start + PIECE_SIZE).min(self.size)
    }

    /// Bytes in piece `index`.
    pub fn len(self, index: u32) -> u64 {
        let range = self.range(index);
        range.end - range.start
    }

    /// Whether the file has no bytes.
    pub fn is_empty(self) -> bool {
        self.size == 0
    }

    /// The bytes of the neighbouring `pieces`.
    pub fn span(self, pieces: &Range<u32>) -> Range<u64> {
        self.range(pieces.start).start..self.range(pieces.end.saturating_sub(1)).end
    }

    /// The pieces that hold the bytes `range`, which must not reach beyond the file.
    pub fn covering(self, range: &Range<u64>) -> Range<u32> {
        if range.start >= range.end {
            return 0..0;
        }
        let index = |offset: u64| u32::try_from(offset / PIECE_SIZE).unwrap_or(u32::MAX);
        index(range.start)..(index(range.end - 1) + 1).min(self.count())
    }

    /// The pieces that are exactly the bytes from `offset` on, `length` of them: both ends must be piece boundaries
    /// or the end of the file.
    pub fn whole_pieces(self, offset: u64, length: u64) -> Option<Range<u32>> {
        let end = offset.checked_add(length)?;
        let aligned = |at: u64| at.is_multiple_of(PIECE_SIZE) || at == self.size;
        if self.size == 0 {
            return (offset == 0 && length == 0).then_some(0..1);
        }
        if length == 0 || end > self.size || !offset.is_multiple_of(PIECE_SIZE) || !aligned(end) {
            return None;
        }
        Some(self.covering(&(offset..end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundary_sizes() {
        for (size, count, last) in [
            (0, 1, 0),
            (1, 1, 1),
            (PIECE_SIZE - 1, 1, PIECE_SIZE - 1),
            (PIECE_SIZE, 1, PIECE_SIZE),
            (PIECE_SIZE + 1, 2, 1),
            (5 * PIECE_SIZE, 5, PIECE_SIZE),
            (MAX_FILE_SIZE, 1 << 22, PIECE_SIZE),
        ] {
            let layout = Layout::new(size).unwrap();
            assert_eq!(layout.count(), count, "{size}");
            assert_eq!(layout.len(count - 1), last, "{size}");
            assert_eq!(layout.span(&(0..count)), 0..size, "{size}");
            assert_eq!(layout.whole_pieces(0, size), Some(0..count), "{size}");
        }
        assert_eq!(Layout::new(MAX_FILE_SIZE + 1), Err(TooLarge(MAX_FILE_SIZE + 1)));
    }

    #[test]
    fn only_whole_pieces() {
        let layout = Layout::new(3 * PIECE_SIZE + 7).unwrap();
        assert_eq!(layout.whole_pieces(PIECE_SIZE, 2 * PIECE_SIZE), Some(1..3));
        assert_eq!(layout.whole_pieces(3 * PIECE_SIZE, 7), Some(3..4));
        assert_eq!(layout.whole_pieces(3 * PIECE_SIZE, 6), None);
        assert_eq!(layout.whole_pieces(1, PIECE_SIZE - 1), None);
        assert_eq!(layout.whole_pieces(PIECE_SIZE, 0), None);
        assert_eq!(layout.whole_pieces(PIECE_SIZE, u64::MAX), None);
        assert_eq!(layout.covering(&(PIECE_SIZE - 1..PIECE_SIZE + 1)), 0..2);
        assert_eq!(layout.covering(&(5..5)), 0..0);
    }
}
