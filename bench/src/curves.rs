//! How cost and memory grow with connections, endpoints, services, headers, bodies and workers.

use crate::Result;
use crate::load::{Callers, Request};
use crate::measure::{Plan, median};
use crate::peers::{Peer, pillion};
use crate::plot::{Panel, Picture};
use crate::report::digits;
use crate::site::{Pair, Site};
use crate::workloads::WARM_UP;
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

const MANY: usize = 64;

/// What is varied, and how far.
#[derive(Debug)]
struct Axis {
    /// Also the file's name.
    name: &'static str,
    title: &'static str,
    label: &'static str,
    in_bytes: bool,
    values: &'static [usize],
    /// Whose cost and memory is shown.
    sides: Sides,
    peers: &'static [&'static str],
    /// Nothing: the peer refuses such calls.
    measure: fn(&Peer, &Site, usize, Duration) -> Result<Option<Point>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sides {
    /// A and B together.
    Both,
    /// A alone.
    Caller,
}

/// What one measurement gave, of A and of B.
#[derive(Debug, Clone, Copy)]
struct Point {
    cpu_us: [f64; 2],
    rss_mib: [f64; 2],
}

const BOTH: &[&str] = &["pillion", "haproxy"];

const AXES: &[Axis] = &[
    Axis {
        name: "connections",
        title: "Small GETs over more and more connections",
        label: "connections of the app",
        in_bytes: false,
        values: &[1, 10, 100, 1_000, 10_000],
        sides: Sides::Both,
        peers: BOTH,
        measure: |peer, site, connections, span| {
            let pair = if peer.is_ours() { pillion::with_calls(site, connections)? } else { peer.start(site, 1)? };
            point(&pair, connections, &[Request::small()], 0, span).map(Some)
        },
    },
    Axis {
        name: "endpoints",
        title: "Small GETs over 64 connections to a service with more and more endpoints",
        label: "endpoints of the service, each with a channel of its own",
        in_bytes: false,
        values: &[1, 10, 100, 1_000, 10_000],
        sides: Sides::Both,
        peers: &["pillion"],
        measure: |_, site, endpoints, span| {
            let pair = pillion::with_endpoints(site, endpoints)?;
            // Each endpoint is chosen by chance: ten calls for each leave none without its handshake.
            point(&pair, MANY, &[Request::small()], endpoints as u64 * 10, span).map(Some)
        },
    },
    Axis {
        name: "services",
        title: "Small GETs over 64 connections to 5 services of more and more that are registered",
        label: "services in the registry",
        in_bytes: false,
        values: &[5, 100, 1_000, 10_000],
        sides: Sides::Caller,
        peers: &["pillion"],
        measure: |_, site, services, span| {
            let fleet = pillion::with_services(site, services)?;
            point(&fleet.pair, MANY, &fleet.used, 0, span).map(Some)
        },
    },
    Axis {
        name: "headers",
        title: "Small GETs over 64 connections with larger and larger heads",
        label: "bytes of further headers",
        in_bytes: true,
        values: &[0, 64, 256, 1_024, 4_096, 16_384],
        sides: Sides::Both,
        peers: BOTH,
        measure: |peer, site, bytes, span| {
            let pair = peer.start(site, 1)?;
            match point(&pair, MANY, &[Request::with_headers(bytes)], 0, span) {
                // Larger than its buffers.
                Err(error) if error.to_string().starts_with("HTTP/1.1 4") => Ok(None),
                measured => measured.map(Some),
            }
        },
    },
    Axis {
        name: "bodies",
        title: "Echoes over 8 connections of larger and larger bodies",
        label: "bytes of the body, each way",
        in_bytes: true,
        values: &[0, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576],
        sides: Sides::Both,
        peers: BOTH,
        measure: |peer, site, bytes, span| {
            let pair = peer.start(site, 1)?;
            point(&pair, 8, &[Request::echo(bytes)], 0, span).map(Some)
        },
    },
    Axis {
        name: "workers",
        title: "Small GETs over 64 connections with more workers",
        label: "workers a side",
        in_bytes: false,
        values: &[1, 2, 3, 4],
        sides: Sides::Both,
        peers: BOTH,
        measure: |peer, site, workers, span| {
            let pair = peer.start(site, workers)?;
            point(&pair, MANY, &[Request::small()], 0, span).map(Some)
        },
    },
];

/// Warms up with at least so many calls and measures for a span.
fn point(pair: &Pair, connections: usize, requests: &[Request], calls: u64, span: Duration) -> Result<Point> {
    let mut callers = Callers::connect(pair.door, connections, requests)?;
    let mut made = callers.run(WARM_UP)?.calls;
    while made < calls {
        made += callers.run(WARM_UP)?.calls;
    }
    let (used, seen) = pair.cpu_us_of(|| callers.run(span))?;
    Ok(Point { cpu_us: used.map(|used| used / seen.calls as f64), rss_mib: pair.rss_mib()? })
}

/// What came of one axis.
#[derive(Debug, Serialize)]
pub(crate) struct Curve {
    name: &'static str,
    #[serde(skip)]
    axis: &'static Axis,
    values: &'static [usize],
    lines: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    peer: &'static str,
    /// A place for each value of the axis; a number for each repetition.
    cpu_us: Vec<Vec<f64>>,
    rss_mib: Vec<Vec<f64>>,
}

