//! The inputs of a configuration: files, and environment variables.

mod environment;
mod folder;
mod merge;
mod overrides;
mod variable;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    string::FromUtf8Error,
};

pub(crate) use self::environment::Environment;
use self::merge::merge;
pub(super) use self::overrides::override_values;
pub(super) use self::variable::{Expanded, Unset, expand};
use super::{
    LARGEST, Report,
    diagnostic::{Diagnostic, Position, Source},
    redact::{Lines, Redactor},
    schema::{correct_keys, correct_keys_of_file},
    tree::Tree,
    value::cannot_read,
};

/// A text with configuration.
pub(super) struct Text {
    /// Name of the text in diagnostics.
    pub(super) name: String,
    /// The folder to which the names of files in the text are relative.
    pub(super) folder: PathBuf,
    pub(super) text: String,
}

/// Reads the file at `path`, or all configuration files in the folder at `path`.
///
/// # Errors
/// Returns an error if a file is unreadable, if the folder has none, or if they are too large.
pub(super) fn load(path: &Path) -> Result<Vec<Text>, Report> {
    if !path.is_dir() {
        return Ok(vec![load_file(path)?]);
    }
    let files = folder::files(path).map_err(|error| unreadable(path, &error))?;
    files.iter().map(|path| load_file(path)).collect()
}

/// Reads the file at `path`.
fn load_file(path: &Path) -> Result<Text, Report> {
    let bytes = read(path).map_err(|error| unreadable(path, &error))?;
    let name = path.display().to_string();
    let text = String::from_utf8(bytes).map_err(|error| not_text(&name, &error))?;
    Ok(Text {
        name,
        folder: path.parent().map(Path::to_owned).unwrap_or_default(),
        text,
    })
}

/// Reads a file, but little more than a configuration may have.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
    // The last character of a file that is too large may be cut.
    if bytes.len() > LARGEST
        && let Err(error) = std::str::from_utf8(&bytes)
        && error.error_len().is_none()
    {
        let cut = error.valid_up_to();
        bytes[cut..].fill(b'?');
    }
    Ok(bytes)
}

/// Returns the report of a file that is not UTF-8, at its first byte that is not.
fn not_text(name: &str, error: &FromUtf8Error) -> Report {
    let bytes = error.as_bytes();
    let valid = error.utf8_error().valid_up_to();
    let before = String::from_utf8_lossy(&bytes[..valid]);
    let line = before.rsplit('\n').next().unwrap_or_default();
    let position = Position {
        line: before.matches('\n').count() + 1,
        column: line.chars().count() + 1,
        ..Position::START
    };
    let message = format!("expected UTF-8, got the byte 0x{:02x}", bytes[valid]);
    let error = Diagnostic {
        help: Some("save the file as UTF-8, or replace the character here".to_owned()),
        ..Diagnostic::error("unreadable", position, message)
    };
    // The text is not known to be configuration, so only the length of its line is shown.
    let masked = Lines::from([(position.line, vec!['*'; position.column])]);
    Report::new(vec![Source::file(name, masked)], vec![error])
}

fn unreadable(path: &Path, error: &io::Error) -> Report {
    let message = cannot_read(&path.display().to_string(), error);
    refuse(path.display().to_string(), "unreadable", message)
}

/// Parses the texts, of which there is at least one, and merges them. Returns the errors of misspelt keys and of
/// merging too.
///
/// # Errors
/// Returns an error if the texts are too large, or the syntax error of each text.
pub(super) fn parse(texts: &[Text]) -> Result<(Tree, Vec<Diagnostic>), Report> {
    let mut size = 0;
    let (mut trees, mut errors, mut misspelt) = (Vec::new(), Vec::new(), Vec::new());
    for (index, text) in texts.iter().enumerate() {
        size += text.text.len();
        if size > LARGEST {
            let message = format!("a configuration must be at most {} MiB", LARGEST >> 20);
            return Err(refuse(text.name.clone(), "too_large", message));
        }
        match Tree::parse(&text.text) {
            Ok(mut tree) => {
                tree.set_source(index);
                if texts.len() > 1 {
                    misspelt.extend(correct_keys_of_file(&mut tree));
                }
                trees.push(tree);
            }
            Err(error) => {
                let position = Position {
                    source: index,
                    ..error.position
                };
                errors.push(Diagnostic {
                    help: error.help.map(str::to_owned),
                    ..Diagnostic::error("syntax", position, error.message)
                });
            }
        }
    }
    if !errors.is_empty() {
        let sources = sources(texts, &Redactor::default(), errors.iter_mut());
        return Err(Report::new(sources, errors));
    }
    let (mut tree, errors) = merge(trees);
    misspelt.extend(errors);
    misspelt.extend(correct_keys(&mut tree));
    Ok((tree, misspelt))
}

/// Returns a report with one error about a file of which nothing is shown.
fn refuse(name: String, code: &'static str, message: String) -> Report {
    let error = Diagnostic::error(code, Position::START, message);
    Report::new(vec![Source::file(name, Lines::new())], vec![error])
}

/// Returns the texts for `diagnostics`, with what of them may be shown. Hides secrets in the diagnostics.
pub(super) fn sources<'d>(
    texts: &[Text],
    redactor: &Redactor,
    diagnostics: impl Iterator<Item = &'d mut Diagnostic>,
) -> Vec<Source> {
    let all: Vec<_> = texts.iter().map(|text| &*text.text).collect();
    let lines = redactor.excerpts(&all, diagnostics);
    let sources = texts.iter().zip(lines);
    sources
        .map(|(text, lines)| Source::file(&*text.name, lines))
        .collect()
}
