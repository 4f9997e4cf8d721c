//! The own app, as one worker calls it: in whatever it speaks.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::spawn_local;
use wire::{Kind, RequestHead};

use crate::call::{Body, Reply};
use crate::config::{AppProtocol, Config};
use crate::edge::fields;
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::upstream::app_pool::AppPool;
use crate::upstream::http2::Http2Pool;
use crate::upstream::limits::HeaderLimits;
use crate::upstream::transcode::{Schemas, Transcoder};
use crate::upstream::{http, jsonrpc, tcp, thrift};

/// What carries calls to the app.
#[derive(Debug)]
pub struct App {
    protocol: AppProtocol,
    sockets: Rc<AppPool>,
    http2: Rc<Http2Pool>,
    limits: HeaderLimits,
    /// Where it takes JSON-RPC.
    jsonrpc: Option<Bytes>,
    /// Where JSON calls of its methods are taken.
    transcoder: Option<Transcoder>,
}

/// What a call is to an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Http,
    Tcp,
    Thrift,
}

impl Form {
    fn as_str(self) -> &'static str {
        match self {
            Form::Http => "an HTTP request",
            Form::Tcp => "a TCP connection",
            Form::Thrift => "a Thrift call",
        }
    }
}

impl App {
    /// The own app, not connected yet: in what it speaks, and with what it takes besides.
    pub fn own(sockets: AppPool, protocol: AppProtocol, config: &Config, schemas: Option<Arc<Schemas>>) -> App {
        let jsonrpc = config.app_jsonrpc.as_ref().map(|path| Bytes::copy_from_slice(path.0.as_bytes()));
        App { jsonrpc, transcoder: schemas.map(Transcoder::new), ..App::outside(sockets, protocol, config) }
    }

    /// A host outside, of which nothing is known but what it speaks.
    pub fn outside(sockets: AppPool, protocol: AppProtocol, config: &Config) -> App {
        let (sockets, limits) = (Rc::new(sockets), HeaderLimits::of(&config.limits));
        let http2 = Http2Pool::new(Rc::clone(&sockets), config);
        App { protocol, sockets, http2, limits, jsonrpc: None, transcoder: None }
    }

    /// Looks after idle connections, for ever.
    pub fn sweep(&self) {
        spawn_local(Rc::clone(&self.sockets).sweep());
        if self.protocol == AppProtocol::H2c {
            spawn_local(Rc::clone(&self.http2).sweep());
        }
    }

    /// That the app is to be spoken to as it can be.
    pub fn check(&self, head: &RequestHead) -> Result<(), Error> {
        let asked = match head.kind {
            Kind::Tcp => Form::Tcp,
            Kind::Rpc if fields::is_thrift(&head.headers) => Form::Thrift,
            Kind::Http | Kind::Rpc => Form::Http,
        };
        let spoken = match self.protocol {
            AppProtocol::Tcp => Form::Tcp,
            AppProtocol::Thrift => Form::Thrift,
            AppProtocol::Http | AppProtocol::H2c => Form::Http,
        };
        if asked == spoken {
            return Ok(());
        }
        let detail = format!("{} for an app that takes {}", asked.as_str(), spoken.as_str());
        Err(Error::new(ErrorCode::WrongProtocol, Origin::Remote, Phase::Request, Executed::No, detail))
    }

    /// Calls the app. `head` is what it is to see.
    pub async fn call(&self, head: RequestHead, body: Body) -> Result<Reply, Error> {
        match (self.protocol, &self.jsonrpc) {
            (AppProtocol::Http, None) => http::call(&self.sockets, self.limits, head, body).await,
            // On the heap, these: the call above carries no room for them.
            (_, Some(path)) if head.kind == Kind::Rpc => Box::pin(self.procedure(path, head, body)).await,
            _ => Box::pin(self.carry(head, body)).await,
        }
    }

    async fn procedure(&self, path: &Bytes, head: RequestHead, body: Body) -> Result<Reply, Error> {
        let (head, body) = jsonrpc::request(path, head, body).await?;
        jsonrpc::reply(self.carry(head, body).await?).await
    }

    async fn carry(&self, head: RequestHead, body: Body) -> Result<Reply, Error> {
        match self.protocol {
            AppProtocol::Tcp => tcp::connect(&self.sockets, body).await,
            AppProtocol::Http => http::call(&self.sockets, self.limits, head, body).await,
            AppProtocol::H2c => match &self.transcoder {
                Some(transcoder) if !head.headers.get(b"content-type").is_some_and(fields::is_any_grpc) => {
                    Box::pin(transcoder.call(&self.http2, head, body)).await
                }
                _ => self.http2.call(head, body).await,
            },
            AppProtocol::Thrift => thrift::call(&self.sockets, &head, body).await,
        }
    }

    /// It takes JSON for gRPC: then what is not gRPC becomes so.
    pub fn transcodes(&self) -> bool {
        self.transcoder.is_some()
    }
}
