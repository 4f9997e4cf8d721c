//! Reading the directory. All of it blocks, and runs on the blocking pool.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::endpoint::{Endpoint, EndpointKey, RecordError};
use crate::keys;
use crate::limits::{ENDPOINTS_PER_SERVICE, LISTED_ENDPOINTS, RECORD_BYTES, REJECTED_REMEMBERED};
use crate::names::ServiceName;
use crate::rejected::rejections;
use crate::source::{Change, RegistryError};

/// Versions of one service, and entries of a directory beyond the limit of endpoints, that are looked at.
const VERSIONS: usize = 1_024;

/// One file as it was last seen.
#[derive(Debug)]
struct Seen {
    inode: u64,
    bytes: u64,
    touched: SystemTime,
    /// When `touched` was last seen to move, on the clock that nobody sets: a machine that slept or whose clock jumps does
    /// not make everybody lapse at once.
    moved: Instant,
    endpoint: Result<Endpoint, String>,
}

/// What is known of one service between two scans.
#[derive(Debug, Default)]
pub(crate) struct ServiceScan {
    /// By path below the service's directory, `{version}/{ip:port}`.
    seen: BTreeMap<String, Seen>,
    /// What was named as rejected already, with the reason.
    named: BTreeMap<String, String>,
}

/// What one scan found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Sorted by key.
    pub(crate) list: Vec<Endpoint>,
    /// Keys and reasons that were not told before.
    pub(crate) rejected: Vec<(String, String)>,
    /// When the first of the list lapses unless it is touched again.
    pub(crate) lapses: Option<Instant>,
    /// The directories that hold the records: to be watched.
    pub(crate) directories: Vec<PathBuf>,
}

impl ServiceScan {
    /// Reads `root/services/{service}`; one that is not there has no instances.
    ///
    /// # Errors
    /// When the service's directory itself cannot be read: what was known stands.
    pub(crate) fn scan(&mut self, root: &Path, service: &ServiceName, lease_ttl: Duration) -> io::Result<Found> {
        let directory = root.join("services").join(service.as_str());
        let mut found = Found::default();
        let mut rejected = Vec::new();
        let mut present = BTreeSet::new();
        for version in sorted_names(&directory, VERSIONS)? {
            if version.starts_with('.') {
                continue;
            }
            let below = directory.join(&version);
            let names = match sorted_names(&below, ENDPOINTS_PER_SERVICE * 2) {
                Ok(names) => names,
                Err(error) => {
                    rejected.push((version.clone(), error.to_string()));
                    // What stood there lapses by itself unless it can be read again before.
                    let prefix = format!("{version}/");
                    present.extend(self.seen.keys().filter(|path| path.starts_with(&prefix)).cloned());
                    continue;
                }
            };
            found.directories.push(below.clone());
            for name in names {
                // Files being written have names that begin with a dot.
                if name.starts_with('.') {
                    continue;
                }
                let path = format!("{version}/{name}");
                match self.look(service, &path, &below.join(&name), lease_ttl) {
                    Ok(true) => {
                        present.insert(path);
                    }
                    Ok(false) => {}
                    Err(reason) => rejected.push((path, reason)),
                }
            }
        }
        self.seen.retain(|path, _| present.contains(path));
        for (path, seen) in &self.seen {
            match &seen.endpoint {
                Err(reason) => rejected.push((path.clone(), reason.clone())),
                Ok(endpoint) => {
                    let lapses = seen.moved + lease_ttl;
                    if lapses <= Instant::now() {
                        continue;
                    }
                    if found.list.len() >= ENDPOINTS_PER_SERVICE {
                        rejected.push((path.clone(), format!("more than {ENDPOINTS_PER_SERVICE} endpoints")));
                        continue;
                    }
                    found.lapses = Some(found.lapses.map_or(lapses, |first| first.min(lapses)));
                    found.list.push(endpoint.clone());
                }
            }
        }
        found.list.sort_by(|a, b| a.key.cmp(&b.key));
        found.rejected = self.not_named_yet(&directory, rejected);
        Ok(found)
    }

