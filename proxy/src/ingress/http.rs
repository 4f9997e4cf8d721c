//! The HTTP/1.1 door for the own app's calls.

mod answer;
mod request;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use http1::{Framing, HeadScan, Refusal, Version};

use crate::call::{Body, Reply};
use crate::config::{Config, Door, head_bytes};
use crate::dispatch;
use crate::edge::http2::Opening;
use crate::edge::{self, Arrived, ReadError, Scratch, Sending, Side, Socket, Stream};
use crate::error::{Error, ErrorCode, Phase};
use crate::ingress::asked::{Asked, Tunnel};
use crate::ingress::caller::Caller;
use crate::ingress::date::Date;
use crate::ingress::http2::Http2Door;
use crate::ingress::kept::Kept;
use crate::ingress::listener::Permit;
use crate::ingress::own::OwnAnswers;
use crate::ingress::patience::Patience;
use crate::ingress::tunnel;
use crate::metrics::{CallMetrics, Direction, Held, Metrics};
use crate::record::{Counted, Record};
use request::Request;

/// Connections of a worker that keep the room for a call between two calls: some kilobytes each, which are not allocated
/// for every call then. The others are the many that are mostly idle.
const WARM_CONNECTIONS: usize = 128;

/// What all connections to this door share, on one worker.
#[derive(Debug)]
pub struct HttpDoor {
    /// Limits.
    pub config: Arc<Config>,
    /// Counted into.
    pub metrics: Arc<Metrics>,
    /// Watches over slow callers.
    pub patience: Rc<Patience>,
    /// Where sockets read.
    pub scratch: Scratch,
    /// Calls that never came to name a known service.
    pub unrouted: CallMetrics,
    /// Calls under way from the own app, over all workers: the shutdown waits for them.
    pub calls: Arc<AtomicUsize>,
    /// The current second, as a Date field says it.
    pub date: Rc<Date>,
    /// Connections that keep the room for a call.
    pub warm: Cell<usize>,
    /// What the sidecar answers itself, and the way of all calls.
    pub own: Rc<OwnAnswers>,
    /// Takes over what turns out to be HTTP/2.
    pub http2: Rc<Http2Door>,
}

impl HttpDoor {
    /// Serves one connection, on a task of its own. `bound`: the door leads to one service only.
    pub fn serve(self: Rc<Self>, stream: Stream, bound: Option<Arc<Door>>, permit: Permit) {
        let watched = Rc::new(self.patience.watch());
        let socket = Rc::new(Socket::new(stream, HeadScan::default(), &self.scratch, &self.metrics.app_bytes));
        let connected = Held::new(&self.metrics.callers_connected);
        let caller = Caller::new(socket, Rc::clone(&watched), bound, connected, permit);
        watched.spawn(async move {
            let mut is_first = true;
            // How a caller's connection ends is the caller's business; calls that it cut are recorded as cancelled.
            while let Some(mut request) = self.next_request(&caller).await {
                if std::mem::replace(&mut is_first, false)
                    && let Some(opening) = request.http2.take()
                {
                    return Box::pin(self.go_on_in_http2(caller, opening)).await;
                }
                // On the heap: a connection that is idle for long, one of thousands, holds no room for a call.
                if !Box::pin(self.exchanges(&caller, request)).await {
                    return;
                }
            }
        });
    }

    /// Hands the connection over to the other door.
    async fn go_on_in_http2(&self, caller: Caller, opening: Opening) {
        if let Opening::Upgrade(_) = opening {
            // Nothing else has been written: it has room for a line.
            let agreed = [IoSlice::new(http1::encode::SWITCH_TO_H2C)];
            if poll_fn(|cx| caller.socket.poll_write(cx, &agreed)).await.is_err() {
                return;
            }
        }
        Rc::clone(&self.http2).serve(caller, opening).await;
    }

    /// The next request's head; `None`: the caller sends no more.
    async fn next_request(&self, Caller { socket, watched, bound, .. }: &Caller) -> Option<Request> {
        let longest = head_bytes(self.config.limits.header_bytes);
        let read = |head: &[u8], count: usize| request::read(head, count, &self.config, bound.as_deref());
        match poll_fn(|cx| socket.poll_head(cx, longest, || watched.bytes_arrived(), read)).await {
            Ok(Arrived::Head(request)) => Some(request),
            Ok(Arrived::Closed) | Err(ReadError::Broken(_) | ReadError::Refused(Refusal::Truncated)) => None,
            Err(ReadError::Refused(refusal)) => Some(Request::refused(&refusal)),
        }
    }

    /// One request and its answer after the other. Says whether the connection is fit for more.
    async fn exchanges(&self, caller: &Caller, mut request: Request) -> bool {
        let warm = Warm::take(&self.warm);
        loop {
            let busy = caller.watched.busy();
            if !self.exchange(&caller.socket, request).await {
                return false;
            }
            drop(busy);
            if warm.is_none() {
                return true;
            }
            request = match self.next_request(caller).await {
                Some(request) => request,
                None => return false,
            };
        }
    }

