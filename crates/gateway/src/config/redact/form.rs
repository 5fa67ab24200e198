//! Which parts of a value may be shown.

use std::{iter, ops::Range};

use tower_fanout::nearest_name;
use tower_fanout_json::template::Root;

use super::{super::schema, Redactor, class::Class, is_part};

/// The beginning of a key or a certificate in PEM format.
pub(in super::super) const PEM: &str = "-----BEGIN";

/// Words of conditions, and words of other languages that users may write.
const WORDS: [&str; 14] = [
    "string",
    "double",
    "null",
    "none",
    "defined",
    "undefined",
    "startingwith",
    "endingwith",
    "containing",
    "length",
    "default",
    "http",
    "https",
    "localhost",
];

/// Length of a word that is unlikely to be a secret, in place of a map or of a number.
pub(super) const LONGEST_WORD: usize = 5;

/// Length of a number in a condition that is unlikely to be a secret.
const LONGEST_NUMBER: usize = 3;

impl Redactor<'_> {
    /// Returns the ranges of `text`, a value of a key of `class`, that may not be shown. `is_asked` is `true` if a diagnostic
    /// is about the value.
    pub(super) fn hidden(&self, text: &str, class: Class, is_asked: bool) -> Vec<Range<usize>> {
        let is_public = class != Class::Secret;
        if ["", "null"].contains(&text)
            || is_variable(text)
            || is_public && (self.is_known(text) || !text.contains(char::is_alphanumeric))
            || class == Class::Measure && is_measure(text)
        {
            return Vec::new();
        }
        match class {
            Class::Condition if is_asked => self.hidden_of_condition(text),
            Class::Url if is_asked && !is_url(text) => except(text, []),
            Class::Map if is_asked && text.len() <= LONGEST_WORD => Vec::new(),
            Class::Measure if is_asked && !self.is_like_measure(text) => {
                except(text, self.references(text))
            }
            Class::Text | Class::Url | Class::Measure if is_asked => self.hidden_of_text(text),
            _ => except(text, self.references(text)),
        }
    }

    /// Returns `true` for a key, a word of the format or a name that the file defines.
    pub(super) fn is_known(&self, word: &str) -> bool {
        schema::vocabulary().contains(word) || self.names.contains(word) || WORDS.contains(&word)
    }

    /// Returns `true` for a known word or name, and for a misspelling of one.
    pub(super) fn is_near(&self, word: &str) -> bool {
        let known = schema::vocabulary().iter().chain(&self.names).copied();
        self.is_known(word) || nearest_name(word, known).is_some()
    }

    fn is_like_measure(&self, text: &str) -> bool {
        let number = text.trim_start_matches(['+', '-', '[', '$', '{']);
        number.starts_with(|first: char| first.is_ascii_digit())
            || text.starts_with("${")
            || text.len() <= LONGEST_WORD
            || is_url(text)
            || self.is_near(text)
    }

    /// Returns the ranges of the references in `text`: placeholders and variables without defaults, as in
    /// `{user.id} ${NAME}`.
    fn references(&self, text: &str) -> Vec<Range<usize>> {
        let open = text.match_indices('{');
        let references = open.flat_map(|(at, _)| {
            let end = at + text[at..].find('}').map_or(0, |length| length + 1);
            let path = at + 1 + path_length(&text[at + 1..end.max(at + 1)]);
            let root = text[at + 1..path].split('.').next().unwrap_or_default();
            if text[..at].ends_with('$') && end > at {
                let is_part = |one: char| one.is_ascii_alphanumeric() || one == '_';
                let name = text[at + 1..end].find(|one| !is_part(one));
                let name = at + 1 + name.unwrap_or_default();
                match is_variable(&text[at - 1..end]) {
                    true => [at - 1..end, end..end],
                    false => [at - 1..name, end - 1..end],
                }
            } else if end <= path || !self.is_near(root) {
                [at..at, at..at]
            } else {
                let is_default = text[path..].starts_with('|');
                [at..path + usize::from(is_default), end - 1..end]
            }
        });
        references.collect()
    }

    /// Returns the ranges of a name, path or URL that may not be shown: credentials, and the rest after a character that
    /// names and paths do not have. That character is visible, because messages are about it.
    fn hidden_of_text(&self, text: &str) -> Vec<Range<usize>> {
        let start = text.rfind("://").map_or(0, |scheme| scheme + 3);
        let is_url = start > 0;
        let authority = text[start..].split(['/', '?', '#']).next();
        let authority = authority.unwrap_or_default().trim_end_matches('}');
        match text.rfind('@').filter(|at| *at >= start) {
            Some(at) if is_url || text[..at].contains(':') => {
                except(text, self.shown_of_text(text, start, at))
            }
            // A port is a number. Other text is a password without the sign after it.
            None if is_url && !authority.is_empty() && !is_host(authority) => {
                except(text, iter::once(0..start))
            }
            _ => except(text, self.shown_of_text(text, 0, 0)),
        }
    }

    /// Returns the ranges of `text` before `start` and from `at` on that have the form of a name or a path, with the first
    /// character that has not.
    fn shown_of_text(&self, text: &str, start: usize, at: usize) -> Vec<Range<usize>> {
        let mut shown: Vec<_> = iter::once(0..start).collect();
        let (mut from, mut at) = (at, at);
        while let Some(one) = text[at..].chars().next() {
            let (before, rest) = (&text[from..at], &text[at + one.len_utf8()..]);
            let mut is_form = self.is_form(one, before, rest);
            if !is_form
                && one == '{'
                && let Some(end) = rest.find('}')
            {
                let path = self.shown_path(&rest[..end]);
                if path < end {
                    shown.push(from..at + 1 + path);
                    from = at + 1 + end;
                }
                at += end;
                is_form = true;
            }
            at += one.len_utf8();
            if !is_form {
                break;
            }
        }
        shown.push(from..at);
        let rest = self.references(&text[at..]).into_iter();
        shown.extend(rest.map(|range| at + range.start..at + range.end));
        shown
    }

    /// Returns `true` for a character that names and paths have, between `before` and `rest`. A brace is one if it is not the
    /// start of a placeholder.
    fn is_form(&self, one: char, before: &str, rest: &str) -> bool {
        let word = &rest[..rest.find(|one| !is_part(one)).unwrap_or(rest.len())];
        let is_known = || !word.is_empty() && self.is_near(word);
        match one {
            '{' => before.ends_with(['$', '{']) || rest.starts_with('{'),
            // The sign is a part of the default of a variable, and before a port or the path of a module.
            ':' => {
                rest.starts_with(|next: char| next.is_ascii_digit() || "/:-?".contains(next))
                    || before.ends_with(':')
                    || is_known()
            }
            '=' => is_known(),
            _ => is_part(one) || "./*~+,%$}[]\\@".contains(one),
        }
    }

    /// Returns the length of the start of a placeholder, without its braces, that may be shown. A path is shown, although its
    /// first name may be unknown.
    fn shown_path(&self, placeholder: &str) -> usize {
        let length = path_length(placeholder);
        let path = &placeholder[..length];
        let root = path.split('.').next().unwrap_or_default();
        let is_whole = length == placeholder.len();
        match is_whole || self.is_near(root.trim_matches('*')) {
            true => length + usize::from(placeholder[length..].starts_with(['|', ' '])),
            false => 0,
        }
    }

    /// Returns the ranges of a condition that may not be shown: literals and unknown names. The names of headers and members
    /// are visible.
    fn hidden_of_condition(&self, text: &str) -> Vec<Range<usize>> {
        let (mut hidden, mut at) = (Vec::new(), 0);
        while let Some(one) = text[at..].chars().next() {
            at = match one {
                '"' | '\'' => self.hide_literal(text, at, one, &mut hidden),
                _ if is_part(one) && one != '-' => self.hide_name(text, at, &mut hidden),
                _ => at + one.len_utf8(),
            };
        }
        hidden
    }

    /// Adds the ranges of the literal at `at` of a condition that may not be shown. Returns the end of the literal.
    fn hide_literal(
        &self,
        text: &str,
        at: usize,
        quote: char,
        hidden: &mut Vec<Range<usize>>,
    ) -> usize {
        let (before, start) = (&text[..at], at + 1);
        let end = start + end_of_literal(&text[start..], before.ends_with('\\'), quote);
        let literal = &text[start..end];
        let after = text[end..].trim_start_matches(['\\', quote]).trim_start();
        let map = before.trim_end_matches('\\').strip_suffix('[');
        let is_index = map.is_some_and(|map| map.ends_with(is_part));
        let is_name = is_index || after.starts_with("in header");
        let mut words = literal.split(|one| !is_part(one));
        if Root::RESERVED.contains(&words.next().unwrap_or_default()) {
            // A condition may be in quotes by mistake.
            let inside = self.hidden_of_condition(literal).into_iter();
            hidden.extend(inside.map(|range| start + range.start..start + range.end));
        } else if !is_name && !is_variable(literal) && !self.is_near(literal) {
            hidden.push(start..end);
        }
        let end = end + usize::from(text[end..].starts_with('\\'));
        end + usize::from(text[end..].starts_with(quote))
    }

    /// Adds the range of the name or number at `at` of a condition if it may not be shown. Returns its end.
    fn hide_name(&self, text: &str, at: usize, hidden: &mut Vec<Range<usize>>) -> usize {
        let is_member = text[..at].ends_with('.');
        // A name with a dash is a subtraction, but may be meant as a name.
        let is_end = |one: char| !is_part(one) || one == '-' && !is_member;
        let end = at + text[at..].find(is_end).unwrap_or(text.len() - at);
        let word = &text[at..end];
        let longest = match word.bytes().any(|byte| byte.is_ascii_digit()) {
            true => LONGEST_NUMBER,
            false => LONGEST_WORD,
        };
        if !is_member && word.len() > longest && !self.is_near(word) {
            hidden.push(at..end);
        }
        end
    }
}

