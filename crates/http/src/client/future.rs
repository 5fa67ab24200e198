//! The future of one attempt.

use std::{
    fmt,
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use sync_wrapper::SyncWrapper;

use super::{ClientError, pool::Pool};

type Call = Pin<Box<dyn Future<Output = Result<Response<Bytes>, ClientError>> + Send>>;

/// The future of [`Client`](super::Client).
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(SyncWrapper<Call>);

impl ResponseFuture {
    pub(super) fn new(
        pool: &Arc<Pool>,
        request: Result<Request<Full<Bytes>>, ClientError>,
    ) -> Self {
        let pool = Arc::clone(pool);
        let call: Call = match request {
            // Each future that took the request by value would have room for it twice.
            Ok(mut request) => Box::pin(async move { pool.send(&mut request).await }),
            Err(error) => Box::pin(ready(Err(error))),
        };
        Self(SyncWrapper::new(call))
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<Bytes>, ClientError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.get_mut().as_mut().poll(cx)
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
