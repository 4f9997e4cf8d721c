//! The table of the ProtoJSON format (protobuf.dev/programming-guides/json), row by row and both ways; and what is refused, with the
//! place of it.

mod fuzzing;

use fuzzing::{descriptors, schema};
use serde_json::Value as Json;
use transcode::Route;

fn echo() -> Route {
    schema().find("POST", "/table.Table/Echo").expect("the method")
}

fn tree(text: &str) -> Json {
    serde_json::from_str(text).expect(text)
}

/// `taken` is read as a message whose JSON is `given`.
#[track_caller]
fn check(taken: &str, given: &str) {
    let message = echo().request(taken.as_bytes()).unwrap_or_else(|error| panic!("{taken}: {error}"));
    let text = echo().answer(&message).unwrap_or_else(|error| panic!("{taken}: {error}"));
    assert_eq!(tree(std::str::from_utf8(&text).expect("text")), tree(given), "{taken}");
}

/// A value that is written as it is read.
#[track_caller]
fn same(text: &str) {
    check(text, text);
}

#[track_caller]
fn refused(taken: &str, with: &str) {
    let error = echo().request(taken.as_bytes()).expect_err(taken);
    assert!(error.0.contains(with), "{taken}: `{error}` lacks `{with}`");
}

#[test]
fn messages_and_names() {
    same(r#"{"message": {"name": "a", "weight": 3, "inner": {"name": "b"}}}"#);
    check("{}", "{}");
    check("", "{}");
    check(r#"{"message": {}}"#, r#"{"message": {}}"#);
    check(r#"{"by_name": {"a": 1}, "byName": {}}"#, "{}");
    check(r#"{"choice_number": 7}"#, r#"{"choiceNumber": 7}"#);
    check(r#"{"renamed_field": 1}"#, r#"{"otherName": 1}"#);
    same(r#"{"otherName": 1}"#);
    // Without a name of its own in JSON the field would be `renamedField`; it has one.
    refused(r#"{"renamedField": 1}"#, "renamedField");
}

#[test]
fn null_is_the_default() {
    let names = "message colour byName numbers messages switch text data int32 uint64 double any timestamp duration struct listValue mask \
                 empty doubleValue boolValue choiceNumber presence";
    for name in names.split_whitespace() {
        check(&format!(r#"{{"{name}": null}}"#), "{}");
    }
    same(r#"{"value": null}"#);
    refused(r#"{"numbers": [null]}"#, "numbers[0]");
    refused(r#"{"byName": {"a": null}}"#, "byName.a");
}

#[test]
fn defaults_are_left_out_and_presence_is_kept() {
    check(r#"{"int32": 0, "text": "", "switch": false, "colour": "NONE", "numbers": [], "data": ""}"#, "{}");
    same(r#"{"presence": 0}"#);
    same(r#"{"choiceNumber": 0}"#);
    same(r#"{"int32Value": 0, "stringValue": "", "boolValue": false}"#);
}

#[test]
fn enums() {
    same(r#"{"colour": "RED"}"#);
    check(r#"{"colour": 1}"#, r#"{"colour": "RED"}"#);
    check(r#"{"colour": -5}"#, r#"{"colour": "BLUE"}"#);
    // proto3's enums are open.
    same(r#"{"colour": 42}"#);
    check(r#"{"colours": ["RED", -5, 0]}"#, r#"{"colours": ["RED", "BLUE", "NONE"]}"#);
    refused(r#"{"colour": "GREEN"}"#, "colour: unrecognized enum value 'GREEN' at line 1");
    refused(r#"{"colour": 1.5}"#, "colour");
    refused(r#"{"colour": 3000000000}"#, "colour");
}

#[test]
fn maps_and_lists() {
    same(r#"{"byName": {"a": 1, "": 2}}"#);
    same(r#"{"byNumber": {"-9": {"name": "x"}, "9007199254740993": {}}}"#);
    same(r#"{"bySwitch": {"true": "RED", "false": "NONE"}}"#);
    same(r#"{"numbers": [1, 0, -1]}"#);
    same(r#"{"messages": [{"name": "a"}, {}]}"#);
    refused(r#"{"bySwitch": {"yes": 1}}"#, "bySwitch");
    refused(r#"{"byNumber": {"x": {}}}"#, "byNumber");
    refused(r#"{"numbers": 1}"#, "numbers");
    refused(r#"{"byName": []}"#, "byName");
}

#[test]
fn switches_and_texts() {
    same(r#"{"switch": true}"#);
    refused(r#"{"switch": "true"}"#, "switch: invalid type: string \"true\"");
    refused(r#"{"switch": 1}"#, "switch");
    same(r#"{"text": "ünï \u0000 \" 😈"}"#);
    refused(r#"{"text": 1}"#, "text: invalid type: integer `1`, expected a string at line 1 column 10");
    refused(r#"{"text": "\ud800"}"#, "text");
}

#[test]
fn bytes_are_base64_of_either_alphabet() {
    same(r#"{"data": "+/+/AA=="}"#);
    check(r#"{"data": "-_-_AA"}"#, r#"{"data": "+/+/AA=="}"#);
    check(r#"{"data": "-_-_AA=="}"#, r#"{"data": "+/+/AA=="}"#);
    check(r#"{"data": "+/+/AA"}"#, r#"{"data": "+/+/AA=="}"#);
    refused(r#"{"data": "!"}"#, "data: invalid base64");
    refused(r#"{"data": 1}"#, "data");
}

#[test]
fn numbers_of_32_bits() {
    for name in ["int32", "sint32", "sfixed32"] {
        same(&format!(r#"{{"{name}": -2147483648}}"#));
        check(&format!(r#"{{"{name}": "-12"}}"#), &format!(r#"{{"{name}": -12}}"#));
        check(&format!(r#"{{"{name}": 1e3}}"#), &format!(r#"{{"{name}": 1000}}"#));
        check(&format!(r#"{{"{name}": 100.0}}"#), &format!(r#"{{"{name}": 100}}"#));
        for bad in ["2147483648", "-2147483649", "0.5", "\"\"", "\"1 \"", "\"x\"", "true", "[]"] {
            refused(&format!(r#"{{"{name}": {bad}}}"#), name);
        }
    }
    for name in ["uint32", "fixed32"] {
        same(&format!(r#"{{"{name}": 4294967295}}"#));
        check(&format!(r#"{{"{name}": "12"}}"#), &format!(r#"{{"{name}": 12}}"#));
        for bad in ["4294967296", "-1", "\"-1\"", "1.5"] {
            refused(&format!(r#"{{"{name}": {bad}}}"#), name);
        }
    }
}

#[test]
fn numbers_of_64_bits_are_texts() {
    for name in ["int64", "sint64", "sfixed64"] {
        same(&format!(r#"{{"{name}": "-9223372036854775808"}}"#));
        same(&format!(r#"{{"{name}": "9223372036854775807"}}"#));
        check(&format!(r#"{{"{name}": 9007199254740993}}"#), &format!(r#"{{"{name}": "9007199254740993"}}"#));
        check(&format!(r#"{{"{name}": 1e3}}"#), &format!(r#"{{"{name}": "1000"}}"#));
        for bad in ["9223372036854775808", "\"9223372036854775808\"", "1e19", "1.5", "\"\""] {
            refused(&format!(r#"{{"{name}": {bad}}}"#), name);
        }
    }
    for name in ["uint64", "fixed64"] {
        same(&format!(r#"{{"{name}": "18446744073709551615"}}"#));
        check(&format!(r#"{{"{name}": 18446744073709551615}}"#), &format!(r#"{{"{name}": "18446744073709551615"}}"#));
        for bad in ["-1", "\"18446744073709551616\"", "1e20"] {
            refused(&format!(r#"{{"{name}": {bad}}}"#), name);
        }
    }
}

#[test]
fn numbers_with_a_point() {
    for name in ["float", "double", "floatValue", "doubleValue"] {
        check(&format!(r#"{{"{name}": 1}}"#), &format!(r#"{{"{name}": 1.0}}"#));
        same(&format!(r#"{{"{name}": -1.5}}"#));
        check(&format!(r#"{{"{name}": "1.5e3"}}"#), &format!(r#"{{"{name}": 1500.0}}"#));
        for odd in ["NaN", "Infinity", "-Infinity"] {
            same(&format!(r#"{{"{name}": "{odd}"}}"#));
        }
        for bad in ["\"\"", "\"x\"", "true", "{}", "NaN"] {
            refused(&format!(r#"{{"{name}": {bad}}}"#), "");
        }
    }
    same(r#"{"double": 1.7976931348623157e308}"#);
    // To the last bit.
    same(r#"{"double": 1.0018799411606e53}"#);
    refused(r#"{"double": 1e400}"#, "double");
    refused(r#"{"float": 1e39}"#, "float: float value out of range");
}

#[test]
fn any_by_the_descriptors() {
    same(r#"{"any": {"@type": "type.googleapis.com/table.Inner", "name": "a", "weight": 1}}"#);
    check(
        r#"{"any": {"name": "a", "@type": "type.googleapis.com/table.Inner"}}"#,
        r#"{"any": {"@type": "type.googleapis.com/table.Inner", "name": "a"}}"#,
    );
    same(r#"{"any": {"@type": "type.googleapis.com/google.protobuf.Duration", "value": "1.500s"}}"#);
    same(
        r#"{"any": {"@type": "type.googleapis.com/google.protobuf.Any", "value":
            {"@type": "type.googleapis.com/google.protobuf.DoubleValue", "value": "NaN"}}}"#,
    );
    refused(r#"{"any": {"@type": "type.googleapis.com/table.Nobody"}}"#, "any: message 'table.Nobody' not found");
    refused(r#"{"any": {"name": "a"}}"#, "any: expected '@type'");
    refused(r#"{"any": {"@type": "type.googleapis.com/table.Inner", "nobody": 1}}"#, "nobody");
}

#[test]
fn timestamps_and_durations() {
    same(r#"{"timestamp": "1972-01-01T10:00:20.021Z"}"#);
    check(r#"{"timestamp": "1972-01-01T10:00:20.0210+01:00"}"#, r#"{"timestamp": "1972-01-01T09:00:20.021Z"}"#);
    same(r#"{"timestamp": "0001-01-01T00:00:00Z"}"#);
    same(r#"{"timestamp": "9999-12-31T23:59:59.999999999Z"}"#);
    for bad in [
        "1972-01-01",
        "1972-01-01t10:00:20z",
        "0000-01-01T00:00:00Z",
        "1972-13-01T00:00:00Z",
        "",
        "10000-01-01T00:00:00Z",
    ] {
        refused(&format!(r#"{{"timestamp": "{bad}"}}"#), "timestamp");
    }
    refused(r#"{"timestamp": 1}"#, "timestamp");
    same(r#"{"duration": "1.000340012s"}"#);
    same(r#"{"duration": "-1.500s"}"#);
    same(r#"{"duration": "0s"}"#);
    check(r#"{"duration": "3.00s"}"#, r#"{"duration": "3s"}"#);
    same(r#"{"duration": "315576000000s"}"#);
    for bad in ["1", "s", "1.5", "1m", "315576000001s", ""] {
        refused(&format!(r#"{{"duration": "{bad}"}}"#), "duration");
    }
}

#[test]
fn structs_and_their_values() {
    same(r#"{"struct": {"a": 1.0, "b": [true, null, "x", {"c": {}}]}}"#);
    same(r#"{"value": {"a": [1.5]}}"#);
    same(r#"{"value": "text"}"#);
    same(r#"{"value": [false]}"#);
    same(r#"{"listValue": [1.0, "x", null]}"#);
    check(r#"{"nullValue": null}"#, "{}");
    check(r#"{"nullValue": "NULL_VALUE"}"#, "{}");
    refused(r#"{"struct": []}"#, "struct");
    refused(r#"{"listValue": {}}"#, "listValue");
}

#[test]
fn masks_and_empty() {
    same(r#"{"mask": "user.displayName,photo"}"#);
    check(r#"{"mask": ""}"#, r#"{"mask": ""}"#);
    refused(r#"{"mask": "user.display_name"}"#, "mask");
    same(r#"{"empty": {}}"#);
    refused(r#"{"empty": {"a": 1}}"#, "empty");
    let empty = schema().find("POST", "/table.Table/Empty").expect("the method");
    assert_eq!(empty.answer(&empty.request(b"{}").expect("empty")).expect("JSON"), b"{}");
    empty.request(b"[]").expect_err("a list");
}

#[test]
fn wrappers_are_what_they_wrap() {
    same(
        r#"{"doubleValue": 1.5, "floatValue": 0.5, "int64Value": "-7", "uint64Value": "7", "int32Value": -7, "uint32Value": 7,
            "boolValue": true, "stringValue": "x", "bytesValue": "AAE="}"#,
    );
    check(r#"{"int64Value": 7, "bytesValue": "_w"}"#, r#"{"int64Value": "7", "bytesValue": "/w=="}"#);
    refused(r#"{"stringValue": 1}"#, "stringValue");
}

/// What the format would refuse or do otherwise (docs/decisions/0016-transcoding.md): a test, so that it is noticed when it changes.
#[test]
fn known_deviations() {
    check(r#"{"int32": 1, "int32": 2}"#, r#"{"int32": 2}"#);
    check(r#"{"int32": "+7", "int64": "+7"}"#, r#"{"int32": 7, "int64": "7"}"#);
    check(r#"{"double": "inf", "float": "nan"}"#, r#"{"double": "Infinity", "float": "NaN"}"#);
    check(r#"{"int64": 9223372036854775808.0}"#, r#"{"int64": "9223372036854775807"}"#);
    check(r#"{"uint64": 18446744073709551616.0}"#, r#"{"uint64": "18446744073709551615"}"#);
    check(r#"{"double": -0.0}"#, "{}");
    same(r#"{"value": -0.0}"#);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    refused(
        r#"{"message": {"inner": {"weight": "x"}}}"#,
        "message.inner.weight: invalid digit found in string at line 1 column 36",
    );
    refused("{\n  \"messages\": [{}, {\"weight\": true}]\n}", "messages[1].weight: invalid type: boolean `true`");
    refused("{\n  \"messages\": [{}, {\"weight\": true}]\n}", "at line 2 column 34");
    refused(r#"{"message": {"nobody": 1}}"#, "message.nobody: unknown field at line 1");
    refused(r#"{"nobody": 1}"#, "nobody: unknown field");
    refused(r#"{"choiceNumber": 1, "choiceText": "a"}"#, "multiple fields provided for oneof 'choice'");
    for text in ["null", "[]", "1", "\"\"", "{", "{}}", "{} {}", "{\"a\"}", "{'text': 1}", "{\"text\": \"a\",}"] {
        refused(text, "line 1");
    }
    let deep = format!(r#"{{"value":{}{}}}"#, "[".repeat(200_000), "]".repeat(200_000));
    refused(&deep, "recursion limit");
}

#[test]
fn an_answer_is_bounded_in_depth_and_length() {
    // An Any in an Any is decoded by itself: protobuf's own limit begins anew in each.
    let mut any = Vec::new();
    for _ in 0..2_000 {
        let mut outer = Vec::new();
        let url = b"type.googleapis.com/google.protobuf.Any";
        outer.extend([0x0a, url.len() as u8]);
        outer.extend_from_slice(url);
        put(&mut outer, 0x12, &any);
        any = outer;
    }
    let mut row = Vec::new();
    prost_key(&mut row, 23, &any);
    let error = echo().answer(&row).expect_err("too deep");
    assert!(error.0.contains("nested deeper than 128"), "{error}");
    // Each number is one byte, and three of JSON; the names of an enum are longer.
    let mut long = Vec::new();
    prost_key(&mut long, 46, &vec![0; 3 * 1024 * 1024]);
    let error = echo().answer(&long).expect_err("too long");
    assert!(error.0.contains("longer than"), "{error}");
    echo().answer(b"\x0a\x05x").expect_err("no message");
}

/// A field of bytes: its key in one byte, its length, itself.
fn put(out: &mut Vec<u8>, key: u8, bytes: &[u8]) {
    out.push(key);
    varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn prost_key(out: &mut Vec<u8>, number: usize, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A request by an annotation, and the JSON that the method would be called with, or the beginning of the error.
#[track_caller]
fn by_rule(verb: &str, target: &str, body: &str, want: Result<&str, &str>) {
    let route = schema().find(verb, target).unwrap_or_else(|error| panic!("{verb} {target}: {}", error.0));
    let seen = route.request(body.as_bytes()).map(|message| echo().answer(&message).expect("JSON"));
    match (seen, want) {
        (Ok(seen), Ok(want)) => {
            assert_eq!(tree(std::str::from_utf8(&seen).expect("text")), tree(want), "{verb} {target}");
        }
        (Err(error), Err(want)) => assert!(error.0.starts_with(want), "{verb} {target}: {error}"),
        (seen, want) => panic!("{verb} {target}: {seen:?} and not {want:?}"),
    }
}

#[test]
fn annotations_fill_fields_from_path_query_and_body() {
    by_rule("GET", "/v1/rows/a%2Fb", "", Ok(r#"{"text": "a/b"}"#));
    by_rule(
        "GET",
        "/v1/rows/a?int64=7&switch=true&colour=RED&tags=x&tags=y+z&message.inner.name=%C3%A9&double_value=NaN&colours=-5&otherName=3",
        "",
        Ok(
            r#"{"text": "a", "int64": "7", "switch": true, "colour": "RED", "tags": ["x", "y z"], "message": {"inner": {"name": "é"}},
                "doubleValue": "NaN", "colours": ["BLUE"], "otherName": 3}"#,
        ),
    );
    by_rule(
        "GET",
        "/v1/rows/a?timestamp=1972-01-01T10:00:20Z&boolValue=false",
        "",
        Ok(r#"{"text": "a", "timestamp": "1972-01-01T10:00:20Z", "boolValue": false}"#),
    );
    by_rule("GET", "/v1/rows/a?nobody=1", "", Err("nobody: table.Row has no field `nobody`"));
    by_rule("GET", "/v1/rows/a?int32=x", "", Err("int32: "));
    by_rule("GET", "/v1/rows/a?switch=yes", "", Err("switch: "));
    by_rule("GET", "/v1/rows/a?int32=1&int32=2", "", Err("int32: it is given twice"));
    by_rule("GET", "/v1/rows/a?text=b", "", Err("text: the path says what it is"));
    by_rule("GET", "/v1/rows/a?message=b", "", Err("message: a message has no text"));
    by_rule("GET", "/v1/rows/a?messages.name=b", "", Err("messages.name: `messages` has no fields"));
    by_rule("GET", "/v1/rows/a?byName=b", "", Err("byName: a message has no text"));
    by_rule("GET", "/v1/rows/a?struct.x=b", "", Err("struct.x: "));
    by_rule("GET", &format!("/v1/rows/a?message{}.name=b", ".inner".repeat(40)), "", Err("message.inner"));
    by_rule("GET", "/v1/rows/a", "{}", Err("the method's annotation gives it no body"));
    by_rule("PUT", "/v1/rows/a", r#"{"int32": 7, "text": "b"}"#, Ok(r#"{"text": "a", "int32": 7}"#));
    by_rule("PUT", "/v1/rows/a?int32=7", "{}", Err("int32: it stands in the body"));
    by_rule(
        "PATCH",
        "/v1/rows/1/inner/2?text=x",
        r#"{"weight": 3, "name": "not this"}"#,
        Ok(r#"{"message": {"name": "rows/1/inner/2", "weight": 3}, "text": "x"}"#),
    );
    by_rule("PATCH", "/v1/rows/1/inner/2", r#"{"weight": true}"#, Err("message.weight: invalid type: boolean `true`"));
    by_rule("PATCH", "/v1/rows/1/inner/2", r#"{}, "text": "x""#, Err("trailing characters"));
    by_rule("PATCH", "/v1/rows/1/inner/2?message.weight=1", "{}", Err("message.weight: it stands in the body"));
    by_rule("POST", "/v1/rows/a:paint", r#"["RED", "BLUE"]"#, Ok(r#"{"text": "a", "colours": ["RED", "BLUE"]}"#));
    by_rule("DELETE", "/v1/rows/-7/true", "", Ok(r#"{"int64": "-7", "switch": true}"#));
    // A default in the path wins over a body as any other value does.
    by_rule("PUT", "/v1/rows/%20", r#"{"text": "b"}"#, Ok(r#"{"text": " "}"#));
    by_rule("SEARCH", "/v1/files/a/b%2Fc", "", Ok(r#"{"text": "a/b%2Fc"}"#));
    by_rule("OPTIONS", "/any", "", Ok("{}"));
}

#[test]
fn part_of_an_answer_may_be_all_that_is_sent() {
    let answer = |verb: &str, target: &str, json: &str| {
        let message = echo().request(json.as_bytes()).expect("a message");
        String::from_utf8(schema().find(verb, target).expect("a method").answer(&message).expect("JSON")).expect("text")
    };
    assert_eq!(answer("PATCH", "/v1/rows/1/inner/2", r#"{"message": {"weight": 3}, "text": "x"}"#), r#"{"weight":3}"#);
    assert_eq!(answer("PATCH", "/v1/rows/1/inner/2", "{}"), "null");
    assert_eq!(answer("POST", "/v1/rows/a:paint", r#"{"colours": ["RED"]}"#), r#"["RED"]"#);
    assert_eq!(answer("SEARCH", "/v1/files/a", "{}"), "[]");
}

#[test]
fn a_method_is_found_by_its_names() {
    let set = descriptors("table.proto", &["--include_imports"]);
    let find = |own: &str, verb: &str, path: &str| {
        let schema = transcode::Schema::new(&set, own).expect("a schema");
        schema.find(verb, path).map(|route| route.path()).map_err(|error| error.0)
    };
    let is = |own: &str, path: &str, want: &str| assert_eq!(find(own, "POST", path).as_deref(), Ok(want), "{path}");
    is("shop", "/table.Table/Echo", "/table.Table/Echo");
    is("shop", "/table.Table%2FEcho", "/table.Table/Echo");
    is("shop", "/table.Table.Echo", "/table.Table/Echo");
    is("shop", "/Echo", "/table.Table/Echo");
    is("shop", "/Only", "/table.Other/Only");
    is("table.table", "/Shared", "/table.Table/Shared");
    is("table.other", "/Shared", "/table.Other/Shared");
    let not = |own: &str, verb: &str, path: &str, want: &str| {
        let error = find(own, verb, path).expect_err(path);
        assert!(error.contains(want), "{path}: {error}");
    };
    not("shop", "POST", "/Shared", "may be any of table.Other.Shared, table.Table.Shared");
    not("table.table", "POST", "/Only", "no method 'Only' in table.Table");
    not("shop", "POST", "/echo", "no method 'echo'");
    not("shop", "GET", "/Echo", "no method is called by GET /Echo");
    not("shop", "POST", "/table.Table/Nobody", "no method is called by POST");
    not("shop", "POST", "/", "no method is called by POST /");
    not("shop", "DELETE", "/v1/rows/a", "the path is for GET, PUT");
}

#[test]
fn an_annotation_that_cannot_be_followed_is_left_out_and_named() {
    let schema =
        transcode::Schema::new(&descriptors("table.proto", &["--include_imports"]), "table").expect("a schema");
    let warnings = schema.warnings();
    assert_eq!(warnings.len(), 6, "{warnings:#?}");
    assert!(warnings.iter().all(|warning| warning.starts_with("table.Odd.Bad: google.api.http: ")), "{warnings:#?}");
    assert_eq!(schema.find("GET", "/v1/good").map(|route| route.path()).as_deref(), Ok("/table.Odd/Bad"));
}

#[test]
fn descriptors_that_are_of_no_use_are_refused_with_a_reason() {
    let refused = |set: &[u8], want: &str| {
        let error = transcode::Schema::new(set, "table").expect_err("of no use").to_string();
        assert!(error.contains(want), "{error}");
    };
    refused(b"not descriptors", "not a serialized FileDescriptorSet");
    refused(b"", "they define no service");
    refused(
        &descriptors("table.proto", &[]),
        "table.proto imports google/api/annotations.proto, which is not there: protoc --include_imports",
    );
    refused(&descriptors("google/api/annotations.proto", &["--include_imports"]), "they define no service");
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    /// What the fuzz targets do, over values of every shape in every field: cheap enough for each run.
    #[test]
    fn whatever_is_sent_is_refused_or_means_one_message(
        field in "message|colour|byName|byNumber|bySwitch|numbers|data|int32|uint64|float|double|any|timestamp|duration|struct|value|mask|[a-z]{1,12}",
        value in r#"null|true|-?[0-9]{1,20}(\.[0-9]{1,3})?(e[0-9]{1,2})?|"[ -!#-\[\]-~]{0,12}"|\[(null|1|"a"|\{\})?\]|\{"(name|1|true|@type)": ?("a"|1|\{\})\}"#,
        target in "/(v1/rows|any|table.Table)(/[ -~]{0,12}){0,2}(:paint)?(\\?[a-z.]{1,9}=[ -~]{0,8})?",
    ) {
        let body = format!("{{\"{field}\": {value}}}");
        fuzzing::json(body.as_bytes());
        for verb in ["GET", "PUT", "POST"] {
            fuzzing::paths(format!("/v1/{{text=**}}\n{verb}\n{target}\n{body}").as_bytes());
        }
    }
}

#[test]
fn the_seeds_of_the_fuzz_targets() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let mut replayed = 0;
    for (target, run) in [("transcode_json", fuzzing::json as fn(&[u8])), ("transcode_paths", fuzzing::paths)] {
        for entry in std::fs::read_dir(seeds.join(target)).expect("seeds") {
            run(&std::fs::read(entry.expect("an entry").path()).expect("a seed"));
            replayed += 1;
        }
    }
    assert!(replayed >= 4, "only {replayed} seeds");
}
