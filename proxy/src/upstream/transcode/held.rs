//! Bytes that wait to be a whole message: how many there may be.

use std::cell::Cell;
use std::rc::Rc;

use crate::error::{Error, ErrorCode, Executed, Origin, Phase};

/// Bytes that wait for their messages to be whole, of all calls of a worker together.
const HELD_BYTES: usize = 64 * 1024 * 1024;

/// What all calls of a worker hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Budget(Rc<Cell<usize>>);

/// What one call holds; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Budget,
    bytes: usize,
    executed: Executed,
}

impl Budget {
    /// Nothing yet. `executed`: what is true of the call while it holds something.
    pub(super) fn held(&self, executed: Executed) -> Held {
        Held { budget: self.clone(), bytes: 0, executed }
    }
}

impl Held {
    /// It holds so many bytes now, unless there is no room for more.
    pub(super) fn resize(&mut self, bytes: usize) -> Result<(), Error> {
        let Budget(all) = &self.budget;
        let others = all.get() - self.bytes;
        if bytes > self.bytes && others + bytes > HELD_BYTES {
            let detail = format!("{others} bytes of other JSON calls wait for their messages to be whole");
            return Err(Error::new(ErrorCode::RemoteOverloaded, Origin::Remote, Phase::Request, self.executed, detail));
        }
        all.set(others + bytes);
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Budget(all) = &self.budget;
        all.set(all.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_has_a_bound_and_comes_back() {
        let budget = Budget::default();
        let (mut one, mut other) = (budget.held(Executed::No), budget.held(Executed::Yes));
        one.resize(HELD_BYTES - 10).unwrap();
        other.resize(10).unwrap();
        let error = other.resize(11).unwrap_err();
        assert_eq!((error.code(), error.executed()), (ErrorCode::RemoteOverloaded, Executed::Yes));
        other.resize(3).unwrap();
        one.resize(HELD_BYTES - 3).unwrap();
        drop(one);
        other.resize(HELD_BYTES).unwrap();
        drop(other);
        assert_eq!(budget.0.get(), 0);
    }
}
