//! [`Linger`]: a connection that closes without cutting off what it has sent.
//!
//! A socket that is closed while something unread lies in it is not closed but reset, and then the other side's system
//! throws away what it has received and not handed on. There nearly always is something: whoever takes the last bytes
//! of a file says so. So after our last word we read on, and forget what we read, until the other side has closed too.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// Somebody who does not close is not waited for.
const LIMIT: Duration = Duration::from_secs(1);

/// Closes in order.
#[derive(Debug)]
pub(super) struct Linger<S> {
    stream: S,
    /// Since our last word.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Linger<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, waiting: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Linger<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Linger<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.waiting.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        }
        let waiting = this.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(LIMIT)));
        let mut scrap = [0; 4096];
        loop {
            let mut scrap = ReadBuf::new(&mut scrap);
            match Pin::new(&mut this.stream).poll_read(context, &mut scrap) {
                Poll::Ready(Ok(())) if !scrap.filled().is_empty() && !waiting.is_elapsed() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => break,
            }
        }
        waiting.as_mut().poll(context).map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (dialled, accepted) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (dialled.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn what_was_sent_arrives_although_the_other_side_still_speaks() {
        let (ours, mut theirs) = pair().await;
        let mut ours = Linger::new(ours);
        ours.write_all(&[7; 100_000]).await.unwrap();
        theirs.write_all(b"unread").await.unwrap();
        let closing = async move { ours.shutdown().await };
        let reading = async {
            let mut bytes = Vec::new();
            // A reader who speaks in between, as HTTP/2 does.
            while timeout(PATIENCE, theirs.read_buf(&mut bytes)).await.unwrap().unwrap() > 0 {
                theirs.write_all(b"go on").await.unwrap();
            }
            drop(theirs);
            bytes
        };
        let (closed, bytes) = tokio::join!(timeout(PATIENCE, closing), reading);
        closed.unwrap().unwrap();
        assert_eq!(bytes.len(), 100_000);
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_who_does_not_close_is_not_waited_for() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut near = Linger::new(near);
        let begun = tokio::time::Instant::now();
        near.shutdown().await.unwrap();
        assert_eq!(begun.elapsed(), LIMIT);
        drop(near);
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
    }
}
