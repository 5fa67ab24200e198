//! How what is injected becomes an answer or an error.

use crate::classify::Failure;

/// What is injected into one attempt, for an [`Inject`] to make it.
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

/// Makes what is injected, for one type of answers and errors.
///
/// Any `Fn(Injected<Response>) -> Result<Response, E>` does. What has no body gives a truncated answer
/// back as it is, or fails. `InjectHttp` (feature `http`) is for HTTP.
pub trait Inject<Response, E> {
    /// What callers are answered: `Response`, or what can be broken in its place.
    type Response;

    /// The result of an attempt with something injected.
    ///
    /// # Errors
    /// What was injected is an error.
    fn inject(&self, injected: Injected<Response>) -> Result<Self::Response, E>;

    /// The answer of an attempt that is left alone.
    fn leave(response: Response) -> Self::Response;
}

impl<F, Response, E> Inject<Response, E> for F
where
    F: Fn(Injected<Response>) -> Result<Response, E>,
{
    type Response = Response;

    fn inject(&self, injected: Injected<Response>) -> Result<Response, E> {
        self(injected)
    }

    fn leave(response: Response) -> Response {
        response
    }
}
