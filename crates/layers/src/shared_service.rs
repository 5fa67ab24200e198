//! The shared part of a service that may send several attempts per call.

use std::{fmt, ops::Deref};

use crate::sync::{Arc, Mutex, lock};

/// The state of a layer, and a spare clone of its inner service for attempts after the first.
///
/// Both are behind one pointer, so that a call with a single attempt clones nothing else. The mutex makes
/// the type `Sync` even if the service is not.
pub(crate) struct SharedService<L, S> {
    layer: Arc<L>,
    spare: Mutex<S>,
}

impl<L, S: Clone> SharedService<L, S> {
    /// Creates the shared part with a clone of `service`.
    pub(crate) fn new(layer: Arc<L>, service: &S) -> Arc<Self> {
        let spare = Mutex::new(service.clone());
        Arc::new(Self { layer, spare })
    }

    /// Returns a fresh clone of the service. The spare is never called or polled for readiness.
    pub(crate) fn spare(&self) -> S {
        lock(&self.spare).clone()
    }
}

impl<L, S> Deref for SharedService<L, S> {
    type Target = L;

    #[inline]
    fn deref(&self) -> &L {
        &self.layer
    }
}

impl<L: fmt::Debug, S> fmt::Debug for SharedService<L, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.layer.fmt(f)
    }
}
