//! A connection to the app, from when its answer has begun until it is free again.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::task::{AbortHandle, spawn_local};

use crate::call::{Body, BodyStream, Part};
use crate::edge::{Sending, Socket};
use crate::error::Error;
use crate::upstream::app_pool::{AppPool, Connection};

/// The rest of a request whose answer has begun, on a task of its own.
#[derive(Debug)]
pub struct Upload {
    task: AbortHandle,
    done: Rc<Cell<bool>>,
}

impl Upload {
    /// Sends on.
    pub fn go_on(mut sending: Sending<()>, socket: Rc<Socket>) -> Upload {
        let done = Rc::new(Cell::new(false));
        let is_done = Rc::clone(&done);
        let task = spawn_local(async move {
            // Whether it arrived, the answer has to say.
            let sent = poll_fn(|cx| sending.poll(&socket, cx)).await;
            is_done.set(sent.is_ok());
        });
        Upload { task: task.abort_handle(), done }
    }
}

/// A connection lent to a call until its answer has been read. Dropped before, the connection is closed: that is how the
/// app learns that the caller is gone.
#[derive(Debug)]
pub struct Lent {
    connection: Option<Connection>,
    keep_alive: bool,
    upload: Option<Upload>,
    pool: Rc<AppPool>,
}

impl Lent {
    /// Of `pool`. `keep_alive`: the app takes more on it, after this answer.
    pub fn new(connection: Connection, keep_alive: bool, upload: Option<Upload>, pool: &Rc<AppPool>) -> Lent {
        Lent { connection: Some(connection), keep_alive, upload, pool: Rc::clone(pool) }
    }

    /// The answer's body, at whose end the connection is free.
    pub fn until_the_end_of(self, source: Pin<Box<dyn BodyStream>>) -> Body {
        Body::stream(Answering { source, lent: self })
    }

    /// The answer has been read: the connection is free. Not if the request is still going out on it: an app that answers
    /// before it has read all still reads the rest, or closes, and no other call may wait behind that.
    pub fn finished(&mut self) {
        let uploaded = self.upload.take().is_none_or(|upload| upload.done.get());
        if let Some(connection) = self.connection.take()
            && self.keep_alive
            && uploaded
            && !connection.socket.has_surplus()
        {
            self.pool.checkin(connection);
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.task.abort();
        }
    }
}

/// The body of an answer.
struct Answering {
    source: Pin<Box<dyn BodyStream>>,
    lent: Lent,
}

impl BodyStream for Answering {
    fn poll_part(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Part, Error>>> {
        let polled = self.source.as_mut().poll_part(cx);
        if let Poll::Ready(None | Some(Ok(Part::Trailers(_)))) = polled {
            self.lent.finished();
        }
        polled
    }
}
