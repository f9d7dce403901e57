//! The library's tables: an [`Edit`] is one transaction's worth of changes, its [`Outcome`] what the index must follow.
//!
//! An edit decides by what the tables say, never by the index, which may lag by the commits of one group.

use std::{
    collections::{BTreeSet, HashMap},
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use content::{ChainingValue, ContentId, Layout, SafeName};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use wire::{GroupName, rest::Audience};

use super::{
    FileStamp, NewFile, Origin, SharedEntry,
    announce::{Announced, Announcer},
    index::{FolderAudiences, Index},
};

/// What one edit changed.
#[derive(Default)]
pub(super) struct Outcome {
    /// Withdrawn first.
    pub(super) removed: Vec<PathBuf>,
    /// Then put, each in place of what was at its path.
    pub(super) shared: Vec<Arc<SharedEntry>>,
    /// Then these, for all paths of a content.
    pub(super) audiences: Vec<(ContentId, Audience)>,
    pub(super) excluded: Vec<PathBuf>,
    pub(super) included: Vec<PathBuf>,
    pub(super) folder_audiences: Vec<(PathBuf, Audience)>,
    pub(super) folder_audiences_gone: Vec<PathBuf>,
    /// The newest revision after it.
    pub(super) revision: u64,
}

pub(super) struct Edit<'a> {
    tx: &'a Transaction<'a>,
    announcer: Announcer<'a>,
    outcome: Outcome,
    /// Whether these tables have a row at all: mostly not, and then nobody looks for each file.
    exclusions: bool,
    restrictions: bool,
    partials: bool,
    withheld: bool,
}

