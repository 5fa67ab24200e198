//! Environment variables, of the process and of files.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    super::{
        Report,
        diagnostic::{Diagnostic, Position, Source},
    },
    load_file,
    overrides::PREFIX,
    variable::is_name,
};

/// Environment variables by name.
#[derive(Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Returns the variables of the process. One that is not UTF-8 counts as not set, except for those that could be
    /// overrides, which are reported as any other invalid value.
    #[must_use]
    pub(crate) fn of_process() -> Self {
        let variables = std::env::vars_os();
        variables
            .filter_map(|(name, value)| {
                let name = name.into_string().ok()?;
                let value = match name.starts_with(PREFIX) {
                    true => value.to_string_lossy().into_owned(),
                    false => value.into_string().ok()?,
                };
                Some((name, value))
            })
            .collect()
    }

    /// Adds the variables of files with a line `NAME=value` for each. A later file replaces the variables of an earlier
    /// one, and those of the process.
    ///
    /// # Errors
    /// Returns an error if a file is unreadable, or all errors of the first file that has any.
    pub(crate) fn with_files(mut self, paths: &[PathBuf]) -> Result<Self, Report> {
        for path in paths {
            let file = load_file(path)?;
            let (variables, errors) = self.parse(&file.text);
            if !errors.is_empty() {
                let source = Source::masked(file.name, &file.text);
                return Err(Report::new(vec![source], errors));
            }
            self.0.extend(variables);
        }
        Ok(self)
    }

    /// Returns the value of a variable.
    pub(in super::super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Returns the variables whose names begin with `prefix`, in the order of their names.
    pub(super) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let named = self.0.range(prefix.to_owned()..);
        named
            .take_while(move |(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Parses a file as Docker does: `#` begins a comment line, all characters after `=` are the value, and a name alone
    /// takes the value of the process.
    fn parse(&self, text: &str) -> (Vec<(String, String)>, Vec<Diagnostic>) {
        let (mut variables, mut errors) = (Vec::new(), Vec::new());
        // Editors of some systems write a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_start();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, value) = match line.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (line.trim_end(), self.get(line.trim_end())),
            };
            if !is_name(name) {
                let position = Position {
                    line: index + 1,
                    ..Position::START
                };
                // The line may be a part of a secret.
                let message = "expected NAME=value, with a name of ASCII letters, digits and \"_\"";
                errors.push(Diagnostic::error("syntax", position, message.to_owned()));
            } else if let Some(value) = value {
                variables.push((name.to_owned(), value.to_owned()));
            }
        }
        (variables, errors)
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self(variables.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_j47_reads_lines_as_docker_does() {
        let process: Environment = [("HOME".to_owned(), "/root".to_owned())]
            .into_iter()
            .collect();
        let text =
            "# a comment\n\nA=1\n  B = two #2 \nQUOTED=\"x\"\r\nHOME\nABSENT\nEMPTY=\nE=a=b\n";
        let (_, errors) = process.parse(text);
        let lines: Vec<_> = errors.iter().map(|error| error.position.line).collect();
        assert_eq!(lines, [4], "a name has no spaces");
        let (variables, errors) = process.parse(&text.replace("B =", "B="));
        let variables: Vec<_> = (variables.iter())
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(errors, []);
        assert_eq!(
            variables,
            [
                ("A", "1"),
                ("B", " two #2 "),
                ("QUOTED", "\"x\""),
                ("HOME", "/root"),
                ("EMPTY", ""),
                ("E", "a=b"),
            ]
        );
    }

    #[test]
    fn fault_j47_reports_mistakes_without_the_text_of_the_line() {
        let file = std::env::temp_dir().join(format!("fanout-env-{}", std::process::id()));
        std::fs::write(&file, "A=1\nexport SECRET=hunter2\nhunter2\nhunter2/+==\n").unwrap();
        let report = Environment::default().with_files(std::slice::from_ref(&file));
        let report = report.err().unwrap();
        std::fs::remove_file(&file).unwrap();
        let lines: Vec<_> = (report.diagnostics().iter())
            .map(|error| error.position.line)
            .collect();
        assert_eq!(lines, [2, 4], "a name alone takes the value of the process");
        let text = format!("{report}{report:?}{}", report.to_json());
        assert!(!text.contains("hunter2"), "{text}");
    }
}
