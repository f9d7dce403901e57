//! [`PieceSet`]: which pieces of a file a holder has.
//!
//! A plain bit set. On the wire it is its bytes, the lowest bit of the first byte for piece 0, and a full set is
//! no bytes at all, because nearly every holder has nearly every file whole.

use std::ops::Range;

/// Which of `count` pieces are there.
#[derive(Clone, PartialEq, Eq)]
pub struct PieceSet {
    count: u32,
    held: u32,
    words: Vec<u64>,
}

/// Bytes that are not a piece set of the expected size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PieceSetError {
    #[error("a set of {count} pieces takes {expected} bytes, not {got}")]
    Length { count: u32, expected: usize, got: usize },
    #[error("the set names a piece beyond the last of {0}")]
    BeyondEnd(u32),
}

impl PieceSet {
    /// None of `count` pieces.
    pub fn empty(count: u32) -> Self {
        Self { count, held: 0, words: vec![0; (count as usize).div_ceil(64)] }
    }

    /// All of `count` pieces.
    pub fn full(count: u32) -> Self {
        let mut words = vec![u64::MAX; (count as usize).div_ceil(64)];
        if let Some(last) = words.last_mut() {
            *last >>= (64 - count % 64) % 64;
        }
        Self { count, held: count, words }
    }

    /// Number of pieces that there could be.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Number of pieces that are there.
    pub fn held(&self) -> u32 {
        self.held
    }

    pub fn is_full(&self) -> bool {
        self.held == self.count
    }

    pub fn is_empty(&self) -> bool {
        self.held == 0
    }

    pub fn contains(&self, index: u32) -> bool {
        index < self.count && self.words[index as usize / 64] >> (index % 64) & 1 == 1
    }

    /// Whether all of `range` is there; true for an empty range.
    pub fn contains_range(&self, range: Range<u32>) -> bool {
        range.end <= self.count && range.into_iter().all(|index| self.contains(index))
    }

    /// Adds a piece; false where it was there already or does not exist.
    pub fn insert(&mut self, index: u32) -> bool {
        let new = index < self.count && !self.contains(index);
        if new {
            self.words[index as usize / 64] |= 1 << (index % 64);
            self.held += 1;
        }
        new
    }

    pub fn insert_range(&mut self, range: Range<u32>) {
        for index in range {
            self.insert(index);
        }
    }

    /// Takes a piece out; false where it was not there.
    pub fn remove(&mut self, index: u32) -> bool {
        let was = self.contains(index);
        if was {
            self.words[index as usize / 64] &= !(1 << (index % 64));
            self.held -= 1;
        }
        was
    }

    /// Adds every piece of `other`, a set of the same file.
    pub fn union_with(&mut self, other: &Self) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
        self.held = self.words.iter().map(|word| word.count_ones()).sum();
    }

    /// The pieces that are there, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.count).filter(|&index| self.contains(index))
    }

    /// The pieces that are missing, lowest first.
    pub fn missing(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.count).filter(|&index| !self.contains(index))
    }

    /// The first piece from `start` on that is in both sets. Looks at 64 at a time.
    pub fn first_common(&self, other: &Self, start: u32) -> Option<u32> {
        let mut word = start as usize / 64;
        let mut mask = u64::MAX << (start % 64);
        while let (Some(a), Some(b)) = (self.words.get(word), other.words.get(word)) {
            let common = a & b & mask;
            if common != 0 {
                return u32::try_from(word * 64).ok().map(|base| base + common.trailing_zeros());
            }
            mask = u64::MAX;
            word += 1;
        }
        None
    }

    /// The longest run from `start` on whose pieces are all there.
    pub fn run_from(&self, start: u32) -> Range<u32> {
        let end = (start..self.count).find(|&index| !self.contains(index)).unwrap_or(self.count);
        start..end.max(start)
    }

    /// The set as bytes; none for a full set.
    pub fn to_bytes(&self) -> Vec<u8> {
        if self.is_full() {
            return Vec::new();
        }
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.truncate(Self::bytes_for(self.count));
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote, for a file of `count` pieces.
    ///
    /// # Errors
    /// Where the length is neither nought nor that of `count` pieces, or a bit beyond the last piece is set.
    pub fn from_bytes(count: u32, bytes: &[u8]) -> Result<Self, PieceSetError> {
        if bytes.is_empty() {
            return Ok(Self::full(count));
        }
        let expected = Self::bytes_for(count);
        if bytes.len() != expected {
            return Err(PieceSetError::Length { count, expected, got: bytes.len() });
        }
        let mut set = Self::empty(count);
        for (word, chunk) in set.words.iter_mut().zip(bytes.chunks(8)) {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_le_bytes(eight);
        }
        let spare = set.words.len() * 64 - count as usize;
        if spare > 0
            && set.words.last().is_some_and(|word| word.leading_zeros() < u32::try_from(spare).unwrap_or(64))
        {
            return Err(PieceSetError::BeyondEnd(count));
        }
        set.held = set.words.iter().map(|word| word.count_ones()).sum();
        Ok(set)
    }

    fn bytes_for(count: u32) -> usize {
        (count as usize).div_ceil(8)
    }
}

