//! Load: `wrk` for steady closed loops, and own generators for small calls with exact latencies and for bulk streams.

use crate::Result;
use crate::app::BULK_BYTES;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SMALL: &[u8] = b"GET /small HTTP/1.1\r\nhost: payments\r\n\r\n";
const BUFFER: usize = 256 * 1024;

/// What `wrk` saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wrk {
    pub(crate) calls: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Runs `wrk` with one thread; any error it saw is an error here.
pub(crate) fn wrk(door: SocketAddr, connections: usize, span: Duration) -> Result<Wrk> {
    let output = Command::new("wrk")
        .args(["-t", "1", "-c", &connections.to_string(), "-d", &format!("{}s", span.as_secs()), "--latency"])
        .args(["-H", "Host: payments", &format!("http://{door}/small")])
        .output()
        .map_err(|error| format!("wrk: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || text.contains("Socket errors") || text.contains("Non-2xx") {
        return Err(format!("wrk saw errors:\n{text}").into());
    }
    let word = |before: &str| -> Result<f64> {
        let line =
            text.lines().find(|line| line.trim_start().starts_with(before)).ok_or(format!("no {before}: {text}"))?;
        micros(line.split_whitespace().last().unwrap_or_default())
    };
    let requests = text.lines().find(|line| line.contains("requests in")).ok_or("no count of requests")?;
    let calls = requests.split_whitespace().next().unwrap_or_default().parse()?;
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).ok_or("no rate")?;
    Ok(Wrk { calls, per_second: rate.trim().parse()?, p50_us: word("50%")?, p99_us: word("99%")? })
}

/// `wrk`'s durations: `123.00us`, `1.23ms`, `1.00s`.
fn micros(text: &str) -> Result<f64> {
    let (number, factor) = if let Some(number) = text.strip_suffix("us") {
        (number, 1.0)
    } else if let Some(number) = text.strip_suffix("ms") {
        (number, 1e3)
    } else if let Some(number) = text.strip_suffix('s') {
        (number, 1e6)
    } else {
        return Err(format!("not a duration: {text:?}").into());
    };
    Ok(number.parse::<f64>()? * factor)
}

/// One small call, for readiness.
pub(crate) fn one_call(door: SocketAddr) -> Result<()> {
    let mut stream = std::net::TcpStream::connect(door)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(SMALL)?;
    let mut buffer = [0; 1024];
    let read = stream.read(&mut buffer)?;
    if buffer[..read].starts_with(b"HTTP/1.1 200") {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&buffer[..read.min(300)]).into_owned().into())
    }
}

/// Small calls over `connections`, one after the other on each, for `span`: the latency of each, sorted, in microseconds.
pub(crate) fn small_calls(door: SocketAddr, connections: usize, span: Duration) -> Result<Vec<u32>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let end = Instant::now() + span;
        let callers: Vec<_> = (0..connections).map(|_| tokio::spawn(small_caller(door, end))).collect();
        let mut all = Vec::new();
        for caller in callers {
            all.extend(caller.await??);
        }
        all.sort_unstable();
        Ok(all)
    })
}

async fn small_caller(door: SocketAddr, end: Instant) -> Result<Vec<u32>> {
    let mut stream = TcpStream::connect(door).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        stream.write_all(SMALL).await?;
        let mut have = 0;
        loop {
            let read = stream.read(&mut buffer[have..]).await?;
            if read == 0 {
                return Err("the connection was closed".into());
            }
            have += read;
            if whole(&buffer[..have])? {
                break;
            }
        }
        latencies.push(u32::try_from(began.elapsed().as_micros())?);
    }
    Ok(latencies)
}

/// Whether a whole answer with a content-length is there. Anything but a 200 is an error.
fn whole(answer: &[u8]) -> Result<bool> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let head = std::str::from_utf8(&answer[..end])?.to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Err(String::from_utf8_lossy(answer).into_owned().into());
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")).ok_or("no content-length")?;
    Ok(answer.len() - end - 4 >= length.trim().parse::<usize>()?)
}

/// Bulk streams, a gibibyte each and then the next, until this process is killed.
pub(crate) fn bulk(door: SocketAddr, down: usize, up: usize) -> Result<()> {
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
        stream.write_all(b"GET /down HTTP/1.1\r\nhost: payments\r\nconnection: close\r\n\r\n").await?;
        let mut total = 0;
        loop {
            match stream.read(&mut buffer).await? {
                0 => break,
                read => total += read as u64,
            }
        }
        if total < BULK_BYTES {
            return Err(format!("a download ended after {total} bytes").into());
        }
    }
}

async fn upload(door: SocketAddr) -> Result<()> {
    let buffer = vec![b'u'; BUFFER];
    loop {
        let mut stream = TcpStream::connect(door).await?;
        let head =
            format!("POST /up HTTP/1.1\r\nhost: payments\r\ncontent-length: {BULK_BYTES}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        for _ in 0..BULK_BYTES / BUFFER as u64 {
            stream.write_all(&buffer).await?;
        }
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        if !answer.starts_with(b"HTTP/1.1 200") {
            return Err(String::from_utf8_lossy(&answer).into_owned().into());
        }
    }
}
