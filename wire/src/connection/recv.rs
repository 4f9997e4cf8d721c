//! What the peer sends: frames are split off the input and each does its work.

use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};

use crate::dictionary::{Dynamic, Encoder};
use crate::frame::{END, EXT, FrameHeader, FrameType, KEEP, Reader, TOO_LARGE, Violation};
use crate::limits::{
    COPY_BELOW_BYTES, CREDIT_CEILING_BYTES, DATA_FRAME_BYTES, EXTENSION_BYTES, FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES,
    HELLO_BYTES, INLINE_BODY_BYTES, QUICK_CANCEL, REASON_TEXT_BYTES, SMALL_QUEUE_CEILING_BYTES, UNACCEPTED_BYTES,
    WAITING_HEADS_BYTES, WAITING_REQUESTS_BYTES,
};
use crate::{
    Cancel, CloseReason, ErrorInfo, Event, Executed, Nack, NackReason, Origin, RequestHead, RequestId, ResponseHead,
    Side,
};

use super::send::retry_after;
use super::streams::{RecvState, SendState, Stream};
use super::{Connection, Phase, hello};

/// Why the connection ends because of a frame.
enum Fault {
    Protocol(Violation),
    Flood,
    Version,
}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Self {
        Self::Protocol(violation)
    }
}

impl Connection {
    /// Bytes from the transport, which the driver may use anew afterwards: body bytes are copied out of them, once, and of a frame that
    /// is cut at their end what came of it is kept.
    pub fn handle_slice(&mut self, now: Instant, mut bytes: &[u8]) {
        if self.phase == Phase::Closed || bytes.is_empty() {
            return;
        }
        self.liveness.heard(now);
        let done = self.complete(now, &mut bytes).and_then(|()| self.whole_frames(now, &mut bytes));
        self.after_input(done);
        if self.phase != Phase::Closed {
            self.partial.extend_from_slice(bytes);
        }
    }

    /// Bytes from the transport in a buffer that is given away piece by piece: complete frames are split off `input`, large DATA payloads
    /// without a copy; an incomplete frame stays in `input` for the next call. A driver uses this or [`Self::handle_slice`], not both.
    pub fn handle_input(&mut self, now: Instant, input: &mut BytesMut) {
        if self.phase == Phase::Closed {
            input.clear();
            return;
        }
        if input.len() == self.leftover {
            return;
        }
        self.liveness.heard(now);
        let done = self.split_frames(now, input);
        self.after_input(done);
        if self.phase == Phase::Closed {
            input.clear();
        }
        self.leftover = input.len();
    }

    fn after_input(&mut self, done: Result<(), Fault>) {
        if let Err(fault) = done {
            self.close(match fault {
                Fault::Protocol(violation) => CloseReason::Protocol(violation),
                Fault::Flood => CloseReason::Flood,
                Fault::Version => CloseReason::Version,
            });
        }
    }

    /// Completes the frame that the last bytes ended in, taking from `bytes` no more than it needs.
    fn complete(&mut self, now: Instant, bytes: &mut &[u8]) -> Result<(), Fault> {
        if self.partial.is_empty() {
            return Ok(());
        }
        let mut partial = std::mem::take(&mut self.partial);
        // First its header, then the rest.
        while !partial.is_empty() && !bytes.is_empty() {
            let length = match FrameHeader::parse(&partial) {
                Some(header) => FRAME_HEADER_BYTES + header.length,
                None => FRAME_HEADER_BYTES,
            };
            let (part, rest) = bytes.split_at(bytes.len().min(length - partial.len()));
            partial.reserve(length - partial.len());
            partial.extend_from_slice(part);
            *bytes = rest;
            self.split_frames(now, &mut partial)?;
        }
        if !partial.is_empty() {
            self.partial = partial;
        }
        Ok(())
    }

    /// Takes the complete frames at the beginning of `bytes`.
    fn whole_frames(&mut self, now: Instant, bytes: &mut &[u8]) -> Result<(), Fault> {
        while self.phase != Phase::Closed
            && let Some((header, kind, length)) = next_frame(self.phase, bytes)?
        {
            let (frame, rest) = bytes.split_at(length);
            *bytes = rest;
            self.on_frame(now, kind, header, &frame[FRAME_HEADER_BYTES..])?;
        }
        Ok(())
    }

