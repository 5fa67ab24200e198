//! Merges the JSON responses of several nodes into one document, in plan order.
//!
//! Responses are spliced: only member names are read, and the bytes of values are copied. Numbers,
//! strings, and white space within values stay exactly as they were written. White space between the
//! members of an object is removed if the object is merged: in mode `flat` in the responses themselves,
//! in mode `deep` in all objects that are merged. The result depends
//! only on the responses and their order in the plan, never on the order of their arrival.
//!
//! ```
//! use tower_fanout_json::{Json, merge::{Merge, MergeConfig, MergeMode}};
//!
//! let user = Json::parse(r#"{"id": 7, "name": "Ada"}"#.into()).unwrap();
//! let book = Json::parse(r#"{"total": 1.10}"#.into()).unwrap();
//! let parts = [("user", &user), ("book", &book)];
//!
//! let grouped = Merge::default().merge(parts).unwrap();
//! assert_eq!(grouped.as_raw(), r#"{"user":{"id": 7, "name": "Ada"},"book":{"total": 1.10}}"#);
//!
//! let flat = Merge::new(MergeConfig::new().mode(MergeMode::Flat)).unwrap();
//! let merged = flat.merge(parts).unwrap();
//! assert_eq!(merged.as_raw(), r#"{"id":7,"name":"Ada","total":1.10}"#);
//! ```
//!
//! # Conflicts
//! In mode `flat`, two responses with a member of the same name conflict, whatever the values are.
//! Conflicts can therefore be [found in the settings](Merge::declared_conflicts), before
//! any response exists.
//!
//! In mode `deep`, objects with the same name are merged. Two values with the same name conflict if
//! they are written differently and at least one of them is not an object. With
//! [`OnConflict::Rename`], equal values conflict too, so that member names do not depend on values.
//!
//! Names are compared after decoding their escapes. If one response has several members with the
//! same name, the modes that read members use the last value, as [`Json::get`] does, in the
//! position of the first.

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
    ConfigError, config,
    config::{ConfigErrors, Validate},
};

pub use self::declared::DeclaredConflict;
use self::{splice::Splice, table::Table};
use crate::check::{Json, MAX_DEPTH};

/// The way in which responses are combined into one document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum MergeMode {
    /// An object with each response under the name of its node. Conflicts are impossible. This is the
    /// default.
    #[default]
    Group,
    /// One object with the members of all responses. A response that is not an object becomes a
    /// member with the name of its node, so that it is not lost.
    Flat,
    /// Like [`flat`](Self::Flat), but objects with the same name are merged too, at every depth.
    Deep,
    /// An array with the items of all responses. A response that is not an array is one item.
    Concat,
}

/// The handling of a conflict in the modes `flat` and `deep`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum OnConflict {
    /// The merge fails. Clients that rely on a name never get the value of another node. This is the
    /// default.
    #[default]
    Error,
    /// The value of the node that comes first in the plan is kept.
    First,
    /// The value of the later node replaces the earlier one, in the position of the earlier one.
    Last,
    /// The member of the later node is renamed to `<node>_<name>` and placed after the other
    /// members of its response. If that name is taken, `<node>_<name>_2` is tried, and so on.
    Rename,
}

config! {
    /// Configuration of a [`Merge`].
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct MergeConfig {
        /// The way in which responses are combined. Defaults to `group`.
        pub mode: MergeMode = MergeMode::Group,
        /// The handling of conflicts. Defaults to `error`.
        pub on_conflict: OnConflict = OnConflict::Error,
        /// Maximum size of the document in bytes, at least 1. Defaults to 8 MiB.
        pub max_bytes: usize = 8 << 20,
    }
}

impl Validate for MergeConfig {
    fn errors(&self) -> Vec<ConfigError> {
        ConfigErrors::default()
            .at_least("max_bytes", self.max_bytes, 1)
            .into_vec()
    }
}

/// A merge of responses into one document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merge(MergeConfig);

/// The error returned by [`Merge::merge`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeError {
    /// Two responses have conflicting members, and conflicts are errors ([`OnConflict::Error`]).
    Conflict {
        /// Position of the member as a JSON pointer
        /// ([RFC 6901](https://www.rfc-editor.org/rfc/rfc6901)), cut to its first 200 characters
        /// because downstreams choose the names. For logs, not for clients.
        pointer: String,
        /// Name of the first node with the member.
        first: String,
        /// Name of the later node with the member.
        second: String,
    },
    /// The document is larger than [`max_bytes`](field@MergeConfig::max_bytes).
    TooLarge,
    /// The document may be nested deeper than [`MAX_DEPTH`]. A response within that limit can
    /// exceed it once it is wrapped in a member or an item.
    TooDeep,
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict {
                pointer,
                first,
                second,
            } => write!(
                f,
                "nodes \"{first}\" and \"{second}\" conflict at {pointer}"
            ),
            Self::TooLarge => f.write_str("the merged document is larger than max_bytes"),
            Self::TooDeep => write!(
                f,
                "the merged document is nested deeper than {MAX_DEPTH} levels"
            ),
        }
    }
}

impl Error for MergeError {}

impl Merge {
    /// Creates a merge.
    ///
    /// # Errors
    /// Returns an error if [`max_bytes`](field@MergeConfig::max_bytes) is 0.
    pub fn new(config: MergeConfig) -> Result<Self, ConfigError> {
        config.validated().map(Self)
    }

    /// Returns the configuration.
    #[must_use]
    pub const fn config(&self) -> &MergeConfig {
        &self.0
    }

    /// Merges `parts`, the responses with the names of their nodes, in plan order.
    ///
    /// The cost is linear in the size of the responses. In mode `deep`, it also grows with the
    /// depth to which objects are merged.
    ///
    /// # Errors
    /// Returns a [`MergeError`] if two responses conflict under [`OnConflict::Error`], or if the
    /// document would be too large or nested too deeply.
    pub fn merge<'j, I>(&self, parts: I) -> Result<Json, MergeError>
    where
        I: IntoIterator<Item = (&'j str, &'j Json)>,
        I::IntoIter: Clone,
    {
        let parts = parts.into_iter();
        let depths = parts.clone().map(|(_, answer)| self.depth(answer));
        // Without parts, the document is empty brackets.
        let depth = depths.max().unwrap_or(1);
        if depth > MAX_DEPTH {
            return Err(MergeError::TooDeep);
        }
        let mut out = Splice::new(self.0.max_bytes, parts.clone());
        match self.0.mode {
            MergeMode::Group => out.group(parts)?,
            MergeMode::Concat => out.concat(parts)?,
            MergeMode::Flat | MergeMode::Deep => {
                let mut table = Table::default();
                for (name, answer) in parts {
                    table.add(name, answer.value(), &self.0)?;
                }
                table.write(&mut out)?;
            }
        }
        Ok(Json::new(out.into_bytes(), depth))
    }

    /// Returns `true` if the document is not too deep because of `answer`.
    pub(crate) fn fits(&self, answer: &Json) -> bool {
        self.depth(answer) <= MAX_DEPTH
    }

    /// Returns the nesting depth that `answer` can give to the document.
    fn depth(&self, answer: &Json) -> usize {
        let dissolved = match self.0.mode {
            MergeMode::Group => false,
            MergeMode::Concat => answer.as_bytes().starts_with(b"["),
            MergeMode::Flat | MergeMode::Deep => answer.value().is_object(),
        };
        // The brackets of a dissolved response are replaced by those of the document.
        answer.depth() + usize::from(!dissolved)
    }
}
