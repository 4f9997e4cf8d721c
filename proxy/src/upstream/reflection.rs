//! Server reflection (grpc/doc/server-reflection.md): the app is asked for the descriptors of its services.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::HeaderMap;
use prost::Message;
use tokio::task::{JoinHandle, spawn_local};
use transcode::frame::{self, Frames};
use transcode::limits::SCHEMA_BYTES;
use transcode::status::Status;

use crate::config::AppAddress;
use crate::upstream::own_call;

/// The versions of the service, which do not differ in their messages; the newest first.
const METHODS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// Files and services of one app.
const FILES: usize = 4096;
/// The gRPC status of a server without such a service.
const UNIMPLEMENTED: i32 = 12;

/// `ServerReflectionRequest`.
#[derive(Clone, PartialEq, Message)]
struct Question {
    #[prost(oneof = "Asked", tags = "3, 4, 7")]
    asked: Option<Asked>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Asked {
    #[prost(string, tag = "3")]
    FileByName(String),
    #[prost(string, tag = "4")]
    FileWithSymbol(String),
    #[prost(string, tag = "7")]
    Services(String),
}

/// `ServerReflectionResponse`.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(oneof = "Answered", tags = "4, 6, 7")]
    answered: Option<Answered>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Answered {
    /// Of `FileDescriptorResponse`: serialized `FileDescriptorProto`s, the one asked for and what it imports, or some of that.
    #[prost(message, tag = "4")]
    Files(FileList),
    #[prost(message, tag = "6")]
    Services(ServiceList),
    #[prost(message, tag = "7")]
    Error(ErrorResponse),
}

/// `FileDescriptorResponse`, which is laid out as `FileDescriptorSet` is.
#[derive(Clone, PartialEq, Message)]
struct FileList {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

/// `ListServiceResponse`.
#[derive(Clone, PartialEq, Message)]
struct ServiceList {
    #[prost(message, repeated, tag = "1")]
    service: Vec<ServiceName>,
}

/// `ServiceResponse`.
#[derive(Clone, PartialEq, Message)]
struct ServiceName {
    #[prost(string, tag = "1")]
    name: String,
}

/// `ErrorResponse`.
#[derive(Clone, PartialEq, Message)]
struct ErrorResponse {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

/// Of `google.protobuf.FileDescriptorProto`, what has to be known here.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "3")]
    dependency: Vec<String>,
}

/// What an app answered.
#[derive(Debug)]
pub struct Reflected {
    /// A serialized `google.protobuf.FileDescriptorSet`.
    pub set: Vec<u8>,
    connection: Connection,
}

/// The connection that was asked on. It stays open: its end tells that the app is gone.
#[derive(Debug)]
struct Connection {
    _sender: SendRequest<Bytes>,
    driver: JoinHandle<()>,
}

impl Reflected {
    /// Resolves when the app has closed the connection: what it says next may be something else.
    pub async fn gone(self) {
        let Connection { _sender, driver } = self.connection;
        // It ends by itself, however the connection does.
        let _ = driver.await;
    }
}

/// Why the app told nothing.
enum Failure {
    /// It has no such service.
    Unimplemented,
    Other(String),
}

impl<E: std::fmt::Display> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Other(error.to_string())
    }
}

/// Asks the app for the descriptors of all its services, within `limit`. The error is a sentence.
pub async fn ask(app: &AppAddress, limit: Duration) -> Result<Reflected, String> {
    match tokio::time::timeout(limit, ask_all(app)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer to server reflection within {limit:?}")),
    }
}

async fn ask_all(app: &AppAddress) -> Result<Reflected, String> {
    let (sender, connection) = own_call::connect(app).await.map_err(|error| error.to_string())?;
    let driver = spawn_local(async move {
        let ended = connection.await;
        tracing::debug!(?ended, "the connection that the app's methods were asked for on ended");
    });
    let connection = Connection { _sender: sender.clone(), driver };
    for method in METHODS {
        match Dialogue::begin(app, sender.clone(), method).await {
            Ok(mut dialogue) => match dialogue.files().await {
                Ok(set) => return Ok(Reflected { set, connection }),
                Err(Failure::Unimplemented) => {}
                Err(Failure::Other(error)) => return Err(format!("server reflection: {error}")),
            },
            Err(error) => return Err(format!("server reflection: {error}")),
        }
    }
    Err("it has no server reflection (grpc.reflection.v1 or v1alpha): turn it on, or give a file of descriptors"
        .to_owned())
}

