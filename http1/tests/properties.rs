//! Properties: how the bytes arrive does not matter, and what is written is read as it was meant.

mod corpus;
mod fuzzing;
mod generate;

use bytes::Bytes;
use fuzzing::common::{Side, gather, read};
use generate::{body, fields, lower, nearly, request};
use http1::{Framing, HeadScan, Outgoing, Refusal, encode};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_split_gives_the_same_messages_and_the_same_refusal(
        bytes in nearly(),
        cuts in prop::collection::vec(1..60_usize, 1..8),
    ) {
        for side in [Side::Requests, Side::Responses(&[]), Side::Responses(&["HEAD", "GET", "HEAD"])] {
            let whole = read(side, &bytes, &[usize::MAX]);
            prop_assert_eq!(&read(side, &bytes, &cuts), &whole);
            prop_assert_eq!(&read(side, &bytes, &[1]), &whole);
        }
    }

    #[test]
    fn what_is_passed_on_is_read_as_the_same_and_nothing_else(bytes in nearly()) {
        fuzzing::written_anew(&read(Side::Requests, &bytes, &[usize::MAX]));
    }

    #[test]
    fn requests_are_read_as_they_were_written(
        requests in prop::collection::vec(request(), 1..5),
        cuts in prop::collection::vec(1..600_usize, 1..8),
    ) {
        let mut bytes = Vec::new();
        requests.iter().for_each(|request| request.write(&mut bytes));
        let reading = read(Side::Requests, &bytes, &cuts);
        prop_assert_eq!(reading.messages.len(), requests.len(), "{:?}", reading.end);
        for (came, went) in reading.messages.iter().zip(&requests) {
            prop_assert_eq!(&came.start, &format!("{} {}", went.method, went.target));
            prop_assert_eq!(&came.body, &went.pieces.concat());
            prop_assert_eq!(&came.trailers, &lower(&went.trailers));
            let framing = usize::from(went.framing != Framing::None);
            prop_assert_eq!(&came.fields[1..came.fields.len() - framing], &lower(&went.fields)[..]);
        }
    }

    #[test]
    fn responses_are_read_as_they_were_written(
        status in prop_oneof![200..204_u16, 205..304_u16, 305..=999_u16],
        reason in "[ -~\t]{0,20}",
        fields in fields(),
        (framing, pieces) in body(),
        cut in 1..600_usize,
    ) {
        let framing = if framing == Framing::None { Framing::UntilClose } else { framing };
        let mut bytes = Vec::new();
        encode::status_line(&mut bytes, status, &reason).unwrap();
        for (name, value) in &fields {
            encode::field(&mut bytes, name.as_bytes(), value).unwrap();
        }
        encode::end_of_head(&mut bytes, framing);
        let mut outgoing = Outgoing::new(framing);
        for piece in &pieces {
            outgoing.data(Bytes::copy_from_slice(piece), gather(&mut bytes)).unwrap();
        }
        outgoing.end([], gather(&mut bytes)).unwrap();
        let reading = read(Side::Responses(&[]), &bytes, &[cut]);
        let [message] = &reading.messages[..] else { panic!("{reading:?}") };
        prop_assert!(message.is_whole);
        prop_assert_eq!(&message.start, &status.to_string());
        prop_assert_eq!(&message.body, &pieces.concat());
        prop_assert!(message.fields.starts_with(&lower(&fields)));
    }

    /// Whatever the bytes: one field is written, or none.
    #[test]
    fn a_written_field_is_one_field(
        name in prop_oneof![any::<Vec<u8>>(), "[!-~]{1,6}".prop_map(String::into_bytes)],
        value in prop_oneof![any::<Vec<u8>>(), "[ -~\r\n]{0,9}".prop_map(String::into_bytes)],
    ) {
        let mut out = b"HTTP/1.1 299 \r\n".to_vec();
        let before = out.len();
        if encode::field(&mut out, &name, &value).is_err() {
            prop_assert_eq!(out.len(), before);
            return Ok(());
        }
        encode::end_of_head(&mut out, Framing::None);
        let scanned = HeadScan::for_responses().find(&out, usize::MAX).unwrap().unwrap();
        prop_assert_eq!((scanned.range, scanned.fields), (0..out.len(), 1));
        http1::response(&out, 1, true, |head| {
            assert_eq!(head.fields[0].name.as_bytes(), name);
            assert_eq!(head.fields[0].value, trim(&value));
        }).unwrap();
    }

    /// Whatever the bytes: one first line is written, or none.
    #[test]
    fn a_written_first_line_is_one_line(
        method in prop_oneof![any::<Vec<u8>>(), "[!-~ ]{0,6}".prop_map(String::into_bytes)],
        target in prop_oneof![any::<Vec<u8>>(), "/[ -~\r\n]{0,9}".prop_map(String::into_bytes)],
        status in any::<u16>(),
        reason in any::<String>(),
    ) {
        let mut out = Vec::new();
        if encode::request_line(&mut out, &method, &target).is_ok() {
            prop_assert_eq!(out, [&method[..], b" ", &target, b" HTTP/1.1\r\n"].concat());
            prop_assert!(!method.iter().chain(&target).any(|byte| byte.is_ascii_control() || *byte == b' '));
        } else {
            prop_assert!(out.is_empty());
        }
        let mut out = Vec::new();
        if encode::status_line(&mut out, status, &reason).is_ok() {
            prop_assert_eq!(out, format!("HTTP/1.1 {status} {reason}\r\n").into_bytes());
            prop_assert!(!reason.contains(['\r', '\n', '\0']));
        } else {
            prop_assert!(out.is_empty());
        }
    }

    /// A body is what was announced, or its writer is told; nothing passes behind its end.
    #[test]
    fn a_body_is_as_long_as_it_was_announced(
        announced in 0..400_u64,
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..5),
    ) {
        let mut out = Vec::new();
        let mut outgoing = Outgoing::new(Framing::Length(announced));
        for piece in pieces {
            let would = (out.len() + piece.len()) as u64;
            let before = out.len();
            let is_taken = outgoing.data(Bytes::from(piece), gather(&mut out)).is_ok();
            prop_assert_eq!(is_taken, would <= announced);
            prop_assert!(is_taken || out.len() == before);
            prop_assert_eq!(outgoing.is_complete(), out.len() as u64 == announced);
        }
        let is_whole = out.len() as u64 == announced;
        prop_assert_eq!(outgoing.end([], gather(&mut out)).is_ok(), is_whole);
        if is_whole {
            prop_assert_eq!(outgoing.data(Bytes::from_static(b"x"), gather(&mut out)), Err(Refusal::Length));
        }
    }
}

/// As the parser trims: spaces and tabs alone.
fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

#[test]
fn an_empty_piece_does_not_end_chunks() {
    let mut out = Vec::new();
    let mut outgoing = Outgoing::new(Framing::Chunked);
    for piece in [&b"a"[..], b"", b"b"] {
        outgoing.data(Bytes::from_static(piece), gather(&mut out)).unwrap();
    }
    outgoing.end([], gather(&mut out)).unwrap();
    assert_eq!(out, b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n");
    // Behind the end: no second one, and no data.
    outgoing.end([], gather(&mut out)).unwrap();
    assert_eq!(outgoing.data(Bytes::from_static(b"c"), gather(&mut out)), Err(Refusal::Length));
    assert!(outgoing.is_complete());
    assert_eq!(out.len(), 17);
}