impl<'a> Edit<'a> {
    pub(super) fn run(
        tx: &'a Transaction<'a>,
        work: impl FnOnce(&mut Edit<'a>) -> rusqlite::Result<()>,
    ) -> rusqlite::Result<Outcome> {
        let (exclusions, restrictions, partials, withheld) = tx
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM exclusions), EXISTS (SELECT 1 FROM audiences),
                        EXISTS (SELECT 1 FROM partials), EXISTS (SELECT 1 FROM withheld)",
            )?
            .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?;
        let announcer = Announcer::begin(tx)?;
        let outcome = Outcome::default();
        let mut edit = Self { tx, announcer, outcome, exclusions, restrictions, partials, withheld };
        work(&mut edit)?;
        let Self { announcer, mut outcome, .. } = edit;
        outcome.revision = announcer.finish()?;
        Ok(outcome)
    }

    pub(super) fn add(
        &mut self,
        file: &NewFile,
        origin: Origin,
        folders: &FolderAudiences,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        let (id, path) = (&file.content_id, bytes(&file.path));
        if file.outline.is_none() && !self.has_outline(id, file.stamp.size)? {
            // The entry that it was to be like is gone meanwhile: it must be hashed after all.
            return Ok(());
        }
        if self.withheld && is_withheld(self.tx, id)? {
            // Remembered by its path too, so that no scan reads it again.
            self.exclude_path(&file.path, id)?;
            return self.remove(&file.path);
        }
        let old = self.row_at(&file.path)?;
        match origin {
            _ if !self.exclusions => {}
            Origin::Asked => self.include(&file.path, id)?,
            Origin::Found if self.is_excluded(path, id)? => {
                self.exclude_path(&file.path, id)?;
                return self.remove(&file.path);
            }
            Origin::Found => {}
        }
        let audience = self.audience_for(file, old.as_ref(), folders)?;
        let shared_at = match &old {
            Some(old) if old.content_id == *id => old.shared_at,
            _ => now,
        };
        self.tx
            .prepare_cached(
                "INSERT OR REPLACE INTO shared_files VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                path,
                id.as_bytes(),
                file.name.as_str(),
                file.stamp.size.cast_signed(),
                file.media_type,
                file.stamp.mtime_ns,
                file.stamp.inode.cast_signed(),
                shared_at.as_millisecond(),
                file.stamp.ctime_ns,
            ])?;
        if let Some(outline) = file.outline.as_ref().filter(|outline| !outline.values().is_empty()) {
            self.tx
                .prepare_cached("INSERT OR IGNORE INTO outlines VALUES (?1, ?2)")?
                .execute(params![id.as_bytes(), outline.values().as_flattened()])?;
        }
        self.forget_partial(id, Some(&file.name))?;
        let entry = SharedEntry {
            content_id: *id,
            name: file.name.clone(),
            size: file.stamp.size,
            media_type: file.media_type.clone(),
            path: file.path.clone(),
            stamp: file.stamp,
            audience,
            shared_at,
        };
        self.announcer.put(&whole(&entry))?;
        if let Some(old) = old.filter(|old| old.content_id != *id || old.name != file.name) {
            self.withdraw(&old)?;
            if old.content_id != *id {
                self.forget_audience_unless_shared(&old.content_id)?;
            }
        }
        self.outcome.shared.push(Arc::new(entry));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> rusqlite::Result<()> {
        let Some(old) = self.row_at(path)? else { return Ok(()) };
        self.tx.prepare_cached("DELETE FROM shared_files WHERE path = ?1")?.execute([bytes(path)])?;
        self.withdraw(&old)?;
        if old.audience != Audience::Network {
            // What comes back to this path, edited perhaps, is not suddenly everybody's; also where the old content
            // still lies under another name.
            self.set_folder_audience(path, &old.audience)?;
        }
        // An edit that shared this path and takes it out again has it in neither list.
        self.outcome.shared.retain(|entry| entry.path != path);
        self.outcome.removed.push(path.to_owned());
        Ok(())
    }

    pub(super) fn exclude(&mut self, id: &ContentId) -> rusqlite::Result<()> {
        for entry in self.rows_of(id)? {
            self.exclude_path(&entry.path, id)?;
            self.remove(&entry.path)?;
        }
        Ok(())
    }

    pub(super) fn withhold(&mut self, id: &ContentId) -> rusqlite::Result<()> {
        if self.is_shared(id)? {
            return Ok(());
        }
        self.tx.prepare_cached("INSERT OR IGNORE INTO withheld VALUES (?1)")?.execute([id.as_bytes()])?;
        self.withheld = true;
        self.forget_partial(id, None)
    }

    pub(super) fn release(&mut self, id: &ContentId) -> rusqlite::Result<()> {
        self.tx.prepare_cached("DELETE FROM withheld WHERE content_id = ?1")?.execute([id.as_bytes()])?;
        self.include(Path::new(""), id)
    }

    /// Takes out what was shared before it was known to be withheld.
    pub(super) fn withdraw_withheld(&mut self) -> rusqlite::Result<()> {
        if !self.withheld {
            return Ok(());
        }
        let mut query = self.tx.prepare(
            "SELECT content_id FROM withheld WHERE content_id IN (SELECT content_id FROM shared_files)",
        )?;
        let found: Vec<ContentId> =
            query.query_map([], |row| id_of(row, 0))?.collect::<rusqlite::Result<_>>()?;
        found.iter().try_for_each(|id| self.exclude(id))
    }

    pub(super) fn include_beneath(&mut self, path: &Path) -> rusqlite::Result<()> {
        let mut from = bytes(path).to_vec();
        from.push(b'/');
        let mut to = bytes(path).to_vec();
        to.push(b'/' + 1);
        let mut query = self.tx.prepare_cached(
            "SELECT path, content_id FROM exclusions WHERE path = ?1 OR (path > ?2 AND path < ?3)",
        )?;
        let found: Vec<(PathBuf, ContentId)> = query
            .query_map(params![bytes(path), from, to], |row| Ok((path_of(row, 0)?, id_of(row, 1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        for (path, id) in found {
            self.include(&path, &id)?;
        }
        Ok(())
    }

    pub(super) fn set_audience(&mut self, id: &ContentId, audience: &Audience) -> rusqlite::Result<()> {
        self.store_audience(id, audience)?;
        if *audience != Audience::Network {
            self.forget_partial(id, None)?;
        }
        for entry in self.rows_of(id)? {
            self.announcer.put(&Announced { audience: audience.clone(), ..whole(&entry) })?;
            self.forget_path_audience(&entry.path)?;
        }
        self.outcome.audiences.push((*id, audience.clone()));
        Ok(())
    }

    /// What appears at a path or beneath it starts with this audience.
    pub(super) fn set_folder_audience(&mut self, folder: &Path, audience: &Audience) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached("INSERT OR REPLACE INTO folder_audiences VALUES (?1, ?2)")?
            .execute(params![bytes(folder), text(audience)])?;
        self.outcome.folder_audiences.push((folder.to_owned(), audience.clone()));
        Ok(())
    }

    fn forget_path_audience(&mut self, path: &Path) -> rusqlite::Result<()> {
        let gone =
            self.tx.prepare_cached("DELETE FROM folder_audiences WHERE path = ?1")?.execute([bytes(path)])?;
        if gone > 0 {
            self.outcome.folder_audiences_gone.push(path.to_owned());
        }
        Ok(())
    }

    pub(super) fn set_partial(
        &mut self,
        id: &ContentId,
        name: &SafeName,
        size: u64,
        media_type: Option<&str>,
        pieces_held: u32,
    ) -> rusqlite::Result<()> {
        let withheld = self.withheld && is_withheld(self.tx, id)?;
        if withheld || self.is_shared(id)? || self.stored_audience(id)?.is_some() {
            return Ok(());
        }
        self.forget_partial(id, Some(name))?;
        self.tx.prepare_cached("INSERT INTO partials VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
            id.as_bytes(),
            name.as_str(),
            size.cast_signed(),
            media_type,
            pieces_held
        ])?;
        self.partials = true;
        self.announcer.put(&Announced {
            content_id: *id,
            name: name.to_string(),
            size,
            media_type: media_type.map(str::to_owned),
            pieces_held,
            audience: Audience::Network,
        })
    }

    pub(super) fn clear_partial(&mut self, id: &ContentId) -> rusqlite::Result<()> {
        self.forget_partial(id, None)
    }

    /// Drops a content's partial row, and its announcement unless a whole file or `kept` takes its place.
    fn forget_partial(&mut self, id: &ContentId, kept: Option<&SafeName>) -> rusqlite::Result<()> {
        if !self.partials {
            return Ok(());
        }
        let name: Option<String> = self
            .tx
            .prepare_cached("DELETE FROM partials WHERE content_id = ?1 RETURNING name")?
            .query_row([id.as_bytes()], |row| row.get(0))
            .optional()?;
        match name {
            Some(name)
                if kept.is_none_or(|kept| kept.as_str() != name) && !self.is_shared_as(id, &name)? =>
            {
                self.announcer.remove(id, &name)
            }
            _ => Ok(()),
        }
    }

    /// What was at a path is not any more: tells the directory, unless another path has the same content and name.
    fn withdraw(&mut self, old: &SharedEntry) -> rusqlite::Result<()> {
        if !self.is_shared_as(&old.content_id, old.name.as_str())? {
            self.announcer.remove(&old.content_id, old.name.as_str())?;
        }
        if !self.is_shared(&old.content_id)? {
            self.tx
                .prepare_cached("DELETE FROM outlines WHERE content_id = ?1")?
                .execute([old.content_id.as_bytes()])?;
        }
        Ok(())
    }

    fn audience_for(
        &mut self,
        file: &NewFile,
        old: Option<&SharedEntry>,
        folders: &FolderAudiences,
    ) -> rusqlite::Result<Audience> {
        let id = &file.content_id;
        if let Some(audience) = &file.audience {
            self.set_audience(id, audience)?;
            return Ok(audience.clone());
        }
        if let Some(stored) = self.stored_audience(id)? {
            return Ok(stored);
        }
        let of_folder = || file.path.ancestors().find_map(|path| folders.get(path).cloned());
        let audience = match old {
            Some(old) => old.audience.clone(),
            None => of_folder().unwrap_or_default(),
        };
        if audience == Audience::Network || self.is_shared(id)? {
            return Ok(Audience::Network); // as it is for those who have it already
        }
        self.store_audience(id, &audience)?;
        Ok(audience)
    }

    /// Of a content that not all may have.
    fn stored_audience(&self, id: &ContentId) -> rusqlite::Result<Option<Audience>> {
        if !self.restrictions {
            return Ok(None);
        }
        let stored: Option<String> = self
            .tx
            .prepare_cached("SELECT audience FROM audiences WHERE content_id = ?1")?
            .query_row([id.as_bytes()], |row| row.get(0))
            .optional()?;
        Ok(stored.map(|text| audience_of(Some(&text))))
    }

    fn store_audience(&mut self, id: &ContentId, audience: &Audience) -> rusqlite::Result<()> {
        match audience {
            Audience::Network => self
                .tx
                .prepare_cached("DELETE FROM audiences WHERE content_id = ?1")?
                .execute([id.as_bytes()])?,
            Audience::Users(_) => self
                .tx
                .prepare_cached("INSERT OR REPLACE INTO audiences VALUES (?1, ?2)")?
                .execute(params![id.as_bytes(), text(audience)])?,
        };
        self.restrictions |= *audience != Audience::Network;
        Ok(())
    }

    /// A file that was edited leaves the audience of its old bytes behind; its new bytes have taken it over.
    fn forget_audience_unless_shared(&mut self, id: &ContentId) -> rusqlite::Result<()> {
        if self.is_shared(id)? { Ok(()) } else { self.store_audience(id, &Audience::Network) }
    }

    fn is_excluded(&self, path: &[u8], id: &ContentId) -> rusqlite::Result<bool> {
        self.tx
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM exclusions WHERE path = ?1 OR content_id = ?2)")?
            .query_row(params![path, id.as_bytes()], |row| row.get(0))
    }

    fn exclude_path(&mut self, path: &Path, id: &ContentId) -> rusqlite::Result<()> {
        self.tx
            .prepare_cached("INSERT OR REPLACE INTO exclusions VALUES (?1, ?2)")?
            .execute(params![bytes(path), id.as_bytes()])?;
        self.exclusions = true;
        self.outcome.excluded.push(path.to_owned());
        Ok(())
    }

    /// Forgets that a path was taken out, and every path of the same content with it.
    fn include(&mut self, path: &Path, id: &ContentId) -> rusqlite::Result<()> {
        let mut query = self
            .tx
            .prepare_cached("DELETE FROM exclusions WHERE path = ?1 OR content_id = ?2 RETURNING path")?;
        let rows = query.query_map(params![bytes(path), id.as_bytes()], |row| path_of(row, 0))?;
        for path in rows {
            self.outcome.included.push(path?);
        }
        Ok(())
    }

    fn row_at(&self, path: &Path) -> rusqlite::Result<Option<SharedEntry>> {
        self.tx
            .prepare_cached(&format!("{ENTRY} WHERE path = ?1"))?
            .query_row([bytes(path)], entry_of)
            .optional()
    }

    fn rows_of(&self, id: &ContentId) -> rusqlite::Result<Vec<SharedEntry>> {
        self.tx
            .prepare_cached(&format!("{ENTRY} WHERE content_id = ?1"))?
            .query_map([id.as_bytes()], entry_of)?
            .collect()
    }

    fn has_outline(&self, id: &ContentId, size: u64) -> rusqlite::Result<bool> {
        if Layout::new(size).is_ok_and(|layout| layout.count() == 1) {
            return Ok(true);
        }
        self.tx
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM outlines WHERE content_id = ?1)")?
            .query_row([id.as_bytes()], |row| row.get(0))
    }

    fn is_shared(&self, id: &ContentId) -> rusqlite::Result<bool> {
        self.tx
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM shared_files WHERE content_id = ?1)")?
            .query_row([id.as_bytes()], |row| row.get(0))
    }

    fn is_shared_as(&self, id: &ContentId, name: &str) -> rusqlite::Result<bool> {
        self.tx
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM shared_files WHERE content_id = ?1 AND name = ?2)")?
            .query_row(params![id.as_bytes(), name], |row| row.get(0))
    }
}

