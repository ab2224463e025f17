use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::{Args, ArgsError, OwnedArgs, Packet};
use super::{assemble, decode};

/// Reads the arguments of an event of revision 5.
fn read<T: for<'de> Deserialize<'de>>(args: &str) -> Result<T, ArgsError> {
    let comma = if args.is_empty() { "" } else { "," };
    let text = format!("2[\"e\"{comma}{args}]");
    let Ok(Packet::Event { args, .. }) = decode(&text) else {
        panic!("{text}");
    };
    args.deserialize()
}

/// The same with attachments. `$0` stands for the placeholder of the first one.
fn read_binary<T: for<'de> Deserialize<'de>>(
    args: &str,
    attachments: &[&'static [u8]],
) -> Result<T, ArgsError> {
    let mut text = format!("5{}-[\"e\",{args}]", attachments.len());
    for num in 0..attachments.len() {
        let placeholder = format!("{{\"_placeholder\":true,\"num\":{num}}}");
        text = text.replace(&format!("${num}"), &placeholder);
    }
    let assembled = assemble(&text, attachments);
    let Packet::Event { args, .. } = assembled.packet() else {
        panic!("{text}");
    };
    args.deserialize()
}

fn message<T: std::fmt::Debug>(result: Result<T, ArgsError>) -> (String, String) {
    let error = result.expect_err("fits");
    (error.path().to_owned(), error.to_string())
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct User {
    name: String,
    age: u32,
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Pair(i32, String);

#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct New<T>(T);

#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Nothing;

#[derive(Debug, PartialEq, Deserialize, Serialize)]
enum Kind {
    Unit,
    One(Bytes),
    Two(i32, Bytes),
    Fields { a: Bytes },
}

#[test]
fn a_tuple_takes_the_arguments_in_order() {
    assert_eq!(read::<(i32, String)>(r#"1,"a""#), Ok((1, "a".into())));
    assert_eq!(read::<(i32,)>("1"), Ok((1,)));
    assert_eq!(read::<(i32, i32, i32)>("1 , 2,3"), Ok((1, 2, 3)));
    assert_eq!(read::<((i32, i32),)>("[1,2]"), Ok(((1, 2),)));
    assert_eq!(
        read::<((i32, i32), Vec<u8>)>("[1,2],[3]"),
        Ok(((1, 2), vec![3]))
    );
}

#[test]
fn anything_else_takes_the_first_argument() {
    assert_eq!(read::<i32>("1"), Ok(1));
    assert_eq!(read::<String>(r#""a\n""#), Ok("a\n".into()));
    assert_eq!(read::<Vec<i32>>("[1,2]"), Ok(vec![1, 2]));
    assert_eq!(read::<[i32; 3]>("[1 , 2,3],4"), Ok([1, 2, 3]));
    assert_eq!(read::<Pair>(r#"[1,"a"]"#), Ok(Pair(1, "a".into())));
    assert_eq!(read::<New<(i32, i32)>>("[1,2]"), Ok(New((1, 2))));
    assert_eq!(read::<Box<(i32, i32)>>("[1,2]"), Ok(Box::new((1, 2))));
    assert_eq!(read::<Nothing>("null"), Ok(Nothing));
    assert_eq!(read::<Value>("null"), Ok(Value::Null));
    assert_eq!(
        read::<Result<(i32, i32), ()>>(r#"{"Ok":[1,2]}"#),
        Ok(Ok((1, 2)))
    );
    assert_eq!(read::<New<i32>>("1"), Ok(New(1)));
    assert_eq!(read::<Option<i32>>("1"), Ok(Some(1)));
    assert_eq!(read::<Option<i32>>("null"), Ok(None));
    assert_eq!(read::<Option<(i32, i32)>>("[1,2]"), Ok(Some((1, 2))));
    assert_eq!(read::<Kind>(r#""Unit""#), Ok(Kind::Unit));
    assert_eq!(read::<Value>(r#"{"a":[1]}"#), Ok(json!({"a": [1]})));
    let user = User {
        name: "a".into(),
        age: 1,
    };
    assert_eq!(read::<User>(r#"{"name":"a","age":1}"#), Ok(user));
    let map = HashMap::from([(1, true)]);
    assert_eq!(read::<HashMap<u8, bool>>(r#"{"1":true}"#), Ok(map));
}

#[test]
fn surplus_arguments_are_ignored() {
    assert_eq!(read::<i32>(r#"1,{"a":2},"x""#), Ok(1));
    assert_eq!(read::<(i32,)>("1,2"), Ok((1,)));
    assert_eq!(read::<()>("1,2"), Ok(()));
    assert_eq!(read_binary::<()>("$0", &[b"x"]), Ok(()));
    assert_eq!(read_binary::<i32>("1,$0", &[b"x"]), Ok(1));
    // Not so inside of an argument, as `serde_json` has it.
    assert!(read::<((i32,),)>("[1,2]").is_err());
    assert!(read_binary::<((i32,), Bytes)>("[1,2],$0", &[b"x"]).is_err());
}

#[test]
fn a_missing_argument_is_fine_only_for_an_option() {
    assert_eq!(read::<Option<i32>>(""), Ok(None));
    assert_eq!(read::<(Option<i32>, Option<User>)>(""), Ok((None, None)));
    assert_eq!(read::<(i32, New<Option<i32>>)>("1"), Ok((1, New(None))));
    assert_eq!(read::<(i32, ())>("1"), Ok((1, ())));
    assert_eq!(read::<()>(""), Ok(()));
    assert_eq!(read::<Nothing>(""), Ok(Nothing));
    let missing = |argument: usize| {
        (
            format!("[{}]", argument - 1),
            format!("argument {argument} is missing"),
        )
    };
    assert_eq!(message(read::<i32>("")), missing(1));
    assert_eq!(message(read::<Vec<i32>>("")), missing(1));
    assert_eq!(message(read::<Value>("")), missing(1));
    assert_eq!(message(read::<User>("")), missing(1));
    assert_eq!(message(read::<New<String>>("")), missing(1));
    assert_eq!(message(read::<Box<RawValue>>("")), missing(1));
    assert_eq!(message(read::<(i32, String)>("1")), missing(2));
    assert_eq!(message(read::<[i32; 2]>("")), missing(1));
    assert_eq!(message(read::<Pair>("")), missing(1));
    assert_eq!(
        message(read_binary::<(Bytes, u8)>("$0", &[b"x"])),
        missing(2)
    );
}

#[test]
fn an_error_says_which_argument_and_where_in_it() {
    #[derive(Debug, Deserialize)]
    struct Login {
        #[expect(dead_code, reason = "only read")]
        user: User,
    }
    let (path, text) = message(read::<(i32, Login)>(r#"1,{"user":{"name":"a","age":"x"}}"#));
    assert_eq!(path, "[1].user.age");
    assert_eq!(
        text,
        r#"argument 2, field `user.age`: invalid type: string "x", expected u32"#
    );
    let (path, text) = message(read::<Login>(r#"{"user":{"name":"a"}}"#));
    assert_eq!(path, "[0].user");
    assert_eq!(text, "argument 1, field `user`: missing field `age`");
    let (path, text) = message(read::<Vec<i32>>("[1,true]"));
    assert_eq!(path, "[0][1]");
    assert_eq!(
        text,
        "argument 1, element `[1]`: invalid type: boolean `true`, expected i32"
    );
    let (path, text) = message(read::<[i32; 2]>("[1]"));
    assert_eq!(path, "[0]");
    assert_eq!(
        text,
        "argument 1: invalid length 1, expected an array of length 2"
    );
    let (path, text) = message(read::<(String, u8)>("\"a\",300"));
    assert_eq!(path, "[1]");
    assert_eq!(
        text,
        "argument 2: invalid value: integer `300`, expected u8"
    );
    let (path, _) = message(read_binary::<(Bytes, Vec<User>)>("$0,[{}]", &[b"x"]));
    assert_eq!(path, "[1][0]");
}

#[test]
fn an_error_of_a_whole_argument_names_it_alone() {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "(i32, i32)")]
    struct Range;
    impl TryFrom<(i32, i32)> for Range {
        type Error = String;
        fn try_from(_: (i32, i32)) -> Result<Self, String> {
            Err("the end is before the start".to_owned())
        }
    }
    let (path, text) = message(read::<(u8, Range)>("0,[2,1]"));
    assert_eq!(
        (path.as_str(), text.as_str()),
        ("[1]", "argument 2: the end is before the start")
    );
    let (path, text) = message(read::<Range>("[2,1]"));
    assert_eq!(
        (path.as_str(), text.as_str()),
        ("[0]", "argument 1: the end is before the start")
    );
}

#[test]
fn an_error_does_not_repeat_a_long_value() {
    let long = "é".repeat(100_000);
    let (_, text) = message(read::<u32>(&format!("\"{long}\"")));
    assert!(text.len() < 600);
    let (path, text) = message(read::<HashMap<String, u32>>(&format!(
        "{{\"{long}\":null}}"
    )));
    assert!(path.len() < 600 && text.len() < 1200);
}

#[test]
fn text_is_borrowed_where_it_can_be() {
    let Ok(Packet::Event { args, .. }) = decode(r#"2["e","abc",{"a": 1}]"#) else {
        panic!();
    };
    let (text, raw): (&str, &RawValue) = args.deserialize().unwrap();
    assert_eq!((text, raw.get()), ("abc", r#"{"a": 1}"#));
    assert_eq!(args.json().as_ptr(), text.as_ptr().wrapping_sub(1));

    let assembled = assemble(r#"51-["x",{"_placeholder":true,"num":0},"t"]"#, &[b"abc"]);
    let Packet::Event { args, .. } = assembled.packet() else {
        panic!();
    };
    let (bytes, text): (&[u8], &str) = args.deserialize().unwrap();
    assert_eq!(bytes.as_ptr(), args.attachments()[0].as_ptr());
    assert_eq!(text, "t");
}

#[test]
fn raw_json_is_given_as_it_is() {
    #[derive(Debug, Deserialize)]
    struct Outer {
        inner: Box<RawValue>,
    }
    assert_eq!(read::<Box<RawValue>>("[1, 2],3").unwrap().get(), "[1, 2]");
    assert_eq!(
        read::<Outer>(r#"{"inner":{"a":1 }}"#).unwrap().inner.get(),
        r#"{"a":1 }"#
    );
    let (_, outer): (Bytes, Outer) = read_binary(r#"$0,{"inner":[1, $1]}"#, &[b"x", b"y"]).unwrap();
    assert_eq!(outer.inner.get(), r#"[1, {"_placeholder":true,"num":1}]"#);
}

#[test]
fn a_placeholder_is_read_as_bytes_at_any_depth() {
    let a = || Bytes::from_static(b"a");
    let b = || Bytes::from_static(b"b");
    assert_eq!(read_binary("$0", &[b"a"]), Ok(a()));
    assert_eq!(read_binary("$1,$0", &[b"a", b"b"]), Ok((b(), a())));
    assert_eq!(read_binary("$0", &[b"a"]), Ok(Some(a())));
    assert_eq!(read_binary("$0", &[b"a"]), Ok(New(a())));
    assert_eq!(
        read_binary("[$0,null,$1]", &[b"a", b"b"]),
        Ok(vec![Some(a()), None, Some(b())])
    );
    assert_eq!(
        read_binary(
            r#"{"x":{"1":$0},"\u0079":{"2":$1,"3":$2}}"#,
            &[b"a", b"b", b"b"]
        ),
        Ok(BTreeMap::from([
            ("x".to_owned(), BTreeMap::from([(1, a())])),
            ("y".to_owned(), BTreeMap::from([(2, b()), (3, b())])),
        ]))
    );
    assert_eq!(
        read_binary(r#"{"num":0, "_placeholder":true }"#, &[b"a"]),
        Ok(a())
    );
}

#[test]
fn every_kind_of_variant_may_hold_an_attachment() {
    let a = || Bytes::from_static(b"a");
    for (json, kind) in [
        (r#""Unit",$0"#, Kind::Unit),
        (r#"{"Unit":null},$0"#, Kind::Unit),
        (r#"{"One":$0}"#, Kind::One(a())),
        (r#"{"Two":[1,$0]}"#, Kind::Two(1, a())),
        (r#"{"Fields":{"a":$0}}"#, Kind::Fields { a: a() }),
        (r#"{"Fields":[$0]}"#, Kind::Fields { a: a() }),
    ] {
        assert_eq!(read_binary(json, &[b"a"]), Ok(kind), "{json}");
    }
    for json in [
        "$0",
        "{},$0",
        r#"{"None":1},$0"#,
        r#"{"Unit":null,"One":1},$0"#,
        "1,$0",
    ] {
        assert!(read_binary::<Kind>(json, &[b"a"]).is_err(), "{json}");
    }
}

#[test]
fn flattened_and_untagged_types_may_hold_an_attachment() {
    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        data: Bytes,
        note: Option<Bytes>,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        id: u32,
        #[serde(flatten)]
        inner: Inner,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(untagged)]
    enum Content {
        Text(String),
        Data(Bytes),
        Many(Vec<Self>),
    }
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(tag = "type")]
    enum Tagged {
        File { data: Bytes },
    }
    // A `String` of an untagged type takes bytes that are UTF-8: that is how serde has it.
    let a = || Bytes::from_static(b"\xff");
    assert_eq!(
        read_binary(r#"{"id":1,"data":$0}"#, &[b"\xff"]),
        Ok(Outer {
            id: 1,
            inner: Inner {
                data: a(),
                note: None
            }
        })
    );
    assert_eq!(
        read_binary(r#"["t",$0]"#, &[b"\xff"]),
        Ok(Content::Many(vec![
            Content::Text("t".into()),
            Content::Data(a())
        ]))
    );
    assert_eq!(
        read_binary(r#"{"type":"File","data":$0}"#, &[b"\xff"]),
        Ok(Tagged::File { data: a() })
    );
}

#[test]
fn bytes_may_also_be_a_string_or_numbers() {
    let bytes = Bytes::from_static;
    assert_eq!(read::<Bytes>("\"a\\n\""), Ok(bytes(b"a\n")));
    assert_eq!(read::<Bytes>("[1,2]"), Ok(bytes(b"\x01\x02")));
    assert_eq!(
        read_binary::<(Bytes, Bytes, Bytes)>("\"a\\n\",[1,2],$0", &[b"x"]),
        Ok((bytes(b"a\n"), bytes(b"\x01\x02"), bytes(b"x")))
    );
    // A placeholder without an attachment is none.
    assert!(read::<Bytes>(r#"{"_placeholder":true,"num":0}"#).is_err());
}

#[test]
fn an_attachment_where_none_is_expected_is_an_error_that_says_so() {
    let (path, text) = message(read_binary::<(i32, User)>(
        r#"1,{"name":$0,"age":1}"#,
        &[b"abc"],
    ));
    assert_eq!(path, "[1].name");
    assert_eq!(
        text,
        "argument 2, field `name`: invalid type: attachment of 3 bytes, expected a string"
    );
    let (path, _) = message(read_binary::<Value>(r#"{"a":[$0]}"#, &[b"abc"]));
    assert_eq!(path, "[0].a[0]");
    for text in [
        message(read_binary::<Vec<u8>>("$0", &[b"abc"])).1,
        message(read_binary::<User>("$0", &[b"abc"])).1,
        message(read_binary::<HashMap<String, bool>>("$0", &[b"abc"])).1,
        message(read_binary::<(u8,)>("$0", &[b"abc"])).1,
    ] {
        assert!(text.contains("attachment of 3 bytes"), "{text}");
    }
}

#[test]
fn ordinary_values_beside_attachments_are_read_as_ever() {
    type All = (
        Bytes,
        bool,
        char,
        f64,
        i128,
        Option<u8>,
        (),
        Value,
        HashMap<bool, i8>,
    );
    let json = r#"$0,true,"c",1e3,-5,null,null,{"n":[1,"x",{"_placeholder":false}]},{"true":-1}"#;
    let (bytes, a, b, c, d, e, (), f, g) = read_binary::<All>(json, &[b"x"]).unwrap();
    assert_eq!(bytes, "x");
    assert_eq!((a, b, c, d, e), (true, 'c', 1e3, -5, None));
    assert_eq!(f, json!({"n": [1, "x", {"_placeholder": false}]}));
    assert_eq!(g, HashMap::from([(true, -1)]));
}

#[test]
fn a_type_that_reads_nothing_still_takes_its_argument() {
    #[derive(Debug, PartialEq)]
    struct Blind;
    impl<'de> Deserialize<'de> for Blind {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Self)
        }
    }
    assert_eq!(read("[1],2"), Ok((Blind, 2)));
    assert_eq!(read_binary("[$0],2", &[b"x"]), Ok((Blind, 2)));
    // Inside of an argument `serde_json` has no value for it.
    assert!(read::<(Vec<Blind>, u8)>("[[1]],2").is_err());
    assert!(read_binary::<(Vec<Blind>, u8)>("[[$0]],2", &[b"x"]).is_err());
    assert!(read_binary::<HashMap<String, Blind>>(r#"{"a":$0}"#, &[b"x"]).is_err());
}

#[test]
fn owned_arguments_keep_text_and_attachments() {
    let value = (1, Bytes::from_static(b"x"), "a".to_owned());
    let owned = OwnedArgs::new(&value).unwrap();
    assert_eq!(
        owned.as_args().json(),
        r#"1,{"_placeholder":true,"num":0},"a""#
    );
    assert_eq!(owned.as_args().deserialize(), Ok(value));
    assert_eq!(owned.as_args().to_owned(), owned);
    assert_eq!(OwnedArgs::default().as_args(), Args::empty());
    assert_eq!(OwnedArgs::new(&()).unwrap(), OwnedArgs::default());
    assert_eq!(OwnedArgs::new(&Nothing).unwrap().as_args().json(), "null");
    assert_eq!(OwnedArgs::new(&[1, 2]).unwrap().as_args().json(), "[1,2]");
}
