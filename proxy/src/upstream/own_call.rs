//! gRPC calls that the sidecar makes itself, to ask its app something: on connections of their own.

use std::error::Error;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use http::{HeaderValue, Method, Request, Uri};

use crate::config::AppAddress;
use crate::edge::Stream;

/// Connects. The connection lives as long as both halves do, and moves while the second one is polled.
pub async fn connect(app: &AppAddress) -> Result<(SendRequest<Bytes>, Connection<Stream>), Box<dyn Error>> {
    let socket = Stream::connect(&app.place).await?;
    Ok(h2::client::handshake(socket).await?)
}

/// The head of a call of the method at `path`.
pub fn request(app: &AppAddress, path: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    let uri = Uri::builder().scheme("http").authority(app.authority()).path_and_query(path);
    // An address that was parsed is an authority.
    *request.uri_mut() = uri.build().unwrap_or_default();
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    request
}
