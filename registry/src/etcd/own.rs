//! Our own record: under a lease that is renewed, put back when it goes, taken out when we go and it is still ours.
//!
//! ```text
//!   (no lease) ── grant ──> (lease) ── claim: put, guarded ──> Standing ── renew every ttl/3 ──┐
//!       ^                     ^ ^                              │ │ │ ^─────────────────────────┘
//!       │                     │ └── deleted, or overwritten ───┘ │ └── no answer in time: next session, same lease
//!       └── lease unknown, or ttl 0 ─────────────────────────────┘
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use etcd_client::{
    Compare, CompareOp, LeaseKeepAliveStream, LeaseKeeper, PutOptions, Txn, TxnOp, WatchOptions, WatchResponse,
};
use tokio::sync::{mpsc, watch};

use super::failure::{Failure, within};
use super::link::{Link, Session};
use crate::backoff::{Backoff, jittered};
use crate::desired::{Asked, Desired};
use crate::endpoint::Endpoint;
use crate::keys;
use crate::names::InstanceId;
use crate::source::{Change, RegistryError};

/// One call to etcd.
const CALL_BOUND: Duration = Duration::from_secs(2);
/// Leaving, all attempts together: within what `withdraw` promises.
const LEAVE_BOUND: Duration = Duration::from_millis(2_500);
/// Giving the lease back after the record was taken out, which nobody waits for dearly.
const REVOKE_BOUND: Duration = Duration::from_millis(500);
/// Between two claims, should somebody delete our record as fast as we put it.
const CLAIM_BASE: Duration = Duration::from_millis(20);
const CLAIM_MAX: Duration = Duration::from_secs(2);
/// After etcd refused.
const REFUSED_BASE: Duration = Duration::from_millis(500);
const REFUSED_MAX: Duration = Duration::from_secs(15);
/// A record that stood so long is not being fought over.
const STEADY_AFTER: Duration = Duration::from_secs(10);
/// Somebody may write between our reading and our putting, at most so often.
const CLAIM_ATTEMPTS: u32 = 4;

const _: () = assert!(LEAVE_BOUND.as_millis() < super::WITHDRAW_BOUND.as_millis());
const _: () = assert!(REVOKE_BOUND.as_millis() < LEAVE_BOUND.as_millis());

/// Runs until the source is dropped.
pub(super) async fn run(
    prefix: String,
    link: Link,
    lease_ttl: Duration,
    mut asked: Asked,
    changes: mpsc::UnboundedSender<Change>,
) {
    let mut registrar = Registrar { prefix, link, lease_ttl, changes, own: None, stands: None };
    let mut left = Ok(());
    loop {
        let wanted = asked.desired.borrow_and_update().own.clone();
        if registrar.own.as_ref().map(|own| &own.endpoint) != wanted.as_ref() {
            match (&mut registrar.own, wanted) {
                // The same run at the same place says something else of itself: written over, without a gap.
                (Some(own), Some(now)) if own.is_of(&now) => own.endpoint = now,
                (_, wanted) => {
                    left = registrar.leave().await;
                    registrar.own = wanted.map(Own::new);
                }
            }
        }
        tokio::select! {
            // What is under way may be dropped at any point: each step can be done again, and leaving takes back the
            // lease under which a put may still be on its way.
            changed = own_changes(&mut asked.desired, registrar.own.as_ref().map(|own| own.endpoint.clone())) => {
                if changed.is_err() {
                    return;
                }
            }
            withdrawal = asked.withdrawals.recv() => match withdrawal {
                None => return,
                Some(reply) => {
                    if asked.desired.borrow().own.is_none() && registrar.own.is_some() {
                        left = registrar.leave().await;
                    }
                    // Who asked may have given up waiting.
                    let _ = reply.send(left.clone());
                }
            },
            () = registrar.keep() => return,
        }
    }
}

/// Returns when another record is wished than `own`; what else is wished does not matter here.
async fn own_changes(desired: &mut watch::Receiver<Desired>, own: Option<Endpoint>) -> Result<(), ()> {
    desired.wait_for(|desired| desired.own != own).await.map(|_| ()).map_err(|_| ())
}

struct Own {
    endpoint: Endpoint,
    /// It was never put: whoever stands there is an earlier run at our address.
    fresh: bool,
    lease: Option<Lease>,
}

