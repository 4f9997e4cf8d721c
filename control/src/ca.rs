//! The certificate authority of one trust domain: a directory with a certificate and a key, ECDSA P-256.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, string::Ia5String,
};
use registry::ServiceName;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Failure;
use crate::files::{self, PUBLIC, SECRET};

/// A shorter life could end before the files are in their place.
pub(crate) const TTL_MIN: Duration = Duration::from_secs(60);
/// A century: dates stay within what X.509 can write.
pub(crate) const TTL_MAX: Duration = Duration::from_secs(36_500 * 86_400);
/// Certificates begin this much in the past, so that a machine whose clock is behind accepts a fresh one.
const BACKDATE: Duration = Duration::from_secs(300);

const CA_CERT: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
/// The names that `pillion run --identity` reads.
const IDENTITY_CA: &str = "ca.pem";
const IDENTITY_CERT: &str = "cert.pem";
const IDENTITY_KEY: &str = "key.pem";

/// The name of an authority, as SPIFFE has it: 1 to 255 of a-z, 0-9, '.', '-' and '_'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrustDomain(String);

impl FromStr for TrustDomain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let valid = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if text.is_empty() || text.len() > 255 || !text.bytes().all(valid) {
            return Err("a trust domain is 1 to 255 of a-z, 0-9, '.', '-' and '_', as in example.org".to_owned());
        }
        Ok(TrustDomain(text.to_owned()))
    }
}

/// Makes an authority in `dir`; gives back what to tell the operator.
pub(crate) fn init(dir: &Path, domain: &TrustDomain, ttl: Duration, force: bool) -> Result<String, Failure> {
    let (cert_path, key_path) = (dir.join(CA_CERT), dir.join(CA_KEY));
    // `exists` follows links; a dangling one is something that is there all the same.
    if let Some(there) = [&cert_path, &key_path].into_iter().find(|path| path.symlink_metadata().is_ok())
        && !force
    {
        return Err(Failure::new(format!(
            "{} is there already: all identities that this authority issued would be worthless; say --force to replace it, or choose another --dir",
            there.display()
        )));
    }
    files::make_dir(dir, 0o700)?;

    let key = new_key()?;
    let (from, until) = validity(ttl, None)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    // X.509 has room for 64 characters; which authority it is stands in full in the URI name.
    let title: String = format!("Pillion CA {}", domain.0).chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, title);
    params.subject_alt_names = vec![SanType::URI(uri(&format!("spiffe://{}", domain.0))?)];
    // No further authorities below this one.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (from, until);
    let certificate = params.self_signed(&key).map_err(|e| unexpected("the authority's certificate", &e))?;

    files::replace(dir, &[(CA_KEY, SECRET, &key.serialize_pem()), (CA_CERT, PUBLIC, &certificate.pem())])?;
    Ok(format!(
        "authority of {} in {}, valid until {}\n  {CA_CERT}      goes to every sidecar (`pillionctl ca issue` sees to it)\n  {CA_KEY}  stays here: whoever has it can be any service\n",
        domain.0,
        dir.display(),
        show(until)
    ))
}

/// Issues the identity of one service into `out`; gives back what to tell the operator.
pub(crate) fn issue(dir: &Path, service: &ServiceName, out: &Path, ttl: Duration) -> Result<String, Failure> {
    let authority = Authority::load(dir)?;
    let key = new_key()?;
    let (from, until) = validity(ttl, Some(authority.not_after))?;
    let id = format!("spiffe://{}/service/{service}", authority.domain);
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, service.as_str());
    params.subject_alt_names = vec![SanType::URI(uri(&id)?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A sidecar is both sides: it calls and is called.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (from, until);
    let certificate =
        params.signed_by(&key, &authority.issuer).map_err(|e| unexpected("the service's certificate", &e))?;

    if out.canonicalize().ok().zip(dir.canonicalize().ok()).is_some_and(|(out, dir)| out == dir) {
        return Err(Failure::new(
            "--out and --dir are the same directory: the authority's key must not lie with a sidecar",
        ));
    }
    files::make_dir(out, 0o755)?;
    // Trust first, then the key, then the certificate. A sidecar that reads in between finds a key that is not the
    // certificate's, keeps what it has, and reads again at the next rename.
    files::replace(
        out,
        &[
            (IDENTITY_CA, PUBLIC, &authority.pem),
            (IDENTITY_KEY, SECRET, &key.serialize_pem()),
            (IDENTITY_CERT, PUBLIC, &certificate.pem()),
        ],
    )?;
    let cut = if until == authority.not_after { " (the authority's own end)" } else { "" };
    Ok(format!("{id} in {}, valid until {}{cut}\n", out.display(), show(until)))
}

/// What `ca init` made, read back.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The whole of `ca.pem`: it may hold the CA before or after this one too, for a rotation.
    pem: String,
    domain: String,
    not_after: OffsetDateTime,
}

