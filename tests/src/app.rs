//! The harness's app: one small HTTP/1.1 server with a path for each behaviour that the suites need.
//!
//! | path | what it does |
//! | --- | --- |
//! | `/who` | answers the instance's name |
//! | `/echo?delay_ms=N` | answers `x-id` (or the body) after a random delay of up to N ms: answers come back shuffled |
//! | `/headers` | answers what arrived, as JSON |
//! | `/upload` | takes any body, answers its SHA-256 and length |
//! | `/download?bytes=N&seed=S` | gives N bytes of [`Pattern`] |
//! | `/duplex` | gives back each piece of the body as it comes |
//! | `/drip?pieces=N&gap_ms=M` | N pieces, M ms apart |
//! | `/slow?ms=N` | answers after N ms |
//! | `/hang` | never answers |
//! | `/hang-body` | a head and one piece, then nothing |
//! | `/count` | counts its `x-id` |
//! | `/status?code=N` | answers that status |
//! | `/jsonrpc` | takes JSON-RPC: `add` gives the sum of its parameters, `fail` an error, and there is no other method |
//! | `/big-head?bytes=N` | a response with one header of N bytes |

use crate::pattern::{Pattern, hex};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

/// How many paths an app remembers.
pub const KEPT_PATHS: usize = 64;

/// A running app; it stops, with all its connections, when dropped.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
    state: Arc<State>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the app saw.
#[derive(Debug, Default)]
pub struct State {
    name: String,
    requests: AtomicU64,
    connections: AtomicU64,
    open: AtomicUsize,
    aborted: Mutex<Vec<Instant>>,
    running: AtomicUsize,
    ids: Mutex<HashMap<String, u64>>,
    paths: Mutex<VecDeque<String>>,
}

