//! The codec's corpus of smuggling (`http1/tests/corpus`), end to end: the app behind sees exactly the requests that the corpus
//! says, and after a refusal the connection is closed.

#[path = "../../http1/tests/common/mod.rs"]
mod common;
#[path = "../../http1/tests/corpus/mod.rs"]
mod corpus;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use common::{End, Reader, Side};
use corpus::Case;
use pillion_tests::prelude::*;
use pillion_tests::rawapp::RawApp;

/// A request's start and body.
type Seen = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// Reads as strictly as the codec does, so nothing that is malformed can reach it unseen.
fn serve(mut stream: TcpStream, seen: &Seen) {
    let mut reader = Reader::new(Side::Requests);
    let mut served = 0;
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        reader.handle_input(&buffer[..read]);
        for message in reader.whole().skip(served) {
            seen.lock().expect("no panic inside").push((message.start.clone(), message.body.clone()));
            served += 1;
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
        if let Some(End::Refused(refusal)) = reader.end() {
            seen.lock().expect("no panic inside").push((format!("malformed: {refusal}"), Vec::new()));
            return;
        }
    }
}

#[test]
fn the_app_sees_the_requests_of_the_corpus_and_no_other() {
    let seen = Seen::default();
    let app = RawApp::start({
        let seen = Arc::clone(&seen);
        move |stream| serve(stream, &seen)
    });
    let mesh = Mesh::on_files();
    let _payments = mesh.builder("payments").app(app.address()).start();
    let caller = mesh.caller("orders");
    first_call(&caller, "payments");
    // How long things may be is for the sidecar's own limits.
    let cases = corpus::cases(corpus::REQUESTS).into_iter().filter(|case| !case.end.contains("TooLong"));
    // To the codec it is no request; at this door HTTP/2 begins with it (http2_attacks.rs).
    let cases = cases.filter(|case| !case.bytes.starts_with(b"PRI "));
    let wrong: Vec<_> = cases.filter_map(|case| check(&case, caller.outbound(), &seen).err()).collect();
    assert!(wrong.is_empty(), "{} cases are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn check(case: &Case, door: SocketAddr, seen: &Seen) -> Result<(), String> {
    seen.lock().expect("no panic inside").clear();
    let mut want: Vec<_> = case.whole().map(|(start, body)| (start, body.to_vec())).collect();
    let mut conn = Conn::connect(door).expect("the door");
    let _ = conn.write(&case.bytes);
    if case.end == "idle" {
        // It is still in step: the next request is read as what it is.
        let _ = conn.write(b"GET /last HTTP/1.1\r\nHost: payments\r\nConnection: close\r\n\r\n");
        want.push(("GET /last".to_owned(), Vec::new()));
    }
    let said = if case.end == "incomplete" {
        within(Duration::from_secs(10), || seen.lock().expect("no panic inside").len() >= want.len());
        drop(conn);
        None
    } else if conn.closed_within(Duration::from_secs(10)) {
        Some(String::from_utf8_lossy(conn.pending()).into_owned())
    } else {
        return Err(format!("{}: the connection stays open", case.name));
    };
    // A target in absolute form may be passed on in either form.
    let plain = |(start, body): &(String, Vec<u8>)| (start.replace("http://payments", ""), body.clone());
    let [want, got] =
        [want, seen.lock().expect("no panic inside").clone()].map(|all| all.iter().map(plain).collect::<Vec<_>>());
    if got != want {
        return Err(format!("{}: the app saw {got:?} and not {want:?}; the caller got {said:?}", case.name));
    }
    let Some(said) = said else { return Ok(()) };
    let statuses: Vec<u16> = said
        .split("HTTP/1.1 ")
        .skip(1)
        .filter_map(|answer| answer.get(..3)?.parse().ok())
        .filter(|status| *status != 100)
        .collect();
    let mut expected = vec![200; want.len()];
    expected.extend(case.refused());
    if statuses == expected {
        Ok(())
    } else {
        Err(format!("{}: answered {statuses:?} and not {expected:?}", case.name))
    }
}
