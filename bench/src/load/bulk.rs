//! Bulk streams, and readers that stall.

use crate::Result;
use crate::site::CALLEE;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream as BlockingStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

const BUFFER: usize = 256 * 1024;
/// What one stream carries.
const STREAM_BYTES: usize = 1 << 30;

/// Bulk streams on a thread of their own: a gibibyte each and then the next, until this is stopped.
#[derive(Debug)]
pub(crate) struct Bulk {
    moved: Arc<AtomicU64>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Bulk {
    pub(crate) fn start(door: SocketAddr, down: usize, up: usize) -> Result<Bulk> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let moved = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&moved);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let mut streams = JoinSet::new();
                for _ in 0..down {
                    streams.spawn(download(door, Arc::clone(&counter)));
                }
                for _ in 0..up {
                    streams.spawn(upload(door, Arc::clone(&counter)));
                }
                tokio::select! {
                    _ = stopped => Ok(()),
                    Some(ended) = streams.join_next() => ended?,
                }
            })
        });
        Ok(Bulk { moved, stop, thread })
    }

    /// Bytes that all streams have moved so far.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// # Errors
    /// When the streams had broken off.
    pub(crate) fn stop(self) -> Result<()> {
        // Nobody listens any more when they have: the thread says why.
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| "the bulk streams panicked")?
    }
}

async fn download(door: SocketAddr, moved: Arc<AtomicU64>) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut stream = TcpStream::connect(door).await?;
        stream.write_all(download_request().as_bytes()).await?;
        let mut total = 0;
        loop {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => {
                    total += read;
                    moved.fetch_add(read as u64, Ordering::Relaxed);
                }
            }
        }
        if total < STREAM_BYTES {
            return Err(format!("a download ended after {total} bytes").into());
        }
    }
}

fn download_request() -> String {
    format!("GET /bytes/{STREAM_BYTES} HTTP/1.1\r\nhost: {CALLEE}\r\nconnection: close\r\n\r\n")
}

async fn upload(door: SocketAddr, moved: Arc<AtomicU64>) -> Result<()> {
    let buffer = vec![b'u'; BUFFER];
    loop {
        let mut stream = TcpStream::connect(door).await?;
        let head = format!(
            "POST /up HTTP/1.1\r\nhost: {CALLEE}\r\ncontent-length: {STREAM_BYTES}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        for _ in 0..STREAM_BYTES / BUFFER {
            stream.write_all(&buffer).await?;
            moved.fetch_add(BUFFER as u64, Ordering::Relaxed);
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&answer).into_owned().into());
        }
    }
}

/// Readers that have asked for a gibibyte each and read none of it.
#[derive(Debug)]
pub(crate) struct Stalled(#[expect(dead_code, reason = "held open")] Vec<BlockingStream>);

impl Stalled {
    pub(crate) fn start(door: SocketAddr, readers: usize) -> Result<Stalled> {
        let open = |_| -> Result<BlockingStream> {
            let mut stream = BlockingStream::connect(door)?;
            stream.write_all(download_request().as_bytes())?;
            Ok(stream)
        };
        Ok(Stalled((0..readers).map(open).collect::<Result<_>>()?))
    }
}
