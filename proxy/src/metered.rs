//! An app's socket, with its bytes counted.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::metrics::ByFlow;

/// A socket that counts, and tells `arrival` whenever bytes have come.
#[derive(Debug)]
pub struct Metered<A> {
    socket: TcpStream,
    received: IntCounter,
    sent: IntCounter,
    arrival: A,
}

impl<A: FnMut() + Unpin> Metered<A> {
    /// Counts into `bytes`.
    pub fn new(socket: TcpStream, bytes: &ByFlow, arrival: A) -> Metered<A> {
        Metered { socket, received: bytes.received.clone(), sent: bytes.sent.clone(), arrival }
    }

    fn count(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &polled {
            self.sent.inc_by(*count as u64);
        }
        polled
    }
}

impl<A: FnMut() + Unpin> AsyncRead for Metered<A> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        let count = buffer.filled().len() - before;
        if count > 0 {
            self.received.inc_by(count as u64);
            (self.arrival)();
        }
        polled
    }
}

impl<A: FnMut() + Unpin> AsyncWrite for Metered<A> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.count(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.count(polled)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
