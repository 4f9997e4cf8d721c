//! A connection to an own app that speaks something other than HTTP.

use std::future::poll_fn;
use std::rc::Rc;

use tokio::task::spawn_local;
use wire::ResponseHead;

use crate::call::{Body, Reply};
use crate::edge::{self, Sending, Side};
use crate::error::Error;
use crate::upstream::app_pool::AppPool;

/// The status of an answer that is bytes only: the connection exists.
const CONNECTED: u16 = 200;

/// Connects to the app. The reply's body is what it says; `body` goes to it on a task that lives until both directions have ended.
pub async fn connect(pool: &AppPool, body: Body) -> Result<Reply, Error> {
    let connection = pool.fresh().await.map_err(|error| error.explain(pool))?;
    let said = edge::raw(&connection.socket, Side::App);
    let mut sending = Sending::raw(body, ());
    spawn_local(async move {
        let socket = Rc::clone(&connection.socket);
        let heard = match poll_fn(|cx| sending.poll(&socket, cx)).await {
            // The app may go on speaking.
            Ok(()) => poll_fn(|cx| socket.poll_shutdown(cx)).await.is_ok(),
            Err(_) => false,
        };
        if heard {
            poll_fn(|cx| socket.poll_message_over(cx)).await;
        }
        // Broken off on either side of us: so the app sees it too.
        if !heard || !socket.is_message_over() {
            socket.reset();
        }
    });
    Ok(Reply { head: ResponseHead { status: CONNECTED, ..ResponseHead::default() }, body: said })
}
