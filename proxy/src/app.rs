//! The only place that builds and joins everything. Runs on the main thread: that is the control thread, for discovery,
//! the admin port, certificates and the shutdown; the workers carry the calls.

use std::fmt;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use registry::{Endpoint, EndpointKey, InstanceId, Source, Table};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

use crate::admin::{self, AdminState, Readiness};
use crate::config::{self, Config, Descriptors, Loaded, LocalAddress};
use crate::discovery::{self, Follower, View};
use crate::drain::Ending;
use crate::error::ErrorCode;
use crate::ingress::listener::{self, LocalListener};
use crate::logging::{self, Handle};
use crate::metrics::Metrics;
use crate::tls::{self, SpiffeId, Tls, TlsErrorKind};
use crate::worker::{Common, Listening, Workers};
use crate::wrapper;

mod methods;
mod one_thread;
mod registration;

use methods::Reflecting;
pub use one_thread::OneThread;
use registration::Registration;

/// At the end, for what still runs on threads of its own: a look-up of a name, a write to the disk.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// Exit code of a start that failed.
const FAILED: u8 = 1;

/// Why the sidecar did not start.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

fn cannot(what: impl fmt::Display, error: impl fmt::Display) -> StartError {
    StartError(format!("{what}: {error}"))
}

/// Runs the sidecar to its end.
pub fn run(loaded: Loaded) -> ExitCode {
    let log = match logging::init(&loaded.config.log) {
        Ok(log) => log,
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "pillion: logging: {error}");
            return ExitCode::from(FAILED);
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    raise_descriptor_limit();
    let result = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let result = LocalSet::new().block_on(&runtime, serve(loaded, log.clone()));
            runtime.shutdown_timeout(LAST_WORDS);
            result
        }
        Err(error) => Err(cannot("the runtime", error)),
    };
    let code = match result {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error}");
            FAILED
        }
    };
    // The last handle: what is queued for stderr is written before the process ends.
    drop(log);
    ExitCode::from(code)
}

/// Connections are descriptors: use as many as the hard limit allows.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// The bound sockets.
struct Listeners {
    outbound: LocalListener,
    doors: Vec<Listening>,
    inbound: Option<std::net::TcpListener>,
    admin: std::net::TcpListener,
    outbound_address: LocalAddress,
    inbound_address: Option<SocketAddr>,
    admin_address: SocketAddr,
}

impl Listeners {
    fn bind(config: &Config) -> Result<Listeners, StartError> {
        let local = |what: &str, address: &LocalAddress| {
            let listener = LocalListener::bind(address, config.listen.socket_mode);
            bound(what, address, listener, LocalListener::address)
        };
        let tcp = |what: &str, address: SocketAddr| {
            bound(what, address, listener::bind(address), std::net::TcpListener::local_addr)
        };
        let (outbound, outbound_address) = local("listen.outbound", &config.listen.outbound)?;
        let (admin, admin_address) = tcp("listen.admin", config.listen.admin)?;
        let mut doors = Vec::new();
        for door in &config.outbound {
            let (listener, _) = local(&format!("[[outbound]] {}", door.service), &door.listen)?;
            doors.push(Listening::Outbound(listener, Some(Arc::new(door.clone()))));
        }
        // A client-only sidecar takes no calls: it needs no port for them.
        let inbound = match config.app {
            Some(_) => Some(tcp("listen.inbound", config.listen.inbound)?),
            None => None,
        };
        let (inbound, inbound_address) = inbound.unzip();
        Ok(Listeners { outbound, doors, inbound, admin, outbound_address, inbound_address, admin_address })
    }

    /// Has the workers accept calls; what stays is the admin port.
    fn hand_over(self, workers: &Workers) -> std::net::TcpListener {
        workers.listen(Listening::Outbound(self.outbound, None));
        self.doors.into_iter().for_each(|door| workers.listen(door));
        if let Some(inbound) = self.inbound {
            workers.listen(Listening::Inbound(inbound));
        }
        self.admin
    }
}

/// A listener, and where it listens; or why there is none.
fn bound<L, A: fmt::Display>(
    what: &str,
    wanted: impl fmt::Display,
    listener: io::Result<L>,
    address: impl Fn(&L) -> io::Result<A>,
) -> Result<(L, A), StartError> {
    let listener = listener.map_err(|error| cannot(format!("{what} {wanted}"), error))?;
    let address = address(&listener).map_err(|error| cannot(what, error))?;
    tracing::info!(%address, "listening: {what}");
    Ok((listener, address))
}

/// What carries calls, ready for its workers. The registry is being followed already.
struct Core {
    common: Common,
    listeners: Listeners,
    instance: InstanceId,
    source: Arc<dyn Source>,
    follower: Follower,
    /// The table of the last run was there to begin with.
    from_disk: bool,
    /// The configuration as the admin port shows it.
    shown: serde_json::Value,
}

