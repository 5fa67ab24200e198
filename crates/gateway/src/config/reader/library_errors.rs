//! Reports errors of libraries, such as those of config structs, at the keys of the file.

use std::collections::HashMap;

use serde_json::Value;
use tower_fanout::layers::{ConfigError, config::Validate};

use super::{Kind, ValueReader};

impl ValueReader<'_> {
    /// Reports every error of `config` at its key. Returns `true` if none is found.
    pub(in crate::config) fn check(&self, config: &impl Validate) -> bool {
        let errors = config.errors();
        // An invalid value is replaced by its default, which the file does not say.
        let is_replaced = |field: &str| self.has(field) && !self.at(field).is_sound();
        let is_of_file = |error: &&ConfigError| {
            let fields = [Some(error.field()), error.other_field()];
            !fields.into_iter().flatten().any(is_replaced)
        };
        let of_file: Vec<_> = errors.iter().filter(is_of_file).collect();
        let mut items = HashMap::new();
        for error in of_file {
            let reader = self.at_error(error);
            let items = items.entry(error.field());
            let items = items.or_insert_with(|| quoted_items(&reader));
            let item = quoted(error.message(), items);
            item.unwrap_or(&reader)
                .report_error(error, self.has(error.field()));
        }
        errors.is_empty()
    }

    /// Reports an error of a config struct at this value. `is_written` is `true` if the file has the value.
    fn report_error(&self, error: &ConfigError, is_written: bool) {
        let (rule, advice) = split_advice(error.message());
        let key = error.field().rsplit('.').next().unwrap_or_default();
        let message = match rule.rsplit_once(", got ") {
            _ if is_written => self.tree.quote_in(&self.masked(rule), &self.shown()),
            // Another key of the file may forbid the default of a key that it does not have.
            Some((rule, got)) if rule.starts_with("must ") => {
                let message = format!("{key} is {got} by default, and {rule}");
                let help = Some(format!("set {key}"));
                return self.error_with_help("invalid", message, help);
            }
            Some(_) => format!("{rule} by default"),
            None if rule.starts_with("must ") => format!("{key} {rule}"),
            None => self.masked(rule),
        };
        let is_range = [">", "<", "within "].iter().any(|limit| {
            let rule = rule.strip_prefix("must be ");
            rule.is_some_and(|rule| rule.starts_with(limit))
        });
        let code = if is_range && error.other_field().is_none() {
            "range"
        } else {
            "invalid"
        };
        let help = advice.map(|advice| self.masked(advice));
        self.error_with_help(code, message, help);
    }

    /// Reports an error of a library, whose message may end with advice.
    pub(in crate::config) fn library_error(&self, code: &'static str, message: &str) {
        let (message, advice) = split_advice(message);
        let help = advice.map(|advice| self.masked(advice));
        self.error_with_help(code, self.masked(message), help);
    }

    /// Returns a reader that reports `error` at its key. If the file does not have the key, nor a map around it, the
    /// position is that of the key that forbids the default.
    fn at_error(&self, error: &ConfigError) -> Self {
        let reader = self.at(error.field());
        let first = |path: &str| path.split('.').next().map(str::to_owned);
        let is_missing = first(error.field()).is_some_and(|first| !self.has(&first));
        let other = error.other_field().filter(|_| is_missing).and_then(first);
        let position = other.and_then(|other| self.key_position(&other));
        Self {
            position: position.unwrap_or(reader.position),
            ..reader
        }
    }
}

/// Returns the items of the list at `reader` as messages quote them. Of equal items, the last one is meant, because it
/// repeats the first one.
fn quoted_items<'t>(reader: &ValueReader<'t>) -> HashMap<String, ValueReader<'t>> {
    let items = reader.list().into_iter().filter_map(|item| {
        let written = item.tree.as_written();
        let quoted = match &item.tree.kind {
            Kind::Scalar(Value::String(_)) => format!("\"{written}\""),
            Kind::Scalar(Value::Number(_)) => written,
            _ => return None,
        };
        Some((quoted, item))
    });
    items.collect()
}

/// Maximum number of quotes in a message that may be around an item.
const MOST_QUOTES: usize = 64;

/// Returns the item that `message` quotes last, if it quotes one.
fn quoted<'i, 't>(
    message: &str,
    items: &'i HashMap<String, ValueReader<'t>>,
) -> Option<&'i ValueReader<'t>> {
    if items.is_empty() {
        return None;
    }
    let quotes = message.match_indices('"').map(|(at, _)| at);
    let quotes: Vec<_> = quotes.take(MOST_QUOTES).collect();
    // A text in quotes may have quotes itself.
    let texts = quotes.iter().rev().flat_map(|end| {
        let starts = quotes.iter().filter(move |start| *start < end);
        starts.map(move |start| *start..end + 1)
    });
    let words = message.split([' ', ',', ';']).rev();
    let mut found = texts.map(|range| &message[range]).chain(words);
    found.find_map(|text| items.get(text))
}

/// Splits the message of a library into the error and the advice after a semicolon, if there is any.
pub(in crate::config) fn split_advice(message: &str) -> (&str, Option<&str>) {
    match message.rsplit_once("; ") {
        // A semicolon in a quoted value does not end the error.
        Some((error, advice)) if advice.matches('"').count() % 2 == 0 => (error, Some(advice)),
        _ => (message, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_follows_a_semicolon_outside_of_quotes() {
        for (message, error, advice) in [
            ("must be off", "must be off", None),
            ("must be off; set x: off", "must be off", Some("set x: off")),
            (
                "unmatched \"{\"; write \"{{\"",
                "unmatched \"{\"",
                Some("write \"{{\""),
            ),
            ("must be a, got \"b; c\"", "must be a, got \"b; c\"", None),
        ] {
            assert_eq!(split_advice(message), (error, advice));
        }
    }
}
