//! A socket with or without TLS, driven from memory: one large read, one gathered write.
//!
//! The TLS handshake is tokio-rustls's; afterwards the socket and the rustls state are taken apart and driven here,
//! because rustls reads 4 KiB at a time when it is given the socket itself.

use std::io::{self, BufRead, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use wire::Pieces;

/// Bytes that TLS may hold encrypted and unsent: one flush bound and the records' overhead.
const TLS_BUFFER_BYTES: usize = wire::limits::FLUSH_BYTES * 2;

/// What is taken at once from a socket without TLS: a TLS record's worth.
const PIECE_BYTES: usize = wire::limits::TLS_RECORD_BYTES;

/// A connected socket, after the handshake if there is one.
#[derive(Debug)]
pub struct Transport {
    socket: TcpStream,
    tls: Option<Box<rustls::Connection>>,
    /// Without TLS: what the socket has not taken yet.
    plain: Vec<u8>,
    plain_sent: usize,
}

impl Transport {
    /// A socket without TLS.
    pub fn plain(socket: TcpStream) -> Transport {
        Transport { socket, tls: None, plain: Vec::new(), plain_sent: 0 }
    }

    /// A socket whose TLS handshake is done.
    pub fn tls(socket: TcpStream, mut tls: rustls::Connection) -> Transport {
        tls.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        Transport { socket, tls: Some(Box::new(tls)), plain: Vec::new(), plain_sent: 0 }
    }

    /// Gives `take` the plaintext that arrived together with the end of the handshake.
    pub fn take_early(&mut self, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
        match self.tls.as_deref_mut() {
            Some(tls) => drain_plaintext(tls, take),
            None => Ok(()),
        }
    }

    /// Reads once from the socket into `scratch` and gives `take` the plaintext, a record at a time: what is kept of one
    /// record then never pins the memory of others. `Ok(0)`: the peer has closed. Any other number counts the bytes that
    /// came from the network, which may hold no plaintext.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        take: &mut impl FnMut(&[u8]),
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
        let mut arrived = buffer.filled();
        let count = arrived.len();
        let Some(tls) = self.tls.as_deref_mut() else {
            arrived.chunks(PIECE_BYTES).for_each(take);
            return Poll::Ready(Ok(count));
        };
        while !arrived.is_empty() {
            // `Read for &[u8]` advances the slice; rustls takes what fits its own buffer and is drained in between.
            if tls.read_tls(&mut arrived)? == 0 {
                // close_notify: the peer says that nothing more comes.
                return Poll::Ready(Ok(0));
            }
            tls.process_new_packets().map_err(io::Error::other)?;
            drain_plaintext(tls, take)?;
        }
        Poll::Ready(Ok(count))
    }

    /// Takes `pieces` for sending. Call it only when [`Transport::poll_flush`] is ready: then all of it is taken.
    pub fn queue(&mut self, pieces: &Pieces) -> io::Result<()> {
        let Some(tls) = self.tls.as_deref_mut() else {
            pieces.slices().for_each(|slice| self.plain.extend_from_slice(slice));
            return Ok(());
        };
        // Each byte is copied once, into the record that it is encrypted in; records are filled across slices.
        let taken = match pieces.whole() {
            Some(frames) => tls.writer().write(frames)?,
            None => tls.writer().write_vectored(&pieces.slices().map(IoSlice::new).collect::<Vec<_>>())?,
        };
        if taken == pieces.bytes() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Hands what is queued to the socket: the bytes written, and `Ready` once all of it went.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> (usize, Poll<io::Result<()>>) {
        let mut written = 0;
        let flushed = self.flush(cx, &mut written);
        (written, flushed)
    }

    fn flush(&mut self, cx: &mut Context<'_>, written: &mut usize) -> Poll<io::Result<()>> {
        if let Some(tls) = self.tls.as_deref_mut() {
            while tls.wants_write() {
                match tls.write_tls(&mut Gather { socket: &mut self.socket, cx }) {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Ok(count) => *written += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            return Poll::Ready(Ok(()));
        }
        while self.plain_sent < self.plain.len() {
            match ready!(Pin::new(&mut self.socket).poll_write(cx, &self.plain[self.plain_sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => {
                    self.plain_sent += count;
                    *written += count;
                }
            }
        }
        self.plain.clear();
        self.plain.shrink_to(wire::limits::INLINE_BODY_BYTES);
        self.plain_sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more is sent.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    /// Reads into `scratch` what nobody wants any more; 0: the peer has closed too.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Queues TLS's close_notify, so that the peer can tell an end from a cut.
    pub fn close_notify(&mut self) {
        if let Some(tls) = self.tls.as_deref_mut() {
            tls.send_close_notify();
        }
    }
}

fn drain_plaintext(tls: &mut rustls::Connection, take: &mut impl FnMut(&[u8])) -> io::Result<()> {
    let mut reader = tls.reader();
    loop {
        match reader.fill_buf() {
            Ok([]) => return Ok(()),
            Ok(chunk) => {
                let count = chunk.len();
                take(chunk);
                reader.consume(count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // The peer closed without close_notify; the socket's own end says the same a moment later.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// A non-blocking gathered write for rustls.
struct Gather<'a, 'b> {
    socket: &'a mut TcpStream,
    cx: &'a mut Context<'b>,
}

impl Write for Gather<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match Pin::new(&mut *self.socket).poll_write_vectored(self.cx, slices) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
