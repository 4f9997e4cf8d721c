//! What is known of one stream.

use std::collections::VecDeque;

use bytes::Bytes;
use wire::Headers;

/// One stream.
///
/// ```text
///            its head goes out          the last of its body does
///   answers: ────────────────► Head sent ─────────────────► ended
///            its head comes in           END_STREAM comes
///   asks:    ────────────────► Head read ─────────────────► ended
///
///   both ended, or a RST_STREAM either way: it is forgotten
/// ```
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) receive: Receive,
    pub(super) send: Send,
}

/// The other side's half.
#[derive(Debug)]
pub(super) struct Receive {
    /// Its head has come: what comes now is a body, or trailers.
    pub(super) has_head: bool,
    pub(super) is_ended: bool,
    /// Nobody reads it any more.
    pub(super) is_unread: bool,
    /// What has come since.
    pub(super) ignored: usize,
    /// What may still come before we give more.
    pub(super) window: i64,
    /// What has been read of it, and not been given again.
    pub(super) read: u32,
    /// What is missing of the length that was announced.
    pub(super) left: Option<u64>,
    /// Whatever length is announced, there is no body: an answer to HEAD.
    pub(super) has_no_body: bool,
}

/// Our own half.
#[derive(Debug, Default)]
pub(super) struct Send {
    pub(super) has_head: bool,
    /// All of it has gone out, or is about to.
    pub(super) is_ended: bool,
    /// What may go out, beside what the other side lets every stream send at first. Below zero where that has become less.
    pub(super) window: i64,
    pub(super) queue: VecDeque<Bytes>,
    pub(super) queued: usize,
    /// What comes behind the queue.
    pub(super) last: Option<Last>,
    /// It stands in the line of those that may send.
    pub(super) is_in_line: bool,
    /// Its user waits until less is queued than this.
    pub(super) waits_below: Option<usize>,
}

/// How a message ends.
#[derive(Debug)]
pub(super) enum Last {
    Data,
    Trailers(Headers),
}

impl Stream {
    pub(super) fn new(window: u32) -> Stream {
        let receive = Receive {
            has_head: false,
            is_ended: false,
            is_unread: false,
            ignored: 0,
            window: window.into(),
            read: 0,
            left: None,
            has_no_body: false,
        };
        Stream { receive, send: Send::default() }
    }
}

impl Send {
    /// Something is to go out as soon as it may.
    pub(super) fn is_waiting(&self) -> bool {
        !self.queue.is_empty() || self.last.is_some()
    }
}
