//! The one connection to etcd that everything shares: to one member at a time, on to the next when it fails.
//!
//! ```text
//!   ┌──> Trying ── a member answers ──> Session ── somebody found it dead ──┐
//!   │      └── all failed: Disconnected is told, wait (full jitter) ──┐     │
//!   └────────────────────────────────<────────────────────────────────┴──<──┘
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use etcd_client::{Certificate, Client, ConnectOptions, GetOptions, Identity as TlsIdentity, TlsOptions};
use tokio::sync::{mpsc, watch};

use super::failure::{Failure, within};
use crate::backoff::Backoff;
use crate::keys;
use crate::source::{Change, EtcdOptions, RegistryError, Reread};
use crate::url::Secret;

/// Connecting, logging in and the first answer, each.
const CONNECT_BOUND: Duration = Duration::from_secs(3);
/// A ping after so long a silence; etcd cuts off who pings more often than every 5 s.
const PING_AFTER: Duration = Duration::from_secs(6);
/// The connection is dead without an answer to it for so long.
const PING_BOUND: Duration = Duration::from_secs(3);
const BACKOFF_BASE: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A session shorter than this was no success: the waits go on growing.
const STEADY_AFTER: Duration = Duration::from_secs(5);

const _: () = assert!(PING_AFTER.as_millis() > 5_000);

/// What tells one cluster, in one state, from another. Zero and `None` where it may not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) cluster: u64,
    pub(super) revision: i64,
    /// Value and revision of creation of the key that marks the cluster.
    pub(super) marker: Option<(Vec<u8>, i64)>,
}

impl Identity {
    /// Whether `now` is another cluster than this one, or this one emptied or restored.
    pub(super) fn was_replaced_by(&self, now: &Identity) -> bool {
        let another = self.cluster != 0 && now.cluster != 0 && self.cluster != now.cluster;
        let backwards = now.revision != 0 && now.revision < self.revision;
        // A marker that was deleted by hand and written again looks like a new cluster: a listing more, nothing worse.
        let marked = self.marker.is_some() && now.revision != 0 && self.marker != now.marker;
        // A marker from before the revision known would have been seen, or its event was still on its way: likewise.
        let older = |(_, created): &(Vec<u8>, i64)| *created <= self.revision;
        let unseen = self.marker.is_none() && self.revision != 0 && now.marker.as_ref().is_some_and(older);
        another || backwards || marked || unseen
    }
}

/// A connection to one member that has answered.
pub(super) struct Session {
    pub(super) number: u64,
    pub(super) client: Client,
    pub(super) identity: Identity,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("number", &self.number)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// What the tasks that use the connection hold of it.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) session: watch::Receiver<Option<Arc<Session>>>,
    failed: Arc<watch::Sender<(u64, String)>>,
}

impl Link {
    /// Says that a session is dead; every user of it hears so.
    pub(super) fn fail(&self, session: &Session, error: &str) {
        self.failed.send_if_modified(|failed| {
            let news = failed.0 < session.number;
            if news {
                *failed = (session.number, error.to_owned());
            }
            news
        });
    }

    /// Returns when `number` is not the session any more. `Err`: there will be none.
    pub(super) async fn ended(&mut self, number: u64) -> Result<(), Ended> {
        let over = |session: &Option<Arc<Session>>| session.as_ref().is_none_or(|session| session.number != number);
        self.session.wait_for(over).await.map(|_| ()).map_err(|_| Ended)
    }
}

/// The source was dropped.
#[derive(Debug)]
pub(super) struct Ended;

/// How to reach the members. No `Debug`: the options hold the password.
pub(super) struct Members {
    /// With `http://` or `https://`.
    urls: Vec<String>,
    access: Access,
    options: ConnectOptions,
    reread: Option<Reread>,
    /// Why that failed last, so that each reason is told once.
    unread: Option<String>,
    /// The key that marks the cluster.
    marker: String,
    /// What the keys of all services begin with.
    services: String,
}

/// What the URL says of the way in.
struct Access {
    user: Option<String>,
    password: Option<Secret>,
    tls: bool,
}

