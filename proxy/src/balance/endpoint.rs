//! What is known of one endpoint beyond its record: load, latency, health. It outlives snapshots, and all workers share it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use registry::Endpoint;

/// Time constant of the latency average: a sample this old weighs 1/e.
const DECAY_MICROS: f64 = 10_000_000.0;
/// A sample older than this says nothing about now.
const FRESH_MICROS: u64 = 1_000_000;
/// First pause after a failure; it doubles with each further one.
const FIRST_PAUSE_MICROS: u64 = 100_000;
/// The longest pause.
const LAST_PAUSE_MICROS: u64 = 10_000_000;

/// One endpoint, alive as long as a snapshot, a channel or a call refers to it.
#[derive(Debug)]
pub struct EndpointState {
    /// Unique in this process; never used again for another endpoint.
    pub uid: u64,
    /// The record.
    pub record: Endpoint,
    /// The registry doubts it: failed attempts are reported to discovery.
    pub suspect: bool,
    load: Arc<Load>,
}

/// The figures that are carried over when only the record's standing changes.
#[derive(Debug, Default)]
struct Load {
    in_flight: AtomicU32,
    /// Bits of an f64; 0: no sample yet.
    latency: AtomicU64,
    sampled_at: AtomicU64,
    failures: AtomicU32,
    available_at: AtomicU64,
}

impl EndpointState {
    /// An endpoint seen for the first time.
    pub fn new(uid: u64, record: Endpoint, suspect: bool) -> Arc<EndpointState> {
        Arc::new(EndpointState { uid, record, suspect, load: Arc::default() })
    }

    /// The same endpoint with another record or standing: identity, load and health stay.
    pub fn renew(&self, record: Endpoint, suspect: bool) -> Arc<EndpointState> {
        Arc::new(EndpointState { uid: self.uid, record, suspect, load: Arc::clone(&self.load) })
    }

    /// Where its sidecar listens.
    pub fn address(&self) -> SocketAddr {
        self.record.key.address
    }

    /// Calls of this process that are under way to it.
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight.load(Relaxed)
    }

    /// Exponentially weighted average of the time to the answer's head.
    pub fn latency_micros(&self) -> Option<f64> {
        match self.load.latency.load(Relaxed) {
            0 => None,
            bits => Some(f64::from_bits(bits)),
        }
    }

    /// The average, unless its last sample is older than a second: an endpoint that was slow once and is therefore not
    /// picked would never show that it has recovered.
    pub fn fresh_latency_micros(&self, now_micros: u64) -> Option<f64> {
        let sampled = self.load.sampled_at.load(Relaxed);
        self.latency_micros().filter(|_| now_micros.saturating_sub(sampled) <= FRESH_MICROS)
    }

    /// An answer came: a sample of latency, and proof of health.
    ///
    /// Workers may overwrite each other's sample now and then; an average bears that, a lock on the call path would not pay.
    pub fn answered(&self, now_micros: u64, latency_micros: u64) {
        let sample = (latency_micros.max(1)) as f64;
        let load = &*self.load;
        let average = self.fresh_latency_micros(now_micros);
        let last = load.sampled_at.swap(now_micros, Relaxed);
        let next = match average {
            // The first one, or the first after a pause: what was before says nothing about now.
            None => sample,
            Some(average) => {
                // The weight follows the time between samples, and is never less than 1/64, so that bursts register. It is
                // one step of the implicit Euler method on dv/dt = (sample - v) / decay: as good as the exponential for what
                // is estimated here, and a sidecar without `exp` needs no libm, half a megabyte of resident memory.
                let elapsed = now_micros.saturating_sub(last) as f64;
                let weight = elapsed / (elapsed + DECAY_MICROS);
                average + (sample - average) * weight.max(1.0 / 64.0)
            }
        };
        load.latency.store(next.to_bits(), Relaxed);
        if load.failures.load(Relaxed) != 0 {
            load.failures.store(0, Relaxed);
            load.available_at.store(0, Relaxed);
        }
    }

    /// When the last answer came; 0: none has.
    pub fn answered_at(&self) -> u64 {
        self.load.sampled_at.load(Relaxed)
    }

    /// It could not be reached: it pauses, longer each time. `jitter` is random bits. What failed during a pause was under
    /// way when it began: one event is one step, however many calls it hits.
    pub fn failed(&self, now_micros: u64, jitter: u64) {
        let load = &*self.load;
        if !self.is_available(now_micros) {
            return;
        }
        let failures = load.failures.fetch_add(1, Relaxed).min(16);
        let pause = FIRST_PAUSE_MICROS.saturating_mul(1 << failures).min(LAST_PAUSE_MICROS);
        // Between 3/4 and all of the pause, so that workers and sidecars do not come back together.
        let pause = pause - (jitter % (pause / 4 + 1));
        load.available_at.store(now_micros + pause, Relaxed);
    }

    /// Not pausing after failures.
    pub fn is_available(&self, now_micros: u64) -> bool {
        self.load.available_at.load(Relaxed) <= now_micros
    }

    #[cfg(test)]
    pub(super) fn for_tests(port: u16) -> Arc<EndpointState> {
        EndpointState::new(u64::from(port), record_for_tests(port), false)
    }
}

