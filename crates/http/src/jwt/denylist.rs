//! Revoked tokens that have not expired yet.

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::SystemTime,
};

use super::config::MAX_LEEWAY;

/// The ids (`jti`) of revoked tokens. A clone is a handle to the same list.
///
/// An id is kept until `exp` + 300 s. The 300 s are the maximum of
/// [`VerifierConfig::leeway`](field@super::VerifierConfig::leeway), so that the token has expired by every
/// accepted clock. Then its place can be reused. The list lives in this process only and is empty at
/// start.
#[derive(Clone)]
pub struct DenyList {
    shared: Arc<Shared>,
}

struct Shared {
    /// Expiration time of the token, by its id.
    until: RwLock<HashMap<String, SystemTime>>,
    limit: usize,
}

/// The deny list is full, and the token was **not** revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DenyListFull;

impl fmt::Display for DenyListFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deny list is full, so the token was not revoked")
    }
}

impl Error for DenyListFull {}

/// Creates a list of at most 100,000 ids.
impl Default for DenyList {
    fn default() -> Self {
        Self::new(100_000)
    }
}

impl DenyList {
    /// Creates a list of at most `limit` ids. With a limit of 0 the list stays empty, and every
    /// [`revoke`](Self::revoke) fails.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                until: RwLock::default(),
                limit,
            }),
        }
    }

    /// Refuses the token with the id `jti` from now on. `until` is the expiration time of the token,
    /// its `exp`. If the id is already listed, the later time counts.
    ///
    /// # Errors
    /// Returns [`DenyListFull`] if the list holds `limit` unexpired ids and `jti` is not one of them.
    pub fn revoke(&self, jti: impl Into<String>, until: SystemTime) -> Result<(), DenyListFull> {
        let (jti, now) = (jti.into(), SystemTime::now());
        let ids = self.shared.until.write();
        let mut ids = ids.unwrap_or_else(PoisonError::into_inner);
        // Expired ids are removed only before the map would grow, so the cost per id stays small.
        if ids.len() >= ids.capacity().min(self.shared.limit) {
            ids.retain(|_, until| !has_expired(*until, now));
        }
        // Matters only for a new id, because a known one needs no room.
        let full = ids.len() >= self.shared.limit;
        match ids.get_mut(&jti) {
            Some(known) => *known = until.max(*known),
            None if full => return Err(DenyListFull),
            None => drop(ids.insert(jti, until)),
        }
        Ok(())
    }

    /// Returns the number of ids in the list. Includes expired ids until [`revoke`](Self::revoke) needs their
    /// place.
    #[must_use]
    pub fn len(&self) -> usize {
        let ids = self.shared.until.read();
        ids.unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Returns `true` if the list holds no ids.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn contains(&self, jti: &str, now: SystemTime) -> bool {
        let ids = self.shared.until.read();
        let ids = ids.unwrap_or_else(PoisonError::into_inner);
        ids.get(jti).is_some_and(|until| !has_expired(*until, now))
    }
}

/// Returns `true` if a token that expires at `until` has expired by every clock within [`MAX_LEEWAY`].
fn has_expired(until: SystemTime, now: SystemTime) -> bool {
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
