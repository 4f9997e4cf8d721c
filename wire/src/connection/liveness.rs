//! Who is there and how busy: HELLO's deadline, PING and PONG.

use std::time::{Duration, Instant};

use crate::frame::{FrameType, Reader, Violation};
use crate::limits::{LATE_TIMER, LATE_TIMER_GRACE};
use crate::{CloseReason, Config, Load, Side};

use super::outbox::{Outbox, put_frame};

#[derive(Debug)]
pub(super) struct Liveness {
    /// Silence, or on the client side simply time, after which a PING goes out.
    interval: Duration,
    timeout: Duration,
    periodic: bool,
    /// Until the HELLO came.
    hello_due: Option<Instant>,
    heard: Instant,
    /// When to look again whether a PING is due.
    check: Instant,
    ping: Option<Ping>,
    /// The sample of a PING that waits for its PONG.
    pong_due: Option<u64>,
    clock_anchor: Instant,
    clock_micros: u64,
    pub(super) load: Load,
    pub(super) peer_load: Option<Load>,
    pub(super) rtt: Option<Duration>,
    pub(super) clock_offset: Option<i64>,
}

#[derive(Debug)]
struct Ping {
    sent: Instant,
    sample: u64,
    /// The peer must have been heard by then; `None`: it was.
    due: Option<Instant>,
}

impl Liveness {
    pub(super) fn new(side: Side, config: &Config, now: Instant) -> Self {
        // The client pings at each interval, so that load and clock stay fresh. The server pings when that stops.
        let interval = match side {
            Side::Client => config.ping_interval,
            Side::Server => config.ping_interval * 3 / 2,
        };
        Self {
            interval,
            timeout: config.peer_timeout,
            periodic: side == Side::Client,
            hello_due: Some(now + config.hello_timeout),
            heard: now,
            check: now + interval,
            ping: None,
            pong_due: None,
            clock_anchor: now,
            clock_micros: 0,
            load: Load::default(),
            peer_load: None,
            rtt: None,
            clock_offset: None,
        }
    }

    pub(super) fn hello_came(&mut self, now: Instant) {
        self.hello_due = None;
        self.check = now + self.interval;
    }

    /// Any byte says that the peer lives.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
        if let Some(ping) = &mut self.ping {
            ping.due = None;
        }
    }

    pub(super) fn set_clock(&mut self, now: Instant, micros: u64) {
        self.clock_anchor = now;
        self.clock_micros = micros;
    }

    fn clock(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.clock_anchor).as_micros();
        self.clock_micros.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    pub(super) fn next_timeout(&self) -> Instant {
        if let Some(due) = self.hello_due {
            return due;
        }
        match self.ping.as_ref().and_then(|ping| ping.due) {
            Some(due) => due.min(self.check),
            None => self.check,
        }
    }

    /// Sends what is due, or says why the connection is over.
    pub(super) fn handle_timeout(&mut self, now: Instant, outbox: &mut Outbox) -> Option<CloseReason> {
        if let Some(due) = self.hello_due {
            return (now >= due).then_some(CloseReason::HelloTimeout);
        }
        if let Some(due) = self.ping.as_mut().and_then(|ping| ping.due.as_mut())
            && now >= *due
        {
            if now.duration_since(*due) < LATE_TIMER {
                return Some(CloseReason::PeerSilent);
            }
            // We stood still ourselves; the peer's bytes may be waiting to be read.
            *due = now + LATE_TIMER_GRACE;
        }
        if now >= self.check {
            let silent_until = if self.periodic { self.check } else { self.heard + self.interval };
            if now >= silent_until {
                if self.ping.as_ref().is_none_or(|ping| ping.due.is_none()) {
                    self.send_ping(now, outbox);
                }
                self.check = now + self.interval;
            } else {
                self.check = silent_until;
            }
        }
        None
    }

    fn send_ping(&mut self, now: Instant, outbox: &mut Outbox) {
        let sample = self.clock(now);
        self.ping = Some(Ping { sent: now, sample, due: Some(now + self.timeout) });
        let Load { in_flight, queued } = self.load;
        let parts = [&sample.to_be_bytes()[..], &in_flight.to_be_bytes(), &queued.to_be_bytes()];
        outbox.frame(FrameType::Ping, 0, 0, &parts);
    }

    pub(super) fn wants_pong(&self) -> bool {
        self.pong_due.is_some()
    }

    /// A PONG with the sample of the last PING; earlier ones that were not answered yet are answered by it too.
    pub(super) fn send_pong(&mut self, now: Instant, out: &mut Vec<u8>) {
        if let Some(sample) = self.pong_due.take() {
            let Load { in_flight, queued } = self.load;
            let clock = self.clock(now);
            let parts =
                [&sample.to_be_bytes()[..], &clock.to_be_bytes(), &in_flight.to_be_bytes(), &queued.to_be_bytes()];
            put_frame(out, FrameType::Pong, 0, 0, &parts);
        }
    }

    pub(super) fn on_ping(&mut self, mut payload: Reader<'_>) -> Result<(), Violation> {
        let sample = payload.u64()?;
        self.peer_load = Some(load(&mut payload)?);
        payload.end()?;
        self.pong_due = Some(sample);
        Ok(())
    }

    pub(super) fn on_pong(&mut self, now: Instant, mut payload: Reader<'_>) -> Result<(), Violation> {
        let (sample, peer_clock) = (payload.u64()?, payload.u64()?);
        self.peer_load = Some(load(&mut payload)?);
        payload.end()?;
        // Another sample is that of an earlier PING, which says nothing new.
        if let Some(ping) = self.ping.take_if(|ping| ping.sample == sample) {
            let rtt = now.saturating_duration_since(ping.sent);
            let middle = sample.saturating_add(u64::try_from(rtt.as_micros() / 2).unwrap_or(u64::MAX));
            self.clock_offset = Some(peer_clock.wrapping_sub(middle).cast_signed());
            self.rtt = Some(rtt);
        }
        Ok(())
    }
}

fn load(payload: &mut Reader<'_>) -> Result<Load, Violation> {
    Ok(Load { in_flight: payload.u32()?, queued: payload.u32()? })
}
