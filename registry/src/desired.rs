//! What the sidecar asks of a source, as one state that its tasks look at: asking never waits and never queues up.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::endpoint::Endpoint;
use crate::limits::FOLLOWED_SERVICES;
use crate::names::ServiceName;
use crate::source::{Change, RegistryError};

/// Withdrawals under way at once: a sidecar has one, a second may come from a second signal.
const WITHDRAWALS: usize = 4;

pub(crate) type Withdrawal = oneshot::Sender<Result<(), RegistryError>>;

#[derive(Debug, Default)]
pub(crate) struct Desired {
    /// Each with a number that is new whenever the service is followed anew.
    pub(crate) followed: BTreeMap<ServiceName, u64>,
    pub(crate) own: Option<Endpoint>,
    /// Grows with every call of `reconcile`.
    pub(crate) reconcile: u64,
    follows: u64,
}

/// The asking side.
#[derive(Debug)]
pub(crate) struct Control {
    desired: watch::Sender<Desired>,
    withdrawals: mpsc::Sender<Withdrawal>,
    changes: mpsc::UnboundedSender<Change>,
}

/// The two ends that the tasks hold. Both close when the source is dropped.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) desired: watch::Receiver<Desired>,
    pub(crate) withdrawals: mpsc::Receiver<Withdrawal>,
}

impl Control {
    pub(crate) fn new(changes: mpsc::UnboundedSender<Change>) -> (Control, Asked) {
        let (desired, desired_seen) = watch::channel(Desired::default());
        let (withdrawals, withdrawals_seen) = mpsc::channel(WITHDRAWALS);
        (Control { desired, withdrawals, changes }, Asked { desired: desired_seen, withdrawals: withdrawals_seen })
    }

    pub(crate) fn tell(&self, change: Change) {
        // A receiver that is gone is a sidecar that is shutting down.
        let _ = self.changes.send(change);
    }

    pub(crate) fn follow(&self, service: &ServiceName) {
        self.desired.send_if_modified(|desired| {
            if desired.followed.contains_key(service) {
                return false;
            }
            if desired.followed.len() >= FOLLOWED_SERVICES {
                tracing::warn!(%service, limit = FOLLOWED_SERVICES, "too many services are followed: this one is not");
                return false;
            }
            desired.follows += 1;
            desired.followed.insert(service.clone(), desired.follows);
            true
        });
    }

    pub(crate) fn unfollow(&self, service: &ServiceName) {
        self.desired.send_if_modified(|desired| desired.followed.remove(service).is_some());
    }

    pub(crate) fn register(&self, endpoint: Endpoint) {
        if let Err(error) = endpoint.check() {
            self.tell(Change::Unregistered { error: format!("{}: {error}", endpoint.key) });
            return;
        }
        self.desired.send_if_modified(|desired| {
            if desired.own.as_ref() == Some(&endpoint) {
                return false;
            }
            desired.own = Some(endpoint);
            true
        });
    }

    pub(crate) fn reconcile(&self) {
        self.desired.send_modify(|desired| desired.reconcile += 1);
    }

    /// Takes the wish to be registered back, and waits at most `bound` for the task that does so.
    pub(crate) async fn withdraw(&self, bound: Duration) -> Result<(), RegistryError> {
        self.desired.send_if_modified(|desired| desired.own.take().is_some());
        let (done, answer) = oneshot::channel();
        let ended = || RegistryError::Unavailable("the source has ended".to_owned());
        let asking = async {
            self.withdrawals.send(done).await.map_err(|_| ended())?;
            answer.await.map_err(|_| ended())?
        };
        tokio::time::timeout(bound, asking)
            .await
            .unwrap_or(Err(RegistryError::Timeout { doing: "leaving the registry", after: bound }))
    }
}
