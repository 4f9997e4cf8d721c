//! Identities: the good ones made by the real `pillionctl`, the bad ones by hand.

use crate::binaries;
use crate::process::run;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;
use tempfile::TempDir;
use time::OffsetDateTime;

/// The trust domain of the tests.
pub const TRUST_DOMAIN: &str = "test.pillion";
const TOOL_LIMIT: Duration = Duration::from_secs(30);

/// A certificate authority made by `pillionctl ca init`.
#[derive(Debug)]
pub struct Ca {
    dir: TempDir,
    issued: Mutex<BTreeSet<String>>,
}

impl Ca {
    #[must_use]
    pub fn new() -> Ca {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut command = Command::new(binaries::pillionctl());
        command.args(["ca", "init", "--trust-domain", TRUST_DOMAIN, "--dir"]).arg(dir.path().join("ca"));
        run(command, TOOL_LIMIT).success();
        Ca { dir, issued: Mutex::new(BTreeSet::new()) }
    }

    /// The identity directory of a service, issued at the first call.
    #[must_use]
    pub fn issue(&self, service: &str) -> PathBuf {
        let out = self.dir.path().join(service);
        let mut issued = self.issued.lock().expect("no panic inside");
        if issued.insert(service.to_owned()) {
            self.issue_into(service, &out, "24h");
        }
        out
    }

    /// Issues an identity into a directory, over one that is there.
    pub fn issue_into(&self, service: &str, out: &Path, ttl: &str) {
        let mut command = Command::new(binaries::pillionctl());
        command
            .args(["ca", "issue", "--service", service, "--ttl", ttl, "--dir"])
            .arg(self.dir.path().join("ca"))
            .arg("--out")
            .arg(out);
        run(command, TOOL_LIMIT).success();
    }
}

impl Default for Ca {
    fn default() -> Ca {
        Ca::new()
    }
}

/// A certificate authority of the harness: it signs whatever a test wants to see refused.
#[derive(Debug)]
pub struct OwnCa {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
    dir: TempDir,
}

/// What an identity by [`OwnCa`] says.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The SPIFFE id's service.
    pub service: String,
    pub trust_domain: String,
    pub not_before: OffsetDateTime,
    pub not_after: OffsetDateTime,
}

impl Claim {
    /// An identity that is valid now, for an hour.
    #[must_use]
    pub fn good(service: &str) -> Claim {
        let now = OffsetDateTime::now_utc();
        Claim {
            service: service.to_owned(),
            trust_domain: TRUST_DOMAIN.to_owned(),
            not_before: now - time::Duration::minutes(10),
            not_after: now + time::Duration::hours(1),
        }
    }

    /// The same, past its end.
    #[must_use]
    pub fn expired(mut self) -> Claim {
        self.not_after = OffsetDateTime::now_utc() - time::Duration::minutes(5);
        self
    }
}

impl OwnCa {
    #[must_use]
    pub fn new() -> OwnCa {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "a CA of the tests");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        OwnCa { params, key, pem, dir: tempfile::tempdir().expect("a temporary directory") }
    }

    /// Writes an identity directory of the given name.
    #[must_use]
    pub fn issue(&self, name: &str, claim: &Claim) -> PathBuf {
        let out = self.dir.path().join(name);
        std::fs::create_dir_all(&out).expect("create an identity directory");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let id = format!("spiffe://{}/service/{}", claim.trust_domain, claim.service);
        params.subject_alt_names = vec![SanType::URI(id.try_into().expect("ASCII"))];
        params.not_before = claim.not_before;
        params.not_after = claim.not_after;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let cert = params.signed_by(&key, &issuer).expect("a certificate");
        std::fs::write(out.join("ca.pem"), &self.pem).expect("write ca.pem");
        std::fs::write(out.join("cert.pem"), cert.pem()).expect("write cert.pem");
        let key_path = out.join("key.pem");
        std::fs::write(&key_path, key.serialize_pem()).expect("write key.pem");
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&key_path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        out
    }
}

impl Default for OwnCa {
    fn default() -> OwnCa {
        OwnCa::new()
    }
}
