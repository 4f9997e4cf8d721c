//! The own app, as one worker calls it: in whatever it speaks.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::spawn_local;
use wire::{Kind, RequestHead};

use crate::call::{Body, Reply};
use crate::config::{AppProtocol, Config};
use crate::edge::Scratch;
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::metrics::Metrics;
use crate::upstream::app_pool::AppPool;
use crate::upstream::http2::Http2Pool;
use crate::upstream::limits::HeaderLimits;
use crate::upstream::target::Target;
use crate::upstream::{http, jsonrpc, tcp};

/// What carries calls to the app.
#[derive(Debug)]
pub struct App {
    protocol: AppProtocol,
    sockets: Rc<AppPool>,
    http2: Rc<Http2Pool>,
    limits: HeaderLimits,
    /// Where it takes JSON-RPC.
    jsonrpc: Option<Bytes>,
}

impl App {
    /// Not connected yet. This worker counts in `waiting` the requests that wait for a connection.
    pub fn new(
        target: Target,
        protocol: AppProtocol,
        config: &Config,
        scratch: Scratch,
        waiting: Rc<Cell<usize>>,
        metrics: Arc<Metrics>,
    ) -> App {
        let share = config.limits.app_connections.div_ceil(config.workers);
        let limits = HeaderLimits::of(&config.limits);
        let sockets = Rc::new(AppPool::new(target, config, share, scratch, waiting, metrics));
        let jsonrpc = config.app_jsonrpc.as_ref().map(|path| Bytes::copy_from_slice(path.0.as_bytes()));
        App { protocol, jsonrpc, http2: Http2Pool::new(Rc::clone(&sockets), config), sockets, limits }
    }

    /// Looks after idle connections, for ever.
    pub fn sweep(&self) {
        spawn_local(Rc::clone(&self.sockets).sweep());
        if self.protocol == AppProtocol::H2c {
            spawn_local(Rc::clone(&self.http2).sweep());
        }
    }

    /// That the app is to be spoken to as it can be.
    pub fn check(&self, kind: Kind) -> Result<(), Error> {
        let detail = match (kind, self.protocol) {
            (Kind::Tcp, AppProtocol::Tcp) => return Ok(()),
            (Kind::Http | Kind::Rpc, AppProtocol::Http | AppProtocol::H2c) => return Ok(()),
            (Kind::Tcp, AppProtocol::Http | AppProtocol::H2c) => "a TCP connection for an app that speaks HTTP",
            (Kind::Http | Kind::Rpc, AppProtocol::Tcp) => "an HTTP call for an app that speaks TCP",
        };
        Err(Error::new(ErrorCode::WrongProtocol, Origin::Remote, Phase::Request, Executed::No, detail))
    }

    /// Calls the app. `head` is what it is to see.
    pub async fn call(&self, head: RequestHead, body: Body) -> Result<Reply, Error> {
        match (&self.jsonrpc, head.kind) {
            (Some(path), Kind::Rpc) => Box::pin(self.procedure(path, head, body)).await,
            _ => self.carry(head, body).await,
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
            // On the heap: a call over HTTP/1.1 carries no room for it.
            AppProtocol::H2c => Box::pin(self.http2.call(head, body)).await,
        }
    }
}
