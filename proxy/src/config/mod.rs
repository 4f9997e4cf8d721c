//! The effective configuration: what file, environment and flags came to after merging, parsing and checking.
//!
//! Every value is parsed by its entry in `keys` whatever source it comes from; a `Config` that [`load`] gives out has
//! passed every check, so nothing is validated again later. The shape mirrors the TOML layout.

use std::{
    ffi::OsString,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

mod address;
mod check;
mod codec;
mod file;
mod keys;
mod load;
mod problem;

pub use address::{AppAddress, AppPlace, HttpPath, LocalAddress, SocketMode};
pub use load::{Inputs, Loaded, load};
#[cfg(test)]
pub use load::{OTHER_VARIABLES, all_keys};
pub use problem::Problems;
pub use registry::{RegistryUrl, ServiceName, Version};

use codec::Codec as _;

pub(crate) use codec::{address, duration, level};

/// The most that `limits.services` may be.
pub const SERVICES_MAX: usize = 4_096;

/// Everything `pillion run` was told. Built by [`load`]; `Default` holds the documented defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name of the own service. `None`: the certificate's, or none, for a client-only sidecar with `insecure`.
    pub service: Option<ServiceName>,
    /// The version the own instance registers as.
    pub version: Version,
    /// Where the own app listens; `None`: a client-only sidecar, nothing is registered.
    pub app: Option<AppAddress>,
    /// The path at which the own app takes JSON-RPC 2.0; `None`: procedures are plain calls to it.
    pub app_jsonrpc: Option<HttpPath>,
    /// Where the types of a gRPC app's methods are known from, so that they take JSON; `None`: calls pass as they are.
    pub descriptors: Option<Descriptors>,
    /// Where services are found. Required: `load` refuses a configuration without one.
    pub registry: RegistryUrl,
    /// Directory with `ca.pem`, `cert.pem`, `key.pem`. Exactly one of `identity` and `insecure` is set.
    pub identity: Option<PathBuf>,
    /// No mutual TLS between sidecars: for laptops only.
    pub insecure: bool,
    /// Worker threads, each with its own runtime and channel pool.
    pub workers: usize,
    /// Services followed from the start, before the first call to them.
    pub prefetch: Vec<ServiceName>,
    /// Addresses to listen on and to advertise.
    pub listen: Listen,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How much of each thing there may be.
    pub limits: Limits,
    /// Repeating calls that provably did not execute.
    pub retry: Retry,
    /// How the registry is followed.
    pub discovery: Discovery,
    /// Logging.
    pub log: Log,
    /// Protection of the admin port.
    pub admin: Admin,
    /// Credentials for an etcd registry.
    pub etcd: Etcd,
    /// `[[outbound]]`: local ports bound to one service each.
    pub outbound: Vec<Door>,
    /// `[[egress]]`: hosts outside that the own app may call through this sidecar, in the order of their names.
    pub egress: Vec<Egress>,
    /// `[[endpoint]]`: the table of a `static` registry.
    pub endpoint: Vec<StaticEndpoint>,
    /// Wrapper mode: the command behind `--`, with its arguments. Flags only; empty: none.
    pub command: Vec<OsString>,
}

/// `[listen]`: addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The door for the own app's outgoing calls.
    pub outbound: LocalAddress,
    /// Where other sidecars connect.
    pub inbound: SocketAddr,
    /// Metrics, probes, table.
    pub admin: SocketAddr,
    /// The address that is registered; `None`: derived from `inbound`.
    pub advertise: Option<SocketAddr>,
    /// Who may connect to doors that are Unix domain sockets.
    pub socket_mode: SocketMode,
    /// Lets the ports meant for the own app (outbound, admin, doors) bind addresses other hosts can reach.
    pub allow_remote: bool,
}

/// `[timeouts]`: durations; `response` alone may be zero, which means none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request, a streamed one from its end, to the first response byte. Zero: no limit.
    pub response: Duration,
    /// Connect and handshake with another sidecar.
    pub connect: Duration,
    /// Connect to the own app.
    pub app_connect: Duration,
    /// Resolve, connect and handshake with a host of `[[egress]]`.
    pub egress_connect: Duration,
    /// A pooled connection to the own app may idle this long.
    pub app_idle: Duration,
    /// For a request head to arrive whole.
    pub header: Duration,
    /// An app's connection to the outbound door may idle this long.
    pub idle: Duration,
    /// Calls in flight may take this long to finish after SIGTERM.
    pub drain: Duration,
    /// How long the first call to a service waits for the registry's answer.
    pub first_answer: Duration,
}

