//! What an argument of `peer get` names: a content by its id, a file by its name, or a folder with all that is in it.
//!
//! A folder is no thing of its own in the network; it is what several names begin with. A search finds contents by the
//! words of the folder's name, one name for each. So it only says who has something there, and those peers' lists say
//! what all is: every name, also of contents that have another one elsewhere.

use std::{
    collections::{BTreeSet, HashSet},
    ops::ControlFlow,
};

use content::{ContentId, SafeName};
use wire::{
    ErrorCode, PeerId,
    rest::{
        Page,
        directory::{PeerFile, SearchItem, SearchQuery},
        pclient::{Download, DownloadsQuery, HolderWithPath, SharedFile},
    },
};

use super::{
    super::{Exit, Stop, api::Api, as_content_id, lists::remark_found, screen::Screen},
    Wanted,
};

/// The longest `q` that a directory takes, in bytes.
const MAX_QUERY: usize = 512;
/// Contents that one search looks through, and files that one folder may have; a peer remembers as many downloads.
const MOST: usize = 200_000;
/// Names that are shown to choose from.
const CANDIDATES: usize = 20;

/// What was found for one argument.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    File(Wanted),
    /// Its name, with a slash at the end, and what is in it.
    Folder(String, Vec<Wanted>),
}

pub(super) async fn find(api: &Api, what: &str, screen: &mut Screen) -> Result<Found, Stop> {
    if let Some(id) = as_content_id(what) {
        must_be_known(api, id).await?;
        return Ok(Found::File(Wanted { id, name: None }));
    }
    let folder = format!("{}/", what.trim_end_matches('/'));
    let only_folder = what.ends_with('/');
    let mut matches = Matches::default();
    let query = SearchQuery { q: Some(words_of(what)), ..SearchQuery::default() };
    api.each_page("/v1/search", &query, |items| matches.take(items, what, &folder)).await?;
    match matches.choose(only_folder) {
        Choice::One(item) => Ok(Found::File(Wanted { id: item.content_id, name: safe(&item.name) })),
        Choice::Folder(some) => {
            let files = everything_in(api, &folder, some).await?;
            Ok(Found::Folder(folder, files))
        }
        Choice::None => {
            Err(Stop::new(Exit::NotFound, format!("nobody shares a file or folder named `{what}`")))
        }
        Choice::Several(items, more) => {
            remark_found(&items, screen);
            if more > 0 {
                screen.remark(&format!("and {more} more"));
            }
            let why = format!("several files match `{what}`: give the content id or the whole name of one");
            Err(Stop::new(Exit::Usage, why))
        }
    }
}

/// Refuses an id that nobody knows, before a download waits for a holder for ever. What is here already, or is being
/// fetched, needs nobody else.
async fn must_be_known(api: &Api, id: ContentId) -> Result<(), Stop> {
    let asked: Result<Page<HolderWithPath>, Stop> = api.get(&format!("/v1/files/{id}/holders"), &()).await;
    let Err(stop) = asked else { return Ok(()) };
    if api.get::<SharedFile>(&format!("/v1/files/{id}"), &()).await.is_ok() || is_download(api, id).await? {
        return Ok(());
    }
    Err(match stop.code {
        Some(ErrorCode::NotFound) => Stop::new(Exit::NotFound, format!("nobody shares {id}")),
        _ => stop,
    })
}

