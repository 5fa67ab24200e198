//! Masks texts word by word.

use std::ops::Range;

use super::{super::schema, Redactor, class::Class};

/// Words of conditions, and words of other languages that users may write.
const WORDS: &str = "string double null none defined undefined startingwith endingwith containing length default http https localhost";

/// Texts of at most this length are no secrets.
pub(super) const SHORT: usize = 3;

/// Length of a word that is unlikely to be a secret in place of a name or a number.
const LONGEST_WORD: usize = 5;

/// Number of capitals of which no secret consists.
const LONGEST_CAPITALS: usize = 8;

/// Number of letters of which no secret consists.
const LONGEST_LETTERS: usize = 20;

impl Redactor {
    /// Returns `text`, a value of a key of `class`, with stars in place of what may not be shown.
    pub(super) fn mask(&self, text: &str, class: Class) -> String {
        with_stars(text, self.hidden(text, class))
    }

    /// Returns the ranges of `text`, a value of a key of `class`, that may not be shown, in ascending order.
    pub(super) fn hidden(&self, text: &str, class: Class) -> Vec<Range<usize>> {
        let is_mark = text.len() <= SHORT && !text.contains(char::is_alphanumeric);
        if class == Class::Shown || is_mark || text == "null" {
            return Vec::new();
        }
        // A password may have any character.
        let start = text.find("://").map_or(0, |scheme| scheme + 3);
        match class {
            Class::Secret => self.hidden_of_secret(text),
            Class::Condition => self.hidden_of_condition(text),
            _ if text[start..].contains('@') => std::iter::once(start..text.len()).collect(),
            _ => self.hidden_of_text(text, class),
        }
    }

    /// Returns the ranges of a secret: all but its placeholders and variables, up to their defaults.
    fn hidden_of_secret(&self, text: &str) -> Vec<Range<usize>> {
        let (mut hidden, mut at) = (Vec::new(), 0);
        for (start, _) in text.match_indices('{') {
            let inside = text.get(start + 1..).unwrap_or_default();
            let is_variable = text[..start].ends_with('$');
            let is_of_path = |one| is_part(one) || ".*[]".contains(one);
            let length = match is_variable {
                true => length_of_variable(inside),
                false => inside.find(|one| !is_of_path(one)).unwrap_or(inside.len()),
            };
            let (path, rest) = inside.split_at(length);
            let root = path.split('.').next().unwrap_or_default();
            let is_harmless = || words(path).all(|word| self.is_harmless(word, true));
            let is_shown = is_variable || self.is_known(root) && is_harmless();
            if is_shown && rest.starts_with(['}', '|', ':']) {
                hidden.push(at..start - usize::from(is_variable));
                at = start + path.len() + 2;
            }
        }
        hidden.push(at..text.len());
        hidden
    }

    /// Returns the ranges of a text: words that do not have the form of a name or a number, and after a character that names
    /// and paths do not have, all words that are not known.
    fn hidden_of_text(&self, text: &str, class: Class) -> Vec<Range<usize>> {
        let (mut hidden, mut has_form) = (Vec::new(), class == Class::Text);
        for (start, one, end) in parts(text) {
            let (before, next) = (&text[..start], &text[end..]);
            if before.ends_with("${") {
                has_form &= next.starts_with('}') || next.starts_with(":-");
            } else if is_part(one) && !self.is_harmless(&text[start..end], has_form) {
                hidden.push(start..end);
            }
            has_form &= is_part(one)
                || "./*~+,%${}[]\\“”‘’„".contains(one)
                || one == ':' && next.starts_with(|next: char| "/:-$0123456789".contains(next))
                || one == ':' && before.ends_with(':');
        }
        hidden
    }

    /// Returns the ranges of a condition: names other than those of members, and literals other than names of tiers and
    /// members in brackets, unless they are known.
    fn hidden_of_condition(&self, text: &str) -> Vec<Range<usize>> {
        let mut hidden = Vec::new();
        // The open quote, with `true` if what is in it is a name.
        let mut quote: Option<(char, bool)> = None;
        for (start, one, end) in parts(text) {
            let (before, word) = (&text[..start], &text[start..end]);
            let is_name = match quote {
                Some((_, is_name)) => is_name,
                None => before.ends_with('.') || word.len() <= LONGEST_WORD,
            };
            let is_shown = before.ends_with("${") || self.is_harmless(word, is_name);
            if is_part(one) && !is_shown {
                hidden.push(start..end);
            }
            quote = match quote {
                Some((open, _)) if open == one => None,
                None if "\"'".contains(one) => {
                    let before = before.trim_end_matches('\\');
                    let after = text[end..].split_once(one).map_or("", |(_, after)| after);
                    let is_header = after.trim_start().starts_with("in header");
                    Some((
                        one,
                        is_header || before.ends_with('[') || compares_tier(before),
                    ))
                }
                quote => quote,
            };
        }
        hidden
    }

    /// Returns `true` for a word that is known, or so short that it is no secret, and also for one in the form of a name or
    /// a number where it `can_be_name`.
    pub(super) fn is_harmless(&self, word: &str, can_be_name: bool) -> bool {
        let unit = word.trim_start_matches(|one: char| one.is_ascii_digit());
        let digits = word.len() - unit.len();
        let is_name = || word.len() <= LONGEST_WORD || digits <= LONGEST_WORD && is_plain(unit);
        word.len() <= SHORT
            || digits <= SHORT && digits > 0 && unit.len() <= SHORT
            || self.is_known(word)
            || can_be_name && is_name()
    }

