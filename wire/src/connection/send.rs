//! What the driver sends: calls, answers, bodies, refusals. And the bytes that come of it.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::frame::{END, FrameType, KEEP, begin, finish};
use crate::head::{encode_trailers, fits};
use crate::limits::{INLINE_BODY_BYTES, REASON_TEXT_BYTES, SMALL_QUEUE_BYTES, SMALL_QUEUE_CEILING_BYTES};
use crate::{
    Cancel, CloseReason, ErrorInfo, Executed, Headers, Nack, OpenError, Origin, RequestHead, RequestId, ResponseHead,
    SendError, Side, Token, Transmit,
};

use super::hello::{Peer, cut};
use super::streams::{RecvState, SendState, Stream, Wait};
use super::{Connection, Phase};

/// A NACK without a hint when to try again.
const NO_RETRY_AFTER: u32 = u32::MAX;

/// How a body given together with a head travels.
struct Plan {
    inline: bool,
    state: SendState,
}

impl Plan {
    fn of(body: &Bytes, end: bool) -> Self {
        let inline = end && body.len() <= INLINE_BODY_BYTES;
        let state = match (inline, end) {
            (true, _) => SendState::Ended,
            (false, true) => SendState::Ending,
            (false, false) => SendState::Body,
        };
        Self { inline, state }
    }

    /// What of the body waits for credit.
    fn queued(&self, body: &Bytes) -> usize {
        if self.inline { 0 } else { body.len() }
    }

    fn flags(&self) -> u8 {
        if self.inline { END } else { 0 }
    }
}

impl Connection {
    /// Client side: opens a call. `end`: no more body follows. A whole body of at most [`INLINE_BODY_BYTES`] travels with the head,
    /// any other is queued as DATA and goes as credit comes. A body that does not fit what is left of [`Config::send_budget`](crate::Config)
    /// gives [`OpenError::TooManyCalls`].
    ///
    /// # Errors
    /// See [`OpenError`]; nothing was queued then.
    pub fn open(
        &mut self,
        now: Instant,
        head: &RequestHead,
        body: Bytes,
        end: bool,
        token: Token,
    ) -> Result<RequestId, OpenError> {
        let peer = match (self.phase, &self.peer) {
            (Phase::Closed, _) => return Err(OpenError::Closed),
            (Phase::Open, Some(peer)) if self.side == Side::Client => peer,
            _ => return Err(OpenError::NotReady),
        };
        if self.is_draining() {
            return Err(OpenError::Draining);
        }
        let plan = Plan::of(&body, end);
        if self.streams.len() >= peer.max_concurrent
            || self.small_waiting() > SMALL_QUEUE_BYTES
            || plan.queued(&body) > self.budget.room_for_new()
        {
            return Err(OpenError::TooManyCalls);
        }
        if !fits_peer(peer, head.text_bytes(), head.headers.len(), if plan.inline { body.len() } else { 0 }) {
            return Err(OpenError::HeadTooLarge);
        }
        let id = self.next_id;
        let mut stream = Stream::new(plan.state, RecvState::Head, peer.initial_credit, self.config.initial_credit, now);
        stream.token = token;
        stream.request_at = self.outbox.position();
        let out = self.outbox.buffer();
        let at = begin(out, FrameType::Request, plan.flags(), id);
        head.encode(&mut self.encoder, out);
        self.next_id += 1;
        if plan.inline {
            out.extend_from_slice(&body);
            finish(out, at);
        } else {
            finish(out, at);
            self.budget.queue(&mut stream, body);
            self.bulk.list(id, &mut stream, true);
        }
        self.bulk.small_frame_seen();
        self.streams.insert(id, stream);
        Ok(RequestId(id))
    }

    /// Server side: the answer. `body` and `end` as for [`Self::open`]; a body that does not fit what is left of the send budget gives
    /// [`SendError::NoRoom`]: send the head alone, and the body as there is room.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was queued then.
    pub fn respond(&mut self, id: RequestId, head: &ResponseHead, body: Bytes, end: bool) -> Result<(), SendError> {
        self.cut_off_if_it_never_reads()?;
        let (Some(stream), Some(peer)) = (self.streams.get_mut(&id.0), &self.peer) else {
            return Err(SendError::UnknownStream);
        };
        if stream.send != SendState::Head {
            return Err(SendError::AlreadyEnded);
        }
        let plan = Plan::of(&body, end);
        if plan.queued(&body) > self.budget.room_for_new() {
            return Err(SendError::NoRoom);
        }
        if !fits_peer(peer, head.headers.text_bytes(), head.headers.len(), if plan.inline { body.len() } else { 0 }) {
            return Err(SendError::HeadTooLarge);
        }
        stream.send = plan.state;
        let out = self.outbox.buffer();
        let at = begin(out, FrameType::Response, plan.flags(), id.0);
        head.encode(&mut self.encoder, out);
        if plan.inline {
            out.extend_from_slice(&body);
            finish(out, at);
        } else {
            finish(out, at);
            self.budget.queue(stream, body);
            self.bulk.list(id.0, stream, true);
        }
        stream.silence_if_done();
        let over = stream.is_over();
        self.bulk.small_frame_seen();
        self.flood.earn();
        if over {
            self.remove(id.0);
        }
        Ok(())
    }

