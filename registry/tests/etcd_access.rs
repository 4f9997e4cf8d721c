//! Passwords, rights and certificates, against a real etcd.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::etcd::{Certificates, Etcd};
use common::rig::TTL;
use common::{Changes, channel, endpoint, service};
use etcd_client::{Permission, PermissionType};
use pillion_registry::{Change, EtcdOptions, Options, RegistryError, Reread, Source, open};

fn source_with(url: &str, etcd: EtcdOptions) -> (Arc<dyn Source>, Changes) {
    let (sender, changes) = channel();
    let options = Options { lease_ttl: TTL, etcd, ..Options::default() };
    (open(&url.parse().expect("a URL"), options, sender).expect("a source"), changes)
}

async fn with_passwords(etcd: &Etcd) {
    let mut client = etcd.client().await;
    client.user_add("root", "rootpw", None).await.expect("root");
    client.role_add("root").await.expect("role");
    client.user_grant_role("root", "root").await.expect("grant");
    client.role_add("pillion").await.expect("role");
    let whole = Permission::new(PermissionType::Readwrite, "/pillion/").with_prefix();
    client.role_grant_permission("pillion", whole).await.expect("permission");
    client.user_add("sidecar", "s3cret", None).await.expect("user");
    client.user_grant_role("sidecar", "pillion").await.expect("grant");
    client.role_add("narrow").await.expect("role");
    let pay = Permission::new(PermissionType::Readwrite, "/pillion/services/pay/").with_prefix();
    client.role_grant_permission("narrow", pay).await.expect("permission");
    client.user_add("narrow", "s3cret", None).await.expect("user");
    client.user_grant_role("narrow", "narrow").await.expect("grant");
    client.auth_enable().await.expect("authentication on");
}

fn login(user: &str, password: &str) -> EtcdOptions {
    EtcdOptions { user: Some(user.to_owned()), password: Some(password.to_owned()), ..EtcdOptions::default() }
}

#[tokio::test]
async fn with_password_authentication() {
    let mut etcd = Etcd::start().await;
    with_passwords(&etcd).await;
    let (source, mut changes) = source_with(&etcd.url(), login("sidecar", "s3cret"));
    source.follow(&service("pay"));
    changes.addresses("pay", &[]).await;
    let own = endpoint("pay/1.0.0/10.0.0.1:1");
    source.register(own.clone());
    changes.registered().await;
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    // Tokens live in the memory of etcd: after a restart ours is unknown, and everything has to log in again.
    etcd.kill();
    assert!(etcd.restart().await, "etcd starts again");
    let (other, mut other_changes) =
        source_with(&etcd.url().replace("//", "//sidecar:s3cret@"), EtcdOptions::default());
    other.register(endpoint("pay/1.0.0/10.0.0.2:2"));
    other_changes.registered().await;
    changes.addresses("pay", &["10.0.0.1:1", "10.0.0.2:2"]).await;
    other.withdraw().await.expect("left");
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    source.withdraw().await.expect("left");
    assert_eq!(other.list().await.expect("a list"), []);
}

#[tokio::test]
async fn a_login_that_is_over_is_renewed() {
    let etcd = Etcd::start_with(&["--auth-token-ttl", "1"]).await;
    with_passwords(&etcd).await;
    let (source, mut changes) = source_with(&etcd.url(), login("sidecar", "s3cret"));
    source.follow(&service("pay"));
    changes.addresses("pay", &[]).await;
    // Longer than a login lasts that nobody uses.
    tokio::time::sleep(Duration::from_secs(6)).await;
    source.follow(&service("orders"));
    changes.addresses("orders", &[]).await;
    let (other, mut other_changes) = source_with(&etcd.url(), login("sidecar", "s3cret"));
    other.register(endpoint("orders/1.0.0/10.0.0.1:1"));
    other_changes.registered().await;
    changes.addresses("orders", &["10.0.0.1:1"]).await;
    other.register(endpoint("pay/1.0.0/10.0.0.1:1"));
    changes.addresses("pay", &["10.0.0.1:1"]).await;
}

#[tokio::test]
async fn a_wrong_password_is_said_and_not_shown() {
    let etcd = Etcd::start().await;
    with_passwords(&etcd).await;
    let (_wrong, mut changes) = source_with(&etcd.url(), login("sidecar", "wr0ng-secret"));
    let error = changes.disconnected().await;
    assert!(error.contains("authentication failed") && !error.contains("wr0ng-secret"), "{error}");
    let (_none, mut changes) = source_with(&etcd.url(), EtcdOptions::default());
    let error = changes.disconnected().await;
    assert!(error.contains("user name is empty"), "{error}");
}

