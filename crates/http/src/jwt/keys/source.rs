//! Where a verifier finds its keys.

use std::{error::Error, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use arc_swap::ArcSwap;

use super::KeySet;
use crate::jwt::jwks::Jwks;

/// There are no keys to check tokens with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable {
    /// When it is worth asking again.
    pub retry_after: Duration,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there are no keys to check tokens with")
    }
}

impl Error for Unavailable {}

/// Where a verifier finds its keys: in a set that is given, or where an issuer publishes them. Cheap to
/// clone; clones are replaced together.
#[derive(Clone, Debug)]
pub struct Keys {
    source: Arc<ArcSwap<Source>>,
}

#[derive(Debug)]
enum Source {
    Given(Arc<KeySet>),
    Fetched(Jwks),
}

/// The end of a fetch.
pub(in crate::jwt) type Flight = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Keys {
    /// Finds them where `other` does from now on. Tokens that are being checked are checked with the
    /// keys they have begun with.
    pub fn replace(&self, other: impl Into<Self>) {
        self.source.store(other.into().source.load_full());
    }

    /// The keys now.
    ///
    /// # Errors
    /// They are fetched, and there are none, or none that are fresh enough.
    pub fn current(&self) -> Result<Arc<KeySet>, Unavailable> {
        match &**self.source.load() {
            Source::Given(keys) => Ok(Arc::clone(keys)),
            Source::Fetched(jwks) => jwks.current(),
        }
    }

    /// The end of a fetch that may bring keys that are not there yet, if there is or may be one now.
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
