//! A connection to an own app that speaks something other than HTTP.

use std::rc::Rc;

use wire::ResponseHead;

use crate::call::{Body, Reply};
use crate::edge;
use crate::error::Error;
use crate::upstream::app_pool::AppPool;

/// The status of an answer that is bytes only: the connection exists.
const CONNECTED: u16 = 200;

/// Connects to the app. The reply's body is what it says.
pub async fn connect(pool: &AppPool, body: Body) -> Result<Reply, Error> {
    let connection = pool.fresh().await.map_err(|error| error.explain(pool))?;
    let body = edge::tunnel::join(Rc::clone(&connection.socket), body, connection);
    Ok(Reply { head: ResponseHead { status: CONNECTED, ..ResponseHead::default() }, body })
}
