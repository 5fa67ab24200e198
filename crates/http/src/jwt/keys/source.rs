//! The source of a verifier's keys.

use std::{error::Error, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use super::KeySet;
use crate::jwt::jwks::Jwks;

/// An error for a source that currently has no usable keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// Time after which a retry may succeed.
    pub retry_after: Duration,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no keys are available to check tokens with")
    }
}

impl Error for Unavailable {}

/// The source of a verifier's keys: a configured set, or the JWK Set that an issuer publishes. Cheap to
/// clone, and all clones share replacements.
#[derive(Clone, Debug)]
pub struct Keys {
    source: Arc<ArcSwap<Source>>,
}

#[derive(Debug)]
enum Source {
    Given(Arc<KeySet>),
    Fetched(Jwks),
}

/// Completes at the end of a fetch.
pub(in crate::jwt) type Flight = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Keys {
    /// Switches this source and its clones to the keys of `other`. Tokens that are already being
    /// checked use the previous keys.
    pub fn replace(&self, other: impl Into<Self>) {
        self.source.store(other.into().source.load_full());
    }

    /// Returns the current keys.
    ///
    /// # Errors
    /// Returns an error if the keys are fetched and none have arrived yet, or the last ones are too
    /// old.
    pub fn current(&self) -> Result<Arc<KeySet>, Unavailable> {
        match &**self.source.load() {
            Source::Given(keys) => Ok(Arc::clone(keys)),
            Source::Fetched(jwks) => jwks.current(),
        }
    }

    /// Requests a fetch, which may return missing keys, and returns its end. Returns `None` if the keys
    /// are configured, or during the cooldown.
    pub(in crate::jwt) fn flight(&self) -> Option<Flight> {
        match &**self.source.load() {
            Source::Given(_) => None,
            Source::Fetched(jwks) => Some(Box::pin(jwks.flight()?)),
        }
    }
}

impl From<Source> for Keys {
    fn from(source: Source) -> Self {
        Self {
            source: Arc::new(ArcSwap::from_pointee(source)),
        }
    }
}

impl From<KeySet> for Keys {
    fn from(keys: KeySet) -> Self {
        Source::Given(Arc::new(keys)).into()
    }
}

impl From<Jwks> for Keys {
    fn from(jwks: Jwks) -> Self {
        Source::Fetched(jwks).into()
    }
}
