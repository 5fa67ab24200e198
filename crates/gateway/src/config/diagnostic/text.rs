//! Diagnostics as text for people.

use std::{fmt, ops::Range};

use annotate_snippets::{Annotation, AnnotationKind, Level, Renderer, Snippet};

use super::{Diagnostic, Position, Report, Severity, Source, visible};

/// Formats each diagnostic with its source line, and with the suggested fix if it has one.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let renderer = Renderer::plain();
        for diagnostic in &self.diagnostics {
            let level = match diagnostic.severity {
                Severity::Error => Level::ERROR,
                Severity::Warning => Level::WARNING,
            };
            let title = level.primary_title(&diagnostic.message).id(diagnostic.code);
            let mut group = title.element(self.snippet(diagnostic));
            let other = |first: &Position| first.source != diagnostic.position.source;
            if let Some(first) = diagnostic.first.filter(other) {
                let source = self.source(first);
                let annotation = first_set(source.span(first));
                group = group.element(source.snippet().annotation(annotation));
            }
            if let Some(help) = &diagnostic.help {
                group = group.element(Level::HELP.message(help));
            }
            writeln!(f, "{}\n", renderer.render(&[group]))?;
        }
        Ok(())
    }
}

impl Report {
    /// Returns the source of a diagnostic with its position, and with that of the value that it repeats if that is in
    /// the same source.
    fn snippet<'r>(&'r self, diagnostic: &'r Diagnostic) -> Snippet<'r, Annotation<'r>> {
        let source = self.source(diagnostic.position);
        let annotation = AnnotationKind::Primary.span(source.span(diagnostic.position));
        let annotation = match diagnostic.path.as_str() {
            "" => annotation,
            path => annotation.label(path),
        };
        let same = |first: &Position| first.source == diagnostic.position.source;
        let first = diagnostic.first.filter(same);
        let first = first.map(|first| first_set(source.span(first)));
        source.snippet().annotation(annotation).annotations(first)
    }
}

impl Source {
    fn snippet(&self) -> Snippet<'_, Annotation<'_>> {
        Snippet::source(&self.text).path(visible(&self.name))
    }
}

fn first_set(span: Range<usize>) -> Annotation<'static> {
    AnnotationKind::Context.span(span).label("first set here")
}
