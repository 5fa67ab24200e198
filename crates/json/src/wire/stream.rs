//! Streamed responses: a record for each service when it ends, then a summary.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};
use tower_fanout::{FanOutResponse, Run};
use tower_fanout_http::problem::{Code, Problem};

use super::{
    Envelope, MAX_ANSWER, RunMeta, StreamFormat,
    compact::push_compact,
    members::{Members, name},
    service::{optional, push_service},
};
use crate::{Json, problem};

/// Maximum time without data in an event stream: 15 s. Forwarded close connections that are idle for
/// longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Handles the problem of a run that failed.
type OnFailure = Box<dyn FnOnce(&Problem) + Send>;

/// Merges the responses of all nodes into one document.
type MergeAnswer = Box<dyn FnOnce(&FanOutResponse) -> Result<Json, Problem> + Send>;

/// A body that drives a run and sends a record for each service when it ends, then a summary.
///
/// The records contain the same members as the single-document response: each service with its name
/// and `data` (without white space between its parts), then the [`Envelope`] without the services.
///
/// The HTTP status is sent before the outcome is known, so the client must read `success` in the
/// summary. If it is `false`, the summary has the members of the problem beside `data` and `meta`.
/// The `type` of the problem is left out, because `code` identifies it.
///
/// The JSON text of all records but the summary is limited to [`MAX_ANSWER`], before white space is
/// removed. The first record that would exceed the limit is sent without `data`, as are all later
/// ones. The services that have not ended are cancelled, and the summary is that of a failure.
///
/// An event stream sends a comment after every 15 s without data, to keep the connection alive.
///
/// The run makes progress only while the body is polled. Nothing is spawned, each record is created
/// when the body is polled for it, and dropping the body drops the run with all its branches. A
/// client that reads slowly delays its run, which keeps its resources in the meantime.
pub struct RunStream<Req> {
    /// `None` once the summary has been created.
    run: Option<Run<Req>>,
    framing: StreamFormat,
    meta: RunMeta,
    merge: Option<MergeAnswer>,
    on_failure: Option<OnFailure>,
    sent: usize,
    too_large: bool,
    /// Timer for the next keep-alive comment. Set while no record is ready.
    silence: Option<Pin<Box<Sleep>>>,
}

impl<Req> RunStream<Req> {
    /// Creates a body that sends the results of `run` in the format `framing`.
    ///
    /// [`meta.strategy`](RunMeta::strategy) decides `success` in the summary. It must be the strategy of
    /// the [`FanOut`](tower_fanout::FanOut) that created `run`, which decides when the run ends. If they
    /// differ, the summary may report a success that the `FanOut` would return as a failure, or the
    /// reverse.
    #[must_use]
    pub fn new(run: Run<Req>, framing: StreamFormat, meta: RunMeta) -> Self {
        Self {
            run: Some(run),
            framing,
            meta,
            merge: None,
            on_failure: None,
            sent: 0,
            too_large: false,
            silence: None,
        }
    }

    /// Sets the function that merges the responses of all nodes.
    ///
    /// The function is called after a successful run. The summary has the document in
    /// `data.merged`. If the function returns an error, the summary is that of a failure.
    #[must_use]
    pub fn merge(
        mut self,
        merge: impl FnOnce(&FanOutResponse) -> Result<Json, Problem> + Send + 'static,
    ) -> Self {
        self.merge = Some(Box::new(merge));
        self
    }

    /// Sets a function that gets the problem if the run fails, just before the summary is created. For logs
    /// and metrics, because the status of the response says nothing about the failure.
    ///
    /// The function is not called if the body is dropped before the summary.
    #[must_use]
    pub fn on_failure(mut self, handle: impl FnOnce(&Problem) + Send + 'static) -> Self {
        self.on_failure = Some(Box::new(handle));
        self
    }

