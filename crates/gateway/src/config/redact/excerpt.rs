//! Masks the values in excerpts of a file.

use std::{collections::HashSet, ops::Range};

use tower_fanout_json::template::Root;

use super::{
    super::{diagnostic::Position, schema},
    PEM, is_part,
    key::{holds_secret, is_separator},
    mask,
    token::Token,
    url::{credentials, is_url},
};

/// A place of a file that a diagnostic names.
pub(in super::super) struct Named {
    pub(in super::super) position: Position,
    /// Length of the longest value at the position that cannot be a secret.
    pub(in super::super) longest: usize,
}

/// A line that an excerpt shows.
struct Quoted {
    /// Place of the line in the text.
    line: Range<usize>,
    /// Place of the value in the text.
    at: usize,
    /// Length of the longest value there that cannot be a secret.
    longest: usize,
}

/// Replaces each character of a value by a star, so that lines and columns stay the same. Visible are values that are
/// harmless, such as `names`, and those at the places `named`, without credentials in URLs. On lines that have none of
/// the places all words are stars.
///
/// Works on the text, not on parsed YAML, because excerpts of invalid files are shown too. In doubt it masks.
pub(in super::super) fn mask_excerpts(
    text: &str,
    tokens: &[Token<'_>],
    named: &[Named],
    names: &HashSet<&str>,
) -> String {
    let quoted = quoted(text, named);
    let hidden = tokens.iter().flat_map(|token| {
        let (value, start) = (&text[token.range.clone()], token.range.start);
        let next = quoted.partition_point(|one| one.line.end <= start);
        let lines = quoted[next..]
            .iter()
            .take_while(|one| one.line.start <= start);
        let mut lines = lines.peekable();
        let is_quoted = lines.peek().is_some();
        // The quote before a text belongs to it.
        let is_here = |at: usize| start.saturating_sub(1) <= at && at <= token.range.end;
        let mut is_shown = || lines.any(|one| is_here(one.at) && value.len() <= one.longest);
        if is_quoted && is_harmless(value, token, names) {
            Vec::new()
        } else if !token.is_key && is_shown() && !is_misplaced(value, token) {
            let inside = |range: Range<usize>| start + range.start..start + range.end;
            credentials(value, true).map(inside).collect()
        } else {
            vec![token.range.clone()]
        }
    });
    mask(text, hidden)
}

/// Returns the lines of the places in ascending order.
fn quoted(text: &str, named: &[Named]) -> Vec<Quoted> {
    let mut named: Vec<_> = named.iter().collect();
    named.sort_unstable_by_key(|one| one.position);
    let mut lines = text.split_inclusive('\n');
    let (mut line, mut end, mut number) = ("", 0, 0);
    let mut quoted = Vec::new();
    for one in named {
        while number < one.position.line {
            let Some(next) = lines.next() else {
                return quoted;
            };
            (line, end, number) = (next, end + next.len(), number + 1);
        }
        let start = end - line.len();
        let column = one.position.column.saturating_sub(1);
        let column = line.char_indices().nth(column);
        let offset = start + column.map_or(line.len(), |(at, _)| at);
        quoted.push(Quoted {
            line: start..end,
            at: offset,
            longest: one.longest,
        });
    }
    quoted
}

/// Returns the names that a file defines: its keys, and the values of `name`.
pub(in super::super) fn names<'t>(
    text: &'t str,
    tokens: &[Token<'t>],
) -> impl Iterator<Item = &'t str> {
    let is_name = |token: &&Token<'_>| {
        let before = text[..token.range.start].trim_end_matches(['"', '\'', ' ']);
        token.is_key || token.key == Some("name") && before.ends_with(':')
    };
    let tokens = tokens.iter().filter(is_name);
    let names = tokens.map(|token| &text[token.range.clone()]);
    names.filter(|name| !name.contains(is_separator))
}

