//! Errors and warnings about a configuration file, with their positions.

use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

use super::redact::{redact, redact_credentials};

/// A line and a column of a file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Position {
    /// Line number, from 1.
    pub(crate) line: usize,
    /// Column in characters, from 1.
    pub(crate) column: usize,
}

impl Position {
    /// The first character of a file.
    pub(super) const START: Self = Self { line: 1, column: 1 };
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
            help: None,
        }
    }
}

/// All diagnostics of a file.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    name: String,
    /// The text of the file, with secrets redacted.
    text: String,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    pub(super) fn new(name: &str, text: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|diagnostic| diagnostic.position);
        for diagnostic in &mut diagnostics {
            // Messages and paths may quote URLs and keys of the file.
            diagnostic.message = redact_credentials(&diagnostic.message);
            diagnostic.path = redact_credentials(&diagnostic.path);
        }
        Self {
            name: name.to_owned(),
            text: redact(text),
            diagnostics,
        }
    }

    /// Returns the diagnostics in the order of the file.
    #[must_use]
    pub(crate) fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
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
        struct InFile<'r> {
            file: &'r str,
            #[serde(flatten)]
            diagnostic: &'r Diagnostic,
        }
        let diagnostics = self.diagnostics.iter().map(|diagnostic| InFile {
            file: &self.name,
            diagnostic,
        });
        let diagnostics: Vec<_> = diagnostics.collect();
        serde_json::to_string_pretty(&diagnostics).expect("strings and numbers serialize to JSON")
    }

    /// Returns the byte range to underline: the word or the quoted string that starts at `position`.
    fn span(&self, position: Position) -> std::ops::Range<usize> {
        let line_start = self
            .text
            .split_inclusive('\n')
            .take(position.line.saturating_sub(1))
            .map(str::len)
            .sum();
        let line: &str = self.text[line_start..]
            .split('\n')
            .next()
            .unwrap_or_default();
        let offset = line
            .char_indices()
            .nth(position.column.saturating_sub(1))
            .map_or(line.len(), |(offset, _)| offset);
        let rest = &line[offset..];
        // A word ends where YAML flow syntax may continue.
        let ends = |c: char| c.is_whitespace() || ",}]:".contains(c);
        let length = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => rest[1..].find(quote).map_or(rest.len(), |end| end + 2),
            _ => rest.find(ends).unwrap_or(rest.len()),
        };
        // Never empty inside a line, so that at least one character is underlined.
        line_start + offset..line_start + offset + length.max(1).min(rest.len())
    }
}

/// Formats each diagnostic with its source line, and with the suggested fix if it has one.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer = Renderer::plain();
        for diagnostic in &self.diagnostics {
            let level = match diagnostic.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
            };
            let annotation = AnnotationKind::Primary.span(self.span(diagnostic.position));
            let annotation = match diagnostic.path.as_str() {
                "" => annotation,
                path => annotation.label(path),
            };
            let snippet = Snippet::source(&self.text)
                .path(&self.name)
                .annotation(annotation);
            let title = level.primary_title(&diagnostic.message).id(diagnostic.code);
            let mut group = title.element(snippet);
            if let Some(help) = &diagnostic.help {
                group = group.element(Level::HELP.message(help));
            }
            writeln!(f, "{}\n", renderer.render(&[group]))?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}
