//! Where the registry is: `etcd://h1:2379,h2:2379/prefix`, `file:///dir`, `static`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::keys::DEFAULT_PREFIX;
use crate::names::shown;

const ETCD_PORT: u16 = 2379;
const ETCD_ENDPOINTS: usize = 32;
const PREFIX_BYTES: usize = 200;

/// A text that is never shown: `Debug` and `Display` give `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself: for the one place that sends it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the registry is, and of which kind. `Display` masks the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryUrl {
    /// `etcd://[user[:password]@]h1:2379,h2:2379[/prefix][?user=NAME][&tls=true]`.
    Etcd {
        /// `host:port` of each member, at least one.
        endpoints: Vec<String>,
        /// What the keys begin with: empty, or with a '/' in front and none at the end.
        prefix: String,
        /// Who logs in, when etcd asks for it. The options of the config win over it.
        user: Option<String>,
        /// Better kept in the config: the arguments of a process can be read by everybody on the machine.
        password: Option<Secret>,
        /// Speak TLS. The authority of etcd's certificate must be given all the same: see [`crate::EtcdOptions`].
        tls: bool,
    },
    /// `file:///dir`: a directory on this machine.
    File {
        /// The directory, absolute.
        dir: PathBuf,
    },
    /// `static`: the endpoints of the config.
    Static,
}

/// Why a text is not a registry's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlError(String);

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UrlError {}

impl FromStr for RegistryUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        if text == "static" || text == "static://" {
            return Ok(RegistryUrl::Static);
        }
        if let Some(rest) = text.strip_prefix("file://") {
            return parse_file(rest);
        }
        if let Some(rest) = text.strip_prefix("etcd://") {
            return parse_etcd(rest);
        }
        // The text may hold a password: only what stands before "://" is shown.
        let scheme = text.split("://").next().unwrap_or_default();
        Err(UrlError(format!(
            "'{}' is no registry known here: etcd://host:2379[,host:2379][/prefix], file:///dir or static",
            if text.contains("://") { shown(scheme) } else { "…".to_owned() }
        )))
    }
}

fn parse_file(rest: &str) -> Result<RegistryUrl, UrlError> {
    let dir = percent_decode(rest).ok_or_else(|| UrlError("file:// URL: broken %-escape".to_owned()))?;
    let dir = PathBuf::from(dir);
    if !dir.is_absolute() {
        return Err(UrlError("file:// URL: the directory must be absolute, as in file:///var/lib/pillion".to_owned()));
    }
    Ok(RegistryUrl::File { dir })
}

fn parse_etcd(rest: &str) -> Result<RegistryUrl, UrlError> {
    // A password with a '/', '?' or '&' that is not escaped falls apart anywhere: then no part of the text is shown.
    let secret = rest.contains('@') || rest.contains("password=");
    let shown = |part: &str| if secret { "…".to_owned() } else { shown(part) };
    let hint =
        if secret { " (in a user or password, %2F, %3F, %40 and %26 stand for '/', '?', '@' and '&')" } else { "" };
    let refuse = |why: String| UrlError(format!("etcd:// URL: {why}{hint}"));
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let (mut user, mut password, mut tls) = (None, None, false);
    let decode = |text: &str| percent_decode(text).ok_or_else(|| refuse("broken %-escape".to_owned()));
    let hosts = match authority.rsplit_once('@') {
        None => authority,
        Some((login, hosts)) => {
            let (name, secret) = login.split_once(':').map_or((login, None), |(name, secret)| (name, Some(secret)));
            user = Some(decode(name)?);
            password = secret.map(decode).transpose()?.map(Secret);
            hosts
        }
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match name {
            "user" => user = Some(decode(value)?),
            "password" => password = Some(Secret(decode(value)?)),
            "tls" => {
                tls = match value {
                    "true" | "" => true,
                    "false" => false,
                    _ => return Err(refuse("tls is true or false".to_owned())),
                }
            }
            _ => return Err(refuse(format!("unknown option '{}': there are user, password and tls", shown(name)))),
        }
    }
    if user.as_deref() == Some("") {
        return Err(refuse("the user is empty".to_owned()));
    }
    if password.is_some() && user.is_none() {
        return Err(refuse("a password without a user".to_owned()));
    }
    let endpoints = hosts
        .split(',')
        .map(|host| parse_host(host).ok_or_else(|| refuse(format!("'{}' is not host:port", shown(host)))))
        .collect::<Result<Vec<_>, _>>()?;
    if endpoints.len() > ETCD_ENDPOINTS {
        return Err(refuse(format!("more than {ETCD_ENDPOINTS} hosts")));
    }
    Ok(RegistryUrl::Etcd { endpoints, prefix: parse_prefix(path, shown).map_err(refuse)?, user, password, tls })
}

