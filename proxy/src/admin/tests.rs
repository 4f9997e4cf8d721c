use std::sync::Mutex;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::MutexGuard as AsyncGuard,
};

use super::*;

/// The switch of the access log is the process's: tests that use it take turns.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

struct Rig {
    address: SocketAddr,
    state: Arc<AdminState>,
    _turn: AsyncGuard<'static, ()>,
    _logger: Mutex<Box<dyn std::any::Any + Send>>,
}

async fn rig() -> Rig {
    rig_within(None, HEAD_TIMEOUT, CONNECTION_TIMEOUT).await
}

async fn rig_within(token_file: Option<PathBuf>, head: Duration, whole: Duration) -> Rig {
    let turn = TURN.lock().await;
    Access::set(false);
    let mut logger = None;
    let log = Handle::detached(&mut logger);
    let readiness = Readiness::new();
    let mut config = Config::default();
    config.admin.token_file = token_file;
    let table: TableSource = Box::new(|| json!({ "services": { "payments": [] } }));
    let shown = json!({ "config": { "workers": 1 } });
    let state = Arc::new(AdminState::new(Metrics::new(), readiness, shown, log, &config, table));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(serve_within(listener, Arc::clone(&state), head, whole));
    Rig { address, state, _turn: turn, _logger: Mutex::new(Box::new(logger)) }
}

impl Rig {
    /// Sends `request` and reads to the end.
    async fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("connect");
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("answer");
        String::from_utf8(answer).expect("utf-8")
    }

    /// Status and body.
    async fn call(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let length = body.len();
        let answer = self
            .raw(&format!(
                "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
            ))
            .await;
        let status = answer.get(9..12).and_then(|status| status.parse().ok()).expect("a status line");
        (status, answer.split_once("\r\n\r\n").expect("a head").1.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.call("GET", path, "", "").await
    }
}

#[tokio::test]
async fn the_pages_are_there() {
    let rig = rig().await;
    for (path, part) in [
        ("/", "GET /table"),
        ("/livez", "live"),
        ("/metrics", "# TYPE pillion_draining gauge"),
        ("/table", "payments"),
        ("/config", "\"workers\": 1"),
        ("/log", "\"level\": \"info\""),
    ] {
        let (status, body) = rig.get(path).await;
        assert!(status == 200 && body.contains(part), "{path}: {status} {body}");
    }
    assert_eq!(rig.get("/nothing").await.0, 404);
    assert_eq!(rig.call("DELETE", "/table", "", "").await.0, 405);
    assert_eq!(rig.call("HEAD", "/table", "", "").await, (200, String::new()));
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let rig = rig().await;
    let readiness = &rig.state.readiness;
    assert_eq!(rig.get("/readyz").await.0, 503, "nothing is known yet");
    readiness.set("listeners", Ok(()));
    readiness.set("table", Err("the registry has not answered".to_owned()));
    let (status, body) = rig.get("/readyz").await;
    let body: Json = serde_json::from_str(&body).expect("json");
    assert_eq!(status, 503);
    assert_eq!(body, json!({ "ready": false, "missing": { "table": "the registry has not answered" } }));

    readiness.set("table", Ok(()));
    assert_eq!(rig.get("/readyz").await.0, 200);
    readiness.set("draining", Err("shutting down".to_owned()));
    assert_eq!(rig.get("/readyz").await.0, 503);
    assert!(!readiness.is_ready());
}

