//! Where something local listens: the own app, and the doors for its calls.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::AppProtocol;
use super::codec::address;

/// Before the path of a Unix domain socket.
const UNIX: &str = "unix:";
/// The longest path that such a socket can have: `sun_path` less its final zero (unix(7)). Bytes.
const UNIX_PATH_BYTES: usize = 107;

/// The longest path of an app's. Bytes.
const PATH_BYTES: usize = 1024;

/// Where a door listens: `IP:PORT` or `unix:/PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalAddress {
    /// TCP.
    Ip(SocketAddr),
    /// A Unix domain socket, by its absolute path.
    Unix(PathBuf),
}

/// Where the own app listens, parsed from `http://HOST:PORT` or the same with `h2c`, `tcp` or `thrift` (no path, no user), or for a Unix
/// domain socket from `unix:/PATH`, which means HTTP/1.1, or `h2c+unix:/PATH` and the like. `Display` gives that back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AppAddress {
    /// What it speaks.
    pub protocol: AppProtocol,
    /// Where.
    pub place: AppPlace,
}

/// Where an app listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AppPlace {
    /// TCP.
    Host {
        /// Host name or address, without the brackets of IPv6.
        name: String,
        /// Never 0.
        port: u16,
    },
    /// A Unix domain socket, by its absolute path.
    Unix(PathBuf),
}

/// A path of the own app's, as requests have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPath(pub String);

/// Who may connect to a Unix domain socket: the mode bits of its file (chmod(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl LocalAddress {
    /// Whether other hosts can reach it.
    pub fn is_remote(&self) -> bool {
        matches!(self, LocalAddress::Ip(address) if !address.ip().is_loopback())
    }
}

impl From<SocketAddr> for LocalAddress {
    fn from(address: SocketAddr) -> Self {
        LocalAddress::Ip(address)
    }
}

impl FromStr for LocalAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix(UNIX) {
            Some(path) => socket_path(path).map(LocalAddress::Unix),
            None => address(text).map(LocalAddress::Ip).map_err(|error| format!("{error}, or unix:/PATH")),
        }
    }
}

impl fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LocalAddress::Ip(address) => address.fmt(f),
            LocalAddress::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl FromStr for HttpPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fine = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        if text.starts_with('/') && text.len() <= PATH_BYTES && text.bytes().all(fine) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{text}` is not a path: write it as it stands in a request, such as /rpc"))
        }
    }
}

impl fmt::Display for HttpPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SocketMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = (3..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        match u32::from_str_radix(text, 8) {
            Ok(mode) if digits && mode <= 0o777 => Ok(Self(mode)),
            _ => Err(format!("`{text}` is not the mode of a file: write octal digits, such as \"0660\"")),
        }
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl AppAddress {
    /// Host and port as a URI has them; for a Unix domain socket, which has neither, `localhost`, as gRPC and curl have it.
    pub fn authority(&self) -> String {
        match &self.place {
            AppPlace::Host { name, port } if name.contains(':') => format!("[{name}]:{port}"),
            AppPlace::Host { name, port } => format!("{name}:{port}"),
            AppPlace::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl FromStr for AppAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((scheme, path)) = text.split_once(UNIX) {
            let protocol = match scheme.strip_suffix('+') {
                Some(protocol) => protocol.parse(),
                None if scheme.is_empty() => Ok(AppProtocol::Http),
                None => Err(()),
            };
            if let Ok(protocol) = protocol {
                return Ok(Self { protocol, place: AppPlace::Unix(socket_path(path)?) });
            }
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let protocol = scheme.parse::<AppProtocol>().map_err(|()| {
            format!("`{text}` is not an app's address: write http://HOST:PORT or the same with h2c, tcp or thrift, or unix:/PATH, h2c+unix:/PATH, …")
        })?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#', '@']) {
            return Err(format!("`{text}`: an app's address is {protocol}://HOST:PORT, without path, query or user"));
        }
        let (host, port) =
            rest.rsplit_once(':').ok_or_else(|| format!("`{text}` lacks the port: write {protocol}://HOST:PORT"))?;
        let name = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            Some(inner) => {
                if inner.parse::<Ipv6Addr>().is_err() {
                    return Err(format!("`{inner}` is not an IPv6 address"));
                }
                inner
            }
            None => {
                let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
                if host.is_empty() || host.len() > 253 || !host.bytes().all(fine) {
                    return Err(format!("`{host}` is not a host name or address"));
                }
                host
            }
        };
        match port.parse::<u16>() {
            Ok(port) if port > 0 => Ok(Self { protocol, place: AppPlace::Host { name: name.to_owned(), port } }),
            _ => Err(format!("`{port}` is not a port between 1 and 65535")),
        }
    }
}

impl fmt::Display for AppAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.protocol) {
            (AppPlace::Host { .. }, protocol) => write!(f, "{protocol}://{}", self.authority()),
            (AppPlace::Unix(path), AppProtocol::Http) => write!(f, "{UNIX}{}", path.display()),
            (AppPlace::Unix(path), protocol) => write!(f, "{protocol}+{UNIX}{}", path.display()),
        }
    }
}

fn socket_path(text: &str) -> Result<PathBuf, String> {
    // As in a URL of a file: three slashes mean the same as one (RFC 8089).
    let text = text.strip_prefix("//").unwrap_or(text);
    let path = Path::new(text);
    if !path.is_absolute() || text.ends_with('/') || text.contains('\0') {
        return Err(format!("`{text}` is not the path of a socket: write unix:/PATH, from the root on"));
    }
    if text.len() > UNIX_PATH_BYTES {
        return Err(format!(
            "`{text}` has {} bytes, and the path of a socket has {UNIX_PATH_BYTES} at most",
            text.len()
        ));
    }
    Ok(path.to_owned())
}
