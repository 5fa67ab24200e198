//! The answer piece by piece: each service as it ends, then the summary.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};
use tower_fanout::{Answer, Run};
use tower_fanout_http::problem::{Code, Problem};

use super::{Asked, Envelope, Framing, MAX_ANSWER, compact::push_compact, service::Service};
use crate::{Json, problem};

/// How long a stream of events may be silent: proxies close connections that are silent for longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Makes one document of all answers.
type Merge = Box<dyn FnOnce(&Answer) -> Result<Json, Problem> + Send>;

/// A run as a body that sends each service as it ends, and then the summary.
///
/// The records have the facts of the answer in one piece: each service's part with its name and its
/// `data`, white space aside, and then the [`Envelope`] without the services. Since the status is sent
/// before the outcome is known, `success` of the summary decides. If it is false, the members of the
/// problem stand beside `data` and `meta`, but for its `type`, which its `code` says too. Events that
/// are silent for 15 s are kept alive with a comment.
///
/// The run goes on as the body is polled: nothing is spawned, a record is made when there is room
/// for it, and dropping the body drops the run with every branch. A client that reads slowly holds its
/// run up, and what that holds.
pub struct Partials<Req> {
    /// None when the summary was made.
    run: Option<Run<Req>>,
    framing: Framing,
    asked: Asked,
    merge: Option<Merge>,
    max: usize,
    sent: usize,
    too_large: bool,
    /// Armed when there is nothing to send, and dropped when there is.
    silence: Option<Pin<Box<Sleep>>>,
}

impl<Req> Partials<Req> {
    /// Sends `run` piece by piece.
    #[must_use]
    pub fn new(run: Run<Req>, framing: Framing, asked: Asked) -> Self {
        Self {
            run: Some(run),
            framing,
            asked,
            merge: None,
            max: MAX_ANSWER,
            sent: 0,
            too_large: false,
            silence: None,
        }
    }

    /// Sets what makes one document of all answers: the summary has it in `data.merged`, or is that of
    /// a failure if there is none.
    #[must_use]
    pub fn merge(
        mut self,
        merge: impl FnOnce(&Answer) -> Result<Json, Problem> + Send + 'static,
    ) -> Self {
        self.merge = Some(Box::new(merge));
        self
    }

    /// Sets how many bytes the services may have together, [`MAX_ANSWER`] by default. The first that
    /// does not fit has no `data`, all others are cancelled, and the summary is that of a failure.
    #[must_use]
    pub fn max_size(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    /// The response with this body: it is stored nowhere, and proxies are asked not to hold it back.
    #[must_use]
    pub fn into_response(self) -> Response<Self> {
        let media_type = HeaderValue::from_static(self.framing.media_type());
        let mut response = Response::new(self);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, media_type);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
        response
    }

    /// The record of a service that ended.
    fn service(&mut self, node: usize) -> Option<Bytes> {
        let run = self.run.as_mut()?;
        let name = &run.plan().names()[node];
        let service = Service::of(run.branch(node)).record(self.framing.kind("service"), name);
        let mut json = String::new();
        let data = run.at::<Json>(node).filter(|_| !self.too_large);
        service.push(&mut json, data);
        if self.sent + json.len() > self.max && !self.too_large {
            json.clear();
            service.push(&mut json, None);
            self.too_large = true;
            run.cancel();
        }
        self.sent += json.len();
        Some(self.framing.frame("service", &json))
    }

    /// The last record: all that is known when every service has ended.
    fn summary(&mut self) -> Option<Bytes> {
        let run = self.run.take()?;
        let plan = run.plan().clone();
        let answer = run.into_answer();
        let envelope = Envelope {
            asked: &self.asked,
            names: plan.names(),
            report: answer.report(),
        };
        let merged = match self.asked.strategy.verdict(answer.report()) {
            _ if self.too_large => Err(Problem::new(Code::AggregateTooLarge)),
            Some(verdict) => Err(problem(verdict)),
            None => self.merge.take().map(|merge| merge(&answer)).transpose(),
        };
        let json = match merged {
            Ok(merged) => envelope.success(&envelope.totals(merged.as_ref())),
            Err(problem) => {
                let problem = envelope.failure(problem, envelope.totals(None));
                let members = problem.to_json_untyped(Some(&self.asked.correlation_id));
                format!("{{\"success\":false,{}", &members[1..])
            }
        };
        let json = match self.framing.kind("summary") {
            Some(kind) => format!("{{\"type\":\"{kind}\",{}", &json[1..]),
            None => json,
        };
        Some(self.framing.frame("summary", &json))
    }

    /// The comment that keeps a silent stream of events alive, when it is due.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.framing != Framing::EventStream {
            return Poll::Pending;
        }
        let silence = (self.silence).get_or_insert_with(|| Box::pin(sleep(KEEP_ALIVE)));
        ready!(silence.as_mut().poll(cx));
        Poll::Ready(Some(Bytes::from_static(b":\n\n")))
    }
}

impl Framing {
    /// What a record says of its kind itself, where nothing else does.
    fn kind(self, kind: &'static str) -> Option<&'static str> {
        (self == Self::NdJson).then_some(kind)
    }

    /// A record on one line.
    fn frame(self, kind: &str, json: &str) -> Bytes {
        let mut out = String::with_capacity(json.len() + 32);
        if self == Self::EventStream {
            out.extend(["event: ", kind, "\ndata: "]);
        }
        push_compact(&mut out, json);
        out.push_str(match self {
            Self::EventStream => "\n\n",
            Self::NdJson => "\n",
        });
        out.into()
    }
}

impl<Req: tower_fanout::layers::Context + Unpin> Body for Partials<Req> {
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

impl<Req> fmt::Debug for Partials<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partials")
            .field("run", &self.run)
            .field("framing", &self.framing)
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}
