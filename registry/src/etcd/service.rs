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
    /// Records that a listing found other than the watch had told, not told yet.
    drifted: u64,
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
            drifted: 0,
        }
    }

    /// It was listed at least once.
    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    /// Takes in a listing: told at once, for it is one message however long it is.
    pub(super) fn take_listing(&mut self, listing: Listing, now: Instant) {
        let cause = if std::mem::take(&mut self.replaced) { Cause::NewCluster } else { Cause::Listed };
        if self.listed && cause == Cause::Listed {
            self.drifted += self.drift(&listing);
        }
        self.records = listing.records.into_iter().map(|(key, record)| (key, record.endpoint)).collect();
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

    /// How many records the watch should have told otherwise: what was written before [`Followed::resume`] has passed by.
    /// Beyond the limit of endpoints the two may keep others, and no harm.
    fn drift(&self, listing: &Listing) -> u64 {
        if self.records.len().max(listing.records.len()) >= ENDPOINTS_PER_SERVICE {
            return 0;
        }
        let told = |key, endpoint| self.records.get(key) == Some(endpoint);
        let listed = listing.records.iter();
        let other = listed.filter(|(key, now)| now.written < self.resume && !told(*key, &now.endpoint)).count();
        // When a record was deleted is not known; only that it was by the listing's revision.
        let gone = |key: &&EndpointKey| !listing.records.contains_key(*key);
        let stale = if listing.revision < self.resume { self.records.keys().filter(gone).count() } else { 0 };
        (other + stale) as u64
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
        let drifted = std::mem::take(&mut self.drifted);
        if drifted > 0 {
            send(Change::Drifted { service: self.service.clone(), records: drifted });
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

#[cfg(test)]
mod tests {
    use super::super::listing::Record;
    use super::*;

    /// Port, instance and revision of a record.
    type Told<'a> = (u16, &'a str, i64);

    fn followed() -> Followed {
        let now = Instant::now();
        Followed::new("pay".parse().expect("a name"), 1, now, now)
    }

    /// A listing as of `revision`.
    fn listing(revision: i64, records: &[Told<'_>]) -> Listing {
        let record = |&(port, instance, written): &Told<'_>| {
            let key = keys::parse_relative(&format!("pay/1.0.0/10.0.0.7:{port}")).expect("a key");
            let endpoint = Endpoint::new(key.clone(), instance.parse().expect("an id"));
            (key, Record { endpoint, written })
        };
        Listing { records: records.iter().map(record).collect(), rejected: Vec::new(), revision }
    }

    fn drifted(followed: &mut Followed) -> u64 {
        let mut drifted = 0;
        followed.tell(Instant::now(), |change| {
            if let Change::Drifted { records, .. } = change {
                drifted += records;
            }
        });
        drifted
    }

    #[test]
    fn what_the_watch_should_have_told_is_drift() {
        let first: &[Told<'_>] = &[(1, "a", 3), (2, "b", 5)];
        let cases: &[(&str, i64, &[Told<'_>], u64)] = &[
            ("the same", 10, first, 0),
            ("written since: its event is on its way", 12, &[(1, "c", 12), (2, "b", 5)], 0),
            ("new since", 12, &[(1, "a", 3), (2, "b", 5), (3, "c", 11)], 0),
            ("gone, perhaps since", 12, &[(1, "a", 3)], 0),
            ("written before, and not told", 12, &[(1, "c", 9), (2, "b", 5)], 1),
            ("new before, and not told", 12, &[(1, "a", 3), (2, "b", 5), (3, "c", 9)], 1),
            ("gone before, and not told", 10, &[(1, "a", 3)], 1),
        ];
        for (name, revision, listed, wanted) in cases {
            let mut followed = followed();
            followed.take_listing(listing(10, first), Instant::now());
            assert_eq!(drifted(&mut followed), 0, "{name}: the first listing is none");
            followed.take_listing(listing(*revision, listed), Instant::now());
            assert_eq!(drifted(&mut followed), *wanted, "{name}");
            assert_eq!(drifted(&mut followed), 0, "{name}: told once");
        }
    }

    #[test]
    fn another_cluster_is_no_drift() {
        let mut followed = followed();
        followed.take_listing(listing(10, &[(1, "a", 3)]), Instant::now());
        followed.replaced = true;
        followed.take_listing(listing(4, &[(1, "c", 2)]), Instant::now());
        assert_eq!(drifted(&mut followed), 0);
    }
}
