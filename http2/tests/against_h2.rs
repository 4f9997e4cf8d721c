//! Against another implementation, the crate `h2`: as its server and as its client, whatever the bodies and however bytes are cut.

use std::collections::HashMap;

use bytes::Bytes;
use http2::{Config, Connection, Event, Request, Side};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use wire::{Header, Headers, Pieces};

const CALLS: usize = 40;

fn config(side: Side) -> Config {
    Config {
        side,
        stream_window: 70_000,
        connection_window: 200_000,
        frame_bytes: 16_384,
        list_bytes: 64_000,
        streams: 100,
    }
}

/// What goes to and fro in call `number`: its path, and bodies that differ.
fn path(number: usize) -> String {
    format!("/call/{number}?{}", "q".repeat(number * 37 % 200))
}

fn body(number: usize, is_answer: bool) -> Bytes {
    let length = [0, 1, 999, 5_000, 16_384, 70_001, 250_000][(number + usize::from(is_answer)) % 7];
    Bytes::from_iter((0..length).map(|at| (at * (number + 3)) as u8))
}

fn value(number: usize) -> String {
    format!("value {} of v{}", number % 5, "v".repeat(number % 60))
}

fn trailers(number: usize) -> Headers {
    let mut trailers = Headers::new();
    trailers.push(b"x-sum", value(number).as_bytes());
    trailers
}

