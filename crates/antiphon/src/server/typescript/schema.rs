//! JSON schemas as types of TypeScript, as far as schemars writes them for types of Rust.
//!
//! What isn't known is `unknown`, so that nothing is promised that doesn't hold.

use std::{
    collections::BTreeSet,
    fmt::{self, Write},
};

use serde_json::{Map, Value};

use super::describe::{Arguments, Call, RECEIVED_BINARY, Reply, SENT_BINARY};

/// A tuple of more elements is written as an array.
const LONGEST_TUPLE: u64 = 16;

/// What any handler may be answered for with.
const REJECTED: &str = "Rejected";

/// The names of types in one direction.
pub(super) struct Names {
    suffix: &'static str,
    /// Those that are something else in the other direction.
    differing: BTreeSet<String>,
}

impl Names {
    /// The names of `definitions`, with a suffix if the `others` have a different type of that name.
    pub(super) fn new(
        suffix: &'static str,
        definitions: &Map<String, Value>,
        others: &Map<String, Value>,
    ) -> Self {
        let mut names = Self {
            suffix,
            differing: BTreeSet::new(),
        };
        // A type that names one that differs differs, too.
        loop {
            let before = names.differing.len();
            for (name, definition) in definitions {
                let differs = others.get(name).is_some_and(|other| {
                    other != definition || names_any(definition, &names.differing)
                });
                if differs {
                    names.differing.insert(name.clone());
                }
            }
            if names.differing.len() == before {
                return names;
            }
        }
    }

    fn of(&self, name: &str) -> String {
        let suffix = match self.differing.contains(name) {
            true => self.suffix,
            false => "",
        };
        type_name(name) + suffix
    }

    /// Whether the other direction has another type of this name.
    pub(super) fn differs(&self, name: &str) -> bool {
        self.differing.contains(name)
    }

    pub(super) fn write_definition(
        &self,
        f: &mut fmt::Formatter<'_>,
        name: &str,
        definition: &Value,
    ) -> fmt::Result {
        f.write_char('\n')?;
        write_comment(f, definition, "")?;
        let name = self.of(name);
        if let Some(fields) = plain_object(definition) {
            writeln!(f, "export interface {name} {{")?;
            for (field, schema) in fields {
                write_comment(f, schema, "  ")?;
                writeln!(f, "  {};", self.field(definition, field, schema))?;
            }
            f.write_str("}\n")
        } else {
            writeln!(f, "export type {name} = {};", self.type_of(definition))
        }
    }

