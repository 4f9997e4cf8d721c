//! Following services: a paged list at revision R, then a watch from R + 1, all watches on one stream.
//!
//! The first watch of the stream is on the key that marks the cluster. It costs etcd next to nothing, and because of it
//! there is always a stream open, so that pings go out and a dead member is noticed though nothing is followed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{WatchOptions, WatchRequestSender, WatchResponse};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, watch};

use super::failure::{Failure, within};
use super::link::{Ended, Identity, Link, Session};
use super::listing::{self, Listing};
use super::service::{Followed, State};
use crate::backoff::jittered;
use crate::desired::Desired;
use crate::keys;
use crate::limits::ENDPOINTS_PER_SERVICE;
use crate::names::ServiceName;
use crate::source::{BoxFuture, Change};

/// Listings under way at once.
const LISTINGS: usize = 8;
/// Opening the watch stream, and sending on it.
const STREAM_BOUND: Duration = Duration::from_secs(3);
/// A watch that was asked for is confirmed within this time.
const CONFIRM_BOUND: Duration = Duration::from_secs(5);
/// Listings that a whole fleet may begin at one moment are spread over this time.
const RELIST_SPREAD: Duration = Duration::from_secs(2);
/// A refusal on a stream older than this is first taken for a login that is over.
const LOGIN_RENEWED_AFTER: Duration = Duration::from_secs(2);
/// The watch on the key that marks the cluster.
const MARKER_WATCH: i64 = 1;
/// Asleep with nothing to do: something always wakes earlier.
const LONG: Duration = Duration::from_secs(3_600);

/// Runs until the source is dropped.
pub(super) async fn run(
    prefix: String,
    mut link: Link,
    reconcile: Duration,
    mut desired: watch::Receiver<Desired>,
    changes: mpsc::UnboundedSender<Change>,
) {
    let rng = fastrand::Rng::with_seed(crate::names::random_u64());
    let known = Identity::default();
    let mut follower =
        Follower { prefix, reconcile, changes, services: BTreeMap::new(), reconciled: 0, attempts: 0, known, rng };
    loop {
        let session = link.session.borrow_and_update().clone();
        let done = match session {
            Some(session) => follower.follow(&session, &mut link, &mut desired).await,
            None => follower.idle(&mut link, &mut desired).await,
        };
        if done.is_err() {
            return;
        }
    }
}

struct Follower {
    prefix: String,
    reconcile: Duration,
    changes: mpsc::UnboundedSender<Change>,
    services: BTreeMap<ServiceName, Followed>,
    reconciled: u64,
    /// Listings begun.
    attempts: u64,
    /// The cluster as it was last known.
    known: Identity,
    rng: fastrand::Rng,
}

struct Listed {
    service: ServiceName,
    /// Which one this was.
    attempt: u64,
    /// The cluster had come this far when it began: an answer from before is from another one.
    floor: i64,
    listing: Result<Listing, Failure>,
}

/// The watch stream of one session.
struct Stream {
    opened: Instant,
    sender: WatchRequestSender,
    next_id: i64,
    /// By id, the services that are watched.
    watched: BTreeMap<i64, ServiceName>,
    /// Watches not confirmed yet, in the order in which etcd confirms them. A refused one is confirmed without its id.
    pending: VecDeque<(i64, Instant)>,
}

impl Follower {
    /// Without a session: what is wished is noted, what is due is told.
    async fn idle(&mut self, link: &mut Link, desired: &mut watch::Receiver<Desired>) -> Result<(), Ended> {
        self.adopt(desired);
        self.tell();
        let until = self.services.values().filter_map(Followed::due_at).min();
        tokio::select! {
            changed = desired.changed() => changed.map_err(|_| Ended),
            changed = link.session.changed() => changed.map_err(|_| Ended),
            () = tokio::time::sleep_until(until.unwrap_or_else(|| Instant::now() + LONG).into()) => Ok(()),
        }
    }

