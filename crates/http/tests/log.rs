//! The log lines of a request have the fields of its span until its body has ended.

use std::{
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::{ServiceBuilder, ServiceExt};
use tower_fanout_http::{
    correlation::{CorrelationConfig, CorrelationLayer},
    log::{InstrumentedBody, RequestSpanLayer},
    trace::TraceLayer,
};

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A body that logs when it is polled.
struct LoggingBody;

impl Body for LoggingBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        tracing::info!("sending");
        Poll::Ready(None)
    }
}

#[tokio::test]
async fn fault_c1_c17_the_span_of_a_request_lasts_until_its_body_ends() {
    let written = Written::default();
    let writer = written.clone();
    let lines = tracing_subscriber::fmt()
        .json()
        .with_writer(move || writer.clone());
    let _default = tracing::subscriber::set_default(lines.finish());
    let service = ServiceBuilder::new()
        .layer(CorrelationLayer::new(
            CorrelationConfig::default().trust(false),
        ))
        .layer(TraceLayer::new())
        .layer(RequestSpanLayer::new())
        .service_fn(|_: Request<()>| async {
            tracing::info!("called");
            tokio::task::yield_now().await;
            tracing::info!("resumed");
            Ok::<_, Infallible>(Response::new(InstrumentedBody::current(LoggingBody)))
        });
    let request = Request::get("/a").header("x-request-id", "theirs\t");
    let response = service.oneshot(request.body(()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    body.collect().await.unwrap();
    tracing::info!("after");
    let log = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let messages: Vec<_> = lines
        .iter()
        .map(|line| line["fields"]["message"].as_str().unwrap())
        .collect();
    assert_eq!(messages, ["called", "resumed", "sending", "after"]);
    let id = parts.headers["x-correlation-id"].to_str().unwrap();
    for line in &lines[..3] {
        let span = &line["span"];
        assert_eq!(span["correlation_id"], id);
        assert_eq!(span["trace_id"].as_str().unwrap().len(), 32);
        assert_eq!(span["client_request_id"], "theirs\\t");
        assert_eq!([&span["method"], &span["path"]], ["GET", "/a"]);
    }
    assert_eq!(lines[3].get("span"), None);
}
