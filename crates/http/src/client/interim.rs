//! Counts the interim responses (1xx) of one HTTP/1 call.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
};

use http::Request;
use hyper::ext::on_informational;

/// Maximum number of interim responses before the final one.
const MAX_INTERIM: u8 = 16;

/// Number of interim responses that hyper has reported for one call.
pub(super) struct Interim(Arc<Mutex<Count>>);

#[derive(Default)]
struct Count {
    seen: u8,
    /// Wakes the call when the limit is exceeded. hyper itself wakes a call only for the final
    /// response.
    waker: Option<Waker>,
}

impl Interim {
    /// Counts the interim responses to `request`. hyper reports them for HTTP/1 only.
    pub(super) fn count<B>(request: &mut Request<B>) -> Self {
        let count = Arc::<Mutex<Count>>::default();
        let counted = Arc::clone(&count);
        on_informational(request, move |_| {
            let mut count = counted.lock().unwrap_or_else(PoisonError::into_inner);
            count.seen = count.seen.saturating_add(1);
            if count.seen > MAX_INTERIM
                && let Some(waker) = count.waker.take()
            {
                waker.wake();
            }
        });
        Self(count)
    }

    /// Ready once more than [`MAX_INTERIM`] interim responses have arrived.
    pub(super) fn poll_exceeded(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut count = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if count.seen > MAX_INTERIM {
            return Poll::Ready(());
        }
        match &mut count.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}
