//! The one core that answers other peers: who may see what, and the bytes.
//!
//! Doors (`pserver`: gRPC now, the relay beside it) translate and call; this module names no transport. It answers
//! from the library (whole files) and from the parts of running downloads, so that a receiver serves what it has.
//!
//! A file that the caller may not see is answered exactly like one that is not there.

mod blocks;
mod places;
mod portions;
mod reading;
mod receivers;
mod standing;

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use content::{ContentId, Layout, Outline, PieceSet};
use tokio::sync::watch;
use wire::{ErrorCode, Username, proto, rest::Audience};

pub use blocks::Blocks;
pub(crate) use places::refused;
pub use places::{Place, Places, Words};
pub use portions::{Full, Portion, Portions};
pub use reading::Reading;
pub use receivers::{Receivers, Watching};
pub use standing::Standing;

use crate::{
    Failure,
    audit::Audit,
    download::{Part, Parts},
    library::{Library, SharedEntry},
    meter::Meter,
    offers::Offers,
    throttle::Throttle,
    tls::Caller,
    trust::Trust,
};

/// Chaining values in one `Describe` answer: 256 KiB of them.
pub const VALUES_PER_PAGE: usize = 8_192;
/// Files in one `FetchMany`.
pub const MAX_FETCH_MANY: usize = 1_000;
/// Open `Watch` streams of all callers together, and of one user.
const MAX_WATCHES: (usize, usize) = (4_096, 512);
/// `List` answers under way; each has up to a page of names in memory.
const MAX_LISTS: (usize, usize) = (64, 8);
/// Long `Describe` answers that are not sent yet, up to 256 KiB each.
const MAX_DESCRIPTIONS: (usize, usize) = (128, 16);
/// Longer ones are counted.
const SHORT_DESCRIPTION: usize = 16 << 10;
const UPLOADS: Words = Words {
    all: "all upload places are taken",
    own: "all upload places of one user are taken",
    given: "upload place given to another",
};

/// Called with a path whose file is no longer what was hashed.
pub type OnChanged = Arc<dyn Fn(&Path) + Send + Sync>;

/// What the service needs from the rest of the peer.
pub struct Parameters {
    pub library: Library,
    pub parts: Parts,
    pub max_uploads: usize,
    pub upload_limit: Throttle,
    pub on_changed: OnChanged,
    pub audit: Audit,
    pub trust: Trust,
}

/// Answers other peers. Clones are the same service.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    library: Library,
    parts: Parts,
    /// The account that this peer is logged in as: it may see all of its own files on its other machines.
    owner: ArcSwapOption<Username>,
    /// Rings when somebody may see less than before.
    bell: watch::Sender<()>,
    uploads: Places,
    watches: Portions,
    lists: Portions,
    descriptions: Portions,
    throttle: Throttle,
    blocks: Blocks,
    meter: Meter,
    receivers: Receivers,
    on_changed: OnChanged,
    audit: Audit,
    trust: Trust,
    offers: OnceLock<Offers>,
}

/// Where the bytes of one content lie.
enum Held {
    Whole(Arc<SharedEntry>),
    Part(Arc<Part>),
}