    /// As [`Self::whole_frames`], without a copy of large bodies.
    fn split_frames(&mut self, now: Instant, input: &mut BytesMut) -> Result<(), Fault> {
        // Frames before this have been read; they are dropped from the buffer in one step.
        let mut at = 0;
        while self.phase != Phase::Closed
            && let Some((header, kind, length)) = next_frame(self.phase, &input[at..])?
        {
            if kind == Some(FrameType::Data) && header.length >= COPY_BELOW_BYTES {
                input.advance(at + FRAME_HEADER_BYTES);
                at = 0;
                let mut body = input.split_to(header.length).freeze();
                body.advance(header.length - payload(header, &body)?.rest().len());
                self.on_data(header.id, body, header.flags & END != 0)?;
            } else {
                self.on_frame(now, kind, header, &input[at + FRAME_HEADER_BYTES..at + length])?;
                at += length;
            }
        }
        input.advance(at);
        Ok(())
    }

    fn on_frame(
        &mut self,
        now: Instant,
        kind: Option<FrameType>,
        header: FrameHeader,
        bytes: &[u8],
    ) -> Result<(), Fault> {
        let Some(kind) = kind else { return Ok(()) };
        let payload = payload(header, bytes)?;
        let id = header.id;
        let end = header.flags & END != 0;
        match kind {
            FrameType::Hello => self.on_hello(now, payload)?,
            FrameType::Ping => self.liveness.on_ping(payload)?,
            FrameType::Pong => self.liveness.on_pong(now, payload)?,
            FrameType::Drain => self.on_drain(payload)?,
            FrameType::Goodbye => self.on_goodbye(payload)?,
            FrameType::Request => self.on_request(now, id, end, payload)?,
            FrameType::Response => self.on_response(id, end, payload)?,
            FrameType::Data => self.on_data(id, Bytes::copy_from_slice(payload.rest()), end)?,
            FrameType::Trailers => self.on_trailers(id, end, payload)?,
            FrameType::Credit => self.on_credit(id, payload)?,
            FrameType::Cancel => self.on_cancel(now, id, header.flags & KEEP != 0, payload)?,
            FrameType::Nack => self.on_nack(id, payload)?,
            FrameType::Error => self.on_error(id, payload)?,
        }
        Ok(())
    }

    fn on_hello(&mut self, now: Instant, payload: Reader<'_>) -> Result<(), Fault> {
        if self.phase != Phase::AwaitHello {
            return Err("second HELLO".into());
        }
        let peer = hello::decode(payload)?.ok_or(Fault::Version)?;
        self.encoder = Encoder::new(self.config.dictionary_bytes.min(peer.dictionary));
        self.bulk.set_allowed(peer.flight);
        self.events.hello(peer.hello.clone());
        self.peer = Some(peer);
        self.phase = Phase::AwaitAccept;
        self.liveness.hello_came(now);
        Ok(())
    }

    fn on_request(&mut self, now: Instant, id: u64, end: bool, mut payload: Reader<'_>) -> Result<(), Fault> {
        if self.side == Side::Client {
            return Err("REQUEST from the server".into());
        }
        if id != self.next_id {
            return Err("request ID out of order".into());
        }
        self.next_id += 1;
        // Decoded even when it will be refused: the dictionary must follow.
        let head = RequestHead::decode(&mut payload, &mut self.decoder, self.config.max_head_bytes)?;
        let body = inline_body(payload, end)?;
        self.bulk.small_frame_seen();
        if self.small_waiting() > SMALL_QUEUE_CEILING_BYTES {
            return Err(Fault::Flood);
        }
        if self.drained_at.is_some_and(|last| id > last) {
            self.put_nack(id, Nack { reason: NackReason::Draining, retry_after: None });
            return Ok(());
        }
        let may_wait = if self.phase == Phase::Open { WAITING_REQUESTS_BYTES } else { UNACCEPTED_BYTES };
        let event = Event::Request { id: RequestId(id), head, body, end };
        if self.streams.len() >= self.config.max_concurrent as usize
            || self.events.requests() + event.memory().0 > may_wait
        {
            if !self.flood.spend(now) {
                return Err(Fault::Flood);
            }
            self.put_nack(id, Nack { reason: NackReason::Overloaded, retry_after: None });
            return Ok(());
        }
        let credit = self.peer.as_ref().map_or(0, |peer| peer.initial_credit);
        let recv = if end { RecvState::Ended } else { RecvState::Body };
        let mut stream = Stream::new(SendState::Head, recv, credit, self.config.initial_credit, now);
        stream.first_event = self.events.push(event);
        stream.last_event = stream.first_event;
        self.streams.insert(id, stream);
        Ok(())
    }

