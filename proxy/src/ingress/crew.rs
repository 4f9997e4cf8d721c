//! Tasks that are used again. Starting one for each call would allocate, fill and free its whole state each time, which
//! cost more than the rest of this side's own work on a small call.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::task::spawn_local;

/// Tasks kept for the next jobs, a worker. Each holds some kilobytes; beyond it they come and go with their jobs.
const IDLE_TASKS: usize = 256;

/// What a task is given to do.
pub trait Job: 'static {
    /// Does it, to its end.
    fn run(self) -> impl Future<Output = ()>;
}

/// One worker's tasks for one kind of job.
#[derive(Debug)]
pub struct Crew<J> {
    idle: RefCell<Vec<Rc<Seat<J>>>>,
}

/// Where one task gets its next job.
#[derive(Debug)]
struct Seat<J> {
    job: RefCell<Option<J>>,
    waker: RefCell<Option<Waker>>,
}

impl<J: Job> Crew<J> {
    /// Without tasks yet.
    pub fn new() -> Rc<Crew<J>> {
        Rc::new(Crew { idle: RefCell::default() })
    }

    /// Runs a job beside all others.
    pub fn run(self: &Rc<Self>, job: J) {
        let idle = self.idle.borrow_mut().pop();
        match idle {
            Some(seat) => {
                seat.job.replace(Some(job));
                if let Some(waker) = &*seat.waker.borrow() {
                    waker.wake_by_ref();
                }
            }
            None => {
                let seat = Rc::new(Seat { job: RefCell::new(Some(job)), waker: RefCell::default() });
                spawn_local(Rc::clone(self).work(seat));
            }
        }
    }

    async fn work(self: Rc<Self>, seat: Rc<Seat<J>>) {
        loop {
            poll_fn(|cx| seat.poll_job(cx)).await.run().await;
            let mut idle = self.idle.borrow_mut();
            if idle.len() == IDLE_TASKS {
                return;
            }
            idle.push(Rc::clone(&seat));
        }
    }
}

impl<J> Seat<J> {
    fn poll_job(&self, cx: &mut Context<'_>) -> Poll<J> {
        if let Some(job) = self.job.take() {
            return Poll::Ready(job);
        }
        let mut waker = self.waker.borrow_mut();
        match &*waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::sync::Semaphore;
    use tokio::task::LocalSet;

    /// Waits until it is let through, and counts itself.
    struct Visit {
        gate: Rc<Semaphore>,
        done: Rc<Cell<usize>>,
    }

    impl Job for Visit {
        async fn run(self) {
            let _permit = self.gate.acquire().await;
            self.done.set(self.done.get() + 1);
        }
    }

    fn in_a_worker(test: impl AsyncFnOnce()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        LocalSet::new().block_on(&runtime, test());
    }

    async fn until(done: &Cell<usize>, count: usize) {
        while done.get() < count {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn one_job_after_the_other_needs_one_task() {
        in_a_worker(async || {
            let (crew, gate, done) = (Crew::new(), Rc::new(Semaphore::new(1)), Rc::new(Cell::new(0)));
            for round in 1..=100 {
                crew.run(Visit { gate: Rc::clone(&gate), done: Rc::clone(&done) });
                until(&done, round).await;
                assert_eq!(crew.idle.borrow().len(), 1, "after {round}");
            }
        });
    }

    #[test]
    fn jobs_do_not_wait_for_each_other_and_few_tasks_stay() {
        in_a_worker(async || {
            let (crew, gate, done) = (Crew::new(), Rc::new(Semaphore::new(0)), Rc::new(Cell::new(0)));
            for _ in 0..2 {
                done.set(0);
                for _ in 0..3 * IDLE_TASKS {
                    crew.run(Visit { gate: Rc::clone(&gate), done: Rc::clone(&done) });
                }
                tokio::task::yield_now().await;
                assert_eq!(done.get(), 0);
                gate.add_permits(1);
                until(&done, 3 * IDLE_TASKS).await;
                gate.forget_permits(1);
                assert_eq!(crew.idle.borrow().len(), IDLE_TASKS);
            }
        });
    }
}
