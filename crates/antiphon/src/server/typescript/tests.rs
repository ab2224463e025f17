//! Each shape that serde knows, as TypeScript.

use std::collections::{BTreeMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Declarations;
use crate::{Ack, Args, BigInt, Binary, Data, Server};

/// The member of the interface that describes an event emitted with a `T`.
fn emitted<T: JsonSchema>() -> String {
    let declarations = Declarations::new();
    let io = Server::new();
    declarations.describe(&io.of("/")).emits::<T>("ev");
    let text = declarations.to_string();
    let line = text.lines().find_map(|line| line.strip_prefix("  ev: "));
    line.expect("the event is described").to_owned()
}

/// The definition of the type with this name.
fn definition<T: JsonSchema>(name: &str) -> String {
    let declarations = Declarations::new();
    let io = Server::new();
    declarations.describe(&io.of("/")).emits::<T>("ev");
    let text = declarations.to_string();
    let from = text
        .find(&format!("{name} "))
        .unwrap_or_else(|| panic!("no {name}: {text}"));
    text[from..].split("\n\n").next().unwrap_or("").to_owned()
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Point(f64, f64);

#[derive(Serialize, Deserialize, JsonSchema)]
struct Done;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Id(u64);

#[derive(Serialize, Deserialize, JsonSchema)]
struct Page<T> {
    #[serde(rename = "first-page")]
    first: T,
    #[serde(flatten)]
    rest: BTreeMap<String, T>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Tree {
    children: Vec<Self>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum Shape {
    Circle { radius: f32 },
    Line(f32, f32),
    Named(String),
    Nothing,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Either {
    Text(String),
    Number(i64),
}

#[test]
fn a_tuple_is_several_arguments_and_all_else_is_one() {
    assert_eq!(emitted::<()>(), "() => void;");
    assert_eq!(emitted::<(u8,)>(), "(data: number) => void;");
    assert_eq!(
        emitted::<(String, Option<bool>)>(),
        "(arg1: string, arg2: boolean | null) => void;"
    );
    assert_eq!(emitted::<[f32; 2]>(), "(data: [number, number]) => void;");
    assert_eq!(emitted::<Point>(), "(data: Point) => void;");
    assert_eq!(definition::<Point>("Point"), "Point = [number, number];");
    assert_eq!(emitted::<Done>(), "(data: Done) => void;");
    assert_eq!(definition::<Done>("Done"), "Done = null;");
    assert_eq!(definition::<Id>("Id"), "Id = number;");
}

#[test]
fn collections_are_arrays_and_records() {
    assert_eq!(
        emitted::<Vec<Option<String>>>(),
        "(data: (string | null)[]) => void;"
    );
    assert_eq!(emitted::<HashSet<u8>>(), "(data: number[]) => void;");
    assert_eq!(
        emitted::<BTreeMap<String, [u8; 2]>>(),
        "(data: Record<string, [number, number]>) => void;"
    );
    assert_eq!(
        emitted::<((String, u8), Vec<(u8, u8)>)>(),
        "(arg1: [string, number], arg2: [number, number][]) => void;"
    );
    assert_eq!(emitted::<serde_json::Value>(), "(data: unknown) => void;");
    assert_eq!(emitted::<Binary>(), "(data: ArrayBuffer) => void;");
}

#[test]
fn large_integers_are_texts() {
    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Order {
        #[serde(with = "crate::big_integer")]
        #[schemars(with = "BigInt<u64>")]
        id: u64,
    }
    assert_eq!(emitted::<BigInt<u64>>(), "(data: string) => void;");
    assert_eq!(
        emitted::<(Option<BigInt<i128>>, Vec<BigInt<u8>>)>(),
        "(arg1: string | null, arg2: string[]) => void;"
    );
    assert_eq!(definition::<Order>("Order"), "Order {\n  id: string;\n}");
}

#[test]
fn enums_are_unions() {
    assert_eq!(
        definition::<Shape>("Shape"),
        r#"Shape = "Nothing" | { Circle: { radius: number } } | { Line: [number, number] } | { Named: string };"#
    );
    assert_eq!(definition::<Either>("Either"), "Either = string | number;");
}

#[test]
fn types_may_be_generic_recursive_and_flattened() {
    assert_eq!(
        definition::<Page<String>>("Page"),
        r#"Page = { "first-page": string } & Record<string, string>;"#
    );
    assert_eq!(definition::<Tree>("Tree"), "Tree {\n  children: Tree[];\n}");
}

#[test]
fn several_handlers_of_an_event_are_one_signature() {
    let io = Server::new();
    let declarations = Declarations::new();
    declarations
        .describe(&io.of("/two-words/7"))
        .on("ev", async || ())
        .on("ev", async |Data(_): Data<u32>| ())
        .on("ev", async |Data(text): Data<String>| text)
        .on("next", |Data(n): Data<u32>| n + 1)
        .on("raw", async |args: Args| args)
        .on("by hand", async |Data(n): Data<u32>, ack: Ack| ack.send(n));
    let text = declarations.to_string();
    let interface = "interface TwoWords7ClientToServer {
  \"by hand\": (data: number, ack: (...reply: unknown[]) => void) => void;
  ev: (data: number, ack: (reply: string | Rejected) => void) => void;
  next: (data: number, ack: (reply: number | Rejected) => void) => void;
  raw: (...args: any[]) => void;
}";
    assert!(text.contains(interface), "{text}");
}

#[test]
fn text_of_documentation_can_end_no_comment() {
    /// Ends */ here.
    #[derive(JsonSchema)]
    struct Documented {
        #[expect(dead_code, reason = "for its type")]
        field: u8,
    }
    let text = definition::<Documented>("Documented");
    assert!(text.starts_with("Documented {"), "{text}");
    let declarations = Declarations::new();
    let io = Server::new();
    declarations.describe(&io.of("/")).emits::<Documented>("ev");
    assert!(declarations.to_string().contains("/** Ends *\\/ here. */"));
}
