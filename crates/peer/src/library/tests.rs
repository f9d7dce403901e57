//! The library as its users see it: files added, changed, withdrawn, restricted and announced, on a real store.

use std::collections::{BTreeMap, HashMap};

use content::{OutlineBuilder, PIECE_SIZE, PieceHasher};
use jiff::Timestamp;
use proptest::prelude::*;
use wire::rest::directory::CatalogPut;

use super::*;

fn clock() -> Clock {
    Clock::by_hand("2026-11-05T10:00:00Z".parse::<Timestamp>().unwrap())
}

async fn open(folder: &Path) -> Library {
    Library::open(Store::open(&folder.join("peer.sqlite")).unwrap(), clock()).await.unwrap()
}

fn id(n: u8) -> ContentId {
    ContentId::of(&[n])
}

/// A small file that holds the byte `n`.
fn file(n: u8, path: &str, name: &str) -> NewFile {
    let outline = Outline::verify(id(n), Layout::new(1).unwrap(), Vec::new()).unwrap();
    let stamp = FileStamp { size: 1, mtime_ns: i64::from(n), ctime_ns: 7, inode: u64::from(n) };
    NewFile::new(path.into(), SafeName::new(name).unwrap(), stamp, Arc::new(outline))
}

fn restricted() -> Audience {
    Audience::Users(vec!["ana".parse().unwrap()])
}

fn big_file(first: u8, path: &str) -> NewFile {
    let layout = Layout::new(PIECE_SIZE + 1).unwrap();
    let mut builder = OutlineBuilder::new(layout);
    for (index, bytes) in [(0, vec![first; 1 << 20]), (1, vec![1])] {
        let mut hasher = PieceHasher::new(layout, index);
        hasher.update(&bytes);
        builder.set(index, hasher.finish().unwrap());
    }
    let stamp = FileStamp { size: layout.size(), mtime_ns: 0, ctime_ns: 7, inode: 900 + u64::from(first) };
    let outline = Arc::new(builder.finish().unwrap());
    NewFile::new(path.into(), SafeName::new("big.iso").unwrap(), stamp, outline)
}

#[tokio::test]
async fn what_was_added_is_found_in_every_way_also_after_opening_again() {
    let folder = tempfile::tempdir().unwrap();
    let check = |library: &Library| {
        assert_eq!(library.totals(), (2, PIECE_SIZE + 2));
        assert_eq!(library.entries(&id(1)).len(), 2, "one name at two paths");
        let at = library.by_path(Path::new("/a/one.txt")).unwrap();
        assert_eq!((at.content_id, at.media_type.as_deref()), (id(1), Some("text/plain")));
        assert_eq!((at.stamp.ctime_ns, library.like(&at.stamp).len()), (7, 2), "two names of one file");
        assert!(library.like(&FileStamp { size: 2, ..at.stamp }).is_empty());
        assert_eq!(library.like(&FileStamp { ctime_ns: 9, ..at.stamp }).len(), 2);
        let big = big_file(7, "/a/big.iso");
        assert_eq!(*library.outline(&big.content_id).unwrap().unwrap(), *big.outline.unwrap());
        assert!(library.outline(&id(1)).unwrap().unwrap().values().is_empty());
        assert!(library.outline(&id(9)).unwrap().is_none());
        let names: Vec<_> = library.page(None, None, 10).iter().map(|e| e.name.to_string()).collect();
        assert_eq!(names, ["big.iso", "one.txt"]);
        assert_eq!(library.beneath(Path::new("/a")).len(), 2);
        assert_eq!(library.beneath(Path::new("/a/one.txt")).len(), 1);
    };
    let library = open(folder.path()).await;
    let files =
        vec![file(1, "/a/one.txt", "one.txt"), file(1, "/b/one.txt", "one.txt"), big_file(7, "/a/big.iso")];
    library.add(files).await.unwrap();
    check(&library);
    drop(library);
    check(&open(folder.path()).await);
}