    /// Returns a `200` response with this body and the headers `cache-control: no-store`, which forbids
    /// caches to store the response, and `x-accel-buffering: no`, which turns off buffering in nginx and
    /// compatible proxies.
    #[must_use]
    pub fn into_response(self) -> Response<Self> {
        let media_type = HeaderValue::from_static(self.framing.media_type());
        let mut response = Response::new(self);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, media_type);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }

    /// Returns the record of the service `node`, which has ended.
    fn service(&mut self, node: usize) -> Option<Bytes> {
        let run = self.run.as_mut()?;
        let name = &*run.plan().names()[node];
        let (kind, branch) = (self.framing.kind("service"), run.branch(node));
        let record = |data: Option<&Json>| {
            let mut json = Vec::new();
            let first = |members: &mut Members<'_>| {
                optional(members, name!("type"), kind);
                members.text(name!("name"), name);
            };
            push_service(&mut json, branch, first, data);
            json
        };
        let mut json = record(run.at(node).filter(|_| !self.too_large));
        if self.sent + json.len() > MAX_ANSWER && !self.too_large {
            // The record itself is still sent, so that the client learns the status of the service.
            json = record(None);
            self.too_large = true;
            run.cancel();
        }
        self.sent += json.len();
        Some(self.framing.frame("service", &json))
    }

    /// Returns the last record, after all services have ended.
    fn summary(&mut self) -> Option<Bytes> {
        let run = self.run.take()?;
        let plan = run.plan().clone();
        let answer = run.into_response();
        let envelope = Envelope {
            meta: &self.meta,
            names: plan.names(),
            report: answer.report(),
        };
        let merged = match self.meta.strategy.verdict(answer.report()) {
            _ if self.too_large => Err(Problem::new(Code::AggregateTooLarge)),
            Some(verdict) => Err(problem(verdict)),
            None => self.merge.take().map(|merge| merge(&answer)).transpose(),
        };
        let json = match merged {
            Ok(merged) => envelope.success_summary(merged.as_ref()),
            Err(problem) => {
                if let Some(handle) = self.on_failure.take() {
                    handle(&problem);
                }
                let problem = envelope.failure_summary(problem);
                let members = problem.to_json_untyped(Some(&self.meta.correlation_id));
                // Replaces the opening brace of the members.
                [b"{\"success\":false,", &members.as_bytes()[1..]].concat()
            }
        };
        let json = match self.framing.kind("summary") {
            Some(kind) => [format!("{{\"type\":\"{kind}\",").as_bytes(), &json[1..]].concat(),
            None => json,
        };
        Some(self.framing.frame("summary", &json))
    }

    /// Polls for the keep-alive comment of an event stream. Other formats have none.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.framing != StreamFormat::EventStream {
            return Poll::Pending;
        }
        let silence = (self.silence).get_or_insert_with(|| Box::pin(sleep(KEEP_ALIVE)));
        ready!(silence.as_mut().poll(cx));
        Poll::Ready(Some(Bytes::from_static(b":\n\n")))
    }
}

impl StreamFormat {
    /// Returns the `type` member of a record, or `None` if the format names the type itself.
    fn kind(self, kind: &'static str) -> Option<&'static str> {
        (self == Self::NdJson).then_some(kind)
    }

    /// Returns a record with `json` on one line.
    fn frame(self, kind: &str, json: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(json.len() + 32);
        if self == Self::EventStream {
            for part in ["event: ", kind, "\ndata: "] {
                out.extend_from_slice(part.as_bytes());
            }
        }
        push_compact(&mut out, json);
        out.extend_from_slice(match self {
            Self::EventStream => b"\n\n",
            Self::NdJson => b"\n",
        });
        out.into()
    }
}

impl<Req: tower_fanout::layers::CallContext + Unpin> Body for RunStream<Req> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let Some(run) = &mut this.run else {
            return Poll::Ready(None);
        };
        let record = match run.poll_next(cx) {
            Poll::Ready(Some(node)) => this.service(node),
            Poll::Ready(None) => this.summary(),
            Poll::Pending => ready!(this.poll_silence(cx)),
        };
        this.silence = None;
        Poll::Ready(record.map(|record| Ok(Frame::data(record))))
    }

    fn is_end_stream(&self) -> bool {
        self.run.is_none()
    }
}

impl<Req> fmt::Debug for RunStream<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunStream")
            .field("run", &self.run)
            .field("framing", &self.framing)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}
