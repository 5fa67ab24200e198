//! Traffic for HTTP layers.

use std::{error::Error, marker::PhantomData};

use http::{HeaderMap, HeaderName, Request, Response};

use super::Traffic;

const NUMBER: HeaderName = HeaderName::from_static("x-number");

/// Traffic of `GET` requests and responses with status 200, with a boxed error (feature `http`).
///
/// The header `x-number` carries the number, and bodies are `B::default()`. If a layer changes the
/// type of a body, map the bodies back:
///
/// ```
/// use tower::util::MapResponse;
/// use tower_fanout_testkit::laws::{Http, Laws};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// Laws::new(Http::<String>::new(), |inner| {
///     // The layer under test responds with bytes.
///     let layered = MapResponse::new(inner, |response: http::Response<String>| {
///         response.map(Vec::from)
///     });
///     MapResponse::new(layered, |response: http::Response<Vec<u8>>| response.map(|_| String::new()))
/// })
/// .check()
/// .await;
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Http<B>(PhantomData<fn() -> B>);

impl<B> Http<B> {
    /// Creates traffic with bodies of type `B`.
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
    fn request_number(&self, request: &Request<B>) -> u64 {
        number_of(request.headers())
    }
    fn response(&self, number: u64) -> Response<B> {
        let mut response = Response::default();
        response.headers_mut().insert(NUMBER, number.into());
        response
    }
    fn response_number(&self, response: &Response<B>) -> u64 {
        number_of(response.headers())
    }
    fn error(&self) -> Self::Error {
        "the inner service failed".into()
    }
}

fn number_of(headers: &HeaderMap) -> u64 {
    let number = headers.get(NUMBER).and_then(|number| number.to_str().ok());
    let number = number.and_then(|number| number.parse().ok());
    number.expect("the layer must preserve the header `x-number`")
}
