//! The functions that read the key of a request.

use crate::call::{CallContext, CallKey};

/// Reads the key of a request, for a [`PerKeyLayer`](super::PerKeyLayer). Implemented for functions, and for
/// [`ByCall`].
pub trait RequestKey<Req> {
    /// The type of the key.
    type Key;

    /// Returns the key of `request`.
    fn key(&self, request: &Req) -> Self::Key;
}

impl<F, Req, K> RequestKey<Req> for F
where
    F: Fn(&Req) -> K,
{
    type Key = K;

    #[inline]
    fn key(&self, request: &Req) -> K {
        self(request)
    }
}

/// Reads the key that the call carries: [`Call::key`](field@crate::Call::key). All calls without a key share one
/// state.
///
/// In contrast to a function, the type has no parameter for the request, so a stack of layers with it can be
/// named before the request is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByCall;

impl<Req: CallContext> RequestKey<Req> for ByCall {
    type Key = Option<CallKey>;

    #[inline]
    fn key(&self, request: &Req) -> Option<CallKey> {
        request.call().key.clone()
    }
}