    /// Brings `self.seen` up to date on one file. `Ok(false)`: it went away meanwhile.
    fn look(&mut self, service: &ServiceName, path: &str, file: &Path, lease_ttl: Duration) -> Result<bool, String> {
        let metadata = match fs::symlink_metadata(file) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.to_string()),
        };
        if !metadata.is_file() {
            return Err("not a file".to_owned());
        }
        let touched = metadata.modified().map_err(|error| error.to_string())?;
        let known = self.seen.get_mut(path);
        if let Some(seen) = known {
            if seen.touched != touched {
                seen.touched = touched;
                seen.moved = Instant::now();
            } else if seen.inode == metadata.ino() && seen.bytes == metadata.len() {
                return Ok(true);
            }
            seen.inode = metadata.ino();
            seen.bytes = metadata.len();
            seen.endpoint = read(service, path, file).map_err(|error| error.to_string());
            return Ok(true);
        }
        let endpoint = read(service, path, file).map_err(|error| error.to_string());
        let moved = first_moved(touched, lease_ttl);
        let seen = Seen { inode: metadata.ino(), bytes: metadata.len(), touched, moved, endpoint };
        self.seen.insert(path.to_owned(), seen);
        Ok(true)
    }

    fn not_named_yet(&mut self, directory: &Path, rejected: Vec<(String, String)>) -> Vec<(String, String)> {
        let now: BTreeMap<String, String> = rejected.into_iter().take(REJECTED_REMEMBERED).collect();
        let fresh = now.iter().filter(|(path, reason)| self.named.get(*path) != Some(*reason));
        let fresh = fresh.map(|(path, reason)| (directory.join(path).display().to_string(), reason.clone())).collect();
        self.named = now;
        fresh
    }
}

/// When a file that is seen for the first time was last touched, on the other clock. A time from ahead counts as much as
/// one from the past: somebody's clock was set back.
fn first_moved(touched: SystemTime, lease_ttl: Duration) -> Instant {
    let age = age(touched).min(lease_ttl);
    let now = Instant::now();
    now.checked_sub(age).unwrap_or(now)
}

pub(crate) fn age(touched: SystemTime) -> Duration {
    match SystemTime::now().duration_since(touched) {
        Ok(age) => age,
        Err(ahead) => ahead.duration(),
    }
}

fn read(service: &ServiceName, path: &str, file: &Path) -> Result<Endpoint, RecordError> {
    let key = keys::parse_relative(&format!("{service}/{path}"))?;
    read_record(key, file)
}

/// Reads the record of `key` at `file`, never more of it than a record may have.
pub(crate) fn read_record(key: EndpointKey, file: &Path) -> Result<Endpoint, RecordError> {
    let unreadable = |error: io::Error| RecordError::Json(format!("the file cannot be read: {error}"));
    let mut json = Vec::new();
    let file = File::open(file).map_err(unreadable)?;
    file.take(RECORD_BYTES as u64 + 1).read_to_end(&mut json).map_err(unreadable)?;
    Endpoint::from_record(key, &json)
}

/// The names in `directory`, sorted, at most `limit`; none when it is not there. A name that is no UTF-8 is shown with
/// replacement characters, and refused later.
fn sorted_names(directory: &Path, limit: usize) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries.take(limit) {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Everything registered below `root`, for tools, with the records that do not parse.
pub(crate) fn everything(root: &Path, lease_ttl: Duration) -> Result<(Vec<Endpoint>, Vec<Change>), RegistryError> {
    let unreadable = |error: io::Error| RegistryError::Unavailable(format!("{}: {error}", root.display()));
    let services = root.join("services");
    let (mut list, mut rejected) = (Vec::new(), Vec::new());
    for name in sorted_names(&services, LISTED_ENDPOINTS).map_err(unreadable)? {
        let shown_path = || services.join(&name).display().to_string();
        match name.parse::<ServiceName>() {
            Err(error) => rejected.push((shown_path(), error.to_string())),
            Ok(service) => match ServiceScan::default().scan(root, &service, lease_ttl) {
                Err(error) => rejected.push((shown_path(), error.to_string())),
                Ok(found) => {
                    rejected.extend(found.rejected);
                    list.extend(found.list);
                }
            },
        }
        if list.len() > LISTED_ENDPOINTS {
            return Err(RegistryError::TooMany { limit: LISTED_ENDPOINTS });
        }
    }
    Ok((list, rejections(rejected)))
}
