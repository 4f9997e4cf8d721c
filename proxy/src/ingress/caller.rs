//! A connection of the own app's.

use std::rc::Rc;
use std::sync::Arc;

use crate::config::Door;
use crate::edge::Socket;
use crate::ingress::listener::Permit;
use crate::ingress::patience::Watched;
use crate::metrics::Held;

/// What is kept as long as it is served.
#[derive(Debug)]
pub struct Caller {
    /// Reads and writes.
    pub socket: Rc<Socket>,
    /// Its place among those that are watched for slowness.
    pub watched: Rc<Watched>,
    /// The door that it came through leads to one service only.
    pub bound: Option<Arc<Door>>,
    _connected: Held,
    _permit: Permit,
}

impl Caller {
    /// A connection that `connected` counts and that has its place in the listener.
    pub fn new(
        socket: Rc<Socket>,
        watched: Rc<Watched>,
        bound: Option<Arc<Door>>,
        connected: Held,
        permit: Permit,
    ) -> Caller {
        Caller { socket, watched, bound, _connected: connected, _permit: permit }
    }
}
