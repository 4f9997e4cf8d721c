//! The door for Apache Thrift, framed: each message is a call, to the service that the port is bound to.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use bytes::Bytes;
use http1::HeadScan;
use thrift::{ExceptionType, Head, MessageType};
use tokio::sync::{mpsc, oneshot};
use wire::{Headers, Kind, RequestHead};

use crate::call::{Body, Call, Reply};
use crate::config::Door;
use crate::dispatch::{self, Dispatcher};
use crate::edge::thrift::{Message, Unread, frame, length_of, receive};
use crate::edge::{Scratch, Sending, Side, Socket, Stream, fields};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::ingress::asked::{self, Asked};
use crate::ingress::caller::Caller;
use crate::ingress::crew::{Crew, Job};
use crate::ingress::kept::Kept;
use crate::ingress::listener::Permit;
use crate::ingress::patience::{Busy, Patience};
use crate::ingress::procedure;
use crate::metrics::{CallMetrics, Direction, Held, Metrics};
use crate::record::{Counted, Record};

/// Calls of one connection whose answers are not out. A caller that asks for more is not read until one is.
const PIPELINED: usize = 128;

/// What all connections to these doors share, on one worker.
#[derive(Debug)]
pub struct ThriftDoor {
    /// Carries the calls.
    pub dispatcher: Rc<Dispatcher>,
    /// Counted into.
    pub metrics: Arc<Metrics>,
    /// Watches over slow callers.
    pub patience: Rc<Patience>,
    /// Where sockets read.
    pub scratch: Scratch,
    /// Calls that never came to a known service.
    pub unrouted: CallMetrics,
    /// Calls under way from the own app, over all workers: the shutdown waits for them.
    pub calls: Arc<AtomicUsize>,
    /// The tasks that carry calls.
    pub crew: Rc<Crew<Carried>>,
}

/// A call on its way.
#[derive(Debug)]
pub struct Carried {
    door: Rc<ThriftDoor>,
    call: Call,
    record: Record,
    counted: Counted,
    answer: oneshot::Sender<Option<Answer>>,
    oneway: bool,
}

impl Job for Carried {
    async fn run(self) {
        let Carried { door, mut call, mut record, counted, mut answer, oneway } = self;
        if oneway {
            // Nobody waits for it, so it goes on though its caller may not.
            match door.dispatcher.call(&mut call, &mut record).await {
                Ok(reply) => {
                    record.answered(reply.head.status);
                    record.complete();
                }
                Err(error) => door.failed(&error, &mut record),
            }
            let _ = answer.send(None);
            return;
        }
        let result = tokio::select! {
            biased;
            // The caller is gone, and the call with it.
            () = answer.closed() => return,
            result = door.dispatcher.call(&mut call, &mut record) => result,
        };
        // Where that fails the caller has gone just now.
        let _ = answer.send(Some(Answer { result, record, counted }));
    }
}

/// What came of a call.
#[derive(Debug)]
struct Answer {
    result: Result<Reply, Error>,
    record: Record,
    counted: Counted,
}

/// A call whose turn to be answered comes.
#[derive(Debug)]
struct Pending {
    asked: Head,
    /// `None`: nothing answers it.
    answer: oneshot::Receiver<Option<Answer>>,
    _busy: Busy,
}

impl ThriftDoor {
    /// Serves one connection, on a task of its own.
    pub fn serve(self: Rc<Self>, stream: Stream, door: Arc<Door>, permit: Permit) {
        let watched = Rc::new(self.patience.watch());
        // A pool of connections is opened before it is used: until its first byte, one is idle.
        watched.rests();
        let socket = Rc::new(Socket::new(stream, HeadScan::default(), &self.scratch, &self.metrics.app_bytes));
        let connected = Held::new(&self.metrics.callers_connected);
        let caller = Caller::new(socket, Rc::clone(&watched), Some(Arc::clone(&door)), connected, permit);
        watched.spawn(async move { self.carry(&caller, &door).await });
    }

