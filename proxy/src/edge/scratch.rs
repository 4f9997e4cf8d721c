//! Where the sockets of a worker read: room for what is still unknown, and large buffers that go round.

use std::cell::{Cell, RefCell, RefMut};
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;

/// Read at once from a connection that has sent nothing yet: all connections of a worker share this room.
const SCRATCH_BYTES: usize = 64 * 1024;
/// A block of this size or more is used again.
pub(super) const LARGE_PIECE_BYTES: usize = 256 * 1024;
/// Large buffers that a worker keeps for the next piece, and how long when nobody uses them.
const SPARE_BUFFERS: usize = 16;
const REST: Duration = Duration::from_secs(1);

/// What the sockets of a worker read into, beside what each holds itself.
#[derive(Debug, Clone)]
pub struct Scratch(Rc<Room>);

#[derive(Debug)]
struct Room {
    /// For what nobody knows the size of.
    bytes: RefCell<Vec<u8>>,
    /// Large buffers whose pieces are on their way: to be used again when these have gone. To give such a block back and
    /// take it anew costs its page faults.
    spare: RefCell<Vec<BytesMut>>,
    used: Cell<bool>,
}

impl Scratch {
    /// For one worker.
    pub fn new() -> Scratch {
        Scratch(Rc::new(Room {
            bytes: RefCell::new(vec![0; SCRATCH_BYTES]),
            spare: RefCell::default(),
            used: Cell::new(false),
        }))
    }

    /// Gives large buffers back that nobody has used for a while, for ever.
    pub async fn rest(self) {
        let mut tick = tokio::time::interval(REST);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if !self.0.used.replace(false) {
                self.0.spare.borrow_mut().clear();
            }
        }
    }

    /// Makes room for `wanted` bytes in `buffer`, in a large block that is free again if there is one.
    pub(super) fn reserve(&self, buffer: &mut BytesMut, wanted: usize) {
        if wanted < LARGE_PIECE_BYTES || buffer.capacity() - buffer.len() >= wanted || buffer.try_reclaim(wanted) {
            buffer.reserve(wanted);
            return;
        }
        self.0.used.set(true);
        let mut spare = self.0.spare.borrow_mut();
        let needed = buffer.len() + wanted;
        let free = spare.iter_mut().position(|spare| spare.try_reclaim(needed));
        let mut fresh = free.map_or_else(|| BytesMut::with_capacity(needed), |free| spare.swap_remove(free));
        fresh.extend_from_slice(buffer);
        let old = std::mem::replace(buffer, fresh);
        drop(spare);
        self.keep(old);
    }

    /// Takes a large buffer back, for the next piece.
    pub(super) fn keep(&self, mut old: BytesMut) {
        let mut spare = self.0.spare.borrow_mut();
        old.clear();
        if spare.len() < SPARE_BUFFERS {
            spare.push(old);
        }
    }

    /// Room to read into for what nobody knows the size of.
    pub(super) fn bytes(&self) -> RefMut<'_, Vec<u8>> {
        self.0.bytes.borrow_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_buffers_are_used_again_when_their_pieces_have_gone_and_not_before() {
        let scratch = Scratch::new();
        let mut buffer = BytesMut::new();
        let mut fill = |byte: u8| {
            scratch.reserve(&mut buffer, LARGE_PIECE_BYTES);
            buffer.resize(LARGE_PIECE_BYTES, byte);
            let piece = buffer.split().freeze();
            (piece.as_ptr(), piece)
        };
        let (first_at, first) = fill(1);
        let (second_at, second) = fill(2);
        assert_ne!(first_at, second_at);
        assert!(first.iter().all(|byte| *byte == 1));
        drop((first, second));
        let again: Vec<_> = (3..5).map(&mut fill).collect();
        let places: std::collections::BTreeSet<_> = again.iter().map(|(at, _)| *at).collect();
        assert_eq!(places, [first_at, second_at].into());
    }
}
