//! Who a sidecar is: the SPIFFE id, and one checked set of the three files of the identity directory.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use registry::ServiceName;
use rustls::RootCertStore;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::{TlsError, TlsErrorKind, provider};

/// Trust anchors: several CAs, one PEM block each.
pub(super) const CA_FILE: &str = "ca.pem";
/// The own certificate first, then intermediates if there are any.
pub(super) const CERT_FILE: &str = "cert.pem";
/// The private key of the first certificate in [`CERT_FILE`].
pub(super) const KEY_FILE: &str = "key.pem";

/// Bytes read of one file at most: a bundle of dozens of certificates is far below it.
const MAX_FILE_BYTES: u64 = 256 * 1024;
/// Certificates in `cert.pem` at most: it is sent in every handshake.
const MAX_CHAIN_CERTIFICATES: usize = 8;
/// Trust anchors in `ca.pem` at most: a rotation needs two.
const MAX_ROOTS: usize = 32;
/// Length of a SPIFFE id at most, in bytes (SPIFFE-ID specification, section 2.3).
const MAX_ID_BYTES: usize = 2048;
/// Length of a trust domain at most, in bytes (SPIFFE-ID specification, section 2.3).
const MAX_TRUST_DOMAIN_BYTES: usize = 255;

/// `spiffe://{trust-domain}/service/{name}`: the only form of identity that Pillion gives and accepts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    /// The name of the authority: `example.org`. Lower-case.
    pub trust_domain: Arc<str>,
    /// The service that the holder of the certificate is an instance of.
    pub service: ServiceName,
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/service/{}", self.trust_domain, self.service)
    }
}

impl FromStr for SpiffeId {
    type Err = TlsError;

    /// Strict: one spelling for one identity, so that a comparison of values is a comparison of identities.
    fn from_str(text: &str) -> Result<Self, TlsError> {
        let bad = |why: &str| {
            let shown: String = text.chars().take(120).collect();
            TlsError::new(
                TlsErrorKind::BadIdentity,
                format!("{shown:?} is not a SPIFFE id of the form spiffe://TRUST-DOMAIN/service/NAME: {why}"),
            )
        };
        if text.len() > MAX_ID_BYTES {
            return Err(bad("it is longer than 2048 bytes"));
        }
        let rest = text.strip_prefix("spiffe://").ok_or_else(|| bad("it does not begin with spiffe://"))?;
        let (domain, path) = rest.split_once('/').ok_or_else(|| bad("it has no path"))?;
        let domain_byte = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if domain.is_empty() || domain.len() > MAX_TRUST_DOMAIN_BYTES || !domain.bytes().all(domain_byte) {
            return Err(bad("a trust domain is 1 to 255 of a-z, 0-9, '.', '-' and '_'"));
        }
        let name = path.strip_prefix("service/").ok_or_else(|| bad("its path does not begin with /service/"))?;
        let service = name.parse::<ServiceName>().map_err(|e| bad(&e.to_string()))?;
        Ok(SpiffeId { trust_domain: domain.into(), service })
    }
}

/// One loaded and checked set of `ca.pem`, `cert.pem` and `key.pem`. A value of this type is consistent: the key belongs
/// to the certificate, the certificate chains to a CA of the set and carries exactly one SPIFFE id. It may be expired:
/// see [`Identity::warnings`].
#[derive(Clone)]
pub struct Identity {
    /// Own identity, from the certificate.
    pub id: SpiffeId,
    /// Start of the own certificate's validity.
    pub not_before: SystemTime,
    /// End of the own certificate's validity: exported as a metric.
    pub not_after: SystemTime,
    /// Serial number of the own certificate, in hex with colons, for logs.
    pub serial: String,
    pub(super) key: Arc<CertifiedKey>,
    pub(super) roots: Arc<RootCertStore>,
    root_ders: Vec<CertificateDer<'static>>,
    key_is_public: Option<PathBuf>,
}