    /// Server side: the call is guaranteed not to have been executed, and ends. After an answer has begun it can only be cancelled, and is.
    pub fn nack(&mut self, id: RequestId, nack: Nack) {
        match self.streams.get(&id.0) {
            Some(stream) if stream.send == SendState::Head => {
                self.end_locally(id.0);
                self.put_nack(id.0, nack);
            }
            _ => self.cancel(id, Cancel::Protocol),
        }
    }

    /// Server side: the call failed, and ends. When the answer was complete already, only the upload ends.
    pub fn error(&mut self, id: RequestId, error: ErrorInfo) {
        let Some(stream) = self.streams.get(&id.0) else { return self.events.mute_gone(id.0) };
        if self.side == Side::Client {
            return self.cancel(id, Cancel::Protocol);
        }
        if stream.send == SendState::Ended {
            return self.cancel(id, Cancel::NoLongerNeeded);
        }
        self.end_locally(id.0);
        self.bulk.small_frame_seen();
        let origin = match error.origin {
            Origin::RemoteSidecar => 0,
            Origin::App => 1,
        };
        let executed = match error.executed {
            Executed::No => 0,
            Executed::Yes => 1,
            Executed::Unknown => 2,
        };
        let text = cut(&error.text, REASON_TEXT_BYTES).as_bytes();
        self.outbox.frame(FrameType::Error, 0, id.0, &[&error.code.to_be_bytes(), &[origin, executed], text]);
    }

    /// Ends the stream at once, both directions. No further event comes for it, not even of what had come before and was not looked at.
    ///
    /// Server side, with [`Cancel::NoLongerNeeded`] and an answer that has been given whole: the answer goes out to its end, only the
    /// upload stops.
    pub fn cancel(&mut self, id: RequestId, code: Cancel) {
        let Some(stream) = self.streams.get_mut(&id.0) else { return self.events.mute_gone(id.0) };
        let answered = matches!(stream.send, SendState::Ending | SendState::Ended);
        let mut flags = 0;
        if self.side == Side::Server && code == Cancel::NoLongerNeeded && answered {
            stream.silent = true;
            self.events.mute(id.0, stream.last_event);
            if stream.recv != RecvState::Body {
                return;
            }
            flags = KEEP;
            stream.recv = RecvState::Discarding;
            self.inbound.discard(stream);
            self.return_flight();
            self.settle(id.0);
        } else {
            self.end_locally(id.0);
        }
        self.outbox.frame(FrameType::Cancel, flags, id.0, &[&code.code().to_be_bytes()]);
    }

    /// How many body bytes `send_data` takes now (credit, local queue, and what the queues of all streams may hold). 0: wait for [`Event::Writable`](crate::Event::Writable), or
    /// for the stream's last event. It stays 0 once the peer wants no more of this body.
    #[must_use]
    pub fn send_room(&mut self, id: RequestId) -> usize {
        let Some(stream) = self.streams.get_mut(&id.0) else { return 0 };
        let room = self.budget.room(stream);
        if room == 0 {
            self.budget.wait(id.0, stream);
        }
        room
    }

    /// Body bytes; empty with `end` is a half-close. When the peer wants no more of this body they are dropped: its answer goes on,
    /// and [`Event::Cancelled`](crate::Event::Cancelled) with [`Cancel::NoLongerNeeded`] follows it unless `end` has been given.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was queued then.
    pub fn send_data(&mut self, id: RequestId, data: Bytes, end: bool) -> Result<(), SendError> {
        let stream = sendable_stream(self.streams.get_mut(&id.0))?;
        if stream.send == SendState::Stopped {
            return self.send_into_the_void(id.0, end);
        }
        let room = self.budget.room(stream);
        if data.len() > room {
            if room == 0 {
                self.budget.wait(id.0, stream);
            } else if stream.wait == Wait::No {
                stream.wait = Wait::Credit;
            }
            return Err(SendError::NoRoom);
        }
        if end || !data.is_empty() {
            self.budget.leave(id.0, stream);
        }
        self.budget.queue(stream, data);
        if end {
            stream.send = SendState::Ending;
            stream.silence_if_done();
        }
        self.bulk.list(id.0, stream, true);
        self.call_waiting();
        Ok(())
    }