/// `[limits]`: sizes in bytes, and counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// One head, decoded; the same on every leg. Bytes.
    pub header_bytes: usize,
    /// Header fields in one head.
    pub header_count: usize,
    /// Connections per listener.
    pub connections: usize,
    /// Calls in flight per channel.
    pub calls: usize,
    /// Connections to the own app.
    pub app_connections: usize,
    /// Body bytes held per channel.
    pub channel_memory: usize,
    /// Services followed at once.
    pub services: usize,
}

/// How long a head may be before it is not read to its end: beyond `limits.header_bytes` for its fields, so that one which exceeds
/// that is told by how much.
pub const fn head_bytes(header_bytes: usize) -> usize {
    header_bytes * 2 + 16 * 1024
}

/// `[retry]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// Further attempts on another endpoint, only for calls that provably did not execute. 0: none.
    pub max: u32,
}

/// `[discovery]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    /// File the table is saved to and started from; `None`: not saved.
    pub snapshot: Option<PathBuf>,
    /// A service not called that long is no longer followed.
    pub idle: Duration,
    /// Between two full lists (jittered).
    pub reconcile: Duration,
    /// Lifetime of the own record's lease.
    pub lease: Duration,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`, with `target=level` parts after commas.
    pub level: String,
    /// Text or JSON.
    pub format: LogFormat,
    /// One line a call. Can be switched while running.
    pub access: bool,
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[admin]`: who may use the admin port for what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admin {
    /// File whose content must be sent as `x-pillion-token` with every request that changes state.
    pub token_file: Option<PathBuf>,
    /// Names, besides loopback and the own address, that a `Host` header may carry.
    pub hosts: Vec<String>,
}

/// `[etcd]`: credentials as files, so that none stands in a command line or in the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Etcd {
    /// User name; wins over the one of the registry URL.
    pub user: Option<String>,
    /// File that holds the password.
    pub password_file: Option<PathBuf>,
    /// CA certificate (PEM) of the etcd servers; given: TLS is spoken.
    pub ca: Option<PathBuf>,
    /// Client certificate (PEM).
    pub cert: Option<PathBuf>,
    /// Key (PEM) of the client certificate.
    pub key: Option<PathBuf>,
}

/// `[[outbound]]`: a local port that leads to one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// Where it listens.
    pub listen: LocalAddress,
    /// Where it leads.
    pub service: ServiceName,
    /// Only to this version; `None`: to any.
    pub version: Option<Version>,
    /// What callers speak there.
    pub protocol: Protocol,
}

/// What callers speak at a door.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 or HTTP/2, which a connection's first bytes tell: each request is a call.
    #[default]
    Http,
    /// Bytes both ways: each connection is a call.
    Tcp,
    /// Framed Apache Thrift, in the binary or the compact protocol: each message is a call.
    Thrift,
}

/// What is spoken with the own app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AppProtocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 without TLS, from the first byte on (RFC 9113, 3.3): gRPC's too.
    H2c,
    /// Bytes both ways: each connection is a call.
    Tcp,
    /// Framed Apache Thrift, in whichever protocol the caller chose: each message is a call.
    Thrift,
}

/// `[[egress]]`: a host that is no service of the registry, and how it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Its name, in lower case: what callers name, what is resolved, and what its certificate must prove.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Where it is, in place of what its name resolves to.
    pub address: Option<SocketAddr>,
    /// The sidecar speaks TLS with it, on behalf of callers that do not.
    pub tls: bool,
    /// The authorities (PEM) that vouch for it, in place of the system's.
    pub ca: Option<PathBuf>,
    /// It is called in HTTP/2.
    pub http2: bool,
}

/// Where the descriptors of the own app's gRPC services come from: `reflection`, or the path of a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Descriptors {
    /// A serialized `google.protobuf.FileDescriptorSet`, imports included.
    File(PathBuf),
    /// The app is asked (`grpc.reflection.v1`, else `v1alpha`).
    Reflection,
}