#[tokio::test]
async fn pages_follow_each_other_and_find_parts_of_names() {
    let folder = tempfile::tempdir().unwrap();
    let library = open(folder.path()).await;
    let files = (0..100).map(|n| file(n, &format!("/s/{n}"), &format!("Año/Foto {:03}.jpg", n / 2)));
    library.add(files.collect()).await.unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = library.page(Some("AÑO/foto"), after, 7);
        let Some(last) = page.last() else { break };
        after = Some((last.name.to_string(), last.content_id));
        seen.extend(page);
    }
    assert_eq!(seen.len(), 100);
    assert!(seen.is_sorted_by_key(|entry| (entry.name.clone(), entry.content_id)));
    assert_eq!(library.page(Some("foto 049"), None, 10).len(), 2);
    assert!(library.page(Some("nothing"), None, 10).is_empty());
}

#[tokio::test]
async fn what_is_edited_stays_restricted_while_a_copy_of_its_old_bytes_lies_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let library = open(folder.path()).await;
    library.add(vec![file(1, "/s/a", "a"), file(1, "/s/copy", "copy")]).await.unwrap();
    library.set_audience(&id(1), restricted()).await.unwrap();
    library.remove_paths(&["/s/a".into()]).await.unwrap();
    library.add(vec![file(2, "/s/a", "a")]).await.unwrap();
    assert_eq!(library.by_path(Path::new("/s/a")).unwrap().audience, restricted());
}

#[tokio::test]
async fn an_audience_belongs_to_the_content_and_stays_with_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let library = open(folder.path()).await;
    let audience = |path: &str| library.by_path(Path::new(path)).unwrap().audience.clone();
    library.add(vec![file(1, "/s/a", "a"), file(2, "/s/b", "b")]).await.unwrap();
    assert!(library.set_audience(&id(1), restricted()).await.unwrap());
    assert_eq!((audience("/s/a"), audience("/s/b")), (restricted(), Audience::Network));

    library.add(vec![file(1, "/s/copy", "copy")]).await.unwrap();
    assert_eq!(audience("/s/copy"), restricted(), "the same bytes at another path");
    library.remove_paths(&["/s/a".into(), "/s/copy".into()]).await.unwrap();
    library.add(vec![file(1, "/s/back", "back")]).await.unwrap();
    assert_eq!(audience("/s/back"), restricted(), "bytes that come back");
    library.add(vec![file(3, "/s/back", "back")]).await.unwrap();
    assert_eq!(audience("/s/back"), restricted(), "a file that was edited");
    library.remove_paths(&["/s/back".into()]).await.unwrap();
    library.add(vec![file(4, "/s/back", "back")]).await.unwrap();
    assert_eq!(audience("/s/back"), restricted(), "edited, and seen as gone in between");
    library.set_audience(&id(4), Audience::Network).await.unwrap();
    library.remove_paths(&["/s/back".into()]).await.unwrap();
    library.add(vec![file(5, "/s/back", "back")]).await.unwrap();
    assert_eq!(audience("/s/back"), Audience::Network, "the user has let go of it");

    library.set_folder_audience(Path::new("/s/ana"), restricted()).await.unwrap();
    library.add(vec![file(6, "/s/ana/x/6", "6"), file(7, "/s/anab", "7")]).await.unwrap();
    assert_eq!((audience("/s/ana/x/6"), audience("/s/anab")), (restricted(), Audience::Network));
    drop(library);
    let library = open(folder.path()).await;
    library.add(vec![file(8, "/s/ana/8", "8")]).await.unwrap();
    assert_eq!(library.get(&id(8)).unwrap().audience, restricted());
}

