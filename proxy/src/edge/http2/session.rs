//! A connection: drives an [`http2::Connection`] over a socket.
//!
//! One task a connection ([`Session::drive`]) owns the reading and writing. The users of its streams, on the same worker, reach the
//! protocol's state directly: they encode their frames in place and wake the driver, which sends all that has gathered in one write.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use http2::{Broken, Closed, Config, Connection, Event, NotOpened, Reason, Request, RequestHead, ResponseHead, Side};
use wire::{Pieces, Text};

use super::{Opening, Receiver, Sender};
use crate::call::Part;
use crate::edge::Socket;

/// Reads in one turn of a driver, before others get theirs.
const READS_PER_TURN: usize = 4;
/// Bytes handed to the socket in one turn, about.
const FLUSH_BYTES: usize = 256 * 1024;
/// Slices of one gathered write.
const SLICES: usize = 64;
/// What a connection without streams keeps for its next ones. Beyond it, it gives back what a busy time made it grow to.
const KEPT_BYTES: usize = 32 * 1024;

/// A connection, as the users of its streams see it.
pub struct Session {
    socket: Rc<Socket>,
    side: Side,
    pub(super) inner: RefCell<Inner>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("side", &self.side).finish_non_exhaustive()
    }
}

pub(super) struct Inner {
    pub(super) http2: Connection,
    slots: HashMap<u32, Slot, ahash::RandomState>,
    driver: Option<Waker>,
}

/// What a stream's user and the driver share.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The answer's head, until it is taken, and whether that is all.
    pub(super) answer: Option<(ResponseHead, bool)>,
    pub(super) parts: VecDeque<Part>,
    /// Bytes given out, whose credit goes back when more is asked for.
    pub(super) lent: usize,
    pub(super) is_received: bool,
    pub(super) is_sent: bool,
    pub(super) broken: Option<Broken>,
    pub(super) receiver: Half,
    pub(super) sender: Half,
}

/// Whoever holds one half of a stream.
#[derive(Debug, Default)]
pub(super) struct Half {
    is_gone: bool,
    waker: Option<Waker>,
}