    /// Trailers, behind all of the body; they end this direction.
    ///
    /// # Errors
    /// See [`SendError`]; nothing was queued then.
    pub fn send_trailers(&mut self, id: RequestId, trailers: &Headers) -> Result<(), SendError> {
        self.cut_off_if_it_never_reads()?;
        let stream = sendable_stream(self.streams.get_mut(&id.0))?;
        if !self.peer.as_ref().is_some_and(|peer| fits_peer(peer, trailers.text_bytes(), trailers.len(), 0)) {
            return Err(SendError::HeadTooLarge);
        }
        if stream.send == SendState::Stopped {
            return self.send_into_the_void(id.0, true);
        }
        self.budget.leave(id.0, stream);
        self.budget.put_trailers(stream, encode_trailers(trailers));
        stream.send = SendState::Ending;
        stream.silence_if_done();
        self.bulk.list(id.0, stream, true);
        self.call_waiting();
        Ok(())
    }

    /// Heads and trailers take no credit: a peer that has answers made and does not read them is not worth their memory.
    fn cut_off_if_it_never_reads(&mut self) -> Result<(), SendError> {
        if self.small_waiting() <= SMALL_QUEUE_CEILING_BYTES {
            return Ok(());
        }
        self.close(CloseReason::Flood);
        Err(SendError::UnknownStream)
    }

    /// The peer wants no more of this body.
    fn send_into_the_void(&mut self, id: u64, end: bool) -> Result<(), SendError> {
        if end && let Some(stream) = self.streams.get_mut(&id) {
            stream.send = SendState::Ended;
            stream.silence_if_done();
            self.settle(id);
        }
        Ok(())
    }

    /// There is something that `poll_transmit` would give.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        self.outbox.pending() > 0
            || (self.phase != Phase::Closed && (self.liveness.wants_pong() || self.bulk.wants_turn()))
    }

    /// Appends about `max` bytes of frames to `out`: control and small frames first, then bulk, in turns. False: there was nothing
    /// to send. It may cause events ([`Event::Writable`](crate::Event::Writable)). After `Closed` by our side the GOODBYE is still given out.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut impl Transmit, max: usize) -> bool {
        let before = out.bytes();
        // A PONG passes all that waits: its way is the peer's measure of us. Only the HELLO goes before it. It is no part of the outbox,
        // whose positions say which requests have left.
        let open = self.phase != Phase::Closed;
        if open && self.outbox.given() > 0 {
            self.liveness.send_pong(now, out.frames());
        }
        if self.outbox.pending() > 0 {
            self.outbox.give(out.frames(), max);
        }
        if open {
            self.liveness.send_pong(now, out.frames());
        }
        if self.phase == Phase::Open && self.outbox.pending() == 0 {
            self.transmit_bulk(out, before.saturating_add(max));
        }
        out.bytes() > before
    }

    /// The peer's END has been told to the driver.
    pub(super) fn received_end(&mut self, id: u64) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.silence_if_done();
            self.settle(id);
        }
    }

    /// Removes a stream whose both directions are over.
    pub(super) fn settle(&mut self, id: u64) {
        let Some(stream) = self.streams.get(&id) else { return };
        if !stream.is_over() {
            return;
        }
        if stream.send == SendState::Stopped {
            // Only now is it told, so that the answer came whole before it.
            let code = Cancel::NoLongerNeeded;
            self.tell(id, |token| crate::Event::Cancelled { id: RequestId(id), token, code });
        }
        self.remove(id);
    }

    /// The driver ends a stream: what waits to be told of it is not told any more.
    fn end_locally(&mut self, id: u64) {
        if let Some(last_event) = self.remove(id) {
            self.events.mute(id, last_event);
        }
    }

    pub(super) fn put_nack(&mut self, id: u64, nack: Nack) {
        self.bulk.small_frame_seen();
        let retry_after = nack.retry_after.map_or(NO_RETRY_AFTER, |after| {
            u32::try_from(after.as_millis()).unwrap_or(NO_RETRY_AFTER).min(NO_RETRY_AFTER - 1)
        });
        self.outbox.frame(FrameType::Nack, 0, id, &[&nack.reason.code().to_be_bytes(), &retry_after.to_be_bytes()]);
    }
}

/// The hint of a NACK.
pub(super) fn retry_after(millis: u32) -> Option<Duration> {
    (millis != NO_RETRY_AFTER).then(|| Duration::from_millis(u64::from(millis)))
}

fn fits_peer(peer: &Peer, text: usize, fields: usize, body: usize) -> bool {
    fits(text, fields, body, peer.max_head, peer.max_frame)
}

/// The stream, if it takes body bytes.
fn sendable_stream(stream: Option<&mut Stream>) -> Result<&mut Stream, SendError> {
    let stream = stream.ok_or(SendError::UnknownStream)?;
    match stream.send {
        SendState::Body | SendState::Stopped => Ok(stream),
        SendState::Head | SendState::Ending | SendState::Ended => Err(SendError::AlreadyEnded),
    }
}
