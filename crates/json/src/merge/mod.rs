//! Makes one JSON document of several answers, in the order of the plan.
//!
//! Answers are spliced: the bytes of values are copied, and only what decides is read, the names of
//! members. So numbers and text stay byte for byte what they were, white space within values too. What
//! comes out hangs on the answers and their order in the plan alone, never on which came first.
//!
//! ```
//! use tower_fanout_json::{Json, merge::{Merge, MergeMode}};
//!
//! let user = Json::parse(r#"{"id": 7, "name": "Ada"}"#.into()).unwrap();
//! let book = Json::parse(r#"{"total": 1.10}"#.into()).unwrap();
//! let parts = [("user", &user), ("book", &book)];
//!
//! let grouped = Merge::default().merge(parts).unwrap();
//! assert_eq!(grouped.as_raw(), r#"{"user":{"id": 7, "name": "Ada"},"book":{"total": 1.10}}"#);
//!
//! let flat = Merge::build(|merge| merge.mode = MergeMode::Flat).unwrap();
//! let merged = flat.merge(parts).unwrap();
//! assert_eq!(merged.as_raw(), r#"{"id":7,"name":"Ada","total":1.10}"#);
//! ```
//!
//! # Conflicts
//! In mode `flat` two answers with one name are in conflict, whatever the values: so it can be
//! [known](MergeSettings::declared_conflicts) before there is an answer. In mode `deep` objects of one
//! name become one object, and a conflict is where two values meet that are not both objects. Two that
//! are written alike are none, as the outcome is the same, unless conflicts are renamed: a name must
//! not hang on values.
//!
//! Names are compared without their escapes. Of a member that stands twice in one answer the last
//! counts where members are read, as [`Json::get`] has it; it stands where the first did.

mod declared;
#[cfg(test)]
mod model;
mod splice;
mod table;
#[cfg(test)]
mod tests;

use std::{error::Error, fmt};

use serde::{Deserialize, Serialize};
use tower_fanout::layers::{
    ConfigError,
    config::{Validate, Validated},
    setters,
};

pub use self::declared::DeclaredConflict;
use self::{splice::Splice, table::Table};
use crate::check::{Json, MAX_DEPTH};

/// How answers become one document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MergeMode {
    /// An object of the answers, each under the name of its node: nothing can be in conflict.
    #[default]
    Group,
    /// One object with the members of all answers. An answer that is no object is a member under the
    /// name of its node, so that it is not lost.
    Flat,
    /// The same, and objects of one name become one object too, at every depth.
    Deep,
    /// An array of the items of all answers, end to end. An answer that is no array is one item.
    Concat,
}

/// What becomes of a name that two answers want, in the modes `flat` and `deep`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnConflict {
    /// Nothing is merged: who relies on a name must not get another's value.
    #[default]
    Error,
    /// The value of the node that is earlier in the plan stays.
    First,
    /// The value of the later node takes the place of the earlier.
    Last,
    /// The later becomes `<node>_<name>`, after the other members of its answer; if that is a name
    /// already, `<node>_<name>_2` and so on.
    Rename,
}

/// How answers are merged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct MergeSettings {
    /// How they become one document; `group` by default.
    pub mode: MergeMode,
    /// What becomes of a name that two answers want; `error` by default.
    pub on_conflict: OnConflict,
    /// The most bytes that the document may have, 1 or more; 8 MiB by default.
    pub max_bytes: usize,
}

setters! {
    MergeSettings {
        mode: MergeMode,
        on_conflict: OnConflict,
        max_bytes: usize,
    }
}

impl Default for MergeSettings {
    fn default() -> Self {
        Self {
            mode: MergeMode::default(),
            on_conflict: OnConflict::default(),
            max_bytes: 8 << 20,
        }
    }
}

impl Validate for MergeSettings {
    fn errors(&self) -> Vec<ConfigError> {
        let small = self.max_bytes == 0;
        small
            .then(|| ConfigError::new("max_bytes", "0 is less than 1"))
            .into_iter()
            .collect()
    }
}

/// Checked [`MergeSettings`].
pub type Merge = Validated<MergeSettings>;

/// Why there is no merged document.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeError {
    /// Two answers want one name.
    Conflict {
        /// Where, as a JSON pointer ([RFC 6901](https://www.rfc-editor.org/rfc/rfc6901)), of which the
        /// first 200 characters are kept: the name is a downstream's. For logs, not for the client.
        pointer: String,
        /// The node that has it.
        first: String,
        /// The later node that wants it too.
        second: String,
    },
    /// The document has more than [`max_bytes`](field@MergeSettings::max_bytes).
    TooLarge,
    /// The document may nest deeper than [`MAX_DEPTH`], as an answer that does so just not can, once it
    /// has a name.
    TooDeep,
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict {
                pointer,
                first,
                second,
            } => write!(f, "{first} and {second} both have {pointer}"),
            Self::TooLarge => f.write_str("the merged answers are too large"),
            Self::TooDeep => f.write_str("the merged answers nest too deeply"),
        }
    }
}

impl Error for MergeError {}

impl MergeSettings {
    /// Merges answers, each with the name of its node, in the order of the plan. What it costs grows
    /// with their bytes alone; in mode `deep` also with how deep objects meet.
    ///
    /// # Errors
    /// See [`MergeError`].
    pub fn merge<'j, I>(&self, parts: I) -> Result<Json, MergeError>
    where
        I: IntoIterator<Item = (&'j str, &'j Json)>,
        I::IntoIter: Clone,
    {
        let parts = parts.into_iter();
        let depth = parts.clone().map(|(_, answer)| self.depth(answer)).max();
        let depth = depth.unwrap_or(1);
        if depth > MAX_DEPTH {
            return Err(MergeError::TooDeep);
        }
        let mut out = Splice::new(self.max_bytes, parts.clone());
        match self.mode {
            MergeMode::Group => out.group(parts)?,
            MergeMode::Concat => out.concat(parts)?,
            MergeMode::Flat | MergeMode::Deep => {
                let mut table = Table::default();
                for (name, answer) in parts {
                    table.add(name, answer.value(), self)?;
                }
                table.write(&mut out)?;
            }
        }
        Ok(Json::new(out.into_bytes(), depth))
    }

    /// How deep the document nests at most, for the sake of `answer`.
    fn depth(&self, answer: &Json) -> usize {
        let dissolved = match self.mode {
            MergeMode::Group => false,
            MergeMode::Concat => answer.as_bytes().starts_with(b"["),
            MergeMode::Flat | MergeMode::Deep => answer.value().is_object(),
        };
        answer.depth() + usize::from(!dissolved)
    }
}
