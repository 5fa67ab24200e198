//! Field filters: the selection and renaming of response members before a merge.

#[cfg(test)]
mod model;
mod path;
mod rules;
mod target;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tower_fanout::layers::{
    ConfigError, config,
    config::{ConfigErrors, Validate},
};

use self::{path::Path, rules::Rules};
use crate::check::Json;

config! {
    /// Configuration of a [`FieldFilter`].
    ///
    /// The filter first takes the value at `target`, then removes members, then renames members.
    ///
    /// # Paths
    /// A path is a list of member names, separated by dots, such as `person.name`. `\.` is a dot within a
    /// name, and `\\` is a backslash.
    ///
    /// Syntax of other path languages is rejected, because it would select nothing: `*`, `[`, `]`, the step
    /// `$`, a leading `/`, white space around a step, and numbers with a sign or a leading zero. After a
    /// backslash, such a character is a part of a name, as in `\*`.
    ///
    /// In `allow`, `deny` and `rename`, a path leads through every array: it applies to each item, and to
    /// the items of an item that is an array itself. `[{"name": 1}]` and `{"name": 1}` are filtered alike.
    /// A step that is a number also means the item with that index, from 0.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    pub struct FieldFilterConfig {
        /// Path to the wanted value. A number at an array is the index of an item, from 0, as in
        /// `data.items.0`. A name at an array selects from each item, as in `data.items.id`, and the result
        /// is an array; items without the value are left out. Defaults to `None`, which selects the whole
        /// response.
        pub target: Option<String> = None,
        /// Paths of the members to keep, with everything in them. Defaults to an empty set, which keeps
        /// all members.
        ///
        /// Any other member is removed, and so is a string, number or boolean where a path leads further.
        /// A whole response of such a form becomes `null`.
        pub allow: BTreeSet<String> = BTreeSet::new(),
        /// Paths of the members to remove, also from what `allow` keeps. Defaults to an empty set.
        pub deny: BTreeSet<String> = BTreeSet::new(),
        /// New member names by paths. Defaults to an empty map. A new name is a name and not a path: a
        /// member is never moved to another object. A member of the response that already has one of the
        /// new names is removed, unless it is renamed too.
        ///
        /// All paths contain old names. A path to rename must be one that [`allow`](Self::allow) and
        /// [`deny`](Self::deny) keep. A new name must be unique in its object, and may be in `allow` only
        /// if the member with that name is renamed too.
        pub rename: BTreeMap<String, String> = BTreeMap::new(),
    }
}

/// A field filter, which selects a part of a JSON response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldFilter {
    config: FieldFilterConfig,
    target: Option<Path>,
    rules: Rules,
}

impl Validate for FieldFilterConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let paths = self.target.iter().map(|path| ("target", path));
        let paths = paths.chain(self.allow.iter().map(|path| ("allow", path)));
        let paths = paths.chain(self.deny.iter().map(|path| ("deny", path)));
        let paths = paths.chain(self.rename.keys().map(|path| ("rename", path)));
        let errors = paths.fold(
            ConfigErrors::default(),
            |errors, (field, path)| match Path::parse(path) {
                Ok(_) => errors,
                Err(reason) => errors.unless(false, field, path::expected(path, reason)),
            },
        );
        // The other rules compare parsed paths.
        let errors = errors.into_vec();
        if !errors.is_empty() {
            return errors;
        }
        let rules = Known::new(self);
        let messages = self
            .rename
            .iter()
            .filter_map(|(old, new)| rules.rename_error(old, &Path::parse(old).ok()?, new));
        messages
            .fold(ConfigErrors::default(), |errors, message| {
                errors.unless(false, "rename", message)
            })
            .into_vec()
    }
}

/// The paths of a configuration, in which a path is found without a look at all of them.
struct Known {
    allow: BTreeSet<Path>,
    /// The paths of `allow` that lead through no other one.
    first_allowed: BTreeSet<Path>,
    /// The paths of `deny` that lead through no other one.
    first_denied: BTreeSet<Path>,
    renamed: BTreeSet<Path>,
    /// The number of members with each new path.
    results: BTreeMap<Path, usize>,
}

impl Known {
    fn new(config: &FieldFilterConfig) -> Self {
        let renames = config
            .rename
            .iter()
            .filter_map(|(old, new)| Path::parse(old).ok().zip(Path::parse(new).ok()));
        let (mut renamed, mut results) = (BTreeSet::new(), BTreeMap::new());
        for (old, new) in renames {
            if let Some(result) = old.renamed(new) {
                *results.entry(result).or_default() += 1;
            }
            renamed.insert(old);
        }
        let allow: BTreeSet<Path> = parsed(&config.allow).collect();
        Self {
            first_allowed: first(allow.clone()),
            first_denied: first(parsed(&config.deny).collect()),
            allow,
            renamed,
            results,
        }
    }