async fn is_download(api: &Api, id: ContentId) -> Result<bool, Stop> {
    let mut found = false;
    let look = |downloads: Vec<Download>| {
        found |= downloads.iter().any(|download| download.content_id == id);
        if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    api.each_page("/v1/downloads", &DownloadsQuery::default(), look).await?;
    Ok(found)
}

/// As much of a name as a search takes.
fn words_of(name: &str) -> String {
    let mut end = name.len().min(MAX_QUERY);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

/// A name that may be given to a download; another one is left for the peer to find.
fn safe(name: &str) -> Option<String> {
    SafeName::new(name).is_ok().then(|| name.to_owned())
}

/// What a search for a name has found, by how well it fits.
#[derive(Debug, Default)]
struct Matches {
    /// That very name.
    whole: Few,
    /// A file of that name in some folder.
    last_part: Few,
    /// Those that merely match.
    others: Few,
    below: Vec<(String, ContentId)>,
    looked_at: usize,
}

/// Some of them, and how many there were.
#[derive(Debug, Default)]
struct Few {
    kept: Vec<SearchItem>,
    all: usize,
}

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    One(SearchItem),
    Folder(Vec<(String, ContentId)>),
    /// Some to choose from, and how many more there are.
    Several(Vec<SearchItem>, usize),
    None,
}

impl Matches {
    fn take(&mut self, items: Vec<SearchItem>, name: &str, folder: &str) -> ControlFlow<()> {
        for item in items {
            self.looked_at += 1;
            if item.name == name {
                self.whole.add(item);
            } else if item.name.starts_with(folder) {
                self.below.push((item.name, item.content_id));
            } else if item.name.rsplit('/').next() == Some(name) {
                self.last_part.add(item);
            } else {
                self.others.add(item);
            }
        }
        if self.looked_at >= MOST { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// What fits better wins over all that fits less well.
    fn choose(self, only_folder: bool) -> Choice {
        let Self { whole, last_part, others, below, .. } = self;
        if !only_folder && whole.all > 0 {
            return whole.choose();
        }
        if !below.is_empty() {
            return Choice::Folder(below);
        }
        if only_folder {
            return Choice::None;
        }
        if last_part.all > 0 { last_part.choose() } else { others.choose() }
    }
}

impl Few {
    fn add(&mut self, item: SearchItem) {
        self.all += 1;
        if self.kept.len() < CANDIDATES {
            self.kept.push(item);
        }
    }

    fn choose(mut self) -> Choice {
        match self.all {
            0 => Choice::None,
            1 => self.kept.pop().map_or(Choice::None, Choice::One),
            all => Choice::Several(self.kept, all - all.min(CANDIDATES)),
        }
    }
}

/// Every file that anybody has in a folder of which `some` contents are known.
async fn everything_in(api: &Api, folder: &str, some: Vec<(String, ContentId)>) -> Result<Vec<Wanted>, Stop> {
    let mut files: BTreeSet<(String, ContentId)> = BTreeSet::new();
    let mut covered: HashSet<ContentId> = HashSet::new();
    let mut listed: HashSet<PeerId> = HashSet::new();
    for (name, id) in some {
        if covered.contains(&id) {
            continue;
        }
        if let Some(peer) = holder_of(api, id, &listed).await? {
            listed.insert(peer);
            let look = |page: Vec<PeerFile>| {
                for file in page.into_iter().filter(|file| file.name.starts_with(folder)) {
                    covered.insert(file.content_id);
                    files.insert((file.name, file.content_id));
                }
                if files.len() > MOST { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            };
            api.each_page(&format!("/v1/peers/{peer}/files"), &(), look).await?;
        }
        // Its holder may have gone, or hold it under another name by now.
        if covered.insert(id) {
            files.insert((name, id));
        }
    }
    if files.len() > MOST {
        return Err(Stop::failed(format!("`{folder}` has more than {MOST} files: fetch parts of it")));
    }
    Ok(files.into_iter().map(|(name, id)| Wanted { id, name: safe(&name) }).collect())
}

/// A holder of a content whose list was not looked through yet, one that is online first.
async fn holder_of(api: &Api, id: ContentId, listed: &HashSet<PeerId>) -> Result<Option<PeerId>, Stop> {
    let asked: Result<Page<HolderWithPath>, Stop> = api.get(&format!("/v1/files/{id}/holders"), &()).await;
    let holders = match asked {
        Ok(page) => page.items,
        Err(stop) if stop.code == Some(ErrorCode::NotFound) => return Ok(None),
        Err(stop) => return Err(stop),
    };
    let fresh = holders.iter().map(|item| &item.holder).filter(|holder| !listed.contains(&holder.peer_id));
    Ok(fresh.max_by_key(|holder| (holder.online, holder.pieces_held)).map(|holder| holder.peer_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(n: u8, name: &str) -> SearchItem {
        SearchItem {
            content_id: ContentId::from_bytes([n; 32]),
            name: name.to_owned(),
            size: 1,
            media_type: None,
            holders: 1,
            online: 1,
            complete: true,
        }
    }

    fn choose(name: &str, found: &[SearchItem]) -> Choice {
        let mut matches = Matches::default();
        let _all = matches.take(found.to_vec(), name, &format!("{}/", name.trim_end_matches('/')));
        matches.choose(name.ends_with('/'))
    }

    #[test]
    fn what_fits_better_wins() {
        let found =
            [item(1, "talk.mp4"), item(2, "my talk.mp4"), item(3, "old/notes.txt"), item(4, "notes.txt.bak")];
        assert_eq!(choose("talk.mp4", &found), Choice::One(found[0].clone()));
        assert_eq!(choose("notes.txt", &found), Choice::One(found[2].clone()));
        assert_eq!(choose("talk", &found[..2]), Choice::Several(found[..2].to_vec(), 0));
        assert_eq!(choose("talk", &found[..1]), Choice::One(found[0].clone()));
        assert_eq!(choose("talk", &[]), Choice::None);
        let same = [item(1, "x/a"), item(2, "y/a")];
        assert_eq!(choose("a", &same), Choice::Several(same.to_vec(), 0));
        let many: Vec<_> = (0..100).map(|n| item(n, &format!("many {n}"))).collect();
        assert_eq!(choose("many", &many), Choice::Several(many[..CANDIDATES].to_vec(), 100 - CANDIDATES));
    }

    #[test]
    fn a_folder_is_what_names_begin_with() {
        let found = [item(1, "photos/a/1.jpg"), item(2, "photos/2.jpg"), item(3, "my photos/3.jpg")];
        let below = Choice::Folder(vec![
            (found[0].name.clone(), found[0].content_id),
            (found[1].name.clone(), found[1].content_id),
        ]);
        assert_eq!(choose("photos", &found), below);
        assert_eq!(choose("photos/", &found), below);
        assert_eq!(
            choose("photos/a//", &found[..1]),
            Choice::Folder(vec![(found[0].name.clone(), found[0].content_id)])
        );
        // A file of that very name, unless the slash says that a folder is meant.
        let with_file = [item(9, "photos"), found[0].clone()];
        assert_eq!(choose("photos", &with_file), Choice::One(with_file[0].clone()));
        assert!(matches!(choose("photos/", &with_file), Choice::Folder(_)));
        assert_eq!(choose("3.jpg/", &found), Choice::None);
    }

    #[test]
    fn a_query_is_cut_at_a_character() {
        assert_eq!(words_of("short"), "short");
        let cut = words_of(&"é".repeat(400));
        assert_eq!(cut, "é".repeat(256));
    }
}
