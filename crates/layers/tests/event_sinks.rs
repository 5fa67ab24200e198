//! Tests of the ready-made sinks for `metrics` and `tracing`.
#![cfg(any(feature = "metrics", feature = "tracing"))]
#![allow(missing_docs)]

mod common;

use common::*;
use tower::{Layer, ServiceExt};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, ClassifyResult, ConcurrencyConfig, ConcurrencyLayer, EventSink,
    FallbackLayer, HedgeConfig, HedgeLayer, Rejection, RetryConfig, RetryLayer, event::SentLayer,
    hedge::HedgeDelay,
};

fn breaker(sink: impl EventSink + 'static) -> BreakerLayer<ClassifyResult> {
    let config = BreakerConfig::new().consecutive_failures(1);
    let layer = BreakerLayer::new("users", config, ClassifyResult).unwrap();
    layer.events(sink)
}

/// Causes events of all kinds that the sinks name. Each has a different number.
async fn traffic(sink: impl EventSink + Clone + 'static) {
    let retry = RetryConfig::new().max_attempts(3);
    let retry = RetryLayer::new(retry, ClassifyResult).unwrap();
    let sent = SentLayer::new().events(sink.clone());
    let broken = sent.layer(script().fail(BROKEN));
    let retry = retry.events(sink.clone()).layer(broken);
    retry.oneshot(idempotent_request()).await.unwrap_err();

    let hedge = HedgeConfig::new().delay(HedgeDelay::Fixed(ms(10)));
    let hedge = HedgeLayer::new(hedge, ClassifyResult).unwrap();
    let slow = sent.layer(script().respond(1).after(ms(15)));
    let hedge = hedge.events(sink.clone()).layer(slow);
    hedge.oneshot(idempotent_request()).await.unwrap();

    let limit = ConcurrencyConfig::new()
        .max(1_u32)
        .queue(1_u32)
        .max_wait(ms(900));
    let limit = ConcurrencyLayer::new(limit).unwrap();
    let limit = limit.events(sink.clone());
    // Two of the three calls are sent. The third one is rejected.
    let limit = limit.layer(sent.layer(script().respond(1).after(ms(250))));
    let call = || limit.clone().oneshot(idempotent_request());
    let results = tokio::join!(call(), call(), call());
    assert_eq!(results.2, Err(Fault::Refused(Rejection::AtCapacity)));

    let fallback = FallbackLayer::new(ClassifyResult)
        .function(|_, _| async { Err(UNREACHED) })
        .response(7);
    let fallback = fallback.events(sink.clone()).layer(script().fail(BROKEN));
    fallback.oneshot(idempotent_request()).await.unwrap();

    let layer = breaker(sink);
    let service = layer.layer(script().fail(BROKEN));
    for _ in 0..3 {
        let _ = service.clone().oneshot(idempotent_request()).await;
    }
    drop(layer.handle().force_open());
}

#[cfg(feature = "metrics")]
mod counts {
    use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
    use tower_fanout_layers::event::MetricsSink;

    use super::*;

    /// Returns the lines of the page whose value is not 0, and those whose value is 0.
    fn lines(recorder: &PrometheusRecorder) -> (Vec<String>, Vec<String>) {
        let page = recorder.handle().render();
        let lines = page.lines().filter(|line| line.starts_with("fanout_"));
        lines
            .map(str::to_owned)
            .partition(|line| !line.ends_with(" 0"))
    }

    fn recorder() -> PrometheusRecorder {
        let builder = PrometheusBuilder::new().set_buckets(&[0.1, 0.3]);
        builder.unwrap().build_recorder()
    }