#[tokio::test]
async fn the_log_is_switched_by_those_who_may() {
    let rig = rig().await;
    let change = r#"{"access":true,"level":"debug"}"#;
    assert_eq!(rig.call("PUT", "/log", "", change).await.0, 403);
    assert_eq!(rig.call("PUT", "/log", "x-pillion-admin: 1\r\norigin: http://evil\r\n", change).await.0, 403);
    assert!(!Access::enabled());
    let (status, body) = rig.call("PUT", "/log", "x-pillion-admin: 1\r\n", change).await;
    assert_eq!(status, 200, "{body}");
    assert!(Access::enabled());
    assert_eq!(rig.state.log.level(), "debug");
    assert_eq!(rig.call("POST", "/log", "x-pillion-admin: 1\r\n", r#"{"access":false}"#).await.0, 200);
    assert!(!Access::enabled());
    assert_eq!(rig.state.log.level(), "debug", "what is not named stays");

    for (body, status) in [
        (r#"{"level":"degub"}"#, 400),
        (r#"{"acess":true}"#, 400),
        ("access", 400),
        (&*" ".repeat(BODY_BYTES + 1), 413),
    ] {
        assert_eq!(rig.call("PUT", "/log", "x-pillion-admin: 1\r\n", body).await.0, status, "{body}");
    }
    assert_eq!(rig.state.log.level(), "debug");
}

#[tokio::test]
async fn with_a_token_only_the_token_counts() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("token");
    std::fs::write(&path, "s3cret\n").expect("write");
    let rig = rig_within(Some(path.clone()), HEAD_TIMEOUT, CONNECTION_TIMEOUT).await;
    let change = r#"{"access":true}"#;
    assert_eq!(rig.call("PUT", "/log", "x-pillion-admin: 1\r\n", change).await.0, 403);
    assert_eq!(rig.call("PUT", "/log", "x-pillion-token: wrong!\r\n", change).await.0, 403);
    assert_eq!(rig.call("PUT", "/log", "x-pillion-token: s3cret\r\n", change).await.0, 200);
    std::fs::write(&path, "another").expect("write");
    assert_eq!(rig.call("PUT", "/log", "x-pillion-token: s3cret\r\n", change).await.0, 403);
    assert_eq!(rig.call("PUT", "/log", "x-pillion-token: another\r\n", change).await.0, 200);
    std::fs::remove_file(&path).expect("remove");
    for header in ["x-pillion-token: another\r\n", "x-pillion-admin: 1\r\n"] {
        assert_eq!(rig.call("PUT", "/log", header, change).await.0, 403, "nobody may without the file");
    }
    Access::set(false);
}

#[tokio::test]
async fn foreign_hosts_and_oversized_heads_are_refused() {
    let rig = rig().await;
    let answer = rig.raw("GET /config HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(!answer.contains("workers"), "{answer}");
    let filler = "x".repeat(HEAD_BYTES + 1);
    let answer = rig.raw(&format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {filler}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let fields = "x: y\r\n".repeat(HEAD_FIELDS + 1);
    let answer = rig.raw(&format!("GET / HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn dribbling_and_idle_connections_are_closed_and_others_served() {
    const LONG: Duration = Duration::from_secs(600);
    let rig = rig_within(None, Duration::from_millis(20), LONG).await;
    closes(&rig, &["", "GET / HTTP/1.1\r\nhost: loc", "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"]).await;
    drop(rig);
    let rig = rig_within(None, LONG, Duration::from_millis(20)).await;
    closes(&rig, &["PUT /log HTTP/1.1\r\nhost: localhost\r\nx-pillion-admin: 1\r\ncontent-length: 9\r\n\r\n{"]).await;
}

/// Connections that begin like this and then say nothing are closed from the other side.
async fn closes(rig: &Rig, begins: &[&str]) {
    let mut slow = Vec::new();
    for begin in begins {
        let mut stream = TcpStream::connect(rig.address).await.expect("connect");
        stream.write_all(begin.as_bytes()).await.expect("send");
        slow.push(stream);
    }
    for mut stream in slow {
        let mut rest = Vec::new();
        // A reset is as good an end as an orderly one.
        let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.expect("closed in time");
    }
}

#[tokio::test]
async fn connections_have_a_cap() {
    let rig = rig().await;
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(rig.address).await.expect("connect");
        // Its answer shows that it was accepted and holds its place.
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("send");
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await.expect("answer");
        held.push(stream);
    }
    let mut over = TcpStream::connect(rig.address).await.expect("connect");
    let mut nothing = Vec::new();
    over.read_to_end(&mut nothing).await.ok();
    assert!(nothing.is_empty());
    assert_eq!(rig.state.metrics.connection_refused("admin").get(), 1);
}

#[test]
fn tokens_are_read_from_one_line() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("token");
    for (text, token) in [("s3cret\n", Some("s3cret")), ("", None), ("two words", None), ("é", None)] {
        std::fs::write(&path, text).expect("write");
        assert_eq!(read_token(&path).ok().as_deref(), token, "{text:?}");
    }
    assert!(read_token(&dir.path().join("absent")).expect_err("absent").contains("absent"));
}
