//! The accounts of a connection, held against each other: for tests, simulation and fuzzing.

use super::streams::{RecvState, SendState, Wait};
use crate::limits::{FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES, SMALL_PARTS};

use super::{Connection, Phase};

/// Figures that the accounts of two ends can be compared by.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Audit {
    /// DATA bytes that we sent and that were not given back.
    pub in_flight: u64,
    /// DATA bytes that came and that we did not give back.
    pub unreturned: u64,
    /// Delivered and not consumed.
    pub unconsumed: usize,
    /// Windows of the streams that had DATA.
    pub windows: usize,
    /// Head and control bytes that wait.
    pub queued: usize,
    /// Body bytes that wait.
    pub bodies: usize,
}

impl Connection {
    /// Panics when an account does not add up.
    #[doc(hidden)]
    #[must_use]
    pub fn audit(&self) -> Audit {
        let (mut unconsumed, mut windows, mut listed) = (0, 0, 0);
        let (mut bodies, mut trailers, mut lined, mut called) = (0, 0, 0, 0);
        for (id, stream) in &self.streams {
            assert!(!stream.is_over(), "stream {id} is over and still there");
            assert!(*id < self.next_id);
            assert_eq!(stream.queued, stream.queue.iter().map(bytes::Bytes::len).sum::<usize>());
            assert_eq!(self.bulk.places(*id), usize::from(stream.listed), "stream {id} on the lists");
            assert_eq!(self.bulk.places_at_end(*id), usize::from(stream.ending), "stream {id} on the list of ends");
            assert!(stream.listed || !stream.sendable(), "stream {id} was forgotten");
            assert!(stream.ending || !stream.at_end(), "the end of stream {id} was forgotten");
            assert!(stream.window <= self.config.max_credit);
            assert!(
                stream.granted + stream.unconsumed as u64 + u64::from(stream.unreturned) <= u64::from(stream.window)
                    || stream.recv == RecvState::Discarding
            );
            assert!(stream.send != SendState::Head || stream.queued == 0);
            assert!(stream.counted || stream.unconsumed == 0);
            assert!(
                stream.held.len() < stream.unconsumed || stream.held.is_empty(),
                "stream {id} holds what nobody waits for"
            );
            assert!(stream.parts <= SMALL_PARTS);
            assert!(
                !matches!(stream.wait, Wait::Line | Wait::Called) || stream.room() > 0,
                "stream {id} waits in vain"
            );
            bodies += stream.waiting().0;
            trailers += stream.waiting().1;
            lined += usize::from(stream.wait == Wait::Line);
            called += usize::from(stream.wait == Wait::Called);
            unconsumed += stream.unconsumed;
            windows += if stream.counted { stream.window as usize } else { 0 };
            listed += usize::from(stream.listed) + usize::from(stream.ending);
        }
        if self.phase != Phase::Closed {
            assert_eq!(unconsumed, self.inbound.unconsumed);
            assert_eq!(windows, self.inbound.windows);
        }
        assert!(self.bulk.listed() <= 2 * listed + 130, "the lists keep streams that are gone");
        assert_eq!((self.budget.queued(), self.budget.trailers()), (bodies, trailers));
        assert!(bodies <= self.config.send_budget);
        self.budget.audit(lined, called);
        assert!(
            self.partial.len() < FRAME_HEADER_BYTES + FRAME_PAYLOAD_BYTES,
            "more than an incomplete frame was kept"
        );
        Audit {
            in_flight: self.bulk.in_flight(),
            unreturned: self.inbound.unreturned,
            unconsumed,
            windows,
            queued: self.outbox.pending(),
            bodies,
        }
    }
}
