//! Bodies: whose turn it is, and how much may be under way.
//!
//! The round robin is that of fq_codel (RFC 8290): a stream that was idle has its first turn before those that have been
//! sending for longer, so a short message does not wait for every long body's quantum; it must then be passed over in the
//! long list once before it counts as idle again, so it cannot starve them.

use std::collections::{HashMap, VecDeque};

use super::Connection;
use super::streams::{SendState, Stream};
use crate::frame::{END, FrameType, put_header};
use crate::limits::{
    BULK_ALONE_BYTES, DATA_CHUNK_BYTES, FLIGHT_BULK_BYTES, FLIGHT_SMALL_BYTES, FRAME_HEADER_BYTES, INLINE_BODY_BYTES,
    QUANTUM_BYTES,
};
use crate::transmit::sealed::Transmit;

#[derive(Debug)]
pub(super) struct Bulk {
    /// Streams that were idle.
    fresh: VecDeque<u64>,
    /// Streams that take turns.
    turns: VecDeque<u64>,
    /// Streams that have only their end to send: it takes nothing of the flight and so waits for none.
    ends: VecDeque<u64>,
    /// Entries of the lists whose streams are gone.
    stale: usize,
    /// DATA bytes sent and not given back.
    in_flight: u64,
    /// The most of them that we allow ourselves now.
    window: u64,
    /// The most that the peer allows.
    allowed: u64,
    /// DATA bytes since the last small frame.
    alone: u64,
    /// The next frame waits for flight to be given back.
    blocked: bool,
}

impl Default for Bulk {
    fn default() -> Self {
        Self {
            fresh: VecDeque::new(),
            turns: VecDeque::new(),
            ends: VecDeque::new(),
            stale: 0,
            in_flight: 0,
            window: FLIGHT_SMALL_BYTES,
            allowed: FLIGHT_SMALL_BYTES,
            alone: 0,
            blocked: false,
        }
    }
}

impl Bulk {
    pub(super) fn set_allowed(&mut self, bytes: u64) {
        self.allowed = bytes;
    }

    /// Small calls are about: what is under way must be little, so that they need not wait long behind it.
    #[inline]
    pub(super) fn small_frame_seen(&mut self) {
        self.alone = 0;
        self.window = FLIGHT_SMALL_BYTES;
    }

    fn sent(&mut self, bytes: usize, small: bool) {
        self.in_flight += bytes as u64;
        if small {
            self.small_frame_seen();
            return;
        }
        self.alone = self.alone.saturating_add(bytes as u64);
        if self.alone >= BULK_ALONE_BYTES {
            self.window = FLIGHT_BULK_BYTES;
        }
    }

    /// The peer received that much. False: more than was sent.
    pub(super) fn returned(&mut self, bytes: u32) -> bool {
        self.blocked = false;
        match self.in_flight.checked_sub(u64::from(bytes)) {
            Some(left) => {
                self.in_flight = left;
                true
            }
            None => false,
        }
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Gives back memory that is not needed now.
    pub(super) fn shrink(&mut self) {
        for list in [&mut self.fresh, &mut self.turns, &mut self.ends] {
            list.shrink_to_fit();
        }
    }

    /// How often a stream stands on the lists.
    pub(super) fn places(&self, id: u64) -> usize {
        self.fresh.iter().chain(&self.turns).filter(|listed| **listed == id).count()
    }

    pub(super) fn places_at_end(&self, id: u64) -> usize {
        self.ends.iter().filter(|listed| **listed == id).count()
    }

    pub(super) fn listed(&self) -> usize {
        self.fresh.len() + self.turns.len() + self.ends.len()
    }

    fn flight_room(&self) -> u64 {
        self.window.min(self.allowed).saturating_sub(self.in_flight)
    }

    pub(super) fn wants_turn(&self) -> bool {
        !self.ends.is_empty() || self.wants_flight()
    }

    fn wants_flight(&self) -> bool {
        !(self.blocked || self.fresh.is_empty() && self.turns.is_empty())
    }

    /// Puts a stream that has something to send on a list. `fresh`: it has had nothing for a while, rather than no credit.
    pub(super) fn list(&mut self, id: u64, stream: &mut Stream, fresh: bool) {
        if stream.at_end() && !stream.ending {
            stream.ending = true;
            self.ends.push_back(id);
        }
        if stream.listed || !stream.sendable() {
            return;
        }
        stream.listed = true;
        stream.deficit = QUANTUM_BYTES as isize;
        if fresh { self.fresh.push_back(id) } else { self.turns.push_back(id) }
    }

    /// A stream is gone; its places on the lists are passed over later, or now if there are many of them.
    pub(super) fn forget(&mut self, stream: &Stream, streams: &HashMap<u64, Stream, ahash::RandomState>) {
        self.stale += usize::from(stream.listed) + usize::from(stream.ending);
        if self.stale > 64 && self.stale * 2 > self.listed() {
            for list in [&mut self.fresh, &mut self.turns, &mut self.ends] {
                list.retain(|id| streams.contains_key(id));
            }
            self.stale = 0;
        }
    }
}

/// How a turn ended.
enum Turn {
    /// The stream has nothing more that it may send.
    Idle,
    /// Its quantum is used up.
    Spent,
    /// The connection may send no more for now.
    Blocked,
    /// The driver's buffer is full.
    Full,
}

impl Connection {
    /// Adds DATA and TRAILERS to `out` until it holds about `limit` bytes.
    pub(super) fn transmit_bulk(&mut self, out: &mut impl Transmit, limit: usize) {
        self.transmit_ends(out, limit);
        while out.bytes() < limit && self.bulk.wants_flight() {
            let from_fresh = !self.bulk.fresh.is_empty();
            let list = if from_fresh { &self.bulk.fresh } else { &self.bulk.turns };
            let Some(&id) = list.front() else { return };
            let Some(stream) = self.streams.get_mut(&id) else {
                self.bulk.stale = self.bulk.stale.saturating_sub(1);
                self.bulk.leave(from_fresh);
                continue;
            };
            let before = stream.waiting();
            let turn = take_turn(&mut self.bulk, id, stream, out, limit);
            self.budget.sent(before, stream);
            match turn {
                Turn::Blocked | Turn::Full => {}
                Turn::Spent => {
                    self.bulk.leave(from_fresh);
                    self.bulk.turns.push_back(id);
                }
                // It must be passed over once more before it is fresh again, if there are others to be starved.
                Turn::Idle if from_fresh && !self.bulk.turns.is_empty() && !stream.is_over() => {
                    self.bulk.leave(true);
                    self.bulk.turns.push_back(id);
                }
                Turn::Idle => {
                    self.bulk.leave(from_fresh);
                    stream.listed = false;
                }
            }
            self.after_sending(id);
            self.call_waiting();
            if matches!(turn, Turn::Blocked | Turn::Full) {
                return;
            }
        }
    }

