//! Writing of JSON objects with known names.

use std::{io::Write, time::Duration};

use crate::check::is_plain;

/// The name of a member, as it is written.
#[derive(Clone, Copy)]
pub(super) struct Name(pub(super) &'static str);

/// Makes a [`Name`] of a literal, which must need no escapes.
macro_rules! name {
    ($name:literal) => {
        crate::wire::members::Name(concat!("\"", $name, "\":"))
    };
}
pub(super) use name;

/// Appends the members of one JSON object to a text.
///
/// serde writes the same text, but formats and escapes each name again.
pub(super) struct Members<'o>(&'o mut Vec<u8>);

impl<'o> Members<'o> {
    /// Appends an object with the members that `write` writes.
    pub(super) fn object(out: &'o mut Vec<u8>, write: impl FnOnce(&mut Self)) {
        out.push(b'{');
        let mut members = Self(out);
        write(&mut members);
        members.0.push(b'}');
    }

    // Inlined, so that the length of the name is known.
    #[inline(always)]
    fn name(&mut self, name: Name) -> &mut Vec<u8> {
        self.separate();
        push(self.0, name.0);
        self.0
    }

    /// Begins the member `name`, which may be any text. The caller appends its value.
    pub(super) fn named(&mut self, name: &str) -> &mut Vec<u8> {
        self.separate();
        push_quoted(self.0, name);
        self.0.push(b':');
        self.0
    }

    #[inline]
    fn separate(&mut self) {
        // No value ends with this brace.
        if !self.0.ends_with(b"{") {
            self.0.push(b',');
        }
    }

    pub(super) fn text(&mut self, name: Name, value: &str) {
        push_quoted(self.name(name), value);
    }

    /// Writes a text of the code, which must need no escapes.
    #[inline(always)]
    pub(super) fn constant(&mut self, name: Name, value: &'static str) {
        push_between_quotes(self.name(name), value);
    }

    pub(super) fn texts<'v>(&mut self, name: Name, values: impl Iterator<Item = &'v str>) {
        let out = self.name(name);
        out.push(b'[');
        for (at, value) in values.enumerate() {
            if at > 0 {
                out.push(b',');
            }
            push_quoted(out, value);
        }
        out.push(b']');
    }

    #[inline(always)]
    pub(super) fn flag(&mut self, name: Name, value: bool) {
        self.word(name, if value { "true" } else { "false" });
    }

    #[inline(always)]
    pub(super) fn number(&mut self, name: Name, value: impl TryInto<u64>) {
        push_number(self.name(name), value.try_into().unwrap_or(u64::MAX));
    }

    /// Writes the number of milliseconds, with microsecond precision.
    pub(super) fn millis(&mut self, name: Name, value: Duration) {
        self.number(name, value.as_millis());
        let micros = value.subsec_micros() % 1_000;
        if micros > 0 {
            // The leading 1 keeps the zeros after the point.
            let mut digits = itoa::Buffer::new();
            let digits = digits.format(1_000 + micros)[1..].trim_end_matches('0');
            self.0.push(b'.');
            push(self.0, digits);
        }
    }

    /// Writes a number from 0 to 1.
    pub(super) fn share(&mut self, name: Name, value: f64) {
        match value {
            1.0 => self.word(name, "1.0"),
            // Writing to a `Vec` cannot fail.
            _ => drop(write!(self.name(name), "{value:?}")),
        }
    }

    /// Writes JSON text.
    pub(super) fn json(&mut self, name: Name, value: &[u8]) {
        self.name(name).extend_from_slice(value);
    }

    #[inline(always)]
    fn word(&mut self, name: Name, word: &str) {
        push(self.name(name), word);
    }

    pub(super) fn members(&mut self, name: Name, write: impl FnOnce(&mut Members<'_>)) {
        Members::object(self.name(name), write);
    }
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

fn push_number(out: &mut Vec<u8>, value: u64) {
    match u8::try_from(value) {
        // Most numbers are counts below ten.
        Ok(digit @ 0..10) => out.push(b'0' + digit),
        _ => push(out, itoa::Buffer::new().format(value)),
    }
}

/// Appends `text` as a JSON string. It must need no escapes.
fn push_between_quotes(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    push(out, text);
    out.push(b'"');
}

/// Appends `text` as a JSON string.
fn push_quoted(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        push_between_quotes(out, text);
    } else {
        push(out, &serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn writes_what_serde_writes() {
        let mut out = Vec::new();
        Members::object(&mut out, |members| {
            members.text(name!("text"), "a \"quoted\"\n\u{1} \u{e9}");
            members.constant(name!("constant"), "CLOSED");
            members.texts(name!("texts"), ["a", "\\"].into_iter());
            members.texts(name!("none"), std::iter::empty());
            members.flag(name!("flag"), true);
            members.number(name!("number"), u64::MAX);
            members.number(name!("zero"), 0_usize);
            for (name, micros) in [
                (name!("two"), 2_000),
                (name!("a"), 1_500),
                (name!("b"), 20),
                (name!("c"), 3_007),
            ] {
                members.millis(name, Duration::from_micros(micros));
            }
            members.share(name!("all"), 1.0);
            members.share(name!("part"), 2.0 / 3.0);
            members.json(name!("json"), b"[{}]");
            members.named("na\"me").extend_from_slice(b"null");
            members.members(name!("empty"), |_| {});
            members.members(name!("inner"), |inner| inner.flag(name!("flag"), false));
        });
        let expected = json!({
            "text": "a \"quoted\"\n\u{1} \u{e9}", "constant": "CLOSED", "texts": ["a", "\\"], "none": [], "flag": true,
            "number": u64::MAX, "zero": 0, "two": 2, "a": 1.5, "b": 0.02, "c": 3.007, "all": 1.0,
            "part": 2.0 / 3.0, "json": [{}], "na\"me": null,
            "empty": {}, "inner": { "flag": false },
        });
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
    }
}