    /// Follows over `session` until it fails.
    async fn follow(
        &mut self,
        session: &Arc<Session>,
        link: &mut Link,
        desired: &mut watch::Receiver<Desired>,
    ) -> Result<(), Ended> {
        let failed = tokio::select! {
            // First: nothing may be taken from a session that is over. What it says could be newer than what the next
            // one said when it began, and would make that look like another cluster.
            biased;
            ended = link.ended(session.number) => {
                ended?;
                None
            }
            failed = self.over(session, desired) => failed?,
        };
        if let Some(failure) = failed {
            link.fail(session, &failure.text());
            link.ended(session.number).await?;
        }
        // The watches went with the stream: what they told stands.
        for followed in self.services.values_mut() {
            match followed.state {
                State::Watching { .. } => followed.state = State::ToWatch,
                State::Listing { .. } => followed.state = State::ToList { at: Instant::now() },
                State::ToWatch | State::ToList { .. } => {}
            }
        }
        Ok(())
    }

    /// `Ok`: the session failed.
    async fn over(
        &mut self,
        session: &Session,
        desired: &mut watch::Receiver<Desired>,
    ) -> Result<Option<Failure>, Ended> {
        self.meet(&session.identity);
        let (mut stream, mut messages) = match self.open(session).await {
            Ok(opened) => opened,
            Err(failure) => return Ok(Some(failure)),
        };
        let mut listings: FuturesUnordered<BoxFuture<'static, Listed>> = FuturesUnordered::new();
        loop {
            let dropped = self.adopt(desired);
            let worked = self.work(session, &mut stream, &mut listings, dropped).await;
            if let Err(failure) = worked {
                return Ok(Some(failure));
            }
            let wake = self.wake(&stream, listings.len());
            let failed = tokio::select! {
                changed = desired.changed() => match changed {
                    Ok(()) => Ok(()),
                    Err(_) => return Err(Ended),
                },
                message = messages.message() => match message {
                    Ok(Some(message)) => self.take_message(&mut stream, &message),
                    Ok(None) => Err(Failure::Unreachable("etcd closed the watch".to_owned())),
                    Err(error) => Err(Failure::from(error)),
                },
                Some(listed) = listings.next(), if !listings.is_empty() => self.take_listing(listed),
                () = tokio::time::sleep_until(wake.into()) => stream.check(Instant::now()),
            };
            if let Err(failure) = failed {
                return Ok(Some(failure));
            }
        }
    }

    /// Compares the cluster that answers with the one known before.
    fn meet(&mut self, now: &Identity) {
        if self.known.was_replaced_by(now) {
            tracing::warn!(
                known = self.known.revision,
                found = now.revision,
                "etcd was emptied, restored or replaced: listing everything again, and keeping what is missing as suspect"
            );
            self.replaced(now.clone());
            return;
        }
        if now.revision == 0 {
            // What may not be looked at cannot be compared: a watch could wait for ever for a revision that this cluster
            // will not reach for long. The listings can be compared.
            for followed in self.services.values_mut().filter(|followed| followed.state == State::ToWatch) {
                followed.state = State::ToList { at: Instant::now() + RELIST_SPREAD.mul_f64(self.rng.f64()) };
            }
        } else {
            self.known.cluster = now.cluster;
            self.known.marker.clone_from(&now.marker);
            self.known.revision = self.known.revision.max(now.revision);
        }
    }

    fn replaced(&mut self, by: Identity) {
        self.known = by;
        for followed in self.services.values_mut().filter(|followed| followed.is_listed()) {
            followed.replaced = true;
            followed.state = State::ToList { at: Instant::now() + RELIST_SPREAD.mul_f64(self.rng.f64()) };
        }
    }

    async fn open(&mut self, session: &Session) -> Result<(Stream, etcd_client::WatchResponseStream), Failure> {
        let mut options = WatchOptions::new().with_watch_id(MARKER_WATCH);
        if session.identity.revision > 0 {
            options = options.with_start_revision(session.identity.revision + 1);
        }
        let mut client = session.client.watch_client();
        let opening = client.watch(keys::cluster(&self.prefix), Some(options));
        let (sender, messages) = within(STREAM_BOUND, "opening the watch", opening).await?.split();
        let pending = VecDeque::from([(MARKER_WATCH, Instant::now() + CONFIRM_BOUND)]);
        Ok((
            Stream { opened: Instant::now(), sender, next_id: MARKER_WATCH + 1, watched: BTreeMap::new(), pending },
            messages,
        ))
    }

