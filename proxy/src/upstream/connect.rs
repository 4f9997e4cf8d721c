//! Reaching another sidecar: TCP, TLS, HELLO, and the proof that it is the service called, before one byte of a request
//! is sent.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use wire::{CloseReason, Hello};

use crate::balance::EndpointState;
use crate::discovery::View;
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::metrics::{Held, Metrics};
use crate::tls::{self, HandshakeFailure, Tls, TlsErrorKind};
use crate::upstream::channel::{self, Channel, Shared};
use crate::upstream::transport::Transport;

/// Makes channels for one worker.
#[derive(Debug)]
pub struct Connector {
    /// `None`: `--insecure`.
    pub tls: Option<Arc<Tls>>,
    /// What we say of ourselves, and the limits.
    pub wire: wire::Config,
    /// `timeouts.connect`: TCP, TLS and HELLO together.
    pub timeout: Duration,
    /// The worker's buffers.
    pub shared: Rc<Shared>,
    /// Counted into.
    pub metrics: Arc<Metrics>,
    /// The table, for its revision.
    pub view: Arc<View>,
}

impl Connector {
    /// Connects to `endpoint`, and starts the channel's driver.
    pub async fn connect(self: &Rc<Self>, endpoint: &Arc<EndpointState>) -> Result<Rc<Channel>, Error> {
        let result = match tokio::time::timeout(self.timeout, self.establish(endpoint)).await {
            Ok(result) => result,
            Err(_) => Err(self.failed(
                endpoint,
                ErrorCode::ConnectFailed,
                "timeout",
                format!("no channel within {:?} (timeouts.connect)", self.timeout),
            )),
        };
        if let Err(error) = &result {
            tracing::debug!(endpoint = %endpoint.address(), %error, "connect");
        }
        result
    }

    /// The error of a channel that ended as soon as it was made.
    pub fn gone(&self, endpoint: &EndpointState) -> Error {
        self.failed(endpoint, ErrorCode::ConnectFailed, "drained", "the peer closes its channels".into())
    }

    async fn establish(self: &Rc<Self>, endpoint: &Arc<EndpointState>) -> Result<Rc<Channel>, Error> {
        let socket = TcpStream::connect(endpoint.address())
            .await
            .map_err(|error| self.failed(endpoint, ErrorCode::ConnectFailed, "connect", error.to_string()))?;
        // Frames are gathered before they are written: waiting for more in the kernel would only add delay.
        let _ = socket.set_nodelay(true);
        let transport = match &self.tls {
            None => Transport::plain(socket),
            Some(tls) => self.handshake(tls, socket, endpoint).await?,
        };
        let channel = Channel::new(wire::Side::Client, self.wire.clone(), self.view.revision());
        self.spawn_driver(&channel, transport, endpoint);
        // The driver outlives this future, which ends early when the time is up.
        let mut wanted = Wanted { channel: &channel, ready: false };
        let outcome = channel.ready().await;
        wanted.ready = outcome.is_ok();
        drop(wanted);
        match outcome {
            Ok(()) => Ok(channel),
            Err(CloseReason::WrongPeer(detail)) => {
                Err(self.failed(endpoint, ErrorCode::WrongPeer, "wrong-peer", detail))
            }
            Err(reason) => Err(match (&self.tls, channel.take_error()) {
                // In TLS 1.3 the server's verdict on our certificate comes after our side of the handshake is done.
                (Some(tls), Some(error)) => self.not_trusted(endpoint, tls.explain(&error)),
                _ => self.failed(endpoint, ErrorCode::ConnectFailed, "hello", reason.to_string()),
            }),
        }
    }

    async fn handshake(&self, tls: &Tls, socket: TcpStream, endpoint: &EndpointState) -> Result<Transport, Error> {
        let service = &endpoint.record.key.service;
        let connector = TlsConnector::from(tls.client_for(service));
        let stream = connector
            .connect(tls::server_name(), socket)
            .await
            .map_err(|error| self.not_trusted(endpoint, tls.explain(&error)))?;
        let (socket, connection) = stream.into_inner();
        // The verifier has proven the service; this adds the protocol, which rustls lets a peer leave out.
        tls::proven_peer(&connection)
            .map_err(|error| self.failed(endpoint, ErrorCode::WrongPeer, error.kind.as_str(), error.to_string()))?;
        Ok(Transport::tls(socket, connection.into()))
    }

    fn spawn_driver(self: &Rc<Self>, channel: &Rc<Channel>, transport: Transport, endpoint: &Arc<EndpointState>) {
        let (connector, channel, endpoint) = (Rc::clone(self), Rc::clone(channel), Arc::clone(endpoint));
        tokio::task::spawn_local(async move {
            let _open = Held::new(&connector.metrics.channels_open.outbound);
            connector.metrics.channels_opened.outbound.inc();
            let expected = Arc::clone(&endpoint);
            let on_hello = move |hello: &Hello| check_hello(hello, &expected);
            let shared = Rc::clone(&connector.shared);
            let reason = channel::drive(channel, transport, shared, on_hello, |incoming| {
                // The dialled side opens no calls; wire refuses such a frame before it comes here.
                drop(incoming);
            })
            .await;
            connector.metrics.channel_closed(reason.as_str()).inc();
            tracing::debug!(endpoint = %endpoint.address(), %reason, "channel closed");
        });
    }

    fn not_trusted(&self, endpoint: &EndpointState, failure: HandshakeFailure) -> Error {
        let code = match failure.kind {
            // The way there failed, or the peer did not like us; the rest is about what the peer has shown.
            TlsErrorKind::Closed | TlsErrorKind::Refused | TlsErrorKind::Other => ErrorCode::ConnectFailed,
            _ => ErrorCode::WrongPeer,
        };
        self.failed(endpoint, code, failure.kind.as_str(), failure.text)
    }

    fn failed(&self, endpoint: &EndpointState, code: ErrorCode, reason: &'static str, detail: String) -> Error {
        self.metrics.handshake_failed(reason).inc();
        Error::new(code, Origin::Local, Phase::Connect, Executed::No, format!("{}: {detail}", endpoint.address()))
    }
}

/// Closes a channel that nobody waits for any more before it is ready.
struct Wanted<'a> {
    channel: &'a Channel,
    ready: bool,
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        if !self.ready {
            self.channel.goodbye(CloseReason::Finished);
        }
    }
}

/// The peer must be what the record says. Another instance of the same service and version at the same address is
/// accepted: it has proven to be that service, and while the registry is away nobody could correct the record.
fn check_hello(hello: &Hello, endpoint: &EndpointState) -> Result<(), CloseReason> {
    let key = &endpoint.record.key;
    if hello.service != key.service.as_str() || hello.version != key.version.as_str() {
        return Err(CloseReason::WrongPeer(format!(
            "called {} {}, reached {} {}",
            key.service, key.version, hello.service, hello.version
        )));
    }
    if hello.instance != endpoint.record.instance.as_str() {
        tracing::debug!(endpoint = %key.address, instance = hello.instance, "another instance answers at this address");
    }
    Ok(())
}
