//! One worker's keep-alive connections to the own app, and how long each may safely stay idle.
//!
//! An app may close an idle connection at the very moment a request is sent on it. Whether that request ran cannot be
//! known then, so a request that must not run twice is only put on a connection that is *certainly* open: one that has
//! been idle for less than half the time that this app has been seen to tolerate ([`Tolerance`]). A new connection costs
//! some 50 µs on loopback, an error costs a call.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use http1::HeadScan;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{AppAddress, Config};
use crate::edge::{Scratch, Socket, Stream};
use crate::error::{Error, ErrorCode, Executed, Origin, Phase};
use crate::metrics::{Held, Metrics};
use crate::upstream::target::Target;

/// An app is assumed to keep idle connections for at least twice this.
const SURE_IDLE: Duration = Duration::from_millis(20);
/// That the app closed an idle connection is held against it for this long, and then until one idled longer.
const CLOSE_REMEMBERED: Duration = Duration::from_secs(60);
/// Requests that may wait for a connection, in multiples of the connections allowed.
const WAITERS_PER_CONNECTION: usize = 4;

/// Connections to the app.
#[derive(Debug)]
pub struct AppPool {
    target: Target,
    /// How long a connection may take, and the setting that says so.
    patience: (&'static str, Duration),
    idle_timeout: Duration,
    scratch: Scratch,
    idle: RefCell<Vec<Connection>>,
    /// Wakes the sweep, when the app closes an idle connection.
    sweep: RefCell<Waker>,
    permits: Arc<Semaphore>,
    waiting: Rc<Cell<usize>>,
    most_waiting: usize,
    tolerance: Tolerance,
    metrics: Arc<Metrics>,
}

/// A connection, checked out or idle.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub socket: Rc<Socket>,
    /// It has carried a request before.
    pub reused: bool,
    idle_since: Instant,
    /// How long it had been idle when the sweep last saw it.
    looked_at: Duration,
    _permit: OwnedSemaphorePermit,
    _open: Held,
}

/// Why there is no connection. In each case no byte of the request was sent.
#[derive(Debug)]
pub enum NoConnection {
    /// The app does not accept.
    Refused(io::Error),
    /// Not in time.
    Timeout,
    /// `limits.app_connections` are busy and as many requests as may wait do so.
    Full(usize),
}

impl NoConnection {
    /// What that means for a call to the app of `pool`.
    pub fn explain(self, pool: &AppPool) -> Error {
        let (code, detail, after) = match self {
            NoConnection::Refused(error) => (ErrorCode::AppNotConnected, format!("{}: {error}", pool.target), None),
            NoConnection::Timeout => {
                let (setting, limit) = pool.patience;
                (
                    ErrorCode::AppNotConnected,
                    format!("{}: no connection within {limit:?} ({setting})", pool.target),
                    None,
                )
            }
            NoConnection::Full(waiting) => (
                ErrorCode::RemoteOverloaded,
                format!("all connections to the app are busy (limits.app_connections) and {waiting} requests wait"),
                Some(Duration::from_secs(1)),
            ),
        };
        Error::new(code, Origin::Remote, Phase::Connect, Executed::No, detail).retry_after(after)
    }
}

/// What the app has been seen to tolerate, learnt from the connections that lie idle anyway.
#[derive(Debug, Default)]
struct Tolerance {
    /// The longest that a connection has been seen idle and open.
    survived: Cell<Duration>,
    closed: Cell<Option<Closed>>,
}

/// The app closed idle connections.
#[derive(Debug, Clone, Copy)]
struct Closed {
    /// The shortest idle time after which it did.
    after: Duration,
    /// When it last closed one about as young as that, or younger.
    at: Instant,
}

impl Tolerance {
    fn survived(&self, idle: Duration, now: Instant) {
        if idle > self.survived.get() {
            self.survived.set(idle);
        }
        // It was no limit on idling but an app that ended, or was short of connections: longer has been tolerated since.
        if let Some(closed) = self.closed.get()
            && idle > closed.after * 2
            && now.saturating_duration_since(closed.at) >= CLOSE_REMEMBERED
        {
            self.closed.set(None);
        }
    }

