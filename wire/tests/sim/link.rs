//! One direction of a bad link: it delays and splits, keeps the order, and may be cut.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use wire::{Connection, Pieces, limits};

pub struct Link {
    under_way: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// What the transport buffers before it takes no more.
    capacity: usize,
    delay: Duration,
    jitter_micros: u64,
    last: Option<Instant>,
}

impl Link {
    pub fn new(rng: &mut fastrand::Rng) -> Self {
        Self {
            under_way: VecDeque::new(),
            bytes: 0,
            capacity: rng.usize(1_000..1_000_000),
            delay: Duration::from_micros(rng.u64(1..50_000)),
            jitter_micros: rng.u64(1..20_000),
            last: None,
        }
    }

    pub fn transmit(&mut self, now: Instant, from: &mut Connection, rng: &mut fastrand::Rng) {
        let mut out = Pieces::default();
        while self.bytes < self.capacity {
            let max = rng.usize(1..limits::FLUSH_BYTES);
            let promised = from.wants_transmit();
            let given = from.poll_transmit(now, &mut out, max);
            assert!(promised || !given, "bytes out of nothing");
            if !given {
                assert!(!from.wants_transmit(), "wants to transmit and does not");
                break;
            }
            self.send(now, Bytes::from(out.slices().collect::<Vec<_>>().concat()), rng);
            out.clear();
        }
    }

    fn send(&mut self, now: Instant, mut bytes: Bytes, rng: &mut fastrand::Rng) {
        while !bytes.is_empty() {
            let most = if rng.u8(0..16) == 0 { bytes.len().min(40) } else { bytes.len() };
            let part = bytes.split_to(rng.usize(1..=most));
            let at = now + self.delay + Duration::from_micros(rng.u64(0..self.jitter_micros));
            let at = self.last.map_or(at, |last| at.max(last));
            self.last = Some(at);
            self.bytes += part.len();
            self.under_way.push_back((at, part));
        }
    }

    pub fn deliver(&mut self, now: Instant, to: &mut BytesMut) {
        while self.next().is_some_and(|at| at <= now)
            && let Some((_, part)) = self.under_way.pop_front()
        {
            self.bytes -= part.len();
            to.extend_from_slice(&part);
        }
    }

    /// Some of what is under way still arrives.
    pub fn cut(&mut self, rng: &mut fastrand::Rng) {
        self.under_way.truncate(rng.usize(0..=self.under_way.len()));
        self.bytes = self.under_way.iter().map(|(_, part)| part.len()).sum();
    }

    pub fn next(&self) -> Option<Instant> {
        self.under_way.front().map(|(at, _)| *at)
    }

    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }
}