/// Drives one end over a transport that takes and gives few bytes at a time, until `react` says that it is done.
async fn drive(
    mut connection: Connection,
    mut transport: DuplexStream,
    mut react: impl FnMut(&mut Connection, Option<Event>) -> bool,
) {
    let mut pieces = Pieces::default();
    let mut room = vec![0; 3_001];
    loop {
        while let Some(event) = connection.poll_event() {
            react(&mut connection, Some(event));
        }
        let is_done = react(&mut connection, None);
        pieces.clear();
        while connection.poll_transmit(&mut pieces, 10_000) {
            let bytes = pieces.slices().collect::<Vec<_>>().concat();
            pieces.clear();
            transport.write_all(&bytes).await.unwrap();
        }
        if is_done {
            return;
        }
        let count = transport.read(&mut room).await.unwrap();
        match count {
            0 => connection.handle_transport_closed(),
            count => connection.handle_slice(&room[..count]),
        }
        assert!(connection.closed().is_none(), "{:?}", connection.closed());
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let limited = async { tokio::time::timeout(std::time::Duration::from_secs(60), test).await.expect("no stall") };
    runtime.block_on(limited);
}

/// Sends a message's body, with trailers where the call's number is odd.
fn send(connection: &mut Connection, stream: u32, number: usize, is_answer: bool) {
    let has_trailers = number % 2 == 1;
    assert!(connection.send(stream, body(number, is_answer), !has_trailers));
    if has_trailers {
        assert!(connection.send_trailers(stream, trailers(number)));
    }
}

/// What came on a stream.
#[derive(Default)]
struct Got {
    number: usize,
    body: Vec<u8>,
    sum: Option<Vec<u8>>,
}

impl Got {
    fn check(&self, is_answer: bool) {
        let number = self.number;
        assert!(self.body == body(number, is_answer), "{number}: {} bytes", self.body.len());
        let sum = (number % 2 == 1).then(|| value(number).into_bytes());
        assert_eq!(self.sum, sum, "{number}");
    }
}

/// Takes in what comes of a body. Gives its stream, and whether that was all.
fn collect(connection: &mut Connection, got: &mut HashMap<u32, Got>, event: Event) -> (u32, bool) {
    match event {
        Event::Data { stream, data, is_end } => {
            got.get_mut(&stream).unwrap().body.extend_from_slice(&data);
            connection.release(stream, data.len());
            (stream, is_end)
        }
        Event::Trailers { stream, fields } => {
            got.get_mut(&stream).unwrap().sum = fields.get(b"x-sum").map(<[u8]>::to_vec);
            (stream, true)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn h2_calls_us() {
    run(async {
        let (ours, theirs) = tokio::io::duplex(5_000);
        let mut got: HashMap<u32, Got> = HashMap::new();
        let mut answered = 0;
        let serving = drive(Connection::new(config(Side::Server)), ours, move |server, event| {
            let (stream, is_end) = match event {
                None => return answered == CALLS && server.live_streams() == 0,
                Some(Event::Request { stream, head, is_end }) => {
                    let number: usize =
                        head.get(b"x-number").and_then(|text| std::str::from_utf8(text).ok()).unwrap().parse().unwrap();
                    assert_eq!((head.method(), head.path()), ("POST", Some(&path(number)[..])));
                    assert_eq!(head.get(b"x-value"), Some(value(number).as_bytes()));
                    assert!(head.fields().any(|field| field.name == b"x-secret" && field.sensitive));
                    got.insert(stream, Got { number, ..Got::default() });
                    (stream, is_end)
                }
                Some(event) => collect(server, &mut got, event),
            };
            if is_end {
                let Got { number, .. } = got[&stream];
                got[&stream].check(false);
                let mut fields = Headers::new();
                fields.push(b"x-value", value(number).as_bytes());
                fields.push_sensitive(b"x-secret", b"1");
                assert!(server.respond(stream, 201, fields.texts(), false));
                send(server, stream, number, true);
                answered += 1;
            }
            false
        });
        let calling = async {
            let (sender, connection) = h2::client::handshake(theirs).await.unwrap();
            let calls = (0..CALLS).map(|number| call(sender.clone(), number));
            let calls: Vec<_> = calls.collect();
            drop(sender);
            let all = async {
                for call in calls {
                    call.await;
                }
            };
            // It moves while it is polled, and ends when nobody calls.
            let (ended, ()) = tokio::join!(connection, all);
            ended.unwrap();
        };
        tokio::join!(serving, calling);
    });
}

async fn call(sender: h2::client::SendRequest<Bytes>, number: usize) {
    // It says so, and does not hear it.
    let mut secret = http::HeaderValue::from_static("1");
    secret.set_sensitive(true);
    let request = http::Request::post(format!("http://service{}", path(number)))
        .header("x-number", number)
        .header("x-value", value(number))
        .header("x-secret", secret)
        .body(())
        .unwrap();
    let (answer, mut stream) = sender.ready().await.unwrap().send_request(request, false).unwrap();
    let has_trailers = number % 2 == 1;
    stream.send_data(body(number, false), !has_trailers).unwrap();
    if has_trailers {
        stream.send_trailers(map(&trailers(number))).unwrap();
    }
    let (head, mut stream) = answer.await.unwrap().into_parts();
    assert_eq!((head.status.as_u16(), head.headers["x-value"].as_bytes()), (201, value(number).as_bytes()));
    read(&mut stream, number).await.check(true);
}

fn map(headers: &Headers) -> http::HeaderMap {
    let pair = |Header { name, value, .. }: Header<'_>| {
        (http::HeaderName::from_bytes(name).unwrap(), http::HeaderValue::from_bytes(value).unwrap())
    };
    headers.iter().map(pair).collect()
}

async fn read(stream: &mut h2::RecvStream, number: usize) -> Got {
    let mut got = Got { number, ..Got::default() };
    while let Some(data) = stream.data().await {
        let data = data.unwrap();
        got.body.extend_from_slice(&data);
        stream.flow_control().release_capacity(data.len()).unwrap();
    }
    got.sum = stream.trailers().await.unwrap().map(|trailers| trailers["x-sum"].as_bytes().to_vec());
    got
}

#[test]
fn we_call_h2() {
    run(async {
        let (ours, theirs) = tokio::io::duplex(5_000);
        let mut got: HashMap<u32, Got> = HashMap::new();
        let mut next = 0;
        let mut answered = 0;
        let calling = drive(Connection::new(config(Side::Client)), ours, move |client, event| {
            let (stream, is_end) = match event {
                None => {
                    // Some at a time, so that streams come and go.
                    while client.is_open() && next < CALLS && client.live_streams() < 7 {
                        let mut fields = Headers::new();
                        fields.push_number(b"x-number", next as u64);
                        fields.push(b"x-value", value(next).as_bytes());
                        fields.push_sensitive(b"x-secret", b"1");
                        let path = path(next);
                        let request = Request {
                            method: b"POST",
                            scheme: b"http",
                            authority: b"service",
                            path: path.as_bytes(),
                            protocol: None,
                        };
                        let stream = client.open(request, fields.texts(), false).unwrap();
                        got.insert(stream, Got { number: next, ..Got::default() });
                        send(client, stream, next, false);
                        next += 1;
                    }
                    return answered == CALLS;
                }
                Some(Event::Response { stream, head, is_end }) => {
                    let number = got[&stream].number;
                    assert_eq!((head.status, head.get(b"x-value")), (201, Some(value(number).as_bytes())));
                    (stream, is_end)
                }
                Some(event) => collect(client, &mut got, event),
            };
            if is_end {
                got[&stream].check(true);
                answered += 1;
            }
            false
        });
        let serving = async {
            let mut connection = h2::server::Builder::new().max_concurrent_streams(7).handshake(theirs).await.unwrap();
            let mut calls = tokio::task::JoinSet::new();
            while let Some(accepted) = connection.accept().await {
                let Ok((request, respond)) = accepted else { break };
                calls.spawn(answer(request, respond));
            }
            calls.join_all().await;
        };
        tokio::join!(calling, serving);
    });
}

async fn answer(request: http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let (head, mut stream) = request.into_parts();
    let number: usize = head.headers["x-number"].to_str().unwrap().parse().unwrap();
    assert_eq!((head.uri.path_and_query().unwrap().as_str(), head.uri.host()), (&path(number)[..], Some("service")));
    read(&mut stream, number).await.check(false);
    let head = http::Response::builder().status(201).header("x-value", value(number)).body(()).unwrap();
    let mut stream = respond.send_response(head, false).unwrap();
    let has_trailers = number % 2 == 1;
    stream.send_data(body(number, true), !has_trailers).unwrap();
    if has_trailers {
        stream.send_trailers(map(&trailers(number))).unwrap();
    }
}
