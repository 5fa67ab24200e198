//! Errors and warnings about a configuration, with their positions.

mod sarif;
mod text;

use std::{collections::HashMap, fmt::Write, ops::Range};

use serde::Serialize;
use tower_fanout_http::log::OneLine;

use super::redact::{Line, Lines};

/// A line and a column of a source, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub(crate) struct Position {
    /// Index of the source among those of the report.
    #[serde(skip)]
    pub(crate) source: usize,
    /// Line number, from 1.
    pub(crate) line: usize,
    /// Column in characters, from 1.
    pub(crate) column: usize,
}

impl Position {
    /// The first character of the first source.
    pub(super) const START: Self = Self {
        source: 0,
        line: 1,
        column: 1,
    };
}

/// The severity of a diagnostic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but may not do what its author intended.
    Warning,
}

/// One error or warning about a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Diagnostic {
    /// The severity.
    pub(crate) severity: Severity,
    /// A stable identifier of the kind of mistake, such as `unknown_key`.
    pub(crate) code: &'static str,
    /// The text for people, with the expected and the actual value.
    pub(crate) message: String,
    /// The path of the key, such as `routes[0].plan.user`.
    pub(crate) path: String,
    /// The position in the file.
    #[serde(flatten)]
    pub(crate) position: Position,
    /// The position of the value that this one repeats.
    #[serde(skip)]
    pub(crate) first: Option<Position>,
    /// A suggested fix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
}

impl Diagnostic {
    /// Creates an error at `position` that concerns the file as a whole, so it has no path.
    pub(super) fn error(code: &'static str, position: Position, message: String) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message,
            path: String::new(),
            position,
            first: None,
            help: None,
        }
    }

    /// Escapes what is not visible. Messages may quote keys and values of the file.
    fn escape(&mut self) {
        self.message = visible(&self.message);
        self.path = visible(&self.path);
        self.help = self.help.as_deref().map(visible);
    }
}

/// Escapes characters that are not visible, which could control a terminal.
fn visible(text: &str) -> String {
    let mut visible = OneLine(String::new());
    // Writing to a string does not fail.
    let _ = visible.write_str(text);
    visible.0
}

/// A text that diagnostics refer to.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    name: String,
    /// The lines with diagnostics, with stars for values that may be secrets.
    lines: Lines,
    /// The places in each line where the first of some brackets opens, and where the last one closes, by turns.
    brackets: HashMap<usize, Vec<usize>>,
    is_file: bool,
}

/// Maximum number of characters that are underlined.
const LONGEST_SPAN: usize = 1_000;

impl Source {
    /// A file with this path, of which the lines with diagnostics are shown.
    pub(super) fn file(name: impl Into<String>, lines: Lines) -> Self {
        let brackets = lines.iter();
        let brackets = brackets.map(|(number, line)| (*number, brackets_of(line)));
        Self {
            name: name.into(),
            brackets: brackets.collect(),
            lines,
            is_file: true,
        }
    }

    /// An environment variable, of which only the name is shown.
    pub(super) fn variable(name: &str) -> Self {
        Self {
            name: format!("environment variable {name}"),
            is_file: false,
            ..Self::file("", Lines::from([(1, name.chars().collect())]))
        }
    }

    /// A file of which nothing may be shown but the numbers of its lines.
    pub(super) fn masked(name: impl Into<String>, text: &str) -> Self {
        let lines = text.lines().enumerate();
        let lines = lines.map(|(index, _)| (index + 1, Line::from(['*'; 3])));
        Self::file(name, lines.collect())
    }

    /// Returns the line with this number. It is empty if no diagnostic is there.
    fn line(&self, number: usize) -> &[char] {
        self.lines.get(&number).map_or(&[], Vec::as_slice)
    }

