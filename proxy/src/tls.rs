//! Mutual TLS 1.3 between sidecars: whose certificate this process shows, and whose it believes.
//!
//! One [`Tls`] lives as long as the process. It holds the current identity together with the rustls configurations made
//! from it in ONE swap, read once a handshake, so that a handshake never mixes an old certificate with a new CA. A
//! replaced file changes the next handshake and no connection that already stands.
//!
//! The service is proven **inside the handshake**: [`Tls::client_for`] gives a configuration whose verifier knows which
//! service is being called. TLS 1.3 has the client check the server before it sends its own certificate, so a wrong
//! peer gets neither a byte of a request nor our identity. rustls's `ServerName` could not carry this: not every
//! service name is a DNS name, and it would be sent in clear (SNI is off; see [`server_name`]).
//!
//! No session resumption and no tickets: a resumed session would carry the proof of a certificate that has since been
//! replaced or has expired, and channels are few and long-lived, so there is nothing to gain. No early data for the
//! same reason, and because it can be replayed.
//!
//! Deliberately absent: revocation lists (certificates live for hours, see SECURITY.md), TLS 1.2, a process-wide
//! default crypto provider (a library that installs another one cannot change what is used here).

mod explain;
mod identity;
mod origination;
#[cfg(test)]
mod tests;
mod verify;
mod watch;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use registry::ServiceName;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, cipher_suite};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{ClientConfig, CommonState, ServerConfig};
use rustls_pki_types::ServerName;

pub use explain::HandshakeFailure;
pub use identity::{Identity, SpiffeId, peer_identity};
pub use origination::configurations as egress_configurations;

use verify::{VerifyCaller, VerifyService};

/// The application protocol that both sides must agree on: docs/protocol.md.
pub const ALPN: &[u8] = b"pillion/1";

/// What to pass to `TlsConnector::connect`: rustls wants a name there. It is neither sent (SNI is off) nor compared
/// (the verifier of [`Tls::client_for`] knows the service).
pub fn server_name() -> ServerName<'static> {
    ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// AES-GCM first: ChaCha20 costs 44 % more on 16 KiB where AES hardware exists (DESIGN.md, section 3). It stays as the
/// last choice, for a peer on a machine without such hardware that offers nothing else.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..ring::default_provider()
    })
});

fn provider() -> &'static Arc<CryptoProvider> {
    &PROVIDER
}

/// What is wrong, in one of a few kinds (a bounded metric label) and in words that say what to do.
#[derive(Debug, Clone)]
pub struct TlsError {
    pub kind: TlsErrorKind,
    text: String,
}

/// See [`TlsErrorKind::as_str`] for the words used in logs and as the `reason` of `pillion_handshake_failures_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TlsErrorKind {
    /// A file of the identity directory is missing, unreadable or not what its name says.
    File,
    /// The files do not belong together.
    Inconsistent,
    /// A reload would change who this sidecar is.
    IdentityChanged,
    /// A certificate without exactly one well-formed SPIFFE id.
    BadIdentity,
    /// The peer presented no certificate.
    NoCertificate,
    /// A certificate that none of our CAs signed, or a broken signature.
    UnknownCa,
    Expired,
    NotYetValid,
    /// A peer of another trust domain.
    WrongTrustDomain,
    /// The peer is not an instance of the service that was called.
    WrongService,
    /// The peer does not speak `pillion/1`, or not TLS 1.3.
    WrongProtocol,
    /// The peer refused us: the reason is in its own log.
    Refused,
    /// The connection broke during the handshake.
    Closed,
    /// Anything else that rustls reports.
    Other,
}

impl TlsErrorKind {
    /// Every kind: metrics create their series from it.
    pub const ALL: &[TlsErrorKind] = &[
        TlsErrorKind::File,
        TlsErrorKind::Inconsistent,
        TlsErrorKind::IdentityChanged,
        TlsErrorKind::BadIdentity,
        TlsErrorKind::NoCertificate,
        TlsErrorKind::UnknownCa,
        TlsErrorKind::Expired,
        TlsErrorKind::NotYetValid,
        TlsErrorKind::WrongTrustDomain,
        TlsErrorKind::WrongService,
        TlsErrorKind::WrongProtocol,
        TlsErrorKind::Refused,
        TlsErrorKind::Closed,
        TlsErrorKind::Other,
    ];

    /// The word for logs and metric labels. Stable.
    pub fn as_str(self) -> &'static str {
        match self {
            TlsErrorKind::File => "file",
            TlsErrorKind::Inconsistent => "inconsistent",
            TlsErrorKind::IdentityChanged => "identity-changed",
            TlsErrorKind::BadIdentity => "bad-identity",
            TlsErrorKind::NoCertificate => "no-certificate",
            TlsErrorKind::UnknownCa => "unknown-ca",
            TlsErrorKind::Expired => "expired",
            TlsErrorKind::NotYetValid => "not-yet-valid",
            TlsErrorKind::WrongTrustDomain => "wrong-trust-domain",
            TlsErrorKind::WrongService => "wrong-service",
            TlsErrorKind::WrongProtocol => "wrong-protocol",
            TlsErrorKind::Refused => "refused",
            TlsErrorKind::Closed => "closed",
            TlsErrorKind::Other => "other",
        }
    }
}

