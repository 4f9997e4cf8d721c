//! The one loop: every workload, every repetition, every pair in turn.

use crate::Result;
use crate::load::Wrk;
use crate::peers::Peer;
use crate::site::Site;
use crate::workloads::{Better, Contestant, Metric, WARM_UP, Workload};
use serde::Serialize;
use std::time::Duration;

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) repetitions: usize,
    pub(crate) span: Duration,
}

/// What came of one workload.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    #[serde(skip)]
    pub(crate) workload: &'static Workload,
    letter: char,
    what: &'static str,
    pub(crate) pairs: Vec<PairOutcome>,
}

#[derive(Debug, Serialize)]
pub(crate) struct PairOutcome {
    pub(crate) name: &'static str,
    #[serde(skip)]
    pub(crate) is_ours: bool,
    pub(crate) series: Vec<Series>,
}

/// One metric's value in each repetition.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    #[serde(skip)]
    pub(crate) metric: Metric,
    name: &'static str,
    pub(crate) values: Vec<f64>,
}

impl Outcome {
    pub(crate) fn pair(&self, name: &str) -> Option<&PairOutcome> {
        self.pairs.iter().find(|pair| pair.name == name)
    }

    /// The best median that anybody but us has.
    pub(crate) fn best_peer(&self, metric: Metric) -> Option<f64> {
        let medians = self.pairs.iter().filter(|pair| !pair.is_ours).filter_map(|pair| pair.median(metric));
        medians.reduce(match metric.better {
            Better::Lower => f64::min,
            Better::Higher => f64::max,
        })
    }

    /// All metrics of this workload, in their order.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let longest = self.pairs.iter().max_by_key(|pair| pair.series.len());
        longest.map(|pair| pair.series.iter().map(|series| series.metric).collect()).unwrap_or_default()
    }
}

impl PairOutcome {
    /// The values of a metric; none when the pair does not offer what is measured.
    pub(crate) fn values(&self, metric: Metric) -> Option<&[f64]> {
        self.series.iter().find(|series| series.metric == metric).map(|series| series.values.as_slice())
    }

    pub(crate) fn median(&self, metric: Metric) -> Option<f64> {
        self.values(metric).map(median)
    }

    fn add(&mut self, metric: Metric, value: f64) {
        match self.series.iter_mut().find(|series| series.metric == metric) {
            Some(series) => series.values.push(value),
            None => self.series.push(Series { metric, name: metric.name, values: vec![value] }),
        }
    }
}

/// Measures `workloads` through a pair of each peer.
pub(crate) fn all(site: &Site, plan: Plan, workloads: &[&'static Workload], peers: Vec<Peer>) -> Result<Vec<Outcome>> {
    let start = |peer: Peer| -> Result<Contestant> {
        let pair = peer.start(site, 1)?;
        Wrk::get(64, "/small").run(pair.door, WARM_UP)?;
        Ok(Contestant { peer, pair })
    };
    let contestants = peers.into_iter().map(start).collect::<Result<Vec<_>>>()?;
    workloads.iter().map(|workload| one(site, plan, workload, &contestants)).collect()
}

fn one(site: &Site, plan: Plan, workload: &'static Workload, contestants: &[Contestant]) -> Result<Outcome> {
    let mut pairs: Vec<PairOutcome> = contestants
        .iter()
        .map(|Contestant { peer, .. }| PairOutcome { name: peer.name, is_ours: peer.is_ours(), series: Vec::new() })
        .collect();
    for repetition in 0..plan.repetitions {
        eprintln!(
            "bench: ({}) {}, repetition {} of {}",
            workload.letter,
            workload.what,
            repetition + 1,
            plan.repetitions
        );
        // Nobody always comes after the same one.
        for turn in 0..contestants.len() {
            let whose = (turn + repetition) % contestants.len();
            let contestant = &contestants[whose];
            let values = (workload.run)(contestant, site, plan.span)
                .map_err(|error| format!("({}) through {}: {error}", workload.letter, contestant.peer.name))?;
            for (metric, value) in values {
                pairs[whose].add(metric, value);
            }
        }
    }
    Ok(Outcome { workload, letter: workload.letter, what: workload.what, pairs })
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => f64::midpoint(sorted[length / 2 - 1], sorted[length / 2]),
    }
}
