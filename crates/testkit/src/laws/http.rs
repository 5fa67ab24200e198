//! What the laws send through a layer for HTTP.

use std::{error::Error, marker::PhantomData};

use http::{HeaderMap, HeaderName, Request, Response};

use super::Traffic;

const NUMBER: HeaderName = HeaderName::from_static("x-number");

/// Traffic of `GET` requests and answers 200, which bear their number in the header `x-number`, with
/// default bodies; it fails with a boxed error.
///
/// A layer that changes the type of a body is tried with the bodies mapped back:
///
/// ```
/// use tower::util::MapResponse;
/// use tower_fanout_testkit::laws::{Http, Laws};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// Laws::new(Http::<String>::new(), |inner| {
///     // The layer that is tried answers with bytes.
///     let layered = MapResponse::new(inner, |answer: http::Response<String>| answer.map(Vec::from));
///     MapResponse::new(layered, |answer: http::Response<Vec<u8>>| answer.map(|_| String::new()))
/// })
/// .check()
/// .await;
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Http<B>(PhantomData<fn() -> B>);

impl<B> Http<B> {
    /// Traffic with bodies of the type `B`.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<B: Clone + Default + Send + 'static> Traffic for Http<B> {
    type Request = Request<B>;
    type Response = Response<B>;
    type Error = Box<dyn Error + Send + Sync>;

    fn request(&self, number: u64) -> Request<B> {
        let mut request = Request::default();
        request.headers_mut().insert(NUMBER, number.into());
        request
    }
    fn sent(&self, request: &Request<B>) -> u64 {
        of(request.headers())
    }
    fn response(&self, number: u64) -> Response<B> {
        let mut response = Response::default();
        response.headers_mut().insert(NUMBER, number.into());
        response
    }
    fn received(&self, response: &Response<B>) -> u64 {
        of(response.headers())
    }
    fn error(&self) -> Self::Error {
        "the inner service failed".into()
    }
}

fn of(headers: &HeaderMap) -> u64 {
    let number = headers.get(NUMBER).and_then(|number| number.to_str().ok());
    let number = number.and_then(|number| number.parse().ok());
    number.expect("the layer leaves `x-number` as it is")
}
