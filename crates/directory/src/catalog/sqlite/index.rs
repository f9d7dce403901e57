//! The search index: one document of grams per content, under its *rank* as row id.
//!
//! Results come in the order of row ids, and reading stops when the page is full; so the rank puts better-held contents
//! first: class of holders (see [`class`]) above, the content's own number below. A content whose class changes moves.
//!
//! FTS5 gathers a transaction's documents in memory as long as row ids grow, and writes a segment whenever one does
//! not. So changes are noted while jobs run, and written once per transaction, in order.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension};

use super::frequencies::Frequencies;
use crate::{catalog::class, words};

/// Variants beyond this many do not get into a document. They are found by their content all the same.
const INDEXED_VARIANTS: u32 = 64;
const CONTENT_BITS: u32 = 40;
/// Merged at once while idle: some milliseconds.
const TIDY_PAGES: u32 = 128;

/// The gram that every document has.
pub(super) const ALL: &str = "0all";

/// The row id of a content's document.
pub(super) fn rank(holders: u64, content: i64) -> i64 {
    (i64::from(u8::MAX - class(holders)) << CONTENT_BITS) | content
}

/// The content of a document.
pub(super) fn content_of(rank: i64) -> i64 {
    rank & ((1 << CONTENT_BITS) - 1)
}

/// The gram of a media type. Longer than three characters, so it is never a gram of a name.
pub(super) fn media_gram(media_type: &str) -> String {
    let letters = |text: &str| -> String { text.chars().filter(char::is_ascii_alphanumeric).collect() };
    match media_type.split_once('/') {
        Some((kind, "*")) => format!("0kind{}", letters(kind)),
        _ => format!("0type{}", letters(media_type)),
    }
}

/// Sizes fall into classes of three bits, each of which is a gram.
const SIZE_CLASSES: u32 = 16;

fn size_class(size: u64) -> u32 {
    ((u64::BITS - size.leading_zeros()) / 3).min(SIZE_CLASSES - 1)
}

/// The gram of a class of sizes.
fn size_gram(class: u32) -> String {
    format!("0size{}", char::from_digit(class, 36).unwrap_or('z'))
}

/// The grams of which a document with a size in the range has one; empty where every document may.
pub(super) fn size_grams(min: u64, max: u64) -> Vec<String> {
    let (low, high) = (size_class(min), size_class(max));
    if low == 0 && high == SIZE_CLASSES - 1 { Vec::new() } else { (low..=high).map(size_gram).collect() }
}

/// Appends the grams of one variant.
fn push_variant(name: &str, media_type: Option<&str>, size: u64, out: &mut String) {
    words::push_grams(&words::fold(name), out);
    if let Some(media_type) = media_type {
        let kind = media_type.split('/').next().unwrap_or("");
        for gram in [media_gram(media_type), media_gram(&format!("{kind}/*"))] {
            out.push_str(&gram);
            out.push(' ');
        }
    }
    out.push_str(&size_gram(size_class(size)));
    out.push(' ');
}

/// The document of a content with this one variant.
pub(super) fn document(name: &str, media_type: Option<&str>, size: u64) -> String {
    let mut grams = String::with_capacity(name.len() * 8);
    grams.push_str(ALL);
    grams.push(' ');
    push_variant(name, media_type, size, &mut grams);
    grams
}

/// The contents whose documents a transaction has to write anew.
#[derive(Debug, Default)]
pub(super) struct Dirty(HashMap<i64, Change>);

#[derive(Debug)]
struct Change {
    /// The rank under which the index has it.
    old: Option<i64>,
    /// The document, where it is known without reading the tables again.
    document: Option<String>,
}

impl Dirty {
    /// A content that came into being in this transaction, with one variant and one holder.
    pub(super) fn fresh(&mut self, content: i64, document: String) {
        self.0.insert(content, Change { old: None, document: Some(document) });
    }

