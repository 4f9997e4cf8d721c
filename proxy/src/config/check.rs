//! The rules over several values at once. What one value alone may be is its codec's business.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{
    AppAddress, AppPlace, AppProtocol, Config, LocalAddress, RegistryUrl,
    load::Origins,
    problem::{Place, Problem},
};

/// Appends everything that contradicts itself.
pub(super) fn check(config: &Config, origins: &Origins, problems: &mut Vec<Problem>) {
    let mut rules = Rules { config, origins, problems };
    rules.names();
    rules.security();
    rules.addresses();
    rules.egress();
    rules.timeouts();
    rules.registry();
}

struct Rules<'a> {
    config: &'a Config,
    origins: &'a Origins,
    problems: &'a mut Vec<Problem>,
}

impl Rules<'_> {
    fn wrong(&mut self, key: &str, message: impl Into<String>) {
        let place = self.origins.place(key);
        self.wrong_at(place, message);
    }

    fn wrong_at(&mut self, place: Place, message: impl Into<String>) {
        self.problems.push(Problem { place, message: message.into(), meant: None });
    }

    fn names(&mut self) {
        let config = self.config;
        // With an identity the name stands in the certificate.
        if config.app.is_some() && !self.origins.given("service") && config.identity.is_none() {
            self.wrong("app", "an app is given but no service name: set `service` (--service, PILLION_SERVICE)");
        }
        if let Some(path) = &config.app_jsonrpc
            && !config.app.as_ref().is_some_and(|app| matches!(app.protocol, AppProtocol::Http | AppProtocol::H2c))
        {
            self.wrong("app_jsonrpc", format!("JSON-RPC at {path} needs an `app` that speaks HTTP"));
        }
        if config.descriptors.is_some() && !self.origins.refused.contains("app") {
            match &config.app {
                None => self.wrong("descriptors", "descriptors are given for an app, but no `app` is given"),
                Some(app) if app.protocol != AppProtocol::H2c => self.wrong(
                    "descriptors",
                    format!(
                        "descriptors are for an app that speaks gRPC, given as h2c://HOST:PORT or h2c+unix:/PATH, and this one is {app}"
                    ),
                ),
                Some(_) if config.app_jsonrpc.is_some() => {
                    self.wrong("descriptors", "`descriptors` and `app_jsonrpc` exclude each other: an app takes its procedures in one form");
                }
                Some(_) => {}
            }
        }
        if !self.origins.given("app") && config.listen.advertise.is_some() {
            self.wrong("listen.advertise", "an address is advertised for an app, but no `app` is given");
        }
    }

    fn security(&mut self) {
        match (&self.config.identity, self.config.insecure) {
            (Some(_), true) => {
                // Points at the one that was added last: the word that switches security off.
                self.wrong("insecure", "`identity` and `insecure` exclude each other: remove one");
            }
            (None, false) => self.wrong_at(
                Place::Nowhere,
                "no `identity` (--identity DIR, PILLION_IDENTITY) is given; on a laptop, without mutual TLS: --insecure",
            ),
            _ => {}
        }
    }

    fn addresses(&mut self) {
        let config = self.config;
        let doors: Vec<(String, LocalAddress, Place)> = config
            .outbound
            .iter()
            .enumerate()
            .map(|(index, door)| {
                let place = self.origins.entry("outbound", index);
                (format!("the door to `{}`", door.service), door.listen.clone(), place)
            })
            .collect();
        let mut listeners = vec![
            ("`listen.inbound`".to_owned(), config.listen.inbound.into(), self.origins.place("listen.inbound")),
            ("`listen.outbound`".to_owned(), config.listen.outbound.clone(), self.origins.place("listen.outbound")),
            ("`listen.admin`".to_owned(), config.listen.admin.into(), self.origins.place("listen.admin")),
        ];
        listeners.extend(doors);

        // All but the first are for the own app.
        if !config.listen.allow_remote {
            for (name, address, place) in &listeners[1..] {
                if address.is_remote() {
                    self.wrong_at(
                        place.clone(),
                        format!(
                            "{name} on {address} could be reached from other hosts: bind a loopback address, \
                             or set `listen.allow_remote = true`"
                        ),
                    );
                }
            }
        }

        if let Some(app) = &config.app
            && let Some((name, address, _)) = listeners.iter().find(|(_, address, _)| is_at(app, address))
        {
            self.wrong("app", format!("{app} is this sidecar itself: {name} listens on {address}"));
        }

        // Port by port, so that ten thousand doors are not compared each with each.
        let mut same_place = BTreeMap::<_, Vec<usize>>::new();
        for (index, (name, address, place)) in listeners.iter().enumerate() {
            let others = match address {
                LocalAddress::Ip(address) if address.port() == 0 => continue,
                LocalAddress::Ip(address) => same_place.entry((address.port(), None)),
                LocalAddress::Unix(path) => same_place.entry((0, Some(path))),
            }
            .or_default();
            if let Some(other) = others.iter().find(|other| collide(&listeners[**other].1, address)) {
                let message = format!("{name} listens on {address}, where {} listens already", listeners[*other].0);
                let nearer = if *place == Place::Nowhere { &listeners[*other].2 } else { place };
                self.wrong_at(nearer.clone(), message);
            }
            others.push(index);
        }

        if let Some(advertise) = config.listen.advertise
            && (advertise.ip().is_unspecified() || advertise.port() == 0)
        {
            self.wrong(
                "listen.advertise",
                format!("{advertise} cannot be advertised: other hosts need an address and a port they can reach"),
            );
        }
    }

    fn egress(&mut self) {
        let config = self.config;
        let mut seen = BTreeSet::new();
        for (index, egress) in config.egress.iter().enumerate() {
            let host = &egress.host;
            let place = self.origins.entry("egress", index);
            // Callers name hosts, and addresses are refused whoever asks.
            let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
            if host.rsplit('.').next().is_none_or(is_number) || host == "localhost" {
                let message = format!(
                    "`{host}` is no name of a host outside; to say where one is, set `address` beside its name"
                );
                self.wrong_at(place, message);
            } else if !seen.insert(host) {
                self.wrong_at(place, format!("`{host}` is listed already"));
            } else if egress.ca.is_some() && !egress.tls {
                self.wrong_at(
                    place,
                    format!("`ca` is for hosts that TLS is spoken with, and `{host}` has `tls = false`"),
                );
            }
        }
    }

    fn timeouts(&mut self) {
        let timeouts = &self.config.timeouts;
        if timeouts.response == Duration::ZERO {
            return;
        }
        let connects = [("timeouts.connect", timeouts.connect), ("timeouts.app_connect", timeouts.app_connect)];
        if let Some((longer, _)) = connects.into_iter().find(|(_, connect)| timeouts.response < *connect) {
            let key = if self.origins.given("timeouts.response") { "timeouts.response" } else { longer };
            self.wrong(key, format!("`timeouts.response` would always pass before `{longer}`"));
        }
    }

    fn registry(&mut self) {
        let config = self.config;
        if !self.origins.given("registry") {
            self.wrong_at(
                Place::Nowhere,
                "no `registry` is given (--registry URL, PILLION_REGISTRY): etcd://HOST:2379, file:///DIR or static",
            );
            return;
        }
        if self.origins.refused.contains("registry") {
            return;
        }
        let etcd = &config.etcd;
        match (&etcd.cert, &etcd.key) {
            (Some(_), None) => self.wrong("etcd.cert", "a client certificate needs its `etcd.key`"),
            (None, Some(_)) => self.wrong("etcd.key", "a key needs its certificate, `etcd.cert`"),
            (Some(_), Some(_)) if etcd.ca.is_none() => {
                self.wrong("etcd.cert", "TLS to etcd needs `etcd.ca`, the authority of etcd's own certificate");
            }
            _ => {}
        }
        if matches!(config.registry, RegistryUrl::Etcd { tls: true, .. }) && etcd.ca.is_none() {
            self.wrong("registry", "TLS to etcd needs `etcd.ca`, the authority of etcd's own certificate");
        }
        if config.prefetch.len() > config.limits.services {
            let (count, limit) = (config.prefetch.len(), config.limits.services);
            self.wrong("prefetch", format!("{count} services are more than `limits.services` allows: {limit}"));
        }
        if !matches!(config.registry, RegistryUrl::Etcd { .. }) {
            for key in ["etcd.user", "etcd.password_file", "etcd.ca", "etcd.cert", "etcd.key"] {
                if self.origins.given(key) {
                    self.wrong(key, format!("`{key}` is for an etcd:// registry, and this one is {}", config.registry));
                }
            }
        }
        if config.registry != RegistryUrl::Static && !config.endpoint.is_empty() {
            let message = format!("[[endpoint]] is for `registry = \"static\"`, and this one is {}", config.registry);
            self.wrong_at(self.origins.entry("endpoint", 0), message);
        }
        let mut seen = BTreeSet::new();
        for (index, endpoint) in config.endpoint.iter().enumerate() {
            let place = self.origins.entry("endpoint", index);
            if endpoint.address.port() == 0 || endpoint.address.ip().is_unspecified() {
                self.wrong_at(place, format!("nothing can be reached at {}", endpoint.address));
            } else if !seen.insert((&endpoint.service, &endpoint.version, endpoint.address)) {
                self.wrong_at(place, format!("{} of `{}` is listed already", endpoint.address, endpoint.service));
            }
        }
    }
}

/// Whether an app's address is that of a listener on this machine.
fn is_at(app: &AppAddress, address: &LocalAddress) -> bool {
    match (&app.place, address) {
        (AppPlace::Unix(app), LocalAddress::Unix(path)) => app == path,
        (AppPlace::Host { name, port }, LocalAddress::Ip(address)) => {
            let here = |ip: IpAddr| ip == address.ip() || (ip.is_loopback() && address.ip().is_unspecified());
            *port == address.port() && (name == "localhost" || name.parse().is_ok_and(here))
        }
        _ => false,
    }
}

/// Whether two sockets cannot be bound at once.
fn collide(a: &LocalAddress, b: &LocalAddress) -> bool {
    let (LocalAddress::Ip(a), LocalAddress::Ip(b)) = (a, b) else { return a == b };
    // An unspecified IPv6 socket takes IPv4 too.
    let wide = |x: &SocketAddr, y: &SocketAddr| x.ip().is_unspecified() && (x.is_ipv6() || y.is_ipv4());
    a.port() == b.port() && (a.ip() == b.ip() || wide(a, b) || wide(b, a))
}
