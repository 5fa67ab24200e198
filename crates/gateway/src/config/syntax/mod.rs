//! Messages for text that is neither YAML nor JSON.

mod repair;

use serde_saphyr::{Error, Location, MessageFormatter, UserMessageFormatter, budget::BudgetBreach};

pub(super) use self::repair::locate;
use super::diagnostic::Position;

/// The first mistake in a text that is neither YAML nor JSON.
#[derive(Clone, Debug)]
pub(super) struct SyntaxError {
    pub(super) position: Position,
    pub(super) message: String,
    pub(super) help: Option<&'static str>,
    /// `true` if the mistake is where the parser notices it.
    pub(super) is_exact: bool,
}

/// Messages of the parser, with a message and a help text for users of the file.
const SCANNER: [(&str, &str, &str); 13] = [
    (
        "while parsing a quoted scalar, found unknown escape character",
        "unknown escape in a quoted string",
        "write \\\\ for a backslash, or use single quotes",
    ),
    (
        "while parsing a block mapping, did not find expected key",
        "expected a key with the same indentation as the keys before it",
        "indent all keys of a map alike",
    ),
    (
        "while parsing a block collection, did not find expected '-' indicator",
        "expected an item that begins with \"-\", with the same indentation as those before it",
        "indent all items of a list alike",
    ),
    (
        "tabs disallowed within this context (block indentation)",
        TAB,
        "use spaces",
    ),
    (
        "while scanning a plain scalar, found a tab",
        TAB,
        "use spaces",
    ),
    ("tab cannot be used as indentation", TAB, "use spaces"),
    (
        "mapping values are not allowed in this context",
        "expected a value, got a key and a value",
        "begin a new line for a map, or put a text with \":\" in quotes",
    ),
    (
        "simple key expected ':'",
        "expected \":\" after the key",
        "write \"key: value\"",
    ),
    (
        "while parsing a flow mapping, did not find expected ',' or '}'",
        "expected \",\" or \"}\"",
        "close the map, separate its keys by commas, or put a text with { or } in quotes",
    ),
    (
        "while parsing a flow sequence, expected ',' or ']'",
        "expected \",\" or \"]\"",
        "close the list, or separate its items by commas",
    ),
    (
        "unclosed quote",
        "a quote is not closed",
        "add the closing quote",
    ),
    (
        "misplaced bracket",
        "a closing bracket without an opening one",
        "remove it, or add the opening bracket",
    ),
    (
        "recursion limit exceeded",
        "lists and maps are nested too deeply",
        "use fewer levels",
    ),
];

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
        let (message, help) = describe(error);
        Self {
            position: error.location().map_or(Position::START, position),
            // A message may quote the file, which must not inject terminal sequences.
            message: message.replace(char::is_control, " "),
            help,
            is_exact: is_exact(error),
        }
    }
}

/// Returns `true` for errors that no other mistake in the file leads to.
const fn is_exact(error: &Error) -> bool {
    matches!(
        error,
        Error::MultipleDocuments { .. }
            | Error::UnknownAnchor { .. }
            | Error::NullIntoString { .. }
            | Error::Budget { .. }
            | Error::AliasReplayLimitExceeded { .. }
            | Error::AliasReplayStackDepthExceeded { .. }
    )
}

/// Returns the message and the help text for an error of the parser.
fn describe(error: &Error) -> (String, Option<&'static str>) {
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
    (message.to_owned(), Some(help))
}

fn of_scanner(message: &str) -> (String, Option<&'static str>) {
    if let Some((_, message, help)) = SCANNER.iter().find(|(theirs, ..)| *theirs == message) {
        return ((*message).to_owned(), Some(help));
    }
    let bracket = message.strip_prefix("unclosed bracket '");
    if let Some(bracket) = bracket.and_then(|rest| rest.strip_suffix('\'')) {
        return (
            format!("\"{bracket}\" is not closed"),
            Some("add the closing bracket"),
        );
    }
    let mismatched = message.strip_prefix("mismatched bracket '");
    let mismatched =
        mismatched.and_then(|rest| rest.strip_suffix('\'')?.split_once("' closed by '"));
    if let Some((open, close)) = mismatched {
        let help = "close the brackets in the order in which they were opened";
        return (format!("\"{open}\" is closed by \"{close}\""), Some(help));
    }
    if message.starts_with("YAML document too large") {
        return (TOO_MANY.0.to_owned(), Some(TOO_MANY.1));
    }
    // A tag of the core schema before a value of another type.
    let number = ["invalid u64", "invalid i64", "invalid f64", "invalid bool"];
    if number.iter().any(|theirs| message.starts_with(theirs)) {
        return (
            "the value does not have the type that its YAML tag names".to_owned(),
            Some("remove the tag, or correct the value"),
        );
    }
    (message.to_owned(), None)
}

/// Returns the position of a location in a file.
pub(super) fn position(location: Location) -> Position {
    Position {
        line: usize::try_from(location.line()).unwrap_or(1),
        column: usize::try_from(location.column()).unwrap_or(1),
        ..Position::START
    }
}
