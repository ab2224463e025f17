//! What the values of a type are as arguments: decided by the type alone.
//!
//! The rule is of Rust's types, and serde can't tell them apart: it writes an array, and many a
//! vector of three numbers, just as a tuple. A trait can't tell them either, since whatever is
//! implemented for all `T: Serialize` leaves no room for tuples. What a type is called does tell
//! them: [`type_name`](std::any::type_name) of a tuple begins with a parenthesis.
//!
//! How the compiler writes names isn't fixed. So none is written here: each is compared with the
//! name of a type that is known to be what is looked for, and the tests know each kind of type. In
//! optimized code a shape is a constant, since all these names are.

use std::any::type_name;

/// What the values of a type are as the arguments of an event or an acknowledgement.
///
/// ```
/// use antiphon_protocol::socket::Shape;
///
/// assert_eq!(Shape::of::<()>(), Shape::Nothing);
/// assert_eq!(Shape::of::<(&str, u32)>(), Shape::List);
/// assert_eq!(Shape::of::<[f64; 3]>(), Shape::One);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `()`: no arguments.
    Nothing,
    /// A tuple: each element is an argument.
    List,
    /// The [`Result`] of the standard library: one argument, but for a reply, which is taken apart.
    Result,
    /// Any other type, an array and a tuple struct too: one argument.
    One,
}

/// A reference is what it refers to. Deeper ones than this are [`Shape::One`]; a bound, since loops
/// without one aren't run by the compiler.
const MOST_REFERENCES: usize = 8;

impl Shape {
    /// The shape of a type. References have that of what they refer to; a `Box` is a type like any
    /// other.
    #[inline]
    #[must_use]
    pub fn of<T: ?Sized>() -> Self {
        let mut name = type_name::<T>();
        for _ in 0..MOST_REFERENCES {
            match referent(name) {
                Some(referent) => name = referent,
                None => break,
            }
        }
        if name == type_name::<()>() {
            Self::Nothing
        } else if name.as_bytes().first() == type_name::<((),)>().as_bytes().first() {
            Self::List
        } else if is_result(name) {
            Self::Result
        } else {
            Self::One
        }
    }
}

/// The name of the type that a reference refers to.
#[inline]
fn referent(name: &str) -> Option<&str> {
    let unit = type_name::<()>();
    let shared = type_name::<&()>().strip_suffix(unit)?;
    let mutable = type_name::<&mut ()>().strip_suffix(unit)?;
    // The longer one first: it begins as the other.
    name.strip_prefix(mutable)
        .or_else(|| name.strip_prefix(shared))
}

