//! One pick, by the default algorithm, among endpoints that have all answered lately.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use counts::TIMES;
use gungraun::prelude::*;
use pillion::parts::{EndpointState, default_balancer};
use registry::{Endpoint, EndpointKey, InstanceId};

const NOW_MICROS: u64 = 1_000_000;

#[library_benchmark(setup = endpoints)]
#[bench::of_1(1)]
#[bench::of_3(3)]
#[bench::of_100(100)]
#[bench::of_10000(10_000)]
fn pick(endpoints: Vec<Arc<EndpointState>>) -> Vec<Arc<EndpointState>> {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..TIMES {
        let picked = pillion::parts::pick(default_balancer(), &endpoints, None, NOW_MICROS, || random.u64(..));
        black_box(picked);
    }
    endpoints
}

fn endpoints(count: u16) -> Vec<Arc<EndpointState>> {
    (0..count)
        .map(|number| {
            let state = EndpointState::new(u64::from(number), endpoint(number), false);
            state.answered(NOW_MICROS, 500 + 100 * u64::from(number % 7));
            state
        })
        .collect()
}

/// An instance of `payments`, another one for each number.
pub fn endpoint(number: u16) -> Endpoint {
    let key = EndpointKey {
        service: "payments".parse().expect("a name"),
        version: "1.0.0".parse().expect("a version"),
        address: (Ipv4Addr::new(10, 0, 0, 1), 10_000 + number).into(),
    };
    Endpoint::new(key, InstanceId::generate())
}

library_benchmark_group!(name = balancer, benchmarks = [pick]);
