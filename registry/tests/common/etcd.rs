//! A real etcd (Debian package `etcd-server`) on free ports, that can be frozen, killed, and started again with or without
//! its data.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcd_client::{
    Certificate, Client, ConnectOptions, DeleteOptions, GetOptions, Identity, KeyValue, PutOptions, TlsOptions,
};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitPidFlag;
use nix::unistd::Pid;
use tokio::time::Instant;

const PREFIX: &str = "/pillion";

#[derive(Debug)]
pub struct Etcd {
    dir: tempfile::TempDir,
    client_port: u16,
    peer_port: u16,
    arguments: Vec<String>,
    child: Option<Child>,
    /// With it, clients must show a certificate.
    tls: Option<Certificates>,
}

/// PEM: an authority, and one certificate for both ends.
#[derive(Debug, Clone)]
pub struct Certificates {
    pub ca: String,
    pub cert: String,
    pub key: String,
}

impl Certificates {
    pub fn new() -> Certificates {
        use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca = CertificateParams::new(Vec::new()).expect("parameters");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = ca.self_signed(&ca_key).expect("an authority").pem();
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let cert = params.signed_by(&key, &Issuer::new(ca, ca_key)).expect("a certificate");
        Certificates { ca: ca_pem, cert: cert.pem(), key: key.serialize_pem() }
    }
}

impl Etcd {
    pub async fn start() -> Etcd {
        Self::start_with(&[]).await
    }

    /// Speaking TLS, with certificates demanded of clients.
    pub async fn start_with_tls() -> (Etcd, Certificates) {
        let certificates = Certificates::new();
        (Self::start_as(&[], Some(certificates.clone())).await, certificates)
    }

    /// With further command-line arguments.
    pub async fn start_with(arguments: &[&str]) -> Etcd {
        Self::start_as(arguments, None).await
    }

    async fn start_as(arguments: &[&str], tls: Option<Certificates>) -> Etcd {
        let mut etcd = Etcd {
            dir: tempfile::tempdir().expect("a directory for etcd"),
            client_port: 0,
            peer_port: 0,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            child: None,
            tls,
        };
        // A port that was free a moment ago may have been taken by another test meanwhile.
        for _ in 0..5 {
            (etcd.client_port, etcd.peer_port) = free_ports();
            if etcd.restart().await {
                return etcd;
            }
        }
        panic!("etcd did not start on five pairs of ports; its log:\n{}", etcd.log());
    }

