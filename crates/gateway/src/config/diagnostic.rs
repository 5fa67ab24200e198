//! What is wrong with a configuration file, and where.

use std::fmt;

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde::Serialize;

use super::redact::{redact, redact_credentials};

/// A place in a file: line and column, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Position {
    /// The line.
    pub(crate) line: usize,
    /// The column, in characters.
    pub(crate) column: usize,
}

impl Position {
    /// Where a file begins.
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// The file cannot be used.
    Error,
    /// The file can be used, but perhaps not as it was meant.
    Warning,
}

/// Something that is wrong, or strange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Diagnostic {
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What kind of mistake it is, for programs.
    pub(crate) code: &'static str,
    /// What is wrong.
    pub(crate) message: String,
    /// The key it is about, such as `routes[0].plan.user`.
    pub(crate) path: String,
    /// Where it stands.
    #[serde(flatten)]
    pub(crate) place: Position,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) help: Option<String>,
}

impl Diagnostic {
    /// What is wrong with the file as such, at `place`.
    pub(super) fn error(code: &'static str, place: Position, message: String) -> Self {
        Self {
            severity: Severity::Error,
            code,
            message,
            path: String::new(),
            place,
            help: None,
        }
    }
}

/// Everything that is wrong with a file.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    name: String,
    /// The file, without its secrets.
    text: String,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    pub(super) fn new(name: &str, text: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        diagnostics.sort_by_key(|diagnostic| diagnostic.place);
        for diagnostic in &mut diagnostics {
            diagnostic.message = redact_credentials(&diagnostic.message);
            diagnostic.path = redact_credentials(&diagnostic.path);
        }
        Self {
            name: name.to_owned(),
            text: redact(text),
            diagnostics,
        }
    }

    /// All of it, from the top of the file to its end.
    #[must_use]
    pub(crate) fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Whether the file cannot be used.
    #[must_use]
    pub(crate) fn has_errors(&self) -> bool {
        self.diagnostics
            .iter()
            .any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// All of it as JSON.
    ///
    /// # Panics
    /// Never: diagnostics are plain values.
    #[must_use]
    pub(crate) fn to_json(&self) -> String {
        let diagnostics: Vec<_> = self
            .diagnostics
            .iter()
            .map(|diagnostic| serde_json::json!({"file": self.name, "diagnostic": diagnostic}))
            .map(|mut wrapped| {
                let mut flat = wrapped["diagnostic"].take();
                flat["file"] = wrapped["file"].take();
                flat
            })
            .collect();
        serde_json::to_string_pretty(&diagnostics).expect("plain values are always JSON")
    }

    /// The bytes of the line at `place` that the mistake begins with: to the end of the word.
    fn span(&self, place: Position) -> std::ops::Range<usize> {
        let line_start = self
            .text
            .split_inclusive('\n')
            .take(place.line.saturating_sub(1))
            .map(str::len)
            .sum();
        let line: &str = self.text[line_start..]
            .split('\n')
            .next()
            .unwrap_or_default();
        let offset = line
            .char_indices()
            .nth(place.column.saturating_sub(1))
            .map_or(line.len(), |(offset, _)| offset);
        let rest = &line[offset..];
        let ends = |c: char| c.is_whitespace() || ",}]:".contains(c);
        let length = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => rest[1..].find(quote).map_or(rest.len(), |end| end + 2),
            _ => rest.find(ends).unwrap_or(rest.len()),
        };
        line_start + offset..line_start + offset + length.max(1).min(rest.len())
    }
}

/// For people: each mistake with its line and what to do about it.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer = Renderer::plain();
        for diagnostic in &self.diagnostics {
            let level = match diagnostic.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
            };
            let annotation = AnnotationKind::Primary.span(self.span(diagnostic.place));
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
