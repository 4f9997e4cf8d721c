//! Load: `wrk` and `h2load` for steady closed loops, `oha` for the open loop, and own generators for what these cannot say:
//! connections that are open before the clock runs, bulk beside small calls, readers that stall.

mod bulk;
mod closed;
mod tools;

pub(crate) use bulk::{Bulk, Stalled};
pub(crate) use closed::{Callers, Request};
pub(crate) use tools::{OpenLoop, Wrk, h2load};

use crate::Result;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// What a generator saw.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) calls: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

impl Seen {
    /// Of every call's latency in microseconds.
    fn of(mut latencies: Vec<u32>, span: Duration) -> Result<Seen> {
        latencies.sort_unstable();
        let last = latencies.len().checked_sub(1).ok_or("no call came to an end")?;
        let quantile = |at: f64| f64::from(latencies[(last as f64 * at).round() as usize]);
        Ok(Seen {
            calls: latencies.len() as u64,
            per_second: latencies.len() as f64 / span.as_secs_f64(),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
        })
    }
}

/// One call, for readiness.
pub(crate) fn one_call(door: SocketAddr, request: &Request) -> Result<()> {
    let mut stream = std::net::TcpStream::connect(door)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&request.bytes)?;
    let mut buffer = [0; 1024];
    let read = stream.read(&mut buffer)?;
    if buffer[..read].starts_with(b"HTTP/1.1 200") {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&buffer[..read.min(300)]).into_owned().into())
    }
}
