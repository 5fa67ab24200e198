//! The filters, tests and names of the condition language.

use std::{collections::HashSet, sync::LazyLock};

use minijinja::{Environment, UndefinedBehavior, Value, filters, tests};

use super::request::Absent;
use crate::template::{Reference, Root};

/// Maximum number of evaluation steps.
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

/// Tokens after which a parenthesis groups and does not call.
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

/// The test `defined`. A missing value that is tested is no longer an error.
fn is_defined(value: &Value) -> bool {
    match value.downcast_object_ref::<Absent>() {
        Some(absent) => {
            absent.excuse();
            false
        }
        None => !value.is_undefined(),
    }
}

/// The filter `default`. The fallback may be missing too if it is not needed.
fn default(value: Value, otherwise: Value) -> Value {
    if !is_defined(&value) {
        return otherwise;
    }
    // Excuses a fallback that is missing.
    is_defined(&otherwise);
    value
}

/// Returns the first problem in an expression that parses, as a message and a byte offset.
///
/// `names` are the variables that the expression reads. The engine reports unknown filters, tests
/// and calls only when they are evaluated, so this function finds them in the tokens.
pub(super) fn problem(text: &str, names: &HashSet<String>) -> Option<(String, usize)> {
    let (mut before, mut last) = ("", "");
    for (offset, token) in tokens(text) {
        let is_word = token.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
        let message = match last {
            "|" if is_word && !FILTERS.contains(&token) => {
                format!(
                    "unknown filter \"{token}\"; expected one of {}",
                    FILTERS.join(", ")
                )
            }
            "is" if is_word && token != "not" && before != "." && !TESTS.contains(&token) => {
                format!(
                    "unknown test \"{token}\"; expected one of {}",
                    TESTS.join(", ")
                )
            }
            _ if token == "(" && !matches!(before, "|" | "is") && is_called(last) => {
                "calls are not supported; use a filter, as in \"|lower\"".into()
            }
            // A name after these is a member, a filter or a test, not a variable.
            "." | "|" | "is" => String::new(),
            _ if is_word && names.contains(token) && !Root::RESERVED.contains(&token) => {
                let known = Root::RESERVED.join(", ");
                format!("unknown name \"{token}\"; expected one of {known}")
            }
            _ => String::new(),
        };
        if !message.is_empty() {
            return Some((message, offset));
        }
        // A test follows `is not` as it does `is`, so `not` is dropped.
        if (last, token) != ("is", "not") {
            (before, last) = (last, token);
        }
    }
    None
}

/// Returns the values of a request that an expression reads, as far as their names are literal.
pub(super) fn references(text: &str) -> Vec<Reference> {
    let tokens: Vec<&str> = tokens(text).map(|(_, token)| token).collect();
    let reads = roots(&tokens).map(|at| {
        let mut reference = Reference::to(Root::parse(tokens[at]));
        let mut rest = &tokens[at + 1..];
        loop {
            (reference.path, rest) = match rest {
                [".", name, after @ ..] => (push(reference.path, name), after),
                ["[", name, "]", after @ ..] if literal(name).is_some() => (
                    push(reference.path, literal(name).unwrap_or_default()),
                    after,
                ),
                _ => return reference,
            };
        }
    });
    reads.collect()
}

/// Returns the texts that an expression compares the tier with.
pub(super) fn tiers(text: &str) -> Vec<&str> {
    let tokens: Vec<&str> = tokens(text).map(|(_, token)| token).collect();
    let mut found = Vec::new();
    for at in roots(&tokens).filter(|at| tokens[*at] == "tier") {
        match &tokens[at + 1..] {
            ["=" | "!", "=", name, after @ ..] if ends_operand(after.first()) => found.push(*name),
            ["in", "[" | "(", list @ ..] | ["not", "in", "[" | "(", list @ ..] => {
                let items = list.chunks(2);
                found.extend(items.map_while(|item| match item {
                    [name, "," | "]" | ")"] => Some(*name),
                    _ => None,
                }));
            }
            _ => {}
        }
        if let [before @ .., name, "=" | "!", "="] = &tokens[..at]
            && begins_operand(before.last())
        {
            found.push(name);
        }
    }
    found.into_iter().filter_map(literal).collect()
}

/// Returns the indices of the tokens that name a source of values.
fn roots(tokens: &[&str]) -> impl Iterator<Item = usize> {
    let is_root = |at: &usize| {
        let is_member = *at > 0 && matches!(tokens[*at - 1], "." | "|" | "is");
        Root::RESERVED.contains(&tokens[*at]) && !is_member
    };
    (0..tokens.len()).filter(is_root)
}

fn push(mut path: Vec<String>, name: &str) -> Vec<String> {
    path.push(name.to_owned());
    path
}

/// Returns the content of a string without escapes.
fn literal(token: &str) -> Option<&str> {
    let quote = token
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '\''))?;
    let text = token[1..].strip_suffix(quote)?;
    (!text.contains('\\')).then_some(text)
}

/// Returns `true` if a comparison ends before `token`, so that no operator changes its operand.
fn ends_operand(token: Option<&&str>) -> bool {
    token.is_none_or(|token| matches!(*token, "and" | "or" | "if" | "else" | ")"))
}

/// Returns `true` if a comparison begins after `token`.
fn begins_operand(token: Option<&&str>) -> bool {
    token.is_none_or(|token| matches!(*token, "and" | "or" | "not" | "if" | "else" | "("))
}

/// Returns `true` if a parenthesis after `token` is a call, because `token` ends a value.
fn is_called(token: &str) -> bool {
    let value =
        token.ends_with(|last: char| is_part(last) || matches!(last, ')' | ']' | '}' | '"' | '\''));
    value && !OPERATORS.contains(&token)
}

/// Iterates over the strings, words and punctuation characters of an expression, with their byte
/// offsets.
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

/// Returns the length of the string literal at the start of `text`, with its quotes.
fn quoted(text: &str, quote: char) -> usize {
    // The opening quote must not end the search.
    let mut escaped = true;
    let end = text.find(|next| {
        let ends = next == quote && !escaped;
        escaped = next == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 1)
}
