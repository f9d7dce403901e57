//! [`Liar`]: a peer with a valid certificate whose answers are wrong, each liar in one way.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use blake3::hazmat::{Mode, merge_subtrees_non_root};
use bytes::Bytes;
use content::{ContentId, Layout, Outline, OutlineBuilder, PIECE_SIZE, PieceHasher};
use daemon::Lifecycle;
use futures::{Stream, StreamExt, stream};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tonic::{Request, Response, Status, service::Routes};
use wire::{
    PeerId,
    proto::{self, files_server::FilesServer},
};

use crate::{Member, Network, until};

const PORTION: usize = 256 << 10;
const OVERSIZED: usize = 60 << 20;
const DRIP: Duration = Duration::from_secs(1);

/// In which way it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Not at all.
    None,
    /// One bit of what it sends is another.
    FlippedBit,
    /// Chaining values that are not the file's.
    WrongProof,
    /// More chaining values than the file has.
    LongProof,
    /// A size that is not the one it announced.
    WrongSize,
    /// Another size than the file's, to the directory and to everybody; what it proves and sends is true as far as it
    /// fits that size.
    Claims(u64),
    /// The same, and too busy to send a byte.
    ClaimsAndRests(u64),
    /// More bytes than were asked for.
    TooMuch,
    /// Fewer bytes than were asked for, and then all is said to be well.
    TooLittle,
    /// Bytes without an end.
    Endless,
    /// Takes the question and says nothing.
    Silent,
    /// Says that every piece is here, and then that it is not.
    Missing,
    /// A piece set of the wrong length, and receivers that are nobody.
    WrongPieces,
    /// Messages of sixty megabytes.
    Oversized,
    /// A few bytes a second.
    Drip,
    /// States of the same pieces without an end, each as large as it may be; and all else likewise.
    Flood,
    /// All that was asked for, and then once more.
    Twice,
    /// The bytes from the end to the beginning, portion by portion.
    Backwards,
}

/// A liar that serves one content, of which it knows the true bytes.
pub struct Liar {
    pub member: Member,
    core: Arc<Core>,
    lifecycle: Lifecycle,
}

struct Core {
    lie: Lie,
    id: ContentId,
    bytes: Bytes,
    asked: AtomicU64,
}

impl Liar {
    /// Joins the network, and says that it has all of the file.
    pub async fn start(network: &Network, name: &str, lie: Lie, file: &str, bytes: Bytes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let member = Member::join(&network.url(), name, &[endpoint]).await;
        let core = Arc::new(Core { lie, id: ContentId::of(&bytes), bytes, asked: AtomicU64::new(0) });
        let told = member.announce(&[(core.id, file, core.size())]).await;
        assert!(told.status.is_success(), "{told:?}");

        let files = FilesServer::new(Door(core.clone())).max_encoding_message_size(usize::MAX);
        let routes = Routes::new(files);
        let acceptor = TlsAcceptor::from(member.server_config());
        let lifecycle = Lifecycle::new();
        let inner = lifecycle.clone();
        lifecycle.spawn("liar", async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let (routes, acceptor) = (routes.clone(), acceptor.clone());
                inner.spawn("talk", async move { talk(stream, routes, acceptor).await });
            }
        });
        Self { member, core, lifecycle }
    }

    pub fn id(&self) -> ContentId {
        self.core.id
    }

    pub fn peer_id(&self) -> PeerId {
        self.member.peer_id
    }

    /// How often it was asked for bytes or a proof.
    pub fn asked(&self) -> u64 {
        self.core.asked.load(Ordering::Relaxed)
    }

    /// Waits until the directory puts it behind the honest, which it does when somebody has reported it.
    pub async fn reported(&self) {
        until("the liar is reported", async || {
            let holders = self.member.locate(self.id()).await.holders;
            (holders.len() > 1 && holders.last().is_some_and(|last| last.peer_id == self.peer_id()))
                .then_some(())
        })
        .await;
    }

    pub async fn end(self) {
        self.lifecycle.hard().cancel();
        self.lifecycle.finish().await;
    }
}

async fn talk(stream: TcpStream, routes: Routes, acceptor: TlsAcceptor) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = TowerToHyperService::new(routes);
    let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    let _hung_up = serving.await;
}

