//! The app: as little as can answer over a kept connection.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::rig;

/// What its answers end with.
pub const BODY: &[u8] = b"{\"ok\":true}";

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
    content-type: application/json\r\n\
    content-length: 11\r\n\
    date: Mon, 23 Nov 2026 22:40:00 GMT\r\n\
    server: uvicorn\r\n\r\n{\"ok\":true}";

/// Starts it on the current `LocalSet`.
pub async fn start() -> SocketAddr {
    let (listener, address) = rig::listen().await;
    spawn_local(async move {
        while let Ok((socket, _)) = listener.accept().await {
            spawn_local(serve(socket));
        }
    });
    address
}

async fn serve(mut socket: TcpStream) {
    let mut request = Vec::new();
    while socket.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            socket.write_all(ANSWER).await.expect("the sidecar reads");
        }
    }
}