    /// Returns the characters of the line to underline: the word or the quoted string that starts at `position`.
    fn span(&self, position: Position) -> Range<usize> {
        let line = self.line(position.line);
        let start = line.len().min(position.column.saturating_sub(1));
        let rest = &line[start..line.len().min(start + LONGEST_SPAN)];
        let find = |end: char| rest.iter().skip(1).position(|one| *one == end);
        let brackets = self.brackets.get(&position.line);
        // A comma ends a text without quotes where a bracket or a brace is open.
        let is_in_flow = brackets.is_some_and(|all| all.partition_point(|at| *at < start) % 2 == 1);
        let doubled = |quote| doubled(rest, quote, is_in_flow);
        let length = match rest.first() {
            Some('\'') => single_quoted(rest),
            Some('"') => find('"').map_or(rest.len(), |end| end + 2),
            // A list that ends in another line is underlined at its bracket.
            Some('[') => find(']').map_or(1, |end| end + 2),
            _ => word(rest, is_in_flow),
        };
        let length = doubled('\'').or_else(|| doubled('"')).unwrap_or(length);
        // Never empty inside a line, so that at least one character is underlined.
        start..start + length.max(rest.len().min(1))
    }
}

/// Returns the length of the text in two pairs of quotes at the start of `text`. Stars may be in place of the second pair.
fn doubled(text: &[char], quote: char, is_in_flow: bool) -> Option<usize> {
    let inside = text.strip_prefix(&[quote, quote])?;
    let is_text = |one: &char| one.is_alphanumeric() || *one == '*';
    inside.first().filter(|one| is_text(one))?;
    let end = 2 + word(inside, is_in_flow);
    let closing = text[end..].iter().take_while(|one| **one == quote).count();
    Some(end + closing.min(2))
}

