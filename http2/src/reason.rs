//! Why a stream or a connection ends (RFC 9113, 7).

use std::fmt;

/// An error code. Any number may come; those that are known have names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub u32);

impl Reason {
    /// In order.
    pub const NO_ERROR: Reason = Reason(0x0);
    /// Against the protocol, in a way that has no code of its own.
    pub const PROTOCOL_ERROR: Reason = Reason(0x1);
    /// Not the other side's fault.
    pub const INTERNAL_ERROR: Reason = Reason(0x2);
    /// More was sent than a window allows.
    pub const FLOW_CONTROL_ERROR: Reason = Reason(0x3);
    /// A frame for a stream that has ended.
    pub const STREAM_CLOSED: Reason = Reason(0x5);
    /// A frame of a length that it cannot have.
    pub const FRAME_SIZE_ERROR: Reason = Reason(0x6);
    /// Not begun: it may be asked again.
    pub const REFUSED_STREAM: Reason = Reason(0x7);
    /// No longer wanted.
    pub const CANCEL: Reason = Reason(0x8);
    /// The fields can no longer be followed.
    pub const COMPRESSION_ERROR: Reason = Reason(0x9);
    /// Too much of something.
    pub const ENHANCE_YOUR_CALM: Reason = Reason(0xb);
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {:#x}", self.0),
        }
    }
}
