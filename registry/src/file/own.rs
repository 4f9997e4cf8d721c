//! Our own record: written, touched, put back, and taken out if it is still ours.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::scan::{age, read_record};
use crate::desired::Asked;
use crate::disk::write_atomically;
use crate::endpoint::{Endpoint, EndpointKey};
use crate::keys;
use crate::names::InstanceId;
use crate::source::{Change, RegistryError};

/// How often it is looked whether the record still stands, at most.
const LOOK: Duration = Duration::from_secs(1);
/// Files of dead instances beside ours are removed after so many leases, but not before [`LITTER_MIN`].
const LITTER_LEASES: u32 = 10;
const LITTER_MIN: Duration = Duration::from_secs(60);

/// Runs until the source is dropped.
pub(super) async fn run(
    root: Arc<Path>,
    lease_ttl: Duration,
    mut asked: Asked,
    changes: mpsc::UnboundedSender<Change>,
) {
    let mut keeper = Keeper { root, lease_ttl, changes, own: None, standing: None };
    // What the last withdrawal came to, for the one who asks for it.
    let mut left = Ok(());
    loop {
        let wanted = asked.desired.borrow_and_update().own.clone();
        if keeper.own.as_ref().map(|own| &own.endpoint) != wanted.as_ref() {
            match (&mut keeper.own, wanted) {
                // The same run at the same place says something else of itself: written over, without a gap.
                (Some(own), Some(now)) if own.is_of(&now) => own.endpoint = now,
                (_, wanted) => {
                    left = keeper.leave().await;
                    keeper.own = wanted.map(|endpoint| Own { endpoint, fresh: true, touch_at: Instant::now() });
                }
            }
        }
        keeper.keep().await;
        let beat = LOOK.min(lease_ttl / 3);
        tokio::select! {
            changed = asked.desired.changed() => if changed.is_err() { return },
            withdrawal = asked.withdrawals.recv() => match withdrawal {
                None => return,
                Some(reply) => {
                    if asked.desired.borrow().own.is_none() && keeper.own.is_some() {
                        left = keeper.leave().await;
                    }
                    // Who asked may have given up waiting.
                    let _ = reply.send(left.clone());
                }
            },
            () = tokio::time::sleep(beat), if keeper.own.is_some() => {}
        }
    }
}

struct Own {
    endpoint: Endpoint,
    /// It was never written: whoever stands there is an earlier run at our address.
    fresh: bool,
    touch_at: Instant,
}

impl Own {
    fn is_of(&self, other: &Endpoint) -> bool {
        self.endpoint.key == other.key && self.endpoint.instance == other.instance
    }
}

struct Keeper {
    root: Arc<Path>,
    lease_ttl: Duration,
    changes: mpsc::UnboundedSender<Change>,
    own: Option<Own>,
    /// What was told last: that it stands, or why not.
    standing: Option<Result<(), String>>,
}

impl Keeper {
    /// Looks that our record stands, and touches it when it is time.
    async fn keep(&mut self) {
        let Some(own) = &mut self.own else { return };
        let (path, endpoint, fresh) = (path(&self.root, &own.endpoint.key), own.endpoint.clone(), own.fresh);
        let touch = Instant::now() >= own.touch_at;
        let lease_ttl = self.lease_ttl;
        let claimed = tokio::task::spawn_blocking(move || {
            if fresh {
                remove_litter(&path, lease_ttl);
            }
            claim(&path, &endpoint, fresh, touch, lease_ttl)
        })
        .await;
        let standing = match claimed {
            Ok(Ok(Claim::Stands)) => {
                own.fresh = false;
                if touch {
                    own.touch_at = Instant::now() + lease_ttl / 3;
                }
                Ok(())
            }
            Ok(Ok(Claim::TakenBy(instance))) => {
                Err(format!("{} is registered by another instance, {instance}", own.endpoint.key))
            }
            Ok(Err(error)) => Err(format!("{}: {error}", own.endpoint.key)),
            Err(error) => Err(error.to_string()),
        };
        let key = own.endpoint.key.clone();
        let told_standing = self.standing.as_ref().map(Result::is_ok);
        if told_standing != Some(standing.is_ok()) {
            let change = match &standing {
                Ok(()) => Change::Registered { key },
                Err(error) => Change::Unregistered { error: error.clone() },
            };
            let _ = self.changes.send(change);
        }
        self.standing = Some(standing);
    }

