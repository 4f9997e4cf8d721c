//! Every bound of the protocol and of this implementation, with its unit in its name, and the relations between
//! them, checked when the crate is compiled. `docs/protocol.md`, section "Limits", lists those that a peer can see.

use std::time::Duration;

/// The protocol version spoken here; HELLO carries the range from the first to this one.
pub const VERSION: u16 = 1;

/// A frame header: length, type, flags, reserved, request ID.
pub const FRAME_HEADER_BYTES: usize = 16;

/// The plaintext that one TLS 1.3 record holds (RFC 8446, section 5.1).
pub const TLS_RECORD_BYTES: usize = 16_384;

/// Body bytes in one DATA frame that we send: the frame with its header fills one TLS record.
pub const DATA_CHUNK_BYTES: usize = TLS_RECORD_BYTES - FRAME_HEADER_BYTES;

/// Body bytes in one DATA frame that we accept.
pub const DATA_FRAME_BYTES: usize = 16_384;

/// A whole body up to this size travels inside REQUEST or RESPONSE and takes no credit.
pub const INLINE_BODY_BYTES: usize = 4_096;

/// DATA payloads below this are copied out of the input buffer, so that a few bytes do not keep a large buffer alive.
pub const COPY_BELOW_BYTES: usize = 4_096;

/// DATA payloads below [`COPY_BELOW_BYTES`] of one stream that the driver has and did not take. What comes then is gathered in one
/// piece until it took them: a byte that came in a frame of its own costs many times its credit in a piece of its own.
pub const SMALL_PARTS: u32 = 16;

/// Names and values of one head together (service, method and path included), decoded.
pub const HEAD_BYTES: usize = 69_632;

/// The part of [`HEAD_BYTES`] for what the sidecars themselves add to an app's head: the service's name, the host, a
/// request ID. What an app may send is the rest, so that one limit holds on every leg.
pub const HEAD_OWN_BYTES: usize = 4_096;

/// Room that a decoded request has for what the callee's sidecar adds (who calls, what time is left, the trace), so that it
/// need not be moved.
pub const HEAD_ROOM_BYTES: usize = 256;

/// Fields in one head or trailer block.
pub const HEAD_FIELDS: usize = 256;

/// The longest encoding of a field beyond its text: opcode, slot, two lengths of three bytes, and the evictions that
/// one insertion may need are counted apart in [`HEAD_SLACK_BYTES`].
pub const FIELD_OVERHEAD_BYTES: usize = 10;

/// Fixed fields of a head, the field count, and one eviction instruction for every dictionary slot.
pub const HEAD_SLACK_BYTES: usize = 512;

/// The largest payload of a frame that we accept, announced in HELLO.
pub const FRAME_PAYLOAD_BYTES: usize = 81_920;

/// The largest HELLO payload; also the bound on what a stranger can make us hold.
pub const HELLO_BYTES: usize = 2_048;

/// Each text of a HELLO: service, version, instance, agent.
pub const HELLO_TEXT_BYTES: usize = 255;

/// The text of an ERROR or GOODBYE.
pub const REASON_TEXT_BYTES: usize = 256;

/// The extension block of one frame.
pub const EXTENSION_BYTES: usize = 4_096;

/// A turn of the writer: [`Connection::poll_transmit`](crate::Connection::poll_transmit) is meant to be called with this.
pub const FLUSH_BYTES: usize = 262_144;

/// What one stream may send in its turn of the round robin.
pub const QUANTUM_BYTES: usize = 131_072;

/// Body bytes that [`Connection::send_data`](crate::Connection::send_data) queues for one stream.
pub const SEND_QUEUE_BYTES: usize = 262_144;

/// Body bytes that all streams of a connection together have queued. A peer that gives credit and does not read makes us hold
/// this much and no more; `send_room` is 0 then.
pub const SEND_BUDGET_BYTES: usize = 16_777_216;

/// Credit that each stream begins with, per direction.
pub const INITIAL_CREDIT_BYTES: u32 = 65_536;

