//! Bulk streams, and readers that stall.

use crate::Result;
use crate::site::CALLEE;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BUFFER: usize = 256 * 1024;
/// What one stream carries.
const STREAM_BYTES: usize = 1 << 30;

/// Bulk streams, a gibibyte each and then the next, until this process is killed.
pub(crate) fn bulk_streams(door: SocketAddr, down: usize, up: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut streams = tokio::task::JoinSet::new();
        for _ in 0..down {
            streams.spawn(download(door));
        }
        for _ in 0..up {
            streams.spawn(upload(door));
        }
        while let Some(ended) = streams.join_next().await {
            ended??;
        }
        Ok(())
    })
}

async fn download(door: SocketAddr) -> Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut stream = TcpStream::connect(door).await?;
        stream.write_all(download_request().as_bytes()).await?;
        let mut total = 0;
        loop {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => total += read,
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

async fn upload(door: SocketAddr) -> Result<()> {
    let buffer = vec![b'u'; BUFFER];
    loop {
        let mut stream = TcpStream::connect(door).await?;
        let head = format!(
            "POST /up HTTP/1.1\r\nhost: {CALLEE}\r\ncontent-length: {STREAM_BYTES}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        for _ in 0..STREAM_BYTES / BUFFER {
            stream.write_all(&buffer).await?;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&answer).into_owned().into());
        }
    }
}

/// Bulk streams in a process of their own, so that what they cost is not the generator's; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Bulk(Child);

impl Bulk {
    pub(crate) fn start(door: SocketAddr, down: usize, up: usize) -> Result<Bulk> {
        let child = Command::new(std::env::current_exe()?)
            .args(["bulk", &door.to_string(), &down.to_string(), &up.to_string()])
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Bulk(child))
    }

    /// # Errors
    /// When the streams have broken off.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("the bulk streams ended with {status}").into()),
        }
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Readers that have asked for a gibibyte each and read none of it.
#[derive(Debug)]
pub(crate) struct Stalled(#[expect(dead_code, reason = "held open")] Vec<std::net::TcpStream>);

impl Stalled {
    pub(crate) fn start(door: SocketAddr, readers: usize) -> Result<Stalled> {
        let open = |_| -> Result<std::net::TcpStream> {
            let mut stream = std::net::TcpStream::connect(door)?;
            stream.write_all(download_request().as_bytes())?;
            Ok(stream)
        };
        Ok(Stalled((0..readers).map(open).collect::<Result<_>>()?))
    }
}
