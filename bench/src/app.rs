//! The app behind the sidecars: as cheap as a plain server is; its CPU time is not counted.

use crate::Result;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;

/// What one bulk stream carries.
pub(crate) const BULK_BYTES: u64 = 1 << 30;
const PIECE: usize = 64 * 1024;
/// The small answer.
const SMALL: &[u8] = b"{\"ok\":true,\"n\":42}\n";

/// Serves until killed: `/down` gives a gibibyte, `/up` takes whatever comes, everything else is a small answer.
pub(crate) fn serve(listen: SocketAddr) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)),
            );
        }
    })
}

async fn answer(
    request: Request<Incoming>,
) -> std::result::Result<Response<UnsyncBoxBody<Bytes, Infallible>>, Infallible> {
    Ok(match request.uri().path() {
        "/down" => {
            let piece = Bytes::from(vec![b'd'; PIECE]);
            let body = stream::unfold((piece, BULK_BYTES), |(piece, left)| async move {
                // One piece a turn: a bulk stream that fills its socket for as long as it can would make the app, and
                // not the sidecars, what small calls wait for.
                tokio::task::yield_now().await;
                let take = left.min(PIECE as u64);
                (take > 0).then(|| (Ok(Frame::data(piece.clone())), (piece, left - take)))
            });
            let mut response = Response::new(StreamBody::new(body).boxed_unsync());
            response.headers_mut().insert("content-length", BULK_BYTES.into());
            response
        }
        "/up" => {
            let mut body = request.into_body();
            while let Some(Ok(_)) = body.frame().await {
                tokio::task::yield_now().await;
            }
            small()
        }
        _ => small(),
    })
}

fn small() -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    Response::new(Full::new(Bytes::from_static(SMALL)).boxed_unsync())
}