/// Returns the ranges between those in `shown`, which are in ascending order.
fn except(text: &str, shown: impl IntoIterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut start = 0;
    let end = text.len()..text.len();
    let hidden = shown.into_iter().chain([end]).map(|range| {
        let before = start..range.start;
        start = range.end;
        before
    });
    hidden.filter(|range| !range.is_empty()).collect()
}

/// Returns the length of a literal before its closing quote. YAML escapes both quotes inside of its own.
fn end_of_literal(text: &str, is_escaped: bool, quote: char) -> usize {
    if is_escaped {
        return text.find(&format!("\\{quote}")).unwrap_or(text.len());
    }
    let mut is_escaped = false;
    let end = text.find(|one| {
        let is_end = one == quote && !is_escaped;
        is_escaped = one == '\\' && !is_escaped;
        is_end
    });
    end.unwrap_or(text.len())
}

/// Returns the length of the path at the start of a placeholder.
fn path_length(text: &str) -> usize {
    let end = text.find(|one| !is_part(one) && !".*[]".contains(one));
    end.unwrap_or(text.len())
}

/// Returns `true` if `text` begins like a URL, or with a host and a port. Other text in place of a URL may be a secret.
pub(in super::super) fn is_url(text: &str) -> bool {
    let authority = &text[..text.find('/').unwrap_or(text.len())];
    text.contains("://") || text.contains("${") || authority.contains(':') && is_host(authority)
}