impl App {
    /// Starts an app on a port that the kernel picks.
    #[must_use]
    pub fn start(name: &str) -> App {
        App::start_at(name, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("the kernel has a free port")
    }

    /// Starts an app on a port that the kernel picks, and on a Unix domain socket besides.
    #[must_use]
    pub fn start_with_socket(name: &str, path: &Path) -> App {
        let socket = UnixListener::bind(path).expect("a new socket");
        let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        App::start_on(name, at, Some(socket)).expect("the kernel has a free port")
    }

    /// Starts an app at an address.
    pub fn start_at(name: &str, at: SocketAddr) -> io::Result<App> {
        App::start_on(name, at, None)
    }

    fn start_on(name: &str, at: SocketAddr, socket: Option<UnixListener>) -> io::Result<App> {
        let listener = std::net::TcpListener::bind(at)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { name: name.to_owned(), ..State::default() });
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&state);
        let thread = std::thread::Builder::new().name(format!("app-{name}")).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, socket, serving, stopped));
        })?;
        Ok(App { address, state, stop: Some(stop), thread: Some(thread) })
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests whose head arrived.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Connections open now.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Calls running now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.state.running.load(Ordering::SeqCst)
    }

    /// When calls were cut off before the app was done with them.
    #[must_use]
    pub fn aborted(&self) -> Vec<Instant> {
        self.state.aborted.lock().expect("no panic inside").clone()
    }

    /// How often each id came to `/count`.
    #[must_use]
    pub fn ids(&self) -> HashMap<String, u64> {
        self.state.ids.lock().expect("no panic inside").clone()
    }

    /// The paths of the last requests, at most [`KEPT_PATHS`] of them.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.state.paths.lock().expect("no panic inside").iter().cloned().collect()
    }

    /// Stops at once: connections are cut.
    pub fn stop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// Waits for ever; for the app as a process.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(
    listener: std::net::TcpListener,
    socket: Option<UnixListener>,
    state: Arc<State>,
    mut stopped: oneshot::Receiver<()>,
) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    let socket = socket.map(|socket| {
        socket.set_nonblocking(true).expect("a socket");
        tokio::net::UnixListener::from_std(socket).expect("a listener")
    });
    let at_socket = async || match &socket {
        Some(socket) => socket.accept().await,
        None => std::future::pending().await,
    };
    loop {
        tokio::select! {
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                let _ = stream.set_nodelay(true);
                tokio::spawn(connection(stream, Arc::clone(&state)));
            },
            accepted = at_socket() => if let Ok((stream, _)) = accepted {
                tokio::spawn(connection(stream, Arc::clone(&state)));
            },
            _ = &mut stopped => return, // the runtime is dropped, and every connection with it
        }
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, state: Arc<State>) {
    state.connections.fetch_add(1, Ordering::SeqCst);
    state.open.fetch_add(1, Ordering::SeqCst);
    let calls = Arc::clone(&state);
    let mut server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    server.http1().max_buf_size(1024 * 1024).max_headers(1024);
    server.http2().max_header_list_size(1024 * 1024);
    let _ = server
        .serve_connection(
            TokioIo::new(stream),
            service_fn(move |request| {
                let state = Arc::clone(&calls);
                async move {
                    let is_head = request.method() == hyper::Method::HEAD;
                    let answer = answer(request, state).await;
                    Ok::<_, Infallible>(if is_head { without_body(answer) } else { answer })
                }
            }),
        )
        .await;
    state.open.fetch_sub(1, Ordering::SeqCst);
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// In HTTP/2, hyper leaves this to its user.
fn without_body(answer: Response<Body>) -> Response<Body> {
    let (mut head, body) = answer.into_parts();
    if let Some(length) = hyper::body::Body::size_hint(&body).exact() {
        head.headers.entry("content-length").or_insert(length.into());
    }
    Response::from_parts(head, full(Bytes::new()))
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Response<Body> {
    state.requests.fetch_add(1, Ordering::SeqCst);
    let running = Running::new(&state);
    let query = Query::of(&request);
    let path = request.uri().path().to_owned();
    {
        let mut paths = state.paths.lock().expect("no panic inside");
        paths.truncate(KEPT_PATHS - 1);
        paths.push_front(path.clone());
    }
    let mut response = match path.as_str() {
        "/echo" => echo(request, &query).await,
        "/headers" => headers(request).await,
        "/upload" => match upload(request).await {
            Some(response) => response,
            None => return text("cut off"), // nobody reads it; `running` goes as aborted
        },
        "/download" => return named(download(&query, running), &state),
        "/duplex" => return named(duplex(request, running), &state),
        "/drip" => return named(drip(&query, running), &state),
        "/hang-body" => return named(hang_body(running), &state),
        "/hang" => std::future::pending().await,
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(query.number("ms", 100))).await;
            text(&state.name)
        }
        "/jsonrpc" => {
            let request = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            json_rpc(&serde_json::from_slice(&request).unwrap_or_default())
        }
        "/count" => {
            let id = header(&request, "x-id");
            let _ = request.into_body().collect().await;
            *state.ids.lock().expect("no panic inside").entry(id.clone()).or_default() += 1;
            let delay = query.number("delay_ms", 0);
            if delay > 0 {
                tokio::time::sleep(Duration::from_micros(fastrand::u64(0..delay * 1000))).await;
            }
            text(&id)
        }
        "/status" => {
            let mut response = text(&state.name);
            let code = u16::try_from(query.number("code", 200)).unwrap_or(200);
            *response.status_mut() = hyper::StatusCode::from_u16(code).unwrap_or_default();
            response
        }
        "/big-head" => {
            let size = usize::try_from(query.number("bytes", 0)).unwrap_or(0);
            let mut response = text(&state.name);
            response.headers_mut().insert("x-big", "b".repeat(size).parse().expect("a header value"));
            response
        }
        _ => text(&state.name),
    };
    response.headers_mut().insert("x-app", "pillion-test-app".parse().expect("a header value"));
    running.done();
    named(response, &state)
}

fn named(mut response: Response<Body>, state: &State) -> Response<Body> {
    response.headers_mut().insert("x-instance", state.name.parse().expect("a name is a header value"));
    response
}

async fn echo(request: Request<Incoming>, query: &Query) -> Response<Body> {
    let id = header(&request, "x-id");
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let delay = query.number("delay_ms", 0);
    if delay > 0 {
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..delay * 1000))).await;
    }
    if body.is_empty() { text(&id) } else { Response::new(full(body)) }
}

