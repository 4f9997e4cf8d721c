//! Every key there is: its path in the file, its flag and variable, how it is read, shown, and where it goes.
//! File, environment, flags, `/config` and the tests over the documents all go by this one list.

use std::path::PathBuf;

use serde_json::Value as Json;

use super::{
    AppAddress, Config, Descriptors, Door, Egress, HttpPath, LocalAddress, Protocol, RegistryUrl, SERVICES_MAX,
    ServiceName, SocketMode, StaticEndpoint, Version,
    codec::{Address, Codec, Count, Format, HostName, Kind, Level, List, Opt, Path, Size, Switch, Text, Time, User},
};

/// The most fields of a head: what the protocol carries, less some for what the sidecars add.
const HEADER_COUNT: u64 = wire::limits::HEAD_FIELDS as u64 - 8;

/// One key of `T`: of [`Config`], or of one entry of a list of tables.
pub(super) struct Key<T> {
    /// With dots: `timeouts.connect`.
    pub(super) path: &'static str,
    /// The flag of `pillion run`, with its dashes.
    pub(super) flag: Option<&'static str>,
    /// How it is written in TOML.
    pub(super) kind: Kind,
    /// Reads the text into its place. The error is a sentence.
    pub(super) set: fn(&mut T, &str) -> Result<(), String>,
    /// Shows it; `None`: not set.
    pub(super) show: fn(&T) -> Option<Json>,
}

impl<T> Key<T> {
    /// The environment variable: `PILLION_` and the flag's name, or without a flag the path, with `_` for `.` and `-`.
    pub(super) fn variable(&self) -> String {
        let name = self.flag.map_or(self.path, |flag| flag.trim_start_matches('-'));
        format!("PILLION_{}", name.replace(['.', '-'], "_").to_uppercase())
    }

    /// The table it stands in; empty at the top.
    pub(super) fn section(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Its name in that table.
    pub(super) fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }
}

macro_rules! key {
    ($path:literal, $codec:ty, $($field:ident).+) => {
        key!(@ $path, None, $codec, $($field).+)
    };
    ($path:literal, flag $flag:literal, $codec:ty, $($field:ident).+) => {
        key!(@ $path, Some($flag), $codec, $($field).+)
    };
    (@ $path:literal, $flag:expr, $codec:ty, $($field:ident).+) => {
        Key {
            path: $path,
            flag: $flag,
            kind: <$codec as Codec>::KIND,
            set: |target, text| {
                target.$($field).+ = <$codec as Codec>::parse(text)?;
                Ok(())
            },
            show: |target| <$codec as Codec>::show(&target.$($field).+),
        }
    };
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

/// The keys of the configuration, in the order of `config.example.toml`.
pub(super) const KEYS: &[Key<Config>] = &[
    key!("service", flag "--service", Opt<Text<ServiceName>>, service),
    key!("version", flag "--version", Text<Version>, version),
    key!("app", flag "--app", Opt<Text<AppAddress>>, app),
    key!("app_jsonrpc", flag "--app-jsonrpc", Opt<Text<HttpPath>>, app_jsonrpc),
    key!("descriptors", flag "--descriptors", Opt<Text<Descriptors>>, descriptors),
    key!("registry", flag "--registry", Text<RegistryUrl>, registry),
    key!("identity", flag "--identity", Opt<Path>, identity),
    key!("insecure", flag "--insecure", Switch, insecure),
    key!("workers", flag "--workers", Count<usize, 1, 256>, workers),
    key!("prefetch", List<Text<ServiceName>>, prefetch),
    key!("listen.outbound", flag "--outbound", Text<LocalAddress>, listen.outbound),
    key!("listen.inbound", flag "--inbound", Address, listen.inbound),
    key!("listen.admin", flag "--admin", Address, listen.admin),
    key!("listen.advertise", flag "--advertise", Opt<Address>, listen.advertise),
    key!("listen.socket_mode", Text<SocketMode>, listen.socket_mode),
    key!("listen.allow_remote", Switch, listen.allow_remote),
    key!("timeouts.response", Time<1, DAY, true>, timeouts.response),
    key!("timeouts.connect", Time<1, MINUTE>, timeouts.connect),
    key!("timeouts.app_connect", Time<1, MINUTE>, timeouts.app_connect),
    key!("timeouts.egress_connect", Time<1, MINUTE>, timeouts.egress_connect),
    key!("timeouts.app_idle", Time<1, DAY>, timeouts.app_idle),
    key!("timeouts.header", Time<100, { 10 * MINUTE }>, timeouts.header),
    key!("timeouts.idle", Time<100, DAY>, timeouts.idle),
    key!("timeouts.drain", Time<1, HOUR, true>, timeouts.drain),
    key!("timeouts.first_answer", Time<1, MINUTE, true>, timeouts.first_answer),
    key!("limits.header_bytes", Size<KIB, { (wire::limits::HEAD_BYTES - wire::limits::HEAD_OWN_BYTES) as u64 }>, limits.header_bytes),
    key!("limits.header_count", Count<usize, 1, HEADER_COUNT>, limits.header_count),
    key!("limits.connections", Count<usize, 1, 1_000_000>, limits.connections),
    key!("limits.calls", Count<usize, 1, 65_536>, limits.calls),
    key!("limits.app_connections", Count<usize, 1, 65_536>, limits.app_connections),
    key!("limits.channel_memory", Size<{ wire::limits::FLIGHT_BULK_BYTES }, { 4 * GIB }>, limits.channel_memory),
    key!("limits.services", Count<usize, 1, { SERVICES_MAX as u64 }>, limits.services),
    key!("retry.max", Count<u32, 0, 5>, retry.max),
    key!("discovery.snapshot", Opt<Path>, discovery.snapshot),
    key!("discovery.idle", Time<SECOND, { 30 * DAY }>, discovery.idle),
    key!("discovery.reconcile", Time<SECOND, DAY>, discovery.reconcile),
    key!("discovery.lease", Time<{ 5 * SECOND }, { 10 * MINUTE }>, discovery.lease),
    key!("log.level", Level, log.level),
    key!("log.format", Format, log.format),
    key!("log.access", Switch, log.access),
    key!("admin.token_file", Opt<Path>, admin.token_file),
    key!("admin.hosts", List<HostName>, admin.hosts),
    key!("etcd.user", Opt<User>, etcd.user),
    key!("etcd.password_file", Opt<Path>, etcd.password_file),
    key!("etcd.ca", Opt<Path>, etcd.ca),
    key!("etcd.cert", Opt<Path>, etcd.cert),
    key!("etcd.key", Opt<Path>, etcd.key),
];

/// An entry of a list of tables while it is read.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub(super) listen: Option<LocalAddress>,
    pub(super) address: Option<std::net::SocketAddr>,
    pub(super) service: Option<ServiceName>,
    pub(super) version: Option<Version>,
    pub(super) protocol: Option<Protocol>,
    pub(super) host: Option<String>,
    pub(super) port: Option<u16>,
    pub(super) tls: Option<bool>,
    pub(super) ca: Option<PathBuf>,
    pub(super) http2: Option<bool>,
}

