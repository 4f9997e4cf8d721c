//! HELLO: what each side is, and what it accepts.

use crate::frame::{FrameType, Reader, Violation, begin, finish};
use crate::limits::{self, HELLO_TEXT_BYTES, VERSION};
use crate::{Config, Hello};

use super::outbox::Outbox;

/// The first bytes of the payload: whatever else connects here by mistake does not begin so.
const MAGIC: [u8; 4] = *b"PLLN";

/// The least that a peer may announce: what every sender needs to make progress.
const LEAST_FRAME: u32 = limits::DATA_FRAME_BYTES as u32;
const LEAST_CREDIT: u32 = 4_096;
const LEAST_FLIGHT: u32 = 2 * limits::FLIGHT_RETURN_BYTES as u32;
const LEAST_HEAD: u32 = 4_096;

/// What the peer said.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) hello: Hello,
    pub(super) max_frame: usize,
    pub(super) max_concurrent: usize,
    pub(super) initial_credit: u32,
    /// DATA bytes in flight towards it.
    pub(super) flight: u64,
    pub(super) max_head: usize,
    pub(super) dictionary: usize,
}

/// DATA bytes that we let the peer have in flight.
pub(super) fn announced_flight(config: &Config) -> u64 {
    (config.memory_budget as u64).clamp(u64::from(LEAST_FLIGHT), limits::FLIGHT_BULK_BYTES)
}

/// Brings what the user chose into the bounds of the protocol.
pub(super) fn clamp(mut config: Config) -> Config {
    config.max_head_bytes = config.max_head_bytes.clamp(LEAST_HEAD as usize, limits::HEAD_BYTES);
    config.max_credit = config.max_credit.clamp(LEAST_CREDIT, (limits::CREDIT_CEILING_BYTES / 2) as u32);
    config.initial_credit = config.initial_credit.clamp(LEAST_CREDIT, config.max_credit);
    config.dictionary_bytes = config.dictionary_bytes.min(limits::DICTIONARY_CEILING_BYTES);
    config.send_budget = config.send_budget.max(limits::DATA_CHUNK_BYTES);
    config
}

pub(super) fn encode(config: &Config, outbox: &mut Outbox) {
    let out = outbox.buffer();
    let at = begin(out, FrameType::Hello, 0, 0);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&1_u16.to_be_bytes());
    out.extend_from_slice(&VERSION.to_be_bytes());
    // No capability bit has a meaning yet.
    out.extend_from_slice(&0_u64.to_be_bytes());
    for limit in [
        limits::FRAME_PAYLOAD_BYTES as u32,
        config.max_concurrent,
        config.initial_credit,
        announced_flight(config) as u32,
        config.max_head_bytes as u32,
        config.dictionary_bytes as u32,
    ] {
        out.extend_from_slice(&limit.to_be_bytes());
    }
    let hello = &config.hello;
    out.extend_from_slice(&hello.revision.to_be_bytes());
    for text in [&hello.service, &hello.version, &hello.instance, &hello.agent] {
        let text = cut(text, HELLO_TEXT_BYTES);
        out.push(text.len() as u8);
        out.extend_from_slice(text.as_bytes());
    }
    finish(out, at);
}

/// `Ok(None)`: no common version. What follows the last text belongs to later versions.
pub(super) fn decode(mut payload: Reader<'_>) -> Result<Option<Peer>, Violation> {
    if payload.array()? != MAGIC {
        return Err("HELLO without its magic");
    }
    let (least, most) = (payload.u16()?, payload.u16()?);
    if least > most || least == 0 {
        return Err("HELLO with an empty version range");
    }
    if least > VERSION {
        return Ok(None);
    }
    let _capabilities = payload.u64()?;
    let mut limits = [0; 6];
    for limit in &mut limits {
        *limit = payload.u32()?;
    }
    let [max_frame, max_concurrent, initial_credit, flight, max_head, dictionary] = limits;
    if max_frame < LEAST_FRAME
        || !(LEAST_CREDIT..=limits::CREDIT_CEILING_BYTES as u32).contains(&initial_credit)
        || flight < LEAST_FLIGHT
        || max_head < LEAST_HEAD
    {
        return Err("HELLO with a limit below the least");
    }
    let revision = payload.u64()?;
    let mut text = || {
        let length = payload.u8()?;
        String::from_utf8(payload.take(length as usize)?.to_vec()).map_err(|_| "HELLO with a text that is not UTF-8")
    };
    let hello = Hello { service: text()?, version: text()?, instance: text()?, revision, agent: text()? };
    Ok(Some(Peer {
        hello,
        max_frame: max_frame as usize,
        max_concurrent: max_concurrent as usize,
        initial_credit,
        flight: u64::from(flight),
        max_head: max_head as usize,
        dictionary: dictionary as usize,
    }))
}

/// The longest beginning of `text` within `bytes`.
pub(super) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
