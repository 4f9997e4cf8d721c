//! Following services: scan when inotify says so, when somebody's heartbeat is over, and now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc, watch};

use super::scan::{Found, ServiceScan};
use crate::backoff::jittered;
use crate::desired::Desired;
use crate::endpoint::Endpoint;
use crate::limits::gather;
use crate::names::ServiceName;
use crate::rejected::rejections;
use crate::source::{Cause, Change, Options, Revision};

/// The longest time without a look, should an event be lost.
const RESCAN: Duration = Duration::from_secs(5);
/// The same when inotify has no watches left for us.
const RESCAN_UNWATCHED: Duration = Duration::from_secs(1);

/// Runs until the source is dropped.
pub(super) async fn run(
    root: Arc<Path>,
    options: Options,
    mut desired: watch::Receiver<Desired>,
    changes: mpsc::UnboundedSender<Change>,
) {
    let poke = Arc::new(Notify::new());
    let mut rng = fastrand::Rng::with_seed(crate::names::random_u64());
    let mut scanner = Scanner::new(Arc::clone(&root), options.lease_ttl, Arc::clone(&poke));
    let mut teller =
        Teller { root: Arc::clone(&root), changes, services: BTreeMap::new(), revision: 0, connected: None };
    let mut reconciled = 0;
    // A reconcile is asked for, and no look has succeeded since.
    let mut again = false;
    let mut reconcile_at = Instant::now() + jittered(options.reconcile, 0.25, &mut rng);
    loop {
        let (wanted, asked) = {
            let desired = desired.borrow_and_update();
            (desired.followed.clone(), desired.reconcile)
        };
        if asked != reconciled || Instant::now() >= reconcile_at {
            again = true;
            reconciled = asked;
            reconcile_at = Instant::now() + jittered(options.reconcile, 0.25, &mut rng);
        }
        let scan = tokio::task::spawn_blocking(move || {
            let scanned = scanner.scan(&wanted);
            (scanner, scanned, wanted)
        });
        let rescan;
        let mut found = 0;
        match scan.await {
            Ok((back, scanned, wanted)) => {
                scanner = back;
                rescan = if scanner.unwatched { RESCAN_UNWATCHED } else { RESCAN };
                found = scanned.services.values().flatten().map(|found| found.list.len()).sum();
                let lapses = scanned.services.values().flatten().filter_map(|found| found.lapses).min();
                let readable = scanned.error.is_none();
                teller.tell(scanned, &wanted, again);
                again &= !readable;
                // A moment after the lapse, so that one scan sees it over.
                let next = lapses.map(|lapses| lapses + Duration::from_millis(1));
                let until = next.map_or(Instant::now() + rescan, |next| next.min(Instant::now() + rescan));
                if wait(until.min(reconcile_at), &poke, &mut desired).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // A panic in the scan, or the runtime ends: what it knew is lost, nothing else.
                tracing::error!(%error, "scanning the registry directory failed");
                scanner = Scanner::new(Arc::clone(&root), options.lease_ttl, Arc::clone(&poke));
                tokio::time::sleep(RESCAN_UNWATCHED).await;
            }
        }
        // Gathers what else happens at this moment, and bounds how often a busy directory is read.
        tokio::time::sleep(gather(found)).await;
    }
}

/// Waits for the first of: the time, an event, another wish. `Err`: the source was dropped.
async fn wait(until: Instant, poke: &Notify, desired: &mut watch::Receiver<Desired>) -> Result<(), ()> {
    tokio::select! {
        () = tokio::time::sleep_until(until.into()) => Ok(()),
        () = poke.notified() => Ok(()),
        changed = desired.changed() => changed.map_err(|_| ()),
    }
}

/// Tells what changed, and nothing twice.
struct Teller {
    root: Arc<Path>,
    changes: mpsc::UnboundedSender<Change>,
    services: BTreeMap<ServiceName, Told>,
    revision: Revision,
    connected: Option<bool>,
}

struct Told {
    follow: u64,
    list: Option<Vec<Endpoint>>,
    /// Why it could not be read the last time.
    error: Option<String>,
}

impl Teller {
    fn tell(&mut self, mut scanned: Scanned, wanted: &BTreeMap<ServiceName, u64>, again: bool) {
        match scanned.error {
            None => {
                if self.connected.replace(true) != Some(true) {
                    self.send(Change::Connected);
                }
            }
            Some(error) => {
                if self.connected.replace(false) != Some(false) {
                    self.send(Change::Disconnected { error });
                }
            }
        }
        self.services.retain(|service, told| wanted.get(service) == Some(&told.follow));
        for (service, follow) in wanted {
            let told =
                self.services.entry(service.clone()).or_insert(Told { follow: *follow, list: None, error: None });
            let found = match scanned.services.remove(service) {
                None => continue,
                Some(Err(reason)) => {
                    if told.error.replace(reason.clone()).as_ref() != Some(&reason) {
                        let key = self.root.join("services").join(service.as_str()).display().to_string();
                        self.send(Change::Rejected { key, reason });
                    }
                    continue;
                }
                Some(Ok(found)) => found,
            };
            told.error = None;
            let cause = if told.list.is_none() || again { Cause::Listed } else { Cause::Watched };
            let same = told.list.as_ref() == Some(&found.list);
            for rejected in rejections(found.rejected) {
                let _ = self.changes.send(rejected);
            }
            if cause == Cause::Watched && same {
                continue;
            }
            told.list = Some(found.list.clone());
            let revision = self.next_revision();
            self.send(Change::Endpoints { service: service.clone(), list: found.list, revision, cause });
        }
    }