    /// Takes over what is wished. Gives the watches that nobody needs any more.
    fn adopt(&mut self, desired: &mut watch::Receiver<Desired>) -> Vec<i64> {
        let now = Instant::now();
        let desired = desired.borrow_and_update();
        let mut dropped = Vec::new();
        self.services.retain(|service, followed| {
            let stays = desired.followed.get(service) == Some(&followed.follow);
            if let (false, State::Watching { id }) = (stays, followed.state) {
                dropped.push(id);
            }
            stays
        });
        for (service, follow) in &desired.followed {
            if !self.services.contains_key(service) {
                let reconcile_at = now + jittered(self.reconcile, 0.25, &mut self.rng);
                let followed = Followed::new(service.clone(), *follow, now, reconcile_at);
                self.services.insert(service.clone(), followed);
            }
        }
        let all = desired.reconcile != self.reconciled;
        self.reconciled = desired.reconcile;
        for followed in self.services.values_mut() {
            if all || now >= followed.reconcile_at {
                followed.reconcile_at = now + jittered(self.reconcile, 0.25, &mut self.rng);
                if let State::Watching { id } = followed.state {
                    dropped.push(id);
                }
                // The answer of a listing under way is not looked at any more: it may be older than the wish.
                followed.state = State::ToList { at: now };
            }
        }
        dropped
    }

    /// Begins what can begin: cancels, listings, watches, and tells what is due.
    async fn work(
        &mut self,
        session: &Session,
        stream: &mut Stream,
        listings: &mut FuturesUnordered<BoxFuture<'static, Listed>>,
        dropped: Vec<i64>,
    ) -> Result<(), Failure> {
        self.tell();
        for id in dropped {
            stream.watched.remove(&id);
            within(STREAM_BOUND, "ending a watch", stream.sender.cancel(id)).await?;
        }
        let now = Instant::now();
        for followed in self.services.values_mut() {
            match followed.state {
                State::ToList { at } if at <= now && listings.len() < LISTINGS => {
                    self.attempts += 1;
                    let attempt = self.attempts;
                    followed.state = State::Listing { attempt };
                    let (prefix, service) = (self.prefix.clone(), followed.service.clone());
                    let floor = self.known.revision;
                    let mut kv = session.client.kv_client();
                    listings.push(Box::pin(async move {
                        let below = keys::service(&prefix, &service);
                        let listing = listing::list(&mut kv, &prefix, &below, ENDPOINTS_PER_SERVICE).await;
                        Listed { service, attempt, floor, listing }
                    }));
                }
                State::ToWatch => {
                    let id = stream.next_id;
                    stream.next_id += 1;
                    let options = WatchOptions::new()
                        .with_prefix()
                        .with_watch_id(id)
                        .with_start_revision(followed.resume)
                        .with_progress_notify()
                        .with_fragment();
                    let below = keys::service(&self.prefix, &followed.service);
                    within(STREAM_BOUND, "watching", stream.sender.watch(below, Some(options))).await?;
                    stream.watched.insert(id, followed.service.clone());
                    stream.pending.push_back((id, now + CONFIRM_BOUND));
                    followed.state = State::Watching { id };
                }
                State::ToList { .. } | State::Listing { .. } | State::Watching { .. } => {}
            }
        }
        Ok(())
    }

    fn tell(&mut self) {
        let now = Instant::now();
        for followed in self.services.values_mut() {
            followed.tell(now, |change| {
                let _ = self.changes.send(change);
            });
        }
    }

    fn wake(&self, stream: &Stream, listings: usize) -> Instant {
        let mut wake = Instant::now() + LONG;
        for followed in self.services.values() {
            wake = wake.min(followed.reconcile_at);
            if let Some(at) = followed.due_at() {
                wake = wake.min(at);
            }
            match followed.state {
                State::ToList { at } if listings < LISTINGS => wake = wake.min(at),
                _ => {}
            }
        }
        stream.pending.front().map_or(wake, |(_, at)| wake.min(*at))
    }

