//! What the stock parsers write, byte for byte, and what they have been seen to read.

use super::text;

/// `socket.io-msgpack-parser` 3.0.2 in Node 20, given the packets of socket.io and its client 4.8.
#[test]
fn the_packets_of_node() {
    for (message, expected) in [
        // Without `auth`: `data` is undefined.
        (
            &b"\x84\xa4type\x00\xa4data\xd4\x00\x00\xa7options\x81\xa8compress\xc3\xa3nsp\xa1/"[..],
            "0",
        ),
        (
            b"\x84\xa4type\x00\xa4data\x81\xa5token\xa1x\xa7options\x81\xa8compress\xc3\xa3nsp\xa5/chat",
            r#"0/chat,{"token":"x"}"#,
        ),
        (
            b"\x83\xa4type\x00\xa4data\x81\xa3sid\xa3abc\xa3nsp\xa1/",
            r#"0{"sid":"abc"}"#,
        ),
        (
            b"\x83\xa4type\x01\xa7options\x81\xa8compress\xc3\xa3nsp\xa5/chat",
            "1/chat,",
        ),
        (
            b"\x83\xa4type\x04\xa4data\x82\xa7message\xa2no\xa4data\x81\xa4code\x01\xa3nsp\xa1/",
            r#"4{"message":"no","data":{"code":1}}"#,
        ),
        (
            b"\x85\xa4type\x02\xa4data\x99\xa1e\x01\xa2\xc3\xa9\xc0\xc3\xcb?\xf8\x00\x00\x00\x00\x00\x00\
              \xd0\xdf\x90\x80\xa7options\x81\xa8compress\xc3\xa2id\x07\xa3nsp\xa1/",
            r#"27["e",1,"é",null,true,1.5,-33,[],{}]"#,
        ),
        // ["e", undefined, { a: undefined, b: 1 }]
        (
            b"\x84\xa4type\x02\xa4data\x93\xa1e\xd4\x00\x00\x82\xa1a\xd4\x00\x00\xa1b\x01\
              \xa7options\x81\xa8compress\xc3\xa3nsp\xa1/",
            r#"2["e",null,{"b":1}]"#,
        ),
        // ["e", new Date(1764117296789), new Date(-1)]
        (
            b"\x83\xa4type\x02\xa4data\x93\xa1e\xd7\x00\x00\x00\x01\x9a\xbd\x95\xb6\x95\
              \xd7\x00\xff\xff\xff\xff\xff\xff\xff\xff\xa3nsp\xa1/",
            r#"2["e","2025-11-26T00:34:56.789Z","1969-12-31T23:59:59.999Z"]"#,
        ),
        // ["e", Buffer, { a: Uint8Array, b: ArrayBuffer, c: Uint8Array of length 8 }]
        (
            b"\x83\xa4type\x02\xa4data\x93\xa1e\xc4\x02\x01\x02\x83\xa1a\xc7\x02\x00\x03\x04\
              \xa1b\xc7\x01\x00\x05\xa1c\xc7\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\xa3nsp\xa1/",
            concat!(
                r#"54-["e",{"_placeholder":true,"num":0},{"a":{"_placeholder":true,"num":1},"#,
                r#""b":{"_placeholder":true,"num":2},"c":{"_placeholder":true,"num":3}}]"#,
                " 0102 0304 05 0000000000000000",
            ),
        ),
        (
            b"\x84\xa4type\x03\xa4data\x92\xc4\x01\x09\xa2ok\xa2id\xcc\x80\xa3nsp\xa2/a",
            r#"61-/a,128[{"_placeholder":true,"num":0},"ok"] 09"#,
        ),
        // Beyond 2^64 it writes what is left of a number: here 1e300 is 0.
        (
            b"\x83\xa4type\x02\xa4data\xdc\x00\x18\xa1e\x7f\xcc\x80\xcc\xff\xcd\x01\x00\xcd\xff\xff\
              \xce\x00\x01\x00\x00\xce\xff\xff\xff\xff\xcf\x00\x00\x00\x01\x00\x00\x00\x00\
              \xcf\x00\x1f\xff\xff\xff\xff\xff\xff\xff\xe0\xd0\xdf\xd0\x80\xd1\xff\x7f\xd1\x80\x00\
              \xd2\xff\xff\x7f\xff\xd2\x80\x00\x00\x00\xd3\xff\xff\xff\xff\x7f\xff\xff\xff\
              \xd3\xff\xe0\x00\x00\x00\x00\x00\x01\xcf\x00\x00\x00\x00\x00\x00\x00\x00\
              \xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00\x00\xa3nsp\xa1/",
            concat!(
                r#"2["e",127,128,255,256,65535,65536,4294967295,4294967296,9007199254740991,"#,
                "-1,-32,-33,-128,-129,-32768,-32769,-2147483648,-2147483649,-9007199254740991,",
                "0,null,null,0]",
            ),
        ),
        // Half of an emoji at the end of a string: another animal, or a byte that nobody wrote.
        (
            b"\x83\xa4type\x02\xa4data\x93\xa1e\xa5a\xf0\x9f\x90\x80\
              \xd9#0123456789012345678901234567890\xef\xbf\xbd\xff\xa3nsp\xa1/",
            "2[\"e\",\"a\u{1f400}\",\"0123456789012345678901234567890\u{fffd}\u{fffd}\"]",
        ),
    ] {
        assert_eq!(text(message).as_deref(), Ok(expected));
    }
}

/// The same parser in a browser: an `ArrayBuffer` is binary, and a `Uint8Array` is an object.
#[test]
fn binary_of_a_browser() {
    let message =
        b"\x83\xa4type\x02\xa4data\x93\xa1e\xc4\x02\x01\x02\x82\xa10\x03\xa11\x04\xa3nsp\xa1/";
    let expected = r#"51-["e",{"_placeholder":true,"num":0},{"0":3,"1":4}] 0102"#;
    assert_eq!(text(message).as_deref(), Ok(expected));
}

/// `python-socketio` 5, with `serializer="msgpack"`.
#[test]
fn the_packets_of_python() {
    for (message, expected) in [
        (&b"\x83\xa4type\x00\xa4data\x80\xa3nsp\xa1/"[..], "0{}"),
        // Its data is nil, which Node refuses.
        (b"\x83\xa4type\x01\xa4data\xc0\xa3nsp\xa2/a", "1/a,"),
        (
            b"\x84\xa4type\x02\xa4data\x94\xa1e\xc4\x01\x01\xcb?\xf0\x00\x00\x00\x00\x00\x00\
              \xcf\xff\xff\xff\xff\xff\xff\xff\xff\xa3nsp\xa1/\xa2id\x03",
            r#"51-3["e",{"_placeholder":true,"num":0},1.0,18446744073709551615] 01"#,
        ),
        (
            b"\x84\xa4type\x03\xa4data\x90\xa3nsp\xa1/\xa2id\x00",
            "30[]",
        ),
    ] {
        assert_eq!(text(message).as_deref(), Ok(expected));
    }
}
