//! Slow and silent callers (slowloris): one sweep a second over all connections of a worker, instead of a timer each.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::task::{AbortHandle, spawn_local};

/// How often connections are looked at. Their limits are kept to that precision.
const SWEEP: Duration = Duration::from_secs(1);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// A request head is awaited or arriving.
    Head,
    /// A call is under way; its own limits hold.
    Busy,
    /// Between two requests.
    Idle,
}

/// All connections of a worker.
#[derive(Debug)]
pub struct Patience {
    header: Duration,
    idle: Duration,
    connections: RefCell<Slab<Rc<State>>>,
    /// The time as of the last sweep: exact enough for limits in seconds.
    now: Cell<Instant>,
}

#[derive(Debug)]
struct State {
    phase: Cell<Phase>,
    since: Cell<Instant>,
    busy: Cell<usize>,
    /// The connection's task.
    task: RefCell<Option<AbortHandle>>,
    over: Cell<bool>,
}

/// Keeps a connection [`Phase::Busy`]. A call has one until its answer is out, and one more until its body is in.
#[derive(Debug)]
pub struct Busy(Rc<Watched>);

/// One connection's place in the sweep; leaves it on drop.
#[derive(Debug)]
pub struct Watched {
    patience: Rc<Patience>,
    state: Rc<State>,
    key: usize,
}

impl Patience {
    /// Limits: `header` for a request head to arrive, `idle` between requests.
    pub fn new(header: Duration, idle: Duration) -> Rc<Patience> {
        Rc::new(Patience { header, idle, connections: RefCell::default(), now: Cell::new(Instant::now()) })
    }

    /// Watches a new connection, from which a first head is awaited.
    pub fn watch(self: &Rc<Self>) -> Watched {
        let state = Rc::new(State {
            phase: Cell::new(Phase::Head),
            since: Cell::new(Instant::now()),
            busy: Cell::new(0),
            task: RefCell::default(),
            over: Cell::new(false),
        });
        let key = self.connections.borrow_mut().insert(Rc::clone(&state));
        Watched { patience: Rc::clone(self), state, key }
    }

    /// Sweeps for ever.
    pub async fn sweep(self: Rc<Self>) {
        let mut tick = tokio::time::interval(SWEEP.min(self.header / 2));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.look(Instant::now());
        }
    }

    fn look(&self, now: Instant) {
        self.now.set(now);
        for (_, state) in &*self.connections.borrow() {
            let limit = match state.phase.get() {
                Phase::Busy => continue,
                Phase::Head => self.header,
                Phase::Idle => self.idle,
            };
            if now.saturating_duration_since(state.since.get()) >= limit {
                state.over.set(true);
                if let Some(task) = &*state.task.borrow() {
                    task.abort();
                }
            }
        }
    }
}

impl Watched {
    /// A call is under way.
    pub fn busy(self: &Rc<Self>) -> Busy {
        self.state.busy.set(self.state.busy.get() + 1);
        self.enter(Phase::Busy);
        Busy(Rc::clone(self))
    }

    fn enter(&self, phase: Phase) {
        if self.state.phase.replace(phase) != phase {
            self.state.since.set(self.patience.now.get());
        }
    }

    /// Bytes arrived: between requests they begin a head.
    pub fn bytes_arrived(&self) {
        if self.state.phase.get() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    /// What had begun to arrive is whole, for callers whose requests do not follow each other.
    pub fn rests(&self) {
        if self.state.busy.get() == 0 {
            self.enter(Phase::Idle);
        }
    }

    /// Watches over `task`, which serves the connection and holds this: when patience is over it is aborted, and the connection closed.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        // As it is: a task around it would hold room for it twice, before and after its first poll.
        let task = spawn_local(task);
        self.state.task.replace(Some(task.abort_handle()));
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let left = self.0.state.busy.get() - 1;
        self.0.state.busy.set(left);
        if left == 0 {
            self.0.enter(Phase::Idle);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.patience.connections.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_over(watched: &Watched) -> bool {
        watched.state.over.get()
    }

    #[test]
    fn heads_have_less_time_than_idle_connections_and_calls_have_their_own() {
        let patience = Patience::new(Duration::from_secs(10), Duration::from_secs(100));
        let (slow, idle, busy) = (patience.watch(), patience.watch(), Rc::new(patience.watch()));
        let start = Instant::now();
        patience.look(start);
        idle.enter(Phase::Idle);
        let _call = busy.busy();
        patience.look(start + Duration::from_secs(12));
        assert_eq!([is_over(&slow), is_over(&idle), is_over(&busy)], [true, false, false]);
        patience.look(start + Duration::from_secs(120));
        assert_eq!([is_over(&idle), is_over(&busy)], [true, false]);
    }

    #[test]
    fn a_task_that_is_out_of_time_is_ended() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let patience = Patience::new(Duration::from_secs(10), Duration::from_secs(100));
            let ended = Rc::new(());
            let held = Rc::clone(&ended);
            let watched = Rc::new(patience.watch());
            let task = Rc::clone(&watched);
            watched.spawn(async move {
                let _held = (held, task);
                std::future::pending::<()>().await;
            });
            drop(watched);
            patience.look(Instant::now() + Duration::from_secs(12));
            while Rc::strong_count(&ended) > 1 {
                tokio::task::yield_now().await;
            }
            assert!(patience.connections.borrow().is_empty());
        });
    }

    #[test]
    fn bytes_after_a_pause_begin_a_head() {
        let patience = Patience::new(Duration::from_secs(10), Duration::from_secs(100));
        let watched = Rc::new(patience.watch());
        let (call, upload) = (watched.busy(), watched.busy());
        watched.bytes_arrived();
        drop(call);
        watched.bytes_arrived();
        assert_eq!(watched.state.phase.get(), Phase::Busy, "the answer is out, the request's body is not in");
        drop(upload);
        assert_eq!(watched.state.phase.get(), Phase::Idle);
        watched.bytes_arrived();
        assert_eq!(watched.state.phase.get(), Phase::Head);
        drop(watched);
        assert!(patience.connections.borrow().is_empty());
    }
}