impl Half {
    pub(super) fn wait(&mut self, cx: &Context<'_>) {
        match &self.waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => self.waker = Some(cx.waker().clone()),
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A call that has come.
#[derive(Debug)]
pub struct Incoming {
    /// What is asked for.
    pub head: RequestHead,
    /// Its body; `None`: it has none.
    pub body: Option<Receiver>,
    /// Where it is answered.
    pub answer: Sender,
}

impl Inner {
    pub(super) fn slot(&mut self, stream: u32) -> Option<&mut Slot> {
        self.slots.get_mut(&stream)
    }

    /// Ends a stream before its time, unless it is over already. Whoever holds the other half learns it too.
    pub(super) fn reset(&mut self, stream: u32, reason: Reason) {
        let Some(slot) = self.slots.get_mut(&stream).filter(|slot| slot.broken.is_none()) else { return };
        slot.broken = Some(Broken::Reset(reason));
        slot.receiver.wake();
        slot.sender.wake();
        self.http2.reset(stream, reason);
        self.wake_driver();
    }

    /// What it takes for more than it does now, about, in bytes.
    fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>() + self.http2.memory()
    }

    /// Has the driver send what has gathered.
    pub(super) fn wake_driver(&mut self) {
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    fn handle(&mut self, event: Event) {
        let (stream, event) = match event {
            Event::Data { stream, data, is_end } => {
                match self.slots.get_mut(&stream).filter(|slot| !slot.receiver.is_gone) {
                    Some(slot) => {
                        slot.is_received |= is_end;
                        if !data.is_empty() {
                            slot.parts.push_back(Part::Data(data));
                        }
                        slot.receiver.wake();
                    }
                    None => self.http2.release(stream, data.len()),
                }
                return;
            }
            Event::Request { stream, .. }
            | Event::Response { stream, .. }
            | Event::Trailers { stream, .. }
            | Event::Writable { stream }
            | Event::Broken { stream, .. } => (stream, event),
        };
        let Some(slot) = self.slots.get_mut(&stream) else { return };
        match event {
            Event::Response { head, is_end, .. } => {
                slot.is_received |= is_end;
                slot.answer = Some((head, is_end));
                slot.receiver.wake();
            }
            Event::Trailers { fields, .. } => {
                slot.is_received = true;
                slot.parts.push_back(Part::Trailers(fields));
                slot.receiver.wake();
            }
            Event::Broken { why, .. } => {
                slot.broken = Some(why);
                slot.receiver.wake();
                slot.sender.wake();
            }
            Event::Writable { .. } => slot.sender.wake(),
            Event::Request { .. } | Event::Data { .. } => {}
        }
    }
}

impl Session {
    /// A connection of which nothing has been said.
    pub fn new(socket: Rc<Socket>, config: Config) -> Rc<Session> {
        let side = config.side;
        let inner = Inner { http2: Connection::new(config), slots: HashMap::default(), driver: None };
        Rc::new(Session { socket, side, inner: RefCell::new(inner) })
    }

    /// As it begins where something of it has been read already.
    pub fn begin(&self, opening: Opening) {
        let mut inner = self.inner.borrow_mut();
        match opening {
            Opening::Read(first) => inner.http2.handle_slice(first),
            Opening::Upgrade(request) => inner.http2.upgrade(request),
        }
    }

    /// Begins a stream. `is_end`: the request has no body.
    pub fn open<'a>(
        self: &Rc<Self>,
        request: Request<'_>,
        fields: impl Iterator<Item = Text<'a>>,
        is_end: bool,
    ) -> Result<(Sender, Receiver), NotOpened> {
        let mut inner = self.inner.borrow_mut();
        let stream = inner.http2.open(request, fields, is_end)?;
        inner.slots.insert(stream, Slot { is_sent: is_end, ..Slot::default() });
        inner.wake_driver();
        Ok((Sender::new(self, stream), Receiver::new(self, stream)))
    }

    /// The other side has said what it takes.
    pub fn is_open(&self) -> bool {
        self.inner.borrow().http2.is_open()
    }

    /// Streams that may be begun beside so many.
    pub fn has_room(&self, streams: usize) -> bool {
        let inner = self.inner.borrow();
        streams < inner.http2.most_streams() && !inner.http2.goes_away() && inner.http2.closed().is_none()
    }

    /// The other side takes extended CONNECT (RFC 8441).
    pub fn takes_extended_connect(&self) -> bool {
        self.inner.borrow().http2.takes_extended_connect()
    }

    /// Ends the connection, and says why.
    pub fn go_away(&self, reason: Reason) {
        let mut inner = self.inner.borrow_mut();
        inner.http2.go_away(reason);
        inner.wake_driver();
    }

    /// Which of a stream's halves are still held.
    pub(super) fn let_go(&self, stream: u32, half: impl FnOnce(&mut Slot) -> &mut Half) {
        let mut inner = self.inner.borrow_mut();
        if let Some(slot) = inner.slots.get_mut(&stream) {
            half(slot).is_gone = true;
            if slot.receiver.is_gone && slot.sender.is_gone {
                inner.slots.remove(&stream);
            }
        }
    }

    pub(super) fn is_client(&self) -> bool {
        self.side == Side::Client
    }

    /// Drives the connection until it is closed. `told` learns, each time bytes came, whether they end between two messages; `take` gets
    /// the calls.
    pub async fn drive(
        self: &Rc<Self>,
        told: impl FnMut(bool) + Unpin,
        take: impl FnMut(Incoming) + Unpin,
    ) -> Result<Closed, io::Error> {
        let mut driver = Driver {
            session: self,
            told,
            take,
            pieces: Pieces::default(),
            written: 0,
            arrived: Vec::new(),
            error: None,
            is_over: false,
            is_deaf: false,
        };
        let closed = poll_fn(|cx| driver.poll(cx)).await;
        match driver.error {
            Some(error) => Err(error),
            None => Ok(closed),
        }
    }
}

struct Driver<'a, T, R> {
    session: &'a Rc<Session>,
    told: T,
    take: R,
    /// What is being written, and how much of it is.
    pieces: Pieces,
    written: usize,
    arrived: Vec<Incoming>,
    error: Option<io::Error>,
    /// The socket gives or takes nothing more.
    is_over: bool,
    /// It is not read, as its other side does not read either.
    is_deaf: bool,
}

