//! The control thread's side of discovery: asks in, changes of the registry in, snapshots out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use registry::{Change, EndpointKey, Probed, ServiceName, Source, Table};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::{Inbox, Refused, View};
use crate::clock;
use crate::config::{Config, SERVICES_MAX};
use crate::metrics::Metrics;

/// Services without endpoints that are followed; beyond it the longest unused is dropped.
const EMPTY_SERVICES: usize = 128;
/// A service without endpoints that nobody calls is dropped after this.
const EMPTY_IDLE: Duration = Duration::from_secs(60);
/// Look-ups of services under way at once.
const PENDING_SERVICES: usize = 64;
/// Waiters for one look-up.
const WAITERS: usize = 16 * 1024;
/// Housekeeping: idle services, suspects, deadlines of asks.
pub(super) const TICK: Duration = Duration::from_millis(250);
/// A burst of changes is saved once.
const SAVE_DELAY: Duration = Duration::from_millis(200);
/// Suspects whose service has live endpoints again leave after this, in lease times.
const SUSPECT_LEASES: u32 = 3;

const _: () = assert!(
    SERVICES_MAX + EMPTY_SERVICES + PENDING_SERVICES <= registry::limits::FOLLOWED_SERVICES,
    "what the configuration allows the source follows too"
);

/// What the rest of the control thread learns.
#[derive(Debug, Clone)]
pub struct Follower {
    /// The own record stands in the registry.
    pub registered: watch::Receiver<bool>,
    /// The table is loaded: from disk, or every prefetched service has been answered.
    pub loaded: watch::Receiver<bool>,
}

type Answer = oneshot::Sender<Result<(), Refused>>;

struct Pending {
    since: Instant,
    waiters: Vec<Answer>,
}

struct State {
    view: Arc<View>,
    source: Arc<dyn Source>,
    metrics: Arc<Metrics>,
    config: Arc<Config>,
    next_uid: u64,
    pending: BTreeMap<ServiceName, Pending>,
    unanswered: BTreeSet<ServiceName>,
    freshness: Arc<Freshness>,
    /// Since when the registry answers without a break; `None`: it does not.
    connected: Option<Instant>,
    save_at: Option<tokio::time::Instant>,
    registered: watch::Sender<bool>,
    loaded: watch::Sender<bool>,
}

/// Starts from `table` (the disk's, or empty) and follows. The future ends never; drop it to stop.
pub fn run(
    view: Arc<View>,
    inbox: Inbox,
    source: Arc<dyn Source>,
    changes: mpsc::UnboundedReceiver<Change>,
    table: Table,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
) -> (Follower, impl Future<Output = ()>) {
    let (mut state, follower) = State::new(view, source, &table, config, metrics);
    (follower, async move {
        state.begin(table);
        state.follow(inbox, changes).await;
    })
}

impl State {
    fn new(
        view: Arc<View>,
        source: Arc<dyn Source>,
        table: &Table,
        config: Arc<Config>,
        metrics: Arc<Metrics>,
    ) -> (State, Follower) {
        let (registered, registered_out) = watch::channel(false);
        let (loaded, loaded_out) = watch::channel(false);
        let newest = table.services.values().map(|list| list.updated).max();
        let freshness = Arc::new(Freshness(Mutex::new(newest.map_or(Confirmed::Never, Confirmed::At))));
        let asked = Arc::clone(&freshness);
        metrics.set_table_age_source(move || asked.age_seconds());
        let state = State {
            view,
            source,
            metrics,
            unanswered: config.prefetch.iter().filter(|name| !table.services.contains_key(*name)).cloned().collect(),
            config,
            next_uid: 0,
            pending: BTreeMap::new(),
            freshness,
            connected: None,
            save_at: None,
            registered,
            loaded,
        };
        (state, Follower { registered: registered_out, loaded: loaded_out })
    }

    fn begin(&mut self, table: Table) {
        for name in table.services.keys().chain(&self.config.prefetch) {
            self.source.follow(name);
        }
        self.publish(table);
        self.check_loaded();
    }

    async fn follow(&mut self, mut inbox: Inbox, mut changes: mpsc::UnboundedReceiver<Change>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A disk that hangs must not hang the calls that wait for a look-up: the writing goes on beside everything else.
        let mut saving: Option<Saving> = None;
        loop {
            let save_at = self.save_at.filter(|_| saving.is_none());
            tokio::select! {
                Some(change) = changes.recv() => self.changed(change),
                Some(ask) = inbox.asks.recv() => self.asked(ask.service, ask.answer),
                Some(key) = inbox.probes.recv() => self.probe_failed(&key),
                _ = tick.tick() => self.tick(),
                () = until(save_at) => saving = self.save(),
                () = saved(&mut saving) => saving = None,
            }
        }
    }