    /// An etcd that is not running yet, at the address it will have.
    pub fn later() -> Etcd {
        let (client_port, peer_port) = free_ports();
        let dir = tempfile::tempdir().expect("a directory for etcd");
        Etcd { dir, client_port, peer_port, arguments: Vec::new(), child: None, tls: None }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    pub fn url(&self) -> String {
        format!("etcd://{}", self.address())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Starts it with the data that it has; waits until it answers. False: it ended at once.
    pub async fn restart(&mut self) -> bool {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", self.client_port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let log = std::fs::File::create(self.dir.path().join("log")).expect("a log file");
        let mut command = Command::new(binary());
        if let Some(tls) = &self.tls {
            for (name, flag, text) in [
                ("ca.pem", "--trusted-ca-file", &tls.ca),
                ("cert.pem", "--cert-file", &tls.cert),
                ("key.pem", "--key-file", &tls.key),
            ] {
                let path = self.dir.path().join(name);
                std::fs::write(&path, text).expect("write");
                command.arg(flag).arg(path);
            }
            command.arg("--client-cert-auth");
        }
        let child = command
            .args(["--name", "one", "--initial-cluster", &format!("one={peer}")])
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd starts");
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(child) = &mut self.child
                && child.try_wait().expect("the state of etcd").is_some()
            {
                self.child = None;
                return false;
            }
            if self.answers().await {
                return true;
            }
            assert!(Instant::now() < deadline, "etcd does not answer; its log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    fn login(&self) -> Option<ConnectOptions> {
        let tls = self.tls.as_ref()?;
        let config = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(&tls.ca))
            .identity(Identity::from_pem(&tls.cert, &tls.key));
        Some(ConnectOptions::new().with_tls(config))
    }

    async fn answers(&self) -> bool {
        let Ok(mut client) = Client::connect([self.address()], self.login()).await else { return false };
        match tokio::time::timeout(Duration::from_secs(1), client.get("x", None)).await {
            Ok(Ok(_)) => true,
            // With authentication on, no is an answer.
            Ok(Err(etcd_client::Error::GRpcStatus(status))) => status.message().contains("user name is empty"),
            _ => false,
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill etcd");
            child.wait().expect("etcd ends");
        }
    }

    /// Removes all data of an etcd that was killed.
    pub fn forget(&mut self) {
        assert!(self.child.is_none(), "kill it first");
        std::fs::remove_dir_all(self.dir.path().join("data")).expect("remove the data");
    }

    /// SIGSTOP: it answers nothing, and its sockets stay open.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.as_ref().expect("etcd runs").id()).expect("a pid fits");
        let pid = Pid::from_raw(id);
        nix::sys::signal::kill(pid, signal).expect("signal etcd");
        if signal == Signal::SIGSTOP {
            // Its threads stop one after the other: until the last has, it may still answer.
            nix::sys::wait::waitpid(pid, Some(WaitPidFlag::WUNTRACED)).expect("etcd stops");
        }
    }

    pub async fn client(&self) -> Client {
        Client::connect([self.address()], self.login()).await.expect("a client")
    }

    pub async fn client_as(&self, user: &str, password: &str) -> Client {
        let options = ConnectOptions::new().with_user(user, password);
        Client::connect([self.address()], Some(options)).await.expect("a client")
    }

    /// Puts a record at `/pillion/services/{relative}`, without a lease.
    pub async fn put(&self, relative: &str, value: &[u8]) {
        self.client().await.put(format!("{PREFIX}/services/{relative}"), value, None).await.expect("put");
    }

    pub async fn put_many(&self, records: &[(String, Vec<u8>)]) {
        let mut client = self.client().await;
        for records in records.chunks(100) {
            let puts: Vec<_> = records
                .iter()
                .map(|(relative, value)| {
                    let key = format!("{PREFIX}/services/{relative}");
                    etcd_client::TxnOp::put(key, value.clone(), None::<PutOptions>)
                })
                .collect();
            client.txn(etcd_client::Txn::new().and_then(puts)).await.expect("puts");
        }
    }

    pub async fn delete(&self, relative: &str) {
        self.client().await.delete(format!("{PREFIX}/services/{relative}"), None).await.expect("delete");
    }

    /// Everything below `/pillion/services/` goes at once.
    pub async fn delete_all(&self) {
        let all = DeleteOptions::new().with_prefix();
        self.client().await.delete(format!("{PREFIX}/services/"), Some(all)).await.expect("delete");
    }

    pub async fn get(&self, relative: &str) -> Option<KeyValue> {
        let answer = self.client().await.get(format!("{PREFIX}/services/{relative}"), None).await.expect("get");
        answer.kvs().first().cloned()
    }

    /// The store's revision now.
    pub async fn revision(&self) -> i64 {
        let count = GetOptions::new().with_count_only();
        let answer = self.client().await.get("x", Some(count)).await.expect("get");
        answer.header().expect("a header").revision()
    }

    pub async fn compact(&self) {
        let revision = self.revision().await;
        let physical = etcd_client::CompactionOptions::new().with_physical();
        self.client().await.compact(revision, Some(physical)).await.expect("compact");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.thaw();
        }
        self.kill();
    }
}

/// etcd on PATH, or where Debian keeps what only root runs.
fn binary() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|dir| dir.join("etcd"))
        .find(|file| file.is_file())
        .expect("no etcd on PATH: these tests need a real one, from the Debian package etcd-server")
}

fn free_ports() -> (u16, u16) {
    let one = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let two = TcpListener::bind("127.0.0.1:0").expect("a free port");
    (one.local_addr().expect("address").port(), two.local_addr().expect("address").port())
}
