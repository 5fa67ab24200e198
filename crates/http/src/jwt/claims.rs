//! What a token says.

use std::{fmt, sync::Arc};

use serde::Deserialize;
use serde_json::{Map, Value};

/// What a valid token says. In the request's extensions only if the whole token was believed; cheap
/// to clone, and `Debug` shows no values.
#[derive(Clone)]
pub struct Claims {
    shared: Arc<Shared>,
}

/// The members of the payload, and what the rules have read of them.
pub(super) struct Shared {
    pub(super) members: Map<String, Value>,
    pub(super) tier: Arc<str>,
    pub(super) roles: Vec<String>,
    pub(super) scopes: Vec<String>,
}

impl Claims {
    /// Only the rules make claims, when they believe the whole token.
    pub(super) fn new(shared: Shared) -> Self {
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Who the token is about; empty if it does not say.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.shared
            .members
            .get("sub")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The caller's tier.
    #[must_use]
    pub fn tier(&self) -> &str {
        &self.shared.tier
    }

    /// The caller's roles.
    #[must_use]
    pub fn roles(&self) -> &[String] {
        &self.shared.roles
    }

    /// What the token was given for: `scope` ([RFC 9068 §2.2.3](https://www.rfc-editor.org/rfc/rfc9068#section-2.2.3)),
    /// or else `scp`.
    #[must_use]
    pub fn scopes(&self) -> &[String] {
        &self.shared.scopes
    }

    /// The claim at `path`.
    #[must_use]
    pub fn get(&self, path: &[impl AsRef<str>]) -> Option<&Value> {
        find(&self.shared.members, path)
    }

    /// All claims as a type of the caller's.
    ///
    /// # Errors
    /// The claims are not of this type. The error may show a value: it is not for a log.
    pub fn deserialize<'c, T: Deserialize<'c>>(&'c self) -> Result<T, serde_json::Error> {
        T::deserialize(&self.shared.members)
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.shared.members.keys().collect();
        f.debug_tuple("Claims").field(&names).finish()
    }
}

/// The steps of a path with dots; one step if it is a URI, which many issuers name their own claims by
/// ([RFC 7519 §4.2](https://www.rfc-editor.org/rfc/rfc7519#section-4.2)).
pub(super) fn path(dotted: &str) -> Vec<String> {
    if dotted.contains("://") {
        return vec![dotted.to_owned()];
    }
    dotted.split('.').map(str::to_owned).collect()
}

/// The value at `path`.
pub(super) fn find<'m>(
    members: &'m Map<String, Value>,
    path: &[impl AsRef<str>],
) -> Option<&'m Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(members.get(first.as_ref())?, |value, step| {
            value.get(step.as_ref())
        })
}

/// A list of strings, or one string of words ([RFC 8693 §4.2](https://www.rfc-editor.org/rfc/rfc8693#section-4.2));
/// anything else is nothing.
pub(super) fn words(value: &Value) -> Vec<String> {
    match value {
        Value::String(words) => words
            .split(' ')
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect(),
        Value::Array(items) if items.iter().all(Value::is_string) => items
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}