async fn headers(request: Request<Incoming>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let headers: Vec<(String, String)> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let seen = serde_json::json!({
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    Response::new(full(Bytes::from(seen.to_string())))
}

/// `None`: the body broke off.
async fn upload(request: Request<Incoming>) -> Option<Response<Body>> {
    let mut body = request.into_body();
    let mut digest = Sha256::new();
    let mut bytes: u64 = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.ok()?;
        if let Ok(data) = frame.into_data() {
            bytes += data.len() as u64;
            digest.update(&data);
        }
    }
    Some(text(&format!("{} {bytes}", hex(&digest.finalize()))))
}

fn download(query: &Query, running: Running) -> Response<Body> {
    let bytes = query.number("bytes", 0);
    let pieces = Pattern::new(query.number("seed", 1), bytes);
    let body = stream::unfold((pieces, running), |(mut pieces, running)| async move {
        match pieces.next() {
            Some(piece) => Some((Ok(Frame::data(piece)), (pieces, running))),
            None => {
                running.done();
                None
            }
        }
    });
    let mut response = Response::new(StreamBody::new(body).boxed_unsync());
    if query.number("chunked", 0) == 0 {
        response.headers_mut().insert("content-length", bytes.into());
    }
    response
}

fn duplex(request: Request<Incoming>, running: Running) -> Response<Body> {
    let body = stream::unfold((request.into_body(), running), |(mut body, running)| async move {
        loop {
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Some((Ok(Frame::data(data)), (body, running)));
                    }
                }
                Some(Err(_)) => return None,
                None => {
                    running.done();
                    return None;
                }
            }
        }
    });
    Response::new(StreamBody::new(body).boxed_unsync())
}

fn drip(query: &Query, running: Running) -> Response<Body> {
    let pieces = query.number("pieces", 3);
    let gap = Duration::from_millis(query.number("gap_ms", 50));
    let body = stream::unfold((0, running), move |(number, running)| async move {
        if number == pieces {
            running.done();
            return None;
        }
        if number > 0 {
            tokio::time::sleep(gap).await;
        }
        let piece = Bytes::from(format!("piece {number}\n"));
        Some((Ok(Frame::data(piece)), (number + 1, running)))
    });
    Response::new(StreamBody::new(body).boxed_unsync())
}

fn hang_body(running: Running) -> Response<Body> {
    let body = stream::unfold((false, running), |(given, running)| async move {
        if given {
            std::future::pending::<()>().await;
        }
        Some((Ok(Frame::data(Bytes::from_static(b"begun\n"))), (true, running)))
    });
    Response::new(StreamBody::new(body).boxed_unsync())
}

fn text(content: &str) -> Response<Body> {
    Response::new(full(Bytes::copy_from_slice(content.as_bytes())))
}

fn json_rpc(request: &Value) -> Response<Body> {
    let outcome = match request["method"].as_str() {
        Some("add") => {
            let sum: i64 = request["params"].as_array().into_iter().flatten().filter_map(Value::as_i64).sum();
            ("result", json!(sum))
        }
        Some("fail") => ("error", json!({ "code": 7, "message": "as asked", "data": request["params"] })),
        _ => ("error", json!({ "code": -32601, "message": "no such method here" })),
    };
    text(&json!({ "jsonrpc": "2.0", outcome.0: outcome.1, "id": request["id"] }).to_string())
}

fn full(content: Bytes) -> Body {
    Full::new(content).boxed_unsync()
}

fn header(request: &Request<Incoming>, name: &str) -> String {
    request.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

/// Counts a call while it runs; one that is dropped before it is done was cut off.
#[derive(Debug)]
struct Running(Option<Arc<State>>);

impl Running {
    fn new(state: &Arc<State>) -> Running {
        state.running.fetch_add(1, Ordering::SeqCst);
        Running(Some(Arc::clone(state)))
    }

    fn done(mut self) {
        if let Some(state) = self.0.take() {
            state.running.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(state) = self.0.take() {
            state.running.fetch_sub(1, Ordering::SeqCst);
            state.aborted.lock().expect("no panic inside").push(Instant::now());
        }
    }
}

#[derive(Debug)]
struct Query(HashMap<String, String>);

impl Query {
    fn of(request: &Request<Incoming>) -> Query {
        Query(
            request
                .uri()
                .query()
                .unwrap_or_default()
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
        )
    }

    fn number(&self, key: &str, otherwise: u64) -> u64 {
        self.0.get(key).and_then(|value| value.parse().ok()).unwrap_or(otherwise)
    }
}