/// Everything, once, at the start.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Index> {
    let mut index = Index::default();
    let mut outcome = Outcome::default();
    let mut query = connection.prepare(ENTRY)?;
    for entry in query.query_map([], entry_of)? {
        outcome.shared.push(Arc::new(entry?));
    }
    let mut query = connection.prepare("SELECT path FROM exclusions")?;
    for path in query.query_map([], |row| path_of(row, 0))? {
        outcome.excluded.push(path?);
    }
    let mut query = connection.prepare("SELECT path, audience FROM folder_audiences")?;
    let folders = query
        .query_map([], |row| Ok((path_of(row, 0)?, audience_of(Some(&row.get::<_, String>(1)?)))))?
        .collect::<rusqlite::Result<HashMap<_, _>>>()?;
    outcome.folder_audiences.extend(folders);
    index.follow(&outcome);
    Ok(index)
}

/// The groups that audiences name.
pub(super) fn groups(connection: &Connection) -> rusqlite::Result<BTreeSet<GroupName>> {
    let mut query = connection.prepare_cached(
        "SELECT DISTINCT audience FROM audiences WHERE instr(audience, '\"@') > 0
         UNION SELECT audience FROM folder_audiences WHERE instr(audience, '\"@') > 0",
    )?;
    let mut rows = query.query([])?;
    let mut groups = BTreeSet::new();
    while let Some(row) = rows.next()? {
        groups.extend(audience_of(Some(row.get_ref(0)?.as_str()?)).groups().cloned());
    }
    Ok(groups)
}

