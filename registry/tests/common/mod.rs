//! The harness of the registry's own tests: a real etcd, a collector of what a source tells, and a rig for each kind.
#![allow(dead_code, unreachable_pub)] // each test binary uses its part

pub mod etcd;
pub mod gate;
pub mod rig;

use std::future::Future;
use std::time::Duration;

use pillion_registry::{Cause, Change, Endpoint, EndpointKey, InstanceId, Revision, ServiceName};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long a state may take to come about on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub fn service(name: &str) -> ServiceName {
    name.parse().expect("a service name")
}

/// `pay/1.0.0/10.0.0.7:4143`
pub fn key(text: &str) -> EndpointKey {
    pillion_registry::keys::parse_relative(text).expect("an endpoint's key")
}

pub fn endpoint(text: &str) -> Endpoint {
    Endpoint::new(key(text), InstanceId::generate())
}

/// Addresses of a list.
pub fn addresses(list: &[Endpoint]) -> Vec<String> {
    list.iter().map(|endpoint| endpoint.key.address.to_string()).collect()
}

/// One list as it was told.
#[derive(Debug, Clone)]
pub struct Told {
    pub list: Vec<Endpoint>,
    pub revision: Revision,
    pub cause: Cause,
}

/// Collects what a source tells; waits for states, never for a time.
#[derive(Debug)]
pub struct Changes {
    incoming: mpsc::UnboundedReceiver<Change>,
    pub seen: Vec<Change>,
}

pub fn channel() -> (mpsc::UnboundedSender<Change>, Changes) {
    let (sender, incoming) = mpsc::unbounded_channel();
    (sender, Changes { incoming, seen: Vec::new() })
}

impl Changes {
    /// The first change from now on that `pick` picks.
    pub async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&Change) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match tokio::time::timeout_at(deadline, self.incoming.recv()).await {
                Ok(Some(change)) => {
                    let picked = pick(&change);
                    self.seen.push(change);
                    if let Some(picked) = picked {
                        return picked;
                    }
                }
                Ok(None) => panic!("the source ended before {what}; it told: {:#?}", self.last()),
                Err(_) => panic!("no {what} within {PATIENCE:?}; it told: {:#?}", self.last()),
            }
        }
    }

    fn last(&self) -> &[Change] {
        &self.seen[self.seen.len().saturating_sub(20)..]
    }

    /// The next list of `name` that `fits`.
    pub async fn list(&mut self, name: &str, mut fits: impl FnMut(&[Endpoint]) -> bool) -> Told {
        self.until(&format!("list of {name} that fits"), |change| match change {
            Change::Endpoints { service, list, revision, cause } if service.as_str() == name && fits(list) => {
                Some(Told { list: list.clone(), revision: *revision, cause: *cause })
            }
            _ => None,
        })
        .await
    }

    /// The next list of `name` with exactly these addresses.
    pub async fn addresses(&mut self, name: &str, wanted: &[&str]) -> Told {
        self.list(name, |list| addresses(list) == wanted).await
    }

    pub async fn registered(&mut self) -> EndpointKey {
        self.until("Registered", |change| match change {
            Change::Registered { key } => Some(key.clone()),
            _ => None,
        })
        .await
    }

    pub async fn unregistered(&mut self) -> String {
        self.until("Unregistered", |change| match change {
            Change::Unregistered { error } => Some(error.clone()),
            _ => None,
        })
        .await
    }

    pub async fn connected(&mut self) {
        self.until("Connected", |change| matches!(change, Change::Connected).then_some(())).await;
    }

    pub async fn disconnected(&mut self) -> String {
        self.until("Disconnected", |change| match change {
            Change::Disconnected { error } => Some(error.clone()),
            _ => None,
        })
        .await
    }

    pub async fn rejected(&mut self, part: &str) -> String {
        self.until(&format!("Rejected of {part}"), |change| match change {
            Change::Rejected { key, reason } if key.contains(part) => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    /// Takes in what was told up to now.
    pub fn drain(&mut self) {
        while let Ok(change) = self.incoming.try_recv() {
            self.seen.push(change);
        }
    }

    /// How many lists of `name` were told.
    pub fn lists_of(&self, name: &str) -> usize {
        let of = |change: &&Change| matches!(change, Change::Endpoints { service, .. } if service.as_str() == name);
        self.seen.iter().filter(of).count()
    }
}

/// Waits for a state that is not told but can be looked at.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !look().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
