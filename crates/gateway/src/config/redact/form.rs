//! Which parts of a value may be shown.

use std::{iter, ops::Range};

use tower_fanout::nearest_name;

use super::{super::schema, Redactor, SHORT, class::Class, is_part};

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

/// Maximum number of names that words are compared with. A file may have thousands of both.
const MOST_COMPARISONS: usize = 200_000;

/// Number of letters of which no secret consists.
const LONGEST_LETTERS: usize = 20;

impl Redactor {
    /// Returns the ranges of `text`, a value of a key of `class`, that may not be shown. `is_asked` is `true` if a diagnostic
    /// is about the value.
    pub(super) fn hidden(&self, text: &str, class: Class, is_asked: bool) -> Vec<Range<usize>> {
        let is_public = class != Class::Secret;
        if ["", "null"].contains(&text)
            || is_variable(text)
            || text.len() <= SHORT && !text.contains(char::is_alphanumeric)
            || is_public && (self.is_known(text) || !text.contains(char::is_alphanumeric))
            || class == Class::Measure && is_measure(text)
            || class == Class::Short && is_short(text)
        {
            return Vec::new();
        }
        let mut hidden = match class {
            Class::Condition if is_asked => self.hidden_of_condition(text),
            Class::Short if is_asked && text.len() <= LONGEST_WORD => Vec::new(),
            Class::Url if is_asked && is_url(text) => self.hidden_of_url(text),
            Class::File if is_asked && is_path(text) => self.hidden_of_text(text),
            Class::Measure if is_asked && self.is_like_measure(text) => self.hidden_of_text(text),
            Class::Text if is_asked => self.hidden_of_text(text),
            _ => except(text, self.shown_from(text, 0, false)),
        };
        // A password may be short.
        let can_be_short = is_public && is_asked && !text.contains('@') && class != Class::Url;
        hidden.retain(|range| range.len() > SHORT || !can_be_short);
        hidden
    }

    /// Returns `true` for a key, a word of the format or a name that the file defines.
    pub(super) fn is_known(&self, word: &str) -> bool {
        schema::vocabulary().contains(word) || self.names.contains(word) || WORDS.contains(&word)
    }

    /// Returns `true` for a known word or name, and for a misspelling of one.
    pub(super) fn is_near(&self, word: &str) -> bool {
        let names = self.names.iter().map(String::as_str);
        let known = schema::vocabulary().iter().copied().chain(names);
        // Without a comparison, a word is hidden.
        self.is_known(word) || self.can_compare() && nearest_name(word, known).is_some()
    }

    /// Returns `true` if a word can be compared with all names, which then count as compared.
    fn can_compare(&self) -> bool {
        let compared = self.compared.get().saturating_add(self.names.len());
        self.compared.set(compared);
        compared <= MOST_COMPARISONS
    }

    fn is_like_measure(&self, text: &str) -> bool {
        let number = text.trim_start_matches(['+', '-', '[', '$', '{']);
        number.starts_with(|first: char| first.is_ascii_digit())
            || text.starts_with("${")
            || text.len() <= LONGEST_WORD
            || is_url(text)
            || self.is_near(text)
    }

    /// Returns the ranges of a name, path or URL that may not be shown: credentials, and the rest after a character that
    /// names and paths do not have. That character is visible, because messages are about it.
    fn hidden_of_text(&self, text: &str) -> Vec<Range<usize>> {
        let start = text.rfind("://").map_or(0, |scheme| scheme + 3);
        let is_url = start > 0;
        let authority = text[start..].split(['/', '?', '#']).next();
        let authority = authority.unwrap_or_default().trim_end_matches('}');
        let (end, at) = match text.rfind('@').filter(|at| *at >= start) {
            Some(at) if is_url || text[..at].contains(':') => (start, at),
            // A port is a number. Other text is a password without the sign after it.
            None if is_url && !authority.is_empty() && !is_host(authority) => (start, text.len()),
            _ => (0, 0),
        };
        except(
            text,
            iter::once(0..end).chain(self.shown_from(text, at, true)),
        )
    }

    /// Returns the ranges of a URL that may not be shown: those of a text, and the words of its path that may be tokens.
    fn hidden_of_url(&self, text: &str) -> Vec<Range<usize>> {
        let start = text.find("://").map_or(0, |scheme| scheme + 3);
        let mut at = start + text[start..].find('/').unwrap_or(text.len() - start);
        let mut hidden = self.hidden_of_text(text);
        for word in text[at..].split_inclusive(|one: char| !one.is_alphanumeric()) {
            let end = at
                + word
                    .trim_end_matches(|one: char| !one.is_alphanumeric())
                    .len();
            if !is_plain(word) && !self.is_known(&text[at..end]) && !text[..at].ends_with("${") {
                hidden.push(at..end);
            }
            at += word.len();
        }
        hidden.sort_by_key(|range| range.start);
        hidden
    }

    /// Returns the ranges of `text` from `at` on that may be shown: placeholders and variables without defaults, as in
    /// `{user.id} ${NAME}`, and if it `has_form`, the characters up to the first one that names and paths do not have.
    fn shown_from(&self, text: &str, at: usize, mut has_form: bool) -> Vec<Range<usize>> {
        let (mut shown, mut next) = (Vec::new(), at);
        while let Some(one) = text[next..].chars().next() {
            let (start, before) = (next, &text[at..next]);
            next += one.len_utf8();
            let rest = &text[next..];
            let is_form = has_form && self.is_form(one, before, rest);
            if has_form {
                shown.push(start..next);
            }
            if one != '{' || is_form {
                has_form = is_form;
                continue;
            }
            let end = rest.find(['{', '}']).unwrap_or(rest.len());
            let (inside, is_closed) = (&rest[..end], rest[end..].starts_with('}'));
            let is_variable = is_variable_after(before);
            let length = match is_variable {
                true => Some(shown_of_variable(inside)).filter(|_| has_form || end < rest.len()),
                false => self
                    .shown_of_placeholder(inside, has_form)
                    .filter(|_| is_closed),
            };
            let Some(length) = length else {
                has_form = false;
                continue;
            };
            shown.push(start - usize::from(is_variable)..next + length);
            // The default of a variable is a text itself.
            let is_whole = is_closed && !(has_form && inside[..length].ends_with(":-"));
            next += if is_whole { end + 1 } else { length };
            shown.extend(is_whole.then(|| next - 1..next));
        }
        shown
    }

