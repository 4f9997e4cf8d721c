//! Identities, as `pillionctl ca` makes them.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

const AUTHORITY_CERT: &str = "authority.pem";
const AUTHORITY_KEY: &str = "authority-key.pem";

/// A directory with the identity of `service`, by the authority in `files`: made when it is not there.
pub fn issue(files: &Path, service: &str) -> PathBuf {
    let mut params = authority();
    let key = match fs::read_to_string(files.join(AUTHORITY_KEY)) {
        Ok(pem) => KeyPair::from_pem(&pem).expect("our own key"),
        Err(_) => {
            let key = KeyPair::generate().expect("a key");
            let certificate = params.self_signed(&key).expect("a certificate");
            fs::write(files.join(AUTHORITY_KEY), key.serialize_pem()).expect("a file");
            fs::write(files.join(AUTHORITY_CERT), certificate.pem()).expect("a file");
            key
        }
    };
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::new(params, key);
    let mut params = CertificateParams::default();
    let id = format!("spiffe://bench.pillion/service/{service}");
    params.subject_alt_names = vec![SanType::URI(id.try_into().expect("ASCII"))];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");

    let dir = files.join(service);
    fs::create_dir(&dir).expect("a directory");
    fs::copy(files.join(AUTHORITY_CERT), dir.join("ca.pem")).expect("a file");
    fs::write(dir.join("cert.pem"), certificate.pem()).expect("a file");
    fs::write(dir.join("key.pem"), key.serialize_pem()).expect("a file");
    dir
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}
