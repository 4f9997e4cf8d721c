//! Whether the own app can be called yet.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, HeaderValue};
use prost::Message;
use transcode::frame::PREFIX_BYTES;

use crate::config::{AppAddress, AppProtocol};
use crate::edge::fields;
use crate::upstream::app_pool::AppPool;
use crate::upstream::own_call;

/// gRPC's own way to ask (grpc/doc/health-checking.md).
const CHECK: &str = "/grpc.health.v1.Health/Check";
/// `HealthCheckRequest` without a service: the server as a whole. Not compressed, 0 bytes long.
const REQUEST: &[u8] = &[0; 5];
/// More of an answer than this is none.
const ANSWER_BYTES: usize = 1024;
/// `HealthCheckResponse.ServingStatus`.
const SERVING: i32 = 1;
/// gRPC statuses.
const OK: &[u8] = b"0";
const UNAVAILABLE: &[u8] = b"14";

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Whether the app accepts connections and, where it speaks HTTP/2 and has gRPC's health service, says that it serves.
pub async fn is_ready(app: &AppAddress, timeout: Duration) -> bool {
    match app.protocol {
        AppProtocol::Http | AppProtocol::Tcp | AppProtocol::Thrift => AppPool::probe(app, timeout).await,
        AppProtocol::H2c => matches!(tokio::time::timeout(timeout, check(app)).await, Ok(Ok(true))),
    }
}

/// An error: it does not accept, or does not speak HTTP/2, or not yet.
async fn check(app: &AppAddress) -> Result<bool, Box<dyn Error>> {
    let (sender, connection) = own_call::connect(app).await?;
    let asking = async {
        let (answer, mut stream) = sender.ready().await?.send_request(own_call::request(app, CHECK), false)?;
        stream.send_data(Bytes::from_static(REQUEST), true)?;
        let (head, mut body) = answer.await?.into_parts();
        match head.headers.get("grpc-status") {
            Some(status) => Ok(status.as_bytes() != UNAVAILABLE),
            None => says_so(&head.headers, &mut body).await,
        }
    };
    tokio::select! {
        biased;
        said = asking => said.map_err(|error: h2::Error| error.into()),
        ended = connection => Ok(ended.map(|()| false)?),
    }
}

/// What the answer's message says. An app that answers something else has no health service, and is up.
async fn says_so(head: &HeaderMap, body: &mut RecvStream) -> Result<bool, h2::Error> {
    let is_grpc = head.get("content-type").is_some_and(|value| fields::is_grpc(value.as_bytes()));
    let mut message = BytesMut::new();
    while let Some(data) = body.data().await {
        message.extend_from_slice(&data?);
        if !is_grpc || message.len() > ANSWER_BYTES {
            return Ok(true);
        }
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    match trailers.get("grpc-status").map(HeaderValue::as_bytes) {
        Some(OK) => {
            let answer = message.get(PREFIX_BYTES..).unwrap_or_default();
            Ok(Answer::decode(answer).is_ok_and(|answer| answer.status == SERVING))
        }
        Some(UNAVAILABLE) => Ok(false),
        _ => Ok(true),
    }
}
