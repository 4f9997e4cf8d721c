//! `file:///dir`: a registry for one machine, with nothing to install. A file an instance, at
//! `dir/services/{service}/{version}/{ip:port}`, touched every third of the lease; who does not touch it is gone when the
//! lease is over. inotify tells of files that come and go; a lapse gives no event, so the next one is waited for.

mod follow;
mod own;
mod scan;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::desired::Control;
use crate::endpoint::Endpoint;
use crate::names::ServiceName;
use crate::source::{BoxFuture, Change, Options, RegistryError, Source};

/// How long `withdraw` takes at most.
const WITHDRAW_BOUND: Duration = Duration::from_secs(2);
/// How long `list` takes at most.
const LIST_BOUND: Duration = Duration::from_secs(10);

pub(crate) struct FileSource {
    root: Arc<Path>,
    lease_ttl: Duration,
    control: Control,
}

impl FileSource {
    pub(crate) fn open(
        dir: &Path,
        options: Options,
        changes: mpsc::UnboundedSender<Change>,
    ) -> Result<Self, RegistryError> {
        if !dir.is_absolute() {
            return Err(RegistryError::Invalid(format!("{}: the directory must be absolute", dir.display())));
        }
        let root: Arc<Path> = normal(dir).into();
        let (control, asked) = Control::new(changes.clone());
        let lease_ttl = options.lease_ttl;
        tokio::spawn(follow::run(Arc::clone(&root), options, asked.desired.clone(), changes.clone()));
        tokio::spawn(own::run(Arc::clone(&root), lease_ttl, asked, changes));
        Ok(FileSource { root, lease_ttl, control })
    }
}

/// Without `.` and doubled '/', as inotify's events will have it; `..` is left to the system.
fn normal(dir: &Path) -> PathBuf {
    dir.components().collect()
}

impl fmt::Debug for FileSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSource").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Source for FileSource {
    fn follow(&self, service: &ServiceName) {
        self.control.follow(service);
    }

    fn unfollow(&self, service: &ServiceName) {
        self.control.unfollow(service);
    }

    fn register(&self, endpoint: Endpoint) {
        self.control.register(endpoint);
    }

    fn withdraw(&self) -> BoxFuture<'_, Result<(), RegistryError>> {
        Box::pin(self.control.withdraw(WITHDRAW_BOUND))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Endpoint>, RegistryError>> {
        Box::pin(async {
            let (root, lease_ttl) = (Arc::clone(&self.root), self.lease_ttl);
            let walk = tokio::task::spawn_blocking(move || scan::everything(&root, lease_ttl));
            let (list, rejected) = tokio::time::timeout(LIST_BOUND, walk)
                .await
                .map_err(|_| RegistryError::Timeout { doing: "listing", after: LIST_BOUND })?
                .map_err(|error| RegistryError::Unavailable(error.to_string()))??;
            for change in rejected {
                self.control.tell(change);
            }
            Ok(list)
        })
    }

    fn reconcile(&self) {
        self.control.reconcile();
    }
}
