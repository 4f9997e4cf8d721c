//! TLS on behalf of callers that do not speak it, with declared hosts outside: ordinary web PKI, none of ours.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::config::Egress;

/// A configuration for each entry that TLS is spoken with. The system's authorities are read once, and only if they are asked for.
///
/// # Errors
/// A sentence: no authority can be read.
pub fn configurations(entries: &[Egress]) -> Result<Vec<Option<Arc<ClientConfig>>>, String> {
    let mut system = None;
    let mut configuration = |entry: &Egress| {
        let roots = match &entry.ca {
            Some(path) => from_file(path)?,
            None => match &system {
                Some(roots) => Arc::clone(roots),
                None => Arc::clone(system.insert(from_system()?)),
            },
        };
        let alpn: &[u8] = if entry.http2 { b"h2" } else { b"http/1.1" };
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        Ok(Arc::new(config))
    };
    entries.iter().map(|entry| entry.tls.then(|| configuration(entry)).transpose()).collect()
}

fn from_file(path: &Path) -> Result<Arc<RootCertStore>, String> {
    let wrong = |error: String| format!("{}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("it holds no certificate".to_owned())) } else { Ok(Arc::new(roots)) }
}

fn from_system() -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(
            "this system has no certificates of authorities: install ca-certificates, or name a `ca`".to_owned()
        );
    }
    Ok(Arc::new(roots))
}
