//! Properties: what goes in comes out, however the bytes are cut.

mod common;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::*;
use proptest::prelude::*;
use wire::*;

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        // Few, so that they repeat, and static ones among them.
        prop::sample::select(vec![
            "accept",
            "x-a",
            "x-b",
            "content-type",
            "cookie",
            "x-request-id",
            "date",
            "user-agent"
        ])
        .prop_map(|name| name.as_bytes().to_vec()),
        "[a-z][a-z0-9-]{0,40}".prop_map(String::into_bytes),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec!["", "*/*", "gzip", "1", "application/json", "some value that repeats"])
            .prop_map(|value| value.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..200),
        (0..20_u8, 0..600_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn headers() -> impl Strategy<Value = Headers> {
    prop::collection::vec((name(), value(), prop::bool::weighted(0.1)), 0..24).prop_map(|fields| {
        let mut headers = Headers::new();
        for (name, value, sensitive) in fields {
            if sensitive {
                headers.push_sensitive(&name, &value);
            } else {
                headers.push(&name, &value);
            }
        }
        headers
    })
}

fn request_head() -> impl Strategy<Value = RequestHead> {
    let kind = prop::sample::select(vec![Kind::Http, Kind::Tcp, Kind::Rpc]);
    let trace = prop::option::of((any::<[u8; 16]>(), any::<[u8; 8]>(), any::<u8>()));
    let fixed =
        (kind, prop::option::of(any::<u64>()), any::<u8>(), any::<u8>(), trace, prop::option::of(any::<[u8; 16]>()));
    let names = ("[a-z]{0,8}", "(GET|POST|PURGE|)", "/[a-z]{0,2}|/[a-z0-9/]{0,200}");
    (fixed, names, headers()).prop_map(|(fixed, (service, method, path), headers)| {
        let (kind, timeout, attempt, priority, trace, call_id) = fixed;
        RequestHead {
            kind,
            timeout: timeout.map(Duration::from_micros),
            attempt,
            priority,
            trace: trace.map(|(trace_id, span_id, flags)| TraceContext { trace_id, span_id, flags }),
            call_id,
            service: service.into(),
            method: method.into(),
            path: path.into(),
            headers,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Heads, one after another over the same dictionaries, of any size down to none.
    #[test]
    fn heads_come_out_as_they_went_in(
        heads in prop::collection::vec((request_head(), headers(), any::<u16>()), 1..30),
        dictionary in prop::sample::select(vec![0, 100, 200, 500, 2_000, 8_192]),
        inline in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let small = Config { dictionary_bytes: dictionary, ..config() };
        let mut pair = Pair::with(config(), small);
        for (head, answer, status) in heads {
            let body = Bytes::from(inline.clone());
            pair.client.open(pair.now, &head, body.clone(), true, Token(1)).unwrap();
            pair.client_to_server();
            let id = match pair.server.poll_event() {
                Some(Event::Request { id, head: came, body: inline, end: true }) => {
                    prop_assert_eq!(came, head);
                    prop_assert_eq!(inline, &body);
                    id
                }
                other => panic!("{other:?}"),
            };
            let head = ResponseHead { status, headers: answer };
            pair.server.respond(id, &head, body, true).unwrap();
            pair.server_to_client();
            match pair.client.poll_event() {
                Some(Event::Response { head: came, .. }) => prop_assert_eq!(came, head),
                other => panic!("{other:?}"),
            }
        }
    }

    /// However the bytes of a whole conversation are cut, the same events come, and the same answers.
    #[test]
    fn any_split_of_the_input_gives_the_same_events(
        heads in prop::collection::vec((request_head(), 0..40_000_usize), 1..8),
        cuts in prop::collection::vec(1..20_000_usize, 1..40),
    ) {
        let mut pair = Pair::new();
        for (head, length) in &heads {
            pair.client.open(pair.now, head, Bytes::from(vec![5; *length]), true, Token(1)).unwrap();
        }
        let last = RequestId(heads.len() as u64);
        pair.client.cancel(last, Cancel::Overload);
        let mut bytes = Vec::new();
        while pair.client.poll_transmit(pair.now, &mut bytes, limits::FLUSH_BYTES) {}
        let whole = received(&bytes, &[bytes.len()], false);
        for slices in [false, true] {
            prop_assert_eq!(&received(&bytes, &cuts, slices), &whole);
            prop_assert_eq!(&received(&bytes, &[1], slices), &whole);
        }
    }

    /// Bytes that nobody meant: no panic, and the accounts stay in order.
    #[test]
    fn garbage_never_panics(
        garbage in prop::collection::vec(any::<u8>(), 0..400),
        kind in prop::sample::select(vec![1_u8, 2, 3, 4, 5, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0xf0]),
        flags in prop::sample::select(vec![0_u8, 1, 2, 0x80, 0x81]),
        id in 0..3_u64,
    ) {
        for client in [false, true] {
            let mut pair = Pair::new();
            pair.opened(false);
            let receiver = if client { &mut pair.client } else { &mut pair.server };
            let mut input = BytesMut::from(&raw_frame(kind, flags, id, &garbage)[..]);
            input.extend_from_slice(&garbage);
            receiver.handle_input(pair.now, &mut input);
            while receiver.poll_event().is_some() {}
            let _ = receiver.audit();
            let mut out = Vec::new();
            while receiver.poll_transmit(pair.now, &mut out, 1_000) {}
        }
    }

    /// A list of fields against the plain list that it stands for.
    #[test]
    fn headers_are_what_a_plain_list_would_be(
        operations in prop::collection::vec((0..5_u8, name(), value()), 0..40),
    ) {
        let mut headers = Headers::new();
        let mut plain: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for (operation, name, value) in operations {
            match operation {
                0 => {
                    let removed = plain.extract_if(.., |field| field.0 == name).count();
                    prop_assert_eq!(headers.remove(&name), removed);
                }
                1 => {
                    plain.retain(|field| field.0 != name);
                    plain.push((name.clone(), value.clone()));
                    headers.set(&name, &value);
                }
                2 => {
                    plain.retain(|field| field.1.len() < 100);
                    headers.retain(|header| header.value.len() < 100);
                }
                _ => {
                    plain.push((name.clone(), value.clone()));
                    headers.push(&name, &value);
                }
            }
            prop_assert_eq!(headers.len(), plain.len());
            prop_assert_eq!(headers.get(&name), plain.iter().find(|field| field.0 == name).map(|field| &field.1[..]));
            prop_assert_eq!(headers.get_all(&name).count(), plain.iter().filter(|field| field.0 == name).count());
            prop_assert_eq!(headers.text_bytes(), plain.iter().map(|field| field.0.len() + field.1.len()).sum::<usize>());
        }
        let listed: Vec<_> = headers.iter().map(|header| (header.name.to_vec(), header.value.to_vec())).collect();
        prop_assert_eq!(&listed, &plain);
        let shared: Vec<_> = headers.into_shared().map(|field| (field.name.to_vec(), field.value.to_vec())).collect();
        prop_assert_eq!(shared, plain);
    }
}

/// What a server makes of these bytes in pieces of these lengths: its events, DATA of one stream joined, and its accounts.
fn received(bytes: &[u8], cuts: &[usize], slices: bool) -> (String, Audit) {
    let mut pair = Pair::new();
    let mut input = BytesMut::new();
    let mut seen: Vec<String> = Vec::new();
    let mut cuts = cuts.iter().cycle();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (part, left) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
        rest = left;
        if slices {
            pair.server.handle_slice(pair.now, part);
        } else {
            input.extend_from_slice(part);
            pair.server.handle_input(pair.now, &mut input);
        }
    }
    assert!(input.is_empty());
    seen.extend(std::iter::from_fn(|| pair.server.poll_event()).map(|event| format!("{event:?}")));
    (seen.join("\n"), pair.server.audit())
}
