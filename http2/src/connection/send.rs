//! What goes out.

use bytes::Bytes;
use wire::{Headers, Pieces, Text};

use super::stream::{Last, Send};
use super::{Connection, Event, Stream};
use crate::Reason;
use crate::frame::{self, FrameHead, HEAD_BYTES, flag, kind};
use crate::hpack::{Encoder, known};
use crate::limits::{INLINE_BYTES, UNREAD_BYTES, WINDOW_BYTES};

/// What a request asks for, beside its fields.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// GET, POST, …
    pub method: &'a [u8],
    /// `http` or `https`.
    pub scheme: &'a [u8],
    /// The server.
    pub authority: &'a [u8],
    /// The path with its query.
    pub path: &'a [u8],
    /// What an extended CONNECT is for (RFC 8441, 4).
    pub protocol: Option<&'a [u8]>,
}

/// Why no stream was begun. Not a byte of the request has been sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOpened {
    /// The connection is closed, or the other side begins no more streams.
    GoesAway,
    /// The other side takes no more at a time.
    TooMany,
}

impl Connection {
    /// Client: begins a stream. `is_end`: the request has no body.
    pub fn open<'a>(
        &mut self,
        request: Request<'_>,
        fields: impl Iterator<Item = Text<'a>>,
        is_end: bool,
    ) -> Result<u32, NotOpened> {
        let id = self.stream_id;
        if self.is_closed() || self.goes_away || id > WINDOW_BYTES {
            return Err(NotOpened::GoesAway);
        }
        if self.streams.len() >= self.peer.streams as usize {
            return Err(NotOpened::TooMany);
        }
        self.stream_id += 2;
        let mut stream = Stream::new(self.config.stream_window);
        stream.receive.has_no_body = request.method == b"HEAD";
        stream.send.has_head = true;
        stream.send.is_ended = is_end;
        self.streams.insert(id, stream);
        let (encoder, out) = (&mut self.encoder, &mut self.output);
        put_headers(out, id, is_end, self.peer.frame_bytes, |out| {
            encoder.begin(out);
            encoder.method(out, request.method);
            encoder.scheme(out, request.scheme);
            encoder.named(out, known::AUTHORITY, request.authority);
            encoder.named(out, known::PATH, request.path);
            if let Some(protocol) = request.protocol {
                encoder.field(out, b":protocol", protocol, false);
            }
            put_fields(encoder, out, fields);
        });
        Ok(id)
    }

    /// Server: the answer's head. `is_end`: it has no body. False: the stream is over.
    pub fn respond<'a>(&mut self, id: u32, status: u16, fields: impl Iterator<Item = Text<'a>>, is_end: bool) -> bool {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| !stream.send.has_head) else { return false };
        stream.send.has_head = true;
        stream.send.is_ended = is_end;
        let (encoder, out) = (&mut self.encoder, &mut self.output);
        put_headers(out, id, is_end, self.peer.frame_bytes, |out| {
            encoder.begin(out);
            encoder.status(out, status);
            put_fields(encoder, out, fields);
        });
        if is_end {
            self.forget_if_over(id);
        }
        true
    }

    /// A piece of a body, and with it perhaps the end. It goes out as soon as the windows let it, and waits here until then. False: the
    /// stream is over, or its end was sent.
    pub fn send(&mut self, id: u32, data: Bytes, is_end: bool) -> bool {
        let initial = i64::from(self.peer.window);
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.send.may_go_on()) else { return false };
        let send = &mut stream.send;
        let length = data.len() as i64;
        let fits = length <= self.send_window.min(send.window + initial) && data.len() <= INLINE_BYTES;
        if fits && self.line.is_empty() && !send.is_waiting() && self.output.len() < UNREAD_BYTES {
            // The usual small one, behind its head.
            if length == 0 && !is_end {
                return true;
            }
            send.window -= length;
            self.send_window -= length;
            send.is_ended = is_end;
            frame::put(&mut self.output, kind::DATA, if is_end { flag::END_STREAM } else { 0 }, id, &data);
            if is_end {
                self.forget_if_over(id);
            }
            return true;
        }
        send.queued += data.len();
        if !data.is_empty() {
            send.queue.push_back(data);
        }
        if is_end {
            send.last = Some(Last::Data);
        }
        self.line_up(id);
        true
    }

    /// The end of a body, with trailers. False: the stream is over, or its end was sent.
    pub fn send_trailers(&mut self, id: u32, trailers: Headers) -> bool {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.send.may_go_on()) else { return false };
        if stream.send.is_waiting() {
            stream.send.last = Some(Last::Trailers(trailers));
            return true;
        }
        stream.send.is_ended = true;
        let (encoder, out) = (&mut self.encoder, &mut self.output);
        put_trailers(out, id, self.peer.frame_bytes, encoder, &trailers);
        self.forget_if_over(id);
        true
    }

    /// Ends a stream before its time. What of it has not gone out does not.
    pub fn reset(&mut self, id: u32, reason: Reason) {
        if self.forget(id).is_some() {
            self.put_reset(id, reason);
        }
    }

    /// Bytes of this stream's body that wait here. `None`: it is over.
    #[must_use]
    pub fn queued(&self, id: u32) -> Option<usize> {
        self.streams.get(&id).map(|stream| stream.send.queued)
    }

    /// Asks for an [`Event::Writable`] when less than so many bytes wait here.
    pub fn waits_below(&mut self, id: u32, bytes: usize) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.send.waits_below = Some(bytes);
        }
    }

    /// Streams that the other side takes at a time.
    #[must_use]
    pub fn most_streams(&self) -> usize {
        self.peer.streams as usize
    }

    /// The other side takes extended CONNECT (RFC 8441).
    #[must_use]
    pub fn takes_extended_connect(&self) -> bool {
        self.peer.extended_connect
    }

    /// Puts a stream that has something to send into the line.
    pub(super) fn line_up(&mut self, id: u32) {
        let initial = i64::from(self.peer.window);
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.send.is_waiting()
            && !stream.send.is_in_line
            && (stream.send.window + initial > 0 || stream.send.queue.is_empty())
        {
            stream.send.is_in_line = true;
            self.line.push_back(id);
        }
    }

    /// Every stream may send more than before.
    pub(super) fn line_up_all(&mut self) {
        let mut waiting: Vec<u32> =
            self.streams.iter().filter(|(_, stream)| stream.send.is_waiting()).map(|(id, _)| *id).collect();
        waiting.sort_unstable();
        waiting.into_iter().for_each(|id| self.line_up(id));
    }

    /// Whether bytes wait that may go out.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        !self.output.is_empty() || (!self.line.is_empty() && self.can_line_move())
    }

    fn can_line_move(&self) -> bool {
        // What is empty goes out without a window.
        let is_end = |id: &u32| self.streams.get(id).is_some_and(|stream| stream.send.queue.is_empty());
        self.send_window > 0 || self.line.iter().any(is_end)
    }

    /// Gives out bytes, of bodies about `max` together; false: there are none. Streams take turns, a frame each.
    pub fn poll_transmit(&mut self, out: &mut Pieces, max: usize) -> bool {
        let before = out.bytes();
        if out.frames_mut().is_empty() {
            std::mem::swap(out.frames_mut(), &mut self.output);
        } else {
            out.frames_mut().extend_from_slice(&self.output);
            self.output.clear();
        }
        let mut turns = self.line.len();
        while out.bytes() < max && turns > 0 {
            let Some(id) = self.line.pop_front() else { break };
            turns -= 1;
            if self.transmit_stream(id, out) {
                turns = self.line.len();
            }
        }
        out.bytes() > before
    }

    /// One frame of the stream whose turn it is. Says whether something went out.
    fn transmit_stream(&mut self, id: u32, out: &mut Pieces) -> bool {
        let initial = i64::from(self.peer.window);
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let send = &mut stream.send;
        send.is_in_line = false;
        if let Some(front) = send.queue.front_mut() {
            let room = self.send_window.min(send.window + initial).max(0) as usize;
            let count = front.len().min(room).min(self.peer.frame_bytes);
            if count == 0 {
                // Its own window brings it back; the connection's keeps it here.
                if self.send_window <= 0 {
                    send.is_in_line = true;
                    self.line.push_back(id);
                }
                return false;
            }
            let piece = front.split_to(count);
            if front.is_empty() {
                send.queue.pop_front();
            }
            send.queued -= count;
            send.window -= count as i64;
            self.send_window -= count as i64;
            let is_end = send.queue.is_empty() && matches!(send.last, Some(Last::Data));
            frame::put_head(out.frames_mut(), kind::DATA, if is_end { flag::END_STREAM } else { 0 }, id, count);
            out.push(piece);
            if is_end {
                send.last = None;
                send.is_ended = true;
            }
        }
        if send.queue.is_empty() {
            match send.last.take() {
                Some(Last::Trailers(trailers)) => {
                    send.is_ended = true;
                    put_trailers(out.frames_mut(), id, self.peer.frame_bytes, &mut self.encoder, &trailers);
                }
                Some(Last::Data) => {
                    send.is_ended = true;
                    frame::put(out.frames_mut(), kind::DATA, flag::END_STREAM, id, &[]);
                }
                None => {}
            }
            send.queue.shrink_to_fit();
        }
        if send.waits_below.is_some_and(|bytes| send.queued < bytes) {
            send.waits_below = None;
            self.events.push_back(Event::Writable { stream: id });
        }
        self.line_up(id);
        self.forget_if_over(id);
        true
    }
}

