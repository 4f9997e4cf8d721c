//! One followed service: its records, and where its watch stands. No IO.
//!
//! ```text
//!            ┌───────────────<── compacted, refused, reconcile, another cluster ──┐
//!   ──> ToList(at) ──> Listing ──> Watching(id) ── session lost ──> ToWatch ──┐   │
//!            ^                        │  ^────────── new session ─────────────┘   │
//!            └── failed (waits) ──────┴───────────────────────────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use etcd_client::Event;

use super::listing::{Listing, parse};
use crate::backoff::Backoff;
use crate::endpoint::{Endpoint, EndpointKey};
use crate::keys;
use crate::limits::{ENDPOINTS_PER_SERVICE, REJECTED_REMEMBERED, gather};
use crate::names::ServiceName;
use crate::rejected::rejections;
use crate::source::{Cause, Change, Revision};

/// Between attempts at a service that etcd refuses.
const REFUSED_BASE: Duration = Duration::from_millis(200);
const REFUSED_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    ToList {
        at: Instant,
    },
    Listing {
        /// Which one: the answer of another is not looked at.
        attempt: u64,
    },
    /// What is known stands; the watch goes on from [`Followed::resume`].
    ToWatch,
    Watching {
        id: i64,
    },
}

#[derive(Debug)]
pub(super) struct Followed {
    pub(super) service: ServiceName,
    /// Which `follow` this is the answer to.
    pub(super) follow: u64,
    pub(super) state: State,
    /// The revision that the next watch begins at. It is that of the last event itself and not the one after it: the
    /// events of one revision can come in several messages, and to see one twice does no harm.
    pub(super) resume: i64,
    /// When it is listed again to hold the watch to account.
    pub(super) reconcile_at: Instant,
    /// The next listing is of another cluster.
    pub(super) replaced: bool,
    pub(super) backoff: Backoff,
    records: BTreeMap<EndpointKey, Endpoint>,
    /// As of which revision the records are.
    revision: i64,
    listed: bool,
    /// What is to be told, and when.
    due: Option<(Cause, Instant)>,
    /// Records that do not parse, with the reason: each is named once.
    named: BTreeMap<String, String>,
    to_name: Vec<(String, String)>,
}

impl Followed {
    pub(super) fn new(service: ServiceName, follow: u64, now: Instant, reconcile_at: Instant) -> Self {
        Followed {
            service,
            follow,
            state: State::ToList { at: now },
            resume: 0,
            reconcile_at,
            replaced: false,
            backoff: Backoff::new(REFUSED_BASE, REFUSED_MAX),
            records: BTreeMap::new(),
            revision: 0,
            listed: false,
            due: None,
            named: BTreeMap::new(),
            to_name: Vec::new(),
        }
    }

    /// It was listed at least once.
    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    /// Takes in a listing: told at once, for it is one message however long it is.
    pub(super) fn take_listing(&mut self, listing: Listing, now: Instant) {
        let cause = if std::mem::take(&mut self.replaced) { Cause::NewCluster } else { Cause::Listed };
        self.records = listing.records;
        self.revision = listing.revision;
        self.resume = listing.revision + 1;
        self.listed = true;
        self.state = State::ToWatch;
        self.due = Some((self.due.map_or(cause, |(earlier, _)| earlier.max(cause)), now));
        let named = std::mem::take(&mut self.named);
        for (key, reason) in listing.rejected {
            if named.get(&key) == Some(&reason) {
                self.remember(key, reason);
            } else {
                self.name(key, reason);
            }
        }
    }

    /// Takes in the events of one message of the watch.
    pub(super) fn take_events(&mut self, prefix: &str, events: &[Event], now: Instant) {
        let mut changed = false;
        for event in events {
            let Some(kv) = event.kv() else { continue };
            self.revision = self.revision.max(kv.mod_revision());
            self.resume = self.resume.max(kv.mod_revision());
            let key = String::from_utf8_lossy(kv.key()).into_owned();
            // A deleted key has version 0. The type of the event says the same, but panics on a type it does not know.
            if kv.version() == 0 {
                self.named.remove(&key);
                changed |= keys::parse_endpoint(prefix, &key).is_ok_and(|key| self.records.remove(&key).is_some());
                continue;
            }
            match parse(prefix, &key, kv) {
                Ok(endpoint) => {
                    self.named.remove(&key);
                    if self.records.len() >= ENDPOINTS_PER_SERVICE && !self.records.contains_key(&endpoint.key) {
                        self.name(key, format!("more than {ENDPOINTS_PER_SERVICE} endpoints"));
                    } else if self.records.get(&endpoint.key) != Some(&endpoint) {
                        self.records.insert(endpoint.key.clone(), endpoint);
                        changed = true;
                    }
                }
                Err(error) => {
                    // Whatever stood there before was overwritten.
                    changed |= keys::parse_endpoint(prefix, &key).is_ok_and(|key| self.records.remove(&key).is_some());
                    let reason = error.to_string();
                    if self.named.get(&key) != Some(&reason) {
                        self.name(key, reason);
                    }
                }
            }
        }
        if changed {
            let at = now + gather(self.records.len());
            self.due = Some(self.due.unwrap_or((Cause::Watched, at)));
        }
    }

    /// etcd says that nothing happened up to `revision`.
    pub(super) fn take_progress(&mut self, revision: i64) {
        self.revision = self.revision.max(revision);
        self.resume = self.resume.max(revision + 1);
    }

    /// Names the service itself as one that cannot be read.
    pub(super) fn take_refusal(&mut self, below: String, reason: String) {
        if self.named.get(&below) != Some(&reason) {
            self.name(below, reason);
        }
    }

    fn name(&mut self, key: String, reason: String) {
        self.to_name.push((key.clone(), reason.clone()));
        self.remember(key, reason);
    }

    fn remember(&mut self, key: String, reason: String) {
        if self.named.len() < REJECTED_REMEMBERED {
            self.named.insert(key, reason);
        }
    }

    /// When there is something to be told.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.due.map(|(_, at)| at)
    }

    /// What is to be told now.
    pub(super) fn tell(&mut self, now: Instant, mut send: impl FnMut(Change)) {
        for rejected in rejections(std::mem::take(&mut self.to_name)) {
            send(rejected);
        }
        if let Some((cause, at)) = self.due
            && at <= now
        {
            self.due = None;
            send(Change::Endpoints {
                service: self.service.clone(),
                list: self.records.values().cloned().collect(),
                revision: Revision::try_from(self.revision).unwrap_or(0),
                cause,
            });
        }
    }
}
