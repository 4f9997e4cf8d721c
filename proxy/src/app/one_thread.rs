//! A sidecar inside another program, on one thread and without what a process has besides: no admin port, no record of
//! its own in the registry, no signals. `bench/counts` counts the instructions of a call with two of them.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;

use super::{Core, StartError};
use crate::call::{Call, Reply};
use crate::config::{Loaded, LocalAddress};
use crate::discovery::View;
use crate::error::Error;
use crate::ingress::http::HttpDoor;
use crate::metrics::Direction;
use crate::record::Record;
use crate::worker::{Common, Workers};

/// A running sidecar. It ends with the `LocalSet` that it runs on.
pub struct OneThread {
    outbound: LocalAddress,
    inbound: Option<SocketAddr>,
    common: Common,
    door: Rc<HttpDoor>,
    /// A worker ends when nobody is left to give it orders.
    _workers: Workers,
}

impl OneThread {
    /// Starts on the `LocalSet` that this is called on.
    ///
    /// # Errors
    /// Where `pillion run` would not start: an identity that cannot be used, a port that is taken.
    pub fn start(loaded: Loaded) -> Result<OneThread, StartError> {
        let Core { common, listeners, .. } = Core::build(loaded)?;
        let (workers, door) = Workers::here(&common);
        let (outbound, inbound) = (listeners.outbound_address.clone(), listeners.inbound_address);
        listeners.hand_over(&workers);
        Ok(OneThread { outbound, inbound, common, door, _workers: workers })
    }

    /// Where the own app's calls go.
    pub fn outbound(&self) -> &LocalAddress {
        &self.outbound
    }

    /// Where other sidecars connect; `None`: there is no app to call.
    pub fn inbound(&self) -> Option<SocketAddr> {
        self.inbound
    }

    /// What it knows of services.
    pub fn view(&self) -> &View {
        &self.common.view
    }

    /// Carries a call as the doors do, recorded like theirs.
    ///
    /// # Errors
    /// What the caller would get instead of an answer.
    pub async fn call(&self, mut call: Call) -> Result<Reply, Error> {
        let mut record = Record::new(Direction::Outbound, &self.door.unrouted);
        let reply = self.door.own.dispatcher.call(&mut call, &mut record).await?;
        record.complete();
        Ok(reply)
    }
}

impl fmt::Debug for OneThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneThread").field("outbound", &self.outbound).finish_non_exhaustive()
    }
}
