//! [`RawCaller`]: a member that speaks HTTP/2 to a peer's door by hand, frame by frame, as no library would.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use wire::PeerId;

use crate::Member;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(20);

/// What a frame is. Source: RFC 9113, section 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Data = 0,
    Headers = 1,
    Reset = 3,
    Settings = 4,
    Ping = 6,
    WindowUpdate = 8,
    Continuation = 9,
}

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// What a flood is answered with: ENHANCE_YOUR_CALM. Source: RFC 9113, section 7.
pub const CALM: u32 = 11;

/// One connection.
pub struct RawCaller {
    stream: TlsStream<TcpStream>,
    next: u32,
    heard: Vec<u8>,
}

impl RawCaller {
    /// Connects, with a valid certificate, and says hello with these settings (identifier, value).
    pub async fn connect(
        member: &Member,
        address: SocketAddr,
        peer: PeerId,
        settings: &[(u16, u32)],
    ) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from(format!("{peer}.peer.trueque")).unwrap();
        let connector = TlsConnector::from(Arc::new(member.client_config()));
        let mut stream = connector.connect(name, stream).await?;
        stream.write_all(PREFACE).await?;
        let mut this = Self { stream, next: 1, heard: Vec::new() };
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        this.frame(Kind::Settings, 0, 0, &settings).await?;
        Ok(this)
    }

    /// Sends a frame, whatever it is.
    pub async fn frame(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = Vec::with_capacity(9 + payload.len());
        frame.extend_from_slice(&length[1..]);
        frame.extend_from_slice(&[kind as u8, flags]);
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        let written = tokio::time::timeout(PATIENCE, self.stream.write_all(&frame)).await;
        written.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }

    /// Begins a call; the number of its stream.
    pub async fn call(&mut self, method: &str) -> std::io::Result<u32> {
        let stream = self.next;
        self.next += 2;
        self.frame(Kind::Headers, END_HEADERS, stream, &headers(method)).await?;
        Ok(stream)
    }

    /// Asks, as gRPC frames a question; what it claims to be long is an argument of its own.
    pub async fn ask(&mut self, method: &str, message: &[u8]) -> std::io::Result<u32> {
        let stream = self.call(method).await?;
        let length = u32::try_from(message.len()).unwrap();
        self.frame(Kind::Data, END_STREAM, stream, &framed(0, length, message)).await?;
        Ok(stream)
    }

    pub async fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush().await
    }

    /// Reads until the other side hangs up; the reason that it gave, as a code of GOAWAY, where it gave one.
    pub async fn until_hung_up(&mut self) -> Option<u32> {
        let _hung_up = self.stream.flush().await;
        let reading = self.stream.read_to_end(&mut self.heard);
        // In order or not is its own business.
        let _how = tokio::time::timeout(PATIENCE, reading).await.expect("the other side hangs up");
        self.reason()
    }

    fn reason(&self) -> Option<u32> {
        const GO_AWAY: u8 = 7;
        let mut rest = &self.heard[..];
        while let [l0, l1, l2, kind, _, _, _, _, _, after @ ..] = rest {
            let (payload, next) = after.split_at_checked(u32::from_be_bytes([0, *l0, *l1, *l2]) as usize)?;
            if *kind == GO_AWAY {
                return Some(u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?));
            }
            rest = next;
        }
        None
    }

    /// Sends what was said so far, and reads what is there within a moment, so that the other side is never stuck on us.
    ///
    /// A task that writes much at once is made to pause in the middle of it, and TLS keeps what comes then until a flush.
    pub async fn drain(&mut self) {
        let _hung_up = self.stream.flush().await;
        let mut some = vec![0; 64 << 10];
        while let Ok(Ok(read @ 1..)) =
            tokio::time::timeout(Duration::from_millis(1), self.stream.read(&mut some)).await
        {
            self.heard.extend_from_slice(&some[..read]);
        }
    }
}

/// The header block of a call: HPACK by the static table and literals alone (RFC 7541).
pub fn headers(method: &str) -> Vec<u8> {
    let mut block = vec![0x83, 0x87]; // POST, https
    literal(&mut block, 0x04, &format!("/trueque.v1.Files/{method}"));
    literal(&mut block, 0x01, "peer");
    block.extend_from_slice(&[0x0f, 0x10]); // content-type, which has index 31
    string(&mut block, "application/grpc");
    new_header(&mut block, "te", "trailers");
    block
}

/// A header that is in no table.
pub fn new_header(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    string(block, name);
    string(block, value);
}

fn literal(block: &mut Vec<u8>, index: u8, value: &str) {
    block.push(index);
    string(block, value);
}

fn string(block: &mut Vec<u8>, text: &str) {
    let mut rest = text.len();
    // An integer with a prefix of seven bits.
    if rest < 127 {
        block.push(u8::try_from(rest).unwrap());
    } else {
        block.push(127);
        rest -= 127;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        block.push(u8::try_from(rest).unwrap());
    }
    block.extend_from_slice(text.as_bytes());
}

/// gRPC's five bytes before a message, which may say what is not so, and the message.
pub fn framed(compressed: u8, length: u32, message: &[u8]) -> Vec<u8> {
    [&[compressed][..], &length.to_be_bytes(), message].concat()
}