    async fn carry(self: &Rc<Self>, caller: &Caller, door: &Door) {
        let (pending, answered) = mpsc::channel(PIPELINED);
        let mut answering = pin!(self.answer(&caller.socket, answered));
        let read = tokio::select! {
            biased;
            // It takes no more answers: what is still under way ends with this task.
            _ = &mut answering => return,
            read = self.read(caller, door, pending) => read,
        };
        let (error, is_gone) = match read {
            // It is gone, and with it what it waits for.
            Ok(()) | Err(Unread::Broken(_)) => return,
            Err(Unread::Cut(error)) => (error, true),
            Err(Unread::Refused(refusal)) => (asked::bad(refusal.to_string()), false),
        };
        self.failed(&error, &mut Record::new(Direction::Outbound, &self.unrouted));
        tracing::info!(service = %door.service, %error, "a caller's connection is closed: it sends no framed Thrift");
        // Who is there still hears what comes of what it asked before.
        if !is_gone && answering.await {
            caller.socket.linger().await;
        }
    }

    /// Takes messages in, and makes a call of each at once. `Ok`: the caller has closed.
    async fn read(
        self: &Rc<Self>,
        Caller { socket, watched, .. }: &Caller,
        door: &Door,
        pending: mpsc::Sender<Pending>,
    ) -> Result<(), Unread> {
        loop {
            // While there is no room for its answer, no message is read, and the caller has to wait.
            let room = tokio::select! {
                biased;
                room = pending.reserve() => room.ok(),
                // It waits no more. Of what it has sent before, which is all here, a call ends as soon as it has begun; one that nobody
                // waits for runs.
                () = poll_fn(|cx| socket.poll_hangup(cx)) => None,
            };
            let Some(message) = receive(socket, Side::Caller, || watched.bytes_arrived()).await? else {
                return Ok(());
            };
            let arriving = watched.busy();
            let begun = self.begin(message, door, watched.busy());
            match room {
                Some(room) => room.send(begun),
                None => drop(begun),
            }
            poll_fn(|cx| socket.poll_message_over(cx)).await;
            // What is left of it nobody wants: its call has failed.
            while poll_fn(|cx| socket.poll_piece(cx)).await?.is_some() {}
            drop(arriving);
        }
    }

    /// Begins the call that a message is.
    fn begin(self: &Rc<Self>, Message { head: asked, length, body }: Message, door: &Door, busy: Busy) -> Pending {
        let mut record = Record::new(Direction::Outbound, &self.unrouted);
        let counted = Counted::new(&self.calls);
        let (answer, answered) = oneshot::channel();
        let oneway = asked.message_type == MessageType::Oneway;
        if oneway || asked.message_type == MessageType::Call {
            let call = call_of(&asked, door).into_call(body, Some(length as u64), &mut record);
            self.crew.run(Carried { door: Rc::clone(self), call, record, counted, answer, oneway });
        } else {
            let error = asked::bad(format!("an answer ({:?}) where a call should be", asked.message_type));
            // It is waited for: the other end is given back below.
            let _ = answer.send(Some(Answer { result: Err(error), record, counted }));
        }
        Pending { asked, answer: answered, _busy: busy }
    }

    /// Writes answers, in the order in which was asked: the clients of Thrift's libraries take the next message that comes for the answer to
    /// what they asked first, and fail if it has another number. `false`: the caller takes no more.
    async fn answer(&self, socket: &Socket, mut pending: mpsc::Receiver<Pending>) -> bool {
        while let Some(Pending { asked, answer, _busy }) = pending.recv().await {
            let Answer { result, mut record, counted } = match answer.await {
                Ok(Some(answer)) => answer,
                Ok(None) => continue,
                // The call's task ends without an answer only with the whole worker.
                Err(_) => return false,
            };
            let (length, body) = match result.and_then(|reply| Ok((length_of_answer(&reply)?, reply))) {
                Ok((length, Reply { head, body })) => {
                    record.answered(head.status);
                    (length, body)
                }
                Err(error) => {
                    self.failed(&error, &mut record);
                    let message = thrift::exception(&asked, exception_type(error.code()), &text_of(&error));
                    (message.len(), Body::Whole(message.into()))
                }
            };
            let (prefix, message) = frame(length, body);
            let mut sending = Sending::behind(prefix, message, Kept::new(record, false, counted));
            if poll_fn(|cx| sending.poll(socket, cx)).await.is_err() {
                // In the middle of an answer there is no other word for a failure.
                socket.reset();
                return false;
            }
        }
        true
    }

