//! The response to a run that is not streamed.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use tower_fanout::{FanOutResponse, Verdict};
use tower_fanout_http::problem::{Code, Problem};
use tower_fanout_json::{
    problem,
    wire::{Envelope, RunMeta, server_timing},
};

use super::merged::{has_merged_document, merged_document};
use crate::route::Route;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The body and headers of a successful response.
pub(super) struct Reply {
    pub(super) body: Bytes,
    pub(super) completed: bool,
    pub(super) timing: Option<HeaderValue>,
}

impl Reply {
    /// Builds the response from the result of a run. `verdict` is `None` if the run is a success. A
    /// problem holds the same `data` and `meta` as a success, unless they are too large.
    pub(super) fn of(
        answer: &FanOutResponse,
        verdict: Option<Verdict>,
        meta: &RunMeta,
        route: &Route,
        timed: bool,
    ) -> Result<Self, Problem> {
        let (report, names) = (answer.report(), route.names());
        let envelope = Envelope {
            meta,
            names,
            report,
        };
        let merged = match verdict {
            Some(verdict) => Err(problem(verdict)),
            None if has_merged_document(&route.merge) => {
                merged_document(&route.merge, names, answer).map(Some)
            }
            None => Ok(None),
        };
        let timing = timed.then(|| server_timing(report, names));
        let answer = |node| answer.at(node);
        let problem = match merged {
            Ok(merged) => match envelope.success(answer, merged.as_ref()) {
                Some(body) => {
                    return Ok(Self {
                        body,
                        completed: report.is_complete(),
                        timing,
                    });
                }
                None => Problem::new(Code::AggregateTooLarge),
            },
            Err(problem) => envelope.failure(problem, answer),
        };
        Err(match timing {
            Some(timing) => problem.header(SERVER_TIMING, timing),
            None => problem,
        })
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = json_response(self.body);
        let headers = response.headers_mut();
        if !self.completed {
            headers.insert("x-fanout-completed", HeaderValue::from_static("false"));
        }
        if let Some(timing) = self.timing {
            headers.insert(SERVER_TIMING, timing);
        }
        response
    }
}

/// Builds a response with the JSON `body`, which caches must not store.
pub(crate) fn json_response(body: impl Into<Bytes>) -> Response<Body> {
    // With room for the headers that the layers above add.
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let mut response = Response::new(Body::from(body.into()));
    *response.headers_mut() = headers;
    response
}
