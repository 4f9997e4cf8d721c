//! The Huffman code (RFC 7541, 5.2 and Appendix B), read only.
//!
//! The code is canonical: symbols in the order of their codes' lengths, and of their own values where those are equal, have
//! codes in numeric order. So the lengths are all there is to know.

use super::Violation;

/// The length of each symbol's code, in bits; the last symbol is the end of the text, which never appears in one.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30,
];

const END_OF_TEXT: usize = 256;
const LONGEST: usize = 30;

/// Codes of up to so many bits are looked up at once. Most that occur have up to eight.
const QUICK_BITS: u32 = 9;

/// What the next bits begin with: a symbol, and the bits that it takes; 0: more than were looked at.
static QUICK: [(u8, u8); 1 << QUICK_BITS] = {
    let mut quick = [(0, 0); 1 << QUICK_BITS];
    let mut at = 0;
    while at < quick.len() {
        let bits = (at as u64) << (64 - QUICK_BITS);
        let (symbol, length) = find(&ORDER.0, bits);
        if length as u32 <= QUICK_BITS {
            quick[at] = (symbol as u8, length);
        }
        at += 1;
    }
    quick
};

/// The symbols in the order of their codes.
static SYMBOLS: [u16; 257] = ORDER.0;

/// For each length: the code behind its last, at the left end of a word; and what to add to a code, at the right end, to have
/// its place in `SYMBOLS`.
const BEHIND: [u64; LONGEST + 1] = ORDER.1;
const OFFSETS: [i32; LONGEST + 1] = ORDER.2;

const ORDER: ([u16; 257], [u64; LONGEST + 1], [i32; LONGEST + 1]) = {
    let mut symbols = [0; 257];
    let mut behind = [0; LONGEST + 1];
    let mut offsets = [0; LONGEST + 1];
    let (mut code, mut place, mut length) = (0_u64, 0, 1);
    while length <= LONGEST {
        code <<= 1;
        offsets[length] = place as i32 - code as i32;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                symbols[place] = symbol as u16;
                place += 1;
                code += 1;
            }
            symbol += 1;
        }
        behind[length] = code << (64 - length);
        length += 1;
    }
    assert!(code == 1 << LONGEST && place == LENGTHS.len(), "the lengths make a code that is complete");
    assert!(symbols[256] as usize == END_OF_TEXT);
    (symbols, behind, offsets)
};

/// The symbol that the bits begin with, and the bits that it takes.
const fn find(symbols: &[u16; 257], bits: u64) -> (u16, u8) {
    let mut length = 5;
    // The code that is all ones ends it.
    while length < LONGEST && bits >= BEHIND[length] {
        length += 1;
    }
    let place = (bits >> (64 - length)) as i32 + OFFSETS[length];
    (symbols[place as usize], length as u8)
}

/// Appends what `code` says.
pub(super) fn decode(code: &[u8], out: &mut Vec<u8>) -> Result<(), Violation> {
    // No code is shorter than five bits.
    out.reserve(code.len() * 8 / 5);
    let mut rest = code;
    // The next bits, at the left end, and how many they are.
    let (mut bits, mut have) = (0_u64, 0_u32);
    loop {
        if let Some(word) = rest.first_chunk() {
            let bytes = (63 - have) / 8;
            bits |= u64::from_be_bytes(*word) >> have;
            // What lies beyond them is of the bytes that come again.
            have += bytes * 8;
            rest = &rest[bytes as usize..];
        } else {
            while let ([byte, behind @ ..], true) = (rest, have <= 56) {
                bits |= u64::from(*byte) << (56 - have);
                have += 8;
                rest = behind;
            }
            if have < LONGEST as u32 {
                break;
            }
        }
        while have >= LONGEST as u32 {
            let (symbol, length) = next(bits)?;
            out.push(symbol);
            bits <<= length;
            have -= length;
        }
    }
    // The last code is followed by ones.
    bits |= u64::MAX.checked_shr(have).unwrap_or(0);
    while have > 0 {
        match next(bits) {
            Ok((symbol, length)) if length <= have => {
                out.push(symbol);
                bits = bits << length | !(u64::MAX << length);
                have -= length;
            }
            _ if have < 8 && bits == u64::MAX => break,
            _ => return Err(Violation::Huffman),
        }
    }
    Ok(())
}

#[inline(always)]
fn next(bits: u64) -> Result<(u8, u32), Violation> {
    let (symbol, length) = QUICK[(bits >> (64 - QUICK_BITS)) as usize];
    if length > 0 { Ok((symbol, u32::from(length))) } else { next_long(bits) }
}

#[cold]
fn next_long(bits: u64) -> Result<(u8, u32), Violation> {
    let (symbol, length) = find(&SYMBOLS, bits);
    Ok((u8::try_from(symbol).map_err(|_| Violation::Huffman)?, u32::from(length)))
}
