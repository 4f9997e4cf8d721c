//! A connection at an edge: with something on this machine over TCP or a Unix domain socket, or with a declared host outside over TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use crate::config::AppPlace;

/// Between two tries to connect to a Unix domain socket whose queue is full.
const QUEUE_FULL_PAUSE: Duration = Duration::from_millis(2);

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// TCP, mostly over loopback.
    Tcp(TcpStream),
    /// A Unix domain socket.
    Unix(UnixStream),
    /// TLS over TCP, with a declared host outside.
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection on its way from one worker to another.
#[derive(Debug)]
pub enum Detached {
    /// TCP.
    Tcp(std::net::TcpStream),
    /// A Unix domain socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Stream {
    /// Connects to an app. Gives up only when the app refuses; the time is the caller's to bound.
    pub async fn connect(place: &AppPlace) -> io::Result<Stream> {
        match place {
            AppPlace::Host { name, port } => {
                let stream = TcpStream::connect((name.as_str(), *port)).await?;
                // A request is written in one piece: waiting for more in the kernel would only add delay.
                let _ = stream.set_nodelay(true);
                Ok(Stream::Tcp(stream))
            }
            AppPlace::Unix(path) => loop {
                match UnixStream::connect(path).await {
                    // There is no SYN to be sent again: with the app's queue full a connect that does not block fails (unix(7)).
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        tokio::time::sleep(QUEUE_FULL_PAUSE).await;
                    }
                    connected => return connected.map(Stream::Unix),
                }
            },
        }
    }

    /// Takes it from this worker.
    pub fn detach(self) -> io::Result<Detached> {
        match self {
            Stream::Tcp(stream) => stream.into_std().map(Detached::Tcp),
            Stream::Unix(stream) => stream.into_std().map(Detached::Unix),
            // What was accepted is none, and nothing else changes hands.
            Stream::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Gives it to this worker.
    pub fn attach(stream: Detached) -> io::Result<Stream> {
        match stream {
            Detached::Tcp(stream) => TcpStream::from_std(stream).map(Stream::Tcp),
            Detached::Unix(stream) => UnixStream::from_std(stream).map(Stream::Unix),
        }
    }

    /// Whether an idle connection was closed, or says what nobody asked for. Costs no system call unless something came.
    pub fn is_stale(&mut self) -> bool {
        let mut byte = [0];
        let read = match self {
            Stream::Tcp(stream) => stream.try_read(&mut byte),
            Stream::Unix(stream) => stream.try_read(&mut byte),
            Stream::Tls(_) => return self.poll_stale(&mut Context::from_waker(Waker::noop())).is_ready(),
        };
        !matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Wakes the task of `cx` when something comes on an idle connection; `Ready`: something has.
    pub fn poll_stale(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let ready = match self {
                Stream::Tcp(stream) => stream.poll_read_ready(cx),
                Stream::Unix(stream) => stream.poll_read_ready(cx),
                Stream::Tls(stream) => {
                    // Not everything that comes is said to us: a ticket for another session is none of our business.
                    let mut byte = [0];
                    return Pin::new(stream).poll_read(cx, &mut ReadBuf::new(&mut byte)).map(|_| ());
                }
            };
            match ready {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(_) if self.is_stale() => return Poll::Ready(()),
                // Readiness that was left over.
                Poll::Ready(_) => {}
            }
        }
    }

    /// Closed from now on, the connection is reset: the other side learns that it did not end in order. A Unix domain socket has no
    /// such thing: its other side sees an end.
    pub fn reset(&self) {
        if let Stream::Tcp(stream) = self {
            // Where the option cannot be set there is no connection left to reset.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            // Neither keeps anything back.
            Stream::Tcp(_) | Stream::Unix(_) => Poll::Ready(Ok(())),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