/// Returns `true` for a host, of which a port may follow.
fn is_host(text: &str) -> bool {
    let text = text.split(char::is_whitespace).next().unwrap_or_default();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, ""),
    };
    let is_name = |one: char| is_part(one) || ".{}$".contains(one);
    (host.starts_with('[') || host.chars().all(is_name))
        && port.len() <= 5
        && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns `true` for a variable without a default.
fn is_variable(text: &str) -> bool {
    let inside = text.strip_prefix("${");
    let inside = inside.and_then(|inside| inside.strip_suffix('}'));
    let name = inside.map(|inside| inside.split_once(":?").map_or(inside, |(name, _)| name));
    // Another character would begin a default in a shell, such as the dash of `${A-b}`.
    name.is_some_and(|name| {
        name.chars()
            .all(|one| one.is_ascii_alphanumeric() || one == '_')
    })
}

/// Returns `true` for a number, with a unit or without one, and for an address of numbers.
fn is_measure(text: &str) -> bool {
    let number = text.trim_start_matches(['+', '-', '[']);
    let unit = number.trim_start_matches(|one: char| one.is_ascii_digit() || "._:]/".contains(one));
    let is_unit = unit.len() <= 3
        && unit
            .bytes()
            .all(|one| one.is_ascii_alphabetic() || one == b'%');
    let digits = number.len() - unit.len();
    let is_number = || text.len() <= 21 && text.parse::<f64>().is_ok();
    (1..=21).contains(&digits) && is_unit || is_number()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_i17_finds_what_to_hide_in_any_text() {
        let mut rng = fastrand::Rng::with_seed(17);
        let parts = [
            "{",
            "}",
            "[",
            "\"",
            "'",
            "\\",
            "#",
            " ",
            "é",
            "a",
            "body",
            "$",
            "|",
            ".",
            ":",
            "://",
            "@",
            "?",
            "=",
            "1",
            "-",
            "*",
            "(",
            "in header",
            "secret",
        ];
        let classes = [
            Class::Secret,
            Class::Map,
            Class::Measure,
            Class::Text,
            Class::Url,
            Class::Condition,
        ];
        let redactor = Redactor::default();
        for _ in 0..20_000 {
            let text = (0..rng.usize(..12)).map(|_| *rng.choice(&parts).unwrap());
            let text: String = text.collect();
            for class in classes {
                let hidden = redactor.hidden(&text, class, rng.bool());
                assert!(hidden.is_sorted_by_key(|range| range.start), "{text}");
                assert!(
                    hidden.into_iter().all(|range| text.get(range).is_some()),
                    "{text}"
                );
            }
        }
    }
}