    fn on_response(&mut self, id: u64, end: bool, mut payload: Reader<'_>) -> Result<(), Fault> {
        if self.side == Side::Server {
            return Err("RESPONSE from the client".into());
        }
        // Decoded even when it is late: the dictionary must follow.
        let head = ResponseHead::decode(&mut payload, &mut self.decoder, self.config.max_head_bytes)?;
        let body = inline_body(payload, end)?;
        self.bulk.small_frame_seen();
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(self.late(id)?) };
        if stream.recv != RecvState::Head {
            return Err("second RESPONSE".into());
        }
        stream.recv = if end { RecvState::Ended } else { RecvState::Body };
        stream.last_event =
            self.events.push(Event::Response { id: RequestId(id), token: stream.token, head, body, end });
        if end && stream.send == SendState::Ended {
            self.remove(id);
        } else if end {
            self.received_end(id);
        }
        self.bound_heads()
    }

    fn on_trailers(&mut self, id: u64, end: bool, mut payload: Reader<'_>) -> Result<(), Fault> {
        if !end {
            return Err("TRAILERS without END".into());
        }
        let trailers = self.decoder.fields(&mut payload, self.config.max_head_bytes, Dynamic::Forbidden, 0)?;
        payload.end()?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(self.late(id)?) };
        match stream.recv {
            RecvState::Head => return Err("TRAILERS before RESPONSE".into()),
            RecvState::Ended => return Err("TRAILERS after END".into()),
            RecvState::Discarding => self.late_frames += 1,
            RecvState::Body => {}
        }
        stream.recv = RecvState::Ended;
        self.tell_held(id);
        self.tell(id, |token| Event::Trailers { id: RequestId(id), token, trailers });
        self.received_end(id);
        self.bound_heads()
    }

    fn bound_heads(&self) -> Result<(), Fault> {
        if self.events.heads() > WAITING_HEADS_BYTES { Err(Fault::Flood) } else { Ok(()) }
    }

    fn on_credit(&mut self, id: u64, mut payload: Reader<'_>) -> Result<(), Violation> {
        let bytes = payload.u32()?;
        payload.end()?;
        if bytes == 0 {
            return Err("CREDIT of 0");
        }
        if id == 0 {
            return if self.bulk.returned(bytes) { Ok(()) } else { Err("CREDIT for more than was sent") };
        }
        let Some(stream) = self.streams.get_mut(&id) else { return self.late(id) };
        stream.credit += u64::from(bytes);
        if stream.credit > CREDIT_CEILING_BYTES {
            return Err("too much CREDIT");
        }
        // Not as one that was idle: it had its turns and used up its credit.
        self.bulk.list(id, stream, false);
        self.after_sending(id);
        Ok(())
    }

    fn on_cancel(&mut self, now: Instant, id: u64, keep: bool, mut payload: Reader<'_>) -> Result<(), Fault> {
        let code = Cancel::from_code(payload.u16()?);
        payload.end()?;
        if keep && self.side == Side::Server {
            return Err("CANCEL with KEEP from the client".into());
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(self.late(id)?) };
        if keep {
            if stream.send != SendState::Ended {
                self.budget.forget(id, stream);
                stream.stop();
                self.settle(id);
                self.call_waiting();
            }
            return Ok(());
        }
        let young = self.side == Side::Server
            && stream.send == SendState::Head
            && now.saturating_duration_since(stream.opened) < QUICK_CANCEL;
        if self.side == Side::Server && !self.events.is_polled(stream.first_event) {
            // Nobody ever heard of this call: nothing need be said of it.
            self.events.mute(id, stream.last_event);
        } else {
            self.tell_held(id);
            self.tell(id, |token| Event::Cancelled { id: RequestId(id), token, code });
        }
        self.remove(id);
        if young && !self.flood.spend(now) { Err(Fault::Flood) } else { Ok(()) }
    }

    fn on_nack(&mut self, id: u64, mut payload: Reader<'_>) -> Result<(), Violation> {
        let reason = NackReason::from_code(payload.u16()?);
        let retry_after = retry_after(payload.u32()?);
        payload.end()?;
        if self.side == Side::Server {
            return Err("NACK from the client");
        }
        self.bulk.small_frame_seen();
        let Some(stream) = self.streams.get(&id) else { return self.late(id) };
        if stream.recv != RecvState::Head {
            return Err("NACK after RESPONSE");
        }
        let nack = Nack { reason, retry_after };
        self.tell(id, |token| Event::Nack { id: RequestId(id), token, nack });
        self.remove(id);
        Ok(())
    }

    fn on_error(&mut self, id: u64, mut payload: Reader<'_>) -> Result<(), Violation> {
        let code = payload.u16()?;
        let origin = match payload.u8()? {
            0 => Origin::RemoteSidecar,
            1 => Origin::App,
            _ => return Err("unknown origin of an error"),
        };
        let executed = match payload.u8()? {
            0 => Executed::No,
            1 => Executed::Yes,
            2 => Executed::Unknown,
            _ => return Err("unknown execution state of an error"),
        };
        let text = reason_text(payload)?;
        if self.side == Side::Server {
            return Err("ERROR from the client");
        }
        self.bulk.small_frame_seen();
        if !self.streams.contains_key(&id) {
            return self.late(id);
        }
        self.tell_held(id);
        let error = ErrorInfo { code, origin, executed, text };
        self.tell(id, |token| Event::Error { id: RequestId(id), token, error });
        self.remove(id);
        Ok(())
    }

    fn on_drain(&mut self, mut payload: Reader<'_>) -> Result<(), Violation> {
        let last = payload.u64()?;
        payload.end()?;
        if self.peer_draining {
            return Err("second DRAIN");
        }
        self.peer_draining = true;
        let opened = if self.side == Side::Client { self.next_id - 1 } else { 0 };
        if last > opened {
            return Err("DRAIN above the last call");
        }
        self.events.push(Event::Draining { last: RequestId(last) });
        if self.side == Side::Server {
            return Ok(());
        }
        let mut above: Vec<u64> = self.streams.keys().copied().filter(|id| *id > last).collect();
        above.sort_unstable();
        for id in above {
            if self.streams.get(&id).is_some_and(|stream| stream.recv != RecvState::Head) {
                return Err("DRAIN below a call that was answered");
            }
            let nack = Nack { reason: NackReason::Draining, retry_after: None };
            self.tell(id, |token| Event::Nack { id: RequestId(id), token, nack });
            self.remove(id);
        }
        Ok(())
    }

    fn on_goodbye(&mut self, mut payload: Reader<'_>) -> Result<(), Violation> {
        let code = payload.u16()?;
        let text = reason_text(payload)?;
        self.close(CloseReason::Goodbye { code, text });
        Ok(())
    }

    /// A frame for a stream that is gone is counted and dropped; one for a stream that never was is a violation.
    pub(super) fn late(&mut self, id: u64) -> Result<(), Violation> {
        if id >= self.next_id {
            return Err("frame for a call that was never opened");
        }
        self.late_frames += 1;
        Ok(())
    }
}