/// Whether a content was given to this peer alone.
pub(super) fn is_withheld(connection: &Connection, id: &ContentId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM withheld WHERE content_id = ?1)")?
        .query_row([id.as_bytes()], |row| row.get(0))
}

/// The stored chaining values of a content.
pub(super) fn outline(
    connection: &Connection,
    id: &ContentId,
) -> rusqlite::Result<Option<Vec<ChainingValue>>> {
    connection
        .prepare_cached("SELECT chaining_values FROM outlines WHERE content_id = ?1")?
        .query_row([id.as_bytes()], |row| {
            let (values, _) = row.get_ref(0)?.as_blob()?.as_chunks::<32>();
            Ok(values.to_vec())
        })
        .optional()
}

/// The audience as it stands in a column: null for the network. One that cannot be read is for nobody.
pub(super) fn audience_of(column: Option<&str>) -> Audience {
    match column {
        None => Audience::Network,
        Some(text) => serde_json::from_str(text).unwrap_or_else(|error| {
            tracing::error!(error = %error, "a stored audience cannot be read; it is taken as nobody");
            Audience::Users(Vec::new())
        }),
    }
}

pub(super) fn text(audience: &Audience) -> String {
    serde_json::to_string(audience).unwrap_or_else(|_| "[]".to_owned())
}

