//! Heads and exceptions against what Thrift's own library for Python (PyPI, 0.25.0) writes, and in any pieces.

mod fuzzing;

use proptest::prelude::*;
use thrift::{ExceptionType, Head, MessageType, NAME_BYTES, Protocol, Refusal, exception, exception_type};

/// Written with `TBinaryProtocol` and `TCompactProtocol`: `writeMessageBegin(name, type, sequence)`.
const VECTORS: [(&str, Protocol, MessageType, &str, i32); 8] = [
    ("800100010000000361646400000000", Protocol::Binary, MessageType::Call, "add", 0),
    (
        "800100040000000e43616c63756c61746f723a6164647fffffff",
        Protocol::Binary,
        MessageType::Oneway,
        "Calculator:add",
        i32::MAX,
    ),
    ("80010002000000037a6970ffffffff", Protocol::Binary, MessageType::Reply, "zip", -1),
    ("80010003000000076772c3bcc39f650000012c", Protocol::Binary, MessageType::Exception, "gr\u{fc}\u{df}e", 300),
    ("82210003616464", Protocol::Compact, MessageType::Call, "add", 0),
    (
        "8281ffffffff070e43616c63756c61746f723a616464",
        Protocol::Compact,
        MessageType::Oneway,
        "Calculator:add",
        i32::MAX,
    ),
    ("8241ffffffff0f037a6970", Protocol::Compact, MessageType::Reply, "zip", -1),
    ("8261ac02076772c3bcc39f65", Protocol::Compact, MessageType::Exception, "gr\u{fc}\u{df}e", 300),
];

/// `TApplicationException(6, "no")` as the answer to a call of `add` with the number 7.
const EXCEPTIONS: [(&str, Protocol); 2] = [
    ("8001000300000003616464000000070b0001000000026e6f0800020000000600", Protocol::Binary),
    ("8261070361646418026e6f150c00", Protocol::Compact),
];

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

#[test]
fn heads_are_read_and_written_as_thrifts_own_library_does() {
    for (hex, protocol, message_type, name, sequence) in VECTORS {
        let head = Head { protocol, message_type, name: name.to_owned(), sequence };
        let mut written = Vec::new();
        head.write(&mut written);
        assert_eq!(written, bytes(hex), "{head:?}");
        // What follows a head is not of it.
        assert_eq!(Head::read(&[&written[..], &[0xff; 3]].concat()), Ok(Some(head)));
        fuzzing::heads(&written);
    }
}

#[test]
fn exceptions_are_written_as_thrifts_own_library_does() {
    for (hex, protocol) in EXCEPTIONS {
        let call = Head { protocol, message_type: MessageType::Call, name: "add".to_owned(), sequence: 7 };
        assert_eq!(exception(&call, ExceptionType::InternalError, "no"), bytes(hex), "{protocol:?}");
        assert_eq!(exception_type(&bytes(hex)), Some(ExceptionType::InternalError as i32), "{protocol:?}");
    }
}

#[test]
fn what_kind_an_exception_is_is_read_wherever_it_says_so() {
    let head = ["80010003000000016100000000", "826100 0161"].map(|hex| hex.replace(' ', ""));
    for (protocol, fields, want) in [
        // In the other order, with another number, with numbers of fields in full, and negative.
        (0, "08000200000001 0b00010000000161 00", Some(1)),
        (0, "0800010000000908000200000003 00", Some(3)),
        (0, "080002ffffffff00", Some(-1)),
        (1, "25020a0200", Some(1)),
        (1, "0804016105040200", Some(1)),
        (1, "250100", Some(-1)),
        // None, none yet, another kind of field, and a length beyond the end.
        (0, "00", None),
        (0, "0b0001000000016108", None),
        (0, "0c0001", None),
        (0, "0b0001ffffffff00", None),
        (1, "00", None),
        (1, "1c", None),
        (1, "18ffffffff0f", None),
    ] {
        let message = bytes(&format!("{}{}", head[protocol], fields.replace(' ', "")));
        assert_eq!(exception_type(&message), want, "{fields}");
    }
    assert_eq!(exception_type(&bytes(VECTORS[0].0)), None, "a call");
}