#[tokio::test]
async fn what_was_taken_out_stays_out_until_somebody_asks() {
    let folder = tempfile::tempdir().unwrap();
    let library = open(folder.path()).await;
    library.add(vec![file(1, "/s/a", "a"), file(1, "/s/b", "b"), file(2, "/s/c", "c")]).await.unwrap();
    assert_eq!(library.unshare(&id(1)).await.unwrap(), 2);
    assert_eq!(library.unshare(&id(1)).await.unwrap(), 0);
    drop(library);
    let library = open(folder.path()).await;
    assert!(library.get(&id(1)).is_none());
    assert!(library.is_excluded(Path::new("/s/a")));
    let found = |files| library.apply(files, Vec::new(), Origin::Found);
    // Also under another name, and also where hashing had begun before it was taken out.
    let files = vec![file(1, "/s/a", "a"), file(1, "/s/renamed", "renamed"), file(3, "/s/d", "d")];
    assert_eq!(found(files).await.unwrap(), 1);
    assert!(library.get(&id(1)).is_none());
    assert!(library.is_excluded(Path::new("/s/renamed")));

    library.add(vec![file(1, "/s/a", "a")]).await.unwrap();
    assert_eq!(
        found(vec![file(1, "/s/b", "b")]).await.unwrap(),
        1,
        "asked for, so all of its paths are free"
    );
    library.unshare(&id(1)).await.unwrap();
    library.include(Path::new("/s")).await.unwrap();
    assert_eq!(found(vec![file(1, "/s/b", "b")]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_known_file_without_its_outline_is_not_shared() {
    let folder = tempfile::tempdir().unwrap();
    let library = open(folder.path()).await;
    let big = big_file(1, "/s/big");
    library.add(vec![big.clone()]).await.unwrap();
    let twin = library.get(&big.content_id).unwrap();
    let moved = NewFile::known("/s/moved".into(), twin.name.clone(), twin.stamp, &twin);
    let apply = |add, remove| library.apply(add, remove, Origin::Found);
    assert_eq!(apply(vec![moved.clone()], vec!["/s/big".into()]).await.unwrap(), 1);
    assert!(library.outline(&big.content_id).unwrap().is_some(), "it moved with its file");
    library.remove_paths(&["/s/moved".into()]).await.unwrap();
    assert_eq!(apply(vec![moved], Vec::new()).await.unwrap(), 0);
    assert!(library.get(&big.content_id).is_none());
}

#[tokio::test]
async fn events_tell_what_came_and_went() {
    let folder = tempfile::tempdir().unwrap();
    let library = open(folder.path()).await;
    let mut events = library.subscribe();
    let revision = library.changes();
    let first = *revision.borrow();
    library.add(vec![file(1, "/s/a", "a")]).await.unwrap();
    library.add(vec![file(2, "/s/a", "a")]).await.unwrap();
    library.unshare(&id(2)).await.unwrap();
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        told.push(match event {
            FileEvent::Shared(file) => format!("+{}", file.content_id),
            FileEvent::Unshared { content_id, .. } => format!("-{content_id}"),
            other => format!("{other:?}"),
        });
    }
    let (one, two) = (id(1), id(2));
    assert_eq!(told, [format!("+{one}"), format!("-{one}"), format!("+{two}"), format!("-{two}")]);
    assert_eq!(*revision.borrow(), first + 4, "two rows put, two withdrawn");
}

/// A directory, as far as one peer's catalog goes.
#[derive(Debug, Clone, Default)]
struct Directory {
    revision: u64,
    rows: BTreeMap<(ContentId, String), CatalogPut>,
}

impl Directory {
    /// Applies a delta; false for a conflict.
    fn apply(&mut self, delta: &CatalogDelta) -> bool {
        assert!(delta.revision > delta.base_revision, "{delta:?}");
        if delta.reset {
            self.rows.clear();
        } else if delta.base_revision != self.revision {
            return false;
        }
        for put in &delta.put {
            self.rows.insert((put.content_id, put.name.clone()), put.clone());
        }
        for key in &delta.remove {
            self.rows.remove(&(key.content_id, key.name.clone()));
        }
        self.revision = delta.revision;
        true
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add {
        content: u8,
        path: u8,
        name: u8,
    },
    Remove {
        path: u8,
    },
    Unshare {
        content: u8,
    },
    Audience {
        content: u8,
        restricted: bool,
    },
    Partial {
        content: u8,
        name: u8,
        pieces: u32,
    },
    ClearPartial {
        content: u8,
    },
    /// Tells the directory; the request, or only its answer, may be lost.
    Tell {
        request_lost: bool,
        answer_lost: bool,
        max: usize,
    },
    /// The peer believes that it must begin anew.
    Reset {
        lost: bool,
    },
    Empty,
    Keep,
    /// The directory is put back from the copy that was kept.
    Restore,
    /// The directory's revision is nothing that we gave it.
    Garble {
        revision: u64,
    },
    /// Another directory takes its place, and the first one comes back later.
    Switch,
    Reopen,
    LoseStore,
}

fn step() -> impl Strategy<Value = Step> {
    let tell = || {
        (prop::bool::weighted(0.2), prop::bool::weighted(0.3), 1usize..4)
            .prop_map(|(request_lost, answer_lost, max)| Step::Tell { request_lost, answer_lost, max })
    };
    prop_oneof![
        6 => (0u8..4, 0u8..5, 0u8..3).prop_map(|(content, path, name)| Step::Add { content, path, name }),
        3 => (0u8..5).prop_map(|path| Step::Remove { path }),
        1 => (0u8..4).prop_map(|content| Step::Unshare { content }),
        1 => (0u8..4, any::<bool>()).prop_map(|(content, restricted)| Step::Audience { content, restricted }),
        2 => (0u8..5, 0u8..3, 0u32..3)
            .prop_map(|(content, name, pieces)| Step::Partial { content, name, pieces }),
        1 => (0u8..5).prop_map(|content| Step::ClearPartial { content }),
        8 => tell(),
        1 => any::<bool>().prop_map(|lost| Step::Reset { lost }),
        1 => Just(Step::Empty),
        1 => Just(Step::Keep),
        1 => Just(Step::Restore),
        1 => prop_oneof![Just(0), Just(7), Just(1 << 52), Just(u64::MAX)].prop_map(|revision| Step::Garble { revision }),
        1 => Just(Step::Switch),
        1 => Just(Step::Reopen),
        1 => Just(Step::LoseStore),
    ]
}

/// What the directory should hold, by the library's own view.
fn expected(
    library: &Library,
    partials: &HashMap<u8, (u8, u32)>,
) -> BTreeMap<(ContentId, String), CatalogPut> {
    let put = |content_id, name: String, pieces_held, audience: Audience| {
        let audience = (audience != Audience::Network).then_some(audience);
        let media_type = None;
        (
            (content_id, name.clone()),
            CatalogPut { content_id, name, size: 1, media_type, pieces_held, audience },
        )
    };
    let whole = library.all();
    let whole = whole.iter().map(|e| put(e.content_id, e.name.to_string(), 1, e.audience.clone()));
    let partial = partials
        .iter()
        .filter(|(content, _)| library.get(&id(**content)).is_none())
        .map(|(content, (name, pieces))| put(id(*content), name.to_string(), *pieces, Audience::Network));
    whole.chain(partial).collect()
}

fn is_restricted(library: &Library, id: &ContentId) -> bool {
    let query = "SELECT EXISTS (SELECT 1 FROM audiences WHERE content_id = ?1)";
    library.inner.store.read(|c| c.query_row(query, [id.as_bytes()], |row| row.get(0))).unwrap()
}

async fn tell(
    library: &Library,
    directory: &mut Directory,
    max: usize,
    request_lost: bool,
    answer_lost: bool,
) -> bool {
    let Some(delta) = library.delta(directory.revision, max).await.unwrap() else { return false };
    assert!(delta.put.len() + delta.remove.len() <= max);
    if request_lost {
        return true;
    }
    assert!(directory.apply(&delta), "what was made for this revision fits it");
    if !answer_lost {
        library.acked(directory.revision).await.unwrap();
    }
    true
}

async fn run(steps: Vec<Step>) {
    let folder = tempfile::tempdir().unwrap();
    let clock = clock();
    let path = folder.path().join("peer.sqlite");
    let open = || Library::open(Store::open(&path).unwrap(), clock.clone());
    let mut library = open().await.unwrap();
    let (mut partials, mut garbled) = (HashMap::new(), 0);
    let (mut directory, mut other, mut copy) =
        (Directory::default(), Directory::default(), Directory::default());
    for step in steps {
        match step {
            Step::Add { content, path, name } => {
                library.add(vec![file(content, &format!("/{path}"), &name.to_string())]).await.unwrap();
                partials.remove(&content);
            }
            Step::Remove { path } => library.remove_paths(&[format!("/{path}").into()]).await.unwrap(),
            Step::Unshare { content } => drop(library.unshare(&id(content)).await.unwrap()),
            Step::Audience { content, restricted: true } => {
                library.set_audience(&id(content), restricted()).await.unwrap();
                partials.remove(&content);
            }
            Step::Audience { content, .. } => {
                library.set_audience(&id(content), Audience::Network).await.unwrap();
            }
            Step::Partial { content, name, pieces } => {
                let name_text = SafeName::new(&name.to_string()).unwrap();
                library.set_partial(&id(content), &name_text, 1, None, pieces).await.unwrap();
                if library.get(&id(content)).is_none() && !is_restricted(&library, &id(content)) {
                    partials.insert(content, (name, pieces));
                }
            }
            Step::ClearPartial { content } => {
                library.clear_partial(&id(content)).await.unwrap();
                partials.remove(&content);
            }
            Step::Tell { request_lost, answer_lost, max } => {
                tell(&library, &mut directory, max, request_lost, answer_lost).await;
            }
            Step::Reset { lost } => {
                let delta = library.reset_delta(directory.revision, 2).await.unwrap();
                if !lost {
                    assert!(directory.apply(&delta));
                }
            }
            Step::Empty => directory = Directory::default(),
            Step::Keep => copy = directory.clone(),
            Step::Restore => directory = copy.clone(),
            Step::Garble { revision } => {
                // No number that a store lost since then has gone on from: a collision nobody can tell from the truth.
                garbled += 1000;
                directory.revision = if revision == 0 { 0 } else { revision.saturating_add(garbled) };
                if revision == 0 {
                    directory.rows.clear();
                }
            }
            Step::Switch => std::mem::swap(&mut directory, &mut other),
            Step::Reopen => {
                drop(library);
                library = open().await.unwrap();
            }
            Step::LoseStore => {
                drop(library);
                std::fs::remove_file(&path).unwrap();
                clock.advance(std::time::Duration::from_secs(1));
                library = open().await.unwrap();
                partials.clear();
            }
        }
    }
    for directory in [&mut directory, &mut other] {
        let mut rounds = 0;
        while tell(&library, directory, 2, false, false).await {
            rounds += 1;
            assert!(rounds < 100, "it never ends");
        }
        assert_eq!(directory.rows, expected(&library, &partials));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 2000, ..ProptestConfig::default() })]
    #[test]
    fn any_directory_is_brought_right_by_deltas(steps in prop::collection::vec(step(), 1..60)) {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(run(steps));
    }
}

#[tokio::test]
async fn a_store_that_follows_the_number_of_a_lost_one_does_not_pass_for_it() {
    let add = |content, name| Step::Add { content, path: 0, name };
    let tell = || Step::Tell { request_lost: false, answer_lost: false, max: 1 };
    let ahead = Step::Garble { revision: 1 << 52 };
    run(vec![
        ahead,
        add(0, 0),
        tell(),
        add(0, 1),
        Step::Switch,
        tell(),
        Step::Switch,
        Step::LoseStore,
        add(1, 0),
    ])
    .await;
}

#[tokio::test]
async fn what_was_given_to_this_peer_alone_is_shared_by_nobodys_word() {
    let folder = tempfile::tempdir().unwrap();
    let library = open(folder.path()).await;
    library.add(vec![file(1, "/s/own", "own")]).await.unwrap();
    library.withhold(vec![id(1), id(2)]).await.unwrap();
    assert!(!library.is_withheld(&id(1)).unwrap(), "it was shared here before");
    for origin in [Origin::Found, Origin::Asked] {
        library.apply(vec![file(2, "/s/given", "given")], vec![], origin).await.unwrap();
        assert!(library.get(&id(2)).is_none() && library.is_excluded(Path::new("/s/given")), "{origin:?}");
    }
    let name = SafeName::new("given").unwrap();
    library.set_partial(&id(2), &name, 1, None, 1).await.unwrap();
    library.include(Path::new("/s")).await.unwrap();
    library.add(vec![file(2, "/s/copy", "copy")]).await.unwrap();
    drop(library);

    let library = open(folder.path()).await;
    library.add(vec![file(2, "/s/again", "again")]).await.unwrap();
    assert_eq!(library.all().len(), 1);
    let announced = library.delta(0, 100).await.unwrap().unwrap();
    assert_eq!(announced.put.len(), 1, "{announced:?}");

    // Everybody may have it now.
    library.release(&id(2)).await.unwrap();
    assert!(!library.is_excluded(Path::new("/s/again")));
    library.apply(vec![file(2, "/s/again", "again")], vec![], Origin::Found).await.unwrap();
    assert_eq!(library.entries(&id(2)).len(), 1);
}
