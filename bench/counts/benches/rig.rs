//! Sidecars with a client and an app on one thread, over loopback sockets, all connections made and all caches warm.

use std::cell::RefCell;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use counts::TIMES;
use pillion::app::OneThread;
use pillion::parts::{Inputs, LocalAddress, load};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::{LocalSet, spawn_local, yield_now};

use crate::{app, identity, peer};

/// Connections of the client: the most that call at once.
const CLIENTS: u32 = 64;

const REQUEST: &[u8] = b"GET /v1/orders/12345 HTTP/1.1\r\n\
    host: payments\r\n\
    user-agent: python-requests/2.28.1\r\n\
    accept-encoding: gzip, deflate, br\r\n\
    accept: */*\r\n\
    connection: keep-alive\r\n\r\n";

/// How the sidecars speak to each other.
#[derive(Debug, Clone, Copy)]
pub enum Security {
    /// As they do unless told otherwise.
    MutualTls,
    /// `--insecure`.
    None,
}

/// All of it, and the runtime that it lives on.
pub struct Rig {
    caller: OneThread,
    /// Not there where the peer is a bare one.
    _callee: Option<OneThread>,
    clients: RefCell<Vec<Client>>,
    local: LocalSet,
    runtime: Runtime,
    _files: TempDir,
}

impl Rig {
    /// Two sidecars, and an app.
    pub fn pair(security: Security) -> Rig {
        Rig::new(async |files| {
            let app = app::start().await;
            let identity = |service: &str| match security {
                Security::MutualTls => format!("identity = {:?}", identity::issue(files, service)),
                Security::None => "insecure = true".to_owned(),
            };
            let text = format!("service = 'payments'\napp = 'http://{app}'\n{}", identity("payments"));
            let callee = sidecar(files, &text, "");
            let caller = caller(files, &identity("orders"), callee.inbound().expect("it has an app"));
            (caller, Some(callee))
        })
    }

    /// One sidecar, and a peer that is nothing but the protocol.
    pub fn bare_peer() -> Rig {
        Rig::new(async |files| (caller(files, "insecure = true", peer::start().await), None))
    }

    fn new(build: impl AsyncFnOnce(&Path) -> (OneThread, Option<OneThread>)) -> Rig {
        let files = tempfile::tempdir().expect("a temporary directory");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let local = LocalSet::new();
        let (caller, callee) = local.block_on(&runtime, build(files.path()));
        let rig = Rig { caller, _callee: callee, clients: RefCell::default(), local, runtime, _files: files };
        rig.run(async |rig| rig.warm_up().await);
        rig
    }

    async fn warm_up(&self) {
        while self.caller.view().load().service("payments").is_none() {
            yield_now().await;
        }
        for _ in 0..CLIENTS {
            let LocalAddress::Ip(outbound) = self.caller.outbound() else { panic!("TCP was asked for") };
            let socket = TcpStream::connect(outbound).await.expect("the sidecar listens");
            self.clients.borrow_mut().push(Client { socket, answer: Vec::new() });
        }
        self.calls(1).await;
        self.calls(CLIENTS).await;
    }

    /// Does the work on the rig's runtime.
    pub fn run(&self, work: impl AsyncFnOnce(&Rig)) {
        self.local.block_on(&self.runtime, work(self));
    }

    /// The sidecar that calls.
    pub fn caller(&self) -> &OneThread {
        &self.caller
    }

    /// [`TIMES`] calls, over that many connections at once.
    pub async fn calls(&self, at_once: u32) {
        let mut clients = self.clients.take();
        let at_work: Vec<_> =
            clients.drain(..at_once as usize).map(|client| spawn_local(client.calls(TIMES / at_once))).collect();
        for client in at_work {
            clients.push(client.await.expect("every call was answered"));
        }
        self.clients.replace(clients);
    }
}

struct Client {
    socket: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    async fn calls(mut self, count: u32) -> Client {
        for _ in 0..count {
            self.socket.write_all(REQUEST).await.expect("the sidecar reads");
            self.answer.clear();
            while !self.answer.ends_with(app::BODY) {
                let read = self.socket.read_buf(&mut self.answer).await.expect("the sidecar answers");
                assert_ne!(read, 0, "closed after {}", String::from_utf8_lossy(&self.answer));
            }
        }
        self
    }
}

/// The sidecar `orders`, which knows of one endpoint.
fn caller(files: &Path, identity: &str, payments: SocketAddr) -> OneThread {
    let endpoint = format!("[[endpoint]]\nservice = 'payments'\nversion = '1.0.0'\naddress = '{payments}'");
    sidecar(files, &format!("service = 'orders'\nprefetch = ['payments']\n{identity}"), &endpoint)
}

fn sidecar(files: &Path, keys: &str, tables: &str) -> OneThread {
    let path = files.join("pillion.toml");
    let listen = "[listen]\noutbound = '127.0.0.1:0'\ninbound = '127.0.0.1:0'\nadmin = '127.0.0.1:0'";
    fs::write(&path, format!("registry = 'static'\n{keys}\n{listen}\n{tables}\n")).expect("a file");
    let loaded = load(Inputs { file: Some(path), ..Inputs::default() }).unwrap_or_else(|wrong| panic!("{wrong}"));
    OneThread::start(loaded).unwrap_or_else(|error| panic!("{error}"))
}

/// A port of this machine.
pub async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}
