//! Every bound that is not a setting, with its unit in its name.

/// The largest window (RFC 9113, 6.9.1).
pub const WINDOW_BYTES: u32 = (1 << 31) - 1;
/// What a window is until it is told otherwise (6.9.2).
pub const FIRST_WINDOW_BYTES: u32 = 65_535;
/// The longest payload that everybody takes (6.5.2).
pub const FIRST_FRAME_BYTES: u32 = 16_384;
/// The longest that may be agreed upon.
pub const FRAME_BYTES: u32 = (1 << 24) - 1;

/// The longest payload that is sent, whatever the other side would take: streams take turns by frames.
pub const SENT_FRAME_BYTES: u32 = 65_536;
/// A body up to this long goes out right behind its head, in the same buffer.
pub(crate) const INLINE_BYTES: usize = 4_096;
/// What waits to be sent beside bodies. A peer that has not taken so much is not read any further: most of it are answers to what it
/// asks without end.
pub(crate) const UNREAD_BYTES: usize = 262_144;
/// Of a request whose answer is whole and whose rest nobody reads, so much may still come before it is ended.
pub(crate) const IGNORED_BYTES: usize = 32_768;
/// A piece of a body this long is cut out of the buffer that it came in, and a shorter one copied.
pub(crate) const COPY_BELOW_BYTES: usize = 2_048;

/// Frames that lead to nothing, on top of as many as did: empty ones, for streams that are over, against the rules of their stream.
pub(crate) const USELESS_FRAMES: u32 = 1_000;
/// CONTINUATION frames of one block of fields.
pub(crate) const CONTINUATIONS: u32 = 64;
/// Streams that we have reset lately, whose frames may still be on their way.
pub(crate) const RESET_STREAMS: usize = 64;

const _: () = {
    assert!(SENT_FRAME_BYTES >= FIRST_FRAME_BYTES && SENT_FRAME_BYTES <= FRAME_BYTES);
    assert!(INLINE_BYTES <= FIRST_FRAME_BYTES as usize && INLINE_BYTES < UNREAD_BYTES);
};
