//! What comes in.

use bytes::{Buf, Bytes, BytesMut};

use super::{Broken, Closed, Connection, Event, Phase};
use crate::frame::{self, FrameHead, HEAD_BYTES, flag, kind};
use crate::head::RequestHead;
use crate::limits::{COPY_BELOW_BYTES, UNREAD_BYTES, WINDOW_BYTES};
use crate::{PREFACE, Reason, Side};

/// What is wrong with a frame, and what ends over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Connection(Reason, &'static str),
    Stream(u32, Reason, &'static str),
}

pub(super) fn protocol(what: &'static str) -> Fault {
    Fault::Connection(Reason::PROTOCOL_ERROR, what)
}

pub(super) fn wrong_size(what: &'static str) -> Fault {
    Fault::Connection(Reason::FRAME_SIZE_ERROR, what)
}

/// A frame's payload.
enum Payload<'a> {
    /// In a buffer that is used for other things.
    Borrowed(&'a [u8]),
    /// In one of its own.
    Owned(Bytes),
}

impl Payload<'_> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self {
            Payload::Borrowed(bytes) => bytes,
            Payload::Owned(bytes) => bytes,
        }
    }

    fn into_bytes(self, range: std::ops::Range<usize>) -> Bytes {
        match self {
            Payload::Owned(bytes) if range.len() >= COPY_BELOW_BYTES => bytes.slice(range),
            other => Bytes::copy_from_slice(&other.bytes()[range]),
        }
    }
}

impl Connection {
    /// Bytes have come. Whole frames are read where they lie; what is left is kept.
    pub fn handle_slice(&mut self, mut bytes: &[u8]) {
        if !self.input.is_empty() {
            self.input.extend_from_slice(bytes);
            return self.handle_input();
        }
        while !bytes.is_empty() && !self.is_closed() {
            let used = match self.next(bytes) {
                Ok(Some(Next::Preface)) => {
                    self.phase = Phase::Greeting;
                    PREFACE.len()
                }
                Ok(Some(Next::Frame(head))) => {
                    let end = HEAD_BYTES + head.length;
                    self.handle_frame(head, Payload::Borrowed(&bytes[HEAD_BYTES..end]));
                    end
                }
                Ok(None) => {
                    self.input.reserve(self.missing(bytes) + bytes.len());
                    return self.input.extend_from_slice(bytes);
                }
                Err(fault) => return self.end_over(fault),
            };
            bytes = &bytes[used..];
        }
    }

    /// Where to read what is missing of a frame that is not whole: use it if it is not empty, and call [`Self::handle_input`].
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Bytes have come into [`Self::input`].
    pub fn handle_input(&mut self) {
        while !self.input.is_empty() && !self.is_closed() {
            match self.next(&self.input) {
                Ok(Some(Next::Preface)) => {
                    self.phase = Phase::Greeting;
                    self.input.advance(PREFACE.len());
                }
                Ok(Some(Next::Frame(head))) => {
                    self.input.advance(HEAD_BYTES);
                    let payload = self.input.split_to(head.length).freeze();
                    self.handle_frame(head, Payload::Owned(payload));
                }
                Ok(None) => {
                    let missing = self.missing(&self.input);
                    return self.input.reserve(missing);
                }
                Err(fault) => return self.end_over(fault),
            }
        }
    }