/// The header of the frame at the beginning of `bytes`, its kind (`None`: it is passed over), and how many bytes it has with its
/// header; nothing while some of them are still to come.
#[inline]
fn next_frame(phase: Phase, bytes: &[u8]) -> Result<Option<(FrameHeader, Option<FrameType>, usize)>, Violation> {
    let Some(header) = FrameHeader::parse(bytes) else { return Ok(None) };
    // Checked before the payload is waited for: nothing is gathered for a frame that will be refused.
    let kind = header.check()?;
    check_length(phase, &header, kind)?;
    let length = FRAME_HEADER_BYTES + header.length;
    Ok((bytes.len() >= length).then_some((header, kind, length)))
}

/// What stands behind the extensions, if there are any.
#[inline]
fn payload(header: FrameHeader, bytes: &[u8]) -> Result<Reader<'_>, Violation> {
    let mut payload = Reader::new(bytes);
    if header.flags & EXT != 0 {
        payload.skip_extensions()?;
    }
    Ok(payload)
}

fn check_length(phase: Phase, header: &FrameHeader, kind: Option<FrameType>) -> Result<(), Violation> {
    if phase == Phase::AwaitHello && !matches!(kind, Some(FrameType::Hello | FrameType::Goodbye)) {
        return Err("the first frame is not HELLO");
    }
    let extensions = if header.flags & EXT != 0 { EXTENSION_BYTES + 2 } else { 0 };
    let most = match kind {
        Some(FrameType::Hello) => HELLO_BYTES,
        Some(FrameType::Data) => DATA_FRAME_BYTES + extensions,
        _ => FRAME_PAYLOAD_BYTES,
    };
    if header.length > most { Err(TOO_LARGE) } else { Ok(()) }
}

/// What follows a head is the whole body, or nothing.
fn inline_body(payload: Reader<'_>, end: bool) -> Result<Bytes, Violation> {
    let body = payload.rest();
    if body.is_empty() {
        return Ok(Bytes::new());
    }
    if !end {
        return Err("inline body without END");
    }
    if body.len() > INLINE_BODY_BYTES {
        return Err("inline body too large");
    }
    Ok(Bytes::copy_from_slice(body))
}

fn reason_text(payload: Reader<'_>) -> Result<String, Violation> {
    let text = payload.rest();
    if text.len() > REASON_TEXT_BYTES {
        return Err("reason text too long");
    }
    Ok(String::from_utf8_lossy(text).into_owned())
}
