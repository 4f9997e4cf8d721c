//! Follows the registry for the services in use, and publishes what the call path reads.
//!
//! One task on the control thread ([`follow::run`]) owns the registry's source and the table. The workers see one immutable
//! [`Snapshot`] behind an `ArcSwap`, loaded once a call; they ask for a service that is not in it.

mod follow;
mod snapshot;

pub use follow::{Follower, run};
pub use snapshot::{Service, Snapshot, UNKNOWN};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwap;
use registry::{EndpointKey, ServiceName};
use tokio::sync::{mpsc, oneshot, watch};

/// Asks that the control thread has before it; more wait for a place.
const ASKS: usize = 256;
/// Failed probes that may wait for the control thread; more are dropped: the next call tells the same.
const PROBES: usize = 256;

/// What the workers hold of discovery.
#[derive(Debug)]
pub struct View {
    snapshot: ArcSwap<Snapshot>,
    asks: mpsc::Sender<Ask>,
    ask_bound: Duration,
    probes: mpsc::Sender<EndpointKey>,
    changes: watch::Sender<u64>,
    revision: AtomicU64,
}

/// A worker's wish to know a service.
#[derive(Debug)]
pub struct Ask {
    service: ServiceName,
    answer: oneshot::Sender<Result<(), Refused>>,
}

/// Why a service is not looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// `limits.services` are followed, or too many are being looked up.
    Busy,
    /// The registry gave no answer in time, and nothing is known.
    NoAnswer,
}

/// The control thread's ends of a [`View`].
#[derive(Debug)]
pub struct Inbox {
    asks: mpsc::Receiver<Ask>,
    probes: mpsc::Receiver<EndpointKey>,
}

impl View {
    /// An empty view, and where its questions arrive. A question waits for `first_answer`, and for one look at the clock
    /// of who answers it.
    pub fn new(first_answer: Duration) -> (Arc<View>, Inbox) {
        let (ask_in, asks) = mpsc::channel(ASKS);
        let (probe_in, probes) = mpsc::channel(PROBES);
        let view = View {
            snapshot: ArcSwap::from_pointee(Snapshot::default()),
            asks: ask_in,
            ask_bound: first_answer + follow::TICK,
            probes: probe_in,
            changes: watch::channel(0).0,
            revision: AtomicU64::new(0),
        };
        (Arc::new(view), Inbox { asks, probes })
    }

    /// The current snapshot.
    pub fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Told of each new snapshot.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Waits until the snapshot says something about `service`. Bounded here too: the control thread may be held up.
    pub async fn ask(&self, service: ServiceName) -> Result<(), Refused> {
        let (answer, answered) = oneshot::channel();
        let asking = async {
            // A first call may come a thousandfold at once.
            self.asks.send(Ask { service, answer }).await.ok()?;
            answered.await.ok()
        };
        // Nobody is there to answer, or not in time.
        tokio::time::timeout(self.ask_bound, asking).await.ok().flatten().unwrap_or(Err(Refused::NoAnswer))
    }

    /// A suspect endpoint could not be reached.
    pub fn probe_failed(&self, key: &EndpointKey) {
        // Full: many have failed already, the next failed call says it again.
        let _ = self.probes.try_send(key.clone());
    }

    /// The newest revision in the table: what HELLO tells a peer.
    pub fn revision(&self) -> u64 {
        self.revision.load(Relaxed)
    }

    fn publish(&self, snapshot: Snapshot) {
        let newest = snapshot.services().map(|service| service.revision).max().unwrap_or_default();
        self.revision.store(newest, Relaxed);
        self.snapshot.store(Arc::new(snapshot));
        self.changes.send_modify(|generation| *generation += 1);
    }
}
