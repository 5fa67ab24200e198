//! Counts the interim responses (1xx) of one HTTP/1 call.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use http::{Extensions, Request};
use hyper::ext::on_informational;

use super::{ClientError, ClientErrorKind};

/// Maximum number of interim responses before the final one.
const MAX_INTERIM: u8 = 16;

/// The number of interim responses that hyper has reported for the current call of a connection.
pub(super) struct Interim {
    count: Arc<Mutex<Count>>,
    /// Holds the callback that counts. Cloning it costs less than to create one for each call.
    counted: Extensions,
}

#[derive(Default)]
struct Count {
    seen: u8,
    /// Wakes the call when the limit is exceeded. hyper itself wakes a call only for the final
    /// response.
    waker: Option<Waker>,
}

impl Interim {
    pub(super) fn new() -> Self {
        let count = Arc::<Mutex<Count>>::default();
        let counter = Arc::clone(&count);
        let mut request = Request::new(());
        on_informational(&mut request, move |_| {
            let mut count = counter.lock().unwrap_or_else(PoisonError::into_inner);
            count.seen = count.seen.saturating_add(1);
            if count.seen > MAX_INTERIM
                && let Some(waker) = count.waker.take()
            {
                waker.wake();
            }
        });
        let counted = request.into_parts().0.extensions;
        Self { count, counted }
    }

    /// Counts the interim responses to `request` from now on. hyper reports them for HTTP/1 only.
    pub(super) fn start<B>(&self, request: &mut Request<B>) {
        *self.count() = Count::default();
        request.extensions_mut().extend(self.counted.clone());
    }

    /// Forgets the task of the call, when it has its response. A connection must not keep what its last call shares
    /// with other calls.
    pub(super) fn end(&self) {
        self.count().waker = None;
    }

    /// Fails once more than [`MAX_INTERIM`] interim responses have arrived. Wakes the task of `cx` when that
    /// happens. Call it after hyper was polled: the head may have arrived together with too many of them.
    ///
    /// # Errors
    /// [`ClientErrorKind::BadHead`]. Ending the call closes its connection.
    pub(super) fn check(&self, cx: &mut Context<'_>) -> Result<(), ClientError> {
        let mut count = self.count();
        if count.seen > MAX_INTERIM {
            let error = ClientError::new(ClientErrorKind::BadHead);
            return Err(error.caused_by("more than 16 interim responses"));
        }
        match &mut count.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Ok(())
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