/// Credit that a stream's window doubles up to.
pub const MAX_CREDIT_BYTES: u32 = 1_048_576;

/// The most credit that a peer may ever have given one stream; more is an overflow.
pub const CREDIT_CEILING_BYTES: u64 = 0x7fff_ffff;

/// DATA bytes in flight on a connection, per direction, while small frames are about.
pub const FLIGHT_SMALL_BYTES: u64 = 262_144;

/// DATA bytes in flight on a connection, per direction, when it carries bulk alone. Announced in HELLO; the receiver enforces it.
pub const FLIGHT_BULK_BYTES: u64 = 4_194_304;

/// That much bulk without a small frame widens the flight from the one to the other.
pub const BULK_ALONE_BYTES: u64 = 2_097_152;

/// Arrived bytes are given back to the connection once they reach this.
pub const FLIGHT_RETURN_BYTES: u64 = 65_536;

/// Body bytes that the receiver agrees to hold for one connection.
pub const MEMORY_BUDGET_BYTES: usize = 33_554_432;

/// Calls that a client may have open on one connection.
pub const MAX_CONCURRENT: u32 = 4_096;

/// The dynamic header dictionary of one direction: names, values and [`ENTRY_OVERHEAD_BYTES`] each.
pub const DICTIONARY_BYTES: usize = 8_192;

/// The most that we let a peer's announcement make us keep for its dictionary.
pub const DICTIONARY_CEILING_BYTES: usize = 65_536;

/// Slots of the dynamic dictionary: each has a one-byte reference.
pub const DICTIONARY_SLOTS: usize = 128;

/// Counted for each dictionary entry besides its text.
pub const ENTRY_OVERHEAD_BYTES: usize = 32;

/// Head, trailer and control bytes waiting to be sent above which `open` refuses.
pub const SMALL_QUEUE_BYTES: usize = 8_388_608;

/// Head, trailer and control bytes waiting to be sent above which a peer that does not read is cut off, whether it sends on or not.
pub const SMALL_QUEUE_CEILING_BYTES: usize = 33_554_432;

/// Decoded heads and inline bodies of requests that wait for the driver; further ones are NACKed. A reference of one byte can decode
/// to the whole dictionary, so what was received says little of it.
pub const WAITING_REQUESTS_BYTES: usize = 16_777_216;

/// Decoded heads and trailers of all kinds that wait for the driver. An answer cannot be refused: a peer whose answers pass this
/// before the driver comes to look is cut off.
pub const WAITING_HEADS_BYTES: usize = 33_554_432;

/// As [`WAITING_REQUESTS_BYTES`], before the driver has accepted the peer.
pub const UNACCEPTED_BYTES: usize = 1_048_576;

/// Silence after which a PING goes out.
pub const PING_INTERVAL: Duration = Duration::from_secs(2);

/// After a PING, that long without any byte means that the peer is gone.
pub const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a peer may take for its HELLO.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// A timer that fires this late says that our own process stood still: the peer gets [`LATE_TIMER_GRACE`] more.
pub const LATE_TIMER: Duration = Duration::from_millis(500);

/// See [`LATE_TIMER`].
pub const LATE_TIMER_GRACE: Duration = Duration::from_secs(1);

/// A call cancelled younger than this costs the peer one unit of its flood allowance.
pub const QUICK_CANCEL: Duration = Duration::from_secs(1);

/// The least flood allowance; the allowance is this or twice the concurrent calls, whichever is more.
pub const FLOOD_ALLOWANCE: u32 = 1_024;

/// Units of flood allowance that come back each second, besides one for each call that we answered.
pub const FLOOD_REFILL_PER_SECOND: u32 = 200;