/// Measures every curve, or those named.
pub(crate) fn all(site: &Site, plan: Plan, names: &[String]) -> Result<Vec<Curve>> {
    if let Some(unknown) = names.iter().find(|name| AXES.iter().all(|axis| axis.name != **name)) {
        let known: Vec<&str> = AXES.iter().map(|axis| axis.name).collect();
        return Err(format!("no curve {unknown}: {}", known.join(", ")).into());
    }
    let wanted = |axis: &&Axis| names.is_empty() || names.iter().any(|name| name == axis.name);
    AXES.iter().filter(wanted).map(|axis| one(site, plan, axis)).collect()
}

fn one(site: &Site, plan: Plan, axis: &'static Axis) -> Result<Curve> {
    let peers = axis.peers.iter().map(|name| Peer::named(name)).collect::<Result<Vec<_>>>()?;
    let none = || vec![Vec::new(); axis.values.len()];
    let mut lines: Vec<Line> =
        peers.iter().map(|peer| Line { peer: peer.name, cpu_us: none(), rss_mib: none() }).collect();
    for repetition in 1..=plan.repetitions {
        for (place, value) in axis.values.iter().enumerate() {
            eprintln!("bench: {value} {}, repetition {repetition} of {}", axis.label, plan.repetitions);
            for (peer, line) in peers.iter().zip(&mut lines) {
                let measured = (axis.measure)(peer, site, *value, plan.span)
                    .map_err(|error| format!("{value} {} through {}: {error}", axis.label, peer.name))?;
                if let Some(point) = measured {
                    line.cpu_us[place].push(axis.sides.of(point.cpu_us));
                    line.rss_mib[place].push(axis.sides.of(point.rss_mib));
                }
            }
        }
    }
    Ok(Curve { name: axis.name, axis, values: axis.values, lines })
}

impl Sides {
    fn of(self, [a, b]: [f64; 2]) -> f64 {
        match self {
            Sides::Both => a + b,
            Sides::Caller => a,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Sides::Both => "A + B",
            Sides::Caller => "A",
        }
    }
}

impl Curve {
    /// A row a value, and a column for cost and one for memory of each peer.
    pub(crate) fn table(&self) -> String {
        let sides = self.axis.sides.name();
        let mut text = format!("\n**{}**\n\n![{}](bench/{}.svg)\n\n", self.axis.title, self.axis.title, self.name);
        let columns: Vec<String> = self
            .lines
            .iter()
            .map(|line| format!("{0}: CPU µs a call, {sides} | {0}: RSS MiB, {sides}", line.peer))
            .collect();
        let _ = writeln!(text, "| {} | {} |", self.axis.label, columns.join(" | "));
        let _ = writeln!(text, "| ---: |{}", " ---: |".repeat(2 * self.lines.len()));
        for (place, value) in self.values.iter().enumerate() {
            let cells: Vec<String> = self
                .lines
                .iter()
                .flat_map(|line| [&line.cpu_us[place], &line.rss_mib[place]])
                .map(|values| if values.is_empty() { "refused".to_owned() } else { shown(median(values)) })
                .collect();
            let _ = writeln!(text, "| {} | {} |", self.axis.shown(*value), cells.join(" | "));
        }
        text
    }

    /// Writes `NAME.svg`.
    pub(crate) fn plot(&self, dir: &Path) -> Result<()> {
        let sides = self.axis.sides.name();
        let (cpu, rss) = (format!("CPU µs a call, {sides}"), format!("RSS MiB, {sides}"));
        let picture = Picture {
            title: self.axis.title,
            x_label: self.axis.label,
            x_ticks: self.values.iter().map(|value| (*value as f64, self.axis.shown(*value))).collect(),
            panels: vec![
                Panel { y_label: &cpu, lines: self.points(|line| &line.cpu_us) },
                Panel { y_label: &rss, lines: self.points(|line| &line.rss_mib) },
            ],
        };
        std::fs::create_dir_all(dir)?;
        Ok(std::fs::write(dir.join(format!("{}.svg", self.name)), picture.svg())?)
    }

    fn points(&self, of: fn(&Line) -> &Vec<Vec<f64>>) -> Vec<(&str, Vec<(f64, f64)>)> {
        let points = |line| {
            let measured = self.values.iter().zip(of(line)).filter(|(_, values)| !values.is_empty());
            measured.map(|(x, values)| (*x as f64, median(values))).collect()
        };
        self.lines.iter().map(|line| (line.peer, points(line))).collect()
    }
}

impl Axis {
    fn shown(&self, value: usize) -> String {
        match value {
            _ if self.in_bytes && value >= 1 << 20 => format!("{} MiB", value >> 20),
            _ if self.in_bytes && value >= 1 << 10 => format!("{} KiB", value >> 10),
            _ if value >= 1_000 => format!("{},{:03}", value / 1_000, value % 1_000),
            _ => value.to_string(),
        }
    }
}

fn shown(value: f64) -> String {
    format!("{value:.*}", digits(value))
}