    #[tokio::test(start_paused = true)]
    async fn ev_11_metrics_are_registered_with_the_sink() {
        let recorder = recorder();
        let _sink = metrics::with_local_recorder(&recorder, || MetricsSink::new("users"));
        let (counted, zero) = lines(&recorder);
        assert_eq!(counted, [""; 0]);
        for series in [
            r#"attempts_total{name="users"}"#,
            r#"breaker_transitions_total{name="users",to="shadow_mode"}"#,
            r#"fallbacks_total{name="users",fallback="stale"}"#,
            r#"rejected_total{name="users",reason="descriptor_limit"}"#,
            r#"retries_stopped_total{name="users",by="body"}"#,
        ] {
            let line = format!("fanout_{series} 0");
            assert!(zero.contains(&line), "{line}: {zero:#?}");
        }
        let page = recorder.handle().render();
        for family in zero.iter().map(|line| line.split('{').next().unwrap()) {
            let mut parts = ["_bucket", "_sum", "_count"].into_iter();
            let family = parts
                .find_map(|part| family.strip_suffix(part))
                .unwrap_or(family);
            assert!(page.contains(&format!("# HELP {family} ")), "{family}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ev_12_metrics_count_events_by_reason() {
        let recorder = recorder();
        let labels = [("downstream", "users"), ("route", "a")];
        let sink = metrics::with_local_recorder(&recorder, || MetricsSink::with_labels(labels));
        traffic(sink).await;
        let (mut counted, _) = lines(&recorder);
        counted.sort();
        let labels = r#"downstream="users",route="a""#;
        let expected = [
            format!("attempts_total{{{labels}}} 7"),
            format!(r#"breaker_transitions_total{{{labels},to="closed"}} 1"#),
            format!(r#"breaker_transitions_total{{{labels},to="forced_open"}} 1"#),
            format!(r#"breaker_transitions_total{{{labels},to="open"}} 1"#),
            format!(r#"fallbacks_failed_total{{{labels}}} 1"#),
            format!(r#"fallbacks_total{{{labels},fallback="static"}} 1"#),
            format!("hedges_total{{{labels}}} 1"),
            format!(r#"queue_seconds_bucket{{{labels},le="+Inf"}} 1"#),
            format!(r#"queue_seconds_bucket{{{labels},le="0.3"}} 1"#),
            format!("queue_seconds_count{{{labels}}} 1"),
            format!("queue_seconds_sum{{{labels}}} 0.25"),
            format!(r#"rejected_total{{{labels},reason="at_capacity"}} 1"#),
            format!(r#"rejected_total{{{labels},reason="breaker_open"}} 2"#),
            format!(r#"retries_stopped_total{{{labels},by="attempts"}} 1"#),
            format!("retries_total{{{labels}}} 2"),
        ];
        assert_eq!(counted, expected.map(|line| format!("fanout_{line}")));
    }
}

#[cfg(feature = "tracing")]
mod lines {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tower_fanout_layers::{Event, event::TracingSink};
    use tracing::{
        Dispatch, Level,
        subscriber::{DefaultGuard, NoSubscriber, set_default},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        /// Writes the lines of this thread until the result is dropped.
        ///
        /// With only one dispatcher, tracing decides whether a line is wanted by the thread that reaches it
        /// first, which may belong to another test. With two it asks both.
        fn start(&self, level: Level) -> (DefaultGuard, Dispatch) {
            let log = self.clone();
            let second = Dispatch::new(NoSubscriber::new());
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(level)
                .with_ansi(false)
                .without_time()
                .with_writer(move || log.clone());
            (set_default(subscriber.finish()), second)
        }

        fn lines(&self) -> Vec<String> {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let target = " tower_fanout_layers::event: ";
            let lines = text
                .lines()
                .map(|line| line.trim().replacen(target, " ", 1));
            lines.collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ev_13_a_breaker_is_logged_with_its_name() {
        let log = Log::default();
        let _guard = log.start(Level::INFO);
        traffic(TracingSink::new("users")).await;
        let expected = [
            r#"WARN circuit breaker opened name="users" from="closed" to="open" reason="consecutive_failures" by_hand=false"#,
            r#"WARN circuit breaker opened name="users" from="open" to="forced_open" reason="manual" by_hand=true"#,
            r#"INFO circuit breaker changed name="users" from="forced_open" to="closed" by_hand=true"#,
        ];
        assert_eq!(log.lines(), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn ev_13_reasons_are_logged_at_level_debug() {
        let log = Log::default();
        let _guard = log.start(Level::DEBUG);
        let sink = TracingSink::new("users");
        traffic(sink.clone()).await;
        sink.on(Event::BreakerWouldOpen);
        sink.on(Event::BadTimeout);
        sink.on(Event::LateResult);
        let lines = log.lines();
        for line in [
            r#"DEBUG call rejected name="users" reason="at_capacity""#,
            r#"DEBUG call rejected name="users" reason="breaker_open""#,
            r#"DEBUG no further attempt name="users" by="attempts""#,
            r#"DEBUG hedge sent name="users" number=2"#,
            r#"DEBUG fallback failed name="users" step=0 class=Failure(Connect)"#,
            r#"DEBUG fallback replaces an error name="users" error=the connection broke before the response"#,
            r#"DEBUG fallback used name="users" step=1 fallback="static""#,
            r#"DEBUG invalid remaining time ignored name="users""#,
            r#"WARN circuit breaker in shadow mode would open name="users""#,
        ] {
            assert!(
                lines.iter().any(|found| found == line),
                "{line}: {lines:#?}"
            );
        }
        let retries = lines.iter().filter(|line| line.contains("retry scheduled"));
        assert_eq!(retries.count(), 2);
        assert!(!lines.iter().any(|line| line.starts_with("TRACE")));
    }

    #[tokio::test(start_paused = true)]
    async fn ev_13_other_events_are_logged_at_level_trace() {
        let log = Log::default();
        let _guard = log.start(Level::TRACE);
        TracingSink::new("users").on(Event::Attempt { number: 2 });
        let line = r#"TRACE layer event name="users" event=Attempt { number: 2 }"#;
        assert_eq!(log.lines(), [line]);
    }
}
