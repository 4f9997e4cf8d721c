//! The admin port: metrics, probes, table, configuration, and the switch of the log. Plain HTTP/1.1, for the control
//! thread; nothing here is on the path of a call.

use std::{
    convert::Infallible,
    fmt,
    fs::File,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};

use crate::{
    config::{Admin, Config},
    logging::{Access, Handle},
    metrics::Metrics,
};

mod guard;
mod readiness;

use guard::Refusal;
pub use readiness::Readiness;

/// Connections at once; further ones are closed at accept.
const CONNECTIONS: usize = 128;

/// For a request's head to arrive, and for the next one on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// For everything that one connection does: a reader that dribbles is cut off. Scrapers connect anew.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// For a request's body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A request's body. Bytes.
const BODY_BYTES: usize = 4 * 1024;

/// The head of a request, which is also hyper's read buffer. Bytes.
const HEAD_BYTES: usize = 16 * 1024;

/// Header fields of a request.
const HEAD_FIELDS: usize = 64;

/// After a failed accept (no descriptors left) before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A token longer than this is not read. Bytes.
const TOKEN_BYTES: usize = 1_024;

const INDEX: &str = "\
pillion admin

GET /livez     200 while the process runs
GET /readyz    200 when ready, else 503 with the reasons
GET /metrics   Prometheus text format
GET /table     services, endpoints, state, revision, age
GET /config    effective configuration, secrets masked
GET /log       level and access log
PUT /log       {\"access\":true,\"level\":\"debug\"}, either alone too;
               with x-pillion-token: TOKEN (admin.token_file), or without one x-pillion-admin: 1
";

/// Gives the table's JSON; called for each `GET /table`.
pub type TableSource = Box<dyn Fn() -> Json + Send + Sync>;

/// What the admin port shows and changes.
pub struct AdminState {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    config: Json,
    log: Handle,
    token_file: Option<PathBuf>,
    hosts: Vec<String>,
    table: TableSource,
}

impl AdminState {
    /// `shown` is what `/config` gives out: `Loaded::to_json`.
    #[must_use]
    pub fn new(
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
        shown: Json,
        log: Handle,
        config: &Config,
        table: TableSource,
    ) -> Self {
        let Admin { token_file, hosts } = config.admin.clone();
        Self { metrics, readiness, config: shown, log, token_file, hosts, table }
    }
}

impl fmt::Debug for AdminState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminState").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

/// Reads `admin.token_file`: one line of printable ASCII.
fn read_token(path: &Path) -> Result<String, String> {
    let wrong = |why: &dyn fmt::Display| format!("admin.token_file {}: {why}", path.display());
    let mut text = String::new();
    let file = File::open(path).map_err(|error| wrong(&error))?;
    file.take(2 * TOKEN_BYTES as u64).read_to_string(&mut text).map_err(|error| wrong(&error))?;
    let token = text.trim();
    if token.is_empty() || token.len() > TOKEN_BYTES || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong(&format!("a token is 1 to {TOKEN_BYTES} printable characters without a space")));
    }
    Ok(token.to_owned())
}

/// Serves until the future is dropped; connections live on as tasks of the runtime it was called on, each for a
/// minute at most.
pub async fn serve(listener: std::net::TcpListener, state: Arc<AdminState>) {
    match listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener)) {
        Ok(listener) => serve_within(listener, state, HEAD_TIMEOUT, CONNECTION_TIMEOUT).await,
        Err(error) => tracing::error!(%error, "the admin port cannot be served"),
    }
}

async fn serve_within(listener: TcpListener, state: Arc<AdminState>, head: Duration, whole: Duration) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "admin port: a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            state.metrics.connection_refused("admin").inc();
            continue;
        };
        let connection = connection(stream, peer, Arc::clone(&state), head);
        tokio::spawn(async move {
            // A connection that takes too long is cut by being dropped.
            let _ = timeout(whole, connection).await;
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, state: Arc<AdminState>, head: Duration) {
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let service = service_fn(move |request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(request, local, peer, &state).await) }
    });
    // Errors of one connection concern only its other end.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Answer = Response<Full<Bytes>>;

