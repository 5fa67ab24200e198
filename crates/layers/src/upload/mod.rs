//! Request bodies that are sent while the caller still uploads them.
//!
//! `UploadLayer` (feature `http`) turns `Request<B>` into `Request<ReplayBody<B>>`:
//!
//! - **The body can be sent again.** The frames that an attempt has read are kept for the next attempt,
//!   up to a size. A larger body is sent once, completely, and its request is not retried. No frames
//!   are kept during the last attempt, when no clone of the request is left. If the response arrives
//!   before the whole body has been read, the request is not retried either. After an error, such as a
//!   failed connect, the request can be sent again even if no frame or only a part of the body was read.
//! - **An attempt timeout excludes the waits for the caller.** The time that a slow caller needs for the
//!   upload does not count as time of the service.
//!
//! Put the layer above the layers that make attempts.

#[cfg(feature = "http")]
mod body;
#[cfg(feature = "http")]
mod layer;

use std::{
    fmt,
    sync::{Arc, Weak},
};

use tokio::time::Instant;

#[cfg(feature = "http")]
pub use self::{
    body::ReplayBody,
    layer::{UploadLayer, Uploading},
};
use crate::sync::{Mutex, lock};

/// Progress of one attempt with the body of its request.
///
/// The code that sends the body reports to this handle, and the layers read it. `UploadLayer` (feature
/// `http`) does so for an `http::Request`.
///
/// A request is cloned for another attempt, and its upload is cloned with it. The clones share the state
/// of the caller's body, but each attempt has its own waits. The body of the cloned request gets its
/// handle from [`for_cloned_body`](Self::for_cloned_body).
///
/// | method | handle for |
/// |---|---|
/// | [`share`](Self::share) | the body of the same request |
/// | `clone` | the [`Call`](crate::Call) of a cloned request |
/// | [`for_cloned_body`](Self::for_cloned_body) | the body of a cloned request |
///
/// ```
/// use tower_fanout_layers::{CallContext, WithCall, upload::Upload};
///
/// struct Body(Upload);
///
/// impl Clone for Body {
///     fn clone(&self) -> Self {
///         Self(self.0.for_cloned_body())
///     }
/// }
///
/// let upload = Upload::default();
/// let mut first = WithCall::new(Body(upload.share()));
/// first.call_mut().unwrap().upload = Some(upload);
///
/// let second = first.clone(); // clones the `Call` before the body
/// second.get().0.start_waiting(); // extends the timeout of the second attempt only
/// second.get().0.stop_waiting();
/// second.get().0.mark_complete(); // applies to both attempts
/// ```
#[derive(Default)]
pub struct Upload(Arc<Transfer>);

/// State of one attempt.
#[derive(Default)]
struct Transfer {
    wait: Mutex<Wait>,
    caller: Arc<Mutex<Caller>>,
}

/// State of the caller's body, which all attempts share.
#[derive(Default)]
struct Caller {
    /// The body has been read to its end.
    complete: bool,
    /// A part of the body was not kept.
    unrepeatable: bool,
    /// The upload that was cloned last, until the body of its request is cloned too.
    cloned: Weak<Transfer>,
}

/// The wait of an attempt for the caller to send more of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The attempt has never waited.
    #[default]
    Never,
    /// The attempt is waiting.
    Now,
    /// The last wait ended at this time.
    Until(Instant),
}

impl Upload {
    /// Returns another handle for the same attempt, to be used by the body of this request.
    #[must_use]
    pub fn share(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    /// Returns the handle for a body that is cloned along with its request.
    ///
    /// Relies on the request cloning its [`Call`](crate::Call) before its body, as `http::Request` does
    /// with its extensions, and [`WithCall`](crate::WithCall). A body that is cloned without its request
    /// gets a new handle.
    #[must_use]
    pub fn for_cloned_body(&self) -> Self {
        let cloned = std::mem::take(&mut lock(&self.0.caller).cloned);
        // `Clone` has stored the upload of the cloned request a moment ago.
        match cloned.upgrade() {
            Some(attempt) => Self(attempt),
            None => self.next_attempt(),
        }
    }

    /// Reports that the attempt waits for the caller to send more of the body.
    pub fn start_waiting(&self) {
        *lock(&self.0.wait) = Wait::Now;
    }

    /// Reports that the attempt no longer waits. Has no effect if the attempt did not wait.
    pub fn stop_waiting(&self) {
        let mut wait = lock(&self.0.wait);
        if *wait == Wait::Now {
            *wait = Wait::Until(Instant::now());
        }
    }

    /// Reports that the caller's body has been read to its end.
    pub fn mark_complete(&self) {
        lock(&self.0.caller).complete = true;
    }

    /// Reports that a part of the body was not kept or never arrived, so the request cannot be sent again.
    pub fn mark_unrepeatable(&self) {
        lock(&self.0.caller).unrepeatable = true;
    }

    /// Returns `true` if the request can be sent again. `answered` is `true` after a response.
    ///
    /// After a response, the whole body must have been read: the rest of a partly read body may never come.
    pub(crate) fn is_repeatable(&self, answered: bool) -> bool {
        let caller = lock(&self.0.caller);
        !caller.unrepeatable && (caller.complete || !answered)
    }

    pub(crate) fn wait(&self) -> Wait {
        *lock(&self.0.wait)
    }

    /// Creates the upload of another attempt with the same body.
    fn next_attempt(&self) -> Self {
        Self(Arc::new(Transfer {
            wait: Mutex::default(),
            caller: Arc::clone(&self.0.caller),
        }))
    }
}

/// Creates the upload of another attempt.
impl Clone for Upload {
    fn clone(&self) -> Self {
        let clone = self.next_attempt();
        lock(&self.0.caller).cloned = Arc::downgrade(&clone.0);
        clone
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wait = self.wait();
        let caller = lock(&self.0.caller);
        f.debug_struct("Upload")
            .field("wait", &wait)
            .field("complete", &caller.complete)
            .field("unrepeatable", &caller.unrepeatable)
            .finish_non_exhaustive()
    }
}
