//! Accepting connections, within bounds, and dealing them out to the workers.
//!
//! One worker accepts and deals round-robin: with `SO_REUSEPORT` the kernel hashes, and a few long-lived connections can
//! all land on one worker.

mod unix;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::config::{LocalAddress, SocketMode};
use crate::edge::Stream;
use crate::metrics::Metrics;
use unix::SocketFile;

/// Connections that the kernel keeps for us while all workers are busy.
const BACKLOG: i32 = 4096;
/// Pause after a failed accept: out of descriptors does not mend itself at once, and must not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// One of the bounded places of a listener; free again on drop, wherever the connection went.
#[derive(Debug)]
pub struct Permit(Arc<AtomicUsize>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Binds `address` for listening.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A bound listener for the own app's calls.
#[derive(Debug)]
pub enum LocalListener {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix domain socket, and its file.
    Unix(std::os::unix::net::UnixListener, SocketFile),
}

impl LocalListener {
    /// Binds `address` for listening; the file of a Unix domain socket gets the mode bits of `mode`.
    pub fn bind(address: &LocalAddress, mode: SocketMode) -> io::Result<LocalListener> {
        match address {
            LocalAddress::Ip(address) => bind(*address).map(LocalListener::Tcp),
            LocalAddress::Unix(path) => {
                let (listener, file) = unix::bind(path, mode, BACKLOG)?;
                Ok(LocalListener::Unix(listener, file))
            }
        }
    }

    /// Where it listens: with the port that the system chose.
    pub fn address(&self) -> io::Result<LocalAddress> {
        match self {
            LocalListener::Tcp(listener) => listener.local_addr().map(LocalAddress::Ip),
            LocalListener::Unix(_, file) => Ok(LocalAddress::Unix(file.path().to_owned())),
        }
    }
}

/// What all listeners count by.
#[derive(Debug)]
pub struct Bounds {
    /// The listener's name in metrics and log.
    pub name: &'static str,
    /// Connections beyond so many open ones are closed at once.
    pub limit: usize,
    /// Counted into.
    pub metrics: Arc<Metrics>,
}

/// Accepts the own app's connections for ever and hands each to `deal`.
pub async fn accept_local(listener: LocalListener, bounds: Bounds, mut deal: impl FnMut(Stream, Permit)) {
    match listener {
        LocalListener::Tcp(listener) => {
            let deal = |(stream, _), permit| deal(Stream::Tcp(stream), permit);
            accept_tcp(listener, bounds, deal).await;
        }
        LocalListener::Unix(listener, _file) => {
            let Some(listener) = usable(UnixListener::from_std(listener), bounds.name) else { return };
            accept(bounds, async || Ok(Stream::Unix(listener.accept().await?.0)), deal).await;
        }
    }
}

/// Accepts TCP connections for ever and hands each to `deal`.
pub async fn accept_tcp(
    listener: std::net::TcpListener,
    bounds: Bounds,
    deal: impl FnMut((TcpStream, SocketAddr), Permit),
) {
    let Some(listener) = usable(TcpListener::from_std(listener), bounds.name) else { return };
    let next = async || {
        let (stream, peer) = listener.accept().await?;
        // An answer is written in one piece: waiting for more in the kernel would only add delay.
        let _ = stream.set_nodelay(true);
        Ok((stream, peer))
    };
    accept(bounds, next, deal).await;
}

fn usable<T>(listener: io::Result<T>, name: &str) -> Option<T> {
    listener.inspect_err(|error| tracing::error!(listener = name, %error, "the listener cannot be used")).ok()
}

async fn accept<T>(bounds: Bounds, next: impl AsyncFn() -> io::Result<T>, mut deal: impl FnMut(T, Permit)) {
    let Bounds { name, limit, metrics } = bounds;
    let open = Arc::new(AtomicUsize::new(0));
    let refused = metrics.connection_refused(name);
    loop {
        match next().await {
            Ok(accepted) => {
                if open.fetch_add(1, Relaxed) >= limit {
                    open.fetch_sub(1, Relaxed);
                    refused.inc();
                    continue;
                }
                deal(accepted, Permit(Arc::clone(&open)));
            }
            Err(error) => {
                refused.inc();
                tracing::warn!(listener = name, %error, "accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
