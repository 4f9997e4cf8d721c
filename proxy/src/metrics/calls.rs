//! The metrics of calls: one set of handles per (direction, service, peer), and the bound on how many sets there are.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::methods::{Families, Methods};
use super::{Direction, MAX_SERIES, OTHER, Outcome, families::Maker};

/// Upper bounds of the duration buckets, in seconds: from 100 µs, a fast local answer, to 60 s, the default timeout.
pub(super) const DURATION_BUCKETS_SECONDS: [f64; 18] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

const LABELS: &[&str] = &["direction", "service", "peer"];

/// Owner of all label sets of call metrics.
pub(super) struct Calls {
    total: IntCounterVec,
    duration: HistogramVec,
    in_flight: IntGaugeVec,
    body: IntCounterVec,
    methods: Arc<Families>,
    /// At most [`MAX_SERIES`] entries, besides the `other` set of each direction, which is not in here.
    known: Mutex<HashMap<Direction, Known>>,
}

/// The sets of one direction: service → peer → handles. Two levels so that a lookup allocates nothing.
#[derive(Default)]
struct Known {
    sets: usize,
    by_service: HashMap<Box<str>, OfService>,
}

/// The sets of one service, and its methods, which all peers call.
struct OfService {
    methods: Arc<Methods>,
    by_peer: HashMap<Box<str>, CallMetrics>,
}

impl Calls {
    pub(super) fn new(make: &mut Maker) -> Self {
        Self {
            total: make.counters(
                "pillion_calls_total",
                "Calls that ended, by how they ended.",
                &["direction", "service", "peer", "outcome"],
            ),
            duration: make.histograms(
                "pillion_call_duration_seconds",
                "Time from the request's head to the end of the answer.",
                LABELS,
                &DURATION_BUCKETS_SECONDS,
            ),
            in_flight: make.gauges("pillion_calls_in_flight", "Calls begun and not ended.", LABELS),
            body: make.counters(
                "pillion_call_body_bytes_total",
                "Body bytes of ended calls: of requests and of responses.",
                &["direction", "service", "peer", "body"],
            ),
            methods: Families::new(make),
            known: Mutex::default(),
        }
    }

    pub(super) fn resolve(&self, direction: Direction, service: &str, peer: &str) -> CallMetrics {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let sets: usize = known.values().map(|known| known.sets).sum();
        let known = known.entry(direction).or_default();
        if let Some(found) = known.by_service.get(service).and_then(|of_service| of_service.by_peer.get(peer)) {
            return found.clone();
        }
        if sets >= MAX_SERIES {
            return self.create(direction, OTHER, OTHER, &Methods::new(&self.methods, direction, OTHER));
        }
        known.sets += 1;
        let of_service = known.by_service.entry(service.into()).or_insert_with(|| OfService {
            methods: Methods::new(&self.methods, direction, service),
            by_peer: HashMap::new(),
        });
        let created = self.create(direction, service, peer, &of_service.methods);
        of_service.by_peer.insert(peer.into(), created.clone());
        created
    }

    fn create(&self, direction: Direction, service: &str, peer: &str, methods: &Arc<Methods>) -> CallMetrics {
        let set = [direction.as_str(), service, peer];
        let [direction, service, peer] = set;
        CallMetrics(Arc::new(Handles {
            outcomes: Outcome::ALL
                .map(|outcome| self.total.with_label_values(&[direction, service, peer, outcome.as_str()])),
            duration: self.duration.with_label_values(&set),
            in_flight: self.in_flight.with_label_values(&set),
            request_body: self.body.with_label_values(&[direction, service, peer, "request"]),
            response_body: self.body.with_label_values(&[direction, service, peer, "response"]),
            methods: Arc::clone(methods),
        }))
    }
}

/// The metrics of one (direction, service, peer): resolved once, kept, cheap to clone, no lookup and no lock on use.
#[derive(Debug, Clone)]
pub struct CallMetrics(Arc<Handles>);

#[derive(Debug)]
struct Handles {
    outcomes: [IntCounter; Outcome::COUNT],
    duration: Histogram,
    in_flight: IntGauge,
    request_body: IntCounter,
    response_body: IntCounter,
    methods: Arc<Methods>,
}

impl CallMetrics {
    /// A call begins: it is in flight until the guard is dropped.
    #[must_use]
    pub fn started(&self) -> InFlight {
        Held::new(&self.0.in_flight)
    }

    /// A call ended like this after so many seconds. Once a call.
    pub fn finished(&self, outcome: Outcome, seconds: f64) {
        self.0.outcomes[outcome as usize].inc();
        self.0.duration.observe(seconds);
    }

    /// A call of the procedure `method` ended; besides [`CallMetrics::finished`]. `exists`: the service has such a procedure.
    pub fn method_finished(&self, method: &[u8], exists: bool, outcome: Outcome, seconds: f64) {
        self.0.methods.finished(method, exists, outcome, seconds);
    }

    /// Body bytes of an ended call: `sent` of its request, `received` of its response, whichever side we are.
    pub fn body_bytes(&self, sent: u64, received: u64) {
        self.0.request_body.inc_by(sent);
        self.0.response_body.inc_by(received);
    }
}

/// One more in a gauge as long as this lives.
#[derive(Debug)]
pub struct Held(IntGauge);

/// The guard of a call in flight.
pub type InFlight = Held;

impl Held {
    /// Counts one up now, and down on drop.
    #[must_use]
    pub fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
