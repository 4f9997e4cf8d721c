//! Properties: what goes in comes out, whatever became of the tables on the way; and any bytes are read as the plain decoder
//! reads them.

mod fuzzing;

use fuzzing::{Field, Model, same};
use http2::hpack::{Decoder, Encoder, known};
use proptest::prelude::*;

/// What happens to a connection between two blocks.
#[derive(Debug, Clone)]
enum Event {
    Nothing,
    Limit(usize),
    Limits(usize, usize),
    ShrinkEncoder,
    ShrinkDecoder,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        // Few, so that they repeat, and static ones among them.
        prop::sample::select(vec![
            ":path",
            ":status",
            "accept",
            "x-a",
            "x-b",
            "content-length",
            "cookie",
            "date",
            "te"
        ])
        .prop_map(|name| name.as_bytes().to_vec()),
        "[a-z][a-z0-9-]{0,40}".prop_map(String::into_bytes),
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::sample::select(vec!["", "/", "200", "gzip, deflate", "1", "application/json", "some value that repeats"])
            .prop_map(|value| value.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..200),
        (0..20_u8, 0..1_200_usize).prop_map(|(byte, length)| vec![byte; length]),
    ]
}

fn list() -> impl Strategy<Value = Vec<Field>> {
    prop::collection::vec((name(), value(), prop::bool::weighted(0.1)), 0..12)
}

fn event() -> impl Strategy<Value = Event> {
    let limit = || prop_oneof![0..300_usize, 0..5_000_usize];
    prop_oneof![
        6 => Just(Event::Nothing),
        1 => limit().prop_map(Event::Limit),
        1 => (limit(), limit()).prop_map(|(first, last)| Event::Limits(first, last)),
        1 => Just(Event::ShrinkEncoder),
        1 => Just(Event::ShrinkDecoder),
    ]
}

/// Blocks of a few lists that come again and again, each with something before it.
fn blocks() -> impl Strategy<Value = Vec<(Event, Vec<Field>)>> {
    prop::collection::vec(list(), 1..5).prop_flat_map(|lists| {
        let change =
            (prop::option::weighted(0.3, (any::<prop::sample::Index>(), value())), prop::sample::select(lists));
        let list = change.prop_map(|(change, mut list)| {
            if let Some((at, value)) = change.filter(|_| !list.is_empty()) {
                at.get_mut(&mut list).1 = value;
            }
            list
        });
        prop::collection::vec((event(), list), 1..24)
    })
}

/// One field, in one of the ways that there are.
fn write(encoder: &mut Encoder, out: &mut Vec<u8>, (name, value, sensitive): &Field, turn: usize) {
    match (&name[..], str::from_utf8(value).ok().and_then(|text| text.parse().ok())) {
        (b":status", Some(status @ 100..=999)) if !sensitive => encoder.status(out, status),
        (b":path", _) if !sensitive => encoder.named(out, known::PATH, value),
        _ if turn.is_multiple_of(2) => encoder.text(out, &[&name[..], value].concat(), name.len(), *sensitive),
        _ => encoder.field(out, name, value, *sensitive),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_goes_in_comes_out(blocks in blocks()) {
        let (mut encoder, mut decoder, mut model) = (Encoder::new(), Decoder::new(4_096), Model::new(4_096));
        for (event, list) in blocks {
            match event {
                Event::Nothing => {}
                Event::Limit(limit) => encoder.set_limit(limit),
                Event::Limits(first, last) => {
                    encoder.set_limit(first);
                    encoder.set_limit(last);
                }
                Event::ShrinkEncoder => encoder.shrink(),
                Event::ShrinkDecoder => decoder.shrink(),
            }
            let mut out = Vec::new();
            encoder.begin(&mut out);
            for (turn, field) in list.iter().enumerate() {
                write(&mut encoder, &mut out, field, turn);
            }
            let mut fields: Vec<Field> = Vec::new();
            let read = decoder.decode(&out, |field| {
                fields.push((field.name.to_vec(), field.value.to_vec(), field.sensitive));
            });
            prop_assert_eq!(read, Ok(()));
            prop_assert_eq!(&fields, &list);
            prop_assert_eq!(model.decode(&out), Some(list));
        }
    }

    #[test]
    fn any_bytes_are_read_as_the_plain_decoder_does(data in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzzing::blocks(&data);
    }

    /// Of the Huffman code most random bytes are refused soon: so here are some whose symbols are short.
    #[test]
    fn any_text_in_huffman_is_read_as_the_plain_decoder_does(
        code in prop::collection::vec(prop_oneof![4 => 0..0xf8_u8, 1 => Just(0xff), 1 => any::<u8>()], 0..60),
    ) {
        let block = [&[0x00, 0x01, b'a', 0x80 | code.len() as u8], &code[..]].concat();
        same(&mut Decoder::new(4_096), &mut Model::new(4_096), &block);
    }

    #[test]
    fn a_block_that_was_damaged_is_read_as_the_plain_decoder_does(
        lists in prop::collection::vec(list(), 1..6), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let (mut encoder, mut decoder, mut model) = (Encoder::new(), Decoder::new(4_096), Model::new(4_096));
        for list in lists.iter().flat_map(|list| [list, list, list]) {
            let mut out = Vec::new();
            encoder.begin(&mut out);
            for (turn, field) in list.iter().enumerate() {
                write(&mut encoder, &mut out, field, turn);
            }
            if at.index(3) == 0 && !out.is_empty() {
                *at.get_mut(&mut out) = byte;
            }
            if !same(&mut decoder, &mut model, &out) {
                break;
            }
        }
    }
}