impl Access {
    fn options(&self, options: &EtcdOptions) -> Result<ConnectOptions, RegistryError> {
        let invalid = |reason: &str| RegistryError::Invalid(format!("etcd: {reason}"));
        if self.tls && options.ca_pem.is_none() {
            // Nobody is trusted by default, so no handshake could ever succeed: better said at the start.
            return Err(invalid("TLS needs the authority (ca) that etcd's certificate comes from"));
        }
        let mut connect = ConnectOptions::new()
            .with_keep_alive(PING_AFTER, PING_BOUND)
            // Without a stream open, etcd takes any ping as an offence. There is always a stream open: see follow.rs.
            .with_keep_alive_while_idle(false)
            .with_connect_timeout(CONNECT_BOUND)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        let user = options.user.as_ref().or(self.user.as_ref());
        let password = options.password.as_deref().or(self.password.as_ref().map(Secret::reveal));
        match (user, password) {
            (Some(user), Some(password)) => connect = connect.with_user(user, password),
            (Some(_), None) => return Err(invalid("a user without a password")),
            (None, Some(_)) => return Err(invalid("a password without a user")),
            (None, None) => {}
        }
        let pair = match (&options.cert_pem, &options.key_pem) {
            (Some(cert), Some(key)) => Some(TlsIdentity::from_pem(cert, key)),
            (None, None) => None,
            _ => return Err(invalid("a certificate and its key are given together")),
        };
        if let (true, Some(ca)) = (self.tls, &options.ca_pem) {
            let config = TlsOptions::new().ca_certificate(Certificate::from_pem(ca));
            connect = connect.with_tls(match pair {
                Some(pair) => config.identity(pair),
                None => config,
            });
        }
        Ok(connect)
    }
}

impl Members {
    /// # Errors
    /// When the options contradict each other.
    pub(super) fn new(address: &super::Address<'_>, options: &EtcdOptions) -> Result<Self, RegistryError> {
        let tls = address.tls || options.ca_pem.is_some() || options.cert_pem.is_some();
        let access = Access { user: address.user.clone(), password: address.password.clone(), tls };
        let scheme = if tls { "https" } else { "http" };
        let urls = address.endpoints.iter().map(|endpoint| format!("{scheme}://{endpoint}")).collect();
        Ok(Members {
            urls,
            options: access.options(options)?,
            access,
            reread: options.reread.clone(),
            unread: None,
            marker: keys::cluster(address.prefix),
            services: keys::services(address.prefix),
        })
    }

    /// Takes over files that were replaced. What cannot be used changes nothing: it may be half written.
    async fn renew(&mut self) {
        let Some(reread) = self.reread.clone() else { return };
        // A disk may take its time.
        let read = tokio::task::spawn_blocking(move || reread()).await.unwrap_or_else(|error| Err(error.to_string()));
        let options = read.and_then(|options| self.access.options(&options).map_err(|error| error.to_string()));
        match options {
            Ok(options) => (self.options, self.unread) = (options, None),
            Err(error) => {
                if self.unread.as_ref() != Some(&error) {
                    tracing::warn!(%error, "the login of etcd cannot be read anew: going on with the one of before");
                    self.unread = Some(error);
                }
            }
        }
    }

    async fn connect(&self, url: &str, number: u64) -> Result<Session, Failure> {
        let client = within(CONNECT_BOUND, "connecting", Client::connect([url], Some(self.options.clone()))).await?;
        // With no user `connect` has not connected to anything yet: only an answer counts.
        let mut kv = client.kv_client();
        let mut asked = within(CONNECT_BOUND, "the first answer", kv.get(self.marker.as_str(), None)).await;
        if is_denied(&asked) {
            // A role may be for the services alone; all that is wanted then is the header of an answer.
            let one = GetOptions::new().with_prefix().with_limit(1).with_keys_only();
            asked = within(CONNECT_BOUND, "the first answer", kv.get(self.services.as_str(), Some(one))).await;
        }
        let identity = match asked {
            Ok(answer) => Identity {
                cluster: answer.header().map_or(0, |header| header.cluster_id()),
                revision: answer.header().map_or(0, |header| header.revision()),
                marker: answer
                    .kvs()
                    .first()
                    .filter(|kv| kv.key() == self.marker.as_bytes())
                    .map(|kv| (kv.value().to_vec(), kv.create_revision())),
            },
            // Then it is a role for single services. They will see for themselves.
            denied if is_denied(&denied) => Identity::default(),
            Err(failure) => return Err(failure),
        };
        Ok(Session { number, client, identity })
    }
}

fn is_denied<T>(asked: &Result<T, Failure>) -> bool {
    matches!(asked, Err(Failure::Refused(reason)) if reason.contains("permission denied"))
}

/// Starts the task that keeps a session; it ends when every [`Link`] is dropped.
pub(super) fn start(members: Members, changes: mpsc::UnboundedSender<Change>) -> Link {
    let (sessions, session) = watch::channel(None);
    let (failed, failures) = watch::channel((0, String::new()));
    tokio::spawn(run(members, sessions, failures, changes));
    Link { session, failed: Arc::new(failed) }
}

