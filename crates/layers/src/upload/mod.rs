//! Bodies of requests that are sent while they are read.
//!
//! `UploadLayer` (feature `http`) turns `Request<B>` into `Request<ReplayBody<B>>`:
//!
//! - The body can be sent again. What is read of it is kept for the next attempt, up to a size; a
//!   body that is larger goes out once, whole, and its request is not retried. Nothing is kept for
//!   an attempt that is the last one anyway. A request whose answer came before its body was read
//!   to the end is not retried either.
//! - Timeouts know when an attempt waits for the caller: the time that a slow caller takes to upload
//!   is not blamed on the service.
//!
//! It goes above the layers that make attempts.

#[cfg(feature = "http")]
mod body;
#[cfg(feature = "http")]
mod layer;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::time::Instant;

#[cfg(feature = "http")]
pub use self::{
    body::ReplayBody,
    layer::{UploadLayer, Uploading},
};

/// How far one attempt is with the body of its request: whoever sends the body tells, and the layers
/// read it. `UploadLayer` (feature `http`) does so for an `http::Request`.
///
/// The clone of a request is for another attempt, and so is the clone of its upload: they share what
/// is known of the caller's body, but each waits for the caller by itself. The body of the clone
/// tells by [`of_clone`](Self::of_clone).
#[derive(Default)]
pub struct Upload(Arc<Transfer>);

#[derive(Default)]
struct Transfer {
    wait: Mutex<Wait>,
    caller: Arc<Mutex<Caller>>,
}

/// What is known of the caller's body.
#[derive(Default)]
struct Caller {
    /// It was read to its end.
    whole: bool,
    /// A part of it was not kept.
    lost: bool,
    /// The upload that was cloned last, until the body that belongs to it is.
    cloned: Weak<Transfer>,
}

/// Whether an attempt waits for the caller to go on with the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It never had to.
    #[default]
    Never,
    Now,
    /// It did until then.
    Until(Instant),
}

impl Upload {
    /// The same, for whoever sends the body of this request.
    #[must_use]
    pub fn same(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// That of the request which is being cloned, for the clone of its body. A body that is cloned
    /// without its request has one of its own. Facts are cloned before the body, as those of an
    /// `http::Request` are.
    #[must_use]
    pub fn of_clone(&self) -> Self {
        let cloned = std::mem::take(&mut self.caller().cloned);
        match cloned.upgrade() {
            Some(attempt) => Self(attempt),
            None => self.another(),
        }
    }

    /// The attempt waits for the caller to go on.
    pub fn waits(&self) {
        *lock(&self.0.wait) = Wait::Now;
    }

    /// The attempt waits no longer, if it did.
    pub fn goes_on(&self) {
        let mut wait = lock(&self.0.wait);
        if *wait == Wait::Now {
            *wait = Wait::Until(Instant::now());
        }
    }

    /// The caller's body was read to its end.
    pub fn whole(&self) {
        self.caller().whole = true;
    }

    /// A part of the body was not kept, or never came: the request cannot be made again.
    pub fn lost(&self) {
        self.caller().lost = true;
    }

    /// Whether the request can be made again, after an attempt that was `answered` or was not.
    pub(crate) fn is_repeatable(&self, answered: bool) -> bool {
        let caller = self.caller();
        !caller.lost && (caller.whole || !answered)
    }

    pub(crate) fn wait(&self) -> Wait {
        *lock(&self.0.wait)
    }

    fn another(&self) -> Self {
        Self(Arc::new(Transfer {
            wait: Mutex::default(),
            caller: Arc::clone(&self.0.caller),
        }))
    }

    fn caller(&self) -> MutexGuard<'_, Caller> {
        lock(&self.0.caller)
    }
}

/// For another attempt.
impl Clone for Upload {
    fn clone(&self) -> Self {
        let clone = self.another();
        self.caller().cloned = Arc::downgrade(&clone.0);
        clone
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wait = self.wait();
        let caller = self.caller();
        f.debug_struct("Upload")
            .field("wait", &wait)
            .field("whole", &caller.whole)
            .field("lost", &caller.lost)
            .finish_non_exhaustive()
    }
}
