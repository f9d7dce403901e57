//! [`Outline`]: what proves each piece of a file to belong to its [`ContentId`].
//!
//! BLAKE3 is a binary tree over chunks of 1 KiB, and a piece of 1 MiB is a whole subtree of it. The value at the top
//! of that subtree is the piece's *chaining value*. All of them, merged the way BLAKE3 merges, give the content id:
//! so a list from a stranger is checked once, here, and from then on each piece can be checked alone.
//!
//! A file of one piece needs no list: the piece's own hash is the content id.
//!
//! Source: the BLAKE3 paper, section 2.1 (tree structure), by way of `blake3::hazmat`.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use crate::{ContentId, Layout, PIECE_SIZE};

/// The value of a piece's subtree in BLAKE3's tree.
pub type ChainingValue = [u8; 32];

/// The proof of every piece of one file. It exists only for lists that gave the content id.
#[derive(Clone, PartialEq, Eq)]
pub struct Outline {
    id: ContentId,
    layout: Layout,
    values: Box<[ChainingValue]>,
}

/// A list of chaining values that does not belong to the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutlineError {
    #[error("a file of {size} bytes has {expected} chaining values, not {got}")]
    Count { size: u64, expected: usize, got: usize },
    #[error("the chaining values do not give the content id {0}")]
    Foreign(ContentId),
}

/// Bytes that are not the piece they were sent for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("piece {index} does not belong to {id}")]
pub struct WrongPiece {
    pub id: ContentId,
    pub index: u32,
}

impl Outline {
    /// Checks a list received from a holder; `values` is empty for a file of one piece.
    ///
    /// # Errors
    /// Where the number of values does not fit the size, or they do not merge into `id`.
    pub fn verify(id: ContentId, layout: Layout, values: Vec<ChainingValue>) -> Result<Self, OutlineError> {
        let expected = Self::values_for(layout);
        if values.len() != expected {
            return Err(OutlineError::Count { size: layout.size(), expected, got: values.len() });
        }
        if expected > 0 && root_of(&values) != id {
            return Err(OutlineError::Foreign(id));
        }
        Ok(Self { id, layout, values: values.into() })
    }

    /// How many chaining values a file has: none for a file of one piece.
    pub fn values_for(layout: Layout) -> usize {
        if layout.count() == 1 { 0 } else { layout.count() as usize }
    }

    pub fn id(&self) -> ContentId {
        self.id
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// One value a piece, in order; empty for a file of one piece.
    pub fn values(&self) -> &[ChainingValue] {
        &self.values
    }

    /// Whether `digest` is that of piece `index` of this file.
    ///
    /// # Errors
    /// [`WrongPiece`] where it is not, and where there is none because the length was wrong.
    pub fn check(&self, index: u32, digest: Option<PieceDigest>) -> Result<(), WrongPiece> {
        let expected = if self.values.is_empty() {
            (index == 0).then_some(self.id.as_bytes())
        } else {
            self.values.get(index as usize)
        };
        // Not secret: everybody who may read the file knows these values.
        match digest {
            Some(digest) if expected == Some(&digest.0) => Ok(()),
            _ => Err(WrongPiece { id: self.id, index }),
        }
    }
}

impl std::fmt::Debug for Outline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outline")
            .field("id", &self.id)
            .field("size", &self.layout.size())
            .finish_non_exhaustive()
    }
}

/// What hashing one piece gave: its chaining value, or the root hash where the file is that one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceDigest([u8; 32]);

/// Hashes one piece, fed in order and in any portions. Portions of a multiple of 16 KiB are fastest.
#[derive(Debug, Clone)]
pub struct PieceHasher {
    hasher: blake3::Hasher,
    only: bool,
    /// Bytes still expected; `None` once there were too many.
    left: Option<u64>,
}

impl PieceHasher {
    /// For piece `index` of a file of `layout`.
    pub fn new(layout: Layout, index: u32) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(u64::from(index) * PIECE_SIZE);
        Self { hasher, only: layout.count() == 1, left: Some(layout.len(index)) }
    }

    /// Bytes beyond the end of the piece are not hashed; they make it wrong.
    pub fn update(&mut self, bytes: &[u8]) {
        self.left = self.left.and_then(|left| left.checked_sub(bytes.len() as u64));
        if self.left.is_some() {
            self.hasher.update(bytes);
        }
    }

    /// `None` where there were fewer or more bytes than the piece has.
    pub fn finish(&self) -> Option<PieceDigest> {
        if self.left != Some(0) {
            None
        } else if self.only {
            Some(PieceDigest(*self.hasher.finalize().as_bytes()))
        } else if self.hasher.count() == 0 {
            None // a piece beyond the end
        } else {
            Some(PieceDigest(self.hasher.finalize_non_root()))
        }
    }
}

/// Puts together the outline of a file that is hashed here, piece by piece, in any order.
#[derive(Debug)]
pub struct OutlineBuilder {
    layout: Layout,
    digests: Vec<Option<PieceDigest>>,
}

impl OutlineBuilder {
    pub fn new(layout: Layout) -> Self {
        Self { layout, digests: vec![None; layout.count() as usize] }
    }

    pub fn set(&mut self, index: u32, digest: PieceDigest) {
        if let Some(slot) = self.digests.get_mut(index as usize) {
            *slot = Some(digest);
        }
    }

