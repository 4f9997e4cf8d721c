//! The own record: registered once the app accepts connections and the own address is known. Neither stops the start:
//! calls go on with what is known, whatever the registry's name leads to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use registry::{Endpoint, EndpointKey, InstanceId, RegistryUrl, ServiceName, Source};
use tokio::task::spawn_local;
use tokio::time::Instant;

use super::methods::Reflecting;
use crate::config::{AppAddress, Config};
use crate::metrics::Metrics;
use crate::upstream::health;

/// How often the app is asked whether it is up, before it is registered.
const ASK_APP: Duration = Duration::from_millis(50);
/// How often a route to the registry is looked for, while there is none; and the app asked for its methods.
pub(super) const ASK_ROUTE: Duration = Duration::from_secs(1);
/// How often the log says that it is still not.
pub(super) const REMIND: Duration = Duration::from_secs(10);

/// What is to be registered, and where.
pub(super) struct Registration {
    pub(super) config: Arc<Config>,
    pub(super) service: ServiceName,
    pub(super) instance: InstanceId,
    /// Where other sidecars connect.
    pub(super) inbound: SocketAddr,
    pub(super) source: Arc<dyn Source>,
    pub(super) metrics: Arc<Metrics>,
    /// Where the app itself says which methods it has: until it has, JSON calls of them cannot be taken.
    pub(super) reflecting: Option<Reflecting>,
}

impl Registration {
    /// Registers as soon as that makes sense, unless the sidecar drains before: it has left the registry then.
    pub(super) async fn run(mut self, app: AppAddress) {
        let mut reminder = Reminder::default();
        // A record that leads to a closed port helps nobody.
        while !health::is_ready(&app, REMIND).await {
            if self.is_draining() {
                return;
            }
            reminder.say(|| tracing::info!(%app, "waiting for the app to accept connections, or to say that it serves (grpc.health.v1), to register it"));
            tokio::time::sleep(ASK_APP).await;
        }
        if let Some(reflecting) = self.reflecting.take() {
            let mut reminder = Reminder::default();
            let reflected = loop {
                match reflecting.ask().await {
                    Ok(reflected) => break reflected,
                    Err(_) if self.is_draining() => return,
                    Err(error) => {
                        reminder.say(|| tracing::warn!(%app, "not registered: its methods are not known: {error}"));
                    }
                }
                tokio::time::sleep(ASK_ROUTE).await;
            };
            spawn_local(reflecting.follow(reflected));
        }
        let mut reminder = Reminder::default();
        let address = loop {
            match self.address().await {
                Ok(address) => break address,
                Err(_) if self.is_draining() => return,
                Err(error) => {
                    reminder.say(|| {
                        tracing::warn!(
                            "not registered: the own address is unknown ({error}); --advertise IP:PORT sets it"
                        );
                    });
                }
            }
            tokio::time::sleep(ASK_ROUTE).await;
        };
        if is_unreachable(&self.config, address) {
            tracing::warn!(
                "{address} is registered in {}, and no other host can reach that: --advertise IP:PORT says what others reach",
                self.config.registry
            );
        }
        // No await from here on: whoever drains does so on this thread.
        if !self.is_draining() {
            let key = EndpointKey { service: self.service, version: self.config.version.clone(), address };
            let mut endpoint = Endpoint::new(key, self.instance);
            endpoint.secure = !self.config.insecure;
            endpoint.protocol = app.protocol.registered().to_owned();
            self.source.register(endpoint);
        }
    }

    fn is_draining(&self) -> bool {
        self.metrics.draining.get() == 1
    }

    /// The address that others are told.
    async fn address(&self) -> Result<SocketAddr, String> {
        match self.config.listen.advertise {
            Some(address) => Ok(address),
            None => reachable_at(&self.config.registry, self.inbound).await,
        }
    }
}

/// Says what does not change now and then.
#[derive(Default)]
pub(super) struct Reminder {
    said: Option<Instant>,
}

impl Reminder {
    pub(super) fn say(&mut self, say: impl FnOnce()) {
        if self.said.is_none_or(|said| said.elapsed() >= REMIND) {
            self.said = Some(Instant::now());
            say();
        }
    }
}

/// An etcd is for several hosts.
fn is_unreachable(config: &Config, address: SocketAddr) -> bool {
    let shared = matches!(config.registry, RegistryUrl::Etcd { .. });
    shared && config.listen.advertise.is_none() && address.ip().is_loopback()
}

