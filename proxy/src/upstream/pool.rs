//! One worker's channels to other sidecars: at most one to each endpoint, made on the first call and kept.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ahash::AHashMap;
use tokio::sync::watch;
use wire::CloseReason;

use crate::balance::EndpointState;
use crate::clock;
use crate::discovery::{Snapshot, View};
use crate::error::Error;
use crate::upstream::channel::Channel;
use crate::upstream::connect::Connector;

/// The channels of a worker, by the endpoint's uid.
#[derive(Debug)]
pub struct Pool {
    channels: RefCell<AHashMap<u64, Slot>>,
    connector: Rc<Connector>,
    view: Arc<View>,
}

type Attempt = watch::Receiver<Option<Result<(), Error>>>;

#[derive(Debug)]
enum Slot {
    /// Being connected; those who wait share the outcome.
    Connecting(Attempt),
    Ready(Rc<Channel>),
}

impl Pool {
    /// An empty pool.
    pub fn new(connector: Rc<Connector>, view: Arc<View>) -> Rc<Pool> {
        Rc::new(Pool { channels: RefCell::default(), connector, view })
    }

    /// A channel that takes calls, if one is there: the ordinary case, without waiting.
    pub fn ready(&self, endpoint: &EndpointState) -> Option<Rc<Channel>> {
        match self.channels.borrow().get(&endpoint.uid) {
            Some(Slot::Ready(channel)) if channel.is_ready() => Some(Rc::clone(channel)),
            _ => None,
        }
    }

    /// A channel that takes calls, connecting if need be. Callers that come meanwhile wait for the same attempt.
    pub async fn channel(self: &Rc<Self>, endpoint: &Arc<EndpointState>) -> Result<Rc<Channel>, Error> {
        // A channel may begin to drain between its becoming ready and our turn: once more then, not for ever.
        for _ in 0..2 {
            if let Some(channel) = self.ready(endpoint) {
                return Ok(channel);
            }
            let mut attempt = self.attempt(endpoint);
            let outcome = match attempt.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone(),
                Err(_) => None,
            };
            match outcome {
                Some(Ok(())) | None => {}
                Some(Err(error)) => return Err(error),
            }
        }
        self.ready(endpoint).ok_or_else(|| self.connector.gone(endpoint))
    }

    /// The attempt under way, or a new one.
    fn attempt(self: &Rc<Self>, endpoint: &Arc<EndpointState>) -> Attempt {
        let mut channels = self.channels.borrow_mut();
        if let Some(Slot::Connecting(attempt)) = channels.get(&endpoint.uid) {
            return attempt.clone();
        }
        let (outcome, attempt) = watch::channel(None);
        // A drained channel that still carries calls lives on in its own task; only the pool forgets it.
        channels.insert(endpoint.uid, Slot::Connecting(attempt.clone()));
        let (pool, endpoint) = (Rc::clone(self), Arc::clone(endpoint));
        tokio::task::spawn_local(async move {
            let result = pool.connector.connect(&endpoint).await;
            let shared = match result {
                Ok(channel) => {
                    pool.insert(&endpoint, &channel);
                    Ok(())
                }
                Err(error) => {
                    pool.channels.borrow_mut().remove(&endpoint.uid);
                    endpoint.failed(clock::micros(Instant::now()), fastrand::u64(..));
                    if endpoint.suspect {
                        pool.view.probe_failed(&endpoint.record.key);
                    }
                    Err(error)
                }
            };
            outcome.send_replace(Some(shared));
        });
        attempt
    }

    fn insert(self: &Rc<Self>, endpoint: &Arc<EndpointState>, channel: &Rc<Channel>) {
        self.channels.borrow_mut().insert(endpoint.uid, Slot::Ready(Rc::clone(channel)));
        let (pool, channel, uid) = (Rc::clone(self), Rc::clone(channel), endpoint.uid);
        tokio::task::spawn_local(async move {
            channel.closed().await;
            let mut channels = pool.channels.borrow_mut();
            if matches!(channels.get(&uid), Some(Slot::Ready(known)) if Rc::ptr_eq(known, &channel)) {
                channels.remove(&uid);
            }
        });
    }

    /// Follows the snapshots: channels to endpoints that left take no new calls and close once theirs are done. An
    /// endpoint's removal never cuts a call.
    pub async fn prune(self: Rc<Self>) {
        let mut changes = self.view.changes();
        loop {
            self.retire(&self.view.load());
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn retire(&self, snapshot: &Snapshot) {
        let mut listed = ahash::AHashSet::new();
        for service in snapshot.services() {
            listed.extend(service.endpoints(None).iter().map(|endpoint| endpoint.uid));
        }
        self.channels.borrow_mut().retain(|uid, slot| {
            let keep = listed.contains(uid);
            if let (false, Slot::Ready(channel)) = (keep, &*slot) {
                retire(Rc::clone(channel));
            }
            keep || matches!(slot, Slot::Connecting(_))
        });
    }

    /// Says goodbye on every channel, when the process ends.
    pub fn close(&self) {
        for (_, slot) in self.channels.borrow_mut().drain() {
            if let Slot::Ready(channel) = slot {
                channel.goodbye(CloseReason::Finished);
            }
        }
    }
}

/// Lets a channel's calls end, then closes it.
fn retire(channel: Rc<Channel>) {
    channel.drain();
    tokio::task::spawn_local(async move {
        channel.quiet().await;
        channel.goodbye(CloseReason::Finished);
    });
}
