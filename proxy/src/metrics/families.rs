//! Creation of metrics: each is registered and written into the list that docs/metrics.md is held against.

use prometheus::{
    Counter, CounterVec, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector,
};

/// One metric: name, type, labels, help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// Full name, with the unit in it.
    pub name: &'static str,
    /// Its type.
    pub kind: FamilyKind,
    /// The help text.
    pub help: &'static str,
    /// Label names, in order.
    pub labels: &'static [&'static str],
}

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by bucket, with sum and count.
    Histogram,
}

impl FamilyKind {
    /// The word of the Prometheus text format.
    #[cfg(test)]
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Registers metrics and remembers what it registered.
pub(super) struct Maker {
    pub(super) registry: Registry,
    pub(super) families: Vec<Family>,
}

/// Why the `expect`s below cannot fail: names, labels and buckets are constants, each registered once in
/// `Metrics::new`, which every test of this module runs.
const CONSTANT: &str = "constant metric definitions are valid and distinct";

impl Maker {
    pub(super) fn new() -> Self {
        Self { registry: Registry::new(), families: Vec::new() }
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &'static str) -> IntCounter {
        let metric = IntCounter::new(name, help).expect(CONSTANT);
        self.add(FamilyKind::Counter, name, help, &[], &metric)
    }

    pub(super) fn float_counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        let metric = Counter::new(name, help).expect(CONSTANT);
        self.add(FamilyKind::Counter, name, help, &[], &metric)
    }

    pub(super) fn counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> IntCounterVec {
        let metric = IntCounterVec::new(Opts::new(name, help), labels).expect(CONSTANT);
        self.add(FamilyKind::Counter, name, help, labels, &metric)
    }

    pub(super) fn float_counters(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> CounterVec {
        let metric = CounterVec::new(Opts::new(name, help), labels).expect(CONSTANT);
        self.add(FamilyKind::Counter, name, help, labels, &metric)
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &'static str) -> IntGauge {
        let metric = IntGauge::new(name, help).expect(CONSTANT);
        self.add(FamilyKind::Gauge, name, help, &[], &metric)
    }

    pub(super) fn float_gauge(&mut self, name: &'static str, help: &'static str) -> Gauge {
        let metric = Gauge::new(name, help).expect(CONSTANT);
        self.add(FamilyKind::Gauge, name, help, &[], &metric)
    }

    pub(super) fn gauges(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> IntGaugeVec {
        let metric = IntGaugeVec::new(Opts::new(name, help), labels).expect(CONSTANT);
        self.add(FamilyKind::Gauge, name, help, labels, &metric)
    }

    pub(super) fn histograms(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        buckets: &[f64],
    ) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let metric = HistogramVec::new(options, labels).expect(CONSTANT);
        self.add(FamilyKind::Histogram, name, help, labels, &metric)
    }

    fn add<M: Collector + Clone + 'static>(
        &mut self,
        kind: FamilyKind,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        metric: &M,
    ) -> M {
        self.registry.register(Box::new(metric.clone())).expect(CONSTANT);
        self.families.push(Family { name, kind, help, labels });
        metric.clone()
    }
}