    /// Returns `true` for a character that names and paths have, between `before` and `rest`. A brace is one if it is not the
    /// start of a placeholder.
    fn is_form(&self, one: char, before: &str, rest: &str) -> bool {
        let word = &rest[..rest.find(|one| !is_part(one)).unwrap_or(rest.len())];
        let is_known = || !word.is_empty() && self.is_near(word);
        match one {
            '{' => before.ends_with('{') || rest.starts_with('{'),
            // The sign is before a port or the path of a module.
            ':' => {
                rest.starts_with(|next: char| next.is_ascii_digit() || "/:".contains(next))
                    || before.ends_with(':')
                    || is_known()
            }
            '=' => is_known(),
            _ => is_part(one) || "./*~+,%$}[]\\@".contains(one),
        }
    }

    /// Returns the length of the start of a placeholder, without its braces, that may be shown. In a text that `has_form`, a
    /// path is shown, although its first name may be unknown.
    fn shown_of_placeholder(&self, inside: &str, has_form: bool) -> Option<usize> {
        let length = path_length(inside);
        let root = inside[..length].split('.').next().unwrap_or_default();
        let root = root.trim_matches('*');
        let is_shown = has_form && length == inside.len() || !root.is_empty() && self.is_near(root);
        match is_shown {
            true => Some(length + usize::from(inside[length..].starts_with(['|', ' ']))),
            false => has_form.then_some(0),
        }
    }
}

/// Returns the ranges between those in `shown`, which are in ascending order.
fn except(text: &str, shown: impl IntoIterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut start = 0;
    let end = text.len()..text.len();
    let hidden = shown.into_iter().chain([end]).map(|range| {
        let before = start..range.start.max(start);
        start = range.end.max(start);
        before
    });
    hidden.filter(|range| !range.is_empty()).collect()
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

/// Returns `true` for a text of words that are no secrets: at most three characters, or letters of which only the first
/// one is a capital.
pub(in super::super) fn is_plain(text: &str) -> bool {
    text.split(|one: char| !one.is_alphanumeric()).all(|word| {
        let is_small = |word: &str| word.chars().all(char::is_lowercase);
        let first = word.chars().next().map_or(0, char::len_utf8);
        word.len() <= SHORT
            || word.len() <= LONGEST_LETTERS
                && word.starts_with(char::is_alphabetic)
                && is_small(&word[first..])
    })
}

/// Returns `true` for a text that begins like the path of a file, or ends like one. Other text may be the content.
fn is_path(text: &str) -> bool {
    let end = text.rsplit_once('.').map_or("", |(_, end)| end);
    let is_extension = (1..=LONGEST_WORD).contains(&end.len())
        && end.bytes().all(|byte| byte.is_ascii_alphanumeric());
    // The signs are in a secret in Base64.
    is_extension || text.starts_with(['/', '.', '~']) && !text.contains(['+', '='])
}

/// Returns `true` if a brace after `before` begins a variable. Two dollar signs are a text.
fn is_variable_after(before: &str) -> bool {
    before.ends_with('$') && !before.ends_with("$$")
}

/// Returns `true` for a variable without a default.
pub(super) fn is_variable(text: &str) -> bool {
    let inside = text.strip_prefix("${");
    let inside = inside.and_then(|inside| inside.strip_suffix('}'));
    inside.is_some_and(|inside| shown_of_variable(inside) == inside.len())
}

/// Returns the length of the start of a variable, without its braces, that may be shown: all but the default, and also
/// the message if it consists of words.
fn shown_of_variable(inside: &str) -> usize {
    let is_name = |one: char| one.is_ascii_alphanumeric() || one == '_';
    let name = inside.find(|one| !is_name(one)).unwrap_or(inside.len());
    match inside[name..].split_at_checked(2) {
        Some((":?", message)) if is_plain(message) => inside.len(),
        Some((":?" | ":-", _)) => name + 2,
        _ => name,
    }
}

/// Returns `true` for a number, with a unit or without one, and for an address of numbers.
fn is_measure(text: &str) -> bool {
    let is_number = || text.len() <= 21 && text.parse::<f64>().is_ok();
    digits(text).is_some_and(|digits| digits <= 21) || is_number()
}

/// Returns `true` for a text that is shorter than a secret, also without a unit.
fn is_short(text: &str) -> bool {
    text.len() <= SHORT || digits(text).is_some_and(|digits| digits <= SHORT)
}

/// Returns the number of digits before a unit, and of signs between them, if `text` begins with a digit and ends with at
/// most three letters.
fn digits(text: &str) -> Option<usize> {
    let number = text.trim_start_matches(['+', '-', '[']);
    let unit = number.trim_start_matches(|one: char| one.is_ascii_digit() || "._:]/".contains(one));
    let is_unit = unit.len() <= 3
        && unit
            .bytes()
            .all(|one| one.is_ascii_alphabetic() || one == b'%');
    Some(number.len() - unit.len()).filter(|digits| *digits > 0 && is_unit)
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
            Class::Short,
            Class::Measure,
            Class::Text,
            Class::File,
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