/// `host`, `host:port`, `[v6]`, `[v6]:port` → with the port written out.
fn parse_host(text: &str) -> Option<String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (ip, after) = rest.split_once(']')?;
        ip.parse::<std::net::Ipv6Addr>().ok()?;
        (&text[..ip.len() + 2], if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
    } else {
        let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(valid) {
            return None;
        }
        (host, port)
    };
    let port: u16 = port.map_or(Some(ETCD_PORT), |port| port.parse().ok())?;
    (port != 0).then(|| format!("{host}:{port}"))
}

fn parse_prefix(path: &str, shown: impl Fn(&str) -> String) -> Result<String, String> {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return Ok(DEFAULT_PREFIX.to_owned());
    }
    let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'/');
    if trimmed.len() > PREFIX_BYTES || !trimmed.bytes().all(valid) || trimmed.contains("//") {
        return Err(format!(
            "the prefix '{}' is not at most {PREFIX_BYTES} letters, digits, '.', '-', '_' and single '/'",
            shown(trimmed)
        ));
    }
    Ok(trimmed.to_owned())
}

fn percent_decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok().filter(|text| !text.contains('\0'))
}

fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~' | b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

impl fmt::Display for RegistryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistryUrl::Static => f.write_str("static"),
            RegistryUrl::File { dir } => write!(f, "file://{}", percent_encode(&dir.to_string_lossy())),
            RegistryUrl::Etcd { endpoints, prefix, user, password, tls } => {
                f.write_str("etcd://")?;
                if let Some(user) = user {
                    write!(f, "{}", percent_encode(user).replace('/', "%2F"))?;
                    if password.is_some() {
                        f.write_str(":***")?;
                    }
                    f.write_str("@")?;
                }
                write!(f, "{}{prefix}", endpoints.join(","))?;
                if *tls { f.write_str("?tls=true") } else { Ok(()) }
            }
        }
    }
}

impl Serialize for RegistryUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RegistryUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, shown) in [
            ("static", "static"),
            ("file:///var/lib/pillion", "file:///var/lib/pillion"),
            ("file:///a%20b", "file:///a%20b"),
            ("etcd://10.0.0.5", "etcd://10.0.0.5:2379/pillion"),
            ("etcd://10.0.0.5:2379/", "etcd://10.0.0.5:2379/pillion"),
            ("etcd://h1:1,h2:2/a/b/", "etcd://h1:1,h2:2/a/b"),
            ("etcd://[::1]:2379,[2001:db8::1]", "etcd://[::1]:2379,[2001:db8::1]:2379/pillion"),
            ("etcd://h?user=root", "etcd://root@h:2379/pillion"),
            ("etcd://root:p%40ss@h/x?tls=true", "etcd://root:***@h:2379/x?tls=true"),
        ] {
            let url: RegistryUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), shown);
        }
    }

    #[test]
    fn bad_urls() {
        for bad in [
            "",
            "etcd",
            "etcd://",
            "etcd://h:0",
            "etcd://h:x",
            "etcd://h:70000",
            "etcd://h,,i",
            "etcd://a b",
            "consul://h",
            "file://rel",
            "file://",
            "etcd://h/a//b",
            "etcd://h/ä",
            "etcd://h?users=x",
            "etcd://h?password=x",
            "etcd://@h",
            "etcd://[::1",
            "etcd://[x]:1",
            "etcd://h?user=%zz",
            "etcd://h?user=%",
            "http://h:2379",
            "etcd://h?tls=maybe",
        ] {
            assert!(bad.parse::<RegistryUrl>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        let url: RegistryUrl = "etcd://root:hunter2@h".parse().expect("url");
        assert!(!format!("{url} {url:?}").contains("hunter2"));
        let RegistryUrl::Etcd { password: Some(password), .. } = url else { panic!("no password") };
        assert_eq!(password.reveal(), "hunter2");
        for bad in [
            "etcd://root:hunter2@",
            "etc://root:hunter2@h",
            "root:hunter2@h",
            "etcd://root:hunter2@h?x=1",
            // Not escaped: what stands behind is no password to the grammar.
            "etcd://root:pass/hunter2@h",
            "etcd://root:hunter2/word@h",
            "etcd://root:pass?hunter2@h",
            "etcd://root:hunter2?word@h",
            "etcd://h?user=root&password=pass&hunter2",
        ] {
            let error = bad.parse::<RegistryUrl>().expect_err(bad).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let plain = "etcd://h?users=x".parse::<RegistryUrl>().expect_err("no option").to_string();
        assert!(plain.contains("'users'"), "without a secret the mistake is shown: {plain}");
    }
}
