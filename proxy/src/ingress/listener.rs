//! Accepting connections, within bounds, and dealing them out to the workers.
//!
//! One worker accepts and deals round-robin: with `SO_REUSEPORT` the kernel hashes, and a few long-lived connections can
//! all land on one worker.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::metrics::Metrics;

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

/// Accepts for ever and hands each connection to `deal`. Beyond `limit` open ones a connection is closed at once.
pub async fn accept(
    listener: std::net::TcpListener,
    name: &'static str,
    limit: usize,
    metrics: Arc<Metrics>,
    mut deal: impl FnMut(TcpStream, SocketAddr, Permit),
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(listener = name, %error, "the listener cannot be used");
            return;
        }
    };
    let open = Arc::new(AtomicUsize::new(0));
    let refused = metrics.connection_refused(name);
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                if open.fetch_add(1, Relaxed) >= limit {
                    open.fetch_sub(1, Relaxed);
                    refused.inc();
                    continue;
                }
                // An answer is written in one piece: waiting for more in the kernel would only add delay.
                let _ = socket.set_nodelay(true);
                deal(socket, peer, Permit(Arc::clone(&open)));
            }
            Err(error) => {
                refused.inc();
                tracing::warn!(listener = name, %error, "accept");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
