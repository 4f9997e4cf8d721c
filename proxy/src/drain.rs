//! The end of a sidecar: what is refused when, and what is waited for.
//!
//! ```text
//! signal ─▶ DRAIN to every peer, and leave the registry (both at once: a peer that hears late is still told)
//!        ─▶ calls from peers finish ─▶ the app is told (wrapper mode) ─▶ the app ends, its own calls work until then
//!        ─▶ everything closes
//! ```
//! Each wait ends at `timeouts.drain` at the latest (the app has a few seconds in any case); a second signal ends all of
//! them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::signal::Signal;
use registry::Source;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::Instant;

use crate::admin::Readiness;
use crate::config::{AppAddress, Config};
use crate::discovery::Follower;
use crate::metrics::Metrics;
use crate::upstream::app_pool::AppPool;
use crate::worker::Workers;
use crate::wrapper;

/// How often counts and the app are looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How often the app is asked whether it is still there.
const ASK_APP: Duration = Duration::from_millis(100);
/// So often in a row it must seem gone: between two calls an app without keep-alive has no connection.
const QUIET_LOOKS: u32 = 3;
/// What the app of wrapper mode has to end in, at the least, if calls from peers took all of `timeouts.drain`.
const APP_GRACE: Duration = Duration::from_secs(5);
/// The app of wrapper mode has ended: everything else may take this long.
const AFTER_APP: Duration = Duration::from_millis(300);
/// Leaving the registry may take this long; the lease does it otherwise.
const LEAVE: Duration = Duration::from_secs(3);