    /// The type that a schema stands for.
    fn type_of(&self, schema: &Value) -> String {
        let Some(schema) = schema.as_object() else {
            let never = schema == &Value::Bool(false);
            return if never { "never" } else { "unknown" }.to_owned();
        };
        let mut parts = Vec::new();
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            parts.push(self.of(name.rsplit('/').next().unwrap_or(name)));
        }
        if let Some(value) = schema.get("const") {
            parts.push(value.to_string());
        } else if let Some(values) = schema.get("enum").and_then(Value::as_array) {
            parts.push(union(values.iter().map(Value::to_string)));
        } else {
            parts.extend(self.types_by_name(schema));
        }
        for keyword in ["oneOf", "anyOf"] {
            if let Some(options) = schema.get(keyword).and_then(Value::as_array) {
                parts.push(union(options.iter().map(|it| self.type_of(it))));
            }
        }
        if let Some(all) = schema.get("allOf").and_then(Value::as_array) {
            parts.extend(all.iter().map(|it| self.type_of(it)));
        }
        match parts.len() {
            0 => "unknown".to_owned(),
            1 => parts.swap_remove(0),
            _ => {
                let parts: Vec<_> = parts.into_iter().map(in_parentheses).collect();
                parts.join(" & ")
            }
        }
    }

    /// The types that the keyword `type` names, or that only the format tells.
    fn types_by_name(&self, schema: &Map<String, Value>) -> Option<String> {
        match schema.get("format").and_then(Value::as_str) {
            Some(SENT_BINARY) => return Some("ArrayBuffer".to_owned()),
            Some(RECEIVED_BINARY) => return Some("ArrayBuffer | ArrayBufferView".to_owned()),
            _ => {}
        }
        match schema.get("type")? {
            Value::String(name) => Some(self.type_by_name(name, schema)),
            Value::Array(names) => {
                let names = names.iter().filter_map(Value::as_str);
                Some(union(names.map(|name| self.type_by_name(name, schema))))
            }
            _ => None,
        }
    }

    fn type_by_name(&self, name: &str, schema: &Map<String, Value>) -> String {
        match name {
            "string" | "boolean" | "null" => name.to_owned(),
            "number" | "integer" => "number".to_owned(),
            "array" => self.array(schema),
            "object" => self.object(schema),
            _ => "unknown".to_owned(),
        }
    }

    fn array(&self, schema: &Map<String, Value>) -> String {
        let list = |types: Vec<String>| format!("[{}]", types.join(", "));
        if let Some(elements) = schema.get("prefixItems").and_then(Value::as_array) {
            return list(elements.iter().map(|it| self.type_of(it)).collect());
        }
        let element = schema.get("items").map_or_else(
            || "unknown".to_owned(),
            |items| in_parentheses(self.type_of(items)),
        );
        let bound = |name| schema.get(name).and_then(Value::as_u64);
        match (bound("minItems"), bound("maxItems")) {
            (Some(least), Some(most)) if least == most && most <= LONGEST_TUPLE => {
                list((0..most).map(|_| element.clone()).collect())
            }
            _ => format!("{element}[]"),
        }
    }

    fn object(&self, schema: &Map<String, Value>) -> String {
        let whole = Value::Object(schema.clone());
        let fields = schema.get("properties").and_then(Value::as_object);
        let fields: Vec<_> = fields
            .into_iter()
            .flatten()
            .map(|(name, field)| self.field(&whole, name, field))
            .collect();
        let others = match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => None,
            Some(others) => Some(self.type_of(others)),
            None if fields.is_empty() => Some("unknown".to_owned()),
            None => None,
        };
        let fields = (!fields.is_empty()).then(|| format!("{{ {} }}", fields.join("; ")));
        let others = others.map(|others| format!("Record<string, {others}>"));
        match (fields, others) {
            (Some(fields), Some(others)) => format!("{fields} & {others}"),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => "Record<string, never>".to_owned(),
        }
    }

    fn field(&self, object: &Value, name: &str, schema: &Value) -> String {
        let required = object.get("required").and_then(Value::as_array);
        let required = required.is_some_and(|names| names.iter().any(|it| it == name));
        let mark = if required { "" } else { "?" };
        format!("{}{mark}: {}", key(name), self.type_of(schema))
    }
}

/// Writes an event as a member of an interface. Its arguments are of one direction, its
/// acknowledgement of the other. Clients may leave out what may be `null` at the end.
pub(super) fn write_event(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    call: &Call,
    there: &Names,
    back: &Names,
    from_client: bool,
) -> fmt::Result {
    let parameters = match (&call.arguments, &call.reply) {
        (Arguments::Any, None) => "...args: unknown[]".to_owned(),
        // Behind any number of arguments nothing can stand.
        (Arguments::Any, Some(_)) => "...args: any[]".to_owned(),
        (Arguments::List(types), None) => {
            let optional = types.iter().rev().take_while(|it| is_nullable(it)).count();
            parameters(types, there, if from_client { optional } else { 0 })
        }
        (Arguments::List(types), Some(reply)) => {
            let separator = if types.is_empty() { "" } else { ", " };
            let (types, reply) = (parameters(types, there, 0), reply_parameters(reply, back));
            format!("{types}{separator}ack: ({reply}) => void")
        }
    };
    writeln!(f, "  {}: ({parameters}) => void;", key(name))
}

/// The parameters of a function that takes these types, the last of which are optional.
fn parameters(types: &[Value], names: &Names, optional: usize) -> String {
    let parameter = |(at, schema)| {
        let name = match types.len() {
            1 => "data".to_owned(),
            _ => format!("arg{}", at + 1),
        };
        let mark = if at + optional >= types.len() {
            "?"
        } else {
            ""
        };
        format!("{name}{mark}: {}", names.type_of(schema))
    };
    let parameters: Vec<_> = types.iter().enumerate().map(parameter).collect();
    parameters.join(", ")
}