    /// Returns `true` for a key, a word of the format or a name that the file defines.
    fn is_known(&self, word: &str) -> bool {
        schema::vocabulary().contains(word)
            || self.names.contains(word)
            || WORDS.split(' ').any(|known| known == word)
    }
}

/// Returns `true` if a condition compares the tier with what is after `before`.
fn compares_tier(before: &str) -> bool {
    let left = before.trim_end().trim_end_matches(['=', '!']).trim_end();
    let list = before.rsplit_once("tier in [");
    left.ends_with("tier") || list.is_some_and(|(_, items)| !items.contains(']'))
}

/// Returns the length of the name of a variable at the start of `text`.
fn length_of_variable(text: &str) -> usize {
    let is_part = |one: char| one.is_ascii_alphanumeric() || one == '_';
    text.find(|one| !is_part(one)).unwrap_or(text.len())
}

/// Returns `true` for a text of words that are no secrets: at most three characters, or letters that are all capitals, or of
/// which only the first one is, or which begin another word.
pub(in super::super) fn is_plain(text: &str) -> bool {
    let words = text.split(|one: char| !one.is_alphanumeric());
    words.filter(|word| word.len() > SHORT).all(|word| {
        let small = |part: &str| part.chars().all(char::is_lowercase);
        let parts: Vec<_> = word.split(char::is_uppercase).collect();
        let is_small = parts.iter().all(|part| small(part));
        let (last, first) = parts.split_last().unwrap_or((&"", &[]));
        let are_long = || first.iter().skip(1).all(|part| part.len() > 1) && !last.is_empty();
        let is_capital = || word.len() <= LONGEST_CAPITALS && word.chars().all(char::is_uppercase);
        word.len() <= LONGEST_LETTERS
            && (is_small && (first.is_empty() || are_long()) || is_capital())
    })
}

/// Returns `true` for a character of a name.
pub(super) fn is_part(one: char) -> bool {
    one.is_alphanumeric() || "_-".contains(one)
}

/// Returns the words of a text, and the characters between them: where each starts, its first character, and where it ends.
fn parts(text: &str) -> impl Iterator<Item = (usize, char, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let (start, rest) = (at, &text[at..]);
        let one = rest.chars().next()?;
        let length = match one {
            // A word may be the name of a variable, which has no dash.
            _ if text[..start].ends_with("${") => length_of_variable(rest),
            '-' => 0,
            _ => rest.find(|one| !is_part(one)).unwrap_or(rest.len()),
        };
        at += length.max(one.len_utf8());
        Some((start, one, at))
    })
}

/// Returns the ranges of the words of a text.
pub(super) fn ranges(text: &str) -> impl Iterator<Item = Range<usize>> {
    let words = parts(text).filter(|(_, one, _)| is_part(*one) && *one != '-');
    words.map(|(start, _, end)| start..end)
}

/// Returns the words of a text.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    ranges(text).map(|range| &text[range])
}

/// Returns `text` with stars in place of the ranges `hidden`, which are in ascending order.
pub(super) fn with_stars(text: &str, hidden: impl IntoIterator<Item = Range<usize>>) -> String {
    let (mut out, mut end) = (String::new(), 0);
    for range in hidden {
        out += &text[end..range.start];
        out.extend(text[range.clone()].chars().map(|_| '*'));
        end = range.end;
    }
    out + &text[end..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_i17_finds_what_to_hide_in_any_text() {
        let mut rng = fastrand::Rng::with_seed(17);
        let parts: Vec<_> = "{ } [ ] \" ' \\ # é a body $ | . : :// @ ? = 1 - * ( in secret"
            .split(' ')
            .collect();
        let classes = [Class::Secret, Class::Known, Class::Text, Class::Condition];
        let redactor = Redactor::default();
        for _ in 0..20_000 {
            let text = (0..rng.usize(..12)).map(|_| rng.choice(&parts).unwrap().to_string());
            let text = text
                .collect::<Vec<_>>()
                .join(rng.choice(["", " "]).unwrap());
            for class in classes {
                let masked = redactor.mask(&text, class);
                assert_eq!(masked.chars().count(), text.chars().count(), "{text}");
            }
        }
    }

    #[test]
    fn fault_i17_masks_words_by_the_class_of_their_value() {
        let redactor = Redactor::default();
        for (class, text, expected) in [
            (Class::Secret, "a b", "***"),
            (Class::Secret, "${NAME}", "${NAME}"),
            (Class::Known, "letters abc 12 url", "******* abc 12 url"),
            (
                Class::Text,
                "users-2/abc123def 300ms:8080",
                "users-2/********* 300ms:****",
            ),
            (Class::Text, "a?token=letters", "a?*****=*******"),
            (
                Class::Text,
                "http://me:letters@up/",
                "http://**************",
            ),
            (
                Class::Text,
                "${NAME}/${A-letters}/${A:-letters}",
                "${NAME}/${A-*******}/${A:-*******}",
            ),
            (
                Class::Condition,
                "header['x-plan'] == 'letters' && query.page == letters",
                "header['x-plan'] == '*******' && query.page == *******",
            ),
            (
                Class::Condition,
                "tier in ['letters', 'x']",
                "tier in ['letters', 'x']",
            ),
            (
                Class::Condition,
                "query['abc123'] == \"",
                "query['******'] == \"",
            ),
        ] {
            assert_eq!(redactor.mask(text, class), expected, "{class:?}: {text}");
        }
    }
}
