//! One connection to a broker: opened within a deadline, and ended for certain.
//!
//! The client knows no time limits, and runs each connection on a thread of its own, which goes on while the socket
//! does: a connection that is given up in mid-handshake, or while the broker has blocked it, would keep its thread and
//! its buffers for ever. So a second handle to the socket is held here, and shut down when the connection is dropped.
//!
//! Whatever is asked of the broker goes through [`within`]. The heartbeat is such that a silent cut is noticed after
//! 16 to 20 seconds: the client looks four times per interval, and gives up after more than two whole ones.

use std::{
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, Stream, future::BoxFuture};
use lapin::{
    AsyncTcpStream, Channel, Connection, ConnectionProperties, ErrorKind, Event,
    protocol::AMQPError,
    tcp::TLSConfig,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::address::{Login, Server};

/// For a question that the broker answers at once when it is well.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// For TCP, to one address; and for TLS.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);
/// For all of it, with the handshake of AMQP.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
const HEARTBEAT_SECONDS: u16 = 8;

/// Why something asked of the broker was not done.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Trouble {
    /// The broker says no, for this channel or this connection.
    #[error("{text}")]
    Refused { code: u16, text: String },
    #[error("{0}")]
    Lost(String),
    #[error("the broker did not answer in time ({0})")]
    Late(&'static str),
}

/// An open connection. Dropped, it is cut off.
#[derive(Debug)]
pub(super) struct Link {
    connection: Connection,
    socket: Socket,
}

/// The second handle to the socket.
#[derive(Debug, Clone, Default)]
struct Socket(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
enum Held {
    #[default]
    NotYet,
    Open(TcpStream),
    /// Given up: what is opened from now on is shut at once.
    Shut,
}

/// Waits for an answer of the broker, and no longer than `limit`.
pub(super) async fn within<T>(
    limit: Duration,
    what: &'static str,
    asked: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Trouble> {
    match timeout(limit, asked).await {
        Ok(answer) => answer.map_err(Trouble::from),
        Err(_) => Err(Trouble::Late(what)),
    }
}

impl Link {
    /// Connects and logs in. `name` is shown to operators.
    pub(super) async fn open(server: &Server, login: &Login, name: &str) -> Result<Self, Trouble> {
        // From here on: whoever drops this future cuts the connection.
        let socket = Cut(Socket::default());
        let opening = open(uri_of(server, login), name, socket.0.clone());
        let connection = within(OPEN_LIMIT, "connecting", opening).await?;
        Ok(Self { connection, socket: socket.keep() })
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection.status().connected()
    }

    /// There is one listener at most: events go to one of several.
    pub(super) fn events(&self) -> impl Stream<Item = Event> + Send {
        self.connection.events_listener()
    }

    pub(super) async fn channel(&self) -> Result<Channel, Trouble> {
        within(ANSWER_LIMIT, "opening a channel", self.connection.create_channel()).await
    }

    /// The user's next password, for a connection that stays.
    pub(super) async fn renew(&self, password: &SecretString) -> Result<(), Trouble> {
        let secret = password.expose_secret().into();
        let renewing = self.connection.update_secret(secret, "the one before ends".into());
        within(ANSWER_LIMIT, "taking a new password", renewing).await
    }

    /// The end in order, if the broker plays its part.
    pub(super) async fn close(&self) {
        const REPLY_SUCCESS: u16 = 200;
        let closing = self.connection.close(REPLY_SUCCESS, "the peer leaves".into());
        if let Err(trouble) = within(CLOSE_LIMIT, "closing the connection", closing).await {
            tracing::debug!(error = %trouble, "the connection to the broker is not closed in order");
        }
        self.cut();
    }

    pub(super) fn cut(&self) {
        self.socket.shut_down();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Boxed, because the compiler does not see through the client's asynchronous closure that this can be sent.
fn open(uri: AMQPUri, name: &str, socket: Socket) -> BoxFuture<'static, lapin::Result<Connection>> {
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "trueque peer".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
    async move {
        let runtime = lapin::runtime::default_runtime()?;
        let dial = with_types_of(&runtime, async move |uri: AMQPUri, runtime| {
            let mut stream = Err(nowhere());
            for address in look_up(&uri).await? {
                stream = in_time(AsyncTcpStream::connect(&runtime, address)).await;
                if stream.is_ok() {
                    break;
                }
            }
            let stream = stream?;
            if let AsyncTcpStream::Plain(plain) = &stream {
                socket.hold(plain.get_ref().as_fd().try_clone_to_owned()?.into());
            }
            match uri.scheme {
                AMQPScheme::AMQP => Ok(stream),
                // Against the roots of the system.
                AMQPScheme::AMQPS => {
                    Ok(in_time(stream.into_tls(&uri.authority.host, TLSConfig::default())).await?)
                }
            }
        });
        // Before the client knows of it: a task of the client's outlives each attempt in which it does not get a stream.
        let dialled = Mutex::new(Some(dial(uri.clone(), runtime.clone()).await?));
        // From here on it runs on the connection's own thread.
        let connect = Connection::connector(
            uri,
            runtime,
            async move |uri, runtime| {
                let dialled = dialled.lock().take();
                match dialled {
                    Some(stream) => Ok(stream),
                    None => dial(uri, runtime).await,
                }
            },
            properties,
        );
        connect.await
    }
    .boxed()
}

/// Says what the closure takes, whose type the client does not give a name.
fn with_types_of<R, S, D: AsyncFn(AMQPUri, R) -> lapin::Result<S>>(_: &R, dial: D) -> D {
    dial
}

fn uri_of(server: &Server, login: &Login) -> AMQPUri {
    AMQPUri {
        scheme: if server.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: login.username.clone(),
                password: login.password.expose_secret().to_owned(),
            },
            host: server.host.clone(),
            port: server.port,
        },
        vhost: server.vhost.clone(),
        query: AMQPQueryString { heartbeat: Some(HEARTBEAT_SECONDS), ..AMQPQueryString::default() },
    }
}

async fn look_up(uri: &AMQPUri) -> std::io::Result<Vec<SocketAddr>> {
    let there = (uri.authority.host.as_str(), uri.authority.port);
    in_time(async { Ok(tokio::net::lookup_host(there).await?.collect()) }).await
}

async fn in_time<T>(connecting: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    match timeout(CONNECT_LIMIT, connecting).await {
        Ok(done) => done,
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

fn nowhere() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::NotFound, "its name has no address")
}

impl Socket {
    fn hold(&self, handle: TcpStream) {
        let mut held = self.0.lock();
        match *held {
            Held::Shut => drop(handle.shutdown(Shutdown::Both)),
            Held::NotYet | Held::Open(_) => *held = Held::Open(handle),
        }
    }

    fn shut_down(&self) {
        if let Held::Open(handle) = std::mem::replace(&mut *self.0.lock(), Held::Shut) {
            let _closed_already = handle.shutdown(Shutdown::Both);
        }
    }
}

/// Shuts a socket down when it is dropped, unless it is kept.
struct Cut(Socket);

impl Cut {
    fn keep(mut self) -> Socket {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}

impl From<lapin::Error> for Trouble {
    fn from(error: lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(error) => error.into(),
            ErrorKind::IOError(error) => Self::Lost(error.to_string()),
            _ => Self::Lost(error.to_string()),
        }
    }
}

impl From<&AMQPError> for Trouble {
    fn from(error: &AMQPError) -> Self {
        Self::Refused { code: error.get_id(), text: error.get_message().to_string() }
    }
}
