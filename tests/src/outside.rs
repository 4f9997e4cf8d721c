//! A host outside: a server behind TLS with a certificate of a public kind, which no sidecar stands in front of.

use crate::app::App;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// An app behind TLS.
#[derive(Debug)]
pub struct Outside {
    /// What answers, reachable without TLS too.
    pub app: App,
    address: SocketAddr,
    dir: TempDir,
    /// Ends it when dropped.
    _stop: oneshot::Sender<()>,
}

impl Outside {
    /// A server that proves to be `host`, to those who trust [`Outside::ca`].
    #[must_use]
    pub fn start(host: &str) -> Outside {
        let app = App::start("outside");
        let (config, ca) = certified(host);
        let dir = tempfile::tempdir().expect("a temporary directory");
        std::fs::write(dir.path().join("ca.pem"), ca).expect("write the authority");
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a listener");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let to = app.address();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                tokio::select! {
                    () = serve(listener, TlsAcceptor::from(Arc::new(config)), to) => {}
                    _ = stopped => {} // the runtime is dropped, and every connection with it
                }
            });
        });
        Outside { app, address, dir, _stop: stop }
    }

    /// Where it speaks TLS.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The authority that vouches for it.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }
}

fn certified(host: &str) -> (ServerConfig, String) {
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "an authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.clone().self_signed(&ca_key).expect("an authority").pem();
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([host.to_owned()]).expect("a host's name");
    let certificate = params.signed_by(&key, &Issuer::new(ca, ca_key)).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate and its key");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    (config, ca_pem)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, app: SocketAddr) {
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(mut caller) = acceptor.accept(stream).await else { return };
            if let Ok(mut app) = TcpStream::connect(app).await {
                let _ = tokio::io::copy_bidirectional(&mut caller, &mut app).await;
            }
        });
    }
}