/// Returns `true` if the text of the token cannot be a secret.
fn is_harmless(text: &str, token: &Token<'_>, names: &HashSet<&str>) -> bool {
    if !text.contains(char::is_alphanumeric) || is_variable(text) || is_placeholder(text, names) {
        return true;
    }
    if token.is_key {
        return text.len() <= 64 && !text.contains(is_separator);
    }
    // A number without its key may be a part of a secret.
    let is_number = token.key.is_some() && is_measure(text);
    let is_known = is_number || schema::vocabulary().contains(text) || names.contains(text);
    is_known && !token.key.is_some_and(holds_secret)
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

/// Returns `true` for a placeholder without a default that begins with a name that it can have, or that has the form of
/// the answer of a node, as in `{user.id}`.
fn is_placeholder(text: &str, names: &HashSet<&str>) -> bool {
    let inside = text.strip_prefix('{');
    let Some(path) = inside.and_then(|inside| inside.strip_suffix('}')) else {
        return false;
    };
    let first = path.split('.').next().unwrap_or_default();
    let is_known = Root::RESERVED.contains(&first) || names.contains(first);
    let is_answer = path.contains('.') && !path.contains('-');
    (is_known || is_answer) && path.chars().all(|one| is_part(one) || one == '.')
}

/// Returns `true` for a number, with a unit or without one, and for an address of numbers.
fn is_measure(text: &str) -> bool {
    let number = text.trim_start_matches(['+', '-']);
    let unit = number.trim_start_matches(|one: char| one.is_ascii_digit() || "._:".contains(one));
    let is_unit = unit.len() <= 3
        && unit
            .bytes()
            .all(|one| one.is_ascii_alphabetic() || one == b'%');
    let digits = number.len() - unit.len();
    let is_number = || text.len() <= 21 && text.parse::<f64>().is_ok();
    (1..=21).contains(&digits) && is_unit || is_number()
}

/// Returns `true` for a value that its key cannot have, and that may be a secret: text in PEM, or text that is no URL in
/// place of one.
fn is_misplaced(text: &str, token: &Token<'_>) -> bool {
    text.contains(PEM) || token.key == Some("url") && !is_url(text)
}

#[cfg(test)]
mod tests {
    use super::{super::token::tokens, *};

    /// Masks the text, of which all lines are quoted.
    fn masked(text: &str, shown: &[(usize, usize)]) -> String {
        let place = |line, column, longest| Named {
            position: Position {
                source: 0,
                line,
                column,
            },
            longest,
        };
        let shown = shown
            .iter()
            .map(|(line, column)| place(*line, *column, usize::MAX));
        let lines = (1..=text.lines().count()).map(|line| place(line, 1, 0));
        let named: Vec<_> = shown.chain(lines).collect();
        let tokens = tokens(text);
        mask_excerpts(text, &tokens, &named, &names(text, &tokens).collect())
    }

    #[test]
    fn fault_i17_masks_all_words_of_lines_that_are_not_quoted() {
        let text = "a: 1\nretry: off # b\n{ c }";
        let tokens = tokens(text);
        let masked = mask_excerpts(text, &tokens, &[], &HashSet::from(["c"]));
        assert_eq!(masked, "*: *\n*****: *** ***\n{ * }");
    }

    #[test]
    fn fault_i17_l4_masks_values_in_any_notation() {
        for (text, expected) in [
            ("secret: abc, def # ghi", "secret: ******** *****"),
            (
                "{ \"secret\": \"a\\\", b\", kid: c }",
                "{ \"secret\": \"******\", kid: * }",
            ),
            ("{ secret: 'it''s', kid: c }", "{ secret: '*****', kid: * }"),
            (
                "{ secret: \"never closed\nkid: a",
                "{ secret: \"************\n******",
            ),
            (
                "  - secret: |\n      abc\n\n      def\n    kid: a",
                "  - secret: |\n      ***\n\n      ***\n    kid: *",
            ),
            (
                "{ b: { secret: abc }, kid: c }",
                "{ b: { secret: *** }, kid: * }",
            ),
            ("secret:\n  abc\nkid: a", "secret:\n  ***\nkid: *"),
            ("secert: é1\nkid: a", "secert: **\nkid: *"),
            ("cooki@e: hunter2", "cooki@e: *******"),
            ("cooki@e:\n  hunter2", "cooki@e:\n  *******"),
            ("cooki@e hunter2: a", "***************: *"),
            (
                "{ cooki@e hunter2: a, b: c }",
                "{ ***************: *, b: * }",
            ),
            ("{ cooki@e: hunter2 }", "{ cooki@e: ******* }"),
            ("cooki@e: 12345", "cooki@e: *****"),
            ("secret:\n  12345", "secret:\n  *****"),
            ("secret: 12345", "secret: *****"),
            ("{ secret: ${NAME}, kid: a }", "{ secret: ${NAME}, kid: * }"),
            ("secret: \"${NAME}\"", "secret: \"${NAME}\""),
            ("secret: ${NAME:-abc}", "secret: ************"),
            ("secret: \"${NAME-abc}\"", "secret: \"***********\""),
            ("k: \"{hunter2}\"", "k: \"*********\""),
            ("k: \"{pass-hunter2.a}\"", "k: \"****************\""),
            ("k: \"{header.x-a}\"", "k: \"{header.x-a}\""),
            ("secret: ${NAME}abc", "secret: **********"),
            ("secret: ${A:?set it}", "secret: ${A:?set it}"),
            ("a: &b abc\nsecret: *b", "a: ** ***\nsecret: **"),
            ("{\"secret\":\"a\"}", "{\"secret\":\"*\"}"),
            ("- secret:hunter2\n  kid: a", "- **************\n  kid: *"),
            ("secret hunter2", "**************"),
            ("{ kid: a, secret hunter2 }", "{ kid: *, ************** }"),
            ("# secret: hunter2", "*****************"),
            (
                "secret: \"ab\" hunter2\nkid: a",
                "secret: \"**\" *******\nkid: *",
            ),
            (
                "key_file: |\n  -----BEGIN A-----\n  hunter2",
                "key_file: |\n  *****************\n  *******",
            ),
            ("http://us:hunter2@up: {}", "********************: {}"),
        ] {
            assert_eq!(masked(text, &[]), expected, "{text}");
        }
    }

    #[test]
    fn fault_i17_shows_harmless_values_of_known_keys() {
        for text in [
            "{ timeout: 500ms, max: 10, listen: \"127.0.0.1:80\", required: true, max_size: 1.5MiB }",
            "{ retry: off, algorithms: [HS256, ES256] }",
            "{ downstreams: { up: {} }, downstream: up }",
            "- name: page\n  auth: page",
            "path: \"{route.id}\"",
            "---\nversion: 1",
        ] {
            assert_eq!(masked(text, &[]), text);
        }
    }

    #[test]
    fn fault_i17_shows_the_value_at_a_position_without_credentials() {
        for (text, column, expected) in [
            ("kid: hunter2, a: b", 6, "kid: hunter2, a: b"),
            ("{ kid: \"a b\", when: c }", 9, "{ kid: \"a b\", when: * }"),
            ("{ kid: \"a b\", when: c }", 11, "{ kid: \"a b\", when: * }"),
            ("{ kid: \"a b\", when: c }", 21, "{ kid: \"***\", when: c }"),
            ("url: http://a:b@up/?c=d#e", 6, "url: http://***@up/?*****"),
            ("url: 'http://up/# a'", 7, "url: 'http://up/#**'"),
            ("url: http://up/a=b", 6, "url: http://up/a=*"),
            ("url: http://a:b:1/c", 6, "url: http://*******"),
            ("url: http://[::1]:80/c", 6, "url: http://[::1]:80/c"),
            ("url: up:8080/a", 6, "url: up:8080/a"),
            ("url: hunter2", 6, "url: *******"),
            ("path: /?token=hunter2&a=b", 7, "path: /?token=*******&a=b"),
            ("path: /?token={query.t}", 7, "path: /?token={query.t}"),
            (
                "key_file: \"-----BEGIN A\"",
                11,
                "key_file: \"************\"",
            ),
        ] {
            assert_eq!(masked(text, &[(1, column)]), expected, "{text}");
        }
    }

    #[test]
    fn fault_i17_keeps_lines_and_columns_of_any_text() {
        let mut rng = fastrand::Rng::with_seed(17);
        let parts = [
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            ": ",
            "\"",
            "'",
            "#",
            " #",
            "\n",
            "\r\n",
            " ",
            "\t",
            "- ",
            "&a",
            "*a",
            "|",
            ">",
            "é",
            "a",
            "${",
            "url",
            "http://",
            "@",
            "?a=",
            "\\",
            "secret",
            "-----BEGIN",
        ];
        for _ in 0..20_000 {
            let text: String = (0..rng.usize(..20))
                .map(|_| parts[rng.usize(..parts.len())])
                .collect();
            let shown = [
                (rng.usize(1..4), rng.usize(1..20)),
                (rng.usize(1..4), rng.usize(1..20)),
            ];
            let masked = masked(&text, &shown);
            let lengths = |text: &str| {
                text.split('\n')
                    .map(|line| line.chars().count())
                    .collect::<Vec<_>>()
            };
            assert_eq!(lengths(&masked), lengths(&text), "{text:?}");
        }
    }
}