    fn changed(&mut self, change: Change) {
        match change {
            Change::Endpoints { service, list, revision, cause } => {
                let snapshot = self.view.load();
                // An answer that was on its way when the service was dropped would bring it back for good.
                let wanted = snapshot.table.services.contains_key(&service)
                    || self.pending.contains_key(&service)
                    || self.config.prefetch.contains(&service);
                if !wanted {
                    return;
                }
                let table = snapshot.table.apply(&service, list, revision, cause, SystemTime::now());
                drop(snapshot);
                self.publish(table);
                self.save_soon();
                self.answer(&service, Ok(()));
                self.unanswered.remove(&service);
                self.check_loaded();
            }
            Change::Connected => {
                self.freshness.connected();
                self.connected = Some(Instant::now());
                self.metrics.registry_connected.set(1);
                tracing::info!("the registry answers");
            }
            Change::Disconnected { error } => {
                self.freshness.disconnected(SystemTime::now());
                self.connected = None;
                self.metrics.registry_connected.set(0);
                tracing::warn!(%error, "the registry does not answer; calls go on with what is known");
            }
            Change::Registered { key } => {
                self.metrics.registered.set(1);
                self.registered.send_replace(true);
                tracing::info!(service = %key.service, version = %key.version, address = %key.address, "registered");
            }
            Change::Unregistered { error } => {
                self.metrics.registered.set(0);
                let stood = self.registered.send_replace(false);
                if self.metrics.draining.get() == 1 {
                    tracing::info!("no longer registered");
                } else {
                    if stood {
                        self.metrics.lease_losses.inc();
                    }
                    tracing::warn!(%error, "not registered");
                }
            }
            Change::Drifted { service, records } => {
                self.metrics.registry_drift.inc_by(records);
                tracing::warn!(%service, records, "the watch had not told all: a listing put it right");
            }
            Change::Rejected { key, reason } => {
                self.metrics.registry_rejected_records.inc();
                tracing::warn!(%key, %reason, "a record of the registry was skipped");
            }
        }
    }

    fn probe_failed(&mut self, key: &EndpointKey) {
        let now = SystemTime::now();
        let snapshot = self.view.load();
        // The call path notes the time of each answer anyway, by its own clock.
        let answered = snapshot.endpoint(key).map(|state| state.answered_at()).filter(|at| *at > 0).and_then(|at| {
            let ago = clock::micros(Instant::now()).saturating_sub(at);
            now.checked_sub(Duration::from_micros(ago))
        });
        let probed = snapshot.table.probe_failed(key, answered, now);
        drop(snapshot);
        match probed {
            Probed::Ignored => {}
            Probed::Counted(table) => self.publish(table),
            Probed::Left(table) => {
                tracing::warn!(endpoint = %key.address, service = %key.service, "a suspect endpoint left the table: it cannot be reached");
                self.publish(table);
                self.save_soon();
            }
        }
    }

    fn save_soon(&mut self) {
        self.save_at.get_or_insert_with(|| tokio::time::Instant::now() + SAVE_DELAY);
    }

    fn asked(&mut self, service: ServiceName, answer: Answer) {
        // The waiter may be gone: its caller has hung up. That is no error anywhere below.
        if self.view.load().service(service.as_str()).is_some() {
            let _ = answer.send(Ok(()));
            return;
        }
        if let Some(pending) = self.pending.get_mut(&service) {
            if pending.waiters.len() < WAITERS {
                pending.waiters.push(answer);
            } else {
                let _ = answer.send(Err(Refused::Busy));
            }
            return;
        }
        let followed = self.view.load().table.services.len() + self.pending.len();
        if self.pending.len() >= PENDING_SERVICES || followed >= self.config.limits.services + EMPTY_SERVICES {
            let _ = answer.send(Err(Refused::Busy));
            return;
        }
        self.source.follow(&service);
        self.pending.insert(service, Pending { since: Instant::now(), waiters: vec![answer] });
    }

    fn answer(&mut self, service: &ServiceName, result: Result<(), Refused>) {
        if let Some(pending) = self.pending.remove(service) {
            for waiter in pending.waiters {
                let _ = waiter.send(result);
            }
        }
    }

