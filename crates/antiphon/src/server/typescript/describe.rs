//! What a handler's types say of its event: each extractor adds its part to a [`Signature`], and
//! what the handler returns is the [`Reply`].

use std::{borrow::Cow, sync::Arc};

use antiphon_protocol::socket::Shape;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use crate::{
    engine::TransportKind,
    server::{
        Ack, Args, Auth, Binary, Data, Emitted, Event, Extension, Handshake, Namespace, Param,
        Rejection, Server, Socket, State, handlers::callable::Immediate,
    },
};

impl JsonSchema for Binary {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Binary".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "format": match generator.contract().is_serialize() {
            true => SENT_BINARY,
            false => RECEIVED_BINARY,
        } })
    }
}

pub(super) const SENT_BINARY: &str = "antiphon-binary-sent";
pub(super) const RECEIVED_BINARY: &str = "antiphon-binary-received";

/// The types of an event's arguments.
#[derive(Debug)]
pub(super) enum Arguments {
    /// Any number, of any types.
    Any,
    /// So many, of these types.
    List(Vec<Value>),
}

impl Arguments {
    /// What a `T` stands for, as it is sent or taken.
    pub(super) fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Self {
        let schema = generator.subschema_for::<T>().to_value();
        match Shape::of::<T>() {
            Shape::Nothing => Self::List(Vec::new()),
            Shape::List => Self::list(&schema),
            _ => Self::List(vec![schema]),
        }
    }

    pub(super) const fn is_none(&self) -> bool {
        matches!(self, Self::List(types) if types.is_empty())
    }

    /// The elements of a tuple.
    fn list(schema: &Value) -> Self {
        let elements = schema.get("prefixItems").and_then(Value::as_array);
        Self::List(elements.cloned().unwrap_or_default())
    }
}

/// The types of an acknowledgement.
#[derive(Debug)]
pub struct Reply {
    pub(super) arguments: Arguments,
    /// The server may answer with an error; one of this type, if the handler returns one.
    pub(super) error: Option<Option<Value>>,
}

impl Reply {
    /// Clients answer with what they were asked for.
    pub(super) const fn of_client(arguments: Arguments) -> Self {
        Self {
            arguments,
            error: None,
        }
    }

    const fn of_handler(arguments: Arguments, error: Option<Value>) -> Self {
        Self {
            arguments,
            error: Some(error),
        }
    }
}

/// An event with the types of its arguments, and of its acknowledgement if it has one.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) arguments: Arguments,
    pub(super) reply: Option<Reply>,
}

impl Call {
    /// Another handler of the same event.
    pub(super) fn add(&mut self, other: Self) {
        if self.arguments.is_none() {
            self.arguments = other.arguments;
        }
        if self.reply.is_none() {
            self.reply = other.reply;
        }
    }
}

/// What the arguments of a handler say of its event.
#[derive(Debug)]
pub struct Signature<'a> {
    received: &'a mut SchemaGenerator,
    arguments: Arguments,
    acknowledges: bool,
}

impl<'a> Signature<'a> {
    pub(super) const fn new(received: &'a mut SchemaGenerator) -> Self {
        Self {
            received,
            arguments: Arguments::List(Vec::new()),
            acknowledges: false,
        }
    }

    /// The event's arguments are taken as a `T`, by the rules of [`Data`].
    pub fn takes<T: JsonSchema>(&mut self) {
        self.arguments = Arguments::of::<T>(self.received);
    }

    pub(super) fn into_call(self, reply: Option<Reply>) -> Call {
        let by_hand = || Reply::of_handler(Arguments::Any, None);
        Call {
            arguments: self.arguments,
            reply: reply.or_else(|| self.acknowledges.then(by_hand)),
        }
    }
}

/// What an extractor says of the events whose handlers it is an argument of. Most say nothing:
///
/// ```
/// struct User(String); // implements `FromContext`
///
/// impl antiphon::typescript::Describe for User {}
/// ```
#[diagnostic::on_unimplemented(
    message = "what `{Self}` takes of an event isn't known",
    note = "`Data<T>` needs `#[derive(schemars::JsonSchema)]` for `T`",
    note = "an extractor that takes none of the event's arguments: `impl antiphon::typescript::Describe for {Self} {{}}`"
)]
pub trait Describe {
    /// Adds what it knows.
    fn describe(signature: &mut Signature<'_>) {
        let _ = signature;
    }
}