    /// A content that had `holders` before it changed.
    pub(super) fn changed(&mut self, content: i64, holders: u64) {
        self.0
            .entry(content)
            .and_modify(|change| change.document = None)
            .or_insert_with(|| Change { old: Some(rank(holders, content)), document: None });
    }

    /// Nothing is known any more about contents from `first_new` on, because what made them was taken back.
    pub(super) fn forget_from(&mut self, first_new: i64) {
        self.0.retain(|content, _| *content < first_new);
    }

    pub(super) fn write(self, conn: &Connection, frequencies: &Frequencies) -> rusqlite::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut holders = conn.prepare_cached("SELECT holders FROM contents WHERE id = ?1")?;
        let mut delete = conn.prepare_cached("DELETE FROM docs WHERE rowid = ?1")?;
        let mut inserts: Vec<(i64, Option<String>)> = Vec::with_capacity(self.0.len());
        let mut deletes: Vec<i64> = Vec::new();
        for (content, Change { old, document }) in self.0 {
            deletes.extend(old);
            if document.is_some() {
                inserts.push((rank(1, content), document));
            } else if let Some(now) = holders.query_row([content], |row| row.get(0)).optional()? {
                inserts.push((rank(now, content), None));
            }
        }
        deletes.sort_unstable();
        for rank in deletes {
            delete.execute([rank])?;
        }
        inserts.sort_unstable_by_key(|(rank, _)| *rank);
        let mut insert = conn.prepare_cached("INSERT INTO docs(rowid, grams) VALUES (?1, ?2)")?;
        for (rank, document) in inserts {
            let document = match document {
                Some(document) => document,
                None => read_document(conn, content_of(rank))?,
            };
            frequencies.document_written(rank, &document);
            insert.execute((rank, document))?;
        }
        Ok(())
    }
}

/// Merges a few pages of segments of the index, so that searches have fewer to look into. Whether there is more to do.
pub(super) fn tidy(conn: &Connection) -> rusqlite::Result<bool> {
    let before = conn.total_changes();
    conn.prepare_cached("INSERT INTO docs(docs, rank) VALUES ('merge', ?1)")?.execute([TIDY_PAGES])?;
    // FTS5 counts one change where there was nothing to merge.
    let more = conn.total_changes() - before >= 2;
    if !more {
        // Pages that stand in the log are found more slowly than those in the file.
        conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    }
    Ok(more)
}

fn read_document(conn: &Connection, content: i64) -> rusqlite::Result<String> {
    let mut variants = conn.prepare_cached(
        "SELECT name, media_type, size FROM contents WHERE id = ?1 AND refs > 0
         UNION ALL SELECT name, media_type, size FROM variants WHERE content = ?1 LIMIT ?2",
    )?;
    let mut rows = variants.query((content, INDEXED_VARIANTS))?;
    let mut grams = format!("{ALL} ");
    while let Some(row) = rows.next()? {
        let (name, media_type) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str_or_null()?);
        push_variant(name, media_type, row.get(2)?, &mut grams);
    }
    Ok(grams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn better_held_ranks_first_and_older_before_newer() {
        assert!(rank(2, 9) < rank(1, 1) && rank(1, 1) < rank(1, 2) && rank(4, 7) == rank(5, 7));
        assert_eq!(content_of(rank(1 << 50, 123)), 123);
    }

    #[test]
    fn size_grams_cover_the_range() {
        assert!(size_grams(0, u64::MAX).is_empty());
        for size in [0, 1, 7, 8, 4096, 1 << 20, 1 << 42] {
            let document = document("x", None, size);
            for (min, max) in [(size, size), (0, size), (size, u64::MAX)] {
                let grams = size_grams(min, max);
                assert!(grams.is_empty() || grams.iter().any(|g| document.contains(g.as_str())), "{size}");
            }
        }
    }

    #[test]
    fn media_grams() {
        let document = document("x", Some("video/mp4"), 1);
        assert!(document.contains(&media_gram("video/*")) && document.contains(&media_gram("video/mp4")));
        assert!(!document.contains(&media_gram("video/mp")) || media_gram("video/mp").len() > 3);
    }
}