    fn closed(&self, idle: Duration, now: Instant) {
        match self.closed.get() {
            Some(known) if idle > known.after * 2 => {}
            known => {
                let after = known.map_or(idle, |known| known.after.min(idle));
                self.closed.set(Some(Closed { after, at: now }));
            }
        }
    }

    /// A connection idle for less than this is open for certain.
    fn sure(&self) -> Duration {
        // Half: the app's timers and ours need not agree, and its decision may be on its way.
        let sure = (self.survived.get() / 2).max(SURE_IDLE);
        match self.closed.get() {
            Some(closed) => sure.min(closed.after / 2),
            None => sure,
        }
    }
}

impl AppPool {
    /// An empty pool, with this worker's share of `config.limits.app_connections`. The worker counts in `waiting` the
    /// requests that wait for one.
    pub fn new(
        target: Target,
        config: &Config,
        scratch: Scratch,
        waiting: Rc<Cell<usize>>,
        metrics: Arc<Metrics>,
    ) -> AppPool {
        let share = config.limits.app_connections.div_ceil(config.workers);
        AppPool {
            patience: target.patience(&config.timeouts),
            target,
            idle_timeout: config.timeouts.app_idle,
            scratch,
            idle: RefCell::default(),
            sweep: RefCell::new(Waker::noop().clone()),
            permits: Arc::new(Semaphore::new(share.max(1))),
            waiting,
            most_waiting: share.max(1) * WAITERS_PER_CONNECTION,
            tolerance: Tolerance::default(),
            metrics,
        }
    }

    /// Where its connections lead.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// A connection for a request. `once`: the request must not run twice, so the connection must be surely open.
    pub async fn checkout(&self, once: bool) -> Result<Connection, NoConnection> {
        if let Some(connection) = self.reuse(once) {
            return Ok(connection);
        }
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return self.connect(permit).await;
        }
        // All permits are out. Idle connections that were too old for this request hold some: one makes room.
        if self.idle.borrow_mut().pop().is_none() && self.waiting.get() >= self.most_waiting {
            return Err(NoConnection::Full(self.waiting.get()));
        }
        let _waiting = Waiting::new(&self.waiting);
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            // The semaphore is never closed.
            return Err(NoConnection::Full(0));
        };
        self.connect(permit).await
    }

    /// A new connection, for a call that is all of it. Nobody waits for one: those that are busy may be so for ever.
    pub async fn fresh(&self) -> Result<Connection, NoConnection> {
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => self.connect(permit).await,
            Err(_) => Err(NoConnection::Full(self.waiting.get())),
        }
    }

    /// Takes a connection back for the next request.
    pub fn checkin(&self, mut connection: Connection) {
        // With requests waiting for a permit, an idle connection would keep it from them.
        if self.waiting.get() > 0 {
            return;
        }
        let now = Instant::now();
        if connection.socket.poll_stale(&mut Context::from_waker(&self.sweep.borrow())).is_ready() {
            self.tolerance.closed(Duration::ZERO, now);
            return;
        }
        connection.reused = true;
        connection.looked_at = Duration::ZERO;
        connection.idle_since = now;
        self.idle.borrow_mut().push(connection);
    }

    /// The most recently used connection that will do: the others age, and tell how long the app tolerates that.
    fn reuse(&self, once: bool) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let now = Instant::now();
        while let Some(connection) = idle.last() {
            let age = now.saturating_duration_since(connection.idle_since);
            if connection.socket.is_stale() {
                self.tolerance.closed(age, now);
                idle.pop();
                continue;
            }
            if once && age >= self.tolerance.sure() {
                return None;
            }
            return idle.pop();
        }
        None
    }

    async fn connect(&self, permit: OwnedSemaphorePermit) -> Result<Connection, NoConnection> {
        let stream = match tokio::time::timeout(self.patience.1, self.target.connect()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(NoConnection::Refused(error)),
            Err(_) => return Err(NoConnection::Timeout),
        };
        self.metrics.app_connections_opened.inc();
        Ok(Connection {
            socket: Rc::new(Socket::new(stream, HeadScan::for_responses(), &self.scratch, &self.metrics.app_bytes)),
            reused: false,
            idle_since: Instant::now(),
            looked_at: Duration::ZERO,
            _permit: permit,
            _open: Held::new(&self.metrics.app_connections_open),
        })
    }

    /// Notices at once when the app closes an idle connection. Closes what has been idle for too long, now and then, and
    /// looks at what the rest survived.
    pub async fn sweep(self: Rc<Self>) {
        let mut tick = tokio::time::interval(Duration::from_millis(500).min(self.idle_timeout));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // It asks every idle connection for its state: more than tokio's budget for one turn may be in the pool.
        let sweeping = poll_fn(|cx| {
            if !self.sweep.borrow().will_wake(cx.waker()) {
                *self.sweep.borrow_mut() = cx.waker().clone();
            }
            let now = Instant::now();
            self.notice_closed(cx, now);
            while tick.poll_tick(cx).is_ready() {
                self.age(now);
            }
            Poll::<()>::Pending
        });
        tokio::task::unconstrained(sweeping).await;
    }

    fn notice_closed(&self, cx: &mut Context<'_>, now: Instant) {
        self.idle.borrow_mut().retain(|connection| {
            let closed = connection.socket.poll_stale(cx).is_ready();
            if closed {
                self.tolerance.closed(now.saturating_duration_since(connection.idle_since), now);
            }
            !closed
        });
    }

    fn age(&self, now: Instant) {
        self.idle.borrow_mut().retain_mut(|connection| {
            let age = now.saturating_duration_since(connection.idle_since);
            // As old as it was a tick ago: had it been closed then, that would have been noticed by now.
            self.tolerance.survived(std::mem::replace(&mut connection.looked_at, age), now);
            // Closed by us: says nothing about the app.
            age < self.idle_timeout
        });
    }

    /// Whether the app accepts connections now.
    pub async fn probe(address: &AppAddress, timeout: Duration) -> bool {
        matches!(tokio::time::timeout(timeout, Stream::connect(&address.place)).await, Ok(Ok(_)))
    }
}

struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<usize>) -> Waiting<'a> {
        count.set(count.get() + 1);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn nothing_seen_nothing_assumed() {
        assert_eq!(Tolerance::default().sure(), SURE_IDLE);
    }

    #[test]
    fn what_survives_is_trusted_by_half() {
        let tolerance = Tolerance::default();
        let now = Instant::now();
        tolerance.survived(4_000 * MS, now);
        tolerance.survived(100 * MS, now);
        assert_eq!(tolerance.sure(), 2_000 * MS);
    }

    #[test]
    fn a_close_bounds_it() {
        let tolerance = Tolerance::default();
        let now = Instant::now();
        tolerance.survived(190 * MS, now);
        tolerance.closed(200 * MS, now);
        assert_eq!(tolerance.sure(), 95 * MS);
        tolerance.survived(10_000 * MS, now);
        assert_eq!(tolerance.sure(), 100 * MS);
        tolerance.closed(10 * MS, now);
        assert_eq!(tolerance.sure(), 5 * MS, "an app that closes at once is believed too");
    }

    #[test]
    fn an_app_that_was_restarted_is_trusted_again() {
        let tolerance = Tolerance::default();
        let start = Instant::now();
        tolerance.closed(MS, start);
        tolerance.survived(5_000 * MS, start + CLOSE_REMEMBERED - MS);
        assert_eq!(tolerance.sure(), MS / 2, "not so soon");
        tolerance.survived(2 * MS, start + CLOSE_REMEMBERED);
        assert_eq!(tolerance.sure(), MS / 2, "nothing idled longer than what was closed");
        tolerance.survived(3 * MS, start + CLOSE_REMEMBERED);
        assert_eq!(tolerance.sure(), 2_500 * MS);
    }

    #[test]
    fn an_app_that_goes_on_closing_is_not() {
        let tolerance = Tolerance::default();
        let start = Instant::now();
        for round in 0..10 {
            let now = start + round * CLOSE_REMEMBERED;
            tolerance.survived(190 * MS, now);
            tolerance.closed(200 * MS, now);
            tolerance.closed(450 * MS, now);
        }
        assert_eq!(tolerance.sure(), 95 * MS);
    }
}