/// Whether a name is that of [`Result`], whatever its parameters: the same as one that is, up to
/// where they begin.
#[inline]
fn is_result(name: &str) -> bool {
    let known = type_name::<Result<(), ()>>().bytes();
    for (known, found) in known.zip(name.bytes()) {
        if known != found {
            return false;
        }
        if known == b'<' {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::fmt::Display;
    use std::rc::Rc;
    use std::sync::Arc;

    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;

    struct Named;
    #[expect(dead_code, reason = "only its name matters")]
    struct Tuple(u8, u8);
    struct New<T>(T);
    #[expect(dead_code, reason = "only its name matters")]
    struct Borrowed<'a>(&'a str);

    /// Types of users that are called as those of the standard library.
    mod of_a_user {
        pub(super) enum Result<T, E> {
            Ok(T),
            Err(E),
        }
        pub(super) mod result {
            pub(in super::super) enum Result {}
        }
    }

    fn generic<T>(_: T) -> [Shape; 3] {
        [
            Shape::of::<T>(),
            Shape::of::<&T>(),
            Shape::of::<(T, Option<T>)>(),
        ]
    }

    #[test]
    fn only_the_unit_type_is_nothing() {
        assert_eq!(Shape::of::<()>(), Shape::Nothing);
        for shape in [
            Shape::of::<Named>(),
            Shape::of::<Value>(),
            Shape::of::<Option<()>>(),
            Shape::of::<New<()>>(),
            Shape::of::<[(); 2]>(),
            Shape::of::<[u8; 0]>(),
            Shape::of::<std::marker::PhantomData<()>>(),
        ] {
            assert_eq!(shape, Shape::One);
        }
    }

    #[test]
    fn tuples_are_lists() {
        for shape in [
            Shape::of::<(u8,)>(),
            Shape::of::<((),)>(),
            Shape::of::<((), ())>(),
            Shape::of::<((u8, u8),)>(),
            Shape::of::<(((),),)>(),
            Shape::of::<([u8; 2], Named, Borrowed<'_>)>(),
            Shape::of::<(fn(u8) -> u8, &str, u8)>(),
            Shape::of::<(u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8)>(),
        ] {
            assert_eq!(shape, Shape::List);
        }
    }

    #[test]
    fn the_standard_result_is_one_and_no_other() {
        type Alias<T> = std::result::Result<T, String>;
        assert_eq!(Shape::of::<Result<(), ()>>(), Shape::Result);
        assert_eq!(Shape::of::<Alias<(u8, u8)>>(), Shape::Result);
        assert_eq!(Shape::of::<std::io::Result<&str>>(), Shape::Result);
        assert_eq!(Shape::of::<of_a_user::Result<(), ()>>(), Shape::One);
        assert_eq!(Shape::of::<of_a_user::result::Result>(), Shape::One);
        assert_eq!(Shape::of::<Option<Result<(), ()>>>(), Shape::One);
        let (ok, err) = (
            of_a_user::Result::<u8, u8>::Ok(1),
            of_a_user::Result::<u8, u8>::Err(1),
        );
        assert_eq!([generic(ok)[0], generic(err)[0]], [Shape::One; 2]);
    }

    #[test]
    fn all_else_is_one() {
        for shape in [
            Shape::of::<u8>(),
            Shape::of::<str>(),
            Shape::of::<String>(),
            Shape::of::<[u8]>(),
            Shape::of::<[(u8, u8)]>(),
            Shape::of::<[(u8, u8); 3]>(),
            Shape::of::<Vec<(u8, u8)>>(),
            Shape::of::<Tuple>(),
            Shape::of::<New<(u8, u8)>>(),
            Shape::of::<Option<(u8, u8)>>(),
            Shape::of::<Box<(u8, u8)>>(),
            Shape::of::<Box<()>>(),
            Shape::of::<Box<Result<(), ()>>>(),
            Shape::of::<Rc<(u8, u8)>>(),
            Shape::of::<Arc<(u8, u8)>>(),
            Shape::of::<Cow<'_, (u8, u8)>>(),
            Shape::of::<Borrowed<'_>>(),
            Shape::of::<RawValue>(),
            Shape::of::<dyn Display>(),
            Shape::of::<&(dyn Display + Send + Sync)>(),
            Shape::of::<fn(u8, u8)>(),
            Shape::of::<&fn(u8, u8)>(),
            generic(|_: (u8, u8)| ())[0],
        ] {
            assert_eq!(shape, Shape::One);
        }
    }

    #[test]
    fn a_reference_is_what_it_refers_to() {
        assert_eq!(Shape::of::<&()>(), Shape::Nothing);
        assert_eq!(Shape::of::<&mut ()>(), Shape::Nothing);
        assert_eq!(Shape::of::<&(u8, &str)>(), Shape::List);
        assert_eq!(Shape::of::<&mut (u8, &str)>(), Shape::List);
        assert_eq!(Shape::of::<&&'static mut &(u8,)>(), Shape::List);
        assert_eq!(Shape::of::<&mut Result<(), ()>>(), Shape::Result);
        assert_eq!(Shape::of::<&str>(), Shape::One);
        assert_eq!(Shape::of::<&[(u8, u8)]>(), Shape::One);
        assert_eq!(Shape::of::<&mut [u8; 2]>(), Shape::One);
    }

    #[test]
    fn generic_code_sees_the_type_that_it_is_used_with() {
        let local = String::from("a");
        assert_eq!(generic(()), [Shape::Nothing, Shape::Nothing, Shape::List]);
        assert_eq!(generic((1, &local)), [Shape::List; 3]);
        assert_eq!(
            generic(Borrowed(&local)),
            [Shape::One, Shape::One, Shape::List]
        );
        assert_eq!(generic([1, 2]), [Shape::One, Shape::One, Shape::List]);
        let result: Result<&str, ()> = Ok(&local);
        assert_eq!(generic(result), [Shape::Result, Shape::Result, Shape::List]);
    }
}
