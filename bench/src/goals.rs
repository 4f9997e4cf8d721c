//! Whether what was measured is what was meant to be reached.

use crate::measure::Outcome;
use crate::workloads::{Better, Goal, Times};
use serde::Serialize;

/// A goal and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Judged {
    /// The goal in words.
    pub(crate) text: String,
    /// The value in the goal's terms: a ratio, or the metric itself.
    pub(crate) value: Option<f64>,
    pub(crate) verdict: Verdict,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) enum Verdict {
    Reached,
    NotReached,
    /// Ours has no such value.
    NotOffered,
    /// What the goal compares with was left out of the run.
    NotCompared,
}

pub(crate) fn judge(outcomes: &[Outcome]) -> Vec<Judged> {
    outcomes.iter().flat_map(|outcome| outcome.workload.goals.iter().map(move |goal| one(outcome, goal))).collect()
}

fn one(outcome: &Outcome, goal: &Goal) -> Judged {
    let offered = outcome.pair("pillion").is_some_and(|pair| pair.values(goal.metric).is_some());
    let value = value(outcome, goal);
    let (sign, reached) = match goal.metric.better {
        Better::Lower => ("≤", value.map(|value| value <= goal.limit)),
        Better::Higher => ("≥", value.map(|value| value >= goal.limit)),
    };
    let verdict = match reached {
        Some(true) => Verdict::Reached,
        Some(false) => Verdict::NotReached,
        None if offered => Verdict::NotCompared,
        None => Verdict::NotOffered,
    };
    let times = match goal.times {
        Times::One => String::new(),
        Times::Peer(name) => format!(" × {name}"),
        Times::BestPeer => " × the best peer".to_owned(),
        Times::Own(other) => format!(" × {}", other.name),
    };
    let text = format!("({}) {} {sign} {}{times}", outcome.workload.letter, goal.metric.name, goal.limit);
    Judged { text, value, verdict }
}

fn value(outcome: &Outcome, goal: &Goal) -> Option<f64> {
    let ours = outcome.pair("pillion")?;
    let divisor = match goal.times {
        Times::One => 1.0,
        Times::Peer(name) => outcome.pair(name)?.median(goal.metric)?,
        Times::BestPeer => outcome.best_peer(goal.metric)?,
        Times::Own(other) => ours.median(other)?,
    };
    Some(ours.median(goal.metric)? / divisor)
}