    /// Takes our record out; nothing to do without one.
    async fn leave(&mut self) -> Result<(), RegistryError> {
        let Some(own) = self.own.take() else { return Ok(()) };
        let path = path(&self.root, &own.endpoint.key);
        let left = tokio::task::spawn_blocking(move || remove_own(&path, &own.endpoint)).await;
        if self.standing.take().is_some_and(|standing| standing.is_ok()) {
            let _ = self.changes.send(Change::Unregistered { error: "withdrawn".to_owned() });
        }
        match left {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(RegistryError::Unavailable(error.to_string())),
            Err(error) => Err(RegistryError::Unavailable(error.to_string())),
        }
    }
}

fn path(root: &Path, key: &EndpointKey) -> PathBuf {
    root.join("services").join(key.service.as_str()).join(key.version.as_str()).join(key.address.to_string())
}

enum Claim {
    Stands,
    /// Another run holds the address and touches its record: two cannot listen there, and the later one was us or not.
    TakenBy(InstanceId),
}

fn claim(path: &Path, endpoint: &Endpoint, fresh: bool, touch: bool, lease_ttl: Duration) -> io::Result<Claim> {
    if !fresh {
        match read_record(endpoint.key.clone(), path) {
            Ok(found) if found == *endpoint => {
                // Opened for reading: that is enough to set the times of a file of one's own, and it gives no event of
                // a written file to everybody who watches. A file that is not one's own is written anew.
                if !touch || File::open(path).and_then(|file| file.set_modified(SystemTime::now())).is_ok() {
                    return Ok(Claim::Stands);
                }
            }
            Ok(found) if found.instance != endpoint.instance && is_touched(path, lease_ttl) => {
                return Ok(Claim::TakenBy(found.instance));
            }
            // Gone, lapsed, garbage, or an older form of our own: ours to write again.
            Ok(_) | Err(_) => {}
        }
    }
    write_atomically(path, &endpoint.to_json(), false)?;
    Ok(Claim::Stands)
}

fn is_touched(path: &Path, lease_ttl: Duration) -> bool {
    fs::metadata(path).and_then(|metadata| metadata.modified()).is_ok_and(|touched| age(touched) < lease_ttl)
}

fn remove_own(path: &Path, endpoint: &Endpoint) -> io::Result<()> {
    match read_record(endpoint.key.clone(), path) {
        Ok(found) if found.instance == endpoint.instance => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        // Another's, or nothing that was ours.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Removes what dead instances left in our own version's directory.
fn remove_litter(own: &Path, lease_ttl: Duration) {
    let Some(entries) = own.parent().and_then(|directory| fs::read_dir(directory).ok()) else { return };
    let old = (lease_ttl * LITTER_LEASES).max(LITTER_MIN);
    for entry in entries.take(crate::limits::ENDPOINTS_PER_SERVICE * 2).flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours =
            keys::parse_relative(&format!("a/0/{name}")).is_ok() || (name.starts_with('.') && name.ends_with(".tmp"));
        let dead = entry
            .metadata()
            .and_then(|metadata| Ok((metadata.is_file(), metadata.modified()?)))
            .is_ok_and(|(file, touched)| file && SystemTime::now().duration_since(touched).is_ok_and(|age| age > old));
        if ours && dead {
            // Another who starts at the same moment may have removed it.
            let _ = fs::remove_file(entry.path());
        }
    }
}
