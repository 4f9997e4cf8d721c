//! `pillionctl ca`, with the real binary: what it makes is held against another implementation's verifier.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{check_fails, pillionctl, run};
use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tempfile::TempDir;
use x509_parser::prelude::{FromDer, X509Certificate};

fn init(dir: &Path) {
    run(pillionctl().args(["ca", "init", "--trust-domain", "test.example", "--dir"]).arg(dir));
}

fn issue(ca: &Path, service: &str, out: &Path) -> String {
    run(pillionctl().args(["ca", "issue", "--service", service, "--dir"]).arg(ca).arg("--out").arg(out))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// Whether `out` holds what a sidecar needs: a chain for both roles, and a key that is the certificate's.
fn check_identity(out: &Path) {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_file_iter(out.join("ca.pem")).unwrap() {
        roots.add(ca.unwrap()).unwrap();
    }
    let cert = certificate(&out.join("cert.pem"));
    let parsed = ParsedCertificate::try_from(&cert).unwrap();
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], UnixTime::now(), algorithms).unwrap();
    WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .build()
        .unwrap()
        .verify_client_cert(&cert, &[], UnixTime::now())
        .unwrap();
    let key =
        provider.key_provider.load_private_key(PrivateKeyDer::from_pem_file(out.join("key.pem")).unwrap()).unwrap();
    rustls::sign::CertifiedKey::new(vec![cert], key).keys_match().unwrap();
}

fn seconds(time: SystemTime) -> i64 {
    i64::try_from(time.duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

#[test]
fn an_authority_and_an_identity() {
    let dir = TempDir::new().unwrap();
    let (ca, out) = (dir.path().join("ca"), dir.path().join("deep/payments"));
    init(&ca);
    let told = issue(&ca, "payments", &out);
    assert!(told.starts_with("spiffe://test.example/service/payments in "), "{told}");
    check_identity(&out);

    assert_eq!((mode(&ca), mode(&ca.join("ca-key.pem")), mode(&ca.join("ca.pem"))), (0o700, 0o600, 0o644));
    assert_eq!((mode(&out.join("key.pem")), mode(&out.join("cert.pem"))), (0o600, 0o644));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 3, "no file is left over");
    assert_eq!(fs::read(ca.join("ca.pem")).unwrap(), fs::read(out.join("ca.pem")).unwrap());

    let der = certificate(&ca.join("ca.pem"));
    let (_, authority) = X509Certificate::from_der(&der).unwrap();
    let constraints = authority.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca);
    assert_eq!(constraints.value.path_len_constraint, Some(0));
    let usage = authority.key_usage().unwrap().unwrap().value;
    assert!(usage.key_cert_sign() && !usage.digital_signature());

    let der = certificate(&out.join("cert.pem"));
    let (_, leaf) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(leaf.public_key().algorithm.algorithm.to_id_string(), "1.2.840.10045.2.1", "an EC key");
    assert!(!leaf.basic_constraints().unwrap().is_some_and(|c| c.value.ca));
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign());
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && purposes.client_auth && !purposes.any);
    let names = format!("{:?}", leaf.subject_alternative_name().unwrap().unwrap().value.general_names);
    assert_eq!(names, "[URI(\"spiffe://test.example/service/payments\")]");
    let (now, validity) = (seconds(SystemTime::now()), leaf.validity());
    let (from, until) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    assert!((now - 310..=now - 290).contains(&from), "it begins five minutes ago: {from}, {now}");
    assert!((now + 86_380..=now + 86_420).contains(&until), "it ends in 24 h: {until}, {now}");
}

#[test]
fn an_identity_is_renewed_in_place() {
    let dir = TempDir::new().unwrap();
    let (ca, out) = (dir.path().join("ca"), dir.path().join("web"));
    init(&ca);
    issue(&ca, "web", &out);
    let before = (fs::read(out.join("cert.pem")).unwrap(), fs::read(out.join("key.pem")).unwrap());
    // Whoever had widened the key's mode gets it back narrow.
    fs::set_permissions(out.join("key.pem"), fs::Permissions::from_mode(0o644)).unwrap();
    issue(&ca, "web", &out);
    assert_ne!(before, (fs::read(out.join("cert.pem")).unwrap(), fs::read(out.join("key.pem")).unwrap()));
    assert_eq!(mode(&out.join("key.pem")), 0o600);
    check_identity(&out);
}

/// What is read while identities are replaced is always a whole file, of the old set or the new one.
#[test]
fn a_reader_never_sees_half_a_file() {
    let dir = TempDir::new().unwrap();
    let (ca, out) = (dir.path().join("ca"), dir.path().join("web"));
    init(&ca);
    issue(&ca, "web", &out);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..10 {
                issue(&ca, "web", &out);
            }
        });
        // Ends when the writer does, even if it fails.
        while !writer.is_finished() {
            for file in ["ca.pem", "cert.pem", "key.pem"] {
                let text = fs::read_to_string(out.join(file)).unwrap();
                assert!(text.starts_with("-----BEGIN ") && text.trim_end().ends_with("-----"), "{file}: {text}");
            }
        }
    });
    check_identity(&out);
}

