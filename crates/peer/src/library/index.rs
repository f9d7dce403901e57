//! [`Index`]: the shared files in memory, found by content, path, name and stamp.
//!
//! It is loaded once and then follows what the store has committed; it decides nothing.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Bound,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::Arc,
};

use content::ContentId;
use wire::rest::Audience;

use super::{FileStamp, SharedEntry, tables::Outcome};

/// A path as bytes: compared byte by byte, all that lies in a folder is one range.
type PathKey = Box<[u8]>;

/// Who may have what appears beneath some folders.
pub(super) type FolderAudiences = Arc<HashMap<std::path::PathBuf, Audience>>;

#[derive(Default)]
pub(super) struct Index {
    by_path: BTreeMap<PathKey, Arc<SharedEntry>>,
    by_content: HashMap<ContentId, Vec<Arc<SharedEntry>>>,
    by_name: BTreeMap<(Box<str>, ContentId), Named>,
    by_inode: HashMap<u64, Vec<Arc<SharedEntry>>>,
    excluded: HashSet<PathKey>,
    folder_audiences: FolderAudiences,
    bytes: u64,
}

/// One (name, content): what a list shows as one line.
struct Named {
    /// The name without the difference between upper and lower case; `None` where that is the name itself.
    folded: Option<Box<str>>,
    entries: Vec<Arc<SharedEntry>>,
}

impl Index {
    pub(super) fn of_content(&self, id: &ContentId) -> &[Arc<SharedEntry>] {
        self.by_content.get(id).map_or(&[], Vec::as_slice)
    }

    pub(super) fn at(&self, path: &Path) -> Option<&Arc<SharedEntry>> {
        self.by_path.get(key(path))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<SharedEntry>> {
        self.by_path.values()
    }

    /// At the path itself and, as a folder, beneath it.
    pub(super) fn beneath(&self, path: &Path) -> impl Iterator<Item = &Arc<SharedEntry>> {
        let mut from = key(path).to_vec();
        from.push(b'/');
        let mut to = key(path).to_vec();
        to.push(b'/' + 1);
        let range = (Bound::Included(from.into_boxed_slice()), Bound::Excluded(to.into_boxed_slice()));
        self.at(path).into_iter().chain(self.by_path.range::<PathKey, _>(range).map(|(_, entry)| entry))
    }

    pub(super) fn like<'a>(&'a self, stamp: &'a FileStamp) -> impl Iterator<Item = &'a Arc<SharedEntry>> {
        self.by_inode.get(&stamp.inode).into_iter().flatten().filter(|entry| entry.stamp.is_like(stamp))
    }

    pub(super) fn page(
        &self,
        q: Option<&str>,
        after: Option<(String, ContentId)>,
        limit: usize,
    ) -> Vec<Arc<SharedEntry>> {
        let wanted = q.map(fold).unwrap_or_default();
        let start = match after {
            Some((name, id)) => Bound::Excluded((name.into_boxed_str(), id)),
            None => Bound::Unbounded,
        };
        self.by_name
            .range((start, Bound::Unbounded))
            .filter(|((name, _), named)| {
                wanted.is_empty() || named.folded.as_ref().unwrap_or(name).contains(&wanted)
            })
            .filter_map(|(_, named)| named.entries.first().cloned())
            .take(limit)
            .collect()
    }

    pub(super) fn totals(&self) -> (u64, u64) {
        (self.by_name.len() as u64, self.bytes)
    }

    pub(super) fn is_excluded(&self, path: &Path) -> bool {
        self.excluded.contains(key(path))
    }

    pub(super) fn folder_audiences(&self) -> FolderAudiences {
        self.folder_audiences.clone()
    }

    /// Shows the totals as metrics.
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    pub(super) fn show_totals(&self) {
        let (files, bytes) = self.totals();
        metrics::gauge!("trueque_shared_files").set(files as f64);
        metrics::gauge!("trueque_shared_bytes").set(bytes as f64);
    }

    /// Takes over what was committed. The entries that nothing stands for any more: neither their path nor another
    /// with the same content and name.
    pub(super) fn follow(&mut self, outcome: &Outcome) -> Vec<Arc<SharedEntry>> {
        let mut gone: Vec<_> = outcome.removed.iter().filter_map(|path| self.take(key(path))).collect();
        for entry in &outcome.shared {
            gone.extend(self.put(entry.clone()));
        }
        for (id, audience) in &outcome.audiences {
            for old in self.of_content(id).to_vec() {
                self.put(Arc::new(SharedEntry { audience: audience.clone(), ..(*old).clone() }));
            }
        }
        self.excluded.extend(outcome.excluded.iter().map(|path| key(path).into()));
        for path in &outcome.included {
            self.excluded.remove(key(path));
        }
        if !outcome.folder_audiences.is_empty() || !outcome.folder_audiences_gone.is_empty() {
            let folders = Arc::make_mut(&mut self.folder_audiences);
            for path in &outcome.folder_audiences_gone {
                folders.remove(path);
            }
            folders.extend(outcome.folder_audiences.iter().cloned());
        }
        gone.retain(|entry| !self.by_name.contains_key(&name_key(entry)));
        gone
    }

    /// Adds an entry; what was at its path before.
    fn put(&mut self, entry: Arc<SharedEntry>) -> Option<Arc<SharedEntry>> {
        let old = self.take(key(&entry.path));
        self.by_path.insert(key(&entry.path).into(), entry.clone());
        self.by_content.entry(entry.content_id).or_default().push(entry.clone());
        self.by_inode.entry(entry.stamp.inode).or_default().push(entry.clone());
        let bytes = &mut self.bytes;
        let named = self.by_name.entry(name_key(&entry)).or_insert_with(|| {
            *bytes += entry.size;
            let folded = fold(entry.name.as_str());
            let folded = (folded != entry.name.as_str()).then(|| folded.into_boxed_str());
            Named { folded, entries: Vec::with_capacity(1) }
        });
        named.entries.push(entry);
        old
    }

    fn take(&mut self, path: &[u8]) -> Option<Arc<SharedEntry>> {
        let entry = self.by_path.remove(path)?;
        drop_from(&mut self.by_content, &entry.content_id, &entry);
        drop_from(&mut self.by_inode, &entry.stamp.inode, &entry);
        let name = name_key(&entry);
        if let Some(named) = self.by_name.get_mut(&name) {
            named.entries.retain(|other| !Arc::ptr_eq(other, &entry));
            if named.entries.is_empty() {
                self.by_name.remove(&name);
                self.bytes -= entry.size;
            }
        }
        Some(entry)
    }
}

fn drop_from<K: std::hash::Hash + Eq>(
    map: &mut HashMap<K, Vec<Arc<SharedEntry>>>,
    key: &K,
    entry: &Arc<SharedEntry>,
) {
    if let Some(entries) = map.get_mut(key) {
        entries.retain(|other| !Arc::ptr_eq(other, entry));
        if entries.is_empty() {
            map.remove(key);
        }
    }
}

fn key(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn name_key(entry: &SharedEntry) -> (Box<str>, ContentId) {
    (entry.name.as_str().into(), entry.content_id)
}

fn fold(name: &str) -> String {
    name.to_lowercase()
}
