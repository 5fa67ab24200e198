//! What can be said in a condition.

use std::{collections::HashSet, sync::LazyLock};

use minijinja::{Environment, UndefinedBehavior, Value, filters, tests};

use super::request::Absent;
use crate::template::Root;

/// The most steps that a condition may take.
const FUEL: u64 = 50_000;

const FILTERS: [&str; 6] = ["default", "float", "int", "length", "lower", "upper"];

const TESTS: [&str; 9] = [
    "boolean",
    "defined",
    "endingwith",
    "in",
    "none",
    "number",
    "startingwith",
    "string",
    "undefined",
];

/// Words after which a parenthesis only groups.
const OPERATORS: [&str; 8] = ["and", "else", "if", "in", "is", "not", "or", "|"];

pub(super) static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_debug(false);
    environment.add_filter("default", default);
    environment.add_filter("float", filters::float);
    environment.add_filter("int", filters::int);
    environment.add_filter("length", filters::length);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("upper", filters::upper);
    environment.add_test("boolean", tests::is_boolean);
    environment.add_test("defined", is_defined);
    environment.add_test("endingwith", tests::is_endingwith);
    environment.add_test("in", tests::is_in);
    environment.add_test("none", tests::is_none);
    environment.add_test("number", tests::is_number);
    environment.add_test("startingwith", tests::is_startingwith);
    environment.add_test("string", tests::is_string);
    environment.add_test("undefined", |value: &Value| !is_defined(value));
    environment
});

/// Whether there is such a value; to ask excuses that there is none.
fn is_defined(value: &Value) -> bool {
    match value.downcast_object_ref::<Absent>() {
        Some(absent) => {
            absent.excuse();
            false
        }
        None => !value.is_undefined(),
    }
}

/// What is not needed may be missing.
fn default(value: Value, otherwise: Value) -> Value {
    if !is_defined(&value) {
        return otherwise;
    }
    is_defined(&otherwise);
    value
}

/// The first word of an expression that means nothing here, and where it begins. `names` are those
/// that it reads.
pub(super) fn problem(text: &str, names: &HashSet<String>) -> Option<(String, usize)> {
    let (mut before, mut last) = ("", "");
    for (offset, token) in tokens(text) {
        let is_word = token.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let message = match last {
            "|" if is_word && !FILTERS.contains(&token) => {
                format!(
                    "there is no filter \"{token}\" among {}",
                    FILTERS.join(", ")
                )
            }
            "is" if is_word && token != "not" && before != "." && !TESTS.contains(&token) => {
                format!("there is no test \"{token}\" among {}", TESTS.join(", "))
            }
            _ if token == "(" && !matches!(before, "|" | "is") && is_called(last) => {
                "nothing can be called: write a filter, as in \"|lower\"".into()
            }
            "." | "|" | "is" => String::new(),
            _ if is_word && names.contains(token) && !Root::RESERVED.contains(&token) => {
                let known = Root::RESERVED.join(", ");
                format!("a condition reads {known} of the request, and no \"{token}\"")
            }
            _ => String::new(),
        };
        if !message.is_empty() {
            return Some((message, offset));
        }
        // `is not` asks for the same word as `is`.
        if (last, token) != ("is", "not") {
            (before, last) = (last, token);
        }
    }
    None
}

/// Whether a parenthesis after `token` would call something: it is the end of a value.
fn is_called(token: &str) -> bool {
    let value =
        token.ends_with(|last: char| is_part(last) || matches!(last, ')' | ']' | '}' | '"' | '\''));
    value && !OPERATORS.contains(&token)
}

/// The strings, words and signs of an expression, and where they begin.
fn tokens(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    let token = move || {
        let rest = &text[at..];
        let first = rest.chars().next()?;
        let length = match first {
            '"' | '\'' => quoted(rest, first),
            _ if is_part(first) => rest.find(|next| !is_part(next)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        at += length;
        Some((at - length, &rest[..length]))
    };
    std::iter::from_fn(token).filter(|(_, token)| !token.trim().is_empty())
}

fn is_part(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// How long a string is, with its quotes.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = true;
    let end = text.find(|next| {
        let ends = next == quote && !escaped;
        escaped = next == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 1)
}
