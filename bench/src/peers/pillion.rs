//! Our own sidecars, with all features at their defaults.

use super::side;
use crate::Result;
use crate::load::Request;
use crate::site::{self, CALLEE, Identity, Pair, Running, Site, Speaks};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

/// What differs between the sidecars that are started here.
#[derive(Debug, Clone, Copy)]
struct Sidecar<'a> {
    binary: &'a Path,
    identity: &'a Identity,
    registry: &'a str,
    workers: usize,
    /// The app, and the inbound port that leads to it. A caller's side has none.
    app: Option<(SocketAddr, SocketAddr)>,
    /// What is spoken with the app.
    speaks: Speaks,
    /// Added to the configuration as it is.
    more: &'a str,
}

impl Sidecar<'_> {
    /// Starts it with the configuration file `DIR/NAME.toml`. Also says where its own app would call.
    fn start(&self, dir: &Path, name: &str) -> Result<(Running, SocketAddr)> {
        let (outbound, admin) = (site::free_port()?, site::free_port()?);
        let mut text = format!(
            "registry = \"{}\"\nidentity = \"{}\"\nworkers = {}\n",
            self.registry,
            self.identity.dir.display(),
            self.workers
        );
        let mut listen = format!("\n[listen]\noutbound = \"{outbound}\"\nadmin = \"{admin}\"\n");
        if let Some((app, inbound)) = self.app {
            let scheme = if self.speaks == Speaks::H2c { "h2c" } else { "http" };
            text += &format!("app = \"{scheme}://{app}\"\n");
            let advertise = SocketAddr::from((Ipv4Addr::LOCALHOST, inbound.port()));
            listen += &format!("inbound = \"{inbound}\"\nadvertise = \"{advertise}\"\n");
        }
        text = text + &listen + self.more;
        let running = side(dir, &format!("{name}.toml"), &text, |config| {
            let mut command = Command::new(self.binary);
            command.args(["run", "--config"]).arg(config);
            command
        })?;
        Ok((running, outbound))
    }
}

pub(super) fn start(site: &Site, binary: &Path, workers: usize, speaks: Speaks) -> Result<Pair> {
    pair(site, binary, workers, speaks, "")
}

/// Lets so many calls be in flight between A and B, and to the app, where the defaults would refuse some.
pub(crate) fn with_calls(site: &Site, calls: usize) -> Result<Pair> {
    let limits = format!("\n[limits]\nconnections = 12000\ncalls = {calls}\napp_connections = {calls}\n");
    pair(site, &site::built("pillion")?, 1, Speaks::Http1, &limits)?.ready()
}

fn pair(site: &Site, binary: &Path, workers: usize, speaks: Speaks, more: &str) -> Result<Pair> {
    let dir = site.subdirectory("pillion")?;
    let registry = format!("file://{}", site.subdirectory("registry")?.display());
    let common = Sidecar { binary, identity: &site.caller, registry: &registry, workers, app: None, speaks, more };
    let callee = Sidecar { identity: &site.callee, app: Some((site.app_for(speaks), site::free_port()?)), ..common };
    let (b, _) = callee.start(&dir, "b")?;
    let (a, door) = common.start(&dir, "a")?;
    Ok(Pair { door, h2c_door: Some(door), a, b })
}

/// A caller that knows of `endpoints` instances of one service: as many addresses of one callee, which is on all of
/// loopback's. Each is a channel of its own, with its own handshake.
pub(crate) fn with_endpoints(site: &Site, endpoints: usize) -> Result<Pair> {
    let binary = &site::built("pillion")?;
    let dir = site.subdirectory("endpoints")?;
    let port = site::free_port()?.port();
    let address = |serial: usize| format!("127.1.{}.{}:{port}", serial / 250, serial % 250 + 1);
    let records: String = (0..endpoints)
        .map(|serial| format!("\n[[endpoint]]\nservice = \"{CALLEE}\"\naddress = \"{}\"\n", address(serial)))
        .collect();
    let common = Sidecar {
        binary,
        identity: &site.caller,
        registry: "static",
        workers: 1,
        app: None,
        speaks: Speaks::Http1,
        more: &records,
    };
    let everywhere = SocketAddr::from(([0, 0, 0, 0], port));
    let callee = Sidecar {
        identity: &site.callee,
        app: Some((site.app, everywhere)),
        // Its default of 10,000 would leave no room for a channel that is made anew.
        more: "\n[limits]\nconnections = 12000\n",
        ..common
    };
    let (b, _) = callee.start(&dir, "b")?;
    let (a, door) = common.start(&dir, "a")?;
    Pair { door, h2c_door: None, a, b }.ready()
}

/// A caller of a few services among many that are registered.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// B is the callee of the first service used.
    pub(crate) pair: Pair,
    /// A call to each service that is used.
    pub(crate) used: Vec<Request>,
    _others: Vec<Running>,
}

/// Registers `services`, of which five have a sidecar and are meant to be called.
pub(crate) fn with_services(site: &Site, services: usize) -> Result<Fleet> {
    const OTHERS: [&str; 4] = ["stock", "mail", "users", "prices"];
    let binary = &site::built("pillion")?;
    let dir = site.subdirectory("services")?;
    let registry = site.subdirectory("registry")?;
    for serial in 0..services.saturating_sub(1 + OTHERS.len()) {
        let version = registry.join(format!("services/other-{serial}/1.0.0"));
        std::fs::create_dir_all(&version)?;
        // Nobody calls it, so nobody looks whether it is still touched.
        std::fs::write(version.join("127.0.0.1:9"), "{\"schema\":1,\"instance\":\"other\"}")?;
    }
    let registry = format!("file://{}", registry.display());
    let common = Sidecar {
        binary,
        identity: &site.caller,
        registry: &registry,
        workers: 1,
        app: None,
        speaks: Speaks::Http1,
        more: "",
    };
    let callee = |name: &str, identity: &Identity| -> Result<Running> {
        let app = Some((site.app, site::free_port()?));
        Ok(Sidecar { identity, app, ..common }.start(&dir, name)?.0)
    };
    let b = callee(CALLEE, &site.callee)?;
    let others = OTHERS.iter().map(|name| callee(name, &site.identity(name)?)).collect::<Result<_>>()?;
    let (a, door) = common.start(&dir, "a")?;
    let mut pair = Pair { door, h2c_door: None, a, b };
    let used: Vec<Request> = [CALLEE].iter().chain(&OTHERS).map(|service| Request::to(service)).collect();
    for request in &used {
        pair.wait_for(request)?;
    }
    Ok(Fleet { pair, used, _others: others })
}
