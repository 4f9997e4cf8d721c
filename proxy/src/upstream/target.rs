//! What a pool's connections lead to: the own app, or a declared host outside.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::config::{AppAddress, Egress, Timeouts};
use crate::edge::Stream;

/// Where connections lead.
pub enum Target {
    /// The own app.
    App(AppAddress),
    /// A host outside.
    Egress(EgressTarget),
}

/// A declared host, and what is spoken with it.
pub struct EgressTarget {
    host: String,
    port: u16,
    address: Option<SocketAddr>,
    tls: Option<Arc<ClientConfig>>,
}

impl EgressTarget {
    /// The host of `entry`, with TLS if a configuration is given.
    pub fn new(entry: &Egress, tls: Option<Arc<ClientConfig>>) -> EgressTarget {
        let Egress { host, port, address, .. } = entry.clone();
        EgressTarget { host, port, address, tls }
    }

    async fn connect(&self) -> io::Result<Stream> {
        let stream = match self.address {
            Some(address) => TcpStream::connect(address).await?,
            None => self.resolve_and_connect().await?,
        };
        let _ = stream.set_nodelay(true);
        match &self.tls {
            None => Ok(Stream::Tcp(stream)),
            Some(tls) => {
                let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
                Ok(Stream::Tls(Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?)))
            }
        }
    }

    /// The first address that accepts, of those that may be meant: whoever holds the name's record must not lead calls to what only
    /// this machine can reach.
    async fn resolve_and_connect(&self) -> io::Result<TcpStream> {
        let mut last = None;
        for address in lookup_host((self.host.as_str(), self.port)).await? {
            if is_own(address.ip()) {
                let why = format!(
                    "it resolves to {}, which is reached from this machine alone; if that is meant, set `address`",
                    address.ip()
                );
                last.get_or_insert_with(|| io::Error::new(io::ErrorKind::PermissionDenied, why));
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it resolves to no address")))
    }
}

/// Loopback, link-local (where clouds keep their metadata), and what is no host's address at all.
fn is_own(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback() || ip.is_link_local() || ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast()
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast(),
    }
}

impl Target {
    /// A new connection; how long that may take is the caller's to bound.
    pub async fn connect(&self) -> io::Result<Stream> {
        match self {
            Target::App(app) => Stream::connect(&app.place).await,
            // On the heap: TLS is large, and seldom.
            Target::Egress(egress) => Box::pin(egress.connect()).await,
        }
    }

    /// The setting that bounds the time for a connection, and its value.
    pub fn patience(&self, timeouts: &Timeouts) -> (&'static str, std::time::Duration) {
        match self {
            Target::App(_) => ("timeouts.app_connect", timeouts.app_connect),
            Target::Egress(_) => ("timeouts.egress_connect", timeouts.egress_connect),
        }
    }

    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        matches!(self, Target::Egress(egress) if egress.tls.is_some())
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::App(app) => app.fmt(f),
            Target::Egress(EgressTarget { host, port, .. }) => write!(f, "{host}:{port}"),
        }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_this_machine_reaches_is_known_in_every_form() {
        for (ip, own) in [
            ("127.0.0.1", true),
            ("127.8.8.8", true),
            ("169.254.169.254", true),
            ("0.0.0.0", true),
            ("224.0.0.1", true),
            ("255.255.255.255", true),
            ("::1", true),
            ("::", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:169.254.169.254", true),
            ("fe80::1", true),
            ("ff02::1", true),
            ("10.0.0.1", false),
            ("192.0.2.1", false),
            ("fd00::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(is_own(ip.parse().unwrap()), own, "{ip}");
        }
    }
}
