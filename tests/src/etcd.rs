//! A real etcd, one for each test that needs one: it can be frozen, killed and started again with or without its data.

use crate::ports::Port;
use crate::process::Process;
use crate::wait::until;
use etcd_client::{Client, DeleteOptions, GetOptions};
use nix::sys::signal::Signal;
use std::future::Future;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// How long etcd may take to come up.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running (or killed) etcd on ports of its own.
#[derive(Debug)]
pub struct Etcd {
    // Dropped in this order: the process's last words are read from the directory.
    process: Option<Process>,
    client: Port,
    peer: Port,
    dir: TempDir,
}

impl Etcd {
    /// Starts an empty one and waits until it answers.
    #[must_use]
    pub fn start() -> Etcd {
        let mut etcd = Etcd {
            client: Port::lease(),
            peer: Port::lease(),
            dir: tempfile::tempdir().expect("a temporary directory"),
            process: None,
        };
        etcd.spawn();
        etcd
    }

    /// The registry URL for `--registry`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("etcd://{}", self.client.local())
    }

    /// SIGSTOP: the port accepts, nothing answers.
    pub fn freeze(&mut self) {
        self.running().signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn thaw(&mut self) {
        self.running().signal(Signal::SIGCONT);
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Starts again after a kill, with the data of before.
    pub fn restart(&mut self) {
        self.kill();
        self.spawn();
    }

    /// Starts again after a kill as a new, empty cluster.
    pub fn restart_empty(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.data_dir()).expect("remove etcd's data");
        self.spawn();
    }

    /// Puts a key.
    pub fn put(&self, key: &str, value: &str) {
        self.with(async |mut client| client.put(key, value, None).await.map(drop));
    }

    /// Deletes everything that begins with `prefix`; how many keys that were.
    pub fn delete_prefix(&self, prefix: &str) -> i64 {
        self.with(async |mut client| {
            let options = DeleteOptions::new().with_prefix();
            client.delete(prefix, Some(options)).await.map(|answer| answer.deleted())
        })
    }

    /// All keys and values that begin with `prefix`.
    #[must_use]
    pub fn list(&self, prefix: &str) -> Vec<(String, String)> {
        self.with(async |mut client| {
            let options = GetOptions::new().with_prefix();
            let answer = client.get(prefix, Some(options)).await?;
            Ok(answer
                .kvs()
                .iter()
                .map(|kv| {
                    (String::from_utf8_lossy(kv.key()).into_owned(), String::from_utf8_lossy(kv.value()).into_owned())
                })
                .collect())
        })
    }

    /// The keys of one service's instances.
    #[must_use]
    pub fn instances(&self, service: &str) -> Vec<String> {
        self.list(&format!("/pillion/services/{service}/")).into_iter().map(|(key, _)| key).collect()
    }

    /// Runs `work` with a client, on a runtime of its own, with a time limit.
    #[track_caller]
    pub fn with<T, F>(&self, work: impl FnOnce(Client) -> F) -> T
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let limited = tokio::time::timeout(Duration::from_secs(60), async {
                let client = Client::connect([format!("http://{}", self.client.local())], None).await?;
                work(client).await
            });
            limited.await.expect("etcd answers within a minute").unwrap_or_else(|error| panic!("etcd: {error}"))
        })
    }

    fn spawn(&mut self) {
        let mut command = Command::new("etcd");
        let client = format!("http://{}", self.client.local());
        let peer = format!("http://{}", self.peer.local());
        if std::env::consts::ARCH == "aarch64" {
            command.env("ETCD_UNSUPPORTED_ARCH", "arm64");
        }
        command
            .args(["--name", "one", "--logger", "zap", "--log-level", "warn"])
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--listen-client-urls", &client])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")]);
        let log = self.dir.path().join("etcd.log");
        self.process = Some(Process::start("etcd", command, &log));
        let address = self.client.local();
        until("etcd to listen", START_LIMIT, || TcpStream::connect(address));
        until("etcd to be healthy", START_LIMIT, || {
            match crate::http::try_call(address, &crate::http::Request::get("etcd", "/health")) {
                Ok(answer) if answer.text().contains("true") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn running(&mut self) -> &mut Process {
        self.process.as_mut().expect("etcd runs")
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // A stopped process dies of SIGKILL too; this only keeps the order clear.
            process.signal(Signal::SIGCONT);
        }
    }
}