/// The lists of tables: name, keys, and which keys an entry must have. From the file only.
pub(super) const LISTS: &[EntryList] = &[
    EntryList {
        name: "outbound",
        keys: &[
            key!("listen", Opt<Text<LocalAddress>>, listen),
            key!("service", Opt<Text<ServiceName>>, service),
            key!("version", Opt<Text<Version>>, version),
            key!("protocol", Opt<Text<Protocol>>, protocol),
        ],
        required: &["listen", "service"],
        add: |config, Entry { listen, service, version, protocol, .. }| {
            let protocol = protocol.unwrap_or_default();
            config.outbound.push(Door { listen: listen?, service: service?, version, protocol });
            Some(())
        },
    },
    EntryList {
        name: "egress",
        keys: &[
            key!("host", Opt<HostName>, host),
            key!("port", Opt<Count<u16, 1, 65_535>>, port),
            key!("address", Opt<Address>, address),
            key!("tls", Opt<Switch>, tls),
            key!("ca", Opt<Path>, ca),
            key!("http2", Opt<Switch>, http2),
        ],
        required: &["host"],
        add: |config, Entry { host, port, address, tls, ca, http2, .. }| {
            let tls = tls.unwrap_or(true);
            let port = port.unwrap_or_else(|| Egress::implied_port(tls));
            let http2 = http2.unwrap_or(false);
            config.egress.push(Egress { host: host?, port, address, tls, ca, http2 });
            Some(())
        },
    },
    EntryList {
        name: "endpoint",
        keys: &[
            key!("service", Opt<Text<ServiceName>>, service),
            key!("version", Opt<Text<Version>>, version),
            key!("address", Opt<Address>, address),
        ],
        required: &["service", "address"],
        add: |config, Entry { service, version, address, .. }| {
            let version = version.unwrap_or_default();
            config.endpoint.push(StaticEndpoint { service: service?, version, address: address? });
            Some(())
        },
    },
];

/// A list of tables.
pub(super) struct EntryList {
    pub(super) name: &'static str,
    pub(super) keys: &'static [Key<Entry>],
    pub(super) required: &'static [&'static str],
    /// Puts an entry in its place, unless something that is required is not there.
    pub(super) add: fn(&mut Config, Entry) -> Option<()>,
}

/// The key with this path.
pub(super) fn find(path: &str) -> Option<&'static Key<Config>> {
    KEYS.iter().find(|key| key.path == path)
}

/// The names of all sections.
pub(super) fn sections() -> impl Iterator<Item = &'static str> {
    let mut last = "";
    KEYS.iter().map(Key::section).filter(move |section| {
        let new = *section != last;
        last = section;
        new && !section.is_empty()
    })
}
