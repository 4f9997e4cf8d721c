//! The app behind the sidecars: a bare HTTP/1.1 loop, so that it is never what calls wait for, and on another port HTTP/2. Its CPU
//! time is not counted.

use crate::Result;
use httparse::{EMPTY_HEADER, Request, Status};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const HEADERS_MAX: usize = 128;
const HEAD_BYTES_MAX: usize = 128 * 1024;
const PIECE: usize = 64 * 1024;
static PIECE_OF_BODY: [u8; PIECE] = [b'd'; PIECE];
const SMALL: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 19\r\n\r\n{\"ok\":true,\"n\":42}\n";

const SMALL_BODY: &[u8] = b"{\"ok\":true,\"n\":42}\n";

/// Serves until killed: `/bytes/N` gives N bytes, `/echo` gives a request's body back, everything else a small answer. Over HTTP/2
/// there is the small answer alone.
pub(crate) fn serve(listen: SocketAddr, listen_h2c: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        let h2c = tokio::net::TcpListener::bind(listen_h2c).await?;
        tokio::spawn(async move {
            while let Ok((stream, _)) = h2c.accept().await {
                tokio::spawn(async { converse_h2c(stream).await.is_ok() });
            }
        });
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            // A connection that fails is its sidecar's to report.
            tokio::spawn(async { converse(stream).await.is_ok() });
        }
    })
}

async fn converse_h2c(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (_, mut respond) = request?;
        let mut head = http::Response::new(());
        head.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
        respond.send_response(head, false)?.send_data(bytes::Bytes::from_static(SMALL_BODY), true)?;
    }
    Ok(())
}

/// What a request asks for.
enum Asked {
    Small,
    Bytes(usize),
    Echo,
}

struct Head {
    asked: Asked,
    head_bytes: usize,
    body_bytes: usize,
}

async fn converse(mut stream: TcpStream) -> Result<()> {
    let mut received = Vec::with_capacity(4096);
    loop {
        let Some(head) = parse(&received)? else {
            if received.len() > HEAD_BYTES_MAX {
                return Err("a head that is too long".into());
            }
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
            continue;
        };
        received.drain(..head.head_bytes);
        match head.asked {
            Asked::Small => {
                take_body(&mut stream, &mut received, head.body_bytes).await?;
                stream.write_all(SMALL).await?;
            }
            Asked::Bytes(length) => {
                take_body(&mut stream, &mut received, head.body_bytes).await?;
                give_bytes(&mut stream, length).await?;
            }
            Asked::Echo => {
                while received.len() < head.body_bytes {
                    if stream.read_buf(&mut received).await? == 0 {
                        return Err("the request's body ended early".into());
                    }
                }
                let mut answer = ok(head.body_bytes);
                answer.extend(received.drain(..head.body_bytes));
                stream.write_all(&answer).await?;
            }
        }
    }
}

/// The first request in `received`, when its head is whole.
fn parse(received: &[u8]) -> Result<Option<Head>> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let Status::Complete(head_bytes) = request.parse(received)? else { return Ok(None) };
    let path = request.path.unwrap_or_default();
    let asked = match path.strip_prefix("/bytes/") {
        Some(length) => Asked::Bytes(length.parse()?),
        None if path == "/echo" => Asked::Echo,
        None => Asked::Small,
    };
    let mut body_bytes = 0;
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            body_bytes = std::str::from_utf8(header.value)?.parse()?;
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("a chunked request: every caller here says its length".into());
        }
    }
    Ok(Some(Head { asked, head_bytes, body_bytes }))
}

async fn take_body(stream: &mut TcpStream, received: &mut Vec<u8>, length: usize) -> Result<()> {
    let here = length.min(received.len());
    received.drain(..here);
    let mut left = length - here;
    let mut scratch = if left > 0 { vec![0; PIECE.min(left)] } else { Vec::new() };
    while left > 0 {
        let want = left.min(scratch.len());
        match stream.read(&mut scratch[..want]).await? {
            0 => return Err("the request's body ended early".into()),
            read => left -= read,
        }
        yield_to_others().await;
    }
    Ok(())
}

async fn give_bytes(stream: &mut TcpStream, length: usize) -> Result<()> {
    stream.write_all(&ok(length)).await?;
    let mut left = length;
    while left > 0 {
        let piece = left.min(PIECE);
        stream.write_all(&PIECE_OF_BODY[..piece]).await?;
        left -= piece;
        yield_to_others().await;
    }
    Ok(())
}

/// A bulk stream that uses its socket for as long as it can would make the app, and not the sidecars, what small calls
/// wait for.
async fn yield_to_others() {
    tokio::task::yield_now().await;
}

fn ok(length: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {length}\r\n\r\n")
        .into_bytes()
}