#[derive(Debug, Clone)]
struct Lease {
    id: i64,
    ttl: Duration,
    /// When etcd was last asked to renew it and did: written by the renewals, read when etcd is gone.
    renewed: Arc<Mutex<Instant>>,
}

impl Lease {
    fn over_at(&self) -> Instant {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) + self.ttl
    }

    fn renewed(&self, asked: Instant) {
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = asked;
    }
}

impl Own {
    fn new(endpoint: Endpoint) -> Self {
        Own { endpoint, fresh: true, lease: None }
    }

    fn is_of(&self, other: &Endpoint) -> bool {
        self.endpoint.key == other.key && self.endpoint.instance == other.instance
    }
}

struct Registrar {
    prefix: String,
    link: Link,
    lease_ttl: Duration,
    changes: mpsc::UnboundedSender<Change>,
    own: Option<Own>,
    /// What was told last.
    stands: Option<bool>,
}

enum Claim {
    /// Ours stands; all up to this revision was looked at.
    Stands { revision: i64 },
    /// Another run holds the address: two cannot listen there.
    TakenBy { instance: InstanceId, revision: i64 },
}

impl Registrar {
    /// Keeps the record over one session after the other. Returns when there will be none any more.
    async fn keep(&mut self) {
        if self.own.is_none() {
            return std::future::pending().await;
        }
        let mut refused = Backoff::new(REFUSED_BASE, REFUSED_MAX);
        loop {
            let Some(session) = self.session().await else { return };
            let since = Instant::now();
            let mut link = self.link.clone();
            let failure = tokio::select! {
                failure = self.keep_over(&session) => Some(failure),
                ended = link.ended(session.number) => match ended {
                    Ok(()) => None,
                    Err(_) => return,
                },
            };
            if since.elapsed() >= STEADY_AFTER {
                refused.reset();
            }
            match failure {
                None => {}
                Some(Failure::Unreachable(error)) => {
                    self.link.fail(&session, &error);
                    if link.ended(session.number).await.is_err() {
                        return;
                    }
                }
                Some(Failure::LeaseGone) => {
                    tracing::warn!("our lease in etcd is gone: taking another");
                    if let Some(own) = &mut self.own {
                        own.lease = None;
                    }
                    self.unregistered("the lease is gone");
                    tokio::time::sleep(CLAIM_BASE.mul_f64(fastrand::f64())).await;
                }
                Some(failure) => {
                    self.unregistered(&failure.text());
                    tokio::time::sleep(refused.next()).await;
                }
            }
        }
    }

    /// The session there is, or the next one. Meanwhile the lease may be over, and that is told.
    async fn session(&mut self) -> Option<Arc<Session>> {
        let mut link = self.link.clone();
        loop {
            let over = self.own.as_ref().and_then(|own| own.lease.as_ref()).map(Lease::over_at);
            let lapses = self.stands == Some(true);
            tokio::select! {
                session = link.session.wait_for(Option::is_some) => return session.ok()?.clone(),
                () = tokio::time::sleep_until(over.unwrap_or_else(Instant::now).into()), if lapses => {
                    self.unregistered("etcd is not reached, and the lease may be over");
                }
            }
        }
    }