/// `[[endpoint]]`: one instance in a `static` registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticEndpoint {
    /// Its service.
    pub service: ServiceName,
    /// Its version.
    pub version: Version,
    /// Its sidecar's inbound address.
    pub address: SocketAddr,
}

impl Default for Config {
    /// The documented defaults. `registry` has none: `load` insists on one; here it is `static`.
    fn default() -> Self {
        Self {
            service: None,
            version: Version::default(),
            app: None,
            app_jsonrpc: None,
            descriptors: None,
            registry: RegistryUrl::Static,
            identity: None,
            insecure: false,
            workers: 1,
            prefetch: Vec::new(),
            listen: Listen::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            retry: Retry::default(),
            discovery: Discovery::default(),
            log: Log::default(),
            admin: Admin::default(),
            etcd: Etcd::default(),
            outbound: Vec::new(),
            egress: Vec::new(),
            endpoint: Vec::new(),
            command: Vec::new(),
        }
    }
}

impl Default for Listen {
    fn default() -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self {
            outbound: SocketAddr::new(loopback, 4140).into(),
            inbound: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 4143),
            admin: SocketAddr::new(loopback, 4191),
            advertise: None,
            socket_mode: SocketMode(0o600),
            allow_remote: false,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            response: Duration::from_secs(60),
            connect: Duration::from_secs(1),
            app_connect: Duration::from_secs(1),
            egress_connect: Duration::from_secs(5),
            app_idle: Duration::from_secs(60),
            header: Duration::from_secs(10),
            idle: Duration::from_secs(15 * 60),
            drain: Duration::from_secs(30),
            first_answer: Duration::from_secs(2),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 64 * 1024,
            header_count: 96,
            connections: 10_000,
            calls: 4_096,
            app_connections: 1_024,
            channel_memory: 32 * 1024 * 1024,
            services: 1_024,
        }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { max: 1 }
    }
}

impl Default for Discovery {
    fn default() -> Self {
        Self {
            snapshot: None,
            idle: Duration::from_secs(10 * 60),
            reconcile: Duration::from_secs(10 * 60),
            lease: Duration::from_secs(10),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Text, access: false }
    }
}

impl Egress {
    /// The port that goes without saying (RFC 9110, 4.2).
    pub fn implied_port(tls: bool) -> u16 {
        if tls { 443 } else { 80 }
    }

    /// Host and port as a URI has them.
    pub fn authority(&self) -> String {
        let Egress { host, port, tls, .. } = self;
        if *port == Egress::implied_port(*tls) { host.clone() } else { format!("{host}:{port}") }
    }
}

impl AppProtocol {
    /// As a record in the registry names it: by its ALPN name, where it has one.
    pub fn registered(self) -> &'static str {
        match self {
            AppProtocol::Http => "http/1.1",
            AppProtocol::H2c => "h2c",
            AppProtocol::Tcp => "tcp",
            AppProtocol::Thrift => "thrift",
        }
    }
}

impl FromStr for AppProtocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "http" => Ok(AppProtocol::Http),
            "h2c" => Ok(AppProtocol::H2c),
            "tcp" => Ok(AppProtocol::Tcp),
            "thrift" => Ok(AppProtocol::Thrift),
            _ => Err(()),
        }
    }
}

impl fmt::Display for AppProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AppProtocol::Http => "http",
            AppProtocol::H2c => "h2c",
            AppProtocol::Tcp => "tcp",
            AppProtocol::Thrift => "thrift",
        })
    }
}

impl FromStr for Descriptors {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "reflection" => Ok(Descriptors::Reflection),
            path => codec::Path::parse(path).map(Descriptors::File),
        }
    }
}

impl fmt::Display for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Descriptors::File(path) => path.display().fmt(f),
            Descriptors::Reflection => f.write_str("reflection"),
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "http" => Ok(Protocol::Http),
            "tcp" => Ok(Protocol::Tcp),
            "thrift" => Ok(Protocol::Thrift),
            _ => Err(format!("`{text}` is no protocol: write http, tcp or thrift")),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Http => "http",
            Protocol::Tcp => "tcp",
            Protocol::Thrift => "thrift",
        })
    }
}

#[cfg(test)]
mod tests;