    /// Returns the error of renaming the member at `path`, which is written as `old`, to `new`.
    fn rename_error(&self, old: &str, path: &Path, new: &str) -> Option<String> {
        let name = match Path::parse(new) {
            Ok(name) => name,
            Err(reason) => {
                return Some(format!("\"{old}\" is renamed to \"{new}\": {reason}"));
            }
        };
        let Some(renamed) = path.renamed(name) else {
            return Some(format!(
                "\"{old}\" is renamed to \"{new}\", which is a path; use a name, with \\. for a dot"
            ));
        };
        if !self.keeps(path) {
            Some(format!(
                "\"{old}\" is removed by \"allow\" or \"deny\"; keep it or do not rename it"
            ))
        } else if self.results.get(&renamed).is_some_and(|count| *count > 1) {
            Some(format!(
                "\"{old}\" is not the only member renamed to \"{new}\"; use unique names"
            ))
        } else if self.allow.contains(&renamed) && !self.renamed.contains(&renamed) {
            Some(format!(
                "\"{old}\" is renamed to \"{new}\", which is also in \"allow\"; remove one"
            ))
        } else {
            None
        }
    }

    /// Returns `true` if `allow` and `deny` keep the member at `path`, or a part of it.
    fn keeps(&self, path: &Path) -> bool {
        // In their order, the paths below another one follow it.
        let is_below = |first: &BTreeSet<Path>| {
            let before = first.range(..=path).next_back();
            before.is_some_and(|before| path.is_below(before))
        };
        let leads = || {
            let after = self.allow.range(path..).next();
            after.is_some_and(|after| after.is_below(path))
        };
        let is_allowed = || is_below(&self.first_allowed) || leads();
        !is_below(&self.first_denied) && (self.allow.is_empty() || is_allowed())
    }
}

/// Returns the paths without those that lead through another one.
fn first(paths: BTreeSet<Path>) -> BTreeSet<Path> {
    let mut last: Option<Path> = None;
    let first = paths.into_iter().filter(|path| {
        let is_first = last.as_ref().is_none_or(|last| !path.is_below(last));
        if is_first {
            last = Some(path.clone());
        }
        is_first
    });
    first.collect()
}

/// Returns the valid ones of `paths`.
fn parsed(paths: &BTreeSet<String>) -> impl Iterator<Item = Path> {
    paths.iter().filter_map(|path| Path::parse(path).ok())
}

impl FieldFilter {
    /// Creates a filter.
    ///
    /// # Errors
    /// Returns an error if
    ///
    /// - a path is not valid (see [Paths](FieldFilterConfig#paths)),
    /// - `rename` has a path that `allow` or `deny` removes,
    /// - a new name is a path,
    /// - two members of an object have the same new name, or
    /// - a new name is in `allow` and is not renamed itself.
    pub fn new(config: FieldFilterConfig) -> Result<Self, ConfigError> {
        let config = config.validated()?;
        Ok(Self {
            target: (config.target.as_deref()).and_then(|path| Path::parse(path).ok()),
            rules: Rules::new(&config),
            config,
        })
    }

    /// Returns the configuration.
    #[must_use]
    pub const fn config(&self) -> &FieldFilterConfig {
        &self.config
    }

    /// Applies the filter to `answer`.
    ///
    /// The cost is linear in the size of `answer`. The result shares the memory of `answer` if no member
    /// is removed or renamed.
    ///
    /// Returns `None` if `answer` has no value at `target`.
    #[must_use]
    pub fn apply(&self, answer: Json) -> Option<Json> {
        let answer = match &self.target {
            None => answer,
            Some(path) => target::at(&answer, path)?,
        };
        Some(self.rules.apply(&answer).unwrap_or(answer))
    }

    /// Returns the names of the direct members that the settings declare: the allowed ones under their
    /// new names, or all new names if `allow` is empty. Each name is returned once.
    pub(crate) fn declared(&self) -> BTreeSet<String> {
        let renames: BTreeMap<String, String> = (self.config.rename.iter())
            .filter_map(|(old, new)| Some((only(old)?, only(new)?)))
            .collect();
        if self.config.allow.is_empty() {
            return renames.into_values().collect();
        }
        let allowed = parsed(&self.config.allow).filter_map(Path::into_first);
        allowed
            .map(|name| renames.get(&name).cloned().unwrap_or(name))
            .collect()
    }
}

/// Returns the name in a path of one step.
fn only(path: &str) -> Option<String> {
    let path = Path::parse(path).ok()?;
    (path.steps().count() == 1)
        .then(|| path.into_first())
        .flatten()
}