async fn answer(request: Request<Incoming>, local: SocketAddr, peer: SocketAddr, state: &AdminState) -> Answer {
    let (head, body) = request.into_parts();
    if let Err(refusal) = guard::host(head.version, &head.uri, &head.headers, local, &state.hosts) {
        return refused(refusal);
    }
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    match head.uri.path() {
        "/log" if matches!(head.method, Method::PUT | Method::POST) => {
            // Read each time: a token that was replaced counts at once, and one that cannot be read locks everybody out.
            match state.token_file.as_deref().map(read_token).transpose() {
                Ok(token) => match guard::change(&head.headers, peer, token.as_deref()) {
                    Ok(()) => set_log(body, state).await,
                    Err(refusal) => refused(refusal),
                },
                Err(error) => {
                    tracing::error!("{error}");
                    refused(Refusal("admin.token_file cannot be used; the log says why"))
                }
            }
        }
        "/log" if reads => json_text(StatusCode::OK, &log_json(state)),
        "/log" => wrong_method("GET, HEAD, PUT, POST"),
        "/" | "/livez" | "/readyz" | "/metrics" | "/table" | "/config" if !reads => wrong_method("GET, HEAD"),
        "/" => text(StatusCode::OK, "text/plain; charset=utf-8", INDEX),
        "/livez" => text(StatusCode::OK, "text/plain; charset=utf-8", "live\n"),
        "/readyz" => ready(state),
        "/metrics" => metrics(state),
        "/table" => json_text(StatusCode::OK, &(state.table)()),
        "/config" => json_text(StatusCode::OK, &state.config),
        _ => text(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "not found; GET / lists what there is\n"),
    }
}

fn ready(state: &AdminState) -> Answer {
    let missing = state.readiness.missing();
    if state.readiness.is_ready() {
        json_text(StatusCode::OK, &json!({ "ready": true }))
    } else {
        json_text(StatusCode::SERVICE_UNAVAILABLE, &json!({ "ready": false, "missing": missing }))
    }
}

fn metrics(state: &AdminState) -> Answer {
    state.metrics.log_lines_dropped.inc_by(state.log.take_dropped());
    match state.metrics.render() {
        Ok(rendered) => text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", rendered),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, "text/plain; charset=utf-8", format!("{error}\n")),
    }
}

/// The body of `PUT /log`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogChange {
    access: Option<bool>,
    level: Option<String>,
}

async fn set_log(body: Incoming, state: &AdminState) -> Answer {
    let wrong = |status, why: String| json_text(status, &json!({ "error": why }));
    let bytes = match timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES).collect()).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(error)) => return wrong(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
        Err(_) => return wrong(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time".to_owned()),
    };
    let change: LogChange = match serde_json::from_slice(&bytes) {
        Ok(change) => change,
        Err(error) => return wrong(StatusCode::BAD_REQUEST, error.to_string()),
    };
    // The level may be refused, and then nothing is changed.
    if let Some(level) = &change.level
        && let Err(error) = state.log.set_level(level)
    {
        return wrong(StatusCode::BAD_REQUEST, error.to_string());
    }
    if let Some(access) = change.access {
        Access::set(access);
    }
    let now = log_json(state);
    tracing::info!(change = %now, "log changed through the admin port");
    json_text(StatusCode::OK, &now)
}

fn log_json(state: &AdminState) -> Json {
    json!({ "access": Access::enabled(), "level": state.log.level() })
}

fn refused(refusal: Refusal) -> Answer {
    json_text(StatusCode::FORBIDDEN, &json!({ "error": refusal.0 }))
}

fn wrong_method(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", "method not allowed\n");
    answer.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allowed));
    answer
}

fn json_text(status: StatusCode, value: &Json) -> Answer {
    text(status, "application/json", format!("{value:#}\n"))
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    // What a browser got here it shall neither keep nor guess about.
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests;