    /// Writes an error of ours down.
    fn failed(&self, error: &Error, record: &mut Record) {
        self.metrics.generated_error(error.code().as_str()).inc();
        record.failed(error, dispatch::outcome_of(error));
    }
}

/// The call that a message asks for.
fn call_of(asked: &Head, door: &Door) -> Asked {
    let mut headers = Headers::new();
    headers.push(b"content-type", asked.protocol.content_type().as_bytes());
    asked::push_request_id(&mut headers);
    let head = RequestHead {
        kind: Kind::Rpc,
        trace: Some(asked::new_trace()),
        service: Bytes::copy_from_slice(door.service.as_str().as_bytes()),
        method: Bytes::from_static(b"POST"),
        path: procedure::path_of(&asked.name).into(),
        headers,
        ..RequestHead::default()
    };
    Asked { head, version: door.version.clone(), deadline: None, tunnel: None, grpc: false, own: None }
}

/// How long the message is that a call was answered with.
fn length_of_answer(Reply { head, body }: &Reply) -> Result<usize, Error> {
    let length = length_of(body, &head.headers).filter(|_| fields::is_thrift(&head.headers));
    length.ok_or_else(|| {
        let detail = "the peer's sidecar answered with something other than a message of Thrift's";
        Error::new(ErrorCode::RemoteProtocol, Origin::Remote, Phase::Wait, Executed::Unknown, detail)
    })
}

fn exception_type(code: ErrorCode) -> ExceptionType {
    match code {
        ErrorCode::BadRequest => ExceptionType::InvalidMessageType,
        ErrorCode::AppBadResponse | ErrorCode::RemoteProtocol | ErrorCode::WrongProtocol => {
            ExceptionType::ProtocolError
        }
        _ => ExceptionType::InternalError,
    }
}

/// All that a caller may want to know, in the one field that there is for it.
fn text_of(error: &Error) -> String {
    let tried = match (error.endpoint(), error.tries()) {
        (Some(endpoint), (attempts, _)) => format!(" [endpoint {endpoint}, attempts {attempts}]"),
        (None, _) => String::new(),
    };
    format!("{error}{tried}; {}", error.code().hint())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::testing::Parts;
    use wire::ResponseHead;

    #[test]
    fn an_answer_that_is_no_message_is_told_from_one() {
        let reply = |content_type: &str, length: Option<&str>, body| {
            let mut headers = Headers::new();
            headers.push(b"content-type", content_type.as_bytes());
            if let Some(length) = length {
                headers.push(b"content-length", length.as_bytes());
            }
            let head = ResponseHead { status: 200, headers };
            length_of_answer(&Reply { head, body }).map_err(|error| error.code())
        };
        let wrong = Err(ErrorCode::RemoteProtocol);
        let thrift = "application/vnd.apache.thrift.compact";
        let streamed = || Body::stream(Parts([].into()));
        assert_eq!(reply(thrift, None, Body::Whole(Bytes::from_static(b"abc"))), Ok(3));
        assert_eq!(reply(thrift, Some("70000"), streamed()), Ok(70_000));
        assert_eq!(reply(thrift, None, streamed()), wrong);
        assert_eq!(reply(thrift, None, Body::EMPTY), wrong);
        assert_eq!(reply("text/html", None, Body::Whole(Bytes::from_static(b"abc"))), wrong);
    }

    #[test]
    fn a_callers_error_says_what_where_whether_it_ran_and_what_to_do() {
        let error = Error::new(ErrorCode::AppClosed, Origin::App, Phase::Wait, Executed::Unknown, "it closed").at(
            Some("10.0.0.1:4143".to_owned()),
            2,
            7,
        );
        let text = text_of(&error);
        for part in
            ["app-closed", "app, wait, executed: unknown", "it closed", "10.0.0.1:4143", "attempts 2", "see its log"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
