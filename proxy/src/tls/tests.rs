//! Real handshakes in memory between two configurations, each loaded from files as in production.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use registry::ServiceName;
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, ServerConnection};
use rustls_pki_types::UnixTime;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::identity::{CA_FILE, CERT_FILE, KEY_FILE};
use super::*;

/// The moment that the tests' clocks show: 2026-01-01T00:00:00Z.
const NOW: i64 = 1_767_225_600;
const HOUR: i64 = 3600;

#[derive(Debug)]
struct Clock(i64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.unsigned_abs())))
    }
}

struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// What a certificate says, with the values of a right one.
struct Says {
    uris: Vec<&'static str>,
    from: i64,
    until: i64,
    ca: bool,
}

impl Says {
    fn service(id: &'static str) -> Says {
        Says { uris: vec![id], from: NOW - HOUR, until: NOW + HOUR, ca: false }
    }
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

impl Ca {
    fn new() -> Ca {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params.not_before, params.not_after) = (at(NOW - 100 * HOUR), at(NOW + 1000 * HOUR));
        let pem = params.self_signed(&key).unwrap().pem();
        Ca { issuer: Issuer::new(params, key), pem }
    }

    fn certificate(&self, says: &Says) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = says.uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        (params.not_before, params.not_after) = (at(says.from), at(says.until));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if says.ca {
            params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        }
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn issue_into(&self, dir: &Path, says: &Says) {
        let (cert, key) = self.certificate(says);
        for (file, text) in [(KEY_FILE, &key), (CERT_FILE, &cert), (CA_FILE, &self.pem)] {
            let new = dir.join(format!(".{file}"));
            fs::write(&new, text).unwrap();
            fs::rename(&new, dir.join(file)).unwrap();
        }
    }

    fn issue(&self, says: &Says) -> TempDir {
        let dir = TempDir::new().unwrap();
        self.issue_into(dir.path(), says);
        dir
    }

    /// The loaded identity of a service, its clock at `NOW`.
    fn tls(&self, says: &Says) -> Arc<Tls> {
        load(self.issue(says).path())
    }
}

fn load(dir: &Path) -> Arc<Tls> {
    Tls::load_with_clock(dir, Arc::new(Clock(NOW))).unwrap()
}

fn name(text: &str) -> ServiceName {
    text.parse().unwrap()
}

const WEB: &str = "spiffe://test.example/service/web";
const PAYMENTS: &str = "spiffe://test.example/service/payments";

/// One handshake with everything each side has to say afterwards. The server's view, and the client's.
struct Outcome {
    client: Result<SpiffeId, (TlsErrorKind, String)>,
    server: Result<SpiffeId, (TlsErrorKind, String)>,
    /// Bytes of a request that the server could read.
    delivered: usize,
}

fn handshake(client: &Tls, config: Arc<ClientConfig>, server: &Tls) -> Outcome {
    let mut a = ClientConnection::new(config, server_name()).unwrap();
    let mut b = ServerConnection::new(server.server()).unwrap();
    let (mut a_error, mut b_error) = (None, None);
    let mut written = false;
    // Bounded: a handshake takes two turns.
    for _ in 0..10 {
        let mut wire = Vec::new();
        while a.wants_write() {
            a.write_tls(&mut wire).unwrap();
        }
        let mut input = wire.as_slice();
        while !input.is_empty() && b_error.is_none() {
            b.read_tls(&mut input).unwrap();
            b_error = b.process_new_packets().err();
        }
        let mut wire = Vec::new();
        while b.wants_write() {
            b.write_tls(&mut wire).unwrap();
        }
        let mut input = wire.as_slice();
        while !input.is_empty() && a_error.is_none() {
            a.read_tls(&mut input).unwrap();
            a_error = a.process_new_packets().err();
        }
        // A client that did not wait for the peer's HELLO, the worst case: it writes as soon as TLS lets it.
        if !a.is_handshaking() && !written && a_error.is_none() {
            io::Write::write_all(&mut a.writer(), b"request").unwrap();
            written = true;
        }
    }
    let mut request = Vec::new();
    let _ = io::Read::read_to_end(&mut b.reader(), &mut request);
    let verdict = |tls: &Tls, error: Option<rustls::Error>, state: &CommonState| match error {
        Some(error) => {
            let failure = tls.explain(&io::Error::new(io::ErrorKind::InvalidData, error));
            Err((failure.kind, failure.text))
        }
        None if state.is_handshaking() => Err((TlsErrorKind::Closed, String::new())),
        None => proven_peer(state).map_err(|e| (e.kind, e.to_string())),
    };
    Outcome { client: verdict(client, a_error, &a), server: verdict(server, b_error, &b), delivered: request.len() }
}