impl Service {
    pub fn new(parameters: Parameters) -> Self {
        let Parameters { library, parts, max_uploads, upload_limit, on_changed, audit, trust } = parameters;
        let inner = Inner {
            bell: library.bell().clone(),
            library,
            parts,
            owner: ArcSwapOption::empty(),
            uploads: Places::new(max_uploads, &UPLOADS),
            watches: Portions::new(MAX_WATCHES.0, MAX_WATCHES.1),
            lists: Portions::new(MAX_LISTS.0, MAX_LISTS.1),
            descriptions: Portions::new(MAX_DESCRIPTIONS.0, MAX_DESCRIPTIONS.1),
            throttle: upload_limit,
            blocks: Blocks::default(),
            meter: Meter::default(),
            receivers: Receivers::default(),
            on_changed,
            audit,
            trust,
            offers: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Says whose peer this is; `None` while logged out.
    pub fn set_owner(&self, owner: Option<Username>) {
        self.inner.owner.store(owner.map(Arc::new));
        self.recheck();
    }

    /// Every answer under way asks again whether its caller may have it, and ends where the same question would now be
    /// refused. Called when somebody may have less; that a file is shared with fewer calls it by itself.
    pub fn recheck(&self) {
        self.inner.bell.send_replace(());
    }

    /// Follows whether the caller may have these contents.
    pub(crate) fn standing(&self, caller: &Caller, contents: Vec<ContentId>) -> Standing {
        Standing::new(self, caller, contents)
    }

    /// Whether the caller may have a content now.
    ///
    /// # Errors
    /// `not_found`, as for what is not here.
    pub(crate) fn may_have(&self, caller: &Caller, id: ContentId) -> Result<(), Failure> {
        self.held(caller, id).map(|_| ())
    }

    /// Says who takes in what others offer. They come last: what they accept is downloaded.
    pub fn set_offers(&self, offers: Offers) {
        let _already_there = self.inner.offers.set(offers);
    }

    /// Bytes sent to other peers.
    pub fn sent(&self) -> &Meter {
        &self.inner.meter
    }

    /// What the caller may see, a page of names after `after`.
    pub fn list(&self, caller: &Caller, after: Option<(String, ContentId)>, limit: usize) -> ListPage {
        let page = self.inner.library.page(None, after, limit);
        let last = page.last().filter(|_| page.len() == limit);
        let next = last.map(|entry| (entry.name.as_str().to_owned(), entry.content_id));
        let visible = page.iter().filter(|entry| self.may_see(caller, &entry.audience));
        ListPage { files: visible.map(|entry| file_of(entry)).collect(), next }
    }

    /// Takes a place for a list of files.
    ///
    /// # Errors
    /// `rate_limited` where there is none.
    pub fn list_place(&self, caller: &Caller) -> Result<Portion, Failure> {
        portion(&self.inner.lists, caller, "too many lists", "too many lists of one user")
    }

    /// Takes a place for an answer that is long and lies in memory until it is sent; none where it is short.
    ///
    /// # Errors
    /// `rate_limited` where there is none.
    pub fn description_place(
        &self,
        caller: &Caller,
        description: &proto::Description,
    ) -> Result<Option<Portion>, Failure> {
        if description.chaining_values.len() <= SHORT_DESCRIPTION {
            return Ok(None);
        }
        let (all, own) = ("too many unread answers", "too many unread answers of one user");
        portion(&self.inner.descriptions, caller, all, own).map(Some)
    }

    /// Size, proof from `first_piece` on, and pieces of one content.
    ///
    /// # Errors
    /// `not_found`, also for what the caller may not see.
    pub fn describe(
        &self,
        caller: &Caller,
        id: ContentId,
        first_piece: u32,
    ) -> Result<proto::Description, Failure> {
        let (outline, pieces, restricted) = match self.held(caller, id)? {
            Held::Whole(entry) => {
                let outline = self.outline(id)?;
                let pieces = PieceSet::full(outline.layout().count());
                (outline, pieces, entry.audience != Audience::Network)
            }
            Held::Part(part) => (part.outline().clone(), part.pieces(), false),
        };
        let values = outline.values().get(first_piece as usize..).unwrap_or_default();
        let page = &values[..values.len().min(VALUES_PER_PAGE)];
        Ok(proto::Description {
            size: outline.layout().size(),
            chaining_values: page.concat().into(),
            pieces: Some(message_of(&pieces, &[])),
            restricted,
        })
    }

    /// Opens neighbouring whole pieces for sending.
    ///
    /// # Errors
    /// `not_found`; `invalid_argument` for a range that is not whole pieces of the file; `unprocessable` for pieces
    /// that are not here; `rate_limited` where all places are taken.
    pub fn fetch(
        &self,
        caller: &Caller,
        id: ContentId,
        offset: u64,
        length: u64,
    ) -> Result<Reading, Failure> {
        let standing = self.standing(caller, vec![id]);
        let held = self.held(caller, id)?;
        let layout = match &held {
            Held::Whole(entry) => Layout::new(entry.size).map_err(Failure::internal)?,
            Held::Part(part) => part.outline().layout(),
        };
        let pieces = layout.whole_pieces(offset, length).ok_or_else(|| {
            Failure::invalid(format!(
                "{length} bytes from {offset} on are not whole pieces of a file of {} bytes",
                layout.size()
            ))
        })?;
        if let Held::Part(part) = &held
            && !part.pieces().contains_range(pieces)
        {
            return Err(Failure::new(ErrorCode::Unprocessable, "not all of these pieces are here yet"));
        }
        let place = self.upload_place(caller)?;
        let name = match &held {
            Held::Whole(entry) => Some(entry.name.as_str()),
            Held::Part(_) => None,
        };
        let page = self.inner.audit.page(caller, id, name);
        let open = match held {
            Held::Whole(entry) => reading::Open::whole(&entry, self.inner.on_changed.clone())?,
            Held::Part(part) => reading::Open::part(&part),
        };
        let inner = &self.inner;
        Ok(Reading::new(
            open,
            offset..offset + length,
            inner.blocks.clone(),
            inner.throttle.clone(),
            inner.meter.clone(),
            page,
            place,
            standing,
        ))
    }

    /// How large a file is.
    ///
    /// # Errors
    /// `not_found`.
    pub fn size(&self, caller: &Caller, id: ContentId) -> Result<u64, Failure> {
        Ok(match self.held(caller, id)? {
            Held::Whole(entry) => entry.size,
            Held::Part(part) => part.outline().layout().size(),
        })
    }

    /// Reads one file of at most one piece, and whether only some may have it. Blocks.
    ///
    /// # Errors
    /// As [`Self::fetch`]; `too_large` for a file of more than one piece.
    pub fn read_small(&self, caller: &Caller, id: ContentId) -> Result<SmallFile, Failure> {
        let Held::Whole(entry) = self.held(caller, id)? else {
            return Err(Failure::not_found(format!("no file {id} here")));
        };
        if entry.size > content::PIECE_SIZE {
            return Err(Failure::new(
                ErrorCode::TooLarge,
                format!("{id} has more than one piece: use Fetch"),
            ));
        }
        let bytes = reading::Open::whole(&entry, self.inner.on_changed.clone())?.read_all(entry.size)?;
        self.inner.meter.add(entry.size);
        self.inner.audit.page(caller, id, Some(entry.name.as_str())).add(entry.size);
        Ok(SmallFile { bytes, restricted: entry.audience != Audience::Network })
    }

    /// Takes a place among the uploads.
    ///
    /// # Errors
    /// `rate_limited` where there is none.
    pub fn upload_place(&self, caller: &Caller) -> Result<UploadPlace, Failure> {
        self.inner.uploads.take(&caller.username).map(UploadPlace::new)
    }

    /// Waits until `bytes` may be sent.
    pub async fn throttle(&self, bytes: u64) {
        self.inner.throttle.take(bytes).await;
    }

    /// Follows what this peer has of a content and who else fetches it.
    ///
    /// # Errors
    /// `not_found`; `rate_limited` where too many watch.
    pub fn watch(&self, caller: &Caller, id: ContentId) -> Result<Watching, Failure> {
        let watches = &self.inner.watches;
        let place = portion(watches, caller, "too many watches", "too many watches of one user")?;
        let standing = self.standing(caller, vec![id]);
        let pieces = match self.held(caller, id)? {
            Held::Whole(entry) => {
                receivers::Pieces::Whole(Layout::new(entry.size).map_err(Failure::internal)?.count())
            }
            Held::Part(part) => receivers::Pieces::Part(part.subscribe()),
        };
        Ok(self.inner.receivers.watch(id, caller.peer_id, pieces, place, standing))
    }

    /// Takes in what the caller offers to whoever uses this peer.
    ///
    /// # Errors
    /// As [`Offers::receive`].
    pub async fn offer(
        &self,
        caller: &Caller,
        offer: &proto::OfferRequest,
    ) -> Result<proto::OfferReply, Failure> {
        self.inner.trust.admit(caller)?;
        let offers = self.inner.offers.get();
        let offers = offers.ok_or_else(|| Failure::unavailable("nobody takes offers here yet"))?;
        let answer = offers.receive(caller, offer).await?;
        Ok(proto::OfferReply { answer: answer.into() })
    }

    fn held(&self, caller: &Caller, id: ContentId) -> Result<Held, Failure> {
        self.inner.trust.admit(caller)?;
        let entries = self.inner.library.entries(&id);
        if let Some(entry) = entries.into_iter().find(|entry| self.may_see(caller, &entry.audience)) {
            return Ok(Held::Whole(entry));
        }
        self.inner
            .parts
            .get(&id)
            .map(Held::Part)
            .ok_or_else(|| Failure::not_found(format!("no file {id} here")))
    }

    fn may_see(&self, caller: &Caller, audience: &Audience) -> bool {
        let (trust, owner, user) = (&self.inner.trust, self.inner.owner.load(), &caller.username);
        if trust.refuses(caller.peer_id, user) {
            return false;
        }
        let by_group = |owner: &Username| audience.groups().any(|group| trust.belongs(owner, group, user));
        *audience == Audience::Network
            || audience.names(user)
            || owner.as_deref().is_some_and(|owner| owner == user || by_group(owner))
    }

    fn outline(&self, id: ContentId) -> Result<Arc<Outline>, Failure> {
        self.inner.library.outline(&id)?.ok_or_else(|| Failure::not_found(format!("no file {id} here")))
    }
}

impl std::fmt::Debug for Parameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parameters").field("max_uploads", &self.max_uploads).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("free_uploads", &self.inner.uploads.free()).finish_non_exhaustive()
    }
}

