//! Strangers on the hop between sidecars: TLS clients and servers that are not `pillion`.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig};
use rustls::{ServerConnection, SignatureScheme, StreamOwned};
use rustls_pki_types::pem::PemObject;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The protocol's ALPN name.
pub const ALPN: &[u8] = b"pillion/1";

/// A TLS connection to a sidecar's inbound door.
pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// What became of an attempt to speak to a sidecar.
#[derive(Debug)]
pub struct Attempt {
    /// Plain bytes that the sidecar gave us: its HELLO, if it took us for a peer.
    pub received: Vec<u8>,
    /// How it ended: the error's words, or that it was closed, or that it stayed open.
    pub end: String,
    /// The sidecar ended it.
    pub refused: bool,
}

/// Dials a sidecar with an identity (or none), says `words` (a made-up HELLO, or nothing), and listens until it is closed or `patience` is over.
#[must_use]
pub fn attempt(to: SocketAddr, identity: Option<&Path>, words: &[u8], patience: Duration) -> Attempt {
    let mut received = Vec::new();
    let outcome = dial(to, identity, patience).and_then(|mut stream| {
        stream.write_all(words)?;
        stream.flush()?;
        let mut buffer = [0; 4096];
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                read => received.extend_from_slice(&buffer[..read]),
            }
        }
    });
    let (end, refused) = match outcome {
        Ok(()) => (String::from("closed"), true),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            (String::from("still open"), false)
        }
        Err(error) => (error.to_string(), true),
    };
    Attempt { received, end, refused }
}

/// A TLS connection to a sidecar; the sidecar's own certificate is not looked at.
pub fn dial(to: SocketAddr, identity: Option<&Path>, patience: Duration) -> io::Result<TlsStream> {
    let socket = TcpStream::connect_timeout(&to, patience)?;
    socket.set_read_timeout(Some(patience))?;
    socket.set_nodelay(true)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer));
    let mut config = match identity {
        Some(dir) => {
            let (chain, key) = read_identity(dir);
            builder.with_client_auth_cert(chain, key).expect("key and certificate belong together")
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    let name = ServerName::try_from("sidecar.invalid").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// A TLS server that is not the service it is taken for. It counts what it is told.
#[derive(Debug)]
pub struct RogueServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
    connections: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl RogueServer {
    /// Starts it with the identity in `dir`.
    #[must_use]
    pub fn start(dir: &Path) -> RogueServer {
        let (chain, key) = read_identity(dir);
        let mut roots = RootCertStore::empty();
        for cert in CertificateDer::pem_file_iter(dir.join("ca.pem")).expect("ca.pem") {
            roots.add(cert.expect("a certificate")).expect("a root");
        }
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider())
            .allow_unauthenticated()
            .build()
            .expect("a verifier");
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .expect("key and certificate belong together");
        config.alpn_protocols = vec![ALPN.to_vec()];
        let config = Arc::new(config);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound listener");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (words, count, stopping) = (Arc::clone(&seen), Arc::clone(&connections), Arc::clone(&stop));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let (config, words) = (Arc::clone(&config), Arc::clone(&words));
                std::thread::spawn(move || {
                    let _ = listen_to(socket, config, &words);
                });
            }
        });
        RogueServer { address, seen, connections, stop }
    }

    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that were opened to it.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// All plain bytes that it was told.
    #[must_use]
    pub fn seen(&self) -> Vec<u8> {
        self.seen.lock().expect("no panic inside").clone()
    }
}

impl Drop for RogueServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn listen_to(socket: TcpStream, config: Arc<ServerConfig>, words: &Mutex<Vec<u8>>) -> io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, socket);
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => words.lock().expect("no panic inside").extend_from_slice(&buffer[..read]),
        }
    }
}

fn read_identity(dir: &Path) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_file_iter(dir.join("cert.pem"))
        .expect("cert.pem")
        .collect::<Result<_, _>>()
        .expect("certificates");
    let key = PrivateKeyDer::from_pem_file(dir.join("key.pem")).expect("key.pem");
    (chain, key)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Takes any server: the tests' clients look for what a sidecar does, not for who it is.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
