//! Diagnostics as text for people.

use std::fmt;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use super::{Diagnostic, Position, Report, Severity, Source, visible};

/// Maximum number of characters before and after a position that an excerpt has. It shows fewer.
const LONGEST: usize = 300;

/// Maximum number of diagnostics that are shown. The other formats have all of them.
const MOST_SHOWN: usize = 100;

/// Maximum number of lines between two positions of one excerpt.
const MOST_LINES: usize = 100;

/// Formats each diagnostic with its source line, and with the suggested fix if it has one. Of very many, only the first
/// ones are shown, and errors before warnings.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer = Renderer::plain();
        let mut shown: Vec<_> = self.diagnostics.iter().collect();
        let left_out = shown.len().saturating_sub(MOST_SHOWN);
        if left_out > 0 {
            shown.sort_by_key(|one| one.severity != Severity::Error);
            shown.truncate(MOST_SHOWN);
        }
        for diagnostic in shown {
            let level = match diagnostic.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
            };
            let title = level.primary_title(&diagnostic.message).id(diagnostic.code);
            let mut columns = Vec::new();
            let mut group = self.excerpt(Group::with_title(title), diagnostic, &mut columns);
            if let Some(help) = &diagnostic.help {
                group = group.element(Level::HELP.message(help));
            }
            let mut text = renderer.render(&[group]);
            for (left_out, written) in columns {
                text = text.replacen(&left_out, &written, 1);
            }
            writeln!(f, "{text}\n")?;
        }
        match left_out {
            0 => Ok(()),
            more => writeln!(
                f,
                "note: {more} more are left out; --format json has all of them"
            ),
        }
    }
}

impl Report {
    /// Adds the source of a diagnostic with its position, and with that of the value that it repeats. Adds the positions in
    /// lines of which the start is left out to `columns`, as the renderer writes them and as they are.
    fn excerpt<'r>(
        &'r self,
        group: Group<'r>,
        diagnostic: &'r Diagnostic,
        columns: &mut Vec<(String, String)>,
    ) -> Group<'r> {
        let position = diagnostic.position;
        let near = diagnostic.first.filter(|first| is_near(*first, position));
        let part = Part::new(self.source(position), position, near.unwrap_or(position));
        let primary = part.annotation(AnnotationKind::Primary, position, &diagnostic.path);
        let first = near.map(|first| part.annotation(AnnotationKind::Context, first, FIRST));
        columns.extend(part.column(position));
        let group = group.element(part.snippet().annotation(primary).annotations(first));
        match diagnostic.first.filter(|_| near.is_none()) {
            Some(first) => {
                let part = Part::new(self.source(first), first, first);
                let annotation = part.annotation(AnnotationKind::Context, first, FIRST);
                columns.extend(part.column(first));
                group.element(part.snippet().annotation(annotation))
            }
            None => group,
        }
    }
}

/// Label of a value that is repeated.
const FIRST: &str = "first set here";

/// Returns `true` if one excerpt has both positions.
fn is_near(one: Position, other: Position) -> bool {
    let is_near = match one.line.abs_diff(other.line) {
        0 => one.column.abs_diff(other.column) < LONGEST,
        lines => lines <= MOST_LINES && one.column.max(other.column) < LONGEST,
    };
    one.source == other.source && is_near
}

/// The lines of a source that an excerpt has.
struct Part<'s> {
    source: &'s Source,
    /// The place of the first character.
    start: Position,
    lines: Vec<String>,
}

impl<'s> Part<'s> {
    fn new(source: &'s Source, one: Position, other: Position) -> Self {
        let column = one.column.min(other.column);
        let left_out = match one.line == other.line {
            true => column.saturating_sub(LONGEST + 1),
            false => 0,
        };
        let start = Position {
            line: one.line.min(other.line),
            column: left_out + 1,
            ..one
        };
        let lines = (start.line..=one.line.max(other.line)).map(|number| {
            let line = source.line(number).iter().skip(left_out);
            line.take(2 * LONGEST).chain([&'\n']).collect()
        });
        Self {
            source,
            start,
            lines: lines.collect(),
        }
    }

    fn annotation<'l>(
        &self,
        kind: AnnotationKind,
        position: Position,
        label: &'l str,
    ) -> Annotation<'l> {
        let before = &self.lines[..position.line - self.start.line];
        let line = &self.lines[before.len()];
        let start: usize = before.iter().map(String::len).sum();
        let span = self.source.span(position);
        let place = |character: usize| {
            let at = (character + 1).saturating_sub(self.start.column);
            let at = line.char_indices().nth(at);
            start + at.map_or(line.len() - 1, |(at, _)| at)
        };
        let annotation = kind.span(place(span.start)..place(span.end));
        match label {
            "" => annotation,
            label => annotation.label(label),
        }
    }

    fn snippet<'l>(&self) -> Snippet<'l, Annotation<'l>> {
        let snippet = Snippet::source(self.lines.concat()).line_start(self.start.line);
        snippet.path(visible(&self.source.name))
    }

    /// Returns the position as the renderer writes it, and as it is, if they are not the same.
    fn column(&self, position: Position) -> Option<(String, String)> {
        let left_out = self.start.column - 1;
        let write = |column| {
            let name = visible(&self.source.name);
            format!("{name}:{}:{column}\n", position.line)
        };
        let shown = position.column - left_out;
        (left_out > 0).then(|| (write(shown), write(position.column)))
    }
}
