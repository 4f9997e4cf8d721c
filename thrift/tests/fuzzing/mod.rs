//! What the fuzz target runs, here so that the seeds replay as an ordinary test.
#![allow(unreachable_pub, reason = "each binary uses its own part")]

use thrift::{HEAD_BYTES, Head, MessageType, Refusal};

/// One message's head: the same however much of it is here, decided within [`HEAD_BYTES`], and once written the same again.
pub fn heads(data: &[u8]) {
    let whole = Head::read(data);
    if thrift::exception_type(data).is_some() {
        assert!(matches!(&whole, Ok(Some(head)) if head.message_type == MessageType::Exception));
    }
    for cut in 0..data.len() {
        match Head::read(&data[..cut]) {
            Ok(None) => assert!(cut < HEAD_BYTES, "{cut} bytes were not enough"),
            decided => assert_eq!(decided, whole, "after {cut} bytes"),
        }
    }
    if let Some(prefix) = data.first_chunk() {
        match thrift::frame_length(*prefix) {
            Ok(length) => assert_eq!(&thrift::prefix(length), prefix),
            Err(refusal) => assert!(!matches!(refusal, Refusal::UnknownProtocol(_)), "{refusal}"),
        }
    }
    match whole {
        Ok(Some(head)) => {
            let mut written = Vec::new();
            head.write(&mut written);
            assert_eq!(Head::read(&written), Ok(Some(head)));
        }
        Ok(None) => {}
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}
