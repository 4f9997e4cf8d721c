//! What each side lets the other do (RFC 9113, 6.5).

use super::Connection;
use super::receive::Fault;
use crate::frame::{self, flag, kind, setting};
use crate::limits::{FIRST_FRAME_BYTES, FIRST_WINDOW_BYTES, FRAME_BYTES, SENT_FRAME_BYTES, WINDOW_BYTES};
use crate::{PREFACE, Reason, Side};

/// A setting and its value.
const SETTING_BYTES: usize = 6;

/// What the other side lets us do.
#[derive(Debug)]
pub(super) struct Peer {
    /// Streams at a time; until it says, as many as we like.
    pub(super) streams: u32,
    /// What every stream may send at first.
    pub(super) window: u32,
    /// The longest payload that we send.
    pub(super) frame_bytes: usize,
    /// It takes extended CONNECT (RFC 8441).
    pub(super) extended_connect: bool,
}

impl Default for Peer {
    fn default() -> Peer {
        Peer {
            streams: u32::MAX,
            window: FIRST_WINDOW_BYTES,
            frame_bytes: FIRST_FRAME_BYTES as usize,
            extended_connect: false,
        }
    }
}

impl Connection {
    /// What a connection begins with: what we let the other side do.
    pub(super) fn greet(&mut self) {
        let config = &self.config;
        let list_bytes = u32::try_from(config.list_bytes).unwrap_or(u32::MAX);
        let both = [
            (setting::INITIAL_WINDOW_SIZE, config.stream_window),
            (setting::MAX_FRAME_SIZE, config.frame_bytes),
            (setting::MAX_HEADER_LIST_SIZE, list_bytes),
        ];
        let own: &[_] = match config.side {
            Side::Client => &[(setting::ENABLE_PUSH, 0)],
            Side::Server => &[(setting::MAX_CONCURRENT_STREAMS, config.streams), (setting::ENABLE_CONNECT_PROTOCOL, 1)],
        };
        let mut payload = Vec::with_capacity(5 * SETTING_BYTES);
        for (id, value) in both.iter().chain(own) {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        let more = i64::from(config.connection_window) - self.window;
        if config.side == Side::Client {
            self.output.extend_from_slice(PREFACE);
        }
        frame::put(&mut self.output, kind::SETTINGS, 0, 0, &payload);
        if let Ok(more) = u32::try_from(more)
            && more > 0
        {
            self.window += i64::from(more);
            frame::put(&mut self.output, kind::WINDOW_UPDATE, 0, 0, &more.to_be_bytes());
        }
    }

    /// SETTINGS have come.
    pub(super) fn obey(&mut self, payload: &[u8]) -> Result<(), Fault> {
        let (settings, rest) = payload.as_chunks::<SETTING_BYTES>();
        if !rest.is_empty() {
            return Err(Fault::Connection(Reason::FRAME_SIZE_ERROR, "SETTINGS of a length that they cannot have"));
        }
        for [a, b, value @ ..] in settings {
            self.obey_one(u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value))?;
        }
        frame::put(&mut self.output, kind::SETTINGS, flag::ACK, 0, &[]);
        Ok(())
    }

    fn obey_one(&mut self, id: u16, value: u32) -> Result<(), Fault> {
        let wrong = |what| Err(Fault::Connection(Reason::PROTOCOL_ERROR, what));
        match (id, value) {
            (setting::HEADER_TABLE_SIZE, bytes) => self.encoder.set_limit(bytes as usize),
            (setting::ENABLE_PUSH, 0) => {}
            (setting::ENABLE_PUSH, 1) if self.config.side == Side::Server => {}
            (setting::ENABLE_PUSH, _) => return wrong("SETTINGS_ENABLE_PUSH"),
            (setting::MAX_CONCURRENT_STREAMS, streams) => self.peer.streams = streams,
            (setting::INITIAL_WINDOW_SIZE, window) if window > WINDOW_BYTES => {
                return Err(Fault::Connection(Reason::FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE"));
            }
            (setting::INITIAL_WINDOW_SIZE, window) => {
                let grows = window > std::mem::replace(&mut self.peer.window, window);
                if grows {
                    self.line_up_all();
                }
            }
            (setting::MAX_FRAME_SIZE, bytes) if !(FIRST_FRAME_BYTES..=FRAME_BYTES).contains(&bytes) => {
                return wrong("SETTINGS_MAX_FRAME_SIZE");
            }
            (setting::MAX_FRAME_SIZE, bytes) => self.peer.frame_bytes = bytes.min(SENT_FRAME_BYTES) as usize,
            (setting::ENABLE_CONNECT_PROTOCOL, 0 | 1) => self.peer.extended_connect |= value == 1,
            (setting::ENABLE_CONNECT_PROTOCOL, _) => return wrong("SETTINGS_ENABLE_CONNECT_PROTOCOL"),
            // It is advice: what is too long the other side refuses.
            (setting::MAX_HEADER_LIST_SIZE, _) => {}
            // What nobody knows means nothing.
            _ => {}
        }
        Ok(())
    }
}