    /// Whether the other side is to be read: it takes what we say.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.output.len() < UNREAD_BYTES
    }

    /// What `bytes` begin with, if it is all here.
    #[inline]
    fn next(&self, bytes: &[u8]) -> Result<Option<Next>, Fault> {
        if self.phase == Phase::Preface {
            let count = bytes.len().min(PREFACE.len());
            if bytes[..count] != PREFACE[..count] {
                return Err(protocol("it does not begin as HTTP/2 does"));
            }
            return Ok((count == PREFACE.len()).then_some(Next::Preface));
        }
        let Some(head) = FrameHead::parse(bytes) else { return Ok(None) };
        if head.length > self.config.frame_bytes as usize {
            return Err(wrong_size("a frame longer than we take"));
        }
        Ok((bytes.len() >= HEAD_BYTES + head.length).then_some(Next::Frame(head)))
    }

    /// How many bytes what `bytes` begin with needs still, at least.
    fn missing(&self, bytes: &[u8]) -> usize {
        let whole = match FrameHead::parse(bytes) {
            _ if self.phase == Phase::Preface => PREFACE.len(),
            Some(head) => HEAD_BYTES + head.length,
            None => HEAD_BYTES,
        };
        whole.saturating_sub(bytes.len())
    }

    fn end_over(&mut self, fault: Fault) {
        match fault {
            Fault::Connection(reason, what) => self.close(Closed::Violation(reason, what)),
            Fault::Stream(stream, reason, what) => {
                self.break_off(stream, reason, what);
                if !self.spend() {
                    self.close(Closed::Violation(Reason::ENHANCE_YOUR_CALM, "too many streams against the rules"));
                }
            }
        }
    }

    fn handle_frame(&mut self, head: FrameHead, payload: Payload<'_>) {
        if let Err(fault) = self.read_frame(head, payload) {
            self.end_over(fault);
        }
    }

    #[inline]
    fn read_frame(&mut self, head: FrameHead, payload: Payload<'_>) -> Result<(), Fault> {
        if self.phase != Phase::Open {
            return self.read_first(head, &payload);
        }
        if self.block.is_some() && head.kind != kind::CONTINUATION {
            return Err(protocol("another frame within a list of fields"));
        }
        let bytes = payload.bytes();
        match head.kind {
            kind::DATA => self.read_data(head, payload),
            kind::HEADERS => self.read_headers(head, bytes),
            kind::CONTINUATION => self.read_continuation(head, bytes),
            kind::WINDOW_UPDATE => self.read_window_update(head.stream, bytes),
            kind::RST_STREAM => self.read_reset(head.stream, bytes),
            kind::SETTINGS => self.read_settings(head, bytes),
            kind::PING => {
                if head.stream != 0 {
                    return Err(protocol("PING on a stream"));
                }
                if bytes.len() != 8 {
                    return Err(wrong_size("PING of a length that it cannot have"));
                }
                if !head.has(flag::ACK) {
                    frame::put(&mut self.output, kind::PING, flag::ACK, 0, bytes);
                }
                Ok(())
            }
            kind::GOAWAY => self.read_goaway(head.stream, bytes),
            kind::PRIORITY => {
                if head.stream == 0 {
                    return Err(protocol("PRIORITY of no stream"));
                }
                if bytes.len() != 5 {
                    return Err(wrong_size("PRIORITY of a length that it cannot have"));
                }
                // It is deprecated, and means nothing here (RFC 9113, 5.3.2).
                self.led_to_nothing()
            }
            kind::PUSH_PROMISE => Err(protocol("PUSH_PROMISE, which we do not take")),
            _ => self.led_to_nothing(),
        }
    }

    /// The other side's first frame.
    fn read_first(&mut self, head: FrameHead, payload: &Payload<'_>) -> Result<(), Fault> {
        if head.kind != kind::SETTINGS || head.has(flag::ACK) {
            return Err(protocol("it does not begin with SETTINGS"));
        }
        self.phase = Phase::Open;
        self.read_settings(head, payload.bytes())?;
        let Some(request) = self.upgraded.take() else { return Ok(()) };
        self.read_request(1, true, RequestHead::of(&request, self.config.list_bytes))
    }

    /// A frame that changes nothing. There may be some of them.
    pub(super) fn led_to_nothing(&mut self) -> Result<(), Fault> {
        match self.spend() {
            true => Ok(()),
            false => Err(Fault::Connection(Reason::ENHANCE_YOUR_CALM, "too many frames that lead to nothing")),
        }
    }

    fn read_settings(&mut self, head: FrameHead, bytes: &[u8]) -> Result<(), Fault> {
        if head.stream != 0 {
            return Err(protocol("SETTINGS on a stream"));
        }
        if head.has(flag::ACK) {
            return if bytes.is_empty() { Ok(()) } else { Err(wrong_size("SETTINGS that acknowledge and say more")) };
        }
        self.obey(bytes)?;
        self.led_to_nothing()
    }

    /// Whether a stream was begun at some time, by whichever side.
    fn has_begun(&self, stream: u32) -> bool {
        let is_callers = stream % 2 == 1;
        match self.config.side {
            Side::Server => is_callers && stream <= self.stream_id,
            Side::Client => is_callers && stream < self.stream_id,
        }
    }

    /// A frame for a stream that is not there.
    fn read_for_none(&mut self, stream: u32, reason: Option<Reason>) -> Result<(), Fault> {
        if !self.has_begun(stream) {
            return Err(protocol("a frame for a stream that was never begun"));
        }
        match reason {
            // It was on its way when we reset the stream.
            Some(reason) if !self.reset.contains(&stream) => {
                Err(Fault::Stream(stream, reason, "a frame behind its end"))
            }
            _ => self.led_to_nothing(),
        }
    }

    fn read_data(&mut self, head: FrameHead, payload: Payload<'_>) -> Result<(), Fault> {
        if head.stream == 0 {
            return Err(protocol("DATA on no stream"));
        }
        let range = unpadded(head, payload.bytes())?;
        let length = head.length as i64;
        if length > self.window {
            return Err(Fault::Connection(Reason::FLOW_CONTROL_ERROR, "more than the connection's window"));
        }
        self.window -= length;
        let is_end = head.has(flag::END_STREAM);
        let Some(stream) = self.streams.get_mut(&head.stream).filter(|stream| !stream.receive.is_ended) else {
            self.give_window(head.length);
            return self.read_for_none(head.stream, Some(Reason::STREAM_CLOSED));
        };
        let taken = stream.receive.take(range.len(), length, is_end);
        let is_unread = stream.receive.is_unread;
        if let Err((reason, what)) = taken {
            self.give_window(head.length);
            return Err(Fault::Stream(head.stream, reason, what));
        }
        // What nobody reads, and padding, goes no further.
        let kept = if is_unread { 0 } else { range.len() };
        if is_unread {
            stream.receive.ignored += range.len();
        }
        if head.length > kept {
            self.give_window(head.length - kept);
        }
        if kept > 0 || (is_end && !is_unread) {
            self.earn();
            let data = if kept > 0 { payload.into_bytes(range) } else { Bytes::new() };
            self.events.push_back(Event::Data { stream: head.stream, data, is_end });
        } else if !is_end {
            self.led_to_nothing()?;
        }
        if is_end || is_unread {
            self.forget_if_over(head.stream);
        }
        Ok(())
    }

    fn read_window_update(&mut self, id: u32, bytes: &[u8]) -> Result<(), Fault> {
        let Ok(more) = <[u8; 4]>::try_from(bytes) else {
            return Err(wrong_size("WINDOW_UPDATE of a length that it cannot have"));
        };
        let more = i64::from(u32::from_be_bytes(more) & WINDOW_BYTES);
        if id == 0 {
            self.send_window += more;
            return match (more, self.send_window > WINDOW_BYTES.into()) {
                (0, _) => Err(protocol("a window of nothing more")),
                (_, true) => Err(Fault::Connection(Reason::FLOW_CONTROL_ERROR, "a window too large")),
                _ => Ok(()),
            };
        }
        let Some(stream) = self.streams.get_mut(&id) else { return self.read_for_none(id, None) };
        stream.send.window += more;
        if more == 0 {
            return Err(Fault::Stream(id, Reason::PROTOCOL_ERROR, "a window of nothing more"));
        }
        if stream.send.window + i64::from(self.peer.window) > WINDOW_BYTES.into() {
            return Err(Fault::Stream(id, Reason::FLOW_CONTROL_ERROR, "a window too large"));
        }
        self.line_up(id);
        Ok(())
    }

    fn read_reset(&mut self, id: u32, bytes: &[u8]) -> Result<(), Fault> {
        let Ok(reason) = <[u8; 4]>::try_from(bytes) else {
            return Err(wrong_size("RST_STREAM of a length that it cannot have"));
        };
        if self.forget(id).is_none() {
            return self.read_for_none(id, None);
        }
        let why = Broken::Reset(Reason(u32::from_be_bytes(reason)));
        self.events.push_back(Event::Broken { stream: id, why });
        Ok(())
    }

    fn read_goaway(&mut self, id: u32, bytes: &[u8]) -> Result<(), Fault> {
        if id != 0 {
            return Err(protocol("GOAWAY on a stream"));
        }
        let Some((last, _)) = bytes.split_first_chunk::<8>().map(|(head, rest)| (head.as_chunks::<4>().0[0], rest))
        else {
            return Err(wrong_size("GOAWAY of a length that it cannot have"));
        };
        if self.config.side == Side::Server {
            // A caller that goes away begins no streams; those that are under way it still wants.
            return self.led_to_nothing();
        }
        self.goes_away = true;
        let last = u32::from_be_bytes(last) & WINDOW_BYTES;
        let mut lost: Vec<u32> = self.streams.keys().copied().filter(|id| *id > last).collect();
        lost.sort_unstable();
        for stream in lost {
            self.forget(stream);
            self.events.push_back(Event::Broken { stream, why: Broken::NotBegun });
        }
        self.led_to_nothing()
    }

    /// What was read of a body has been used: the other side may send as much again. `stream`: its number, while it goes on.
    pub fn release(&mut self, stream: u32, bytes: usize) {
        if bytes == 0 || self.is_closed() {
            return;
        }
        let window = self.config.stream_window;
        if let Some(known) = self.streams.get_mut(&stream)
            && !known.receive.is_ended
        {
            known.receive.read += bytes as u32;
            if known.receive.read >= window / 2 {
                let more = std::mem::take(&mut known.receive.read);
                known.receive.window += i64::from(more);
                frame::put(&mut self.output, kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes());
            }
        }
        self.give_window(bytes);
    }

    /// Over all streams, the other side may send so much again.
    fn give_window(&mut self, bytes: usize) {
        self.read += bytes as u32;
        if self.read >= self.config.connection_window / 2 {
            let more = std::mem::take(&mut self.read);
            self.window += i64::from(more);
            frame::put(&mut self.output, kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        }
    }

    /// Nobody reads what else comes of this stream's body.
    pub fn stop_reading(&mut self, stream: u32) {
        if let Some(known) = self.streams.get_mut(&stream) {
            known.receive.is_unread = true;
        }
    }
}

