//! The usual set-up: one registry, one CA, instances (an app and its sidecar) and callers.

use crate::app::App;
use crate::etcd::Etcd;
use crate::identity::Ca;
use crate::ports::Port;
use crate::registry_dir::RegistryDir;
use crate::sidecar::{Builder, Sidecar};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long registering may take.
const TABLE_LIMIT: Duration = Duration::from_secs(20);
/// How long one side of a connection waits for the other on a busy machine.
const WAIT_LIMIT: Duration = Duration::from_secs(20);

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

/// A caller's sidecar with a port for one service, and a sidecar for each of that service's apps.
#[derive(Debug)]
pub struct Doorway {
    pub caller: Sidecar,
    pub callees: Vec<Sidecar>,
    pub door: Port,
    // Kept for the registry's directory.
    _mesh: Mesh,
}

impl Doorway {
    /// To `service`, whose apps speak `protocol`, as the port does. The configs are for the caller's sidecar and for each of the callees'.
    #[must_use]
    #[track_caller]
    pub fn open(service: &str, protocol: &str, apps: &[SocketAddr], [caller, callee]: [&str; 2]) -> Doorway {
        let mesh = Mesh::on_files();
        let start = |app| mesh.builder(service).config(callee).app_at(&format!("{protocol}://{app}")).start();
        let callees: Vec<_> = apps.iter().map(start).collect();
        let (caller, door) = mesh.door(service, protocol, caller);
        caller.wait_table(service, TABLE_LIMIT, &callees.iter().map(Sidecar::inbound).collect::<Vec<_>>());
        Doorway { caller, callees, door, _mesh: mesh }
    }

    /// A connection of the caller's, with limits on how long it waits.
    #[must_use]
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        connect(self.door.local())
    }
}

/// A connection, with limits on how long it waits.
#[must_use]
#[track_caller]
pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("somebody listens");
    stream.set_read_timeout(Some(WAIT_LIMIT)).expect("a limit on reads");
    stream.set_write_timeout(Some(WAIT_LIMIT)).expect("a limit on writes");
    stream.set_nodelay(true).expect("no delay");
    stream
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

    /// A client-only sidecar with a port of its own for `service`, where callers speak `protocol`; and that port. `config`: what else its
    /// file says.
    #[track_caller]
    pub fn door(&self, service: &str, protocol: &str, config: &str) -> (Sidecar, Port) {
        let port = Port::lease();
        let address = port.local();
        let door = format!("[[outbound]]\nlisten = \"{address}\"\nservice = \"{service}\"\nprotocol = \"{protocol}\"");
        let caller = self.builder("web").config(&format!("prefetch = [\"{service}\"]\n{config}\n{door}")).start();
        (caller, port)
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