async fn run(
    mut members: Members,
    sessions: watch::Sender<Option<Arc<Session>>>,
    mut failures: watch::Receiver<(u64, String)>,
    changes: mpsc::UnboundedSender<Change>,
) {
    let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_MAX);
    // Each sidecar begins somewhere else, so that the members share the load.
    let mut at = usize::try_from(crate::names::random_u64() % members.urls.len() as u64).unwrap_or(0);
    let mut number = 0;
    let mut failed_in_a_row = 0;
    let mut connected = None;
    loop {
        number += 1;
        let url = members.urls[at].clone();
        let opened = tokio::select! {
            opened = async {
                members.renew().await;
                members.connect(&url, number).await
            } => opened,
            () = sessions.closed() => return,
        };
        let error = match opened {
            Ok(session) => {
                failed_in_a_row = 0;
                if connected != Some(true) {
                    connected = Some(true);
                    tracing::info!(%url, revision = session.identity.revision, "etcd is reached");
                    let _ = changes.send(Change::Connected);
                }
                let since = Instant::now();
                sessions.send_replace(Some(Arc::new(session)));
                let failed = tokio::select! {
                    failed = failures.wait_for(|failed| failed.0 >= number) => failed.map(|failed| failed.1.clone()),
                    () = sessions.closed() => return,
                };
                sessions.send_replace(None);
                let Ok(error) = failed else { return };
                tracing::info!(%url, %error, "the connection to etcd failed");
                // Another member, or this one anew, may answer at once: nobody needs to hear of it.
                at = (at + 1) % members.urls.len();
                tokio::select! {
                    () = tokio::time::sleep(after_session(since.elapsed(), &mut backoff)) => continue,
                    () = sessions.closed() => return,
                }
            }
            Err(failure) => {
                failed_in_a_row += 1;
                failure.text()
            }
        };
        at = (at + 1) % members.urls.len();
        if failed_in_a_row % members.urls.len() != 0 {
            // The first look at another member waits only as long as keeps a fleet apart.
            tokio::time::sleep(BACKOFF_BASE.mul_f64(fastrand::f64())).await;
            continue;
        }
        if connected != Some(false) {
            connected = Some(false);
            tracing::warn!(%url, %error, "etcd is not reached: going on with what is known");
            let _ = changes.send(Change::Disconnected { error });
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next()) => {}
            () = sessions.closed() => return,
        }
    }
}

/// How long to wait after a session that lasted so long: one that was no success is a failure more.
fn after_session(lasted: Duration, backoff: &mut Backoff) -> Duration {
    if lasted >= STEADY_AFTER {
        backoff.reset();
    }
    backoff.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_between_short_sessions_grow() {
        let mut backoff = Backoff::new(BACKOFF_BASE, BACKOFF_MAX);
        let short = STEADY_AFTER / 2;
        assert!(after_session(short, &mut backoff) <= BACKOFF_BASE);
        let waits: Vec<_> = (0..100).map(|_| after_session(short, &mut backoff)).collect();
        assert!(waits.iter().all(|wait| *wait <= BACKOFF_MAX));
        // With full jitter, one of eighty is above half of the bound but for one time in 2^80.
        assert!(waits[20..].iter().any(|wait| *wait > BACKOFF_MAX / 2), "{waits:?}");
        assert!(after_session(STEADY_AFTER, &mut backoff) <= BACKOFF_BASE, "a long one is a success");
    }

    fn identity(cluster: u64, revision: i64, marker: Option<(&str, i64)>) -> Identity {
        Identity { cluster, revision, marker: marker.map(|(value, created)| (value.into(), created)) }
    }

    #[test]
    fn a_replaced_cluster_is_told_from_one_that_went_on() {
        let check = |replaced: bool, known: &Identity, now: &Identity| {
            assert_eq!(known.was_replaced_by(now), replaced, "{known:?} then {now:?}");
        };
        let known = identity(7, 10, Some(("a", 2)));
        check(false, &known, &known);
        check(false, &known, &identity(7, 99, Some(("a", 2))));
        check(false, &Identity::default(), &known);
        check(true, &known, &identity(8, 99, Some(("a", 2))));
        check(true, &known, &identity(7, 9, Some(("a", 2))));
        check(true, &known, &identity(7, 99, Some(("b", 2))));
        check(true, &known, &identity(7, 99, Some(("a", 3))));
        check(true, &known, &identity(7, 99, None));
        // What may not be read says nothing.
        check(false, &known, &identity(0, 0, None));
        // Marked since is no news; marked before is, for then it would have been seen.
        let unmarked = identity(7, 10, None);
        check(false, &unmarked, &identity(7, 99, None));
        check(false, &unmarked, &identity(7, 99, Some(("a", 11))));
        check(true, &unmarked, &identity(7, 99, Some(("a", 10))));
    }
}
