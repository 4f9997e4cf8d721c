//! Choosing one endpoint of many: the [`Balancer`] trait, one algorithm a file, and what all of them look at.

mod endpoint;
mod p2c;

pub use endpoint::{EndpointState, InFlight};

use std::fmt;
use std::sync::Arc;

/// An algorithm that chooses among the endpoints of one set. Pure: time and randomness are arguments.
pub trait Balancer: fmt::Debug + Send + Sync {
    /// Chooses an endpoint that `usable` admits, or `None` if there is no such one. `random` is 64 fresh random bits,
    /// `now_micros` the time of [`crate::clock`].
    fn pick<'a>(
        &self,
        endpoints: &'a [Arc<EndpointState>],
        usable: &dyn Fn(&EndpointState) -> bool,
        now_micros: u64,
        random: u64,
    ) -> Option<&'a Arc<EndpointState>>;
}

/// Every algorithm with its name; the first is the default. Property tests run over all of them.
const ALL: &[(&str, &dyn Balancer)] = &[("p2c", &p2c::P2c)];

/// The default: the power of two choices.
pub fn default() -> &'static dyn Balancer {
    ALL[0].1
}

/// Picks for a call: an endpoint that is healthy and was not tried yet; failing that one that was not tried; failing
/// that any. With every endpoint ejected, trying one is better than refusing all.
pub fn pick<'a>(
    balancer: &dyn Balancer,
    endpoints: &'a [Arc<EndpointState>],
    tried: Option<&EndpointState>,
    now_micros: u64,
    mut random: impl FnMut() -> u64,
) -> Option<&'a Arc<EndpointState>> {
    let fresh = |endpoint: &EndpointState| tried.is_none_or(|tried| tried.uid != endpoint.uid);
    balancer
        .pick(endpoints, &|endpoint| fresh(endpoint) && endpoint.is_available(now_micros), now_micros, random())
        .or_else(|| balancer.pick(endpoints, &fresh, now_micros, random()))
        .or_else(|| balancer.pick(endpoints, &|_| true, now_micros, random()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoints(count: usize) -> Vec<Arc<EndpointState>> {
        (0..count).map(|n| EndpointState::for_tests(n as u16 + 1)).collect()
    }

    proptest! {
        #[test]
        fn no_balancer_picks_what_is_not_usable(count in 0usize..20, mask in any::<u32>(), random in any::<u64>()) {
            let endpoints = endpoints(count);
            let usable = |endpoint: &EndpointState| mask & (1 << endpoint.address().port()) != 0;
            for (name, balancer) in ALL {
                let picked = balancer.pick(&endpoints, &usable, 0, random);
                prop_assert_eq!(picked.is_some(), endpoints.iter().any(|e| usable(e)), "{}", name);
                if let Some(picked) = picked {
                    prop_assert!(usable(picked), "{}", name);
                }
            }
        }
    }

    #[test]
    fn a_retry_goes_elsewhere_when_there_is_an_elsewhere() {
        let two = endpoints(2);
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..100 {
            let picked = pick(default(), &two, Some(&two[0]), 0, || rng.u64(..)).unwrap();
            assert_eq!(picked.uid, two[1].uid);
        }
        let one = &two[..1];
        assert_eq!(pick(default(), one, Some(&one[0]), 0, || 7).unwrap().uid, one[0].uid);
    }

    #[test]
    fn an_ejected_endpoint_is_avoided_until_all_are_ejected() {
        let two = endpoints(2);
        two[0].failed(1_000, 0);
        let mut rng = fastrand::Rng::with_seed(2);
        for _ in 0..100 {
            assert_eq!(pick(default(), &two, None, 1_001, || rng.u64(..)).unwrap().uid, two[1].uid);
        }
        two[1].failed(1_000, 0);
        assert!(pick(default(), &two, None, 1_001, || rng.u64(..)).is_some());
    }

    #[test]
    fn equal_endpoints_get_equal_shares_in_spite_of_noise_in_their_latency() {
        let five = endpoints(5);
        let mut rng = fastrand::Rng::with_seed(3);
        let mut counts = [0u32; 5];
        let mut now = 0;
        for _ in 0..50_000 {
            let picked = pick(default(), &five, None, now, || rng.u64(..)).unwrap();
            now += 100;
            // Up to ±20 % of noise, and a lasting 10 % difference between the machines.
            let latency = 900 + 20 * u64::from(picked.address().port()) + rng.u64(0..300);
            picked.answered(now, latency);
            counts[usize::from(picked.address().port()) - 1] += 1;
        }
        for count in counts {
            assert!((8_000..12_000).contains(&count), "{counts:?}");
        }
    }

    #[test]
    fn a_slow_endpoint_gets_less() {
        let two = endpoints(2);
        let mut rng = fastrand::Rng::with_seed(4);
        let mut slow = 0;
        for step in 0..10_000 {
            let picked = pick(default(), &two, None, step * 100, || rng.u64(..)).unwrap();
            let is_slow = picked.address().port() == 1;
            slow += u32::from(is_slow);
            picked.answered(step * 100, if is_slow { 20_000 } else { 1_000 });
        }
        assert!(slow < 1_000, "{slow} of 10,000 went to the slow one");
        assert!(slow > 0, "the slow one is never tried again");
    }

    #[test]
    fn an_endpoint_that_was_slow_once_is_tried_again() {
        let three = endpoints(3);
        let mut rng = fastrand::Rng::with_seed(6);
        for endpoint in &three {
            endpoint.answered(0, if endpoint.address().port() == 1 { 50_000 } else { 500 });
        }
        let mut counts = [0u32; 3];
        for step in 1..=100_000u64 {
            let now = step * 1_000;
            let picked = pick(default(), &three, None, now, || rng.u64(..)).unwrap();
            picked.answered(now, 500);
            counts[usize::from(picked.address().port()) - 1] += 1;
        }
        assert!(counts.iter().all(|count| *count > 26_000), "{counts:?}");
    }

    #[test]
    fn the_less_loaded_endpoint_wins() {
        let two = endpoints(2);
        let _held: Vec<InFlight> = (0..10).map(|_| InFlight::start(&two[0])).collect();
        let mut rng = fastrand::Rng::with_seed(5);
        for _ in 0..100 {
            assert_eq!(pick(default(), &two, None, 0, || rng.u64(..)).unwrap().uid, two[1].uid);
        }
    }
}
