//! A peer that is nothing but the protocol on a socket: it answers every request at once.

use std::net::SocketAddr;
use std::time::Instant;

use ::wire::{Config, Connection, Event, Headers, Hello, ResponseHead, Side, limits};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use crate::rig;

/// Starts it on the current `LocalSet`, as `payments` 1.0.0.
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
    let hello = Hello { service: "payments".into(), version: "1.0.0".into(), ..Hello::default() };
    let now = Instant::now();
    let mut connection = Connection::new(Side::Server, Config { hello, ..Config::default() }, now);
    let answer = ResponseHead { status: 200, headers: Headers::new() };
    let (mut input, mut out) = (BytesMut::new(), Vec::new());
    loop {
        out.clear();
        connection.poll_transmit(now, &mut out, limits::FLUSH_BYTES);
        let written = socket.write_all(&out).await;
        if written.is_err() || socket.read_buf(&mut input).await.is_ok_and(|read| read == 0) {
            return;
        }
        connection.handle_input(now, &mut input);
        while let Some(event) = connection.poll_event() {
            match event {
                Event::Hello(_) => connection.accept_peer(),
                Event::Request { id, .. } => {
                    connection.respond(id, &answer, Bytes::from_static(b"{\"ok\":true}"), true).expect("an answer");
                }
                _ => {}
            }
        }
    }
}
