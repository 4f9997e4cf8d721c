//! Messages to read: proper ones, and what is nearly one.
#![allow(dead_code, unreachable_pub, reason = "each binary uses its own part")]

use bytes::Bytes;
use http1::{Framing, Outgoing, encode};
use proptest::prelude::*;

use crate::corpus;
use crate::fuzzing::common::gather;

pub fn token() -> impl Strategy<Value = String> {
    // Names that mean something to the codec are no names of just any field.
    "[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,12}".prop_map(|name| format!("x{name}"))
}

/// What may stand in a value, without spaces around it.
pub fn value() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => b' '..=b'~', 1 => 0x80..=0xff_u8, 1 => Just(b'\t')];
    prop::collection::vec(byte, 0..40).prop_map(|value| value.trim_ascii().to_vec())
}

pub fn fields() -> impl Strategy<Value = Vec<(String, Vec<u8>)>> {
    prop::collection::vec((token(), value()), 0..12)
}

pub fn target() -> impl Strategy<Value = String> {
    "/[!-\"$-~]{0,30}|http://[a-z0-9._~-]{1,9}(:[0-9]{0,4})?(/[!-\"$-~]{0,9})?"
}

/// A body's framing, and its pieces.
pub fn body() -> impl Strategy<Value = (Framing, Vec<Vec<u8>>)> {
    let pieces = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6);
    (0..3, pieces).prop_map(|(kind, pieces)| match kind {
        0 => (Framing::None, Vec::new()),
        1 => (Framing::Length(pieces.iter().map(|piece| piece.len() as u64).sum()), pieces),
        _ => (Framing::Chunked, pieces),
    })
}

#[derive(Debug, Clone)]
pub struct Written {
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, Vec<u8>)>,
    pub framing: Framing,
    pub pieces: Vec<Vec<u8>>,
    pub trailers: Vec<(String, Vec<u8>)>,
}

pub fn request() -> impl Strategy<Value = Written> {
    (token(), target(), fields(), body(), fields()).prop_map(|(method, target, fields, (framing, pieces), trailers)| {
        let trailers = if framing == Framing::Chunked { trailers } else { Vec::new() };
        Written { method, target, fields, framing, pieces, trailers }
    })
}

impl Written {
    pub fn write(&self, out: &mut Vec<u8>) {
        encode::request_line(out, self.method.as_bytes(), self.target.as_bytes()).unwrap();
        encode::field(out, b"host", b"a").unwrap();
        for (name, value) in &self.fields {
            encode::field(out, name.as_bytes(), value).unwrap();
        }
        encode::end_of_head(out, self.framing);
        let mut outgoing = Outgoing::new(self.framing);
        for piece in &self.pieces {
            outgoing.data(Bytes::copy_from_slice(piece), gather(out)).unwrap();
        }
        let trailers = self.trailers.iter().map(|(name, value)| (name.as_bytes(), &value[..]));
        outgoing.end(trailers, gather(out)).unwrap();
    }
}

pub fn lower(fields: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
}

/// Bytes that are nearly messages: a case of the corpus, or written requests, with some bytes changed.
pub fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let cases: Vec<Vec<u8>> =
        [corpus::REQUESTS, corpus::RESPONSES].map(corpus::cases).into_iter().flatten().map(|case| case.bytes).collect();
    let written = prop::collection::vec(request(), 1..4).prop_map(|requests| {
        let mut out = Vec::new();
        requests.iter().for_each(|request| request.write(&mut out));
        out
    });
    let odd = prop::sample::select(b"\r\n\0\t :,;/*-+0159afxHGT\x0b\x7f\x80\xff".to_vec());
    let change = (any::<prop::sample::Index>(), odd, 0..4_u8);
    (prop_oneof![3 => prop::sample::select(cases), 1 => written], prop::collection::vec(change, 0..4)).prop_map(
        |(mut bytes, changes)| {
            for (at, byte, how) in changes {
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ if bytes.len() == 1 => {}
                    2 => drop(bytes.remove(at)),
                    // A line, or what looks like one, twice.
                    _ => bytes.extend_from_within(at..),
                }
            }
            bytes
        },
    )
}
