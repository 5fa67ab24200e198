//! A body with limits of size and time.

use std::{
    error::Error,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_fanout_layers::{Deadline, clock};

use super::BodyError;

pin_project! {
    /// A body that fails at the first byte above its limit, and if it has not ended within its time.
    ///
    /// The time begins when the value is created. The timer is registered only when the body first
    /// has to wait for data. After an error every further poll returns the same error.
    #[derive(Debug)]
    pub struct LimitedBody<B> {
        #[pin]
        inner: B,
        remaining: usize,
        deadline: Option<Deadline>,
        #[pin]
        timer: Option<Sleep>,
        failed: Option<BodyError>,
        // Receives a copy of the error.
        report: Option<Arc<OnceLock<BodyError>>>,
    }
}

impl<B> LimitedBody<B> {
    /// Limits `inner` to `max` bytes and to `timeout` from now.
    ///
    /// Must be polled within a tokio runtime.
    #[must_use]
    pub fn new(inner: B, max: usize, timeout: Duration) -> Self {
        Self {
            inner,
            remaining: max,
            deadline: Deadline::after(clock::now(), timeout),
            timer: None,
            failed: None,
            report: None,
        }
    }

    /// Stores the error in `report` too.
    pub(super) fn reporting(self, report: Arc<OnceLock<BodyError>>) -> Self {
        Self {
            report: Some(report),
            ..self
        }
    }
}

impl<B> Body for LimitedBody<B>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BodyError>>> {
        let polled = match self.failed {
            // The inner body must not be polled after it failed.
            Some(error) => Poll::Ready(Some(Err(error))),
            None => self.as_mut().poll_limited(cx),
        };
        if let Poll::Ready(Some(Err(error))) = &polled {
            let this = self.project();
            *this.failed = Some(*error);
            if let Some(report) = this.report {
                report.get_or_init(|| *error);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.failed.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let remaining = self.remaining as u64;
        let mut hint = self.inner.size_hint();
        if hint.lower() > remaining {
            hint = SizeHint::new();
        }
        hint.set_upper(hint.upper().map_or(remaining, |upper| upper.min(remaining)));
        hint
    }
}

impl<B> LimitedBody<B>
where
    B: Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn poll_limited(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BodyError>>> {
        let mut this = self.project();
        match this.inner.poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let size = frame.data_ref().map_or(0, Buf::remaining);
                let Some(remaining) = this.remaining.checked_sub(size) else {
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                };
                *this.remaining = remaining;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let error = BodyError::find(&*error.into()).unwrap_or(BodyError::Broken);
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let Some(deadline) = this.deadline else {
                    return Poll::Pending;
                };
                if this.timer.is_none() {
                    this.timer.set(Some(sleep_until(deadline.instant())));
                }
                let timer = this.timer.as_pin_mut();
                timer.map_or(Poll::Pending, |timer| {
                    timer.poll(cx).map(|()| Some(Err(BodyError::Timeout)))
                })
            }
        }
    }
}
