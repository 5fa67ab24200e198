//! Bodies of requests that are sent while they are read.
//!
//! [`UploadLayer`] (feature `http`) turns `Request<B>` into `Request<ReplayBody<B>>`:
//!
//! - The body can be sent again. What is read of it is kept for the next attempt, up to a size; a
//!   body that is larger goes out once, whole, and its request is not retried. Nothing is kept for
//!   an attempt that is the last one anyway. A request whose answer came before its body was read
//!   to the end is not retried either.
//! - Timeouts know when it has been sent: the time that a slow caller takes to upload is not blamed
//!   on the service.
//!
//! It goes above the layers that make attempts.

#[cfg(feature = "http")]
mod body;
#[cfg(feature = "http")]
mod layer;

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

#[cfg(feature = "http")]
pub use self::{
    body::ReplayBody,
    layer::{UploadLayer, Uploading},
};

/// How far the body of a call's request has been sent: whoever sends it tells, and the layers read
/// it. [`UploadLayer`](self) does so for an `http::Request`.
#[derive(Default)]
pub struct Upload(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    progress: Progress,
    /// The caller's body was read to its end.
    whole: bool,
    /// A part of it was not kept.
    lost: bool,
}

/// How far an attempt has sent the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nobody has asked for it.
    #[default]
    Waiting,
    Sending,
    Sent(Instant),
}

impl Upload {
    /// An attempt begins to send the body.
    pub fn sending(&self) {
        self.state().progress = Progress::Sending;
    }

    /// An attempt has sent the body.
    pub fn sent(&self, now: Instant) {
        self.state().progress = Progress::Sent(now);
    }

    /// The caller's body was read to its end.
    pub fn whole(&self) {
        self.state().whole = true;
    }

    /// A part of the body was not kept: the request cannot be made again.
    pub fn lost(&self) {
        self.state().lost = true;
    }

    /// Whether the request can be made again, after an attempt that was `answered` or was not.
    pub(crate) fn is_repeatable(&self, answered: bool) -> bool {
        let state = self.state();
        !state.lost && (state.whole || !answered)
    }

    /// How far the latest attempt is.
    pub(crate) fn progress(&self) -> Progress {
        self.state().progress
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state().fmt(f)
    }
}
