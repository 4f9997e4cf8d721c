//! The power of two random choices over load × latency.
//!
//! Two distinct endpoints are drawn and the one with the lower cost is taken (Mitzenmacher, "The Power of Two Choices in
//! Randomized Load Balancing", 2001). The cost is calls in flight + 1, times the average latency where the two latencies
//! differ by more than [`SIMILAR`] (Finagle's P2C multiplies always: then a lasting difference of a few per cent between
//! machines, or noise while nothing is in flight, sends nearly everything to one of them). Equal costs: a coin decides.

use std::sync::Arc;

use super::{Balancer, EndpointState};

/// Latencies closer than this factor count as equal. A slower endpoint within it shows by its calls in flight.
const SIMILAR: f64 = 3.0;
/// Draws before falling back to a scan, for sets in which few endpoints are usable.
const DRAWS: u32 = 4;

#[derive(Debug)]
pub(super) struct P2c;

impl Balancer for P2c {
    fn pick<'a>(
        &self,
        endpoints: &'a [Arc<EndpointState>],
        usable: &dyn Fn(&EndpointState) -> bool,
        now_micros: u64,
        random: u64,
    ) -> Option<&'a Arc<EndpointState>> {
        match endpoints {
            [] => None,
            [only] => usable(only).then_some(only),
            _ => {
                let mut bits = random;
                let first = draw(endpoints, usable, &mut bits)?;
                let other = |endpoint: &EndpointState| endpoint.uid != first.uid && usable(endpoint);
                Some(match draw(endpoints, &other, &mut bits) {
                    Some(second) => better(first, second, now_micros, bits & 1 == 0),
                    None => first,
                })
            }
        }
    }
}

/// Draws a usable endpoint: a few times at random, then from a random place onwards.
fn draw<'a>(
    endpoints: &'a [Arc<EndpointState>],
    usable: &dyn Fn(&EndpointState) -> bool,
    bits: &mut u64,
) -> Option<&'a Arc<EndpointState>> {
    let mut index = 0;
    for _ in 0..DRAWS {
        index = next_index(bits, endpoints.len());
        if usable(&endpoints[index]) {
            return Some(&endpoints[index]);
        }
    }
    let (before, after) = endpoints.split_at(index);
    after.iter().chain(before).find(|endpoint| usable(endpoint))
}

/// An index below `len`, from a xorshift step (Marsaglia 2003) and Lemire's multiplication in place of a remainder.
fn next_index(bits: &mut u64, len: usize) -> usize {
    *bits |= u64::from(*bits == 0);
    *bits ^= *bits << 13;
    *bits ^= *bits >> 7;
    *bits ^= *bits << 17;
    ((u128::from(*bits) * len as u128) >> 64) as usize
}

fn better<'a>(
    a: &'a Arc<EndpointState>,
    b: &'a Arc<EndpointState>,
    now_micros: u64,
    coin: bool,
) -> &'a Arc<EndpointState> {
    let (load_a, load_b) = (f64::from(a.in_flight() + 1), f64::from(b.in_flight() + 1));
    // An endpoint without a fresh sample is judged by its load alone: it is neither shunned for ever nor flooded.
    let (cost_a, cost_b) = match (a.fresh_latency_micros(now_micros), b.fresh_latency_micros(now_micros)) {
        (Some(one), Some(other)) if one <= other * SIMILAR && other <= one * SIMILAR => (load_a, load_b),
        (Some(latency_a), Some(latency_b)) => (load_a * latency_a, load_b * latency_b),
        _ => (load_a, load_b),
    };
    if cost_a < cost_b || (cost_a == cost_b && coin) { a } else { b }
}
