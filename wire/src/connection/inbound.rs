//! What arrives and who holds it: the connection's account of body bytes.
//!
//! Two credits bound two things. The connection's returns when bytes *arrive*, so it bounds what is under way and with it the
//! wait of a small frame behind bulk. A stream's returns when the app *took* the bytes, so it bounds memory. When streams that
//! nobody reads hold the whole budget, the connection's credit waits for the app too, so the budget holds whatever the
//! number of streams; heads and inline bodies go on.

use crate::limits::{DATA_FRAME_BYTES, FLIGHT_RETURN_BYTES, INLINE_BODY_BYTES};
use crate::{Config, Event, RequestId};

use super::hello::announced_flight;
use super::streams::{RecvState, Stream};
use super::{Connection, Phase};
use crate::frame::{FrameType, TOO_LARGE, Violation};

#[derive(Debug)]
pub(super) struct Inbound {
    /// DATA bytes that arrived and were not given back.
    pub(super) unreturned: u64,
    /// The most that may be.
    flight: u64,
    /// Delivered and not consumed, of all live streams.
    pub(super) unconsumed: usize,
    /// Windows of the live streams that ever had a DATA frame.
    pub(super) windows: usize,
    budget: usize,
    max_credit: u32,
}

impl Inbound {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            unreturned: 0,
            flight: announced_flight(config),
            unconsumed: 0,
            windows: 0,
            budget: config.memory_budget,
            max_credit: config.max_credit,
        }
    }

    /// Every DATA frame is counted here first, whatever becomes of it.
    pub(super) fn arrived(&mut self, bytes: usize) -> Result<(), Violation> {
        self.unreturned += bytes as u64;
        if self.unreturned > self.flight { Err("more DATA in flight than allowed") } else { Ok(()) }
    }

    /// Body bytes for the app.
    pub(super) fn deliver(&mut self, stream: &mut Stream, bytes: usize) -> Result<(), Violation> {
        stream.granted = stream.granted.checked_sub(bytes as u64).ok_or("DATA without credit")?;
        stream.unconsumed += bytes;
        self.unconsumed += bytes;
        if !stream.counted {
            stream.counted = true;
            self.windows += stream.window as usize;
        }
        Ok(())
    }

    /// The app took bytes. Gives the credit to be sent, if it is worth a frame.
    fn consumed(&mut self, stream: &mut Stream, bytes: usize) -> Option<u32> {
        let bytes = bytes.min(stream.unconsumed - stream.held.len());
        stream.unconsumed -= bytes;
        self.unconsumed -= bytes;
        // Cannot pass u32: it is reset at half a window, and no more than a window is ever unconsumed.
        stream.unreturned = stream.unreturned.saturating_add(bytes as u32);
        if stream.recv != RecvState::Body || stream.unreturned < stream.window / 2 {
            return None;
        }
        let mut credit = std::mem::take(&mut stream.unreturned);
        let growth = stream.window.min(self.max_credit.saturating_sub(stream.window));
        // Half the budget: readers that stall when their windows have grown hold all of them.
        if growth > 0 && self.windows + growth as usize <= self.budget / 2 {
            stream.window += growth;
            self.windows += growth as usize;
            credit += growth;
        }
        stream.granted += u64::from(credit);
        Some(credit)
    }

    /// What a stream held, it holds no longer.
    pub(super) fn forget(&mut self, stream: &Stream) {
        self.unconsumed -= stream.unconsumed;
        if stream.counted {
            self.windows -= stream.window as usize;
        }
    }

    /// As [`Self::forget`], for a stream that lives on but whose body is not wanted any more.
    pub(super) fn discard(&mut self, stream: &mut Stream) {
        self.forget(stream);
        stream.unconsumed = 0;
        stream.held = bytes::BytesMut::new();
        stream.counted = false;
    }

    /// What is to be given back now.
    fn take_return(&mut self) -> Option<u32> {
        if self.unreturned < FLIGHT_RETURN_BYTES || self.unconsumed > self.budget {
            return None;
        }
        // At most the flight, which was announced as a u32.
        Some(std::mem::take(&mut self.unreturned) as u32)
    }
}

impl Connection {
    /// The app took `bytes` of a stream's body: its credit may be given back. It may cause an event: once the app has taken all that it
    /// was given, the small parts that came meanwhile follow as one [`Event::Data`].
    pub fn consumed(&mut self, id: RequestId, bytes: usize) {
        let Some(stream) = self.streams.get_mut(&id.0) else { return };
        if let Some(credit) = self.inbound.consumed(stream, bytes) {
            self.outbox.frame(FrameType::Credit, 0, id.0, &[&credit.to_be_bytes()]);
        }
        if stream.unconsumed == stream.held.len() {
            stream.parts = u32::from(!stream.held.is_empty());
            self.tell_held(id.0);
        }
        self.return_flight();
    }

    /// Delivers what was held back of a stream's body.
    pub(super) fn tell_held(&mut self, id: u64) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.held.is_empty()
        {
            let data = stream.take_held();
            self.tell(id, |token| Event::Data { id: RequestId(id), token, data, end: false });
        }
    }

    /// Gives arrived bytes back to the connection, once the peer is accepted.
    pub(super) fn return_flight(&mut self) {
        if self.phase == Phase::Open
            && let Some(bytes) = self.inbound.take_return()
        {
            self.outbox.frame(FrameType::Credit, 0, 0, &[&bytes.to_be_bytes()]);
        }
    }

    /// The body bytes of one DATA frame.
    pub(super) fn on_data(&mut self, id: u64, data: bytes::Bytes, end: bool) -> Result<(), Violation> {
        if data.len() > DATA_FRAME_BYTES {
            return Err(TOO_LARGE);
        }
        if data.is_empty() && !end {
            return Err("empty DATA without END");
        }
        self.inbound.arrived(data.len())?;
        let Some(stream) = self.streams.get_mut(&id) else {
            self.late(id)?;
            self.return_flight();
            return Ok(());
        };
        match stream.recv {
            RecvState::Head => return Err("DATA before RESPONSE"),
            RecvState::Ended => return Err("DATA after END"),
            RecvState::Discarding => {
                self.late_frames += 1;
                if end {
                    stream.recv = RecvState::Ended;
                    self.settle(id);
                }
            }
            RecvState::Body => {
                let large = data.len() > INLINE_BODY_BYTES;
                if !(large || end || stream.after_large) {
                    self.bulk.small_frame_seen();
                }
                stream.after_large = large;
                self.inbound.deliver(stream, data.len())?;
                if end {
                    stream.recv = RecvState::Ended;
                }
                if let Some(data) = stream.part(data, end) {
                    self.tell(id, |token| Event::Data { id: RequestId(id), token, data, end });
                }
                if end {
                    self.received_end(id);
                }
            }
        }
        self.return_flight();
        Ok(())
    }
}
