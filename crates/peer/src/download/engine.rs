//! [`Engine`]: what all downloads of a peer share.

use std::{collections::HashSet, fs, io, path::PathBuf, sync::Arc};

use content::ContentId;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast};
use wire::{PeerId, rest::pclient::Event};

use super::{Parameters, Parts};
use crate::{
    Failure, directory_link::DirectoryClient, library::Library, link::Links, mail::Mail, meter::Meter,
    place::Ground, relay::Limits, store::Store, throttle::Throttle,
};

/// Downloads that fetch at once; others are queued.
const MAX_RUNNING: usize = 32;
const EVENTS: usize = 1024;
/// A proof of fewer bytes is not counted: that of 32 GiB.
const SHORT_PROOF: usize = 1 << 20;
const PROOF_UNIT: usize = 64 << 10;
/// Long proofs that are on their way, all together: one of the largest file there is, 128 MiB.
const MAX_PROOFS: usize = 2_048;
const PART_PREFIX: &str = ".trueque-";
const PART_SUFFIX: &str = ".part";

pub(super) struct Engine {
    pub(super) links: Links,
    pub(super) directory: DirectoryClient,
    pub(super) library: Library,
    pub(super) parts: Parts,
    pub(super) store: Store,
    pub(super) throttle: Throttle,
    pub(super) relay_limits: Limits,
    pub(super) ground: Ground,
    pub(super) reshare: bool,
    pub(super) own_id: PeerId,
    /// The way to holders that are off, where there is a relay.
    pub(super) mail: Option<Mail>,
    pub(super) meter: Meter,
    pub(super) running: Arc<Semaphore>,
    /// Memory for long proofs that are on their way, in units of [`PROOF_UNIT`].
    proofs: Semaphore,
    pub(super) events: broadcast::Sender<Event>,
}

impl Engine {
    pub(super) fn new(parameters: Parameters) -> Self {
        let Parameters {
            links,
            directory,
            library,
            parts,
            store,
            download_limit,
            relay_limits,
            download_dir,
            data_dir,
            reshare,
            own_id,
            mail,
        } = parameters;
        Self {
            links,
            directory,
            library,
            parts,
            store,
            throttle: download_limit,
            relay_limits,
            ground: Ground::new(&download_dir, &data_dir),
            reshare,
            own_id,
            mail,
            meter: Meter::default(),
            running: Arc::new(Semaphore::new(MAX_RUNNING)),
            proofs: Semaphore::new(MAX_PROOFS),
            events: broadcast::Sender::new(EVENTS),
        }
    }

    /// Waits for the memory that a proof of so many bytes takes before anybody has proven anything: how long it is, is
    /// what somebody says.
    pub(super) async fn room_for_proof(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        if bytes <= SHORT_PROOF {
            return None;
        }
        let units = bytes.div_ceil(PROOF_UNIT).min(MAX_PROOFS);
        self.proofs.acquire_many(u32::try_from(units).unwrap_or(u32::MAX)).await.ok()
    }

    /// Where a content lies while it arrives: beside the place where it will be, hidden.
    pub(super) fn part_path(&self, id: ContentId) -> PathBuf {
        self.ground.root().join(format!("{PART_PREFIX}{id}{PART_SUFFIX}"))
    }

    pub(super) async fn discard_part(&self, id: ContentId) {
        let path = self.part_path(id);
        if let Err(error) = tokio::fs::remove_file(&path).await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, content.id = %id, "the part of a download could not be removed");
        }
    }

    /// Makes the folder, and removes the parts that no download goes on with.
    pub(super) fn remove_orphans(&self, kept: &HashSet<ContentId>) -> Result<(), Failure> {
        self.ground.ensure().map_err(|error| Failure::storage(&error))?;
        let entries = fs::read_dir(self.ground.root()).map_err(|error| Failure::storage(&error))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(ours) = name.to_str().and_then(|name| name.strip_prefix(PART_PREFIX)) else { continue };
            let id = ours.strip_suffix(PART_SUFFIX).and_then(|id| id.parse().ok());
            if id.is_none_or(|id| !kept.contains(&id))
                && let Err(error) = fs::remove_file(entry.path())
            {
                tracing::warn!(%error, "what an earlier run left could not be removed");
            }
        }
        Ok(())
    }

    pub(super) fn tell(&self, event: Event) {
        let _nobody_listens = self.events.send(event);
    }
}