fn reply_parameters(reply: &Reply, names: &Names) -> String {
    let Arguments::List(types) = &reply.arguments else {
        return "...reply: unknown[]".to_owned();
    };
    let Some(error) = &reply.error else {
        return parameters(types, names, 0);
    };
    let errors = error.iter().map(|error| match names.type_of(error) {
        rejection if rejection == "Rejection" => REJECTED.to_owned(),
        error => format!("{{ error: {error} }}"),
    });
    let errors = errors.chain([REJECTED.to_owned()]);
    match &types[..] {
        [one] => {
            let reply = [names.type_of(one)].into_iter().chain(errors);
            format!("reply: {}", union(reply))
        }
        _ => {
            let types: Vec<_> = types.iter().map(|it| names.type_of(it)).collect();
            let reply = format!("[{}]", types.join(", "));
            let errors = errors.map(|error| format!("[{error}]"));
            format!("...reply: {}", union([reply].into_iter().chain(errors)))
        }
    }
}

/// The fields of a type that is an object and nothing else.
fn plain_object(schema: &Value) -> Option<&Map<String, Value>> {
    let keywords = ["$ref", "oneOf", "anyOf", "allOf", "enum", "const"];
    let more = keywords.iter().any(|it| schema.get(it).is_some());
    let others = schema
        .get("additionalProperties")
        .is_some_and(|it| it != &Value::Bool(false));
    let fields = schema.get("properties")?.as_object()?;
    (schema.get("type")? == "object" && !more && !others).then_some(fields)
}

fn is_nullable(schema: &Value) -> bool {
    let is_null = |it: &Value| it == "null";
    let of_type = match schema.get("type") {
        Some(Value::Array(types)) => types.iter().any(is_null),
        Some(one) => is_null(one),
        None => false,
    };
    let any_of = schema.get("anyOf").and_then(Value::as_array);
    of_type || any_of.is_some_and(|options| options.iter().any(is_nullable))
}

/// Whether a schema names one of these definitions.
fn names_any(schema: &Value, names: &BTreeSet<String>) -> bool {
    match schema {
        Value::Array(elements) => elements.iter().any(|it| names_any(it, names)),
        Value::Object(members) => members.iter().any(|(member, value)| {
            let is_named = |name: &str| names.contains(name.rsplit('/').next().unwrap_or(name));
            match value.as_str() {
                Some(name) => member == "$ref" && is_named(name),
                None => names_any(value, names),
            }
        }),
        _ => false,
    }
}

fn union(types: impl IntoIterator<Item = String>) -> String {
    let mut all: Vec<String> = Vec::new();
    for one in types {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    // Takes all others in.
    match all.iter().any(|it| it == "unknown") {
        true => "unknown".to_owned(),
        false => all.join(" | "),
    }
}

/// A type that is part of another one.
fn in_parentheses(one: String) -> String {
    match one.contains(" | ") || one.contains(" & ") {
        true => format!("({one})"),
        false => one,
    }
}

/// A member's name, in quotes if it has to be.
fn key(name: &str) -> String {
    let mut chars = name.chars();
    let begins = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || matches!(c, '_' | '$'));
    match begins && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '$')) {
        true => name.to_owned(),
        false => Value::from(name).to_string(),
    }
}

/// A name for a type: `/private-chat` is `PrivateChat`.
pub(super) fn type_name(name: &str) -> String {
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let name = words.by_ref().fold(String::new(), |mut name, word| {
        let mut chars = word.chars();
        name.extend(chars.next().map(|c| c.to_ascii_uppercase()));
        name + chars.as_str()
    });
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("_{name}"),
        false => name,
    }
}

fn write_comment(f: &mut fmt::Formatter<'_>, schema: &Value, indent: &str) -> fmt::Result {
    let Some(text) = schema.get("description").and_then(Value::as_str) else {
        return Ok(());
    };
    let text = text.replace("*/", "*\\/");
    match text.contains('\n') {
        false => writeln!(f, "{indent}/** {text} */"),
        true => {
            writeln!(f, "{indent}/**")?;
            for line in text.lines() {
                writeln!(f, "{}", format!("{indent} * {line}").trim_end())?;
            }
            writeln!(f, "{indent} */")
        }
    }
}