impl TlsError {
    fn new(kind: TlsErrorKind, text: String) -> TlsError {
        TlsError { kind, text }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for TlsError {}

/// The current identity and the configurations made from it; replaced as a whole by [`Tls::reload`].
pub struct Tls {
    dir: PathBuf,
    clock: Arc<dyn TimeProvider>,
    current: ArcSwap<Loaded>,
    /// Held through a whole reload: two at once could end with the older files. Never taken on a handshake.
    reloading: Mutex<()>,
}

struct Loaded {
    identity: Arc<Identity>,
    client: ClientConfig,
    server: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("dir", &self.dir).field("identity", &self.identity()).finish_non_exhaustive()
    }
}

impl Tls {
    /// Loads the identity directory. See [`Identity::load`]; ask [`Identity::warnings`] afterwards.
    ///
    /// # Errors
    /// Those of [`Identity::load`].
    pub fn load(dir: &Path) -> Result<Arc<Tls>, TlsError> {
        Tls::load_with_clock(dir, Arc::new(DefaultTimeProvider))
    }

    fn load_with_clock(dir: &Path, clock: Arc<dyn TimeProvider>) -> Result<Arc<Tls>, TlsError> {
        let loaded = Loaded::new(Identity::load(dir)?, &clock)?;
        Ok(Arc::new(Tls {
            dir: dir.to_owned(),
            clock,
            current: ArcSwap::from_pointee(loaded),
            reloading: Mutex::new(()),
        }))
    }

    /// The identity that the next handshake will show.
    pub fn identity(&self) -> Arc<Identity> {
        self.current.load().identity.clone()
    }

    /// For an accepted connection: any service of our own trust domain may call; it must prove who it is. The peer is
    /// to be read with [`proven_peer`] once the handshake is over.
    pub fn server(&self) -> Arc<ServerConfig> {
        self.current.load().server.clone()
    }

    /// For a connection to an instance of `service`: the handshake fails unless the peer proves that it is one, in our
    /// trust domain. One small allocation a handshake; use it with [`server_name`].
    ///
    /// In TLS 1.3 the client's side is done before the server has judged the client's certificate: a refusal comes as
    /// an error of the first read. So nothing of a request may be sent before the peer's HELLO has arrived.
    pub fn client_for(&self, service: &ServiceName) -> Arc<ClientConfig> {
        let current = self.current.load();
        let mut config = current.client.clone();
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(VerifyService::new(&current.identity, Some(service.clone()))));
        Arc::new(config)
    }

    /// Reads the directory again and, when it holds another consistent set, uses it from the next handshake on.
    /// `Ok(false)`: nothing changed. Blocks for the reading of three small files.
    ///
    /// # Errors
    /// The old identity stays in use: the set is inconsistent, names another service or trust domain (which is a
    /// mistake, or needs a restart), or is not valid now while the current one is.
    pub fn reload(&self) -> Result<bool, TlsError> {
        // A panic under this lock cannot leave anything half done: the swap is one store.
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let new = Identity::load(&self.dir)?;
        let old = self.identity();
        if new.same_as(&old) {
            return Ok(false);
        }
        if new.id != old.id {
            return Err(TlsError::new(
                TlsErrorKind::IdentityChanged,
                format!(
                    "{} now holds the identity {}, but this sidecar runs as {}: put the right files there, or restart it",
                    self.dir.display(),
                    new.id,
                    old.id
                ),
            ));
        }
        let now = self.now();
        if old.check_validity(now).is_ok() {
            new.check_validity(now)?;
        }
        self.current.store(Arc::new(Loaded::new(new, &self.clock)?));
        Ok(true)
    }

    /// This machine's clock, as handshakes see it.
    fn now(&self) -> SystemTime {
        let since = self.clock.current_time().map_or(0, |time| time.as_secs());
        UNIX_EPOCH + Duration::from_secs(since)
    }
}

impl Loaded {
    fn new(identity: Identity, clock: &Arc<dyn TimeProvider>) -> Result<Loaded, TlsError> {
        let unusable = |e: rustls::Error| TlsError::new(TlsErrorKind::Other, format!("TLS cannot be set up: {e}"));
        let identity = Arc::new(identity);
        let shown = Arc::new(SingleCertAndKey::from(identity.key.clone()));

        let mut client = ClientConfig::builder_with_details(provider().clone(), clock.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .dangerous()
            // Replaced in every use by one that knows the service called.
            .with_custom_certificate_verifier(Arc::new(VerifyService::new(&identity, None)))
            .with_client_cert_resolver(shown.clone());
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_sni = false;

        let mut server = ServerConfig::builder_with_details(provider().clone(), clock.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(Arc::new(VerifyCaller::new(&identity)?))
            .with_cert_resolver(shown);
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;

        Ok(Loaded { identity, client, server: Arc::new(server) })
    }
}

/// Whom a finished handshake proved the peer to be. To be asked on both sides before anything else is done with the
/// connection: it also refuses a peer that did not agree on `pillion/1` (rustls lets one pass that offers no ALPN).
///
/// # Errors
/// [`TlsErrorKind::WrongProtocol`], and those of [`peer_identity`].
pub fn proven_peer(connection: &CommonState) -> Result<SpiffeId, TlsError> {
    if connection.alpn_protocol() != Some(ALPN) {
        return Err(TlsError::new(
            TlsErrorKind::WrongProtocol,
            "the peer speaks TLS but not pillion/1 (no such ALPN): is its address that of a sidecar's inbound port?"
                .into(),
        ));
    }
    peer_identity(connection.peer_certificates().unwrap_or_default())
}
