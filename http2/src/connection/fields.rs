//! Lists of fields as they come in: heads and trailers.

use super::receive::{Fault, protocol, unpadded, wrong_size};
use super::{Connection, Event, Stream};
use crate::frame::{FrameHead, flag};
use crate::head::{List, Malformed, RequestHead};
use crate::limits::CONTINUATIONS;
use crate::{Reason, Side};

/// A list of fields that goes on in the next frame.
#[derive(Debug)]
pub(super) struct Block {
    stream: u32,
    is_end: bool,
    bytes: Vec<u8>,
    continuations: u32,
}

impl Connection {
    pub(super) fn read_headers(&mut self, head: FrameHead, bytes: &[u8]) -> Result<(), Fault> {
        if head.stream == 0 {
            return Err(protocol("HEADERS on no stream"));
        }
        let mut range = unpadded(head, bytes)?;
        if head.has(flag::PRIORITY) {
            // It is deprecated, and means nothing here (RFC 9113, 5.3.2).
            range.start += 5;
            if range.start > range.end {
                return Err(wrong_size("HEADERS too short for their priority"));
            }
        }
        let is_end = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.read_fields(head.stream, is_end, &bytes[range]);
        }
        let bytes = bytes[range].to_vec();
        self.block = Some(Block { stream: head.stream, is_end, bytes, continuations: 0 });
        Ok(())
    }

    pub(super) fn read_continuation(&mut self, head: FrameHead, bytes: &[u8]) -> Result<(), Fault> {
        let Some(mut block) = self.block.take().filter(|block| block.stream == head.stream) else {
            return Err(protocol("CONTINUATION of nothing"));
        };
        block.continuations += 1;
        block.bytes.extend_from_slice(bytes);
        // Compressed, a list is hardly longer than it is (CONTINUATION flood, CVE-2024-27316).
        if block.continuations > CONTINUATIONS || block.bytes.len() > 2 * self.config.list_bytes {
            return Err(Fault::Connection(Reason::ENHANCE_YOUR_CALM, "a list of fields without end"));
        }
        if head.has(flag::END_HEADERS) {
            return self.read_fields(block.stream, block.is_end, &block.bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    /// A whole list of fields.
    fn read_fields(&mut self, id: u32, is_end: bool, block: &[u8]) -> Result<(), Fault> {
        let mut list = List::new(self.config.list_bytes);
        // Whatever it is for, it is read: the table follows it.
        if let Err(violation) = self.decoder.decode(block, |field| list.take(&field)) {
            return Err(Fault::Connection(Reason::COMPRESSION_ERROR, violation.as_str()));
        }
        match (self.streams.get(&id), self.config.side) {
            (Some(stream), _) if stream.receive.is_ended => {
                Err(Fault::Stream(id, Reason::STREAM_CLOSED, "fields behind the end"))
            }
            (Some(stream), _) if stream.receive.has_head => self.read_trailers(id, is_end, list),
            (Some(_), _) => self.read_response(id, is_end, list),
            (None, Side::Server) if id % 2 == 1 && id > self.stream_id => {
                self.read_request(id, is_end, list.into_request(true))
            }
            (None, _) if self.reset.contains(&id) => self.led_to_nothing(),
            (None, _) => Err(Fault::Connection(Reason::STREAM_CLOSED, "fields for a stream that is no more")),
        }
    }

    pub(super) fn read_request(
        &mut self,
        id: u32,
        is_end: bool,
        head: Result<RequestHead, Malformed>,
    ) -> Result<(), Fault> {
        self.stream_id = id;
        let malformed = |what| Fault::Stream(id, Reason::PROTOCOL_ERROR, what);
        let head = head.map_err(malformed)?;
        if self.streams.len() >= self.config.streams as usize {
            self.put_reset(id, Reason::REFUSED_STREAM);
            return self.led_to_nothing();
        }
        if is_end && head.length.is_some_and(|length| length > 0) {
            return Err(malformed("a body shorter than announced"));
        }
        self.earn();
        let mut stream = Stream::new(self.config.stream_window);
        stream.receive.has_head = true;
        stream.receive.is_ended = is_end;
        stream.receive.left = head.length;
        self.streams.insert(id, stream);
        self.events.push_back(Event::Request { stream: id, head, is_end });
        Ok(())
    }

    fn read_response(&mut self, id: u32, is_end: bool, list: List) -> Result<(), Fault> {
        let malformed = |what| Fault::Stream(id, Reason::PROTOCOL_ERROR, what);
        let head = list.into_response().map_err(malformed)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if head.status < 200 {
            // RFC 9113, 8.6: there is no switching; the others are for whoever waits.
            return match (head.status, is_end) {
                (101, _) | (_, true) => Err(malformed("the status")),
                _ => self.led_to_nothing(),
            };
        }
        let has_no_body = stream.receive.has_no_body || matches!(head.status, 204 | 304);
        if is_end && !has_no_body && head.length.is_some_and(|length| length > 0) {
            return Err(malformed("a body shorter than announced"));
        }
        stream.receive.has_head = true;
        stream.receive.is_ended = is_end;
        stream.receive.left = if has_no_body { None } else { head.length };
        let is_unread = stream.receive.is_unread;
        self.earn();
        if !is_unread {
            self.events.push_back(Event::Response { stream: id, head, is_end });
        }
        self.forget_if_over(id);
        Ok(())
    }

    fn read_trailers(&mut self, id: u32, is_end: bool, list: List) -> Result<(), Fault> {
        let malformed = |what| Fault::Stream(id, Reason::PROTOCOL_ERROR, what);
        if !is_end {
            return Err(malformed("trailers that are not the end"));
        }
        let fields = list.into_trailers().map_err(malformed)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if stream.receive.left.is_some_and(|left| left > 0) {
            return Err(malformed("a body shorter than announced"));
        }
        stream.receive.is_ended = true;
        if !stream.receive.is_unread {
            self.events.push_back(Event::Trailers { stream: id, fields });
        }
        self.forget_if_over(id);
        Ok(())
    }
}
