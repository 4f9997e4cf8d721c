//! What the fuzz targets run, here so that the seeds replay as an ordinary test.
#![allow(unreachable_pub, dead_code, unused_imports, reason = "each binary uses its own part")]

mod frames;
mod model;

use http2::hpack::Decoder;

pub use frames::frames;
pub use model::{Field, Model};

/// Sizes of the table that are announced.
const ANNOUNCED: [usize; 4] = [4_096, 0, 100, 70_000];

/// Several blocks for one decoder: the plain one and the real one read the same, or refuse the same. The first byte chooses the
/// table's size; before each block stands its length, in one byte.
pub fn blocks(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first() else { return };
    let announced = ANNOUNCED[*choice as usize % ANNOUNCED.len()];
    let (mut decoder, mut model) = (Decoder::new(announced), Model::new(announced));
    while let Some((length, behind)) = rest.split_first() {
        let (block, next) = behind.split_at(behind.len().min(*length as usize));
        rest = next;
        if !same(&mut decoder, &mut model, block) {
            return;
        }
    }
}

/// One block for both. False: both refuse it.
pub fn same(decoder: &mut Decoder, model: &mut Model, block: &[u8]) -> bool {
    let mut fields: Vec<Field> = Vec::new();
    let read = decoder.decode(block, |field| {
        assert_eq!(field.known, model.known(field.name));
        assert_eq!(field.is_valid, is_name(field.name) && is_value(field.value), "{field:?}");
        fields.push((field.name.to_vec(), field.value.to_vec(), field.sensitive));
    });
    if let Err(violation) = read {
        assert!(!violation.to_string().is_empty());
    }
    assert_eq!(read.ok().map(|()| fields), model.decode(block));
    read.is_ok()
}

fn is_name(name: &[u8]) -> bool {
    let token = if name.first() == Some(&b':') { &name[1..] } else { name };
    let is_token = |byte: &u8| b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz".contains(byte);
    !token.is_empty() && token.iter().all(is_token)
}

fn is_value(value: &[u8]) -> bool {
    value.iter().all(|byte| !byte.is_ascii_control() || *byte == b'\t')
}
