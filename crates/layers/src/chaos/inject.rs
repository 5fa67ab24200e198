//! The parts of an attempt that are injected.

use crate::classify::Failure;

/// The fault of one attempt, which the function given to [`ChaosLayer::new`](super::ChaosLayer::new) turns
/// into a response or an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Injected<Response> {
    /// The attempt fails like this.
    Error(Failure),
    /// It is answered with this status.
    Status(u16),
    /// The body of this answer breaks off after so many bytes.
    Truncate(Response, u64),
    /// The body of this answer breaks off before its first byte.
    ResetBody(Response),
}