    fn take_listing(&mut self, listed: Listed) -> Result<(), Failure> {
        let now = Instant::now();
        let Listed { service, attempt, floor, listing } = listed;
        let Some(followed) = self.services.get_mut(&service) else { return Ok(()) };
        if followed.state != (State::Listing { attempt }) {
            return Ok(());
        }
        match listing {
            Ok(listing) => {
                if listing.revision < floor {
                    // The cluster was replaced under the connection: the next session begins with nothing watched.
                    self.replaced(Identity { revision: listing.revision, ..Identity::default() });
                    return Err(Failure::Unreachable("the revision of etcd went backwards".to_owned()));
                }
                self.known.revision = self.known.revision.max(listing.revision);
                followed.backoff.reset();
                followed.take_listing(listing, now);
                Ok(())
            }
            Err(Failure::Unreachable(error)) => Err(Failure::Unreachable(error)),
            Err(failure) => {
                let below = keys::service(&self.prefix, &service);
                followed.take_refusal(below, failure.text());
                followed.state = State::ToList { at: now + followed.backoff.next() };
                Ok(())
            }
        }
    }

    fn take_message(&mut self, stream: &mut Stream, message: &WatchResponse) -> Result<(), Failure> {
        let now = Instant::now();
        let header = message.header();
        let cluster = header.map_or(0, |header| header.cluster_id());
        if cluster != 0 && self.known.cluster != 0 && cluster != self.known.cluster {
            return Err(Failure::Unreachable("another cluster answers".to_owned()));
        }
        let mut id = message.watch_id();
        if message.created() {
            // Confirmed in the order asked; a refused one may not say which it is.
            let asked = stream.pending.pop_front().map(|(id, _)| id);
            if message.canceled() {
                id = asked.unwrap_or(id);
            }
        }
        if id == MARKER_WATCH {
            for kv in message.events().iter().filter_map(etcd_client::Event::kv) {
                let there = kv.version() != 0;
                self.known.marker = there.then(|| (kv.value().to_vec(), kv.create_revision()));
            }
            return Ok(());
        }
        let Some(service) = stream.watched.get(&id) else { return Ok(()) };
        let Some(followed) = self.services.get_mut(service) else { return Ok(()) };
        if followed.state != (State::Watching { id }) {
            return Ok(());
        }
        if message.canceled() {
            stream.watched.remove(&id);
            if message.compact_revision() > 0 {
                tracing::info!(service = %followed.service, from = followed.resume, "the watch was compacted away");
                followed.state = State::ToList { at: now + RELIST_SPREAD.mul_f64(self.rng.f64()) };
                return Ok(());
            }
            let reason = message.cancel_reason();
            tracing::warn!(service = %followed.service, reason, "etcd ended the watch");
            // The listing will say what is refused, if that is it.
            followed.state = State::ToList { at: now + followed.backoff.next() };
            if stream.opened.elapsed() > LOGIN_RENEWED_AFTER {
                // The stream carries the login that it was opened with, and that may be over: the next session has
                // another. Not at once, though: then it is the right that is missing, and the others need the stream.
                return Err(Failure::Unreachable(format!("the watch was ended: {reason}")));
            }
            return Ok(());
        }
        if !message.events().is_empty() {
            followed.take_events(&self.prefix, message.events(), now);
        } else if !message.created()
            && let Some(header) = header
        {
            followed.take_progress(header.revision());
        }
        if let Some(header) = header {
            self.known.revision = self.known.revision.max(header.revision());
        }
        Ok(())
    }
}

impl Stream {
    /// A watch that is not confirmed in time means that nobody is there.
    fn check(&self, now: Instant) -> Result<(), Failure> {
        match self.pending.front() {
            Some((_, at)) if *at <= now => Err(Failure::Unreachable("no answer on the watch".to_owned())),
            _ => Ok(()),
        }
    }
}