/// Returns the length of the text in single quotes at the start of `text`, in which two quotes are one.
fn single_quoted(text: &[char]) -> usize {
    let mut at = 1;
    while at < text.len() {
        match (text[at], text.get(at + 1)) {
            ('\'', Some('\'')) if at > 1 => at += 2,
            ('\'', _) => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// Returns where the first of some brackets or braces opens in `line`, and where the last one closes, by turns.
fn brackets_of(line: &[char]) -> Vec<usize> {
    let (mut depth, mut places) = (0_usize, Vec::new());
    for (at, one) in line.iter().enumerate() {
        let before = depth;
        match one {
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if (before == 0) != (depth == 0) {
            places.push(at);
        }
    }
    places
}

/// Returns the length of the word at the start of `text`. A word ends where YAML syntax may continue, at the end of
/// a quoted text around it, and at a bracket that it does not open.
fn word(text: &[char], is_in_flow: bool) -> usize {
    let mut open = 0_usize;
    let is_inside = |at: usize| {
        let next = text.get(at + 1);
        next.is_some_and(|next| !next.is_whitespace() && !",[]{}\"'".contains(*next))
    };
    let end = (0..text.len()).position(|at| match &text[at] {
        '(' | '[' => {
            open += 1;
            false
        }
        ')' | ']' if open > 0 => {
            open -= 1;
            false
        }
        '"' => open == 0,
        ':' => !is_inside(at),
        ',' => is_in_flow || !is_inside(at),
        one => one.is_whitespace() || "}])".contains(*one),
    });
    end.unwrap_or(text.len())
}

/// A warning that the file acknowledges, which therefore does not count.
#[derive(Clone, Debug)]
pub(super) struct Acknowledged {
    pub(super) diagnostic: Diagnostic,
    pub(super) reason: String,
}

/// All diagnostics of a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    sources: Vec<Source>,
    diagnostics: Vec<Diagnostic>,
    acknowledged: Vec<Acknowledged>,
    /// Rule and path of a warning that the file could acknowledge.
    acknowledgeable: Option<Box<(&'static str, String)>>,
    overrides: Vec<(String, String)>,
}

impl Report {
    pub(super) fn new(sources: Vec<Source>, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|diagnostic| diagnostic.position);
        diagnostics.iter_mut().for_each(Diagnostic::escape);
        Self {
            sources,
            diagnostics,
            acknowledged: Vec::new(),
            acknowledgeable: None,
            overrides: Vec::new(),
        }
    }

    /// Adds the names of environment variables that override values, each with the path of its value.
    pub(super) fn overridden(self, overrides: Vec<(String, String)>) -> Self {
        Self { overrides, ..self }
    }

    /// Adds rule and path of a warning that the file could acknowledge.
    pub(super) fn acknowledgeable(self, warning: Option<(&'static str, String)>) -> Self {
        let acknowledgeable = warning.map(|(rule, path)| Box::new((rule, visible(&path))));
        Self {
            acknowledgeable,
            ..self
        }
    }

    /// Adds warnings that the file acknowledges.
    pub(super) fn acknowledged(mut self, mut acknowledged: Vec<Acknowledged>) -> Self {
        let warnings = acknowledged.iter_mut().map(|one| &mut one.diagnostic);
        warnings.for_each(Diagnostic::escape);
        acknowledged.sort_by_key(|one| one.diagnostic.position);
        self.acknowledged = acknowledged;
        self
    }

    /// Returns the diagnostics in the order of the sources.
    #[must_use]
    pub(crate) fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Returns the names of environment variables that override values, each with the path of its value.
    #[must_use]
    pub(crate) fn overrides(&self) -> &[(String, String)] {
        &self.overrides
    }

    /// Returns a line for each environment variable that overrides a value.
    #[must_use]
    pub(crate) fn notes(&self) -> String {
        let notes = self.overrides.iter();
        notes
            .map(|(variable, path)| format!("note: {variable} overrides {path}\n"))
            .collect()
    }

    /// Returns the numbers of errors and warnings, and how to acknowledge a warning.
    #[must_use]
    pub(crate) fn summary(&self) -> String {
        let is_warning = |one: &&Diagnostic| one.severity == Severity::Warning;
        let warnings = self.diagnostics.iter().filter(is_warning).count();
        let errors = self.diagnostics.len() - warnings;
        let counts = [(errors, "error"), (warnings, "warning")].into_iter();
        let counts = counts.filter(|(count, _)| *count > 0);
        let counts = counts.map(|(count, of)| {
            let plural = if count == 1 { "" } else { "s" };
            format!("{count} {of}{plural}")
        });
        let counts = counts.collect::<Vec<_>>().join(", ");
        let example = self.acknowledgeable.as_deref().map(|(rule, at)| {
            format!(
                "note: to accept a warning, add an item to acknowledge, such as \
                 {{ rule: {rule}, at: \"{at}\", reason: \"…\" }}\n"
            )
        });
        format!("{counts}\n{}", example.unwrap_or_default())
    }

    /// Returns `true` if at least one diagnostic is an error.
    #[must_use]
    pub(crate) fn has_errors(&self) -> bool {
        self.diagnostics
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Returns the diagnostics as a JSON array.
    ///
    /// # Panics
    /// Never, as diagnostics consist of strings and numbers.
    #[must_use]
    pub(crate) fn to_json(&self) -> String {
        #[derive(Serialize)]
        struct InFile<'r, T> {
            file: &'r str,
            #[serde(flatten)]
            content: T,
        }
        #[derive(Serialize)]
        struct Located<'r> {
            #[serde(flatten)]
            diagnostic: &'r Diagnostic,
            #[serde(skip_serializing_if = "Option::is_none")]
            first: Option<InFile<'r, Position>>,
        }
        let file = |position| &*self.source(position).name;
        let diagnostics = self.diagnostics.iter().map(|diagnostic| InFile {
            file: file(diagnostic.position),
            content: Located {
                diagnostic,
                first: diagnostic.first.map(|position| InFile {
                    file: file(position),
                    content: position,
                }),
            },
        });
        let diagnostics: Vec<_> = diagnostics.collect();
        serde_json::to_string_pretty(&diagnostics).expect("strings and numbers serialize to JSON")
    }

    fn source(&self, position: Position) -> &Source {
        &self.sources[position.source]
    }
}

impl std::error::Error for Report {}
