//! Messages of Thrift's, as a connection or the body of a call brings them.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use http1::Framing;
use thrift::{FRAME_BYTES, Head, Refusal};

use super::read_error::ReadError;
use super::receive::{Side, gather, with_first};
use super::socket::{Arrived, Socket};
use super::{Message as Framed, fields};
use crate::call::{Body, Part, next_part};
use crate::error::Error;

/// A message that has begun to arrive.
#[derive(Debug)]
pub struct Message {
    /// What it says of itself.
    pub head: Head,
    /// Of the whole message, without the frame's prefix. Bytes.
    pub length: usize,
    /// All of the message, its head included: it goes on as it came.
    pub body: Body,
}

/// Why there is no message.
#[derive(Debug)]
pub enum Unread {
    /// The connection broke, or ended within the frame's prefix.
    Broken(ReadError),
    /// What came is no message.
    Refused(Refusal),
    /// The message broke off.
    Cut(Error),
}

impl From<Refusal> for Unread {
    fn from(refusal: Refusal) -> Unread {
        Unread::Refused(refusal)
    }
}

impl From<ReadError> for Unread {
    fn from(error: ReadError) -> Unread {
        Unread::Broken(error)
    }
}

impl From<Error> for Unread {
    fn from(error: Error) -> Unread {
        Unread::Cut(error)
    }
}

/// The next message of a connection; `None`: it has ended. `arrived` is called when bytes of a message come.
pub async fn receive(socket: &Rc<Socket>, side: Side, mut arrived: impl FnMut()) -> Result<Option<Message>, Unread> {
    let length = match poll_fn(|cx| socket.poll_prefix(cx, &mut arrived)).await? {
        Arrived::Head(prefix) => thrift::frame_length(prefix)?,
        Arrived::Closed => return Ok(None),
    };
    socket.begin_body(Framing::Length(length as u64), 0);
    let body = gather(socket, side).await?;
    let (head, body) = begin(body).await?;
    Ok(Some(Message { head, length, body }))
}

/// Reads the head at the beginning of a body, which stays whole.
pub async fn begin(body: Body) -> Result<(Head, Body), Unread> {
    let mut source = match body {
        Body::Whole(bytes) => {
            let head = Head::read(&bytes)?.ok_or(Refusal::Truncated)?;
            return Ok((head, Body::Whole(bytes)));
        }
        Body::Stream(source) => source,
    };
    let mut first = Bytes::new();
    // Bounded: within `thrift::HEAD_BYTES` a head is whole or refused.
    loop {
        let Some(Part::Data(data)) = next_part(&mut source).await.transpose()? else {
            return Err(Refusal::Truncated.into());
        };
        first = if first.is_empty() { data } else { [first, data].concat().into() };
        if let Some(head) = Head::read(&first)? {
            return Ok((head, with_first(first, source)));
        }
    }
}

/// How long the message is that a call or an answer carries: what is here says it itself, what is on its way `headers` do. `None`: it is
/// none, or longer than may be.
pub fn length_of(body: &Body, headers: &wire::Headers) -> Option<usize> {
    let length = match body {
        Body::Whole(bytes) => bytes.len(),
        Body::Stream(_) => usize::try_from(fields::content_length(headers)?).ok()?,
    };
    (1..=FRAME_BYTES).contains(&length).then_some(length)
}

/// What goes before a message of `length` bytes on a connection, and how that is held to it.
pub fn frame(length: usize, body: Body) -> (Vec<u8>, Framed) {
    (thrift::prefix(length).to_vec(), (Framing::Length(length as u64), body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::testing::Parts;
    use crate::error::{ErrorCode, Phase};
    use std::collections::VecDeque;
    use thrift::{MessageType, Protocol};

    fn run<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test)
    }

    fn pieces(message: &[u8], size: usize) -> Vec<Result<Part, Error>> {
        message.chunks(size).map(|piece| Ok(Part::Data(Bytes::copy_from_slice(piece)))).collect()
    }

    async fn all(body: Body) -> Vec<u8> {
        let mut source = match body {
            Body::Whole(bytes) => return bytes.to_vec(),
            Body::Stream(source) => source,
        };
        let mut all = Vec::new();
        while let Some(part) = next_part(&mut source).await {
            if let Part::Data(data) = part.unwrap() {
                all.extend_from_slice(&data);
            }
        }
        all
    }

    #[test]
    fn a_head_is_read_in_any_pieces_and_the_message_stays_whole() {
        let head = Head {
            protocol: Protocol::Compact,
            message_type: MessageType::Call,
            name: "Calculator:add".to_owned(),
            sequence: -7,
        };
        let mut message = Vec::new();
        head.write(&mut message);
        message.extend_from_slice(&[0xab; 100]);
        run(async {
            let whole = begin(Body::Whole(message.clone().into())).await.unwrap();
            assert_eq!((whole.0, all(whole.1).await), (head.clone(), message.clone()));
            for size in 1..message.len() {
                let (read, body) = begin(Body::stream(Parts(pieces(&message, size).into()))).await.unwrap();
                assert_eq!((read, all(body).await), (head.clone(), message.clone()), "pieces of {size} bytes");
            }
        });
    }

    #[test]
    fn what_breaks_off_within_the_head_is_no_message() {
        let message = [0x82, 0x21, 0, 3, b'a'];
        run(async {
            let whole = begin(Body::Whole(Bytes::copy_from_slice(&message))).await;
            assert!(matches!(whole, Err(Unread::Refused(Refusal::Truncated))));
            let ended = begin(Body::stream(Parts(pieces(&message, 2).into()))).await;
            assert!(matches!(ended, Err(Unread::Refused(Refusal::Truncated))));
            let mut parts = pieces(&message, 2);
            parts.push(Err(Error::local(ErrorCode::RequestAborted, Phase::Body, "gone")));
            let cut = begin(Body::stream(Parts(parts.into()))).await;
            assert!(matches!(cut, Err(Unread::Cut(error)) if error.code() == ErrorCode::RequestAborted));
        });
    }

    #[test]
    fn a_length_is_that_of_the_body_or_announced() {
        let announced = |value: &str| {
            let mut headers = wire::Headers::new();
            headers.push(b"content-length", value.as_bytes());
            length_of(&Body::stream(Parts(VecDeque::new())), &headers)
        };
        assert_eq!(announced("9"), Some(9));
        for none in ["0", "16384001", "-1", "x"] {
            assert_eq!(announced(none), None, "{none}");
        }
        let headers = wire::Headers::new();
        assert_eq!(length_of(&Body::Whole(Bytes::from_static(b"abc")), &headers), Some(3));
        assert_eq!(length_of(&Body::EMPTY, &headers), None);
        assert_eq!(length_of(&Body::stream(Parts(VecDeque::new())), &headers), None);
    }
}
