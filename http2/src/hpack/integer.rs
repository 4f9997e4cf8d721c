//! Numbers that begin in the low bits of a byte (RFC 7541, 5.1).

use super::Violation;

/// Bytes that a number may have behind its first. Nothing that is this large is allowed anywhere, so no more are needed.
const MORE_BYTES: u32 = 5;

/// Reads a number: `first` is its first byte, of which `bits` are the number's, and the others stand at the beginning of `rest`.
#[inline(always)]
pub(super) fn read(rest: &mut &[u8], first: u8, bits: u8) -> Result<usize, Violation> {
    let low = first & bits;
    if low < bits { Ok(low as usize) } else { read_more(rest, bits) }
}

fn read_more(rest: &mut &[u8], bits: u8) -> Result<usize, Violation> {
    let mut number = u64::from(bits);
    for at in 0..MORE_BYTES {
        let (byte, behind) = rest.split_first().ok_or(Violation::Truncated)?;
        *rest = behind;
        number += u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return usize::try_from(number).map_err(|_| Violation::Number);
        }
    }
    Err(Violation::Number)
}

/// Writes a number behind the pattern of its first byte.
#[inline(always)]
pub(super) fn write(out: &mut Vec<u8>, pattern: u8, bits: u8, number: usize) {
    if number < bits as usize {
        out.push(pattern | number as u8);
    } else {
        write_more(out, pattern, bits, number);
    }
}

fn write_more(out: &mut Vec<u8>, pattern: u8, bits: u8, number: usize) {
    out.push(pattern | bits);
    let mut left = number - bits as usize;
    while left >= 0x80 {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard() {
        // RFC 7541, C.1.
        for (bits, number, bytes) in
            [(0x1f, 10, &[0x0a][..]), (0x1f, 1_337, &[0x1f, 0x9a, 0x0a]), (0xff, 42, &[0x2a]), (0x0f, 15, &[0x0f, 0])]
        {
            let mut out = Vec::new();
            write(&mut out, 0, bits, number);
            assert_eq!(out, bytes);
            let mut rest = &out[1..];
            assert_eq!(read(&mut rest, out[0], bits), Ok(number));
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_number_has_bounds() {
        for (bytes, read_as) in [
            (&[][..], Err(Violation::Truncated)),
            (&[0x80], Err(Violation::Truncated)),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0], Err(Violation::Number)),
            (&[0xff, 0xff, 0xff, 0xff, 0x7f], Ok(0x1f + 0x7_ffff_ffff)),
            (&[0x80, 0], Ok(0x1f)),
        ] {
            assert_eq!(read(&mut &bytes[..], 0xff, 0x1f), read_as, "{bytes:?}");
        }
    }
}
