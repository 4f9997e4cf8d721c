//! What an app's connection reads, and learns of its end.

use super::*;
use crate::metrics::Metrics;
use http1::HeadScan;
use std::rc::Rc;
use std::task::Waker;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

/// A socket of ours, and its other end.
async fn pair() -> (Rc<Socket>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let metrics = Metrics::new();
    (Rc::new(Socket::new(Stream::Tcp(stream), HeadScan::default(), &Scratch::new(), &metrics.app_bytes)), other)
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// The next head, as its first line.
async fn head(socket: &Socket) -> Result<Option<String>, ReadError> {
    let read = |head: &[u8], _: usize| String::from_utf8_lossy(head).lines().next().unwrap_or_default().to_owned();
    match poll_fn(|cx| socket.poll_head(cx, 1000, || {}, read)).await? {
        Arrived::Head(line) => Ok(Some(line)),
        Arrived::Closed => Ok(None),
    }
}

async fn body(socket: &Socket) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(piece) = poll_fn(|cx| socket.poll_piece(cx)).await.unwrap() {
        if let Piece::Data(data) = piece {
            all.extend_from_slice(&data);
        }
    }
    all
}

#[test]
fn messages_follow_each_other_however_they_arrive() {
    run(async {
        let (socket, mut other) = pair().await;
        let large = vec![b'x'; 600_000];
        let mut bytes = b"POST /one HTTP/1.1\r\n\r\nbodyGET /two HTTP/1.1\r\n\r\nPOST /three HTTP/1.1\r\n\r\n".to_vec();
        bytes.extend_from_slice(&large);
        let writing = async {
            for piece in bytes.chunks(7_001) {
                other.write_all(piece).await.unwrap();
            }
            drop(other);
        };
        let reading = async {
            assert_eq!(head(&socket).await.unwrap().unwrap(), "POST /one HTTP/1.1");
            socket.begin_body(Framing::Length(4), 100);
            assert_eq!(body(&socket).await, b"body");
            assert_eq!(head(&socket).await.unwrap().unwrap(), "GET /two HTTP/1.1");
            socket.begin_body(Framing::None, 100);
            assert!(socket.is_message_over());
            assert_eq!(head(&socket).await.unwrap().unwrap(), "POST /three HTTP/1.1");
            socket.begin_body(Framing::Length(600_000), 100);
            assert_eq!(body(&socket).await, large);
            assert_eq!(head(&socket).await.unwrap(), None);
        };
        tokio::join!(writing, reading);
        assert!(
            socket.input.borrow().buffer.capacity() < LARGE_PIECE_BYTES,
            "an idle connection holds no large buffer"
        );
    });
}

#[test]
fn a_head_that_breaks_off_is_told_from_an_end() {
    run(async {
        let (socket, mut other) = pair().await;
        other.write_all(b"GET / HT").await.unwrap();
        drop(other);
        assert!(matches!(head(&socket).await, Err(ReadError::Refused(Refusal::Truncated))));
    });
}

#[test]
fn a_caller_that_hangs_up_is_noticed_and_one_that_sends_ahead_is_kept() {
    run(async {
        let (socket, mut other) = pair().await;
        other.write_all(b"GET /ahead HTTP/1.1\r\n\r\n").await.unwrap();
        let ahead = async {
            while !socket.has_surplus() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = poll_fn(|cx| socket.poll_hangup(cx)) => panic!("nobody hung up"),
            () = ahead => {}
        }
        assert_eq!(head(&socket).await.unwrap().unwrap(), "GET /ahead HTTP/1.1");
        drop(other);
        poll_fn(|cx| socket.poll_hangup(cx)).await;
    });
}

#[test]
fn whoever_waits_for_a_body_learns_that_nobody_reads_it() {
    run(async {
        let (socket, other) = pair().await;
        socket.begin_body(Framing::Length(4), 100);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(socket.poll_message_over(&mut cx).is_pending());
        socket.abandon_body();
        assert!(socket.poll_message_over(&mut cx).is_ready() && !socket.is_message_over());
        drop(other);
    });
}

#[test]
fn what_comes_on_an_idle_connection_makes_it_stale() {
    run(async {
        let (socket, mut other) = pair().await;
        assert!(!socket.is_stale());
        other.write_all(b"?").await.unwrap();
        poll_fn(|cx| socket.poll_stale(cx)).await;
        let (socket, mut other) = pair().await;
        other.shutdown().await.unwrap();
        poll_fn(|cx| socket.poll_stale(cx)).await;
        assert!(socket.is_stale());
    });
}
