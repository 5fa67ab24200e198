//! The key of a call, by which layers keep separate states.

use std::{fmt, sync::Arc};

/// The key of a call, such as the name of a tenant, by which layers keep separate states. Clones share the text.
///
/// The `Debug` output omits the text, because it may identify a person.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallKey(Arc<str>);

impl CallKey {
    /// Returns the text of the key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for CallKey {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for CallKey {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Arc<str>> for CallKey {
    fn from(text: Arc<str>) -> Self {
        Self(text)
    }
}

impl fmt::Debug for CallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallKey(…)")
    }
}