impl Authority {
    fn load(dir: &Path) -> Result<Authority, Failure> {
        let read = |name: &str| {
            std::fs::read_to_string(dir.join(name)).map_err(|e| {
                let path = dir.join(name);
                Failure::new(match e.kind() {
                    std::io::ErrorKind::NotFound => format!(
                        "{} does not exist: make an authority first, `pillionctl ca init --dir {} --trust-domain NAME`",
                        path.display(),
                        dir.display()
                    ),
                    _ => format!("{} cannot be read: {e}", path.display()),
                })
            })
        };
        let bad = |name: &str, why: &str| Failure::new(format!("{}: {why}", dir.join(name).display()));
        let key = KeyPair::from_pem(&read(CA_KEY)?).map_err(|e| bad(CA_KEY, &format!("holds no usable key: {e}")))?;
        let pem = read(CA_CERT)?;
        let own_key = key.subject_public_key_info();

        for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let der = der.map_err(|e| bad(CA_CERT, &format!("is not well-formed PEM: {e}")))?;
            let (_, parsed) = X509Certificate::from_der(&der)
                .map_err(|e| bad(CA_CERT, &format!("holds no X.509 certificate: {e}")))?;
            if parsed.public_key().raw != own_key {
                continue;
            }
            let domain = trust_domain(&parsed).ok_or_else(|| {
                bad(
                    CA_CERT,
                    "names no trust domain (a URI name spiffe://TRUST-DOMAIN): it was not made by `pillionctl ca init`",
                )
            })?;
            let not_after = parsed.validity().not_after.to_datetime();
            let issuer = Issuer::from_ca_cert_der(&der, key)
                .map_err(|e| bad(CA_CERT, &format!("cannot be used as an authority: {e}")))?;
            return Ok(Authority { issuer, pem, domain, not_after });
        }
        Err(bad(
            CA_CERT,
            &format!("holds no certificate of the key in {CA_KEY}: the two come from different authorities"),
        ))
    }
}

fn trust_domain(ca: &X509Certificate<'_>) -> Option<String> {
    let names = ca.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("spiffe://")?.parse().ok().map(|TrustDomain(domain)| domain),
        _ => None,
    })
}

fn new_key() -> Result<KeyPair, Failure> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|e| unexpected("a key", &e))
}

fn uri(text: &str) -> Result<Ia5String, Failure> {
    Ia5String::try_from(text).map_err(|e| unexpected("a URI name", &e))
}

fn unexpected(what: &str, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("{what} could not be made: {error}"))
}

/// From a little before now for `ttl`, but never beyond `limit`.
fn validity(ttl: Duration, limit: Option<OffsetDateTime>) -> Result<(OffsetDateTime, OffsetDateTime), Failure> {
    // Certificates know whole seconds.
    let now = OffsetDateTime::now_utc().replace_nanosecond(0).unwrap_or_else(|_| OffsetDateTime::now_utc());
    let until = now + ttl;
    match limit {
        Some(limit) if limit <= now => Err(Failure::new(format!(
            "the authority's own certificate expired at {}, and this machine's clock says {}: make a new one with `pillionctl ca init`, or set the clock",
            show(limit),
            show(now)
        ))),
        Some(limit) => Ok((now - BACKDATE, until.min(limit))),
        None => Ok((now - BACKDATE, until)),
    }
}

fn show(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}