    /// One request and its answer. Says whether the connection is fit for another.
    async fn exchange(&self, socket: &Rc<Socket>, request: Request) -> bool {
        let Request { call, version, framing, mut keep_alive, expects_continue, is_head, .. } = request;
        let mut record = Record::new(Direction::Outbound, &self.unrouted);
        let counted = Counted::new(&self.calls);
        socket.begin_body(framing, self.config.limits.header_bytes);
        let tunnel = call.as_ref().ok().and_then(|asked| asked.tunnel);
        let result = match call {
            Ok(asked) => {
                let side = if expects_continue { Side::WaitingCaller } else { Side::Caller };
                match self.call(socket, asked, side, &mut record).await {
                    Some(result) => result,
                    // The caller is gone, and the call with it.
                    None => return false,
                }
            }
            Err(error) => Err(error),
        };
        let rendered = result.and_then(|reply| answer::render(reply, is_head, tunnel, version, &self.date));
        let (mut head, message) = match rendered {
            Ok((head, status, message)) => {
                record.answered(status);
                if message.0 == Framing::Tunnel {
                    let carried = Box::pin(tunnel::carry(socket, head, message.1, &mut record)).await;
                    tunnel::ended(carried, socket, &mut record, &self.metrics);
                    return false;
                }
                if tunnel.is_some() {
                    // Declined: not a byte was read of what the tunnel would have carried, and what comes next is a request.
                    socket.begin_body(Framing::None, 0);
                }
                (head, message)
            }
            Err(error) => {
                self.metrics.generated_error(error.code().as_str()).inc();
                record.failed(&error, dispatch::outcome_of(&error));
                // What follows the head of a request that was refused may be its body or another request: nobody waits for its end.
                keep_alive &= socket.is_message_over();
                socket.abandon_body();
                answer::render_error(&error, is_head)
            }
        };
        keep_alive &= message.0 != Framing::UntilClose;
        match (keep_alive, version) {
            (true, Version::Http11) => {}
            (true, Version::Http10) => head.extend_from_slice(b"connection: keep-alive\r\n"),
            (false, _) => head.extend_from_slice(b"connection: close\r\n"),
        }
        let mut sending = Sending::new(head, message, Kept::new(record, false, counted));
        let sent = poll_fn(|cx| match sending.poll(socket, cx) {
            Poll::Pending => socket.poll_hangup(cx).map(|()| false),
            Poll::Ready(result) => Poll::Ready(result.is_ok()),
        });
        if !sent.await {
            return false;
        }
        drop(sending);
        poll_fn(|cx| socket.poll_message_over(cx)).await;
        if !keep_alive || !socket.is_message_over() {
            socket.linger().await;
            return false;
        }
        true
    }

    /// Makes the call. `None`: the caller hung up.
    async fn call(
        &self,
        socket: &Rc<Socket>,
        asked: Asked,
        side: Side,
        record: &mut Record,
    ) -> Option<Result<Reply, Error>> {
        let body = match self.gather(socket, side).await {
            // Whatever it expects: no answer but the app's may stand before what the tunnel carries.
            Ok(_) if asked.tunnel.is_some() => edge::tunnel::receive(socket, Side::Caller),
            Ok(body) => body,
            Err(error) => return Some(Err(error)),
        };
        let own = asked.own;
        let is_upgrade = asked.tunnel == Some(Tunnel::Upgrade);
        let mut call = asked.into_call(body, socket.body_announced(), record);
        let mut answer = pin!(self.own.carry(own, &mut call, record));
        poll_fn(|cx| {
            // What an upgraded connection carries is read from the answer on, and until that this is a request like any other. A caller of
            // CONNECT may have said all when its connection to the app begins.
            let hangup = if is_upgrade { socket.poll_hangup_before_body(cx) } else { socket.poll_hangup(cx) };
            // First: a body that the caller broke off looks like the peer's failure otherwise.
            if hangup.is_ready() {
                return Poll::Ready(None);
            }
            answer.as_mut().poll(cx).map(Some)
        })
        .await
    }

    /// Takes in the request's body. A short one is waited for, within bounds.
    async fn gather(&self, socket: &Rc<Socket>, side: Side) -> Result<Body, Error> {
        let mut body = pin!(edge::gather(socket, side));
        if let Poll::Ready(body) = poll_fn(|cx| Poll::Ready(body.as_mut().poll(cx))).await {
            return body;
        }
        let limit = self.config.timeouts.header;
        tokio::time::timeout(limit, body).await.unwrap_or_else(|_| {
            let detail = format!("a short body did not arrive within {limit:?} (timeouts.header)");
            Err(Error::local(ErrorCode::RequestAborted, Phase::Request, detail))
        })
    }
}

/// A connection that keeps the room for its next call.
struct Warm<'a>(&'a Cell<usize>);

impl<'a> Warm<'a> {
    /// One of the few places, if there is one.
    fn take(count: &'a Cell<usize>) -> Option<Warm<'a>> {
        (count.get() < WARM_CONNECTIONS).then(|| {
            count.set(count.get() + 1);
            Warm(count)
        })
    }
}

impl Drop for Warm<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