    /// The ends of streams whose bodies are all sent, also while other bodies wait for flight.
    fn transmit_ends(&mut self, out: &mut impl Transmit, limit: usize) {
        while out.bytes() < limit
            && let Some(id) = self.bulk.ends.pop_front()
        {
            let Some(stream) = self.streams.get_mut(&id) else {
                self.bulk.stale = self.bulk.stale.saturating_sub(1);
                continue;
            };
            stream.ending = false;
            if stream.at_end() {
                let before = stream.waiting();
                put_end(id, stream, out.frames());
                self.budget.sent(before, stream);
                self.after_sending(id);
            }
        }
    }

    /// Room for more, or the end of the stream.
    pub(super) fn after_sending(&mut self, id: u64) {
        self.tell_room(id);
        if self.streams.get(&id).is_some_and(|stream| stream.send == SendState::Ended) {
            self.settle(id);
        }
    }
}

impl Bulk {
    fn leave(&mut self, from_fresh: bool) {
        if from_fresh {
            self.fresh.pop_front()
        } else {
            self.turns.pop_front()
        };
    }
}

fn take_turn(bulk: &mut Bulk, id: u64, stream: &mut Stream, out: &mut impl Transmit, limit: usize) -> Turn {
    loop {
        if stream.at_end() {
            // Behind its body at once: a few bytes beyond the turn keep it from waiting for another.
            put_end(id, stream, out.frames());
        }
        if !stream.sendable() {
            return Turn::Idle;
        }
        if stream.deficit <= 0 {
            stream.deficit += QUANTUM_BYTES as isize;
            return Turn::Spent;
        }
        if out.bytes() >= limit {
            return Turn::Full;
        }
        let credit = usize::try_from(stream.credit).unwrap_or(usize::MAX);
        let bytes = stream.queued.min(DATA_CHUNK_BYTES).min(credit);
        if bulk.flight_room() < bytes as u64 {
            // Waiting for a whole chunk's room keeps frames large. Room comes: less than the window is under way
            // for ever only if the peer holds back less than it may (limits.rs asserts it).
            bulk.blocked = true;
            return Turn::Blocked;
        }
        let last = bytes == stream.queued;
        let end = last && stream.send == SendState::Ending && stream.trailers.is_none();
        put_data(id, stream, bytes, end, out);
        // The tail of a burst is bulk like what went before it.
        let lone = std::mem::take(&mut stream.first) && last && !end;
        bulk.sent(bytes, lone && bytes <= INLINE_BODY_BYTES);
        stream.deficit -= (FRAME_HEADER_BYTES + bytes) as isize;
    }
}

fn put_data(id: u64, stream: &mut Stream, bytes: usize, end: bool, out: &mut impl Transmit) {
    put_header(out.frames(), FrameType::Data, if end { END } else { 0 }, id, bytes);
    let mut left = bytes;
    while left > 0
        && let Some(mut part) = stream.queue.pop_front()
    {
        if part.len() > left {
            stream.queue.push_front(part.split_off(left));
        }
        left -= part.len();
        out.body(part);
    }
    stream.queued -= bytes;
    stream.credit -= bytes as u64;
    if end {
        stream.send = SendState::Ended;
    }
}

/// Nothing is queued any more: the trailers, or an empty DATA with END.
fn put_end(id: u64, stream: &mut Stream, out: &mut Vec<u8>) {
    let trailers = stream.trailers.take();
    let kind = if trailers.is_some() { FrameType::Trailers } else { FrameType::Data };
    let block = trailers.as_deref().unwrap_or_default();
    put_header(out, kind, END, id, block.len());
    out.extend_from_slice(block);
    stream.send = SendState::Ended;
}
