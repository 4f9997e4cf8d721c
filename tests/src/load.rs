//! Steady load in the background while a test does something to the mesh.

use crate::http::{Conn, Request, Response};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// At most this many failures are kept in words.
const KEPT_FAILURES: usize = 30;

/// Callers on threads of their own, each with a kept-alive connection, until stopped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    shared: Arc<Shared>,
    callers: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    begun: Instant,
    calls: AtomicU64,
    failed: AtomicU64,
    failures: Mutex<Vec<String>>,
    answers: Mutex<Vec<(Instant, String)>>,
    took: Mutex<Vec<Duration>>,
}

/// What a load came to.
#[derive(Debug)]
pub struct Report {
    pub calls: u64,
    pub failed: u64,
    /// The first failures, each with the second at which it happened.
    pub failures: Vec<String>,
    /// When which instance answered.
    pub answers: Vec<(Instant, String)>,
    /// How long each call took, the shortest first.
    pub took: Vec<Duration>,
}

impl Report {
    /// Panics with the failures unless there are none, and unless at least `least` calls were made.
    #[track_caller]
    pub fn assert_clean(&self, least: u64) {
        assert!(self.failed == 0, "{} of {} calls failed:\n{}", self.failed, self.calls, self.failures.join("\n"));
        assert!(self.calls >= least, "only {} calls were made, expected {least}", self.calls);
    }

    /// How many answers each of `names` gave since `since`.
    #[must_use]
    pub fn counts(&self, since: Instant, names: &[&str]) -> Vec<usize> {
        count(&self.answers, since, names)
    }

    /// What 99 of 100 calls took at most.
    #[must_use]
    pub fn p99(&self) -> Duration {
        self.took.get(self.took.len() * 99 / 100).copied().unwrap_or_default()
    }
}

fn count(answers: &[(Instant, String)], since: Instant, names: &[&str]) -> Vec<usize> {
    names.iter().map(|name| answers.iter().filter(|(at, who)| *at >= since && who == name).count()).collect()
}

impl Load {
    /// `callers` callers of `door`, each making a call every `every`; `request` makes it from (caller, number) and
    /// `check` judges the answer.
    pub fn start(
        door: SocketAddr,
        callers: usize,
        every: Duration,
        request: impl Fn(usize, u64) -> Request + Send + Sync + 'static,
        check: impl Fn(usize, u64, &Response) -> Result<(), String> + Send + Sync + 'static,
    ) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            calls: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failures: Mutex::new(Vec::new()),
            answers: Mutex::new(Vec::new()),
            took: Mutex::new(Vec::new()),
        });
        let request = Arc::new(request);
        let check = Arc::new(check);
        let callers = (0..callers)
            .map(|caller| {
                let (stop, shared) = (Arc::clone(&stop), Arc::clone(&shared));
                let (request, check) = (Arc::clone(&request), Arc::clone(&check));
                std::thread::spawn(move || {
                    let mut conn = None;
                    let mut number = 0;
                    while !stop.load(Ordering::SeqCst) {
                        let began = Instant::now();
                        shared.one(door, caller, number, &mut conn, &*request, &*check);
                        number += 1;
                        std::thread::sleep(every.saturating_sub(began.elapsed()));
                    }
                })
            })
            .collect();
        Load { stop, shared, callers }
    }

    /// Steady GETs of `/who`.
    #[must_use]
    pub fn gets(door: SocketAddr, service: &str, callers: usize, every: Duration) -> Load {
        let service = service.to_owned();
        Load::start(door, callers, every, move |_, _| Request::get(&service, "/who"), |_, _, answer| plain(answer))
    }

    /// Calls made so far.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Failures so far.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::SeqCst)
    }

    /// How many answers each of `names` gave since `since`, so far.
    #[must_use]
    pub fn counts(&self, since: Instant, names: &[&str]) -> Vec<usize> {
        count(&self.shared.answers.lock().expect("no panic inside"), since, names)
    }

    /// Waits until `more` further calls have been made.
    #[track_caller]
    pub fn run_for(&self, more: u64, limit: Duration) {
        let goal = self.calls() + more;
        crate::wait::until("the load to go on", limit, || {
            let calls = self.calls();
            if calls >= goal {
                Ok(())
            } else {
                Err(format!(
                    "{calls} of {goal} calls, {} failed: {:?}",
                    self.failed(),
                    self.shared.failures.lock().expect("no panic inside")
                ))
            }
        });
    }

    /// Stops and reports.
    #[must_use]
    pub fn stop(mut self) -> Report {
        self.halt();
        let mut took = std::mem::take(&mut *self.shared.took.lock().expect("no panic inside"));
        took.sort_unstable();
        Report {
            took,
            calls: self.calls(),
            failed: self.failed(),
            failures: std::mem::take(&mut self.shared.failures.lock().expect("no panic inside")),
            answers: std::mem::take(&mut self.shared.answers.lock().expect("no panic inside")),
        }
    }

    fn halt(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        for caller in self.callers.drain(..) {
            let _ = caller.join();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.halt();
    }
}

impl Shared {
    fn one(
        &self,
        door: SocketAddr,
        caller: usize,
        number: u64,
        conn: &mut Option<Conn>,
        request: &(impl Fn(usize, u64) -> Request + ?Sized),
        check: &(impl Fn(usize, u64, &Response) -> Result<(), String> + ?Sized),
    ) {
        let began = Instant::now();
        let outcome = attempt(door, conn, &request(caller, number)).and_then(|answer| {
            check(caller, number, &answer)?;
            Ok(answer)
        });
        self.took.lock().expect("no panic inside").push(began.elapsed());
        self.calls.fetch_add(1, Ordering::SeqCst);
        match outcome {
            Ok(answer) => {
                let who = answer.header("x-instance").unwrap_or_default().to_owned();
                self.answers.lock().expect("no panic inside").push((Instant::now(), who));
            }
            Err(error) => {
                self.failed.fetch_add(1, Ordering::SeqCst);
                *conn = None;
                let mut failures = self.failures.lock().expect("no panic inside");
                if failures.len() < KEPT_FAILURES {
                    let at = self.begun.elapsed().as_secs_f64();
                    failures.push(format!("at {at:.3} s, caller {caller}, call {number}: {error}"));
                }
            }
        }
    }
}

fn attempt(door: SocketAddr, conn: &mut Option<Conn>, request: &Request) -> Result<Response, String> {
    if conn.is_none() {
        *conn = Some(Conn::connect(door).map_err(|error| format!("connect: {error}"))?);
    }
    conn.as_mut().expect("just set").call(request).map_err(|error| format!("no answer: {error}"))
}

/// Ok for a 200.
pub fn plain(answer: &Response) -> Result<(), String> {
    if answer.status() == 200 { Ok(()) } else { Err(answer.summary()) }
}
