//! Follows the identity directory, so that replaced files are used without a restart.
//!
//! inotify tells at once; a slow poll covers what it cannot see: a network file system, a directory that is a symbolic
//! link to another one by now, a watch that could not be set. Both lead to the same [`Tls::reload`].

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::{Identity, Tls, TlsError, TlsErrorKind};

/// Quiet time after the last change before the files are read: three files take three renames.
const SETTLE: Duration = Duration::from_millis(100);
/// Longest wait for quiet: a directory that changes all the time is read all the same.
const SETTLE_AT_MOST: Duration = Duration::from_secs(2);
/// How long an inconsistent set may stand before it is reported: a slow writer is between two files.
const PATIENCE: Duration = Duration::from_secs(1);
/// The poll behind inotify.
const POLL: Duration = Duration::from_secs(30);

impl Tls {
    /// Reloads when files change, until dropped. `on_reload` hears of every new identity, and of every new reason why
    /// the files there cannot be used (once, not at every poll); the old identity stays in use then. Call it on a
    /// tokio runtime with time enabled; files are read on a blocking thread.
    pub async fn watch(self: Arc<Self>, mut on_reload: impl FnMut(Result<Arc<Identity>, TlsError>)) {
        let changed = Arc::new(Notify::new());
        let mut watch = DirWatch::new(changed.clone());
        let mut poll = interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reported: Option<String> = None;
        loop {
            // The first tick is at once, so that a change between load() and here is seen.
            tokio::select! {
                () = changed.notified() => settle(&changed).await,
                _ = poll.tick() => {}
            }
            watch.renew(&self.dir);
            let mut result = self.clone().reload_off_thread().await;
            if result.is_err() {
                // Woken early by a further change, or else read once more before it is called a failure.
                if timeout(PATIENCE, changed.notified()).await.is_ok() {
                    settle(&changed).await;
                }
                result = self.clone().reload_off_thread().await;
            }
            match result {
                Ok(false) => reported = None,
                Ok(true) => {
                    reported = None;
                    on_reload(Ok(self.identity()));
                }
                Err(error) => {
                    let text = error.to_string();
                    if reported.as_ref() != Some(&text) {
                        reported = Some(text);
                        on_reload(Err(error));
                    }
                }
            }
        }
    }

    async fn reload_off_thread(self: Arc<Self>) -> Result<bool, TlsError> {
        tokio::task::spawn_blocking(move || self.reload()).await.unwrap_or_else(|e| {
            Err(TlsError::new(TlsErrorKind::Other, format!("the reload of the identity directory broke off: {e}")))
        })
    }
}

/// Waits until no change has come for [`SETTLE`], at most [`SETTLE_AT_MOST`].
async fn settle(changed: &Notify) {
    let deadline = Instant::now() + SETTLE_AT_MOST;
    while Instant::now() < deadline && timeout(SETTLE, changed.notified()).await.is_ok() {}
}

/// An inotify watch on the directory that the path leads to now.
struct DirWatch {
    changed: Arc<Notify>,
    /// Device and inode of the directory watched, with its watch.
    watched: Option<((u64, u64), RecommendedWatcher)>,
}

impl DirWatch {
    fn new(changed: Arc<Notify>) -> DirWatch {
        DirWatch { changed, watched: None }
    }

    /// Sets the watch if the path leads to another directory than before. A failure leaves the poll in charge.
    fn renew(&mut self, dir: &Path) {
        use std::os::unix::fs::MetadataExt;
        let Ok(data) = std::fs::metadata(dir) else {
            self.watched = None;
            return;
        };
        let place = (data.dev(), data.ino());
        if self.watched.as_ref().is_some_and(|(watched, _)| *watched == place) {
            return;
        }
        let changed = self.changed.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reading makes access events; heeding them would be a loop.
            if !event.is_ok_and(|event| matches!(event.kind, EventKind::Access(_))) {
                changed.notify_one();
            }
        });
        self.watched = watcher.ok().and_then(|mut watcher| {
            watcher.watch(dir, RecursiveMode::NonRecursive).ok()?;
            Some((place, watcher))
        });
    }
}