// Errors are said of the trait, whose notes say what to do.
#[diagnostic::do_not_recommend]
impl<T: JsonSchema> Describe for Data<T> {
    fn describe(signature: &mut Signature<'_>) {
        signature.takes::<T>();
    }
}

impl Describe for Ack {
    fn describe(signature: &mut Signature<'_>) {
        signature.acknowledges = true;
    }
}

impl Describe for Args {
    fn describe(signature: &mut Signature<'_>) {
        signature.arguments = Arguments::Any;
    }
}

impl Describe for Event {}
impl Describe for Namespace {}
impl Describe for Server {}
impl Describe for Socket {}
impl Describe for Arc<Handshake> {}
impl<T> Describe for Auth<T> {}
impl<T> Describe for Extension<T> {}
impl<T> Describe for Param<T> {}
impl<T> Describe for State<T> {}
impl Describe for TransportKind {}

/// Clients are to send what its extractor takes, whatever becomes of the rest.
impl<E: Describe> Describe for Option<E> {
    fn describe(signature: &mut Signature<'_>) {
        E::describe(signature);
    }
}

/// As that of an `Option`.
impl<E: Describe> Describe for Result<E, Rejection> {
    fn describe(signature: &mut Signature<'_>) {
        E::describe(signature);
    }
}

macro_rules! describe_all {
    ($($argument:ident)*) => {
        /// All of them.
        impl<$($argument: Describe,)*> Describe for ($($argument,)*) {
            fn describe(signature: &mut Signature<'_>) {
                let _ = signature;
                $($argument::describe(signature);)*
            }
        }
    };
}

/// The arguments of a handler that isn't async.
impl<A: Describe> Describe for Immediate<A> {
    fn describe(signature: &mut Signature<'_>) {
        A::describe(signature);
    }
}

describe_all!();
describe_all!(T1);
describe_all!(T1 T2);
describe_all!(T1 T2 T3);
describe_all!(T1 T2 T3 T4);
describe_all!(T1 T2 T3 T4 T5);
describe_all!(T1 T2 T3 T4 T5 T6);
describe_all!(T1 T2 T3 T4 T5 T6 T7);
describe_all!(T1 T2 T3 T4 T5 T6 T7 T8);

/// What a handler returns.
#[diagnostic::on_unimplemented(
    message = "the type of this acknowledgement isn't known",
    note = "`{Self}` needs `#[derive(schemars::JsonSchema)]`; of a `Result` both types"
)]
pub trait DescribeReply {
    fn describe_reply(sent: &mut SchemaGenerator) -> Option<Reply>;
}

#[diagnostic::do_not_recommend]
impl<T: JsonSchema> DescribeReply for T {
    fn describe_reply(sent: &mut SchemaGenerator) -> Option<Reply> {
        if Shape::of::<T>() != Shape::Result {
            let has_reply = Shape::of::<T>() != Shape::Nothing;
            return has_reply.then(|| Reply::of_handler(Arguments::of::<T>(sent), None));
        }
        // Not by reference: its two types are of interest, and it goes over no wire itself.
        let result = T::json_schema(sent).to_value();
        let ok = variant(&result, "Ok");
        let arguments = if ok.get("type").is_some_and(|it| it == "null") {
            Arguments::List(Vec::new())
        } else if ok.get("prefixItems").is_some() {
            // A tuple: types with a name stand there as references.
            Arguments::list(&ok)
        } else {
            Arguments::List(vec![ok])
        };
        Some(Reply::of_handler(arguments, Some(variant(&result, "Err"))))
    }
}

impl DescribeReply for Emitted {
    fn describe_reply(_: &mut SchemaGenerator) -> Option<Reply> {
        None
    }
}

impl DescribeReply for Args {
    fn describe_reply(_: &mut SchemaGenerator) -> Option<Reply> {
        Some(Reply::of_handler(Arguments::Any, None))
    }
}

/// The type in a variant of a [`Result`].
fn variant(result: &Value, name: &str) -> Value {
    let variants = result.get("oneOf").and_then(Value::as_array);
    let inner = |variant: &Value| variant.get("properties")?.get(name).cloned();
    variants
        .and_then(|variants| variants.iter().find_map(inner))
        .unwrap_or(Value::Bool(true))
}