const _: () = {
    assert!(DATA_CHUNK_BYTES + FRAME_HEADER_BYTES == TLS_RECORD_BYTES);
    assert!(DATA_CHUNK_BYTES <= DATA_FRAME_BYTES);
    assert!(DATA_FRAME_BYTES <= FRAME_PAYLOAD_BYTES);
    assert!(INLINE_BODY_BYTES < DATA_CHUNK_BYTES);
    assert!(COPY_BELOW_BYTES <= DATA_CHUNK_BYTES && SMALL_PARTS > 0);
    // A head at its limits, with an inline body and extensions, fits a frame.
    assert!(
        HEAD_BYTES + HEAD_FIELDS * FIELD_OVERHEAD_BYTES + HEAD_SLACK_BYTES + INLINE_BODY_BYTES + EXTENSION_BYTES
            <= FRAME_PAYLOAD_BYTES
    );
    assert!(HEAD_SLACK_BYTES >= 2 * DICTIONARY_SLOTS + 128);
    assert!(HELLO_BYTES <= FRAME_PAYLOAD_BYTES);
    assert!(HELLO_BYTES >= 4 * (HELLO_TEXT_BYTES + 1) + 64);
    assert!(FRAME_PAYLOAD_BYTES < 1 << 24);
    assert!(QUANTUM_BYTES >= DATA_CHUNK_BYTES);
    assert!(FLUSH_BYTES >= QUANTUM_BYTES);
    assert!(INITIAL_CREDIT_BYTES <= MAX_CREDIT_BYTES);
    // One stream alone can have as much in flight as its credit lets it, and some more is left for the others.
    assert!(INITIAL_CREDIT_BYTES as u64 <= FLIGHT_SMALL_BYTES / 2);
    assert!((MAX_CREDIT_BYTES as u64) < CREDIT_CEILING_BYTES);
    // What the receiver has not yet given back can never hold the whole flight: else both ends wait for ever.
    assert!(FLIGHT_RETURN_BYTES + DATA_FRAME_BYTES as u64 <= FLIGHT_SMALL_BYTES / 2);
    assert!(FLIGHT_SMALL_BYTES <= FLIGHT_BULK_BYTES);
    assert!(BULK_ALONE_BYTES >= FLIGHT_SMALL_BYTES);
    assert!(MEMORY_BUDGET_BYTES as u64 >= FLIGHT_BULK_BYTES);
    assert!(MEMORY_BUDGET_BYTES >= 4 * MAX_CREDIT_BYTES as usize);
    assert!(SEND_QUEUE_BYTES >= QUANTUM_BYTES);
    // What waits can fill the widest flight several times over, and one stream alone takes little of it.
    assert!(SEND_BUDGET_BYTES as u64 >= 4 * FLIGHT_BULK_BYTES);
    assert!(SEND_BUDGET_BYTES >= 32 * SEND_QUEUE_BYTES);
    assert!(SEND_QUEUE_BYTES >= DATA_CHUNK_BYTES);
    assert!(DICTIONARY_SLOTS <= 128);
    assert!(DICTIONARY_BYTES <= DICTIONARY_CEILING_BYTES);
    assert!(DICTIONARY_BYTES / 4 > ENTRY_OVERHEAD_BYTES);
    assert!(SMALL_QUEUE_BYTES < SMALL_QUEUE_CEILING_BYTES);
    assert!(FRAME_PAYLOAD_BYTES < SMALL_QUEUE_BYTES);
    // A stranger's request of any size can wait, and so can as many ordinary ones as may be open.
    assert!(UNACCEPTED_BYTES >= 4 * (HEAD_BYTES + INLINE_BODY_BYTES));
    assert!(UNACCEPTED_BYTES <= WAITING_REQUESTS_BYTES);
    assert!(WAITING_REQUESTS_BYTES >= MAX_CONCURRENT as usize * INLINE_BODY_BYTES);
    assert!(WAITING_REQUESTS_BYTES + FRAME_PAYLOAD_BYTES < WAITING_HEADS_BYTES);
    assert!(WAITING_HEADS_BYTES <= MEMORY_BUDGET_BYTES);
    assert!(REASON_TEXT_BYTES < FRAME_PAYLOAD_BYTES);
    assert!(PING_INTERVAL.as_millis() < PEER_TIMEOUT.as_millis());
    assert!(FLOOD_ALLOWANCE > 0 && FLOOD_REFILL_PER_SECOND > 0);
};