impl Core {
    fn build(mut loaded: Loaded) -> Result<Core, StartError> {
        let nameless = loaded.config.service.is_none();
        let tls = load_identity(&mut loaded.config)?;
        let mut shown = loaded.to_json();
        if nameless && loaded.config.service.is_some() {
            shown["sources"]["service"] = "certificate".into();
        }
        let config = Arc::new(loaded.config);
        let metrics = Metrics::new();
        metrics.declare_errors(ErrorCode::ALL.iter().map(|code| code.as_str()));
        for kind in TlsErrorKind::ALL {
            // From the first scrape on at 0, so that the first failure shows as an increase.
            metrics.handshake_failed(kind.as_str()).inc_by(0);
        }
        let egress = tls::egress_configurations(&config.egress).map_err(|error| cannot("[[egress]]", error))?.into();
        let schemas = methods::at_start(&config)?;
        let listeners = Listeners::bind(&config)?;
        let (view, inbox) = View::new(config.timeouts.first_answer);

        let instance = InstanceId::generate();
        let (changes_in, changes) = mpsc::unbounded_channel();
        let source = registry::open(&config.registry, registry_options(&config, &instance)?, changes_in)
            .map_err(|error| cannot(format!("registry {}", config.registry), error))?;
        let table = load_table(config.discovery.snapshot.as_deref());
        let from_disk = !table.services.is_empty();
        let (follower, following) = discovery::run(
            Arc::clone(&view),
            inbox,
            Arc::clone(&source),
            changes,
            table,
            Arc::clone(&config),
            Arc::clone(&metrics),
        );
        spawn_local(following);

        let common = Common {
            wire: wire_config(&config, &instance),
            config,
            view,
            metrics,
            tls,
            egress,
            schemas,
            inbound_calls: Arc::new(AtomicUsize::new(0)),
            outbound_calls: Arc::new(AtomicUsize::new(0)),
        };
        Ok(Core { common, listeners, instance, source, follower, from_disk, shown })
    }
}

async fn serve(loaded: Loaded, log: Handle) -> Result<u8, StartError> {
    let Core { common, listeners, instance, source, follower, from_disk, shown } = Core::build(loaded)?;
    let readiness = Readiness::new();
    let workers = Workers::start(&common).map_err(|error| cannot("worker threads", error))?;
    let Common { config, view, metrics, tls, schemas, inbound_calls, outbound_calls, .. } = common;
    let (outbound, inbound, admin_address) =
        (listeners.outbound_address.clone(), listeners.inbound_address, listeners.admin_address);
    let admin = listeners.hand_over(&workers);
    if let Some(tls) = &tls {
        watch_identity(tls, &metrics);
    }
    watch_readiness(&readiness, &config, follower.clone(), from_disk);
    readiness.set("listeners", Ok(()));
    let state = AdminState::new(Arc::clone(&metrics), Arc::clone(&readiness), shown, log, &config, table_shower(&view));
    spawn_local(admin::serve(admin, Arc::new(state)));

    if let (Some(app), Some(service), Some(inbound)) = (&config.app, &config.service, inbound) {
        let reflecting = schemas
            .filter(|_| config.descriptors == Some(Descriptors::Reflection))
            .map(|schemas| Reflecting { app: app.clone(), service: service.clone(), schemas });
        let registration = Registration {
            config: Arc::clone(&config),
            service: service.clone(),
            instance: instance.clone(),
            inbound,
            source: Arc::clone(&source),
            metrics: Arc::clone(&metrics),
            reflecting,
        };
        spawn_local(registration.run(app.clone()));
    }
    tracing::info!(
        service = config.service.as_ref().map_or("-", |name| name.as_str()),
        %instance,
        registry = %config.registry,
        mutual_tls = tls.is_some(),
        version = env!("CARGO_PKG_VERSION"),
        "pillion runs"
    );

    let ending = Ending { config: &config, source, workers, metrics, readiness, inbound_calls, outbound_calls };
    if config.command.is_empty() {
        ending.run_alone().await.map_err(|error| cannot("signals", error))
    } else {
        let told = wrapper::Told { outbound, admin: admin_address };
        ending.run_wrapper(told, follower).await.map_err(|error| cannot("the wrapped command", error))
    }
}

/// Loads the identity and settles who we are.
fn load_identity(config: &mut Config) -> Result<Option<Arc<Tls>>, StartError> {
    let Some(dir) = &config.identity else {
        tracing::warn!("--insecure: sidecars speak plaintext and believe whoever calls; for laptops only");
        return Ok(None);
    };
    let tls = Tls::load(dir).map_err(|error| cannot("identity", error))?;
    let identity = tls.identity();
    for warning in identity.warnings(std::time::SystemTime::now()) {
        tracing::warn!("{warning}");
    }
    let SpiffeId { service, .. } = &identity.id;
    match &config.service {
        Some(name) if name != service => {
            return Err(StartError(format!(
                "identity: {} is a certificate of '{service}', but --service is '{name}': issue one with 'pillionctl ca issue --service {name}'",
                dir.display()
            )));
        }
        Some(_) => {}
        None => config.service = Some(service.clone()),
    }
    Ok(Some(tls))
}

