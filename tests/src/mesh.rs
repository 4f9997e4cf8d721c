//! The usual set-up: one registry, one CA, instances (an app and its sidecar) and callers.

use crate::app::App;
use crate::etcd::Etcd;
use crate::identity::Ca;
use crate::registry_dir::RegistryDir;
use crate::sidecar::{Builder, Sidecar};
use std::time::Duration;

/// What the sidecars of one test share.
#[derive(Debug)]
pub struct Mesh {
    url: String,
    ca: Ca,
    // Kept for its directory.
    _dir: Option<RegistryDir>,
}

/// An app and the sidecar in front of it.
#[derive(Debug)]
pub struct Instance {
    pub sidecar: Sidecar,
    pub app: App,
}

impl Mesh {
    /// Over an etcd that the test owns.
    #[must_use]
    pub fn on_etcd(etcd: &Etcd) -> Mesh {
        Mesh { url: etcd.url(), ca: Ca::new(), _dir: None }
    }

    /// Over a `file://` registry.
    #[must_use]
    pub fn on_files() -> Mesh {
        let dir = RegistryDir::new();
        Mesh { url: dir.url(), ca: Ca::new(), _dir: Some(dir) }
    }

    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    #[must_use]
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// A sidecar of this mesh for `service`.
    #[must_use]
    pub fn builder(&self, service: &str) -> Builder {
        Sidecar::builder(service).registry(&self.url).identity(self.ca.issue(service))
    }

    /// An app named `name` behind a sidecar for `service`, ready.
    #[track_caller]
    pub fn instance(&self, service: &str, name: &str) -> Instance {
        let app = App::start(name);
        let sidecar = self.builder(service).label(name).app(app.address()).start();
        Instance { sidecar, app }
    }

    /// A client-only sidecar for `service`, ready.
    #[track_caller]
    pub fn caller(&self, service: &str) -> Sidecar {
        self.builder(service).start()
    }

    /// A caller, one instance of `payments`, and the first call between them made.
    #[track_caller]
    pub fn pair(&self) -> (Sidecar, Instance) {
        let payments = self.instance("payments", "payments-1");
        let caller = self.caller("orders");
        first_call(&caller, "payments");
        (caller, payments)
    }
}

/// Waits until a call to `service` is answered: registering takes a moment.
#[track_caller]
pub fn first_call(caller: &Sidecar, service: &str) {
    crate::wait::until(&format!("a first answer from {service}"), Duration::from_secs(10), || {
        crate::http::get(caller.outbound(), service, "/who").ok()
    });
}
