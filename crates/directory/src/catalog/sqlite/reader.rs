//! Reading, inline on the thread that asks: a lookup takes microseconds, and handing it to another thread would take
//! longer than the lookup. Each thread has a connection of its own to each catalog; none waits for the writer or for
//! another reader.

use std::{
    cell::RefCell,
    path::PathBuf,
    sync::{Arc, Weak},
};

use rusqlite::Connection;

use super::{schema, writer};
use crate::catalog::CatalogError;

/// Opens connections to one file.
#[derive(Debug)]
pub(super) struct Reader {
    /// Says which file the connections of a thread belong to, and that it is still in use.
    path: Arc<PathBuf>,
}

thread_local! {
    /// One per catalog, of which a process has one and a test several.
    static CONNECTIONS: RefCell<Vec<(Weak<PathBuf>, Connection)>> = const { RefCell::new(Vec::new()) };
}

impl Reader {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path: Arc::new(path) }
    }

    /// Runs one reading. Must not be called from inside another.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        CONNECTIONS.with_borrow_mut(|connections| {
            let ours =
                connections.iter().position(|(path, _)| std::ptr::eq(path.as_ptr(), Arc::as_ptr(&self.path)));
            let at = match ours {
                Some(at) => at,
                None => {
                    connections.retain(|(path, _)| path.strong_count() > 0);
                    let conn = schema::open_reader(&self.path).map_err(|error| writer::failure(&error))?;
                    connections.push((Arc::downgrade(&self.path), conn));
                    connections.len() - 1
                }
            };
            work(&connections[at].1).map_err(|error| writer::failure(&error))
        })
    }
}
