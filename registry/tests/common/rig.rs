//! One kind of registry each, as the contract suite needs it: something to open, and a hand that writes beside it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pillion_registry::{Endpoint, Options, RegistryUrl, Source, open};

use super::etcd::Etcd;
use super::{Changes, channel};

/// The shortest lease that keeps its promises on a busy machine.
pub const TTL: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub enum Rig {
    Etcd(Box<Etcd>),
    File(tempfile::TempDir),
    /// Its endpoints are fixed when it is opened.
    Static(Vec<Endpoint>),
}

impl Rig {
    pub async fn etcd() -> Rig {
        Rig::Etcd(Box::new(Etcd::start().await))
    }

    pub async fn file() -> Rig {
        Rig::File(tempfile::tempdir().expect("a directory"))
    }

    pub async fn fixed() -> Rig {
        Rig::Static(Vec::new())
    }

    pub fn url(&self) -> RegistryUrl {
        match self {
            Rig::Etcd(etcd) => etcd.url().parse().expect("a URL"),
            Rig::File(dir) => format!("file://{}", dir.path().display()).parse().expect("a URL"),
            Rig::Static(_) => RegistryUrl::Static,
        }
    }

    pub fn open(&self) -> (Arc<dyn Source>, Changes) {
        self.open_with(Options { lease_ttl: TTL, ..Options::default() })
    }

    pub fn open_with(&self, mut options: Options) -> (Arc<dyn Source>, Changes) {
        if let Rig::Static(endpoints) = self {
            options.static_endpoints.clone_from(endpoints);
        }
        let (sender, changes) = channel();
        (open(&self.url(), options, sender).expect("a source"), changes)
    }

    /// Writes records as another hand would; for `static` before it is opened.
    pub async fn write(&mut self, records: &[Endpoint]) {
        let raw: Vec<_> = records.iter().map(|endpoint| (endpoint.key.to_string(), endpoint.to_json())).collect();
        if let Rig::Static(endpoints) = self {
            endpoints.extend_from_slice(records);
        } else {
            self.write_raw(&raw).await;
        }
    }

    pub async fn write_raw(&self, records: &[(String, Vec<u8>)]) {
        match self {
            Rig::Etcd(etcd) => etcd.put_many(records).await,
            Rig::File(_) => {
                for (relative, value) in records {
                    let path = self.path(relative);
                    std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
                    std::fs::write(path, value).expect("write");
                }
            }
            Rig::Static(_) => panic!("a static registry has no records"),
        }
    }

    pub async fn delete(&self, relative: &str) {
        match self {
            Rig::Etcd(etcd) => etcd.delete(relative).await,
            Rig::File(_) => std::fs::remove_file(self.path(relative)).expect("remove"),
            Rig::Static(_) => panic!("a static registry has no records"),
        }
    }

    pub async fn delete_all(&self) {
        match self {
            Rig::Etcd(etcd) => etcd.delete_all().await,
            Rig::File(dir) => std::fs::remove_dir_all(dir.path().join("services")).expect("remove"),
            Rig::Static(_) => panic!("a static registry has no records"),
        }
    }

    /// The record as it stands.
    pub async fn read(&self, relative: &str) -> Option<Vec<u8>> {
        match self {
            Rig::Etcd(etcd) => etcd.get(relative).await.map(|kv| kv.value().to_vec()),
            Rig::File(_) => std::fs::read(self.path(relative)).ok(),
            Rig::Static(_) => panic!("a static registry has no records"),
        }
    }

    fn path(&self, relative: &str) -> PathBuf {
        let Rig::File(dir) = self else { panic!("only files have a path") };
        dir.path().join("services").join(relative)
    }
}
