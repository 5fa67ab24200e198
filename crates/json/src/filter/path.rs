//! Dotted paths of field filters.

use std::fmt;

/// The steps of a path, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path(Vec<String>);

impl Path {
    /// Parses a dotted path. Returns `None` if a step is empty, or a backslash escapes neither a dot nor
    /// a backslash.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (mut steps, mut step) = (Vec::new(), String::new());
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            match char {
                '.' => steps.push(std::mem::take(&mut step)),
                '\\' => step.push(chars.next().filter(|next| matches!(next, '.' | '\\'))?),
                char => step.push(char),
            }
        }
        steps.push(step);
        (!steps.iter().any(String::is_empty)).then_some(Self(steps))
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// Returns the first step.
    pub(super) fn into_first(self) -> Option<String> {
        self.0.into_iter().next()
    }

    /// Returns the path with its last step replaced by `name`. Returns `None` if `name` has several
    /// steps.
    pub(super) fn renamed(&self, name: Self) -> Option<Self> {
        let mut steps = self.0.clone();
        steps.pop();
        let parents = steps.len();
        steps.extend(name.0);
        (steps.len() == parents + 1).then_some(Self(steps))
    }

    /// Returns `true` if the path is `other` or leads through it.
    pub(super) fn is_below(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

/// Writes the path as it is written in a configuration.
impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            f.write_str(&step.replace('\\', "\\\\").replace('.', "\\."))?;
        }
        Ok(())
    }
}

/// Returns the message for a text that is not a path.
pub(super) fn expected(text: &str) -> String {
    format!(
        "expected a path without empty steps, such as data.items, with \\. for a dot in a name, got \"{text}\""
    )
}