impl std::fmt::Debug for PieceSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PieceSet({} of {})", self.held, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_bytes() {
        let mut set = PieceSet::empty(10);
        set.insert_range(0..3); // bits 0, 1, 2 of the first byte
        set.insert(9); // bit 1 of the second
        assert_eq!(set.to_bytes(), [0b0000_0111, 0b0000_0010]);
        set.insert_range(0..10);
        assert_eq!(set.to_bytes(), [0; 0], "a full set is no bytes");
        assert_eq!(PieceSet::empty(10).to_bytes(), [0, 0], "an empty one is");
    }

    /// "All of them" is said in no bytes, so it must cost little however many pieces there are.
    #[test]
    fn a_full_set_is_made_at_once() {
        for count in [0, 1, 63, 64, 65, 1 << 22] {
            let mut one_by_one = PieceSet::empty(count);
            one_by_one.insert_range(0..count);
            assert_eq!(PieceSet::full(count), one_by_one, "{count}");
        }
    }

    #[test]
    fn foreign_bytes_are_refused() {
        assert_eq!(
            PieceSet::from_bytes(9, &[0]),
            Err(PieceSetError::Length { count: 9, expected: 2, got: 1 })
        );
        assert_eq!(PieceSet::from_bytes(9, &[0, 0b10]), Err(PieceSetError::BeyondEnd(9)));
        assert!(PieceSet::from_bytes(64, &[255; 8]).unwrap().is_full());
    }

    proptest! {
        #[test]
        fn agrees_with_a_list_of_flags(flags in prop::collection::vec(any::<bool>(), 1..300), drop in any::<prop::sample::Index>()) {
            let count = u32::try_from(flags.len()).unwrap();
            let mut set = PieceSet::empty(count);
            for (index, _) in flags.iter().enumerate().filter(|(_, held)| **held) {
                prop_assert!(set.insert(u32::try_from(index).unwrap()));
            }
            prop_assert_eq!(set.held() as usize, flags.iter().filter(|held| **held).count());
            prop_assert_eq!(set.iter().chain(set.missing()).count(), flags.len());
            prop_assert_eq!(&PieceSet::from_bytes(count, &set.to_bytes()).unwrap(), &set);
            let run = set.run_from(0);
            prop_assert_eq!(run.len(), flags.iter().take_while(|held| **held).count());
            prop_assert!(set.contains_range(run.clone()));
            let all = PieceSet::full(count);
            prop_assert_eq!(set.first_common(&all, run.end), set.iter().find(|index| *index >= run.end));
            let dropped = u32::try_from(drop.index(flags.len())).unwrap();
            prop_assert_eq!(set.remove(dropped), flags[dropped as usize]);
            prop_assert!(!set.contains(dropped));
        }
    }
}