/// A byte now and then, until the end of the world.
fn dripping(bytes: Vec<u8>) -> impl Stream<Item = Bytes> {
    stream::iter(bytes).then(|byte| async move {
        tokio::time::sleep(DRIP).await;
        Bytes::from(vec![byte])
    })
}

struct Door(Arc<Core>);

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn answer<T: Send + 'static>(items: impl Stream<Item = T> + Send + 'static) -> Response<Answer<T>> {
    Response::new(Box::pin(items.map(Ok)))
}

impl Core {
    /// As it announces it.
    fn size(&self) -> u64 {
        match self.lie {
            Lie::Claims(size) | Lie::ClaimsAndRests(size) => size,
            _ => self.bytes.len() as u64,
        }
    }

    fn layout(&self) -> Layout {
        Layout::new(self.size()).unwrap()
    }

    fn values(&self) -> Vec<[u8; 32]> {
        let mut values = outline_of(&self.bytes).values().to_vec();
        match self.lie {
            Lie::WrongProof => values[0][0] ^= 1,
            Lie::LongProof => values.push([7; 32]),
            Lie::Oversized => values.resize(OVERSIZED / 32, [7; 32]),
            Lie::Claims(_) | Lie::ClaimsAndRests(_) => fit(&mut values, Outline::values_for(self.layout())),
            _ => {}
        }
        values
    }

    /// Portions of the file as they are told.
    fn portions(&self, offset: usize, length: usize) -> Vec<Bytes> {
        let bytes = self.told(offset, length);
        let portion = if self.lie == Lie::Oversized { OVERSIZED } else { PORTION };
        let cut = (0..bytes.len()).step_by(portion);
        let mut portions: Vec<Bytes> = cut.map(|at| bytes.slice(at..bytes.len().min(at + portion))).collect();
        match self.lie {
            Lie::Twice => portions.extend(portions.clone()),
            Lie::Backwards => portions.reverse(),
            _ => {}
        }
        portions
    }

    /// The bytes as it tells them.
    fn told(&self, offset: usize, length: usize) -> Bytes {
        let mut bytes: Vec<u8> = self.bytes.iter().skip(offset).take(length).copied().collect();
        match self.lie {
            Lie::Claims(_) => bytes.resize(length, 0),
            Lie::FlippedBit => {
                let middle = bytes.len() / 2;
                if let Some(byte) = bytes.get_mut(middle) {
                    *byte ^= 1;
                }
            }
            Lie::TooMuch => bytes.extend([0; 64]),
            Lie::Oversized => bytes.resize(OVERSIZED, 0),
            Lie::TooLittle => bytes.truncate(bytes.len().saturating_sub(1)),
            _ => {}
        }
        bytes.into()
    }

    async fn asked(&self) -> Result<(), Status> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match self.lie {
            Lie::Silent => std::future::pending().await,
            Lie::Missing => Err(wire::ErrorCode::NotFound.to_status("it is not here after all")),
            _ => Ok(()),
        }
    }
}

/// As many values as a proof for another size has. Neighbours merged in pairs still give the content id: such a proof
/// is found out only by a piece.
fn fit(values: &mut Vec<[u8; 32]>, count: usize) {
    while values.len() > count && count > 0 {
        let pairs = values.chunks(2).map(|pair| match pair {
            [left, right] => merge_subtrees_non_root(left, right, Mode::Hash),
            alone => alone[0],
        });
        *values = pairs.collect();
    }
    values.resize(count, [7; 32]);
}

fn outline_of(bytes: &[u8]) -> Outline {
    let layout = Layout::new(bytes.len() as u64).unwrap();
    let mut builder = OutlineBuilder::new(layout);
    let pieces = bytes.chunks(usize::try_from(PIECE_SIZE).unwrap());
    for (index, piece) in (0u32..).zip(pieces) {
        let mut hasher = PieceHasher::new(layout, index);
        hasher.update(piece);
        builder.set(index, hasher.finish().unwrap());
    }
    builder.finish().unwrap()
}

#[tonic::async_trait]
impl proto::files_server::Files for Door {
    type ListStream = Answer<proto::File>;
    type FetchStream = Answer<proto::Chunk>;
    type FetchManyStream = Answer<proto::FileChunk>;
    type WatchStream = Answer<proto::PieceSet>;