impl Send {
    fn may_go_on(&self) -> bool {
        self.has_head && !self.is_ended && self.last.is_none()
    }
}

fn put_fields<'a>(encoder: &mut Encoder, out: &mut Vec<u8>, fields: impl Iterator<Item = Text<'a>>) {
    for Text { bytes, name, sensitive } in fields {
        encoder.text(out, bytes, name, sensitive);
    }
}

fn put_trailers(out: &mut Vec<u8>, id: u32, most: usize, encoder: &mut Encoder, trailers: &Headers) {
    put_headers(out, id, true, most, |out| {
        encoder.begin(out);
        put_fields(encoder, out, trailers.texts());
    });
}

/// Writes a list of fields: one frame, or several where one must not be so long.
fn put_headers(out: &mut Vec<u8>, stream: u32, is_end: bool, most: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    frame::put_head(out, kind::HEADERS, 0, stream, 0);
    write(out);
    let length = out.len() - start - HEAD_BYTES;
    let end_stream = if is_end { flag::END_STREAM } else { 0 };
    if length <= most {
        let flags = end_stream | flag::END_HEADERS;
        return FrameHead { length, kind: kind::HEADERS, flags, stream }.put_at(out, start);
    }
    let block = out.split_off(start + HEAD_BYTES);
    out.truncate(start);
    let count = block.len().div_ceil(most);
    for (number, part) in block.chunks(most).enumerate() {
        let (kind, flags) = if number == 0 { (kind::HEADERS, end_stream) } else { (kind::CONTINUATION, 0) };
        let last = if number + 1 == count { flag::END_HEADERS } else { 0 };
        frame::put(out, kind, flags | last, stream, part);
    }
}
