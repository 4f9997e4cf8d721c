//! Apache Thrift: a service and its caller with Thrift's own library for Python, and messages by hand.

use crate::binaries::{python, root};
use crate::ports::Port;
use crate::process::run;
use crate::served::Served;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;
use thrift::{Head, MessageType, Protocol};

/// Both, for tests that go through each.
pub const PROTOCOLS: [Protocol; 2] = [Protocol::Binary, Protocol::Compact];
/// A struct without fields, in both protocols.
pub const NOTHING: &[u8] = &[0];

/// How long a scenario may take.
const SCENARIO_LIMIT: Duration = Duration::from_secs(90);

/// The service of `tests/src/thrift/bank.py`, on `TThreadedServer`.
#[must_use]
#[track_caller]
pub fn bank(protocol: Protocol, name: &str) -> Served {
    let port = Port::lease();
    let mut command = script();
    command.args(["serve", &port.number().to_string(), name_of(protocol), name]);
    Served::start(&format!("Thrift app {name}"), command, port)
}

/// What its caller prints when it goes through a scenario.
#[must_use]
#[track_caller]
pub fn scenario(target: SocketAddr, protocol: Protocol, name: &str) -> Vec<String> {
    let mut command = script();
    command.args(["call", &target.to_string(), name_of(protocol), name]);
    run(command, SCENARIO_LIMIT).success().lines().map(str::to_owned).collect()
}

fn script() -> Command {
    let mut command = python();
    command.arg(root().join("tests/src/thrift/bank.py"));
    command
}

fn name_of(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Binary => "binary",
        Protocol::Compact => "compact",
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub head: Head,
    /// What follows the head: arguments or result.
    pub fields: Vec<u8>,
}

impl Message {
    #[must_use]
    pub fn call(protocol: Protocol, method: &str, sequence: i32, fields: &[u8]) -> Message {
        let head = Head { protocol, message_type: MessageType::Call, name: method.to_owned(), sequence };
        Message { head, fields: fields.to_vec() }
    }

    #[must_use]
    pub fn of_type(mut self, message_type: MessageType) -> Message {
        self.head.message_type = message_type;
        self
    }

    /// The result that a server answers this call with.
    #[must_use]
    pub fn answer(&self, fields: &[u8]) -> Message {
        Message { head: self.head.clone(), fields: fields.to_vec() }.of_type(MessageType::Reply)
    }

    /// The text in an exception, with some bytes around it.
    #[must_use]
    #[track_caller]
    pub fn failure(&self) -> String {
        assert_eq!(self.head.message_type, MessageType::Exception, "{self:?}");
        String::from_utf8_lossy(&self.fields).into_owned()
    }

    /// As it goes over the wire.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut message = Vec::new();
        self.head.write(&mut message);
        message.extend_from_slice(&self.fields);
        [&thrift::prefix(message.len())[..], &message].concat()
    }

    pub fn write(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(&self.frame())
    }

    /// The next one on a connection; `None`: it ended in order.
    ///
    /// # Panics
    /// When what comes is no message.
    pub fn read(stream: &mut TcpStream) -> io::Result<Option<Message>> {
        let mut prefix = [0; thrift::PREFIX_BYTES];
        if stream.read(&mut prefix[..1])? == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut prefix[1..])?;
        let mut message = vec![0; thrift::frame_length(prefix).expect("a frame")];
        stream.read_exact(&mut message)?;
        let head = Head::read(&message).expect("a message").expect("a whole head");
        let mut written = Vec::new();
        head.write(&mut written);
        Ok(Some(Message { head, fields: message.split_off(written.len()) }))
    }
}

/// One call and its answer.
#[must_use]
#[track_caller]
pub fn ask(stream: &mut TcpStream, message: &Message) -> Message {
    message.write(stream).expect("it takes calls");
    Message::read(stream).expect("an answer").expect("an answer before the end")
}

/// Waits until the other side has closed, in order or by a reset; what it still says is read.
#[track_caller]
pub fn assert_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    if let Err(error) = stream.read_to_end(&mut rest) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    }
}