fn call(client: &Tls, service: &str, server: &Tls) -> Outcome {
    handshake(client, client.client_for(&name(service)), server)
}

/// The client refuses `server` for `kind` with `words` in its text; nothing was delivered and the server never learnt
/// who called.
fn check_client_refuses(client: &Tls, server: &Tls, kind: TlsErrorKind, words: &[&str]) {
    let outcome = call(client, "payments", server);
    let (found, text) = outcome.client.unwrap_err();
    assert_eq!(found, kind, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
    assert_eq!(outcome.server.unwrap_err().0, TlsErrorKind::Refused);
    assert_eq!(outcome.delivered, 0);
}

/// The server refuses `client` for `kind`; the client is told, and nothing was delivered.
fn check_server_refuses(client: &Tls, server: &Tls, kind: TlsErrorKind, words: &[&str], told: &str) {
    let outcome = call(client, "payments", server);
    let (found, text) = outcome.server.unwrap_err();
    assert_eq!(found, kind, "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
    let (found, text) = outcome.client.unwrap_err();
    assert_eq!(found, TlsErrorKind::Refused, "{text}");
    assert!(text.contains(told), "{told:?} is not in {text:?}");
    assert_eq!(outcome.delivered, 0);
}

#[test]
fn two_services_prove_who_they_are() {
    let ca = Ca::new();
    let (web, payments) = (ca.tls(&Says::service(WEB)), ca.tls(&Says::service(PAYMENTS)));
    let outcome = call(&web, "payments", &payments);
    assert_eq!(outcome.client.unwrap().to_string(), PAYMENTS);
    assert_eq!(outcome.server.unwrap().to_string(), WEB);
    assert_eq!(outcome.delivered, 7);
}

#[test]
fn only_tls_1_3_with_aes_gcm_first_and_nothing_to_resume() {
    let ca = Ca::new();
    let (web, payments) = (ca.tls(&Says::service(WEB)), ca.tls(&Says::service(PAYMENTS)));
    let server = payments.server();
    assert_eq!(server.send_tls13_tickets, 0);
    assert!(!server.session_storage.can_cache());
    assert_eq!(server.max_early_data_size, 0);
    let client = web.client_for(&name("payments"));
    assert!(!client.enable_sni && !client.enable_early_data);
    for suites in [&client.crypto_provider().cipher_suites, &server.crypto_provider().cipher_suites] {
        assert!(suites.iter().all(|suite| suite.tls13().is_some()));
        let chacha = suites.iter().position(|s| format!("{:?}", s.suite()).contains("CHACHA20"));
        assert_eq!(chacha, Some(suites.len() - 1));
    }
}

#[test]
fn a_caller_without_a_certificate_is_refused() {
    let ca = Ca::new();
    let (web, payments) = (ca.tls(&Says::service(WEB)), ca.tls(&Says::service(PAYMENTS)));
    let mut config = ClientConfig::builder_with_details(provider().clone(), Arc::new(Clock(NOW)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(VerifyService::new(&web.identity(), Some(name("payments")))))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    let outcome = handshake(&web, Arc::new(config), &payments);
    assert_eq!(outcome.server.unwrap_err().0, TlsErrorKind::NoCertificate);
    assert_eq!(outcome.client.unwrap_err().0, TlsErrorKind::Refused);
    assert_eq!(outcome.delivered, 0);
}

#[test]
fn another_ca_is_refused_by_both_sides() {
    let (ca, other) = (Ca::new(), Ca::new());
    let (web, stranger) = (ca.tls(&Says::service(WEB)), other.tls(&Says::service(PAYMENTS)));
    check_client_refuses(&web, &stranger, TlsErrorKind::UnknownCa, &["ca.pem", WEB]);

    // The caller trusts both CAs, the callee only its own: so the callee decides.
    let dir = ca.issue(&Says::service(WEB));
    fs::write(dir.path().join(CA_FILE), format!("{}{}", ca.pem, other.pem)).unwrap();
    let payments = other.tls(&Says::service(PAYMENTS));
    check_server_refuses(&load(dir.path()), &payments, TlsErrorKind::UnknownCa, &["ca.pem"], "refused us");
}

#[test]
fn overlapping_cas_carry_a_rotation() {
    let (old, new) = (Ca::new(), Ca::new());
    let both = format!("{}{}", old.pem, new.pem);
    let (a, b) = (old.issue(&Says::service(WEB)), new.issue(&Says::service(PAYMENTS)));
    fs::write(a.path().join(CA_FILE), &both).unwrap();
    fs::write(b.path().join(CA_FILE), &both).unwrap();
    let outcome = call(&load(a.path()), "payments", &load(b.path()));
    assert_eq!((outcome.client.is_ok(), outcome.server.is_ok()), (true, true));
}

#[test]
fn expiry_and_skew_show_both_clocks() {
    let ca = Ca::new();
    let (web, payments) = (ca.tls(&Says::service(WEB)), ca.tls(&Says::service(PAYMENTS)));
    let expired = Says { until: NOW - 60, ..Says::service(PAYMENTS) };
    let clocks = ["expired at 2025-12-31T23:59:00Z", "clock says 2026-01-01T00:00:00Z"];
    check_client_refuses(&web, &ca.tls(&expired), TlsErrorKind::Expired, &clocks);
    let early = Says { from: NOW + 300, ..Says::service(PAYMENTS) };
    let clocks = ["not valid before 2026-01-01T00:05:00Z", "clock says 2026-01-01T00:00:00Z"];
    check_client_refuses(&web, &ca.tls(&early), TlsErrorKind::NotYetValid, &clocks);

    let expired = ca.tls(&Says { until: NOW - 60, ..Says::service(WEB) });
    let told = "valid from 2025-12-31T23:00:00Z to 2025-12-31T23:59:00Z, and our clock says 2026-01-01T00:00:00Z";
    check_server_refuses(&expired, &payments, TlsErrorKind::Expired, &["expired at 2025-12-31T23:59:00Z"], told);
}

#[test]
fn another_trust_domain_of_the_same_ca_is_refused() {
    let ca = Ca::new();
    let elsewhere = ca.tls(&Says::service("spiffe://other.example/service/payments"));
    let web = ca.tls(&Says::service(WEB));
    check_client_refuses(&web, &elsewhere, TlsErrorKind::WrongTrustDomain, &["other.example", "test.example"]);
    // The other way round the server's verifier must find it: the client's is told to look at another domain.
    let outcome = {
        let mut config = ClientConfig::clone(&elsewhere.client_for(&name("web")));
        config.dangerous().set_certificate_verifier(Arc::new(VerifyService::new(&web.identity(), Some(name("web")))));
        handshake(&elsewhere, Arc::new(config), &web)
    };
    assert_eq!(outcome.server.unwrap_err().0, TlsErrorKind::WrongTrustDomain);
    assert_eq!(outcome.delivered, 0);
}

#[test]
fn another_service_than_the_one_called_is_refused() {
    let ca = Ca::new();
    let (web, orders) = (ca.tls(&Says::service(WEB)), ca.tls(&Says::service("spiffe://test.example/service/orders")));
    check_client_refuses(&web, &orders, TlsErrorKind::WrongService, &["service/orders", "called is payments"]);
    let outcome = handshake(&web, Arc::new(web.current.load().client.clone()), &orders);
    assert_eq!(outcome.client.unwrap_err().0, TlsErrorKind::WrongService, "the base configuration accepts nobody");
}

#[test]
fn a_peer_that_offers_no_alpn_is_refused() {
    let ca = Ca::new();
    let (web, payments) = (ca.tls(&Says::service(WEB)), ca.tls(&Says::service(PAYMENTS)));
    let mut config = ClientConfig::clone(&web.client_for(&name("payments")));
    config.alpn_protocols.clear();
    assert_eq!(handshake(&web, Arc::new(config.clone()), &payments).server.unwrap_err().0, TlsErrorKind::WrongProtocol);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let outcome = handshake(&web, Arc::new(config), &payments);
    assert_eq!(outcome.server.unwrap_err().0, TlsErrorKind::WrongProtocol);
    assert_eq!(outcome.delivered, 0);
}

/// The verifiers themselves meet certificates that no honest sidecar could load.
#[test]
fn the_spiffe_id_must_be_there_once() {
    let ca = Ca::new();
    let check = |uris: &[&'static str], ca_usage: bool, words: &str| {
        let says = Says { uris: uris.to_vec(), ca: ca_usage, ..Says::service(WEB) };
        let dir = ca.issue(&says);
        let error = Identity::load(dir.path()).unwrap_err();
        assert!(error.to_string().contains(words), "{words:?} is not in {error}");
        assert!(error.to_string().contains(CERT_FILE), "{error}");

        // The same certificate shown to a server by someone who does not check.
        let honest = ca.tls(&Says::service(WEB));
        let payments = ca.tls(&Says::service(PAYMENTS));
        let (cert, key) = ca.certificate(&says);
        let chain = vec![rustls_pki_types::pem::PemObject::from_pem_slice(cert.as_bytes()).unwrap()];
        let key = rustls_pki_types::pem::PemObject::from_pem_slice(key.as_bytes()).unwrap();
        let mut config = ClientConfig::builder_with_details(provider().clone(), Arc::new(Clock(NOW)))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(VerifyService::new(&honest.identity(), Some(name("payments")))))
            .with_client_auth_cert(chain, key)
            .unwrap();
        config.alpn_protocols = vec![ALPN.to_vec()];
        let outcome = handshake(&honest, Arc::new(config), &payments);
        assert_eq!(outcome.server.unwrap_err().0, TlsErrorKind::BadIdentity);
        assert_eq!(outcome.delivered, 0);
    };
    check(&[], false, "carries no SPIFFE id");
    check(&[WEB, PAYMENTS], false, "several URI names");
    check(&["https://test.example/service/web"], false, "does not begin with spiffe://");
    check(&["spiffe://test.example/web"], false, "/service/");
    check(&[WEB], true, "may sign certificates");
}

#[test]
fn spiffe_ids_are_parsed_strictly() {
    let id: SpiffeId = WEB.parse().unwrap();
    assert_eq!((&*id.trust_domain, id.service.as_str(), id.to_string().as_str()), ("test.example", "web", WEB));
    for bad in [
        "",
        "spiffe:",
        "spiffe://",
        "spiffe://test.example",
        "spiffe://test.example/",
        "spiffe://test.example/service",
        "spiffe://test.example/service/",
        "spiffe://test.example/service/web/",
        "spiffe://test.example/service/web/x",
        "spiffe://test.example//service/web",
        "spiffe://test.example/service/../web",
        "spiffe://test.example/service/w%65b",
        "spiffe://test.example/service/web?x",
        "spiffe://test.example/service/web#x",
        "spiffe://test.example/service/Web",
        "spiffe://test.example/Service/web",
        "spiffe://Test.example/service/web",
        "spiffe://test.example:8443/service/web",
        "spiffe://user@test.example/service/web",
        "spiffe:///service/web",
        "SPIFFE://test.example/service/web",
        " spiffe://test.example/service/web",
        "spiffe://test.example/service/web ",
        "spiffe://test.example/service/web\0",
        "spiffe://tést.example/service/web",
        "https://test.example/service/web",
    ] {
        assert!(bad.parse::<SpiffeId>().is_err(), "{bad:?}");
    }
    let long = format!("spiffe://{}/service/web", "a".repeat(256));
    assert!(long.parse::<SpiffeId>().is_err());
    let longest = format!("spiffe://{}/service/web", "a".repeat(255));
    assert!(longest.parse::<SpiffeId>().is_ok());
}

/// Each broken directory is refused with the file's name and what to do.
#[test]
fn broken_directories_are_refused() {
    let ca = Ca::new();
    let says = Says::service(WEB);
    let check = |spoil: &dyn Fn(&Path), kind: TlsErrorKind, words: &[&str]| {
        let dir = ca.issue(&says);
        spoil(dir.path());
        let error = Identity::load(dir.path()).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{word:?} is not in {error}");
        }
    };
    let file = TlsErrorKind::File;
    for name in [CA_FILE, CERT_FILE, KEY_FILE] {
        check(&|dir| fs::remove_file(dir.join(name)).unwrap(), file, &[name, "does not exist", "pillionctl ca issue"]);
        check(&|dir| fs::write(dir.join(name), "").unwrap(), file, &[name, "PEM"]);
        check(&|dir| fs::write(dir.join(name), vec![b'x'; 300_000]).unwrap(), file, &[name, "larger than"]);
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        check(&|dir| fs::write(dir.join(name), cut).unwrap(), file, &[name]);
    }
    let (cert, key) = ca.certificate(&says);
    check(&|dir| fs::write(dir.join(KEY_FILE), &key).unwrap(), TlsErrorKind::Inconsistent, &[KEY_FILE, CERT_FILE]);
    check(&|dir| fs::write(dir.join(CA_FILE), &cert).unwrap(), file, &[CA_FILE, "not a CA"]);
    let other = Ca::new();
    check(
        &|dir| fs::write(dir.join(CA_FILE), &other.pem).unwrap(),
        TlsErrorKind::Inconsistent,
        &["does not chain", CA_FILE],
    );
}

#[test]
fn an_expired_identity_loads_with_a_warning_and_is_mended_by_a_reload() {
    let ca = Ca::new();
    let dir = ca.issue(&Says { until: NOW - 60, ..Says::service(WEB) });
    let tls = load(dir.path());
    let warnings = tls.identity().warnings(UNIX_EPOCH + Duration::from_secs(NOW.unsigned_abs())).join("; ");
    assert!(warnings.contains("2025-12-31T23:59:00Z") && warnings.contains("2026-01-01T00:00:00Z"), "{warnings}");
    let payments = ca.tls(&Says::service(PAYMENTS));
    assert!(call(&tls, "payments", &payments).server.is_err());

    ca.issue_into(dir.path(), &Says::service(WEB));
    assert!(tls.reload().unwrap());
    assert!(call(&tls, "payments", &payments).server.is_ok());
    assert!(!tls.reload().unwrap(), "nothing changed since");
}

/// Whatever a reload finds wrong, the identity in use stays.
#[test]
fn a_bad_reload_keeps_the_old_identity() {
    let ca = Ca::new();
    let dir = ca.issue(&Says::service(WEB));
    let tls = load(dir.path());
    let serial = tls.identity().serial.clone();
    let refuses = |kind: TlsErrorKind| {
        let error = tls.reload().unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert_eq!(tls.identity().serial, serial);
    };
    let (cert, _) = ca.certificate(&Says::service(WEB));
    fs::write(dir.path().join(CERT_FILE), cert).unwrap();
    refuses(TlsErrorKind::Inconsistent);
    ca.issue_into(dir.path(), &Says::service(PAYMENTS));
    refuses(TlsErrorKind::IdentityChanged);
    ca.issue_into(dir.path(), &Says { until: NOW - 1, ..Says::service(WEB) });
    refuses(TlsErrorKind::Expired);
    ca.issue_into(dir.path(), &Says { from: NOW + 60, ..Says::service(WEB) });
    refuses(TlsErrorKind::NotYetValid);
    fs::remove_file(dir.path().join(KEY_FILE)).unwrap();
    refuses(TlsErrorKind::File);
    ca.issue_into(dir.path(), &Says::service(WEB));
    assert!(tls.reload().unwrap());
    assert_ne!(tls.identity().serial, serial);
}

type Reports = mpsc::UnboundedReceiver<Result<Arc<Identity>, TlsError>>;

fn watching(tls: &Arc<Tls>) -> (tokio::task::JoinHandle<()>, Reports) {
    let (send, reports) = mpsc::unbounded_channel();
    let watch = tls.clone().watch(move |result| {
        let _ = send.send(result);
    });
    (tokio::spawn(watch), reports)
}

async fn next(reports: &mut Reports) -> Result<Arc<Identity>, TlsError> {
    tokio::time::timeout(Duration::from_secs(20), reports.recv()).await.expect("a report in time").unwrap()
}

#[tokio::test]
async fn replaced_files_are_picked_up() {
    let ca = Ca::new();
    let dir = ca.issue(&Says::service(WEB));
    let tls = load(dir.path());
    let first = tls.identity().serial.clone();
    let (task, mut reports) = watching(&tls);

    // The first poll sees this even if it comes before the watch stands.
    ca.issue_into(dir.path(), &Says::service(WEB));
    let second = next(&mut reports).await.unwrap();
    assert_ne!(second.serial, first);

    // A key that is not the certificate's: told once, the old identity stays; then the whole set comes.
    let (_, key) = ca.certificate(&Says::service(WEB));
    fs::write(dir.path().join(KEY_FILE), key).unwrap();
    assert_eq!(next(&mut reports).await.unwrap_err().kind, TlsErrorKind::Inconsistent);
    assert_eq!(tls.identity().serial, second.serial);
    ca.issue_into(dir.path(), &Says::service(WEB));
    let third = next(&mut reports).await.unwrap();
    assert_ne!(third.serial, second.serial);
    assert_eq!(tls.identity().serial, third.serial);
    task.abort();
}

/// The way Kubernetes replaces a mounted secret: files are links through `..data`, and that link is swapped.
#[tokio::test]
async fn a_swapped_data_link_is_picked_up() {
    let ca = Ca::new();
    let dir = TempDir::new().unwrap();
    let generation = |n: u32| {
        let inner = dir.path().join(format!("..{n}"));
        fs::create_dir(&inner).unwrap();
        ca.issue_into(&inner, &Says::service(WEB));
        let link = dir.path().join("..data_tmp");
        std::os::unix::fs::symlink(format!("..{n}"), &link).unwrap();
        fs::rename(&link, dir.path().join("..data")).unwrap();
    };
    generation(1);
    for file in [CA_FILE, CERT_FILE, KEY_FILE] {
        std::os::unix::fs::symlink(format!("..data/{file}"), dir.path().join(file)).unwrap();
    }
    let tls = load(dir.path());
    let (task, mut reports) = watching(&tls);
    for n in 2..5 {
        let before = tls.identity().serial.clone();
        generation(n);
        assert_ne!(next(&mut reports).await.unwrap().serial, before);
    }
    task.abort();
}
