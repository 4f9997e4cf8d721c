//! The examples of the standard, and what is refused.

use http2::hpack::{Decoder, Violation};

/// A block in hexadecimal, and its fields, a line each.
type Block = (&'static str, &'static str);

/// RFC 7541, C.2: each for itself.
const SINGLE: &[Block] = &[
    ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", "custom-key: custom-header"),
    ("040c2f73616d706c652f70617468", ":path: /sample/path"),
    ("100870617373776f726406736563726574", "password: (sensitive)"),
    ("82", ":method: GET"),
];

/// RFC 7541, C.3.
const REQUESTS: &[Block] = &[
    ("828684410f7777772e6578616d706c652e636f6d", ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com"),
    (
        "828684be58086e6f2d6361636865",
        ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache",
    ),
    (
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\ncustom-key: custom-value",
    ),
];

/// RFC 7541, C.4: the same in the Huffman code.
const REQUESTS_IN_HUFFMAN: &[Block] = &[
    ("828684418cf1e3c2e5f23a6ba0ab90f4ff", REQUESTS[0].1),
    ("828684be5886a8eb10649cbf", REQUESTS[1].1),
    ("828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", REQUESTS[2].1),
];

/// RFC 7541, C.5, with a table of 256 bytes; the change to it stands before the first block.
const RESPONSES: &[Block] = &[
    (
        "3fe101\
         4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54\
         6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
        ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
         location: https://www.example.com",
    ),
    (
        "4803333037c1c0bf",
        ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
         location: https://www.example.com",
    ),
    (
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a697077\
         38666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d33363030\
         3b2076657273696f6e3d31",
        ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n\
         location: https://www.example.com\ncontent-encoding: gzip\n\
         set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ),
];

/// RFC 7541, C.6: the same in the Huffman code.
const RESPONSES_IN_HUFFMAN: &[Block] = &[
    (
        "3fe101\
         488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff\
         6e919d29ad171863c78f0b97c8e9ae82ae43d3",
        RESPONSES[0].1,
    ),
    ("4883640effc1c0bf", RESPONSES[1].1),
    (
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab\
         77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        RESPONSES[2].1,
    ),
];

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).expect("hexadecimal");
    digits.map(byte).collect()
}

fn read(decoder: &mut Decoder, block: &str) -> Result<String, Violation> {
    let mut lines = Vec::new();
    decoder.decode(&bytes(block), |field| lines.push(format!("{field:?}")))?;
    Ok(lines.join("\n"))
}

#[test]
fn the_examples_of_the_standard() {
    for block in SINGLE {
        check(&[*block]);
    }
    for blocks in [REQUESTS, REQUESTS_IN_HUFFMAN, RESPONSES, RESPONSES_IN_HUFFMAN] {
        check(blocks);
    }
}

fn check(blocks: &[Block]) {
    let mut decoder = Decoder::new(4_096);
    for (block, fields) in blocks {
        assert_eq!(read(&mut decoder, block).as_deref(), Ok(*fields), "{block}");
    }
}

#[test]
fn what_is_refused() {
    use Violation::*;
    for (block, expected) in [
        // Nothing there: in the static table, in an empty one, beyond the only entry.
        ("80", Index),
        ("be", Index),
        ("7e00", Index),
        ("0f2f00", Index),
        ("ffffffffff0f", Index),
        ("4001610162bf", Index),
        // Numbers.
        ("ff", Truncated),
        ("ff80", Truncated),
        ("ff808080808000", Number),
        ("00ffffffffffff", Number),
        ("3fffffffffff7f", Number),
        // Ends within a field.
        ("40", Truncated),
        ("4001", Truncated),
        ("400161", Truncated),
        ("4001610262", Truncated),
        ("0085f2b2", Truncated),
        // Huffman: the end of the text, all padding, too much of it, zeros, and half a symbol.
        ("00016184ffffffff", Huffman),
        ("00016185ffffffffff", Huffman),
        ("00016181ff", Huffman),
        ("000161821fff", Huffman),
        ("0001618118", Huffman),
        ("00016181fe", Huffman),
        ("00016182fffe", Huffman),
        // The size of the table: over the announced one, behind a field, one change too many.
        ("3fe21f", TableSize),
        ("8220", TableSize),
        ("202020", TableSize),
    ] {
        assert_eq!(read(&mut Decoder::new(4_096), block), Err(expected), "{block}");
    }
}

#[test]
fn what_is_borne() {
    let cases: &[&[Block]] = &[
        &[("", "")],
        &[("20", "")],
        &[("203fe11f82", ":method: GET")],
        // Empty texts, with and without the code, and needless bytes of a number.
        &[("000000", ": "), ("008080", ": "), ("000161811f", "a: a")],
        &[("0f8080000162", "accept-charset: b")],
        // A table of 34 bytes holds one entry. Another that has its name takes its place.
        &[("3f034001610162", "a: b"), ("7e0163", "a: c"), ("be", "a: c")],
        // What is larger than the table empties it, and has its name nevertheless.
        &[("3f034001610162", "a: b"), ("7e026363", "a: cc")],
    ];
    for blocks in cases {
        check(blocks);
    }
}
