//! The metrics of procedures: calls by the method called. Names come from callers, so there is a bound on how many get counters of
//! their own, and a name that the service does not know gets none.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use prometheus::{Counter, CounterVec, IntCounter, IntCounterVec};

use super::{Direction, OTHER, Outcome, families::Maker};

/// Methods with counters of their own, those of all services together. Whatever comes later is counted as [`OTHER`].
pub const MAX_METHODS: usize = 1_000;

/// A longer name is counted as [`OTHER`]. Bytes.
const NAME_BYTES: usize = 128;

/// Owner of all label sets by method.
#[derive(Debug)]
pub(super) struct Families {
    total: IntCounterVec,
    seconds: CounterVec,
    /// How many methods are known. Locked when one is seen for the first time, and never else.
    known: Mutex<usize>,
}

/// The methods of one (direction, service).
#[derive(Debug)]
pub(super) struct Methods {
    direction: Direction,
    service: Box<str>,
    known: ArcSwap<HashMap<Box<str>, Arc<Counters>>>,
    other: OnceLock<Counters>,
    families: Arc<Families>,
}

#[derive(Debug)]
struct Counters {
    outcomes: [IntCounter; Outcome::COUNT],
    seconds: Counter,
}

impl Families {
    pub(super) fn new(make: &mut Maker) -> Arc<Self> {
        Arc::new(Self {
            total: make.counters(
                "pillion_method_calls_total",
                "Calls of procedures that ended, by method and how they ended.",
                &["direction", "service", "method", "outcome"],
            ),
            seconds: make.float_counters(
                "pillion_method_seconds_total",
                "Time that the calls of a method took, from the request's head to the end of the answer.",
                &["direction", "service", "method"],
            ),
            known: Mutex::new(0),
        })
    }

    fn create(&self, direction: Direction, service: &str, method: &str) -> Counters {
        let direction = direction.as_str();
        Counters {
            outcomes: Outcome::ALL
                .map(|outcome| self.total.with_label_values(&[direction, service, method, outcome.as_str()])),
            seconds: self.seconds.with_label_values(&[direction, service, method]),
        }
    }
}

impl Methods {
    pub(super) fn new(families: &Arc<Families>, direction: Direction, service: &str) -> Arc<Methods> {
        Arc::new(Methods {
            direction,
            service: service.into(),
            known: ArcSwap::default(),
            other: OnceLock::new(),
            families: Arc::clone(families),
        })
    }

    /// A call of `name` ended like this after so many seconds. `exists`: the service knows such a method.
    pub(super) fn finished(&self, name: &[u8], exists: bool, outcome: Outcome, seconds: f64) {
        let name = std::str::from_utf8(name).ok().filter(|name| is_name(name));
        let known = name.and_then(|name| {
            let known = self.known.load().get(name).map(Arc::clone);
            known.or_else(|| if exists { self.add(name) } else { None })
        });
        match known {
            Some(counters) => counters.count(outcome, seconds),
            None => self
                .other
                .get_or_init(|| self.families.create(self.direction, &self.service, OTHER))
                .count(outcome, seconds),
        }
    }

    fn add(&self, name: &str) -> Option<Arc<Counters>> {
        let mut count = self.families.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known.load();
        if let Some(counters) = known.get(name) {
            // Another thread was quicker.
            return Some(Arc::clone(counters));
        }
        if *count >= MAX_METHODS || *self.service == *OTHER {
            return None;
        }
        *count += 1;
        let counters = Arc::new(self.families.create(self.direction, &self.service, name));
        let mut more = HashMap::clone(&known);
        more.insert(name.into(), Arc::clone(&counters));
        self.known.store(Arc::new(more));
        Some(counters)
    }
}

impl Counters {
    fn count(&self, outcome: Outcome, seconds: f64) {
        self.outcomes[outcome as usize].inc();
        self.seconds.inc_by(seconds);
    }
}

/// What may be a label: words that can be seen.
fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn count(metrics: &Metrics, method: &str) -> usize {
        let text = metrics.render().unwrap();
        let label = format!("method=\"{method}\"");
        text.lines().filter(|line| line.starts_with("pillion_method_calls_total") && line.contains(&label)).count()
    }

    #[test]
    fn each_method_has_counters_of_its_own_and_what_no_service_knows_has_none() {
        let metrics = Metrics::new();
        let calls = metrics.calls(Direction::Inbound, "payments", "orders");
        let others = metrics.calls(Direction::Inbound, "payments", "web");
        calls.method_finished(b"charge", true, Outcome::Ok, 0.5);
        others.method_finished(b"charge", true, Outcome::Ok, 0.25);
        others.method_finished(b"charge", false, Outcome::AppError, 0.25);
        for name in [&b"guess"[..], b"", b"no such\nname", &[b'x'; NAME_BYTES + 1], b"\xff"] {
            calls.method_finished(name, name != b"guess", Outcome::Ok, 0.0);
        }
        let text = metrics.render().unwrap();
        let of = |method: &str| format!("{{direction=\"inbound\",method=\"{method}\",");
        for (name, labels, value) in [
            ("calls_total", of("charge") + "outcome=\"ok\",service=\"payments\"}", 2.0),
            ("calls_total", of("charge") + "outcome=\"app_error\",service=\"payments\"}", 1.0),
            ("seconds_total", of("charge") + "service=\"payments\"}", 1.0),
            ("calls_total", of(OTHER) + "outcome=\"ok\",service=\"payments\"}", 5.0),
        ] {
            let line = format!("pillion_method_{name}{labels} {value}");
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
        assert_eq!(count(&metrics, "guess"), 0);
    }

    #[test]
    fn their_number_is_bounded() {
        let metrics = Metrics::new();
        for service in ["a", "b"] {
            let calls = metrics.calls(Direction::Outbound, service, "");
            for number in 0..MAX_METHODS {
                calls.method_finished(format!("m{number}").as_bytes(), true, Outcome::Ok, 0.0);
            }
        }
        assert_eq!(count(&metrics, "m0"), Outcome::COUNT, "of the first service alone");
        assert_eq!(count(&metrics, OTHER), Outcome::COUNT, "of the second");
    }
}
