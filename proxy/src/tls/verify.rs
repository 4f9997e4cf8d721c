//! Whom to believe: the chain, the times and the purpose by webpki; then the trust domain, then the service called.

use std::sync::Arc;

use registry::ServiceName;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::{Identity, SpiffeId, TlsError, TlsErrorKind, peer_identity, provider};

fn refused(error: TlsError) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// The SPIFFE id of a peer whose chain has been verified, if it is of our own trust domain.
fn same_domain(end_entity: &CertificateDer<'_>, own: &SpiffeId) -> Result<SpiffeId, TlsError> {
    let peer = peer_identity(std::slice::from_ref(end_entity))?;
    if peer.trust_domain != own.trust_domain {
        let text = format!("the peer is {peer}: not of our own trust domain {}", own.trust_domain);
        return Err(TlsError::new(TlsErrorKind::WrongTrustDomain, text));
    }
    Ok(peer)
}

/// The dialling side's: the peer must be an instance of the service called.
#[derive(Debug)]
pub(super) struct VerifyService {
    roots: Arc<RootCertStore>,
    own: SpiffeId,
    /// `None` matches no peer at all: the base configuration must never be used as it is.
    expected: Option<ServiceName>,
}

impl VerifyService {
    pub(super) fn new(identity: &Identity, expected: Option<ServiceName>) -> VerifyService {
        VerifyService { roots: identity.roots.clone(), own: identity.id.clone(), expected }
    }
}

impl ServerCertVerifier for VerifyService {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = provider().signature_verification_algorithms.all;
        let certificate = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            algorithms,
        )?;
        let peer = same_domain(end_entity, &self.own).map_err(refused)?;
        if self.expected.as_ref() != Some(&peer.service) {
            let called = self.expected.as_ref().map_or("none", ServiceName::as_str);
            let text = format!(
                "the peer is {peer}, but the service called is {called}: the registry's record is wrong, or its address was taken over"
            );
            return Err(refused(TlsError::new(TlsErrorKind::WrongService, text)));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// The accepting side's: any service of our trust domain, but it must prove which.
#[derive(Debug)]
pub(super) struct VerifyCaller {
    chain: Arc<dyn ClientCertVerifier>,
    own: SpiffeId,
}

impl VerifyCaller {
    pub(super) fn new(identity: &Identity) -> Result<VerifyCaller, TlsError> {
        let chain = WebPkiClientVerifier::builder_with_provider(identity.roots.clone(), provider().clone())
            // Every sidecar has one certificate, so a list of CAs to choose by would only cost bytes.
            .clear_root_hint_subjects()
            .build()
            .map_err(|e| TlsError::new(TlsErrorKind::Other, format!("TLS cannot be set up: {e}")))?;
        Ok(VerifyCaller { chain, own: identity.id.clone() })
    }
}

impl ClientCertVerifier for VerifyCaller {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        same_domain(end_entity, &self.own).map_err(refused)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
