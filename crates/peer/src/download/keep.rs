//! What a running download leaves behind for the next process and for others: the pieces that are surely on disk.

use std::sync::Arc;

use content::SafeName;
use wire::rest::pclient::Source;

use super::{Part, engine::Engine};
use crate::{Failure, store::downloads as table};

/// Syncs what is verified and notes it in the store.
///
/// # Errors
/// What the disk or the store says.
pub(super) async fn save(
    engine: &Engine,
    seq: u64,
    part: &Arc<Part>,
    sources: &[Source],
) -> Result<(), Failure> {
    // Pieces that come while the disk is at work are not said to be on it.
    let pieces = part.pieces();
    let syncing = part.clone();
    let synced = tokio::task::spawn_blocking(move || syncing.sync()).await.map_err(Failure::internal)?;
    synced.map_err(|error| Failure::storage(&error))?;
    let sources = serde_json::to_string(sources).unwrap_or_default();
    engine.store.write(move |t| table::set_pieces(t, seq, &pieces.to_bytes(), &sources)).await
}

/// Says to others how much of a file is here.
pub(super) async fn announce(engine: &Engine, name: &str, part: &Part, held: u32) {
    let Ok(name) = SafeName::new(name) else { return };
    let (id, size) = (part.outline().id(), part.outline().layout().size());
    let media_type = crate::library::media_type_of(&name);
    if let Err(failure) = engine.library.set_partial(&id, &name, size, media_type, held).await {
        tracing::warn!(error = %failure, "a partial file could not be announced");
    }
}
