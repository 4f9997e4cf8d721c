//! Writing messages.

use bytes::Bytes;

use crate::head::Framing;
use crate::refusal::Refusal;

/// Writes a request's first line.
pub fn request_line(out: &mut Vec<u8>, method: &[u8], target: &[u8]) -> Result<(), Refusal> {
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::Syntax("the method"));
    }
    if !is_target(target) {
        return Err(Refusal::Syntax("the target"));
    }
    for part in [method, b" ", target, b" HTTP/1.1\r\n"] {
        out.extend_from_slice(part);
    }
    Ok(())
}

/// Writes a response's first line.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &str) -> Result<(), Refusal> {
    if !(100..=999).contains(&status) || !is_text(reason.as_bytes()) {
        return Err(Refusal::Syntax("the status"));
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&[status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8));
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Writes a field. One that would break out of its line, or out of the head, is refused.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::Syntax("a field's name"));
    }
    if !is_text(value) {
        return Err(Refusal::Syntax("a field's value"));
    }
    out.reserve(name.len() + value.len() + 4);
    for part in [name, b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
    Ok(())
}

/// Writes the field that says how the body is framed, and the end of the head.
pub fn end_of_head(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        Framing::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n"),
        Framing::None | Framing::UntilClose | Framing::Tunnel => out.extend_from_slice(b"\r\n"),
    }
}

/// What asks a caller that waits for its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// What agrees to go on in HTTP/2 (RFC 7540, 3.2).
pub const SWITCH_TO_H2C: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n";

/// Frames a body on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    framing: Framing,
    left: u64,
}

impl Outgoing {
    /// A body that begins, framed as its head says.
    #[must_use]
    pub fn new(framing: Framing) -> Outgoing {
        let left = match framing {
            Framing::Length(length) => length,
            _ => 0,
        };
        Outgoing { framing, left }
    }

    /// A piece of the body: hands the bytes for the connection to `write`. A piece beyond the announced length, or behind the
    /// end, is refused: it would be taken for the next message.
    pub fn data(&mut self, data: Bytes, mut write: impl FnMut(Bytes)) -> Result<(), Refusal> {
        // An empty chunk would end the body.
        if data.is_empty() {
            return Ok(());
        }
        match self.framing {
            Framing::Length(_) => {
                self.left = self.left.checked_sub(data.len() as u64).ok_or(Refusal::Length)?;
                write(data);
            }
            Framing::Chunked => {
                let mut line = Vec::with_capacity(20);
                hexadecimal(&mut line, data.len());
                line.extend_from_slice(b"\r\n");
                write(Bytes::from(line));
                write(data);
                // Not saved up for the next chunk: some readers hand a chunk on only when they have seen its end.
                write(Bytes::from_static(b"\r\n"));
            }
            Framing::UntilClose | Framing::Tunnel => write(data),
            Framing::None => return Err(Refusal::Length),
        }
        Ok(())
    }

    /// The end of the body, with `trailers` where there are some and the framing can carry them. A body shorter than announced
    /// is refused: the other side waits for the rest.
    pub fn end<'a>(
        &mut self,
        trailers: impl IntoIterator<Item = (&'a [u8], &'a [u8])>,
        mut write: impl FnMut(Bytes),
    ) -> Result<(), Refusal> {
        match self.framing {
            Framing::Length(_) if self.left > 0 => return Err(Refusal::Length),
            Framing::Chunked => {
                let mut end = b"0\r\n".to_vec();
                for (name, value) in trailers {
                    field(&mut end, name, value)?;
                }
                end.extend_from_slice(b"\r\n");
                write(Bytes::from(end));
            }
            _ => {}
        }
        self.framing = Framing::None;
        Ok(())
    }

    /// All that was announced has been given: there is no need to wait for the end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        match self.framing {
            Framing::Length(_) => self.left == 0,
            Framing::None => true,
            Framing::Chunked | Framing::UntilClose | Framing::Tunnel => false,
        }
    }
}

/// Whether a byte may stand in a token (RFC 9110, 5.6.2).
#[must_use]
pub const fn is_token(byte: u8) -> bool {
    TOKEN[byte as usize]
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut mark = 0;
    while mark < marks.len() {
        table[marks[mark] as usize] = true;
        mark += 1;
    }
    table
};

/// Whether the bytes may stand where a target does: visible characters, and what is not ASCII as it came; a space or a line's end would
/// end it, and a fragment is the client's own.
#[must_use]
pub fn is_target(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| matches!(byte, b'!'..=b'~' | 0x80..) && *byte != b'#')
}

/// Whether the bytes may stand in a field's value or a reason: no control characters, so no end of the line either.
#[must_use]
pub fn is_text(bytes: &[u8]) -> bool {
    // No early end: this way it is done for many bytes at once.
    bytes.iter().fold(true, |text, byte| text & (*byte >= b' ' || *byte == b'\t') & (*byte != 0x7f))
}

fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn hexadecimal(out: &mut Vec<u8>, number: usize) {
    let mut shift = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1) * 4;
    while shift > 0 {
        shift -= 4;
        out.push(b"0123456789abcdef"[number >> shift & 0xf]);
    }
}
