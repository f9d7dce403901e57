//! [`Proxy`]: a wire with a knife, a tap and a counter.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use daemon::Lifecycle;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};

const PORTION: usize = 64 << 10;

/// Forwards every connection to where it is aimed. Dropping it cuts what is open.
pub struct Proxy {
    address: SocketAddr,
    wire: Arc<Wire>,
    lifecycle: Lifecycle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Whole,
    /// Nobody gets through, and who was through is cut off.
    Cut,
    /// Connections stay, and nothing moves.
    Silent,
}

struct Wire {
    target: Mutex<Option<SocketAddr>>,
    mode: watch::Sender<Mode>,
    /// Bytes per second towards all callers together; 0 is no limit.
    rate: AtomicU64,
    /// When the line has carried what it was given.
    free_at: Mutex<Instant>,
    to_caller: AtomicU64,
    from_caller: AtomicU64,
    calls: AtomicU64,
    connections: AtomicU64,
}

impl Proxy {
    /// Listens on a free port; aimed at nothing yet.
    pub async fn start(at: IpAddr) -> Self {
        let listener = TcpListener::bind((at, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let wire = Arc::new(Wire {
            target: Mutex::new(None),
            mode: watch::Sender::new(Mode::Whole),
            rate: AtomicU64::new(0),
            free_at: Mutex::new(Instant::now()),
            to_caller: AtomicU64::new(0),
            from_caller: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let lifecycle = Lifecycle::new();
        let (accepting, inner) = (wire.clone(), lifecycle.clone());
        lifecycle.spawn("proxy", async move {
            loop {
                let Ok((caller, _)) = listener.accept().await else { continue };
                let wire = accepting.clone();
                inner.spawn("wire", async move { wire.carry(caller).await });
            }
        });
        Self { address, wire, lifecycle }
    }

    pub(crate) fn lifecycle(&self) -> Lifecycle {
        self.lifecycle.clone()
    }

    pub fn endpoint(&self) -> String {
        self.address.to_string()
    }

    pub fn aim_at(&self, target: SocketAddr) {
        *self.wire.target.lock() = Some(target);
    }

    /// Cuts every connection and refuses new ones.
    pub fn cut(&self) {
        self.wire.mode.send_replace(Mode::Cut);
    }

    /// Holds everything back: connections stay open, and nothing arrives.
    pub fn silence(&self) {
        self.wire.mode.send_replace(Mode::Silent);
    }

    pub fn restore(&self) {
        self.wire.mode.send_replace(Mode::Whole);
    }

    /// Lets so many bytes per second through, to all callers together; 0 is no limit.
    pub fn slow(&self, bytes_per_second: u64) {
        self.wire.rate.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Bytes that went to callers.
    pub fn sent(&self) -> u64 {
        self.wire.to_caller.load(Ordering::Relaxed)
    }

    /// Bytes that came from callers.
    pub fn received(&self) -> u64 {
        self.wire.from_caller.load(Ordering::Relaxed)
    }

    /// Callers who came, those included that were cut off at once.
    pub fn calls(&self) -> u64 {
        self.wire.calls.load(Ordering::Relaxed)
    }

    /// Connections that were taken.
    pub fn connections(&self) -> u64 {
        self.wire.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.lifecycle.hard().cancel();
    }
}

impl Wire {
    async fn carry(&self, caller: TcpStream) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut mode = self.mode.subscribe();
        let cut = async {
            drop(mode.wait_for(|mode| *mode == Mode::Cut).await);
        };
        let target = *self.target.lock();
        let both = async {
            let target = TcpStream::connect(target?).await.ok()?;
            self.connections.fetch_add(1, Ordering::Relaxed);
            let _best_effort = (caller.set_nodelay(true), target.set_nodelay(true));
            let (caller_reads, caller_writes) = caller.into_split();
            let (target_reads, target_writes) = target.into_split();
            tokio::join!(
                self.pump(target_reads, caller_writes, &self.to_caller, true),
                self.pump(caller_reads, target_writes, &self.from_caller, false),
            );
            Some(())
        };
        tokio::select! {
            biased;
            () = cut => {}
            _ = both => {}
        }
    }

    async fn pump(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        counter: &AtomicU64,
        is_slowed: bool,
    ) {
        let mut mode = self.mode.subscribe();
        let mut portion = vec![0; PORTION];
        while let Ok(read) = from.read(&mut portion).await {
            drop(mode.wait_for(|mode| *mode != Mode::Silent).await);
            if read == 0 || to.write_all(&portion[..read]).await.is_err() {
                break;
            }
            counter.fetch_add(read as u64, Ordering::Relaxed);
            if is_slowed {
                self.take_time_for(read).await;
            }
        }
        let _gone = to.shutdown().await;
    }

    async fn take_time_for(&self, bytes: usize) {
        let rate = self.rate.load(Ordering::Relaxed);
        if rate == 0 {
            return;
        }
        let until = {
            let mut free_at = self.free_at.lock();
            *free_at = (*free_at).max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / rate as f64);
            *free_at
        };
        tokio::time::sleep_until(until).await;
    }
}
