//! Messages for text that is neither YAML nor JSON.

mod comment;
mod foreign;
mod repair;
mod scanner;

use serde_saphyr::{Error, Location, MessageFormatter, UserMessageFormatter, budget::BudgetBreach};

use self::scanner::of_scanner;
pub(super) use self::{
    comment::check_comments,
    foreign::{HELM, check_language},
    repair::{locate, position as position_of},
};
use super::diagnostic::Position;

/// The first mistake in a text that is neither YAML nor JSON.
#[derive(Clone, Debug)]
pub(super) struct SyntaxError {
    pub(super) position: Position,
    pub(super) message: String,
    pub(super) help: Option<&'static str>,
    pub(super) certainty: Certainty,
}

/// Tells if the place of an error is that of the mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Certainty {
    /// The mistake is where the parser notices it.
    Exact,
    /// The mistake may be earlier in the file.
    Likely,
    /// The mistake may be earlier in the file, and may also be a text that begins with a sign of YAML.
    Vague,
}

/// Help for a text without quotes that begins with a tag.
pub(super) const QUOTE_TAG: &str = "put a text that begins with \"!\" in quotes, or on the line after \">-\": without them, its first word is a tag";

/// Message and help for a file above the limits of the parser.
const TOO_MANY: (&str, &str) = (
    "the file has too many values, with its aliases expanded",
    "use fewer aliases, or split the file",
);

/// Message for a tab before the first character of a line.
const TAB: &str = "a tab cannot indent a line";

impl SyntaxError {
    /// Moves the error of a tab to the tab. The parser may find it at the end of the line before.
    pub(super) fn at_tab(mut self, text: &str) -> Self {
        let column = |line: &str| {
            let indent = line.len() - line.trim_start().len();
            line[..indent].find('\t').map(|before| before + 1)
        };
        let mut lines = text.lines().enumerate().skip(self.position.line - 1);
        let tab = lines.find_map(|(index, line)| Some((index + 1, column(line)?)));
        if let Some((line, column)) = tab.filter(|_| self.message == TAB) {
            self.position = Position {
                line,
                column,
                ..self.position
            };
        }
        self
    }
}

impl From<Error> for SyntaxError {
    fn from(error: Error) -> Self {
        let error = error.without_snippet();
        let (message, help, certainty) = describe(error);
        Self {
            position: error.location().map_or(Position::START, position),
            // A message may quote the file, which must not inject terminal sequences.
            message: message.replace(char::is_control, " "),
            help,
            certainty,
        }
    }
}

/// Returns the message and the help text for an error of the parser, and what is known about its place.
fn describe(error: &Error) -> (String, Option<&'static str>, Certainty) {
    let (message, help) = match error {
        Error::MultipleDocuments { .. } => (
            "expected one YAML document, got a second one",
            "remove the line \"---\", and what follows it",
        ),
        Error::UnknownAnchor { .. } => (
            "unknown anchor",
            "give a value the anchor with \"&\", before it is used",
        ),
        // Only keys are read into strings.
        Error::NullIntoString { .. } => (
            "expected a key before \":\"",
            "write its name, in quotes if it is null or ~",
        ),
        Error::Budget { breach, .. } => match breach {
            BudgetBreach::Depth { .. } => {
                ("lists and maps are nested too deeply", "use fewer levels")
            }
            _ => TOO_MANY,
        },
        Error::AliasReplayLimitExceeded { .. } | Error::AliasReplayStackDepthExceeded { .. } => {
            TOO_MANY
        }
        _ => return of_scanner(&UserMessageFormatter.format_message(error)),
    };
    (message.to_owned(), Some(help), Certainty::Exact)
}

/// Returns the position of a location in a file.
pub(super) fn position(location: Location) -> Position {
    Position {
        line: usize::try_from(location.line()).unwrap_or(1),
        column: usize::try_from(location.column()).unwrap_or(1),
        ..Position::START
    }
}
