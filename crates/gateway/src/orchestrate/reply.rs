//! The response to a run that is not streamed.

use axum::{body::Body, response::IntoResponse};
use http::{HeaderName, HeaderValue, Response, header};
use tower_fanout::{FanOutResponse, Verdict};
use tower_fanout_http::problem::{Code, Problem};
use tower_fanout_json::{
    problem,
    wire::{Envelope, MAX_ANSWER, RunMeta, server_timing},
};

use super::merged::{has_merged_document, merged_document};
use crate::route::Route;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The body and headers of a successful response.
pub(super) struct Reply {
    pub(super) body: String,
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
        let document = merged.as_ref().ok().and_then(Option::as_ref);
        let data = envelope.data(|node| answer.at(node), document);
        let timing = timed.then(|| server_timing(report, names));
        // Checked before the envelope is built, so that a large response is not copied.
        let fits = data.len() <= MAX_ANSWER;
        let problem = match merged {
            Ok(_) if fits => {
                return Ok(Self {
                    body: envelope.success(&data),
                    completed: report.is_complete(),
                    timing,
                });
            }
            Ok(_) => Problem::new(Code::AggregateTooLarge),
            Err(problem) if fits => envelope.failure(problem, data),
            Err(problem) => problem,
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
pub(crate) fn json_response(body: String) -> Response<Body> {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, body).into_response()
}
