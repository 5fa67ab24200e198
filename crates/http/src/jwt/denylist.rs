//! Tokens that are no longer good, though they have not expired.

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use super::config::MAX_LEEWAY;

/// The ids of tokens that were revoked. A clone is a handle to the same list.
///
/// An id is kept until its token has expired for all clocks that [`VerifierConfig::leeway`](field@super::VerifierConfig::leeway)
/// allows, then it makes room for others. The list is of this process alone, and empty at its start.
#[derive(Clone)]
pub struct DenyList {
    shared: Arc<Shared>,
}

struct Shared {
    /// When the token of an id expires.
    until: RwLock<HashMap<String, SystemTime>>,
    limit: usize,
}

/// The list has no room: the token was **not** revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenyListFull;

impl fmt::Display for DenyListFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the list of revoked tokens is full")
    }
}

impl Error for DenyListFull {}

/// A list of at most 100,000 ids.
impl Default for DenyList {
    fn default() -> Self {
        Self::new(100_000)
    }
}

impl DenyList {
    /// A list of at most `limit` ids.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                until: RwLock::default(),
                limit,
            }),
        }
    }

    /// Refuses the token `jti` from now on. `until` is when it expires, its `exp`.
    ///
    /// # Errors
    /// There are as many as may be, and none of them has expired.
    pub fn revoke(&self, jti: impl Into<String>, until: SystemTime) -> Result<(), DenyListFull> {
        let (jti, now) = (jti.into(), SystemTime::now());
        let ids = self.shared.until.write();
        let mut ids = ids.unwrap_or_else(PoisonError::into_inner);
        // Only where there would be more to hold, so that this costs little per id.
        if ids.len() >= ids.capacity().min(self.shared.limit) {
            ids.retain(|_, until| !is_over(*until, now));
        }
        let full = ids.len() >= self.shared.limit;
        match ids.get_mut(&jti) {
            Some(known) => *known = until.max(*known),
            None if full => return Err(DenyListFull),
            None => drop(ids.insert(jti, until)),
        }
        Ok(())
    }

    /// How many ids it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        let ids = self.shared.until.read();
        ids.unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn contains(&self, jti: &str, now: SystemTime) -> bool {
        let ids = self.shared.until.read();
        let ids = ids.unwrap_or_else(PoisonError::into_inner);
        ids.get(jti).is_some_and(|until| !is_over(*until, now))
    }
}

/// Whether nobody believes a token any more that expires at `until`.
fn is_over(until: SystemTime, now: SystemTime) -> bool {
    until
        .checked_add(MAX_LEEWAY)
        .is_some_and(|until| until < now)
}

impl fmt::Debug for DenyList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DenyList")
            .field("len", &self.len())
            .field("limit", &self.shared.limit)
            .finish()
    }
}