/// A place among the uploads, counted while it is taken.
#[derive(Debug)]
pub struct UploadPlace {
    place: Place,
}

impl UploadPlace {
    fn new(place: Place) -> Self {
        metrics::gauge!("trueque_uploads_running").increment(1.0);
        Self { place }
    }

    /// Whether others have it now.
    ///
    /// # Errors
    /// `rate_limited`, to end the answer with.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        self.place.check()
    }

    /// Waits until others have it.
    pub(crate) async fn revoked(&self) -> Failure {
        self.place.revoked().await
    }
}

impl Drop for UploadPlace {
    fn drop(&mut self) {
        metrics::gauge!("trueque_uploads_running").decrement(1.0);
    }
}

/// All of a file of at most one piece.
#[derive(Debug)]
pub struct SmallFile {
    pub bytes: Bytes,
    /// Whoever gets it keeps it to themselves.
    pub restricted: bool,
}

/// Some of the files that a caller may see, and where the next page starts.
#[derive(Debug)]
pub struct ListPage {
    pub files: Vec<proto::File>,
    pub next: Option<(String, ContentId)>,
}

fn file_of(entry: &SharedEntry) -> proto::File {
    proto::File {
        content_id: Bytes::copy_from_slice(entry.content_id.as_bytes()),
        name: entry.name.as_str().to_owned(),
        size: entry.size,
        media_type: entry.media_type.clone().unwrap_or_default(),
        pieces_held: Layout::new(entry.size).map_or(0, Layout::count),
    }
}

/// A piece set as it goes over the wire.
pub(crate) fn message_of(pieces: &PieceSet, receivers: &[wire::PeerId]) -> proto::PieceSet {
    proto::PieceSet {
        bits: pieces.to_bytes().into(),
        held: pieces.held(),
        receivers: receivers.iter().map(|peer| Bytes::copy_from_slice(peer.as_bytes())).collect(),
    }
}

fn portion(of: &Portions, caller: &Caller, all: &'static str, own: &'static str) -> Result<Portion, Failure> {
    of.take(&caller.username).map_err(|full| match full {
        Full::All => refused(all),
        Full::Own => refused(own),
    })
}