impl<T: FnMut(bool), R: FnMut(Incoming)> Driver<'_, T, R> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Closed> {
        {
            let inner = &mut *self.session.inner.borrow_mut();
            match &inner.driver {
                Some(known) if known.will_wake(cx.waker()) => {}
                _ => inner.driver = Some(cx.waker().clone()),
            }
        }
        self.read(cx);
        self.events();
        for incoming in self.arrived.drain(..) {
            (self.take)(incoming);
        }
        let is_written = self.write(cx);
        // Writing makes room, or finds that the socket is broken.
        self.events();
        let inner = &mut *self.session.inner.borrow_mut();
        match inner.http2.closed() {
            // What it was told last still goes out, where it is read.
            Some(closed) if self.is_over || is_written.is_ready() => return Poll::Ready(closed),
            Some(_) => {}
            None if inner.http2.live_streams() == 0
                && is_written.is_ready()
                && inner.memory() + self.pieces.memory() > KEPT_BYTES =>
            {
                self.pieces = Pieces::default();
                self.written = 0;
                inner.slots.shrink_to_fit();
                inner.http2.rest();
            }
            // What it did not read has been taken meanwhile.
            None if self.is_deaf && inner.http2.may_read() => cx.waker().wake_by_ref(),
            None => {}
        }
        Poll::Pending
    }

    fn read(&mut self, cx: &mut Context<'_>) {
        let mut has_come = false;
        for turn in 0.. {
            let inner = &mut *self.session.inner.borrow_mut();
            self.is_deaf = !inner.http2.may_read();
            if self.is_over || self.is_deaf || inner.http2.closed().is_some() {
                break;
            }
            if turn == READS_PER_TURN {
                cx.waker().wake_by_ref();
                break;
            }
            let socket = &self.session.socket;
            let read = if inner.http2.input().is_empty() {
                socket.poll_slice(cx, |bytes| inner.http2.handle_slice(bytes))
            } else {
                let read = socket.poll_onto(cx, inner.http2.input());
                if let Poll::Ready(Ok(1..)) = read {
                    inner.http2.handle_input();
                }
                read
            };
            match read {
                Poll::Pending => break,
                Poll::Ready(Ok(1..)) => has_come = true,
                Poll::Ready(result) => {
                    self.ended(inner, result.err());
                    break;
                }
            }
        }
        if has_come {
            let is_between = self.session.inner.borrow().http2.is_between_messages();
            (self.told)(is_between);
        }
    }

    fn ended(&mut self, inner: &mut Inner, error: Option<io::Error>) {
        self.is_over = true;
        self.error = error;
        inner.http2.handle_transport_closed();
    }

    fn events(&mut self) {
        let session = self.session;
        let inner = &mut *session.inner.borrow_mut();
        while let Some(event) = inner.http2.poll_event() {
            match event {
                Event::Request { stream, head, is_end } => {
                    let receiver = Half { is_gone: is_end, waker: None };
                    inner.slots.insert(stream, Slot { is_received: is_end, receiver, ..Slot::default() });
                    let body = (!is_end).then(|| Receiver::new(session, stream));
                    self.arrived.push(Incoming { head, body, answer: Sender::new(session, stream) });
                }
                event => inner.handle(event),
            }
        }
    }

    /// Ready: all that may go out is with the socket.
    fn write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut flushed = 0;
        while !self.is_over {
            if self.written == self.pieces.bytes() {
                self.pieces.clear();
                self.written = 0;
                let inner = &mut *self.session.inner.borrow_mut();
                if flushed >= FLUSH_BYTES {
                    // Others on this worker come first.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                if !inner.http2.poll_transmit(&mut self.pieces, FLUSH_BYTES) {
                    return Poll::Ready(());
                }
            }
            match ready!(self.write_some(cx)) {
                Ok(count) => {
                    self.written += count;
                    flushed += count;
                }
                Err(error) => {
                    let session = self.session;
                    self.ended(&mut session.inner.borrow_mut(), Some(error));
                }
            }
        }
        Poll::Ready(())
    }

    fn write_some(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let socket = &self.session.socket;
        let count = match self.pieces.whole() {
            Some(whole) => ready!(socket.poll_write(cx, &[IoSlice::new(&whole[self.written..])]))?,
            None => {
                let mut skip = self.written;
                let mut slices = [IoSlice::new(&[]); SLICES];
                let mut used = 0;
                for slice in self.pieces.slices() {
                    let skipped = skip.min(slice.len());
                    skip -= skipped;
                    if skipped < slice.len() && used < SLICES {
                        slices[used] = IoSlice::new(&slice[skipped..]);
                        used += 1;
                    }
                }
                ready!(socket.poll_write(cx, &slices[..used]))?
            }
        };
        Poll::Ready(if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) })
    }
}
