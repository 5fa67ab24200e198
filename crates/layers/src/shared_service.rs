//! What a call needs that may make several attempts: what its layer shares, and a service to call
//! later, if it comes to that.

use std::{fmt, ops::Deref};

use crate::sync::{Arc, Mutex, PoisonError};

/// What all services of a layer share, and a service that is cloned when a call makes a further
/// attempt: one pointer for both, so that a call that makes only one clones nothing else. It can be
/// shared among threads even if the service cannot.
pub(crate) struct SharedService<L, S> {
    layer: Arc<L>,
    spare: Mutex<S>,
}

impl<L, S: Clone> SharedService<L, S> {
    pub(crate) fn new(layer: Arc<L>, service: &S) -> Arc<Self> {
        let spare = Mutex::new(service.clone());
        Arc::new(Self { layer, spare })
    }

    /// A service that was never called, nor asked whether it is ready.
    pub(crate) fn spare(&self) -> S {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.clone()
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
