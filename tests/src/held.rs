//! An app that is the same in every protocol: asked who it is, it holds the call until its gate is open, and answers its name.
//!
//! | protocol | the call | the answer |
//! | --- | --- | --- |
//! | HTTP | any method at `/who` | the name as JSON |
//! | an upgrade, whatever to | the same | 101, and the name as bytes, to their end |
//! | gRPC | `/held.Names/Who` of `held/names.proto` | a `google.protobuf.StringValue` |
//! | Thrift | any method | a string |
//! | raw TCP | [`QUESTION`] | the name as bytes, to their end |

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use thrift::{Head, MessageType, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

/// What a caller says over raw TCP.
pub const QUESTION: &[u8] = b"who?\n";

/// A running app; it stops, with all its connections, when dropped.
#[derive(Debug)]
pub struct HeldApp {
    /// Where it speaks HTTP of any version, Thrift, and raw TCP.
    addresses: [SocketAddr; 3],
    gate: watch::Sender<bool>,
    running: Arc<AtomicUsize>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HeldApp {
    /// Starts one with its gate open or closed.
    #[must_use]
    pub fn start(name: &str, open: bool) -> HeldApp {
        let listeners = [(); 3].map(|()| {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            listener.set_nonblocking(true).expect("a listener");
            listener
        });
        let addresses = listeners.each_ref().map(|listener| listener.local_addr().expect("an address"));
        let (gate, passing) = watch::channel(open);
        let running = Arc::new(AtomicUsize::new(0));
        let calls = Calls { name: name.to_owned().into(), gate: passing, running: Arc::clone(&running) };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let [http, thrift, tcp] =
                    listeners.map(|listener| TcpListener::from_std(listener).expect("a listener"));
                tokio::select! {
                    () = accept(http, &calls, serve_http) => {}
                    () = accept(thrift, &calls, serve_thrift) => {}
                    () = accept(tcp, &calls, serve_tcp) => {}
                    _ = stopped => {} // the runtime is dropped, and every connection with it
                }
            });
        });
        HeldApp { addresses, gate, running, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it speaks HTTP, in any version.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Where it speaks Thrift, in both protocols.
    #[must_use]
    pub fn thrift(&self) -> SocketAddr {
        self.addresses[1]
    }

    /// Where it speaks raw TCP.
    #[must_use]
    pub fn tcp(&self) -> SocketAddr {
        self.addresses[2]
    }

    /// Calls that it holds now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// Answers all that it holds, and from now on at once.
    pub fn open(&self) {
        self.gate.send_replace(true);
    }

    /// Stops at once: connections are cut.
    pub fn stop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for HeldApp {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What all protocols share.
#[derive(Debug, Clone)]
struct Calls {
    name: Arc<str>,
    gate: watch::Receiver<bool>,
    running: Arc<AtomicUsize>,
}

/// Counts a call while it lives.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Calls {
    /// Holds a call until the gate is open. One that is dropped before has ended.
    async fn hold(&self) {
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(Arc::clone(&self.running));
        let _ = self.gate.clone().wait_for(|open| *open).await;
    }

    /// The same, of a call that ends when its connection does. Says whether it is to be answered.
    async fn hold_for(&self, stream: &mut TcpStream) -> bool {
        tokio::select! {
            () = self.hold() => true,
            _ = stream.read_u8() => false,
        }
    }
}

async fn accept<F>(listener: TcpListener, calls: &Calls, serve: fn(TcpStream, Calls) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream, calls.clone()));
        }
    }
}

async fn serve_tcp(mut stream: TcpStream, calls: Calls) {
    let mut question = [0; QUESTION.len()];
    // A sidecar looks now and then whether it accepts, and asks nothing.
    if stream.read_exact(&mut question).await.is_err() || question != QUESTION {
        return;
    }
    // What is cut off when the app stops is reset: an end in order would be an answer.
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a connection");
    if calls.hold_for(&mut stream).await {
        socket2::SockRef::from(&stream).set_linger(None).expect("a connection");
        let _ = stream.write_all(calls.name.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

async fn serve_thrift(mut stream: TcpStream, calls: Calls) {
    let mut prefix = [0; thrift::PREFIX_BYTES];
    while stream.read_exact(&mut prefix).await.is_ok() {
        let mut message = vec![0; thrift::frame_length(prefix).expect("a frame")];
        if stream.read_exact(&mut message).await.is_err() || !calls.hold_for(&mut stream).await {
            return;
        }
        let asked = Head::read(&message).expect("a message").expect("a whole head");
        if stream.write_all(&thrift_answer(asked, &calls.name)).await.is_err() {
            return;
        }
    }
}

/// A frame with the result of a method that gives a string: a struct with the field 0.
fn thrift_answer(asked: Head, name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).ok().filter(|length| *length < 128).expect("a short name");
    let field: &[u8] = match asked.protocol {
        Protocol::Binary => &[11, 0, 0, 0, 0, 0, length],
        Protocol::Compact => &[8, 0, length],
    };
    let mut message = Vec::new();
    Head { message_type: MessageType::Reply, ..asked }.write(&mut message);
    let message = [&message, field, name.as_bytes(), &[0]].concat();
    [&thrift::prefix(message.len())[..], &message].concat()
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn serve_http(stream: TcpStream, calls: Calls) {
    let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let answer = service_fn(move |request| {
        let calls = calls.clone();
        async move { Ok::<_, Infallible>(answer(request, calls).await) }
    });
    let _ = server.serve_connection_with_upgrades(TokioIo::new(stream), answer).await;
}

async fn answer(mut request: Request<Incoming>, calls: Calls) -> Response<Body> {
    let is_grpc = request.headers().get("content-type").is_some_and(|value| value == "application/grpc");
    if !request.uri().path().to_ascii_lowercase().ends_with("/who") {
        // What a sidecar asks of its own accord.
        let mut response = Response::new(full(""));
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        response.headers_mut().insert("grpc-status", HeaderValue::from_static("12"));
        return response;
    }
    let upgrade = request.headers().get("upgrade").cloned();
    let upgraded = upgrade.as_ref().map(|_| hyper::upgrade::on(&mut request));
    let _ = request.into_body().collect().await;
    calls.hold().await;
    if let (Some(protocol), Some(upgraded)) = (upgrade, upgraded) {
        tokio::spawn(async move {
            if let Ok(upgraded) = upgraded.await {
                let mut stream = TokioIo::new(upgraded);
                let _ = stream.write_all(calls.name.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        let mut response = Response::new(full(""));
        *response.status_mut() = hyper::StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
        response.headers_mut().insert("upgrade", protocol);
        return response;
    }
    if !is_grpc {
        return Response::new(full(&serde_json::Value::from(&*calls.name).to_string()));
    }
    let length = u8::try_from(calls.name.len()).expect("a short name");
    let message = [&[0, 0, 0, 0, length + 2, 10, length], calls.name.as_bytes()].concat();
    let trailers = HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from_static("0"))]);
    let frames = stream::iter([Frame::data(Bytes::from(message)), Frame::trailers(trailers)]);
    let mut response = Response::new(StreamBody::new(frames.map(Ok)).boxed_unsync());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

fn full(text: &str) -> Body {
    Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed_unsync()
}
