//! [`OutlineCache`]: the outlines asked for last, bounded by their bytes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use content::{ContentId, Outline};

/// What an entry costs beside its values.
const OVERHEAD: usize = 192;

pub(super) struct OutlineCache {
    limit: usize,
    bytes: usize,
    tick: u64,
    held: HashMap<ContentId, (u64, Arc<Outline>)>,
    /// Oldest use first.
    uses: BTreeMap<u64, ContentId>,
}

impl OutlineCache {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, tick: 0, held: HashMap::new(), uses: BTreeMap::new() }
    }

    pub(super) fn get(&mut self, id: &ContentId) -> Option<Arc<Outline>> {
        let (used, outline) = self.held.get_mut(id)?;
        self.uses.remove(used);
        self.tick += 1;
        *used = self.tick;
        self.uses.insert(self.tick, *id);
        Some(outline.clone())
    }

    /// Keeps an outline that has values; those of one piece are made anew for nothing.
    pub(super) fn put(&mut self, outline: Arc<Outline>) {
        let cost = cost(&outline);
        if outline.values().is_empty() || cost > self.limit || self.get(&outline.id()).is_some() {
            return;
        }
        self.tick += 1;
        self.bytes += cost;
        self.uses.insert(self.tick, outline.id());
        self.held.insert(outline.id(), (self.tick, outline));
        while self.bytes > self.limit {
            let Some((_, oldest)) = self.uses.pop_first() else { break };
            if let Some((_, outline)) = self.held.remove(&oldest) {
                self.bytes -= self::cost(&outline);
            }
        }
    }
}

fn cost(outline: &Outline) -> usize {
    size_of_val(outline.values()) + OVERHEAD
}

#[cfg(test)]
mod tests {
    use content::{ContentId, Layout, OutlineBuilder, PIECE_SIZE, PieceHasher};

    use super::*;

    fn outline(first: u8) -> Arc<Outline> {
        let layout = Layout::new(PIECE_SIZE + 1).unwrap();
        let mut builder = OutlineBuilder::new(layout);
        for (index, bytes) in [(0, vec![first; 1 << 20]), (1, vec![1])] {
            let mut hasher = PieceHasher::new(layout, index);
            hasher.update(&bytes);
            builder.set(index, hasher.finish().unwrap());
        }
        Arc::new(builder.finish().unwrap())
    }

    #[test]
    fn the_one_used_longest_ago_goes_first() {
        let all: Vec<_> = (0..4).map(outline).collect();
        let id = |n: usize| all[n].id();
        let mut cache = OutlineCache::new(3 * (64 + OVERHEAD));
        all[..3].iter().for_each(|one| cache.put(one.clone()));
        assert!(cache.get(&id(0)).is_some());
        cache.put(all[3].clone());
        assert!(cache.get(&id(1)).is_none());
        assert!([0, 2, 3].iter().all(|&n| cache.get(&id(n)).is_some()));
        assert!(cache.get(&ContentId::of(b"")).is_none());
        assert!(cache.bytes <= cache.limit);
    }
}