    /// The outline, and with it the content id; `None` while a piece is missing.
    pub fn finish(self) -> Option<Outline> {
        let digests: Vec<ChainingValue> =
            self.digests.into_iter().map(|d| d.map(|d| d.0)).collect::<Option<_>>()?;
        let (id, values) = match digests.as_slice() {
            [only] => (ContentId::from_bytes(*only), Vec::new()),
            _ => (root_of(&digests), digests),
        };
        Some(Outline { id, layout: self.layout, values: values.into() })
    }
}

/// Merges the values of two or more pieces into the hash of the whole file.
fn root_of(values: &[ChainingValue]) -> ContentId {
    let (left, right) = values.split_at(left_len(values.len()));
    let root = merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash);
    ContentId::from_bytes(*root.as_bytes())
}

fn subtree(values: &[ChainingValue]) -> ChainingValue {
    match values {
        [one] => *one,
        _ => {
            let (left, right) = values.split_at(left_len(values.len()));
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

/// BLAKE3 gives the left side the largest power of two that leaves something for the right.
fn left_len(len: usize) -> usize {
    len.next_power_of_two() / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(size: usize) -> Vec<u8> {
        (0..size).map(|i| u8::try_from((i.wrapping_mul(2_654_435_761) >> 11) & 255).unwrap()).collect()
    }

    fn outline_of(bytes: &[u8], portion: usize) -> Outline {
        let layout = Layout::new(bytes.len() as u64).unwrap();
        let mut builder = OutlineBuilder::new(layout);
        for index in (0..layout.count()).rev() {
            let range = layout.range(index);
            let mut hasher = PieceHasher::new(layout, index);
            for part in bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
                .chunks(portion)
            {
                hasher.update(part);
            }
            builder.set(index, hasher.finish().unwrap());
        }
        builder.finish().unwrap()
    }

    #[test]
    fn boundary_sizes_give_the_hash_that_b3sum_prints() {
        let piece = usize::try_from(PIECE_SIZE).unwrap();
        for size in [
            0,
            1,
            1023,
            1024,
            1025,
            piece - 1,
            piece,
            piece + 1,
            2 * piece - 1,
            2 * piece,
            2 * piece + 1,
            3 * piece,
            4 * piece,
            5 * piece + 1023,
            7 * piece,
            8 * piece + 1,
        ] {
            let bytes = sample(size);
            let outline = outline_of(&bytes, 1 << 18);
            assert_eq!(outline.id(), ContentId::of(&bytes), "{size} bytes");
            let again = Outline::verify(outline.id(), outline.layout(), outline.values().to_vec());
            assert_eq!(again.as_ref(), Ok(&outline), "{size} bytes");
        }
    }

    #[test]
    fn a_foreign_or_altered_list_is_refused() {
        let bytes = sample(3 * usize::try_from(PIECE_SIZE).unwrap() + 5);
        let outline = outline_of(&bytes, 4096);
        let (id, layout, values) = (outline.id(), outline.layout(), outline.values().to_vec());

        let mut flipped = values.clone();
        flipped[2][31] ^= 1;
        assert_eq!(Outline::verify(id, layout, flipped), Err(OutlineError::Foreign(id)));
        let mut swapped = values.clone();
        swapped.swap(0, 1);
        assert_eq!(Outline::verify(id, layout, swapped), Err(OutlineError::Foreign(id)));
        let short = values[..3].to_vec();
        assert_eq!(
            Outline::verify(id, layout, short),
            Err(OutlineError::Count { size: layout.size(), expected: 4, got: 3 })
        );
        let other = ContentId::of(b"another file");
        assert_eq!(Outline::verify(other, layout, values), Err(OutlineError::Foreign(other)));
    }

    #[test]
    fn a_piece_is_accepted_only_in_its_own_place() {
        let piece = usize::try_from(PIECE_SIZE).unwrap();
        let bytes = [sample(piece), sample(piece), vec![7]].concat(); // the first two pieces are equal
        let outline = outline_of(&bytes, 1 << 20);
        let digest = |index: u32, bytes: &[u8]| {
            let mut hasher = PieceHasher::new(outline.layout(), index);
            hasher.update(bytes);
            hasher.finish()
        };
        assert_eq!(outline.check(0, digest(0, &bytes[..piece])), Ok(()));
        let wrong = |index| Err(WrongPiece { id: outline.id(), index });
        assert_eq!(outline.check(1, digest(0, &bytes[..piece])), wrong(1), "equal bytes, another place");
        assert_eq!(outline.check(2, digest(2, &[8])), wrong(2));
        assert_eq!(outline.check(3, digest(3, &[])), wrong(3), "beyond the end");
        assert_eq!(outline.check(2, digest(2, &[])), wrong(2), "too short");
        assert_eq!(outline.check(2, digest(2, &[7, 7])), wrong(2), "too long");

        let small = outline_of(b"small", 1);
        let mut hasher = PieceHasher::new(small.layout(), 0);
        hasher.update(b"smalL");
        assert!(small.check(0, hasher.finish()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_size_in_any_portions(size in 0usize..6 << 20, portion in 1usize..3 << 20) {
            let bytes = sample(size);
            prop_assert_eq!(outline_of(&bytes, portion).id(), ContentId::of(&bytes));
        }
    }
}