fn watch_identity(tls: &Arc<Tls>, metrics: &Arc<Metrics>) {
    let expiry = |metrics: &Metrics, at: std::time::SystemTime| {
        let seconds = at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
        metrics.certificate_expiry.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    };
    expiry(metrics, tls.identity().not_after);
    let metrics = Arc::clone(metrics);
    spawn_local(Arc::clone(tls).watch(move |result| match result {
        Ok(identity) => {
            metrics.certificate_reload("ok").inc();
            expiry(&metrics, identity.not_after);
            tracing::info!(id = %identity.id, serial = %identity.serial, "a new certificate is in use");
            for warning in identity.warnings(std::time::SystemTime::now()) {
                tracing::warn!("{warning}");
            }
        }
        Err(error) => {
            metrics.certificate_reload("error").inc();
            tracing::error!(%error, "the identity directory cannot be used; the certificate in use stays");
        }
    }));
}

/// What the files of `[etcd]` hold now.
fn etcd_options(etcd: &config::Etcd) -> Result<registry::EtcdOptions, String> {
    let read = |path: &Option<std::path::PathBuf>| {
        let read =
            |path: &std::path::PathBuf| std::fs::read(path).map_err(|e| format!("[etcd] {}: {e}", path.display()));
        path.as_ref().map(read).transpose()
    };
    let password = read(&etcd.password_file)?
        .map(String::from_utf8)
        .transpose()
        .map_err(|_| "[etcd] password_file is not text")?
        .map(|text| text.trim_end_matches(['\n', '\r']).to_owned());
    Ok(registry::EtcdOptions {
        user: etcd.user.clone(),
        password,
        ca_pem: read(&etcd.ca)?,
        cert_pem: read(&etcd.cert)?,
        key_pem: read(&etcd.key)?,
        reread: None,
    })
}

fn registry_options(config: &Config, instance: &InstanceId) -> Result<registry::Options, StartError> {
    let mut etcd = etcd_options(&config.etcd).map_err(StartError)?;
    let files = config.etcd.clone();
    etcd.reread = Some(Arc::new(move || etcd_options(&files)));
    let static_endpoints = config
        .endpoint
        .iter()
        .map(|entry| {
            let key =
                EndpointKey { service: entry.service.clone(), version: entry.version.clone(), address: entry.address };
            let mut endpoint = Endpoint::new(key, instance.clone());
            endpoint.secure = !config.insecure;
            endpoint
        })
        .collect();
    Ok(registry::Options {
        lease_ttl: config.discovery.lease,
        reconcile: config.discovery.reconcile,
        etcd,
        static_endpoints,
    })
}

/// The table of the last run. A file that cannot be read is no reason not to start.
fn load_table(path: Option<&Path>) -> Table {
    let Some(path) = path else { return Table::default() };
    match registry::load(path) {
        Ok(Some(table)) => {
            tracing::info!(path = %path.display(), services = table.services.len(), "the table of the last run is loaded");
            table
        }
        Ok(None) => Table::default(),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the saved table cannot be used; starting without");
            Table::default()
        }
    }
}

fn wire_config(config: &Config, instance: &InstanceId) -> wire::Config {
    wire::Config {
        hello: wire::Hello {
            service: config.service.as_ref().map(ToString::to_string).unwrap_or_default(),
            version: config.version.to_string(),
            instance: instance.to_string(),
            revision: 0,
            agent: concat!("pillion/", env!("CARGO_PKG_VERSION")).to_owned(),
        },
        max_concurrent: u32::try_from(config.limits.calls).unwrap_or(u32::MAX),
        max_head_bytes: config.limits.header_bytes + wire::limits::HEAD_OWN_BYTES,
        memory_budget: config.limits.channel_memory,
        ..wire::Config::default()
    }
}

fn watch_readiness(readiness: &Arc<Readiness>, config: &Config, follower: Follower, from_disk: bool) {
    readiness.set("table", Err("the prefetched services are not known yet".into()));
    let ready = Arc::clone(readiness);
    let mut loaded = follower.loaded;
    spawn_local(async move {
        if loaded.wait_for(|loaded| *loaded).await.is_ok() {
            ready.set("table", Ok(()));
        }
    });
    // With a table from disk the sidecar serves though the registry is down; its own record then follows later.
    if config.app.is_none() || from_disk {
        return;
    }
    let ready = Arc::clone(readiness);
    let app = config.app.as_ref().map(ToString::to_string).unwrap_or_default();
    ready.set(
        "registered",
        Err(format!("not registered yet: is the registry up, does its name resolve, and does the app accept connections at {app}?")),
    );
    let mut registered = follower.registered;
    spawn_local(async move {
        if registered.wait_for(|registered| *registered).await.is_ok() {
            ready.set("registered", Ok(()));
        }
    });
}

fn table_shower(view: &Arc<View>) -> admin::TableSource {
    let view = Arc::clone(view);
    Box::new(move || view.load().to_json())
}
