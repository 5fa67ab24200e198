//! Parses a file into a tree.

use std::fmt;

use indexmap::{IndexMap, map::Entry};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Location, MergeKeyPolicy, Spanned};

use super::{
    super::{
        diagnostic::Position,
        number::{is_ambiguous, word_at},
        syntax::{
            Certainty, QUOTE_TAG, SyntaxError, check_comments, check_language, locate, position,
        },
    },
    Details, Kind, Tree,
    depth::check_depth,
    lines::Lines,
    quoted::{parts, quote},
};

/// Maximum number of values that the aliases of a file stand for, where the start and the end of a list or a map count
/// too. Without aliases, a file has at most as many values as it has bytes.
const MOST_OF_ALIASES: usize = 20_000;

impl Tree {
    /// Parses YAML or JSON.
    ///
    /// # Errors
    /// Returns the first syntax error.
    pub(in super::super) fn parse(text: &str) -> Result<Self, SyntaxError> {
        check_depth(text)?;
        check_comments(text)?;
        check_language(text)?;
        let read = Self::parse_only(text);
        let mut tree = read.map_err(|error| locate(error.at_tab(text).at_escape(text), text))?;
        let lines = Lines::new(text);
        if let Some(position) = tree.tag(&lines) {
            return Err(SyntaxError {
                position,
                message: "expected a value, got a YAML tag".into(),
                help: Some(QUOTE_TAG),
                certainty: Certainty::Exact,
            });
        }
        tree.compare_with(&lines);
        Ok(tree)
    }

    /// Parses YAML or JSON, and returns the first error where the parser notices it.
    pub(in super::super) fn parse_only(text: &str) -> Result<Self, SyntaxError> {
        let options = serde_saphyr::options! {
            // `no` and `off` are strings, as in YAML 1.2. Duplicate keys pass here, so that the reader
            // reports them along with other mistakes.
            strict_booleans: true,
            duplicate_keys: DuplicateKeyPolicy::PassThrough,
            // For merge keys, the parser remembers the keys of all maps.
            merge_keys: match text.contains("<<") {
                true => MergeKeyPolicy::Merge,
                false => MergeKeyPolicy::AsOrdinary,
            },
            alias_limits: serde_saphyr::alias_limits! {
                max_total_replayed_events: MOST_OF_ALIASES,
            },
        };
        let read: Result<Spanned<Kind>, _> = serde_saphyr::from_str_with_options(text, options);
        read.map(Self::from).map_err(SyntaxError::from)
    }

    /// Marks the plain scalars in this value of which YAML 1.1 and YAML 1.2 read different values, and finds the lines of
    /// the texts. `lines` are those of the file.
    fn compare_with(&mut self, lines: &Lines<'_>) {
        match &mut self.kind {
            Kind::Scalar(Value::String(text)) if self.indent != Some(0) => {
                self.quote = quote(lines, self.position);
                if self.indent.is_none() {
                    let escaped = self
                        .quote
                        .map(|quote| parts(text, quote, lines, self.position));
                    let starts = escaped
                        .filter(|parts| !parts.is_empty())
                        .unwrap_or_else(|| starts(text, lines, self.position));
                    self.details_mut().starts = starts;
                }
            }
            Kind::Scalar(Value::Null) => {
                let words = ["null", "Null", "NULL", "~", "*"];
                let written = word_at(lines, self.position);
                self.is_nothing = !words.iter().any(|word| written.starts_with(word));
            }
            Kind::Scalar(value) => {
                let written = match value {
                    Value::Number(_) => word_at(lines, self.position),
                    Value::String(text) if self.indent == Some(0) => text,
                    _ => return,
                };
                if is_ambiguous(written) {
                    let written = written.to_owned();
                    self.details_mut().ambiguous_number = Some(written);
                }
            }
            Kind::List(items) => items.iter_mut().for_each(|item| item.compare_with(lines)),
            Kind::Map { members, .. } => members
                .values_mut()
                .for_each(|(_, value)| value.compare_with(lines)),
        }
    }
}

/// Returns the number of characters before the text of a string that fills `location`, apart from two quotes.
fn indent(kind: &Kind, location: Location) -> Option<usize> {
    let Kind::Scalar(Value::String(text)) = kind else {
        return None;
    };
    let around = location
        .span()
        .len()
        .checked_sub(text.chars().count() as u64)?;
    match around {
        0 => Some(0),
        2 => Some(1),
        _ => None,
    }
}

/// Returns where the lines of `text` start, which is at `position` of a file: the number of characters of the text before
/// each, and its position. Returns nothing if the file has the text in another form, such as with escapes.
fn starts(text: &str, lines: &Lines<'_>, position: Position) -> Vec<(usize, Position)> {
    let mut starts = Vec::new();
    let mut rest = text.trim_end();
    let mut lines = lines.from(position);
    // The number of characters before `rest`.
    let mut before = 0;
    while !rest.is_empty() {
        let Some((index, line)) = lines.next() else {
            return Vec::new();
        };
        let is_first = index + 1 == position.line;
        let content = content(line, is_first);
        let skipped = rest.len() - rest.trim_start().len();
        before += rest[..skipped].chars().count();
        rest = &rest[skipped..];
        if !content.is_empty() {
            let column = line[..line.trim_end().len() - content.len()]
                .chars()
                .count()
                + 1;
            let first = if is_first { position.column - 1 } else { 0 };
            starts.push((
                before,
                Position {
                    line: index + 1,
                    column: first + column,
                    ..position
                },
            ));
            let last = |quote| content.strip_suffix(quote) == Some(rest);
            rest = match rest.strip_prefix(content) {
                Some(rest) => rest,
                None if content == rest || ['"', '\''].into_iter().any(last) => "",
                None => return Vec::new(),
            };
            before += content.chars().count();
        }
    }
    starts
}

/// Returns the part of a text that a line has. The first line may have a quote, or the sign of a block, in front of the
/// text.
fn content(line: &str, is_first: bool) -> &str {
    let own = line.trim_end();
    let own = match own.strip_prefix(['"', '\'']).filter(|_| is_first) {
        Some(quoted) => quoted,
        None if is_first && own.starts_with(['|', '>']) => "",
        None => own,
    };
    own.trim_start()
}

impl From<Spanned<Kind>> for Tree {
    fn from(spanned: Spanned<Kind>) -> Self {
        Self {
            position: position(spanned.referenced),
            indent: indent(&spanned.value, spanned.referenced),
            quote: None,
            is_nothing: false,
            kind: spanned.value,
            is_suspect: false,
            details: (spanned.referenced != spanned.defined).then(|| {
                Box::new(Details {
                    anchor: Some(position(spanned.defined)),
                    ..Details::default()
                })
            }),
        }
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Kinds)
    }
}

struct Kinds;

impl<'de> Visitor<'de> for Kinds {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Spanned<Kind>>()? {
            items.push(item.into());
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let (mut members, mut repeated) = (IndexMap::new(), Vec::new());
        while let Some((name, value)) = map.next_entry::<Spanned<String>, Spanned<Kind>>()? {
            let position = position(name.referenced);
            match members.entry(name.value) {
                Entry::Occupied(first) => repeated.push((first.key().clone(), position)),
                Entry::Vacant(new) => drop(new.insert((position, value.into()))),
            }
        }
        Ok(Kind::Map { members, repeated })
    }
}
