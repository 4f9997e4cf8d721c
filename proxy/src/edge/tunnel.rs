//! A connection that carries bytes and no messages: raw TCP, or what came of an upgrade.

use std::future::poll_fn;
use std::rc::Rc;

use http1::Framing;
use tokio::task::spawn_local;

use super::receive::{Receiving, Side};
use super::sending::Sending;
use super::socket::Socket;
use crate::call::Body;

/// All that comes on the connection, until it ends.
pub fn receive(socket: &Rc<Socket>, side: Side) -> Body {
    socket.begin_body(Framing::UntilClose, 0);
    Body::stream(Receiving::new(socket, side))
}

/// Says that nothing more comes and waits until the other side has said all too. `false`: it broke off, or whoever listened to it.
pub async fn end(socket: &Socket) -> bool {
    if poll_fn(|cx| socket.poll_shutdown(cx)).await.is_err() {
        return false;
    }
    poll_fn(|cx| socket.poll_message_over(cx)).await;
    socket.is_message_over()
}

/// Joins a connection to an app with a caller's: gives out what the app says, and sends it `body` on a task that lives, and keeps `kept`,
/// until both directions have ended. What is broken off on one side of us is reset on the other.
pub fn join(socket: Rc<Socket>, body: Body, kept: impl Sized + 'static) -> Body {
    let said = receive(&socket, Side::App);
    let mut sending = Sending::raw(Vec::new(), body, ());
    spawn_local(async move {
        let _kept = kept;
        let sent = poll_fn(|cx| sending.poll(&socket, cx)).await;
        if sent.is_err() || !end(&socket).await {
            socket.reset();
        }
    });
    said
}