    fn tick(&mut self) {
        let late: Vec<ServiceName> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.since.elapsed() >= self.config.timeouts.first_answer)
            .map(|(name, _)| name.clone())
            .collect();
        for service in late {
            // It stays unfollowed: the next call asks again, and a registry that comes back answers then. But what is
            // prefetched is waited for by the readiness too, whoever called it early.
            if !self.config.prefetch.contains(&service) {
                self.source.unfollow(&service);
            }
            self.answer(&service, Err(Refused::NoAnswer));
        }
        self.drop_unused(Instant::now());
        let grace = self.config.discovery.lease * SUSPECT_LEASES;
        let next = self.view.load().table.expire(SystemTime::now(), grace);
        if let Some(table) = next {
            self.publish(table);
            self.save_soon();
        }
    }

    fn drop_unused(&mut self, now: Instant) {
        let now_micros = clock::micros(now);
        let idle_for = |since: u64| Duration::from_micros(now_micros.saturating_sub(since));
        // What is known cannot be learnt again while the registry is away, and time without it makes nothing stale: the
        // endpoints of a service that nobody calls are kept until the registry has answered for that long again.
        let connected_for = self.connected.map(|since| now.saturating_duration_since(since));
        let is_over =
            |idle: Duration| connected_for.is_some_and(|connected| idle.min(connected) >= self.config.discovery.idle);
        let mut unused = Vec::new();
        let mut empty = Vec::new();
        {
            let snapshot = self.view.load();
            for service in snapshot.services() {
                if self.config.prefetch.contains(&service.name) {
                    continue;
                }
                let idle = idle_for(service.used_at());
                let is_empty = service.endpoints(None).is_empty();
                if is_over(idle) || (is_empty && idle >= EMPTY_IDLE) {
                    unused.push(service.name.clone());
                } else if is_empty {
                    empty.push((service.used_at(), service.name.clone()));
                }
            }
        }
        empty.sort();
        let surplus = empty.len().saturating_sub(EMPTY_SERVICES);
        unused.extend(empty.into_iter().take(surplus).map(|(_, name)| name));
        if unused.is_empty() {
            return;
        }
        let mut table = self.view.load().table.clone();
        for name in &unused {
            self.source.unfollow(name);
            table = table.forget(name);
        }
        tracing::debug!(services = unused.len(), "dropped services that nobody calls");
        self.publish(table);
        self.save_soon();
    }

    fn publish(&mut self, table: Table) {
        let now = clock::micros(Instant::now());
        let next = self.view.load().next(table, &self.metrics, &mut self.next_uid, now);
        let mut suspects = 0;
        for service in next.services() {
            suspects += service.endpoints(None).iter().filter(|endpoint| endpoint.suspect).count();
        }
        self.metrics.table_services.set(next.services().count() as i64);
        let real = next.services().filter(|service| !service.is_unknown());
        self.metrics.set_table_endpoints(real.map(|service| (service.name.as_str(), service.endpoints(None).len())));
        self.metrics.table_suspect_endpoints.set(suspects as i64);
        let disk = next.table.services.values().filter(|list| list.from == registry::Origin::Disk).count();
        self.metrics.table_from_disk.set(disk as i64);
        self.view.publish(next);
        self.metrics.registry_revision.set(i64::try_from(self.view.revision()).unwrap_or(i64::MAX));
    }

    fn check_loaded(&mut self) {
        if self.unanswered.is_empty() {
            self.loaded.send_replace(true);
        }
    }

    /// Begins to write the table to disk, if it is to be.
    fn save(&mut self) -> Option<Saving> {
        self.save_at = None;
        let path = self.config.discovery.snapshot.clone()?;
        let table = self.view.load().table.clone();
        let shown = path.display().to_string();
        Some(Saving { shown, writing: tokio::task::spawn_blocking(move || registry::save(&path, &table)) })
    }
}

/// How far the table can be relied on.
#[derive(Debug)]
struct Freshness(Mutex<Confirmed>);

#[derive(Debug, Clone, Copy)]
enum Confirmed {
    /// The registry has not answered yet, and there was nothing on disk.
    Never,
    /// The registry answers: what it changes is told at once.
    Now,
    /// The registry answered last at this time.
    At(SystemTime),
}

impl Freshness {
    fn connected(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Confirmed::Now;
    }

    /// A registry that had not answered yet confirms nothing by not answering: the table is as old as it was.
    fn disconnected(&self, now: SystemTime) {
        let mut confirmed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*confirmed, Confirmed::Now) {
            *confirmed = Confirmed::At(now);
        }
    }

    fn age_seconds(&self) -> f64 {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Confirmed::Never => f64::NAN,
            Confirmed::Now => 0.0,
            Confirmed::At(then) => then.elapsed().unwrap_or_default().as_secs_f64(),
        }
    }
}

/// The table on its way to the disk.
struct Saving {
    shown: String,
    writing: JoinHandle<std::io::Result<()>>,
}

/// Returns when it is written. A failure is logged: the table in memory goes on.
async fn saved(saving: &mut Option<Saving>) {
    let Some(Saving { shown, writing }) = saving else { return std::future::pending().await };
    match writing.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(path = shown, %error, "the table could not be saved to disk"),
        Err(error) => tracing::warn!(path = shown, %error, "the table could not be saved to disk"),
    }
}

async fn until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