impl super::stream::Receive {
    /// A piece of a body: `data` bytes in a frame that counts for `length`.
    fn take(&mut self, data: usize, length: i64, is_end: bool) -> Result<(), (Reason, &'static str)> {
        if !self.has_head {
            return Err((Reason::PROTOCOL_ERROR, "a body before its head"));
        }
        if length > self.window {
            return Err((Reason::FLOW_CONTROL_ERROR, "more than the stream's window"));
        }
        self.window -= length;
        // Padding is used up as it comes.
        self.read += length as u32 - data as u32;
        if self.has_no_body && data > 0 {
            return Err((Reason::PROTOCOL_ERROR, "a body where there is none"));
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(data as u64).ok_or((Reason::PROTOCOL_ERROR, "a body longer than announced"))?;
            if is_end && *left > 0 {
                return Err((Reason::PROTOCOL_ERROR, "a body shorter than announced"));
            }
        }
        self.is_ended = is_end;
        Ok(())
    }
}

enum Next {
    Preface,
    Frame(FrameHead),
}

/// Where in a payload the content is, without its padding.
pub(super) fn unpadded(head: FrameHead, bytes: &[u8]) -> Result<std::ops::Range<usize>, Fault> {
    if !head.has(flag::PADDED) {
        return Ok(0..bytes.len());
    }
    let padding = *bytes.first().ok_or(wrong_size("a padded frame without its padding"))?;
    match (bytes.len() - 1).checked_sub(padding.into()) {
        Some(content) => Ok(1..1 + content),
        None => Err(protocol("padding longer than its frame")),
    }
}
