//! Names, piece sets, and lists of chaining values: what every peer and the directory are told about a file.

use std::path::{Component, Path};

use blake3::hazmat::{Mode, merge_subtrees_non_root, merge_subtrees_root};
use content::{ContentId, Layout, Outline, PIECE_SIZE, PieceSet, SafeName};
use wire::proto;

use crate::{frugally, input::Input, within};

/// A name that is taken stays below its folder, is the very text, and stays one whatever number it gets.
pub(crate) fn safe_name(data: &[u8]) {
    let mut input = Input::new(data);
    let number = input.u32();
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    let Ok(name) = frugally(2, data, || SafeName::new(text)) else { return };
    assert_eq!(name.as_str(), text, "a name is kept as it is");
    stays_below(&name);
    let json = serde_json::to_string(&name).expect("text is JSON");
    assert!(serde_json::from_str::<SafeName>(&json).is_ok_and(|again| again == name), "it reads again");
    if let Some(numbered) = name.numbered(number) {
        assert_eq!(SafeName::new(numbered.as_str()), Ok(numbered.clone()), "a numbered name is a name");
        assert_eq!(numbered.folder(), name.folder(), "in the same folder");
        stays_below(&numbered);
    }
    let header = peer::fuzzing::attachment(name.file_name());
    let header = header.to_str().expect("a header of visible characters");
    assert!(header.starts_with("attachment; filename=\""), "{header}");
    assert_eq!(header.matches('"').count(), 2, "{header}");
}

fn stays_below(name: &SafeName) {
    let joined = Path::new("/below").join(name.as_str());
    let mut parts = joined.components().skip(2);
    assert!(parts.clone().count() >= 1 && parts.all(|part| matches!(part, Component::Normal(_))), "{name:?}");
    assert!(!name.as_str().chars().any(char::is_control), "{name:?}");
}

/// A set that is taken has no piece beyond the end, counts itself right, and has one way to be written.
pub(crate) fn piece_set(data: &[u8]) {
    let mut input = Input::new(data);
    let count = input.u32() % (1 << 22) + 1;
    let bits = input.rest();
    // A set that is not there stands for all pieces of a file whose size is known: that is no claim of the sender's.
    let all = if bits.is_empty() { count as usize / 8 } else { 0 };
    let set = within(2 * bits.len() + all, || PieceSet::from_bytes(count, bits));
    let Ok(set) = set else { return };
    assert!(set.count() == count && set.held() <= count);
    let written = set.to_bytes();
    assert!(written.is_empty() == set.is_full());
    assert!(set.is_full() || written == bits, "a set is written in one way");
    assert_eq!(PieceSet::from_bytes(count, &written).as_ref(), Ok(&set));
    // Looked at piece by piece, where that does not take for ever.
    if count <= 4096 {
        assert_eq!(set.iter().count(), set.held() as usize);
        assert_eq!(set.missing().count(), (count - set.held()) as usize);
        assert!(set.iter().all(|index| index < count && set.contains(index)));
        assert!((0..count).all(|index| set.run_from(index).all(|held| set.contains(held))));
    }
}

/// A list of chaining values is taken where it merges into the content id, whole and in its order, and nowhere else;
/// in pages as well as at once.
pub(crate) fn outline(data: &[u8]) {
    let mut input = Input::new(data);
    let (claimed, tail, cut) = (input.u64(), u64::from(input.u32()) % PIECE_SIZE, input.byte());
    let values = input.rest().as_chunks::<32>().0.to_vec();
    let foreign = ContentId::of(data);
    // Any size that somebody claims, and a list that is not of it: nothing is set aside for the claim.
    if let Ok(layout) = Layout::new(claimed) {
        let read = frugally(3, data, || Outline::verify(foreign, layout, values.clone()));
        assert!(read.is_err() || Outline::values_for(layout) == 0, "the list is not of this content");
    }
    if values.len() < 2 {
        return;
    }
    let layout = Layout::new(values.len() as u64 * PIECE_SIZE - tail).expect("a small file");
    let id = root(&values);
    let outline = Outline::verify(id, layout, values.clone()).expect("the list is of this content");
    assert_eq!((outline.id(), outline.values()), (id, values.as_slice()));
    assert!(Outline::verify(foreign, layout, values.clone()).is_err());
    let at = usize::from(cut) % values.len();
    let mut wrong = values.clone();
    wrong[at][0] ^= 1;
    assert!(Outline::verify(id, layout, wrong.clone()).is_err(), "value {at} is another one");

    let page = |values: &[[u8; 32]]| proto::Description {
        size: layout.size(),
        chaining_values: values.concat().into(),
        ..Default::default()
    };
    let first = u32::try_from(at).expect("few values");
    let pages = [(1, 0, page(&values[..at])), (1, first, page(&values[at..]))];
    assert_eq!(peer::fuzzing::proof(id, &pages).as_ref(), Some(&outline), "in two pages");
    let of_two = [(1, 0, page(&values[..at])), (2, first, page(&values[at..]))];
    assert!(at == 0 || peer::fuzzing::proof(id, &of_two).is_none(), "half of it is another peer's");
    assert!(peer::fuzzing::proof(id, &[(1, 0, page(&wrong))]).is_none());
    assert!(peer::fuzzing::proof(id, &[(1, 0, page(&[values, wrong].concat()))]).is_none(), "too long");
}

/// BLAKE3's tree over the pieces, once more.
fn root(values: &[[u8; 32]]) -> ContentId {
    let (left, right) = values.split_at(values.len().next_power_of_two() / 2);
    ContentId::from_bytes(*merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).as_bytes())
}

fn subtree(values: &[[u8; 32]]) -> [u8; 32] {
    if let [one] = values {
        return *one;
    }
    let (left, right) = values.split_at(values.len().next_power_of_two() / 2);
    merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
}