/// Counts a call on its endpoint as long as it lives.
#[derive(Debug)]
pub struct InFlight(Arc<EndpointState>);

impl InFlight {
    /// Counts one call up.
    pub fn start(endpoint: &Arc<EndpointState>) -> InFlight {
        endpoint.load.in_flight.fetch_add(1, Relaxed);
        InFlight(Arc::clone(endpoint))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.load.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
fn record_for_tests(port: u16) -> Endpoint {
    use registry::{EndpointKey, InstanceId};
    Endpoint {
        key: EndpointKey {
            service: "payments".parse().expect("a service name"),
            version: "1.0.0".parse().expect("a version"),
            address: SocketAddr::from(([10, 0, 0, 1], port)),
        },
        instance: InstanceId::generate(),
        secure: true,
        protocol: "http/1.1".into(),
        weight: 100,
        metadata: std::collections::BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_an_answer_ends_them() {
        let endpoint = EndpointState::for_tests(1);
        assert!(endpoint.is_available(0));
        let mut now = 1_000_000;
        let mut last = 0;
        for step in 0..20 {
            endpoint.failed(now, 0);
            let pause = endpoint.load.available_at.load(Relaxed) - now;
            assert!(pause >= last && pause <= LAST_PAUSE_MICROS, "step {step}: {pause}");
            last = pause;
            now += pause;
        }
        assert_eq!(last, LAST_PAUSE_MICROS);
        endpoint.answered(now, 500);
        assert!(endpoint.is_available(now));
    }

    #[test]
    fn many_calls_that_fail_at_once_are_one_step() {
        let endpoint = EndpointState::for_tests(1);
        for _ in 0..64 {
            endpoint.failed(1_000_000, 0);
        }
        assert!(endpoint.is_available(1_000_000 + FIRST_PAUSE_MICROS));
    }

    #[test]
    fn the_average_follows_and_one_sample_does_not_rule() {
        let endpoint = EndpointState::for_tests(1);
        endpoint.answered(0, 1_000);
        assert_eq!(endpoint.latency_micros(), Some(1_000.0));
        endpoint.answered(100_000, 100_000);
        assert!(endpoint.latency_micros().unwrap() <= 3_000.0);
        for step in 1..1_000 {
            endpoint.answered(100_000 + step * 100_000, 1_000);
        }
        assert!(endpoint.latency_micros().unwrap() < 1_100.0);
        endpoint.answered(1_000_000_000, 7_000);
        assert_eq!(endpoint.latency_micros(), Some(7_000.0), "after a pause the average begins anew");
    }

    #[test]
    fn a_renewed_endpoint_keeps_its_load() {
        let endpoint = EndpointState::for_tests(1);
        let held = InFlight::start(&endpoint);
        let renewed = endpoint.renew(endpoint.record.clone(), true);
        assert_eq!((renewed.in_flight(), renewed.uid, renewed.suspect), (1, endpoint.uid, true));
        drop(held);
        assert_eq!(renewed.in_flight(), 0);
    }
}
