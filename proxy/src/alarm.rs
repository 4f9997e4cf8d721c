//! Time limits of calls that mostly end long before them.
//!
//! Nearly every call is bounded by a limit of many seconds and answered within a millisecond. A timer of the runtime for each
//! costs more than the rest of the waiting. So limits that are far off only stand in a list that is looked through a few times a
//! second, and get a timer of their own when they come near: they fire as precisely as ever.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;
use tokio::time::Sleep;

/// How often the list is looked through.
const LOOK: Duration = Duration::from_millis(250);
/// A limit nearer than this has a timer of its own: two looks, so that none is missed.
const NEAR: Duration = Duration::from_millis(500);

/// A worker's far-off limits.
#[derive(Debug, Default)]
pub struct Alarms {
    waiting: RefCell<Slab<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    at: Instant,
    waker: Waker,
}

/// One limit. Dropped, it is forgotten.
#[derive(Debug)]
pub struct Alarm {
    at: Instant,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not waited for yet.
    New,
    /// In the list, under this key.
    Far(Rc<Alarms>, usize),
    Near(Pin<Box<Sleep>>),
}

impl Alarms {
    /// None yet.
    pub fn new() -> Rc<Alarms> {
        Rc::default()
    }

    /// A limit at `at`.
    pub fn at(at: Instant) -> Alarm {
        Alarm { at, state: State::New }
    }

    /// Looks through the list, for ever.
    pub async fn look(self: Rc<Self>) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.wake_near(Instant::now());
        }
    }

    fn wake_near(&self, now: Instant) {
        for (_, waiting) in &*self.waiting.borrow() {
            if waiting.at.saturating_duration_since(now) < NEAR {
                waiting.waker.wake_by_ref();
            }
        }
    }
}

impl Alarm {
    /// Resolves at the moment. `now` is the time as the caller last read it; a little old does no harm.
    pub fn poll(&mut self, alarms: &Rc<Alarms>, now: Instant, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match &mut self.state {
                State::New if self.at.saturating_duration_since(now) >= NEAR + LOOK => {
                    let waker = cx.waker().clone();
                    let key = alarms.waiting.borrow_mut().insert(Waiting { at: self.at, waker });
                    self.state = State::Far(Rc::clone(alarms), key);
                    return Poll::Pending;
                }
                State::Far(alarms, key) => {
                    // Asked again, mostly because the answer has begun; else because the limit has come near.
                    let mut waiting = alarms.waiting.borrow_mut();
                    let entry = &mut waiting[*key];
                    if self.at.saturating_duration_since(Instant::now()) >= NEAR {
                        entry.waker.clone_from(cx.waker());
                        return Poll::Pending;
                    }
                }
                State::Near(sleep) => return sleep.as_mut().poll(cx),
                State::New => {}
            }
            self.forget();
            self.state = State::Near(Box::pin(tokio::time::sleep_until(self.at.into())));
        }
    }

    fn forget(&mut self) {
        if let State::Far(alarms, key) = &self.state {
            alarms.waiting.borrow_mut().remove(*key);
        }
        self.state = State::New;
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[test]
    fn near_and_far_limits_fire_and_never_early() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let alarms = Alarms::new();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            tokio::task::spawn_local(Rc::clone(&alarms).look());
            for limit in [Duration::ZERO, Duration::from_millis(30), NEAR, NEAR + LOOK] {
                let began = Instant::now();
                let mut alarm = Alarms::at(began + limit);
                poll_fn(|cx| alarm.poll(&alarms, began, cx)).await;
                assert!(began.elapsed() >= limit, "{limit:?}: early");
            }
        });
        assert!(alarms.waiting.borrow().is_empty());
    }

    #[test]
    fn a_limit_that_is_dropped_leaves_nothing_behind() {
        let alarms = Alarms::new();
        let now = Instant::now();
        let mut alarm = Alarms::at(now + Duration::from_secs(60));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(alarm.poll(&alarms, now, &mut cx).is_pending());
        assert!(alarm.poll(&alarms, now, &mut cx).is_pending());
        assert_eq!(alarms.waiting.borrow().len(), 1);
        drop(alarm);
        assert!(alarms.waiting.borrow().is_empty());
    }
}
