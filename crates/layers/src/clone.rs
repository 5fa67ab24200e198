//! Bounds on `Clone` whose error messages name the cure.

/// A service that is `Clone`, as most layers require. Implemented for every type that is `Clone`.
///
/// A layer calls a clone of the service if the service is not ready, or for another attempt. For a service that
/// is not `Clone`, use tower's `Buffer`.
#[diagnostic::on_unimplemented(
    message = "the service `{Self}` is not `Clone`, which layers need for waiting and for further attempts",
    label = "put tower's `Buffer` around this service, or make it `Clone`"
)]
pub trait CloneService: Clone {}

#[diagnostic::do_not_recommend]
impl<S: Clone> CloneService for S {}

/// A request that is `Clone`, as layers require that send the request more than once. Implemented for every type
/// that is `Clone`.
///
/// An `http::Request` is `Clone` if its body is. `UploadLayer` (feature `http`) makes any body `Clone`.
#[diagnostic::on_unimplemented(
    message = "the request `{Self}` is not `Clone`, which further attempts need, and fallbacks other than `response_with`",
    label = "make this request `Clone`; for the body of an `http::Request`, use `UploadLayer` (feature `http`)"
)]
pub trait CloneRequest: Clone {}

#[diagnostic::do_not_recommend]
impl<Req: Clone> CloneRequest for Req {}

/// A response that is `Clone`, as a fixed response of a fallback must be. Implemented for every type that is
/// `Clone`.
#[diagnostic::on_unimplemented(
    message = "the response `{Self}` is not `Clone`: use `.response_with(|_| …)`, which creates each response"
)]
pub trait CloneResponse: Clone {}

#[diagnostic::do_not_recommend]
impl<Res: Clone> CloneResponse for Res {}