#[test]
fn what_is_no_head_is_refused_by_its_name() {
    let long = u32::try_from(NAME_BYTES + 1).unwrap();
    let binary = |length: u32| [&[0x80, 1, 0, 1][..], &length.to_be_bytes()].concat();
    for (message, refusal) in [
        // Not strict: the length of the name comes first.
        (bytes("0000000361646401"), Refusal::UnknownProtocol(0)),
        // JSON, and Thrift's own header transport.
        (b"[1,\"add\",1,0,{}]".to_vec(), Refusal::UnknownProtocol(b'[')),
        (bytes("0fff0000"), Refusal::UnknownProtocol(0x0f)),
        (bytes("8002"), Refusal::UnknownVersion(2)),
        (bytes("8222"), Refusal::UnknownVersion(2)),
        (bytes("80010000"), Refusal::UnknownType(0)),
        (bytes("80010009"), Refusal::UnknownType(9)),
        (bytes("82e1"), Refusal::UnknownType(7)),
        (binary(0), Refusal::BadName),
        (binary(long), Refusal::NameTooLong(long)),
        (binary(u32::MAX), Refusal::NameTooLong(u32::MAX)),
        ([&binary(2)[..], &[0xc3, 0x28]].concat(), Refusal::BadName),
        (bytes("8221ffffffff10"), Refusal::NumberTooLong),
        (bytes("8221808080808000"), Refusal::NumberTooLong),
        (bytes("822100ffffffff0f"), Refusal::NameTooLong(u32::MAX)),
    ] {
        assert_eq!(Head::read(&message), Err(refusal), "{message:02x?}");
        fuzzing::heads(&message);
    }
}

#[test]
fn the_longest_name_is_read_in_both_protocols() {
    for protocol in [Protocol::Binary, Protocol::Compact] {
        let name = "n".repeat(NAME_BYTES);
        let head = Head { protocol, message_type: MessageType::Call, name, sequence: -1 };
        let mut written = Vec::new();
        head.write(&mut written);
        assert!(written.len() <= thrift::HEAD_BYTES, "{}", written.len());
        assert_eq!(Head::read(&written), Ok(Some(head)));
    }
}

#[test]
fn a_media_type_is_that_of_one_protocol() {
    for protocol in [Protocol::Binary, Protocol::Compact] {
        assert_eq!(Protocol::of_content_type(protocol.content_type().as_bytes()), Some(protocol));
    }
    assert_eq!(Protocol::of_content_type(b"application/x-thrift"), None);
}

fn any_head() -> impl Strategy<Value = Head> {
    let protocol = prop_oneof![Just(Protocol::Binary), Just(Protocol::Compact)];
    let message_type = prop_oneof![
        Just(MessageType::Call),
        Just(MessageType::Reply),
        Just(MessageType::Exception),
        Just(MessageType::Oneway)
    ];
    (protocol, message_type, ".{1,200}", any::<i32>()).prop_map(|(protocol, message_type, name, sequence)| Head {
        protocol,
        message_type,
        name,
        sequence,
    })
}

proptest! {
    #[test]
    fn every_head_reads_back_however_it_arrives(head in any_head(), behind in proptest::collection::vec(any::<u8>(), 0..20)) {
        let mut written = Vec::new();
        head.write(&mut written);
        let length = written.len();
        written.extend_from_slice(&behind);
        fuzzing::heads(&written);
        prop_assert_eq!(Head::read(&written[..length - 1]), Ok(None));
        prop_assert_eq!(Head::read(&written), Ok(Some(head)));
    }

    #[test]
    fn no_bytes_are_read_in_two_ways(start in prop_oneof![Just(&[0x80, 1][..]), Just(&[0x82][..]), Just(&[][..])],
                                     rest in proptest::collection::vec(any::<u8>(), 0..40)) {
        fuzzing::heads(&[start, &rest].concat());
    }
}