impl fmt::Debug for Identity {
    /// Written by hand so that nothing of the private key can ever reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("id", &self.id)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads and checks the three files of `dir`. An expired or not yet valid certificate loads (handshakes fail then,
    /// and a replaced file mends it without a restart); anything inconsistent does not.
    ///
    /// # Errors
    /// A file that is missing, unreadable, too large or not PEM; a key that is not the certificate's; a certificate that
    /// no CA of `ca.pem` signed; a missing, doubled or malformed SPIFFE id. The text names the file and what to do.
    pub fn load(dir: &Path) -> Result<Identity, TlsError> {
        let (ca_path, cert_path, key_path) = (dir.join(CA_FILE), dir.join(CERT_FILE), dir.join(KEY_FILE));

        let root_ders = certificates(&ca_path, MAX_ROOTS)?;
        let mut roots = RootCertStore::empty();
        for der in &root_ders {
            let parsed = parse(der).map_err(|e| file_error(&ca_path, &e.to_string()))?;
            // A trust anchor is trusted as a CA whatever it says of itself, so a service's certificate here would let
            // that service issue identities.
            if !matches!(parsed.basic_constraints(), Ok(Some(constraints)) if constraints.value.ca) {
                let what = format!("holds a certificate that is not a CA's ({})", parsed.subject());
                return Err(file_error(&ca_path, &what));
            }
            roots.add(der.clone()).map_err(|e| file_error(&ca_path, &format!("holds an unusable CA: {e}")))?;
        }

        let chain = certificates(&cert_path, MAX_CHAIN_CERTIFICATES)?;
        let leaf = parse(&chain[0]).map_err(|e| file_error(&cert_path, &e.to_string()))?;
        let id = spiffe_id(&leaf).map_err(|e| file_error(&cert_path, &e.to_string()))?;
        let not_before = system_time(leaf.validity().not_before.timestamp());
        let not_after = system_time(leaf.validity().not_after.timestamp());
        let serial = leaf.raw_serial_as_string();

        let key_bytes = read(&key_path)?;
        let key = PrivateKeyDer::from_pem_slice(&key_bytes).map_err(|e| file_error(&key_path, &pem_problem(&e)))?;
        let signer = provider()
            .key_provider
            .load_private_key(key)
            .map_err(|e| file_error(&key_path, &format!("holds an unusable private key: {e}")))?;
        let certified = CertifiedKey::new(chain, signer);
        certified.keys_match().map_err(|_| {
            TlsError::new(
                TlsErrorKind::Inconsistent,
                format!(
                    "{} is not the private key of {}: they come from different issues; run `pillionctl ca issue` again, or copy both files of one issue",
                    key_path.display(),
                    cert_path.display()
                ),
            )
        })?;
        check_chain(&certified.cert, &roots, not_before, not_after).map_err(|e| {
            TlsError::new(
                TlsErrorKind::Inconsistent,
                format!(
                    "{} does not chain to any CA in {}: {e}; put the CA that issued it into {CA_FILE} (several may stand there), or issue it again",
                    cert_path.display(),
                    ca_path.display()
                ),
            )
        })?;

        Ok(Identity {
            id,
            not_before,
            not_after,
            serial,
            key: Arc::new(certified),
            roots: Arc::new(roots),
            root_ders,
            key_is_public: readable_by_all(&key_path).then_some(key_path),
        })
    }

    /// What an operator should hear about this identity at `now`, though it could be loaded: an expired or not yet
    /// valid certificate (with both clocks), a private key that every user may read. Empty when all is well.
    pub fn warnings(&self, now: SystemTime) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Err(problem) = self.check_validity(now) {
            warnings.push(problem.to_string());
        }
        if let Some(path) = &self.key_is_public {
            warnings.push(format!("{} may be read by every user: chmod 600 it", path.display()));
        }
        warnings
    }

    /// Whether the own certificate is valid at `now`.
    ///
    /// # Errors
    /// It is expired or not yet valid. The text holds both clocks.
    pub fn check_validity(&self, now: SystemTime) -> Result<(), TlsError> {
        let (kind, what, edge) = if now > self.not_after {
            (TlsErrorKind::Expired, "expired at", self.not_after)
        } else if now < self.not_before {
            (TlsErrorKind::NotYetValid, "is not valid before", self.not_before)
        } else {
            return Ok(());
        };
        Err(TlsError::new(
            kind,
            format!(
                "the certificate of {} (serial {}) {what} {}, and this machine's clock says {}: renew it, or set the clock",
                self.id,
                self.serial,
                rfc3339(edge),
                rfc3339(now)
            ),
        ))
    }

    /// Whether both hold the same certificates, in which case they are the same identity: a certificate has one key.
    pub(super) fn same_as(&self, other: &Identity) -> bool {
        self.key.cert == other.key.cert && self.root_ders == other.root_ders
    }
}

