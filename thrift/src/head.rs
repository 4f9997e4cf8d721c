//! The head of a message, in both protocols.

use crate::{NAME_BYTES, Refusal};

/// First bytes of a message.
const BINARY: u8 = 0x80;
const COMPACT: u8 = 0x82;
/// Both protocols' only version.
const VERSION: u8 = 1;
/// The compact protocol puts the version into the low bits of its second byte and the type above it.
const VERSION_BITS: u32 = 5;
/// Bytes of a number of 32 bits in groups of seven.
const VARINT_BYTES: usize = 5;

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `TBinaryProtocol`, strict.
    Binary,
    /// `TCompactProtocol`.
    Compact,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageType {
    /// A call that is answered.
    Call = 1,
    /// A result, which may be an exception that the IDL declares.
    Reply = 2,
    /// A `TApplicationException`: the call failed in a way that the IDL does not know.
    Exception = 3,
    /// A call that nothing answers.
    Oneway = 4,
}

/// What stands before the arguments or the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// How the message is written.
    pub protocol: Protocol,
    /// What it is.
    pub message_type: MessageType,
    /// The method. Where several services share a port (`TMultiplexedProtocol`), `Service:method`.
    pub name: String,
    /// What the caller tells its answers apart by. Some clients always say 0.
    pub sequence: i32,
}

impl Protocol {
    /// Its media type, as Thrift's own libraries name it over HTTP.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Protocol::Binary => "application/vnd.apache.thrift.binary",
            Protocol::Compact => "application/vnd.apache.thrift.compact",
        }
    }

    /// The protocol of a media type.
    #[must_use]
    pub fn of_content_type(value: &[u8]) -> Option<Protocol> {
        [Protocol::Binary, Protocol::Compact].into_iter().find(|known| known.content_type().as_bytes() == value)
    }
}

impl MessageType {
    fn of(number: u8) -> Result<MessageType, Refusal> {
        match number {
            1 => Ok(MessageType::Call),
            2 => Ok(MessageType::Reply),
            3 => Ok(MessageType::Exception),
            4 => Ok(MessageType::Oneway),
            _ => Err(Refusal::UnknownType(number)),
        }
    }
}

impl Head {
    /// Reads the head of the message that begins with `bytes`. `None`: it is not whole yet. Whatever this says of a part of a message
    /// it says of all of it.
    pub fn read(bytes: &[u8]) -> Result<Option<Head>, Refusal> {
        Reader(bytes).head()
    }

    /// Writes it behind what `out` holds.
    pub fn write(&self, out: &mut Vec<u8>) {
        let message_type = self.message_type as u8;
        match self.protocol {
            Protocol::Binary => {
                out.extend_from_slice(&[BINARY, VERSION, 0, message_type]);
                put_text(out, self.protocol, &self.name);
                out.extend_from_slice(&self.sequence.to_be_bytes());
            }
            Protocol::Compact => {
                out.extend_from_slice(&[COMPACT, VERSION | (message_type << VERSION_BITS)]);
                put_varint(out, self.sequence.cast_unsigned());
                put_text(out, self.protocol, &self.name);
            }
        }
    }
}

/// A string with its length before it.
pub(crate) fn put_text(out: &mut Vec<u8>, protocol: Protocol, text: &str) {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    match protocol {
        Protocol::Binary => out.extend_from_slice(&length.to_be_bytes()),
        Protocol::Compact => put_varint(out, length),
    }
    out.extend_from_slice(text.as_bytes());
}

/// Seven bits a byte, the lowest first; the high bit says that more follow.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut number: u32) {
    while number > 0x7f {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// What is left to read. Every step gives `None` where more bytes are needed.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl Reader<'_> {
    pub(crate) fn head(&mut self) -> Result<Option<Head>, Refusal> {
        match self.byte() {
            None => Ok(None),
            Some(BINARY) => self.binary(),
            Some(COMPACT) => self.compact(),
            Some(other) => Err(Refusal::UnknownProtocol(other)),
        }
    }

    fn binary(&mut self) -> Result<Option<Head>, Refusal> {
        let Some(version) = self.byte() else { return Ok(None) };
        if version != VERSION {
            return Err(Refusal::UnknownVersion(version));
        }
        // The third byte is not used.
        let Some([_, number]) = self.array() else { return Ok(None) };
        let message_type = MessageType::of(number)?;
        let Some(length) = self.array() else { return Ok(None) };
        let Some(name) = self.name(u32::from_be_bytes(length))? else { return Ok(None) };
        let Some(sequence) = self.array() else { return Ok(None) };
        let sequence = i32::from_be_bytes(sequence);
        Ok(Some(Head { protocol: Protocol::Binary, message_type, name, sequence }))
    }

    fn compact(&mut self) -> Result<Option<Head>, Refusal> {
        let Some(second) = self.byte() else { return Ok(None) };
        let version = second & ((1 << VERSION_BITS) - 1);
        if version != VERSION {
            return Err(Refusal::UnknownVersion(version));
        }
        let message_type = MessageType::of(second >> VERSION_BITS)?;
        let Some(sequence) = self.varint()? else { return Ok(None) };
        let Some(length) = self.varint()? else { return Ok(None) };
        let Some(name) = self.name(length)? else { return Ok(None) };
        Ok(Some(Head { protocol: Protocol::Compact, message_type, name, sequence: sequence.cast_signed() }))
    }

    fn name(&mut self, length: u32) -> Result<Option<String>, Refusal> {
        let count = usize::try_from(length).unwrap_or(usize::MAX);
        match count {
            0 => return Err(Refusal::BadName),
            1..=NAME_BYTES => {}
            _ => return Err(Refusal::NameTooLong(length)),
        }
        let Some((name, rest)) = self.0.split_at_checked(count) else { return Ok(None) };
        self.0 = rest;
        let name = std::str::from_utf8(name).map_err(|_| Refusal::BadName)?;
        Ok(Some(name.to_owned()))
    }

    pub(crate) fn varint(&mut self) -> Result<Option<u32>, Refusal> {
        let mut number = 0;
        for place in 0..VARINT_BYTES {
            let Some(byte) = self.byte() else { return Ok(None) };
            let bits = u32::from(byte & 0x7f);
            let shifted = bits << (7 * place);
            if shifted >> (7 * place) != bits {
                return Err(Refusal::NumberTooLong);
            }
            number |= shifted;
            if byte & 0x80 == 0 {
                return Ok(Some(number));
            }
        }
        Err(Refusal::NumberTooLong)
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// Passes over so many bytes.
    pub(crate) fn skip(&mut self, count: u32) -> Option<()> {
        self.0 = self.0.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }
}