#[test]
fn an_authority_is_not_overwritten_unless_told() {
    let dir = TempDir::new().unwrap();
    init(dir.path());
    let before = fs::read(dir.path().join("ca-key.pem")).unwrap();
    let again = || {
        let mut command = pillionctl();
        command.args(["ca", "init", "--trust-domain", "test.example", "--dir"]).arg(dir.path());
        command
    };
    check_fails(&mut again(), 1, &["is there already", "--force"]);
    assert_eq!(fs::read(dir.path().join("ca-key.pem")).unwrap(), before);
    // Half an authority is one too.
    fs::remove_file(dir.path().join("ca.pem")).unwrap();
    check_fails(&mut again(), 1, &["ca-key.pem is there already"]);
    run(again().arg("--force"));
    assert_ne!(fs::read(dir.path().join("ca-key.pem")).unwrap(), before);
    issue(dir.path(), "web", &dir.path().join("web"));
    check_identity(&dir.path().join("web"));
}

/// During a rotation ca.pem holds both authorities, in any order; issued is with the one whose key is there.
#[test]
fn both_authorities_of_a_rotation_are_handed_out() {
    let dir = TempDir::new().unwrap();
    let (old, new, out) = (dir.path().join("old"), dir.path().join("new"), dir.path().join("web"));
    init(&old);
    init(&new);
    let both = [fs::read_to_string(old.join("ca.pem")).unwrap(), fs::read_to_string(new.join("ca.pem")).unwrap()];
    for order in [both.concat(), format!("{}{}", both[1], both[0])] {
        fs::write(new.join("ca.pem"), &order).unwrap();
        issue(&new, "web", &out);
        assert_eq!(fs::read_to_string(out.join("ca.pem")).unwrap(), order);
        check_identity(&out);
        let mut only_new = RootCertStore::empty();
        only_new.add(CertificateDer::from_pem_slice(both[1].as_bytes()).unwrap()).unwrap();
        let cert = certificate(&out.join("cert.pem"));
        let parsed = ParsedCertificate::try_from(&cert).unwrap();
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &only_new, &[], UnixTime::now(), algorithms).unwrap();
    }
}

#[test]
fn no_identity_outlives_its_authority() {
    let dir = TempDir::new().unwrap();
    let ca = dir.path().join("ca");
    run(pillionctl().args(["ca", "init", "--trust-domain", "t", "--ttl", "2h", "--dir"]).arg(&ca));
    let told = issue(&ca, "web", &dir.path().join("web"));
    assert!(told.contains("the authority's own end"), "{told}");
    let ends = |path: &Path| {
        let der = certificate(path);
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        Duration::from_secs(parsed.validity().not_after.timestamp().unsigned_abs())
    };
    assert_eq!(ends(&dir.path().join("web/cert.pem")), ends(&ca.join("ca.pem")));
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    let ca = dir.path().join("ca");
    let out = dir.path().join("out");
    let issue = |service: &str| {
        let mut command = pillionctl();
        command.args(["ca", "issue", "--service", service, "--dir"]).arg(&ca).arg("--out").arg(&out);
        command
    };
    check_fails(&mut issue("web"), 1, &["ca-key.pem does not exist", "pillionctl ca init"]);
    init(&ca);
    for bad in ["", "Web", "a/b", "../x", "a b", &"a".repeat(64)] {
        check_fails(&mut issue(bad), 2, &["--service"]);
    }
    check_fails(issue("web").args(["--ttl", "5"]), 2, &["--ttl", "24h"]);
    for bad in ["", "Test.example", "a/b", "a b", "ü"] {
        let mut command = pillionctl();
        command.args(["ca", "init", "--trust-domain", bad, "--dir"]).arg(&out);
        check_fails(&mut command, 2, &["trust domain"]);
    }
    assert!(!out.exists(), "nothing is written before all is checked");

    let mut same = pillionctl();
    same.args(["ca", "issue", "--service", "web", "--dir"]).arg(&ca).arg("--out").arg(&ca);
    check_fails(&mut same, 1, &["same directory"]);

    let other = dir.path().join("other");
    init(&other);
    fs::copy(other.join("ca.pem"), ca.join("ca.pem")).unwrap();
    check_fails(&mut issue("web"), 1, &["ca.pem", "different authorities"]);
    fs::write(ca.join("ca.pem"), "nonsense").unwrap();
    check_fails(&mut issue("web"), 1, &["ca.pem"]);
    fs::write(ca.join("ca-key.pem"), "nonsense").unwrap();
    check_fails(&mut issue("web"), 1, &["ca-key.pem", "no usable key"]);
}