    /// Keeps the record over one session, until something fails.
    async fn keep_over(&mut self, session: &Session) -> Failure {
        match self.try_keep_over(session).await {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    async fn try_keep_over(&mut self, session: &Session) -> Result<std::convert::Infallible, Failure> {
        let lease = match self.own.as_ref().and_then(|own| own.lease.clone()) {
            Some(lease) => lease,
            None => self.grant(session).await?,
        };
        let (keeper, answers) = first_renewal(session, &lease).await?;
        let mut claims = Backoff::new(CLAIM_BASE, CLAIM_MAX);
        let revision = self.claim_and_tell(session, lease.id).await?;
        self.mark(session).await;
        let mut watch = self.watch(session, revision + 1).await?;
        // Renewing goes on while a claim takes long or waits: it has its own half of each select.
        let mut renewing = Box::pin(renew(keeper, answers, lease.clone()));
        let mut claimed_at = Instant::now();
        loop {
            let message = tokio::select! {
                failure = &mut renewing => return Err(failure),
                message = watch.message() => message.map_err(Failure::from)?,
            };
            let Some(message) = message else {
                return Err(Failure::Unreachable("etcd closed the watch".to_owned()));
            };
            if message.canceled() {
                // Compacted, or the login is over: the next session sees to both.
                return Err(Failure::Unreachable(format!("own watch ended: {}", message.cancel_reason())));
            }
            if !self.is_news(&message, lease.id) {
                continue;
            }
            if claimed_at.elapsed() >= STEADY_AFTER {
                claims.reset();
            }
            claimed_at = Instant::now();
            let again = async {
                tokio::time::sleep(claims.next()).await;
                self.claim_and_tell(session, lease.id).await
            };
            tokio::select! {
                failure = &mut renewing => return Err(failure),
                claimed = again => claimed?,
            };
        }
    }

    /// Whether the events leave something other than our own record.
    fn is_news(&self, message: &WatchResponse, lease: i64) -> bool {
        let Some(own) = &self.own else { return false };
        let last = message.events().iter().filter_map(etcd_client::Event::kv).next_back();
        last.is_some_and(|kv| {
            kv.version() == 0 || kv.lease() != lease || kv.value() != own.endpoint.to_json().as_slice()
        })
    }

    async fn grant(&mut self, session: &Session) -> Result<Lease, Failure> {
        let seconds = i64::try_from(self.lease_ttl.as_millis().div_ceil(1_000)).unwrap_or(i64::MAX);
        let asked = Instant::now();
        let mut client = session.client.lease_client();
        let granted = within(CALL_BOUND, "taking a lease", client.grant(seconds, None)).await?;
        let ttl = Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or(0).max(1));
        let lease = Lease { id: granted.id(), ttl, renewed: Arc::new(Mutex::new(asked)) };
        if let Some(own) = &mut self.own {
            own.lease = Some(lease.clone());
        }
        Ok(lease)
    }

    async fn claim_and_tell(&mut self, session: &Session, lease: i64) -> Result<i64, Failure> {
        match self.claim(session, lease).await? {
            Claim::Stands { revision } => {
                if let Some(own) = &mut self.own {
                    own.fresh = false;
                    if self.stands != Some(true) {
                        self.stands = Some(true);
                        let _ = self.changes.send(Change::Registered { key: own.endpoint.key.clone() });
                    }
                }
                Ok(revision)
            }
            Claim::TakenBy { instance, revision } => {
                let key = self.own.as_ref().map(|own| own.endpoint.key.to_string()).unwrap_or_default();
                self.unregistered(&format!("{key} is registered by another instance, {instance}"));
                Ok(revision)
            }
        }
    }

    /// Sees that our record stands, unless another run holds the address.
    async fn claim(&mut self, session: &Session, lease: i64) -> Result<Claim, Failure> {
        let Some(own) = &self.own else { return Ok(Claim::Stands { revision: 0 }) };
        let key = keys::endpoint(&self.prefix, &own.endpoint.key);
        let value = own.endpoint.to_json();
        let mut kv = session.client.kv_client();
        for _ in 0..CLAIM_ATTEMPTS {
            let found = within(CALL_BOUND, "reading our record", kv.get(key.as_str(), None)).await?;
            let revision = found.header().map_or(0, |header| header.revision());
            let guard = match found.kvs().first() {
                None => Compare::version(key.as_str(), CompareOp::Equal, 0),
                Some(there) if there.value() == value.as_slice() && there.lease() == lease => {
                    return Ok(Claim::Stands { revision });
                }
                Some(there) => {
                    if let Ok(other) = Endpoint::from_record(own.endpoint.key.clone(), there.value())
                        && !own.fresh
                        && other.instance != own.endpoint.instance
                    {
                        return Ok(Claim::TakenBy { instance: other.instance, revision });
                    }
                    // Garbage, an earlier run's, or our own under another lease: ours to write again.
                    Compare::mod_revision(key.as_str(), CompareOp::Equal, there.mod_revision())
                }
            };
            let put = TxnOp::put(key.as_str(), value.clone(), Some(PutOptions::new().with_lease(lease)));
            let txn = Txn::new().when([guard]).and_then([put]);
            let done = within(CALL_BOUND, "putting our record", kv.txn(txn)).await?;
            if done.succeeded() {
                return Ok(Claim::Stands { revision: done.header().map_or(revision, |header| header.revision()) });
            }
        }
        Err(Failure::Refused(format!("{key} is being written by somebody else all the time")))
    }

    /// Marks the cluster if nobody has yet. It helps to tell it from its successor; without it revisions must do.
    async fn mark(&self, session: &Session) {
        if session.identity.marker.is_some() {
            return;
        }
        let key = keys::cluster(&self.prefix);
        let txn = Txn::new().when([Compare::version(key.as_str(), CompareOp::Equal, 0)]).and_then([TxnOp::put(
            key.as_str(),
            InstanceId::generate().as_str(),
            None,
        )]);
        if let Err(failure) = within(CALL_BOUND, "marking the cluster", session.client.kv_client().txn(txn)).await {
            tracing::debug!(error = failure.text(), "the cluster could not be marked");
        }
    }

    /// Our own key through a watch of our own.
    async fn watch(&self, session: &Session, from: i64) -> Result<etcd_client::WatchStream, Failure> {
        let key = self.own.as_ref().map(|own| keys::endpoint(&self.prefix, &own.endpoint.key)).unwrap_or_default();
        let options = WatchOptions::new().with_start_revision(from);
        let mut client = session.client.watch_client();
        within(CALL_BOUND, "watching our record", client.watch(key, Some(options))).await
    }

    /// Takes our record out if it is still ours; another member is tried if the first does not answer.
    async fn leave(&mut self) -> Result<(), RegistryError> {
        let Some(own) = self.own.take() else { return Ok(()) };
        if self.stands.take() == Some(true) {
            self.unregistered("withdrawn");
            self.stands = None;
        }
        // Without a lease nothing was ever put.
        let Some(lease) = own.lease else { return Ok(()) };
        let key = keys::endpoint(&self.prefix, &own.endpoint.key);
        let leaving = async {
            let mut link = self.link.clone();
            loop {
                let session = link.session.wait_for(Option::is_some).await;
                let session = session.ok().and_then(|session| session.clone());
                let session =
                    session.ok_or_else(|| RegistryError::Unavailable("the connection has ended".to_owned()))?;
                let txn = Txn::new()
                    .when([Compare::lease(key.as_str(), CompareOp::Equal, lease.id)])
                    .and_then([TxnOp::delete(key.as_str(), None)]);
                match within(CALL_BOUND, "leaving", session.client.kv_client().txn(txn)).await {
                    Ok(_) => {
                        // Only now: with password authentication a lease that holds a key cannot be given back.
                        let mut client = session.client.lease_client();
                        let _ = within(REVOKE_BOUND, "giving the lease back", client.revoke(lease.id)).await;
                        return Ok(());
                    }
                    Err(Failure::Unreachable(error)) => {
                        self.link.fail(&session, &error);
                        link.ended(session.number)
                            .await
                            .map_err(|_| RegistryError::Unavailable("the connection has ended".to_owned()))?;
                    }
                    Err(failure) => return Err(failure.into()),
                }
            }
        };
        let timeout = RegistryError::Timeout { doing: "leaving etcd", after: LEAVE_BOUND };
        tokio::time::timeout(LEAVE_BOUND, leaving).await.unwrap_or(Err(timeout))
    }

    fn unregistered(&mut self, error: &str) {
        if self.stands != Some(false) {
            self.stands = Some(false);
            let _ = self.changes.send(Change::Unregistered { error: error.to_owned() });
        }
    }
}

/// Opens the stream of renewals, which renews once: so a lease from before an outage is known to stand, or not to.
async fn first_renewal(session: &Session, lease: &Lease) -> Result<(LeaseKeeper, LeaseKeepAliveStream), Failure> {
    let asked = Instant::now();
    let mut client = session.client.lease_client();
    let opened = within(CALL_BOUND, "renewing the lease", client.keep_alive(lease.id)).await?;
    lease.renewed(asked);
    Ok(opened)
}

/// Renews `lease` every third of it, give or take a tenth, until that fails.
async fn renew(mut keeper: LeaseKeeper, mut answers: LeaseKeepAliveStream, lease: Lease) -> Failure {
    let mut rng = fastrand::Rng::with_seed(crate::names::random_u64());
    let third = lease.ttl / 3;
    loop {
        tokio::time::sleep(jittered(third, 0.1, &mut rng)).await;
        let asked = Instant::now();
        // The sends stay Ok while etcd is frozen: what counts is the answer, within less than a third.
        let answer = within(third.mul_f64(0.8), "renewing the lease", async {
            keeper.keep_alive().await?;
            answers.message().await
        });
        match answer.await {
            Ok(Some(answer)) if answer.ttl() > 0 => lease.renewed(asked),
            Ok(Some(_)) => return Failure::LeaseGone,
            Ok(None) => return Failure::Unreachable("etcd closed the renewals".to_owned()),
            Err(failure) => return failure,
        }
    }
}