/// The identity in the chain that a peer proved in a finished handshake.
///
/// # Errors
/// No certificate, one that does not parse, none or several URI names in it, or a URI that is no service's SPIFFE id.
pub fn peer_identity(certs: &[CertificateDer<'_>]) -> Result<SpiffeId, TlsError> {
    let leaf = certs
        .first()
        .ok_or_else(|| TlsError::new(TlsErrorKind::NoCertificate, "the peer presented no certificate".into()))?;
    spiffe_id(&parse(leaf)?)
}

/// `2026-11-23T22:40:00Z`, in UTC, for texts that show two clocks.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let seconds = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |s| -s),
    };
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{seconds} s since 1970"))
}

/// Seconds since 1970 as a `SystemTime`, also for times before 1970.
pub(super) fn system_time(seconds: i64) -> SystemTime {
    let span = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds >= 0 { UNIX_EPOCH.checked_add(span) } else { UNIX_EPOCH.checked_sub(span) };
    time.unwrap_or(UNIX_EPOCH)
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, TlsError> {
    let bad = |e: &dyn fmt::Display| {
        TlsError::new(TlsErrorKind::BadIdentity, format!("a certificate that is not X.509 v3: {e}"))
    };
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|e| bad(&e))?;
    if rest.is_empty() { Ok(certificate) } else { Err(bad(&"bytes after its end")) }
}

/// The one SPIFFE id of a leaf certificate.
fn spiffe_id(leaf: &X509Certificate<'_>) -> Result<SpiffeId, TlsError> {
    let bad = |what: String| TlsError::new(TlsErrorKind::BadIdentity, what);
    let names = leaf
        .subject_alternative_name()
        .map_err(|e| bad(format!("the certificate's subject alternative name does not parse: {e}")))?;
    let mut uris = names.iter().flat_map(|extension| &extension.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let first = uris.next().ok_or_else(|| {
        bad(format!(
            "the certificate ({}) carries no SPIFFE id: a URI name spiffe://TRUST-DOMAIN/service/NAME is needed; issue it with `pillionctl ca issue`",
            leaf.subject()
        ))
    })?;
    if uris.next().is_some() {
        return Err(bad("the certificate carries several URI names: who it stands for would be a guess".to_owned()));
    }
    // SPIFFE's X.509 profile, section 5.2: what may sign certificates is never a service's identity.
    if let Ok(Some(usage)) = leaf.key_usage()
        && (usage.value.key_cert_sign() || usage.value.crl_sign())
    {
        return Err(bad(format!("the certificate of {first} may sign certificates: no service's may")));
    }
    first.parse()
}

/// Whether the chain leads to a root, at a moment when it is valid if there is one: an expired certificate is the right
/// one all the same, and is told apart from a wrong one by this.
fn check_chain(
    chain: &[CertificateDer<'static>],
    roots: &RootCertStore,
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<(), rustls::Error> {
    let Some((leaf, intermediates)) = chain.split_first() else {
        return Err(rustls::Error::NoCertificatesPresented);
    };
    let leaf = ParsedCertificate::try_from(leaf)?;
    let algorithms = provider().signature_verification_algorithms.all;
    let check = |at: SystemTime| {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &leaf,
            roots,
            intermediates,
            UnixTime::since_unix_epoch(since),
            algorithms,
        )
    };
    let now = SystemTime::now().max(not_before).min(not_after);
    check(now).or_else(|error| check(not_before).or_else(|_| check(not_after)).map_err(|_| error))
}

fn certificates(path: &Path, most: usize) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let mut list = Vec::new();
    for item in CertificateDer::pem_slice_iter(&bytes) {
        list.push(item.map_err(|e| file_error(path, &pem_problem(&e)))?);
        if list.len() > most {
            return Err(file_error(path, &format!("holds more than {most} certificates")));
        }
    }
    if list.is_empty() {
        return Err(file_error(path, "holds no certificate in PEM form"));
    }
    Ok(list)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let content = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match content() {
        Ok(bytes) if bytes.len() as u64 > MAX_FILE_BYTES => {
            Err(file_error(path, &format!("is larger than {MAX_FILE_BYTES} bytes")))
        }
        Ok(bytes) => Ok(bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(file_error(
            path,
            "does not exist: `pillionctl ca issue --service NAME --out DIR` writes all three files",
        )),
        Err(e) => Err(file_error(path, &format!("cannot be read: {e}"))),
    }
}

fn pem_problem(error: &pem::Error) -> String {
    match error {
        pem::Error::NoItemsFound => "holds nothing of its kind in PEM form".to_owned(),
        other => format!("is not well-formed PEM: {other}"),
    }
}

fn file_error(path: &Path, what: &str) -> TlsError {
    TlsError::new(TlsErrorKind::File, format!("{}: {what}", path.display()))
}

#[cfg(unix)]
fn readable_by_all(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o004 != 0)
}
