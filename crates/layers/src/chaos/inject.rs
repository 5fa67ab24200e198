//! The fault that a layer passes to the user's function.

use crate::classify::Failure;

/// The fault of one attempt, which the function given to [`ChaosLayer::new`](super::ChaosLayer::new) turns
/// into a response or an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Injected<Response> {
    /// The attempt fails with this failure.
    Error(Failure),
    /// The attempt ends with a response with this status.
    Status(u16),
    /// The body of this response breaks off after this number of bytes.
    Truncate(Response, u64),
    /// The body of this response breaks off before its first byte.
    ResetBody(Response),
}