#[tokio::test]
async fn with_certificates() {
    let (etcd, tls) = Etcd::start_with_tls().await;
    let bytes = |text: &str| Some(text.as_bytes().to_vec());
    let options = EtcdOptions {
        ca_pem: bytes(&tls.ca),
        cert_pem: bytes(&tls.cert),
        key_pem: bytes(&tls.key),
        ..EtcdOptions::default()
    };
    let (source, mut changes) = source_with(&etcd.url(), options.clone());
    source.follow(&service("pay"));
    source.register(endpoint("pay/1.0.0/10.0.0.1:1"));
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    source.withdraw().await.expect("left");
    changes.addresses("pay", &[]).await;

    let other = Certificates::new();
    let (_stranger, mut changes) =
        source_with(&etcd.url(), EtcdOptions { ca_pem: bytes(&other.ca), ..options.clone() });
    let error = changes.disconnected().await;
    assert!(error.contains("certificate"), "{error}");
    let (sender, _changes) = channel();
    let half = Options { etcd: EtcdOptions { key_pem: None, ..options }, ..Options::default() };
    let refused = open(&etcd.url().parse().expect("a URL"), half, sender).expect_err("half a certificate");
    assert!(matches!(refused, RegistryError::Invalid(_)), "{refused}");
}

#[tokio::test]
async fn a_service_that_may_not_be_read_does_not_disturb_the_others() {
    let etcd = Etcd::start().await;
    with_passwords(&etcd).await;
    let (source, mut changes) = source_with(&etcd.url(), login("narrow", "s3cret"));
    source.follow(&service("orders"));
    let reason = changes.rejected("/pillion/services/orders/").await;
    assert!(reason.contains("permission denied"), "{reason}");
    source.follow(&service("pay"));
    changes.addresses("pay", &[]).await;
    source.register(endpoint("pay/1.0.0/10.0.0.1:1"));
    changes.registered().await;
    changes.addresses("pay", &["10.0.0.1:1"]).await;
    assert!(matches!(source.list().await, Err(RegistryError::Refused(_))));
    // The right is given later: no restart is needed.
    let mut admin = etcd.client_as("root", "rootpw").await;
    let orders = Permission::new(PermissionType::Readwrite, "/pillion/services/orders/").with_prefix();
    admin.role_grant_permission("narrow", orders).await.expect("permission");
    changes.addresses("orders", &[]).await;
    // Taken again: what is known of it stands, and the other service goes on.
    source.register(endpoint("pay/1.0.0/10.0.0.2:2"));
    changes.addresses("pay", &["10.0.0.2:2"]).await;
    let lost = |change: &Change| matches!(change, Change::Disconnected { .. });
    assert!(!changes.seen.iter().any(lost), "{:?}", changes.seen);
}

#[tokio::test]
async fn tls_without_an_authority_is_refused_at_once() {
    let pem = || Some(b"x".to_vec());
    let own = EtcdOptions { cert_pem: pem(), key_pem: pem(), ..EtcdOptions::default() };
    for (url, etcd) in [("etcd://h?tls=true", EtcdOptions::default()), ("etcd://h", own)] {
        let (sender, _changes) = channel();
        let options = Options { etcd, ..Options::default() };
        let refused = open(&url.parse().expect("a URL"), options, sender).expect_err(url);
        assert!(matches!(&refused, RegistryError::Invalid(why) if why.contains("authority")), "{url}: {refused}");
    }
}

#[tokio::test]
async fn a_replaced_password_is_used_from_the_next_connection_on() {
    let etcd = Etcd::start().await;
    with_passwords(&etcd).await;
    let file = Arc::new(std::sync::Mutex::new(Err("half written".to_owned())));
    let read = Arc::clone(&file);
    let reread: Reread =
        Arc::new(move || read.lock().expect("not poisoned").clone().map(|word: String| login("sidecar", &word)));
    let (source, mut changes) =
        source_with(&etcd.url(), EtcdOptions { reread: Some(reread), ..login("sidecar", "0ld") });
    let error = changes.disconnected().await;
    assert!(error.contains("authentication failed"), "{error}");
    *file.lock().expect("not poisoned") = Ok("s3cret".to_owned());
    source.follow(&service("pay"));
    changes.addresses("pay", &[]).await;
}
