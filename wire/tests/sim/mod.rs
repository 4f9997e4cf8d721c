//! The world of the pair simulation.
#![allow(unreachable_pub, reason = "a module of a test binary")]

mod apps;
mod link;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use wire::*;

use apps::{ClientApp, ServerApp};
use link::Link;

/// What a run is to be like.
#[derive(Clone, Debug)]
pub struct Plan {
    pub calls: usize,
    pub cut_at_millis: Option<u64>,
    pub drain_at_millis: Option<u64>,
    /// Calls that the client gives up at some time.
    pub cancel_percent: u32,
    /// Bodies whose reader pauses for long.
    pub stall_percent: u32,
    /// Bodies that are large.
    pub bulk_percent: u32,
    pub memory_budget: usize,
    pub send_budget: usize,
    pub concurrent: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            calls: 50,
            cut_at_millis: None,
            drain_at_millis: None,
            cancel_percent: 10,
            stall_percent: 10,
            bulk_percent: 30,
            memory_budget: limits::MEMORY_BUDGET_BYTES,
            send_budget: limits::SEND_BUDGET_BYTES,
            concurrent: 64,
        }
    }
}

/// No run needs that much virtual time.
const END_OF_TIME: Duration = Duration::from_secs(1_200);

pub struct World {
    plan: Plan,
    rng: fastrand::Rng,
    start: Instant,
    now: Instant,
    client: End,
    server: End,
    client_app: ClientApp,
    server_app: ServerApp,
    cut: bool,
    drained: bool,
    steps: u64,
}

/// A connection, its input buffer, and the link that leads away from it.
struct End {
    connection: Connection,
    input: BytesMut,
    link: Link,
}

impl End {
    /// In the one way or in the other, to see both.
    fn receive(&mut self, now: Instant, from: &mut Link, slices: bool) {
        self.connection.handle_timeout(now);
        from.deliver(now, &mut self.input);
        if slices {
            self.connection.handle_slice(now, &self.input);
            self.input.clear();
        } else if !self.input.is_empty() {
            self.connection.handle_input(now, &mut self.input);
        }
    }
}

impl World {
    pub fn new(plan: Plan, mut rng: fastrand::Rng) -> Self {
        let start = Instant::now();
        let config = |rng: &mut fastrand::Rng| Config {
            memory_budget: plan.memory_budget,
            send_budget: plan.send_budget,
            max_concurrent: plan.concurrent,
            dictionary_bytes: *rng.choice(&[0, 300, 4_096, 8_192]).expect("a choice"),
            ..Config::default()
        };
        let mut side = |side| End {
            connection: Connection::new(side, config(&mut rng), start),
            input: BytesMut::new(),
            link: Link::new(&mut rng),
        };
        let (client, server) = (side(Side::Client), side(Side::Server));
        let client_app = ClientApp::new(&plan, &mut rng, start);
        let server_app = ServerApp::new(&plan);
        Self {
            plan,
            rng,
            start,
            now: start,
            client,
            server,
            client_app,
            server_app,
            cut: false,
            drained: false,
            steps: 0,
        }
    }

    /// Until every call has ended, and then some.
    pub fn run(mut self) {
        loop {
            self.step();
            let drained = self.plan.drain_at_millis.is_none()
                || (self.client.connection.is_closed() && self.server.connection.is_closed());
            if self.client_app.is_done() && self.quiet() && drained {
                break;
            }
            let Some(next) = self.next_time() else { break };
            assert!(next - self.start < END_OF_TIME, "stuck: {}", self.client_app.describe());
            self.now = next.max(self.now);
        }
        self.finish();
    }

    fn step(&mut self) {
        self.scheduled();
        let now = self.now;
        self.client.receive(now, &mut self.server.link, false);
        self.server.receive(now, &mut self.client.link, true);
        let looks = self.rng.u8(0..4) > 0;
        self.client_app.turn(now, &mut self.client.connection, &mut self.rng, &self.server_app, looks);
        self.server_app.turn(now, &mut self.server.connection, &mut self.rng);
        if !self.cut {
            for side in [&mut self.client, &mut self.server] {
                side.link.transmit(now, &mut side.connection, &mut self.rng);
            }
        }
        // Sending makes room, and events of it.
        self.client_app.turn(now, &mut self.client.connection, &mut self.rng, &self.server_app, true);
        self.server_app.turn(now, &mut self.server.connection, &mut self.rng);
        self.steps += 1;
        if !self.steps.is_multiple_of(8) {
            return;
        }
        let budget = self.plan.memory_budget as u64 + limits::FLIGHT_BULK_BYTES;
        for side in [&self.client, &self.server] {
            let audit = side.connection.audit();
            assert!(audit.in_flight <= limits::FLIGHT_BULK_BYTES);
            assert!(audit.unconsumed as u64 <= budget);
        }
    }

    /// The cut and the drain, each at its time.
    fn scheduled(&mut self) {
        let passed = self.now - self.start;
        if let Some(at) = self.plan.cut_at_millis
            && !self.cut
            && passed >= Duration::from_millis(at)
        {
            self.cut = true;
            for side in [&mut self.client, &mut self.server] {
                side.link.cut(&mut self.rng);
            }
        }
        if self.cut {
            // What was under way at the cut may still arrive, in part; then comes the end.
            let now = self.now;
            let (client_ends, server_ends) = (self.server.link.is_empty(), self.client.link.is_empty());
            if client_ends {
                self.client.connection.handle_transport_closed(now);
            }
            if server_ends {
                self.server.connection.handle_transport_closed(now);
            }
        }
        if let Some(at) = self.plan.drain_at_millis
            && !self.drained
            && passed >= Duration::from_millis(at)
        {
            self.drained = true;
            self.server.connection.drain();
        }
        if self.drained && self.server.connection.is_drained() && self.server.connection.peer_hello().is_some() {
            self.server.connection.goodbye(CloseReason::Finished);
        }
    }

    fn next_time(&self) -> Option<Instant> {
        let passed = |millis: Option<u64>, done: bool| {
            millis.filter(|_| !done).map(|millis| self.start + Duration::from_millis(millis))
        };
        [
            self.client.connection.poll_timeout(),
            self.server.connection.poll_timeout(),
            self.client.link.next(),
            self.server.link.next(),
            self.client_app.next(),
            self.server_app.next(),
            passed(self.plan.cut_at_millis, self.cut),
            passed(self.plan.drain_at_millis, self.drained),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn quiet(&self) -> bool {
        [&self.client, &self.server].iter().all(|side| side.link.is_empty() && !side.connection.wants_transmit())
            && (self.server_app.is_idle() || self.server.connection.is_closed())
    }

    fn finish(self) {
        self.client_app.check_end(&self.server_app);
        let (client, server) = (&self.client.connection, &self.server.connection);
        assert_eq!(client.live_streams(), 0);
        assert_eq!(server.live_streams(), 0);
        if self.plan.drain_at_millis.is_some() {
            assert!(client.is_closed() && server.is_closed(), "the drain did not end");
        } else if !self.cut {
            let (client, server) = (client.audit(), server.audit());
            // Nothing is under way: what one side holds back is all that the other lacks.
            assert_eq!(client.in_flight, server.unreturned);
            assert_eq!(server.in_flight, client.unreturned);
            assert!(client.unreturned < limits::FLIGHT_RETURN_BYTES);
            assert!(server.unreturned < limits::FLIGHT_RETURN_BYTES);
            assert_eq!((client.unconsumed, server.unconsumed), (0, 0));
            assert_eq!((client.windows, server.windows), (0, 0));
        }
    }
}