/// Waits until `count` is 0, at most until `deadline`. Says whether it became 0.
async fn until_none(count: &Arc<AtomicUsize>, deadline: Instant) -> bool {
    while count.load(Relaxed) > 0 {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

/// Waits until the app takes no connections any more and has none to us, at most until `deadline`. An app that shuts
/// down in good order closes its listener first, and may still make calls until it ends.
async fn until_app_ends(app: &AppAddress, metrics: &Metrics, deadline: Instant) {
    let mut quiet = 0;
    while Instant::now() < deadline && quiet < QUIET_LOOKS {
        let there = metrics.callers_connected.get() > 0 || AppPool::probe(app, ASK_APP).await;
        quiet = if there { 0 } else { quiet + 1 };
        tokio::time::sleep(ASK_APP).await;
    }
}

/// Takes the own record out of the registry.
async fn leave(source: &dyn Source) {
    match tokio::time::timeout(LEAVE, source.withdraw()).await {
        Ok(Ok(())) => tracing::info!("left the registry"),
        Ok(Err(error)) => tracing::warn!(%error, "could not leave the registry; the lease ends by itself"),
        Err(_) => tracing::warn!("could not leave the registry in time; the lease ends by itself"),
    }
}

/// What the end of the process needs.
pub struct Ending<'a> {
    /// Addresses and limits.
    pub config: &'a Config,
    /// The registry: the own record is in it.
    pub source: Arc<dyn Source>,
    /// They carry the calls.
    pub workers: Workers,
    /// Counted into.
    pub metrics: Arc<Metrics>,
    /// Says that no more calls are wanted.
    pub readiness: Arc<Readiness>,
    /// Calls under way from peers.
    pub inbound_calls: Arc<AtomicUsize>,
    /// Calls under way from the own app.
    pub outbound_calls: Arc<AtomicUsize>,
}

impl Ending<'_> {
    /// Without wrapper mode: until a signal.
    pub async fn run_alone(self) -> io::Result<u8> {
        let mut signals = Signals::new()?;
        let first = signals.next_stop().await;
        let deadline = Instant::now() + self.config.timeouts.drain;
        tokio::select! {
            () = self.wind_down(first, deadline) => {}
            second = signals.next_stop() => tracing::warn!(signal = %second, "a second signal: ending at once"),
        }
        self.workers.stop();
        Ok(0)
    }

    async fn wind_down(&self, first: Signal, deadline: Instant) {
        self.drain_inbound(first, deadline).await;
        // Asked to end politely, the sidecar stays for its app's own calls until the app has ended too. Ctrl-C on a
        // terminal means both at once.
        if let (Some(app), Signal::SIGTERM) = (&self.config.app, first) {
            until_app_ends(app, &self.metrics, deadline).await;
        }
        until_none(&self.outbound_calls, deadline).await;
    }

    /// In wrapper mode: starts the app once everything is ready, and ends with it.
    pub async fn run_wrapper(self, told: wrapper::Told, mut follower: Follower) -> io::Result<u8> {
        let mut signals = Signals::new()?;
        let known = follower.loaded.wait_for(|loaded| *loaded);
        if tokio::time::timeout(self.config.timeouts.first_answer, known).await.is_err() {
            tracing::warn!("the registry has not answered yet; the app is started all the same");
        }
        let mut child = wrapper::spawn(&self.config.command, told).map_err(io::Error::other)?;
        tracing::info!(pid = child.id(), "the app is started");
        let first = loop {
            tokio::select! {
                ended = child.wait() => {
                    let code = ended?;
                    tracing::info!(code, "the app has ended");
                    self.metrics.draining.set(1);
                    let goodbye = async { tokio::join!(self.workers.drain(), leave(&*self.source)) };
                    // In time or not: the app is gone, and the lease lapses by itself.
                    let _ = tokio::time::timeout(AFTER_APP, goodbye).await;
                    self.workers.stop();
                    return Ok(code);
                }
                signal = signals.next() => {
                    if is_stop(signal) {
                        break signal;
                    }
                    self.pass_on(&child, signal);
                }
            }
        };
        let deadline = Instant::now() + self.config.timeouts.drain;
        // Inbound calls finish first; then the app is told, and its own calls work until it has ended.
        tokio::select! {
            () = self.drain_inbound(first, deadline) => {}
            second = signals.next_stop() => tracing::warn!(signal = %second, "a second signal: the app is told at once"),
        }
        self.pass_on(&child, first);
        let deadline = deadline.max(Instant::now() + APP_GRACE);
        let code = loop {
            tokio::select! {
                ended = child.wait() => break ended?,
                signal = signals.next() => self.pass_on(&child, signal),
                () = tokio::time::sleep_until(deadline) => {
                    tracing::warn!("the app has not ended within timeouts.drain: killed");
                    self.pass_on(&child, Signal::SIGKILL);
                    break child.wait().await?;
                }
            }
        };
        self.workers.stop();
        Ok(code)
    }

    fn pass_on(&self, child: &wrapper::Child, signal: Signal) {
        if let Err(error) = child.signal(signal) {
            tracing::warn!(%signal, %error, "the app could not be signalled");
        }
    }

    async fn drain_inbound(&self, signal: Signal, deadline: Instant) {
        tracing::info!(%signal, "draining");
        self.metrics.draining.set(1);
        self.readiness.set("draining", Err("the sidecar is shutting down".into()));
        let (all, ()) = tokio::join!(
            async {
                self.workers.drain().await;
                until_none(&self.inbound_calls, deadline).await
                    && tokio::time::timeout_at(deadline, self.workers.settle()).await.is_ok()
            },
            leave(&*self.source)
        );
        if !all {
            tracing::warn!("calls from peers were cut at timeouts.drain");
        }
    }
}

fn is_stop(signal: Signal) -> bool {
    matches!(signal, Signal::SIGTERM | Signal::SIGINT)
}

/// The signals that are handled.
struct Signals {
    queue: mpsc::UnboundedReceiver<Signal>,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        let (sender, queue) = mpsc::unbounded_channel();
        for (kind, name) in [
            (SignalKind::terminate(), Signal::SIGTERM),
            (SignalKind::interrupt(), Signal::SIGINT),
            (SignalKind::hangup(), Signal::SIGHUP),
            (SignalKind::user_defined1(), Signal::SIGUSR1),
            (SignalKind::user_defined2(), Signal::SIGUSR2),
        ] {
            let mut stream = signal(kind)?;
            let sender = sender.clone();
            spawn_local(async move {
                while stream.recv().await.is_some() {
                    if sender.send(name).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Signals { queue })
    }

    async fn next(&mut self) -> Signal {
        match self.queue.recv().await {
            Some(signal) => signal,
            // The senders live as long as the runtime.
            None => std::future::pending().await,
        }
    }

    async fn next_stop(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if is_stop(signal) {
                return signal;
            }
        }
    }
}