pub(super) fn id_of(row: &Row<'_>, column: usize) -> rusqlite::Result<ContentId> {
    row.get::<_, [u8; 32]>(column).map(ContentId::from_bytes)
}

const ENTRY: &str = "SELECT path, content_id, name, size, media_type, mtime_ns, inode, shared_at,
    ctime_ns, (SELECT audience FROM audiences WHERE audiences.content_id = shared_files.content_id) FROM shared_files";

fn entry_of(row: &Row<'_>) -> rusqlite::Result<SharedEntry> {
    let size = row.get::<_, i64>(3)?.cast_unsigned();
    let name = row.get_ref(2)?.as_str()?;
    let name = SafeName::new(name).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(error))
    })?;
    Ok(SharedEntry {
        content_id: id_of(row, 1)?,
        name,
        size,
        media_type: row.get(4)?,
        path: path_of(row, 0)?,
        stamp: FileStamp {
            size,
            mtime_ns: row.get(5)?,
            ctime_ns: row.get(8)?,
            inode: row.get::<_, i64>(6)?.cast_unsigned(),
        },
        shared_at: Timestamp::from_millisecond(row.get(7)?).unwrap_or_default(),
        audience: audience_of(row.get_ref(9)?.as_str_or_null()?),
    })
}

fn whole(entry: &SharedEntry) -> Announced {
    Announced {
        content_id: entry.content_id,
        name: entry.name.to_string(),
        size: entry.size,
        media_type: entry.media_type.clone(),
        pieces_held: Layout::new(entry.size).map_or(0, Layout::count),
        audience: entry.audience.clone(),
    }
}

fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn path_of(row: &Row<'_>, column: usize) -> rusqlite::Result<PathBuf> {
    Ok(PathBuf::from(OsStr::from_bytes(row.get_ref(column)?.as_blob()?)))
}