/// Questions and answers on one stream.
struct Dialogue {
    questions: SendStream<Bytes>,
    /// It comes with the first answer.
    awaited: Option<h2::client::ResponseFuture>,
    answers: Option<RecvStream>,
    frames: Frames,
}

impl Dialogue {
    async fn begin(app: &AppAddress, sender: SendRequest<Bytes>, method: &str) -> Result<Dialogue, h2::Error> {
        let (answer, questions) = sender.ready().await?.send_request(own_call::request(app, method), false)?;
        Ok(Dialogue { questions, awaited: Some(answer), answers: None, frames: Frames::new(SCHEMA_BYTES) })
    }

    /// All files of all services, and all that they import.
    async fn files(&mut self) -> Result<Vec<u8>, Failure> {
        let services = match self.ask(Asked::Services(String::new())).await? {
            Answered::Services(services) => services.service,
            other => return Err(Failure::from(format_args!("asked for its services it answered {other:?}"))),
        };
        let mut gathered = Gathered::default();
        for ServiceName { name } in services.into_iter().take(FILES) {
            match self.ask(Asked::FileWithSymbol(name.clone())).await? {
                Answered::Files(files) => gathered.add(files)?,
                // Some list services that they know no more of, such as reflection itself.
                other => {
                    tracing::info!(service = name, answer = ?other, "the app lists a service and has no descriptors of it");
                }
            }
        }
        while let Some(import) = gathered.missing() {
            match self.ask(Asked::FileByName(import.clone())).await? {
                Answered::Files(files) => gathered.add(files)?,
                other => return Err(Failure::from(format_args!("asked for {import} it answered {other:?}"))),
            }
            if !gathered.files.contains_key(&import) {
                return Err(Failure::from(format_args!("asked for {import} it answered with other files")));
            }
        }
        let _ = self.questions.send_data(Bytes::new(), true);
        Ok(FileList { file: gathered.files.into_values().map(|(_, bytes)| bytes).collect() }.encode_to_vec())
    }

    async fn ask(&mut self, asked: Asked) -> Result<Answered, Failure> {
        let question = Question { asked: Some(asked) };
        self.questions.send_data(frame::encode(&question.encode_to_vec()), false)?;
        let mut answers = match self.answers.take() {
            Some(answers) => answers,
            None => {
                let Some(answer) = self.awaited.take() else { return Err(Failure::from("it ended")) };
                let (head, answers) = answer.await?.into_parts();
                check_status(&head.headers)?;
                if head.status != 200 {
                    return Err(Failure::from(format_args!("status {}", head.status)));
                }
                answers
            }
        };
        loop {
            if let Some(message) = self.frames.take()? {
                self.answers = Some(answers);
                return Answer::decode(message)?.answered.ok_or_else(|| Failure::from("an answer without content"));
            }
            match answers.data().await {
                Some(data) => {
                    let data = data?;
                    self.frames.push(&data);
                    answers.flow_control().release_capacity(data.len())?;
                }
                None => {
                    check_status(&answers.trailers().await?.unwrap_or_default())?;
                    return Err(Failure::from("it ended before it answered"));
                }
            }
        }
    }
}

/// Whether fields tell of an error.
fn check_status(fields: &HeaderMap) -> Result<(), Failure> {
    let field = |name| fields.get(name).map(http::HeaderValue::as_bytes);
    let Some(code) = field("grpc-status") else { return Ok(()) };
    match Status::of_fields(code, field("grpc-message"), None) {
        Status { code: 0, .. } => Ok(()),
        Status { code: UNIMPLEMENTED, .. } => Err(Failure::Unimplemented),
        Status { code, message, .. } => Err(Failure::from(format_args!("status {code}: {message}"))),
    }
}

/// Files by their names.
#[derive(Default)]
struct Gathered {
    files: BTreeMap<String, (Vec<String>, Vec<u8>)>,
    bytes: usize,
}

impl Gathered {
    fn add(&mut self, list: FileList) -> Result<(), Failure> {
        for bytes in list.file {
            let File { name, dependency } = File::decode(&bytes[..])?;
            if self.files.contains_key(&name) {
                continue;
            }
            self.bytes += bytes.len();
            self.files.insert(name, (dependency, bytes));
            if self.files.len() > FILES || self.bytes > SCHEMA_BYTES {
                return Err(Failure::from(format_args!("more than {FILES} files or {SCHEMA_BYTES} bytes")));
            }
        }
        Ok(())
    }

    /// A file that one imports and that is not here.
    fn missing(&self) -> Option<String> {
        let imports = self.files.values().flat_map(|(imports, _)| imports);
        imports.into_iter().find(|import| !self.files.contains_key(*import)).cloned()
    }
}