    async fn list(&self, _: Request<proto::ListRequest>) -> Result<Response<Self::ListStream>, Status> {
        let names = ["../../x", "/etc/x", "C:\\x", "a\0b", "\u{1b}[2J", "\u{202e}x"];
        let id = self.0.id;
        let file = move |name: &str| proto::File {
            content_id: Bytes::copy_from_slice(id.as_bytes()),
            name: name.to_owned(),
            size: u64::MAX,
            media_type: "<script>".to_owned(),
            pieces_held: u32::MAX,
        };
        Ok(answer(stream::iter(names.map(file))))
    }

    async fn describe(
        &self,
        request: Request<proto::DescribeRequest>,
    ) -> Result<Response<proto::Description>, Status> {
        self.0.asked().await?;
        let core = &self.0;
        let first = request.get_ref().first_piece as usize;
        let size = core.size() + if core.lie == Lie::WrongSize { PIECE_SIZE } else { 0 };
        let values = core.values();
        let values = values.get(first..).unwrap_or_default().concat();
        Ok(Response::new(proto::Description {
            size,
            chaining_values: values.into(),
            pieces: Some(proto::PieceSet { held: core.layout().count(), ..proto::PieceSet::default() }),
            restricted: false,
        }))
    }

    async fn fetch(
        &self,
        request: Request<proto::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        self.0.asked().await?;
        if matches!(self.0.lie, Lie::ClaimsAndRests(_)) {
            return Err(wire::ErrorCode::RateLimited.to_status("later, perhaps"));
        }
        if self.0.lie == Lie::Endless {
            let zeros = Bytes::from(vec![0; PORTION]);
            return Ok(answer(stream::repeat_with(move || proto::Chunk { data: zeros.clone() })));
        }
        let [offset, length] =
            [request.get_ref().offset, request.get_ref().length].map(|n| usize::try_from(n).unwrap());
        let portions = self.0.portions(offset, length);
        if self.0.lie == Lie::Drip {
            return Ok(answer(dripping(portions.concat()).map(|data| proto::Chunk { data })));
        }
        Ok(answer(stream::iter(portions).map(|data| proto::Chunk { data })))
    }

    async fn fetch_many(
        &self,
        request: Request<proto::FetchManyRequest>,
    ) -> Result<Response<Self::FetchManyStream>, Status> {
        self.0.asked().await?;
        let files: Vec<proto::FileChunk> = (0u32..)
            .zip(&request.get_ref().content_ids)
            .map(|(index, _)| proto::FileChunk {
                index,
                data: self.0.told(0, usize::try_from(self.0.size()).unwrap()),
                error: String::new(),
                restricted: false,
            })
            .collect();
        let endless = matches!(self.0.lie, Lie::Endless | Lie::Flood);
        let again = files.clone();
        let more = stream::iter(0..).take_while(move |_| std::future::ready(endless));
        let more = more.flat_map(move |_: u64| stream::iter(again.clone()));
        Ok(answer(stream::iter(files).chain(more)))
    }

    async fn offer(&self, _: Request<proto::OfferRequest>) -> Result<Response<proto::OfferReply>, Status> {
        Err(wire::ErrorCode::MethodNotAllowed.to_status("nobody is here who could take a file"))
    }

    async fn watch(&self, _: Request<proto::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        if matches!(self.0.lie, Lie::Flood | Lie::Oversized) {
            let bits = if self.0.lie == Lie::Flood { 3 << 20 } else { OVERSIZED };
            let state = proto::PieceSet { bits: vec![0xff; bits].into(), held: 8, receivers: Vec::new() };
            return Ok(answer(stream::repeat_with(move || state.clone())));
        }
        let pieces = if self.0.lie == Lie::WrongPieces {
            let nobody = (0..1000u16).map(|n| Bytes::from([n.to_be_bytes(); 8].concat()));
            proto::PieceSet { bits: vec![0xff; 1000].into(), held: 8000, receivers: nobody.collect() }
        } else {
            proto::PieceSet { held: self.0.layout().count(), ..proto::PieceSet::default() }
        };
        Ok(answer(stream::iter([pieces]).chain(stream::pending())))
    }
}