    /// The time in microseconds, but always more than before: it grows over a restart of the sidecar too, so that a
    /// snapshot's revision is below what comes.
    fn next_revision(&mut self) -> Revision {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_micros());
        self.revision = u64::try_from(now).unwrap_or(u64::MAX).max(self.revision + 1);
        self.revision
    }

    fn send(&self, change: Change) {
        let _ = self.changes.send(change);
    }
}

/// What one look at the directory gave.
struct Scanned {
    /// `Err`: it could not be read, and what was told of it stands.
    services: BTreeMap<ServiceName, Result<Found, String>>,
    /// Why the registry as a whole cannot be read.
    error: Option<String>,
}

/// Owns the watches and what was seen; goes to the blocking pool and back with each scan.
struct Scanner {
    root: Arc<Path>,
    lease_ttl: Duration,
    poke: Arc<Notify>,
    services: BTreeMap<ServiceName, (u64, ServiceScan)>,
    watcher: Option<RecommendedWatcher>,
    /// Each with the device and inode that it had: a directory made anew has another, and needs another watch.
    watched: BTreeMap<PathBuf, (u64, u64)>,
    /// Not all that should be watched is.
    unwatched: bool,
}

impl Scanner {
    fn new(root: Arc<Path>, lease_ttl: Duration, poke: Arc<Notify>) -> Self {
        Scanner {
            root,
            lease_ttl,
            poke,
            services: BTreeMap::new(),
            watcher: None,
            watched: BTreeMap::new(),
            unwatched: false,
        }
    }

    fn scan(&mut self, wanted: &BTreeMap<ServiceName, u64>) -> Scanned {
        let services_dir = self.root.join("services");
        let error = match fs::read_dir(&services_dir) {
            Ok(_) => None,
            // Nobody has registered yet: that is an answer.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => Some(format!("{}: {error}", services_dir.display())),
        };
        self.services.retain(|service, (follow, _)| wanted.get(service) == Some(follow));
        // First the watches, then the look: what happens in between is an event.
        self.watch(wanted.keys().map(|service| services_dir.join(service.as_str())).collect(), false);
        let mut scanned = Scanned { services: BTreeMap::new(), error };
        let mut directories: BTreeSet<PathBuf> = BTreeSet::new();
        for (service, follow) in wanted {
            directories.insert(services_dir.join(service.as_str()));
            let (_, scan) = self.services.entry(service.clone()).or_insert((*follow, ServiceScan::default()));
            if scanned.error.is_some() {
                continue;
            }
            let found = scan.scan(&self.root, service, self.lease_ttl).map_err(|error| error.to_string());
            directories.extend(found.iter().flat_map(|found| found.directories.iter().cloned()));
            scanned.services.insert(service.clone(), found);
        }
        if self.watch(directories, true) {
            // A directory of versions was new: what was written into it before the watch stood is seen by another look.
            self.poke.notify_one();
        }
        scanned
    }

    /// Watches `directories` (of those that are not there, the nearest ancestor), and nothing else when they are `all`.
    /// True: one was new.
    fn watch(&mut self, directories: BTreeSet<PathBuf>, all: bool) -> bool {
        let mut wanted: BTreeMap<PathBuf, (u64, u64)> = BTreeMap::new();
        for directory in directories {
            for path in directory.ancestors() {
                if let Ok(metadata) = fs::metadata(path)
                    && metadata.is_dir()
                {
                    wanted.insert(path.to_owned(), (metadata.dev(), metadata.ino()));
                    break;
                }
            }
        }
        if wanted.is_empty() {
            self.watcher = None;
            self.watched.clear();
            self.unwatched = false;
            return false;
        }
        if self.watcher.is_none() {
            self.watched.clear();
            match watcher(&self.root, Arc::clone(&self.poke)) {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(error) => {
                    self.complain(&error);
                    return false;
                }
            }
        }
        let Some(watcher) = &mut self.watcher else { return false };
        let mut news = false;
        self.watched.retain(|path, identity| {
            let stays = wanted.get(path).map_or_else(|| !all && is_still(path, *identity), |now| now == identity);
            if !stays {
                let _ = watcher.unwatch(path);
            }
            stays
        });
        let mut failed = None;
        for (path, identity) in wanted {
            if self.watched.contains_key(&path) {
                continue;
            }
            match watcher.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    news = true;
                    self.watched.insert(path, identity);
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => self.complain(&error),
            None => self.unwatched = false,
        }
        news
    }

    fn complain(&mut self, error: &notify::Error) {
        if !self.unwatched {
            tracing::warn!(%error, "the registry directory cannot be watched: it is read every {RESCAN_UNWATCHED:?} instead");
        }
        self.unwatched = true;
    }
}

fn is_still(path: &Path, identity: (u64, u64)) -> bool {
    fs::metadata(path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == identity)
}

/// A watcher that pokes for what may change a list: not for heartbeats, nor for our own reading, nor for files in the
/// making, nor for what happens beside the registry in a directory above it.
fn watcher(root: &Path, poke: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let root = root.to_owned();
    notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else {
            poke.notify_one();
            return;
        };
        let silent = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
            EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => true,
            _ => false,
        };
        let concerns = |path: &PathBuf| {
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            (path.starts_with(&root) && !hidden) || root.starts_with(path)
        };
        if event.need_rescan() || (!silent && (event.paths.is_empty() || event.paths.iter().any(concerns))) {
            poke.notify_one();
        }
    })
}
