//! Splits YAML text into keys and values, line by line. The text need not be valid.

use std::ops::Range;

/// A key, a value, or a comment.
pub(super) struct Token {
    /// Place in the text, without quotes.
    pub(super) range: Range<usize>,
    pub(super) is_key: bool,
}

/// Returns the keys, values and comments of `text`.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    let mut scanner = Scanner::default();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let mut at = Line {
            line: line.trim_end_matches(['\n', '\r']),
            start,
            at: 0,
            can_begin: true,
        };
        scanner.scan(&mut at);
        start += line.len();
    }
    scanner.found
}

/// The state between lines.
#[derive(Default)]
struct Scanner {
    found: Vec<Token>,
    /// Number of open brackets and braces.
    depth: usize,
    /// The quote of a text that continues on the next line.
    open: Option<char>,
}

/// The place within a line.
struct Line<'t> {
    line: &'t str,
    /// Place of the line in the text.
    start: usize,
    at: usize,
    /// `true` where a key can begin.
    can_begin: bool,
}

impl<'t> Line<'t> {
    fn rest(&self) -> &'t str {
        &self.line[self.at..]
    }
}

impl Scanner {
    fn scan(&mut self, line: &mut Line<'_>) {
        if let Some(quote) = self.open {
            self.quoted(line, quote);
        }
        while let Some(first) = line.rest().chars().next() {
            let after = &line.rest()[first.len_utf8()..];
            let is_alone = after.is_empty() || after.starts_with(char::is_whitespace);
            match first {
                '{' | '[' => self.depth += 1,
                '}' | ']' => self.depth = self.depth.saturating_sub(1),
                '#' if line.at == 0 || line.line[..line.at].ends_with(char::is_whitespace) => {
                    self.push(line, line.rest().len());
                    continue;
                }
                '&' | '*' | '!' if !is_alone => {
                    let length = line
                        .rest()
                        .find(|one: char| one.is_whitespace() || ",}]".contains(one));
                    self.push(line, length.unwrap_or(line.rest().len()));
                    continue;
                }
                '"' | '\'' => {
                    line.at += 1;
                    self.quoted(line, first);
                    continue;
                }
                '-' | '?' if is_alone => {}
                _ if first.is_whitespace() || ",:".contains(first) => {}
                _ => {
                    self.plain(line);
                    continue;
                }
            }
            line.can_begin |= "{[,".contains(first);
            line.at += first.len_utf8();
        }
    }

    /// Adds a value of this length at the place, and goes on after it.
    fn push(&mut self, line: &mut Line<'_>, length: usize) {
        let start = line.start + line.at;
        self.found.push(Token {
            range: start..start + length,
            is_key: false,
        });
        line.at += length;
    }

    /// Adds a key of this length at the place, and goes on after it.
    fn push_key(&mut self, line: &mut Line<'_>, length: usize) {
        self.push(line, length);
        if let Some(key) = self.found.last_mut() {
            key.is_key = true;
        }
        line.can_begin = false;
    }

    /// Adds a text that ends with `quote`, which may be on a later line.
    fn quoted(&mut self, line: &mut Line<'_>, quote: char) {
        let rest = line.rest();
        let is_continued = self.open.is_some();
        let Some(length) = end_of_quoted(rest, quote) else {
            self.open = Some(quote);
            return self.push(line, rest.len());
        };
        self.open = None;
        let is_key = rest[length + 1..].trim_start().starts_with(':');
        if is_key && line.can_begin && !is_continued {
            self.push_key(line, length);
        } else {
            self.push(line, length);
        }
        line.at += 1;
        line.can_begin = false;
    }

    /// Adds a key or a value without quotes.
    fn plain(&mut self, line: &mut Line<'_>) {
        let rest = line.rest();
        let is_in_flow = self.depth > 0;
        let is_end = |at: usize, one: char| match one {
            '{' if rest[..at].ends_with('$') => false,
            '}' if is_in_flow && is_variable(&rest[..at]) => false,
            ',' | '[' | ']' | '{' | '}' => is_in_flow,
            '#' => rest[..at].ends_with(char::is_whitespace),
            _ => false,
        };
        let end = rest.char_indices().find(|(at, one)| is_end(*at, *one));
        let word = rest[..end.map_or(rest.len(), |(end, _)| end)].trim_end();
        let is_colon = |(at, _): &(usize, &str)| {
            let after = &rest[at + 1..];
            after.is_empty()
                || after.starts_with(|one: char| one.is_whitespace() || ",[]{}".contains(one))
        };
        let colon = word.match_indices(':').find(is_colon).map(|(at, _)| at);
        let key = colon.map(|colon| word[..colon].trim_end());
        match key {
            Some(key) if line.can_begin && !key.contains(char::is_whitespace) => {
                self.push_key(line, key.len());
            }
            Some(_) if line.can_begin || is_in_flow => {
                self.push(line, colon.unwrap_or_default());
            }
            _ => self.push(line, word.len()),
        }
        line.can_begin = false;
    }
}

/// Returns `true` if a variable such as `${NAME}` is not closed in `text`.
fn is_variable(text: &str) -> bool {
    let start = text.rfind("${");
    start.is_some_and(|start| !text[start..].contains('}'))
}

/// Returns the length of the text before the closing quote, if it is on the line.
fn end_of_quoted(text: &str, quote: char) -> Option<usize> {
    let mut characters = text.char_indices().peekable();
    while let Some((at, one)) = characters.next() {
        let is_next = |(_, next): &(usize, char)| *next == quote;
        match one {
            '\\' if quote == '"' => drop(characters.next()),
            _ if one != quote => {}
            _ if quote == '\'' && characters.peek().is_some_and(is_next) => {
                characters.next();
            }
            _ => return Some(at),
        }
    }
    None
}