/// The bound address; for a wildcard the one from which the registry is reached.
async fn reachable_at(registry: &RegistryUrl, bound: SocketAddr) -> Result<SocketAddr, String> {
    if !bound.ip().is_unspecified() {
        return Ok(bound);
    }
    let ip = match registry {
        RegistryUrl::Etcd { endpoints, .. } => outgoing_ip(endpoints, bound).await?,
        RegistryUrl::File { .. } | RegistryUrl::Static => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    Ok(SocketAddr::new(ip, bound.port()))
}

/// The local address from which one of `members` is reached, and at which `bound` listens. Loopback only if there is no
/// other: a member on this host says nothing about how the other hosts come here.
async fn outgoing_ip(members: &[String], bound: SocketAddr) -> Result<IpAddr, String> {
    let mut loopback = None;
    let mut failed = "the registry has no address".to_owned();
    for member in members {
        // On a thread of its own: it may take seconds.
        let targets: Vec<SocketAddr> = match tokio::net::lookup_host(member.as_str()).await {
            Ok(targets) => targets.collect(),
            Err(error) => {
                failed = format!("{member}: {error}");
                continue;
            }
        };
        for target in targets {
            match local_ip(target) {
                Ok(ip) if ip.is_ipv6() && bound.is_ipv4() => {
                    failed = format!("{member} is reached over IPv6, and listen.inbound takes IPv4 only: bind [::]");
                }
                Ok(ip) if ip.is_loopback() => loopback = loopback.or(Some(ip)),
                Ok(ip) => return Ok(ip),
                Err(error) => failed = format!("{member}: no route to {}: {error}", target.ip()),
            }
        }
    }
    loopback.ok_or(failed)
}

/// The local address from which `target` is reached. Connecting a UDP socket sends nothing: it only asks the routing table.
fn local_ip(target: SocketAddr) -> std::io::Result<IpAddr> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Mutex;

    use registry::{BoxFuture, RegistryError};

    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
    }

    fn at(registry: &str, bound: &str) -> Result<String, String> {
        let registry = registry.parse().expect("a URL");
        let reached = reachable_at(&registry, bound.parse().expect("an address"));
        block_on(reached).map(|address| address.to_string())
    }

    #[test]
    fn the_address_comes_from_the_route_to_whichever_member_there_is() {
        let nobody = "etcd://registry..invalid:2379";
        assert_eq!(at(nobody, "10.0.0.7:4143").as_deref(), Ok("10.0.0.7:4143"), "bound to it: nothing is looked up");
        assert_eq!(at("static", "0.0.0.0:4143").as_deref(), Ok("127.0.0.1:4143"));
        assert_eq!(at("etcd://127.0.0.1:2379", "0.0.0.0:4143").as_deref(), Ok("127.0.0.1:4143"));
        let second = "etcd://registry..invalid:2379,127.0.0.1:2379";
        assert_eq!(at(second, "0.0.0.0:4143").as_deref(), Ok("127.0.0.1:4143"), "one member's name is enough");
        let error = at(nobody, "0.0.0.0:4143").expect_err("no such name");
        assert!(error.contains("registry..invalid"), "{error}");
    }

    #[test]
    fn an_ipv6_registry_gives_an_ipv6_address_where_one_is_listened_at() {
        if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            return; // a host without IPv6
        }
        assert_eq!(at("etcd://[::1]:2379", "[::]:4143").as_deref(), Ok("[::1]:4143"));
        let error = at("etcd://[::1]:2379", "0.0.0.0:4143").expect_err("nobody listens there");
        assert!(error.contains("listen.inbound"), "{error}");
    }

    #[test]
    fn a_loopback_address_in_an_etcd_is_odd_unless_it_was_asked_for() {
        let check = |odd: bool, registry: &str, address: &str, advertise: Option<&str>| {
            let mut config = Config { registry: registry.parse().expect("a URL"), ..Config::default() };
            config.listen.advertise = advertise.map(|address| address.parse().expect("an address"));
            assert_eq!(is_unreachable(&config, address.parse().expect("an address")), odd, "{registry} {address}");
        };
        check(true, "etcd://127.0.0.1:2379", "127.0.0.1:4143", None);
        check(true, "etcd://[::1]:2379", "[::1]:4143", None);
        check(false, "etcd://127.0.0.1:2379", "10.0.0.7:4143", None);
        check(false, "etcd://127.0.0.1:2379", "127.0.0.1:4143", Some("127.0.0.1:4143"));
        check(false, "file:///tmp/services", "127.0.0.1:4143", None);
    }

    #[derive(Debug, Default)]
    struct Registered(Mutex<Vec<Endpoint>>);

    impl Source for Registered {
        fn follow(&self, _: &ServiceName) {}
        fn unfollow(&self, _: &ServiceName) {}
        fn register(&self, endpoint: Endpoint) {
            self.0.lock().expect("not poisoned").push(endpoint);
        }
        fn withdraw(&self) -> BoxFuture<'_, Result<(), RegistryError>> {
            Box::pin(async { Ok(()) })
        }
        fn list(&self) -> BoxFuture<'_, Result<Vec<Endpoint>, RegistryError>> {
            Box::pin(async { Ok(Vec::new()) })
        }
        fn reconcile(&self) {}
    }

    /// How many records there are in the end.
    fn registered(registry: &str, draining: bool) -> usize {
        let app = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", app.local_addr().expect("bound")).parse().expect("an address");
        let source = Arc::new(Registered::default());
        let metrics = Metrics::new();
        metrics.draining.set(i64::from(draining));
        let registration = Registration {
            config: Arc::new(Config { registry: registry.parse().expect("a URL"), ..Config::default() }),
            service: "pay".parse().expect("a name"),
            instance: InstanceId::generate(),
            inbound: "0.0.0.0:4143".parse().expect("an address"),
            source: Arc::clone(&source) as Arc<dyn Source>,
            metrics,
            reflecting: None,
        };
        block_on(registration.run(address));
        source.0.lock().expect("not poisoned").len()
    }

    #[test]
    fn who_drains_is_not_registered_any_more() {
        assert_eq!(registered("static", false), 1);
        assert_eq!(registered("static", true), 0, "it has left already");
        assert_eq!(registered("etcd://registry..invalid:2379", true), 0, "and is not waited for");
    }
}
