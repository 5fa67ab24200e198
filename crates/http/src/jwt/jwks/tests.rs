//! Tests of key fetches. Most use a scripted issuer and the paused clock. Broken responses come from a
//! real server.

use std::{fmt::Write, sync::Mutex};

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::{advance, sleep, timeout};
use tower::service_fn;
use tower_fanout_testkit::fault_server::{Fault, FaultServer};
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::Visit,
    span,
    subscriber::{DefaultGuard, NoSubscriber},
};

use super::*;
use crate::client::ClientErrorKind;

type Answer = Result<Response<Bytes>, ClientError>;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Returns a JWK Set that contains the test EC key once for each of `kids`.
pub(in crate::jwt) fn set(kids: &[&str]) -> Bytes {
    let good: Value = serde_json::from_slice(include_bytes!("../test_keys/jwks.json")).unwrap();
    let keys = kids.iter().map(|kid| {
        let mut key = good["keys"][1].clone();
        key["kid"] = (*kid).into();
        key
    });
    json!({"keys": keys.collect::<Vec<_>>()}).to_string().into()
}

fn status(status: StatusCode, body: Bytes) -> Answer {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    Ok(response)
}

pub(in crate::jwt) fn good(kids: &[&str]) -> Answer {
    status(StatusCode::OK, set(kids))
}

/// Start times of the fetches that reached an issuer.
#[derive(Clone, Default)]
pub(in crate::jwt) struct Seen(Arc<Mutex<Vec<Instant>>>);

impl Seen {
    pub(in crate::jwt) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn gaps(&self) -> Vec<Duration> {
        let starts = self.0.lock().unwrap();
        starts.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

/// Starts [`Jwks`] with an issuer that responds to fetch `n`, counted from 0, with `answer(n)` after
/// `latency`.
pub(in crate::jwt) async fn issuer(
    config: JwksConfig,
    latency: Duration,
    answer: impl Fn(usize) -> Answer + Send + 'static,
) -> (Result<Jwks, StartError>, Seen) {
    let seen = Seen::default();
    let starts = seen.clone();
    let service = service_fn(move |request: Request<Bytes>| {
        assert_eq!(request.uri(), "/keys?p=1");
        starts.0.lock().unwrap().push(Instant::now());
        let answer = answer(starts.count() - 1);
        async move {
            sleep(latency).await;
            answer
        }
    });
    let url = JwksUrl::new("https://idp.example/keys?p=1".parse().unwrap()).unwrap();
    (Jwks::start_with(service, &url, config, |_| ()).await, seen)
}

fn defaults() -> JwksConfig {
    JwksConfig::default()
}

fn knows(jwks: &Jwks, kid: &str) -> bool {
    jwks.current().unwrap().knows(Some(kid))
}

#[tokio::test(start_paused = true)]
async fn fault_b2_start_without_keys_fails_or_keeps_fetching() {
    let down = |fetch| match fetch {
        0 | 1 => Err(ClientErrorKind::Connect.into()),
        _ => good(&["a"]),
    };
    let (failed, seen) = issuer(defaults(), SECOND, down).await;
    let message = failed.unwrap_err().to_string();
    assert_eq!(message, "keys could not be fetched: connect_failed");
    sleep(60 * MINUTE).await;
    assert_eq!(seen.count(), 1, "a failed start leaves no task");

    let degraded = defaults().start(Start::Degraded);
    let (jwks, seen) = issuer(degraded, SECOND, down).await;
    let jwks = jwks.unwrap();
    let error = jwks.current().unwrap_err();
    assert_eq!(error.retry_after, 30 * SECOND);
    assert_eq!(jwks.age(), None);
    sleep(2 * 33 * SECOND + 2 * SECOND).await;
    assert!(knows(&jwks, "a"), "fetched again after the cooldown");
    assert_eq!(seen.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn fault_b3_uses_the_last_keys_for_a_day() {
    let (jwks, seen) = issuer(defaults(), SECOND, |fetch| match fetch {
        0..=1 => good(&["a"]),
        _ => Err(ClientErrorKind::Connect.into()),
    })
    .await;
    let jwks = jwks.unwrap();
    let keys = jwks.current().unwrap();
    while seen.count() < 3 {
        sleep(SECOND).await;
    }
    let age = jwks.age().unwrap();
    assert!(age >= 9 * MINUTE && age <= 12 * MINUTE, "{age:?}");
    let renewed = jwks.current().unwrap();
    assert!(
        Arc::ptr_eq(&keys, &renewed),
        "the same body is not parsed again"
    );
    sleep(24 * 60 * MINUTE - jwks.age().unwrap()).await;
    assert!(knows(&jwks, "a"));
    sleep(SECOND).await;
    assert_eq!(jwks.current().unwrap_err().retry_after, 30 * SECOND);
    assert!(
        seen.count() > 24 * 60,
        "fetches are more frequent after failures"
    );
}

/// Uses the smallest valid `max_stale`. Keys of a healthy issuer are refreshed well before they are too
/// old.
#[tokio::test(start_paused = true)]
async fn fault_b3_keys_of_a_healthy_issuer_never_become_stale() {
    let config = defaults().poll_interval(10 * SECOND).cooldown(9 * SECOND);
    assert!(config.clone().max_stale(11 * SECOND).validate().is_err());
    let shortest = config.max_stale(20 * SECOND);
    let (jwks, _) = issuer(shortest, 4 * SECOND, |_| good(&["a"])).await;
    let jwks = jwks.unwrap();
    for _ in 0..3600 {
        sleep(SECOND / 4).await;
        assert!(knows(&jwks, "a"));
    }
}

/// A subscriber that records the level, message and fields of each log line.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(Level, String)>>>);

impl Log {
    /// Records the lines of this thread until the result is dropped.
    ///
    /// With only one dispatcher, tracing decides whether a line is wanted by the thread that reaches it first,
    /// which may belong to another test. With two it asks both.
    fn start(&self) -> (DefaultGuard, Dispatch) {
        let second = Dispatch::new(NoSubscriber::new());
        (tracing::subscriber::set_default(self.clone()), second)
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                write!(self.0, "{field}={value:?} ").unwrap();
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0
            .lock()
            .unwrap()
            .push((*event.metadata().level(), text.0));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn fault_b4_logs_one_warning_per_minute_of_failures() {
    let log = Log::default();
    let _guard = log.start();
    let short = defaults().cooldown(SECOND).timeout(SECOND);
    let (jwks, seen) = issuer(short, SECOND / 10, |fetch| match fetch {
        0 => good(&["a"]),
        _ => status(StatusCode::OK, "<html>top secret</html>".into()),
    })
    .await;
    let jwks = jwks.unwrap();
    sleep(30 * MINUTE).await;
    assert!(knows(&jwks, "a"));
    assert!(seen.count() > 500);
    let logged = log.0.lock().unwrap();
    let warned = logged.iter().filter(|(level, _)| *level == Level::WARN);
    assert!((18..=21).contains(&warned.count()), "{logged:?}");
    assert!(!format!("{logged:?}").contains("top secret"));
}

#[tokio::test(start_paused = true)]
async fn fault_b5_b10_logs_index_and_type_of_bad_keys_but_no_key_material() {
    let log = Log::default();
    let _guard = log.start();
    let mut keys: Value = serde_json::from_slice(&set(&["a", "b"])).unwrap();
    keys["keys"][0]["x"] = "hush".into();
    keys["keys"][1]["d"] = "hush".into();
    let oct = json!({"kty": "oct", "k": "hush"});
    keys["keys"].as_array_mut().unwrap().push(oct);
    let body = Bytes::from(keys.to_string());
    let (jwks, _) = issuer(defaults(), SECOND, move |_| {
        status(StatusCode::OK, body.clone())
    })
    .await;
    let jwks = jwks.unwrap();
    assert!(knows(&jwks, "b") && !knows(&jwks, "a"));
    sleep(60 * MINUTE).await;
    let logged = log.0.lock().unwrap();
    let warned = logged.iter().filter(|(level, _)| *level == Level::WARN);
    let warned: Vec<&str> = warned.map(|(_, text)| text.as_str()).collect();
    assert_eq!(
        warned.len(),
        3,
        "an unchanged set logs no warnings: {logged:?}"
    );
    for (index, kty) in [(0, "EC"), (1, "EC"), (2, "oct")] {
        let fields = format!("index={index} kty={kty:?}");
        assert!(
            warned.iter().any(|text| text.contains(&fields)),
            "{warned:?}"
        );
    }
    assert!(!format!("{logged:?}").contains("hush"));
}

/// Returns a set of `count` keys that are too weak, each with private key material.
fn weak_set(count: usize) -> Answer {
    let key = json!({"kty": "EC", "crv": "P-256", "x": "hush", "y": "hush", "d": "hush"});
    let keys = vec![key; count];
    status(StatusCode::OK, json!({"keys": keys}).to_string().into())
}

#[tokio::test(start_paused = true)]
async fn fault_b5_b10_logs_why_a_set_has_no_usable_key() {
    for (count, lines) in [(1, 1), (10, 10), (11, 11), (100, 11)] {
        let log = Log::default();
        let _guard = log.start();
        let config = defaults().start(Start::Degraded);
        let (jwks, seen) = issuer(config, SECOND / 10, move |_| weak_set(count)).await;
        let jwks = jwks.unwrap();
        jwks.current().unwrap_err();
        // The next fetch fails within the same minute.
        sleep(34 * SECOND).await;
        assert_eq!(seen.count(), 2);
        let logged = log.0.lock().unwrap();
        let with = |part: &str| {
            logged
                .iter()
                .filter(|(_, text)| text.contains(part))
                .count()
        };
        assert_eq!(with("of the JWK Set dropped"), lines, "{logged:?}");
        assert_eq!(with("publishes private key material"), lines, "{logged:?}");
        assert_eq!(with("count="), 2 * usize::from(count > 10), "{logged:?}");
        let reason = "reason=`x` or `y` does not have the length of the curve";
        assert_eq!(with(reason), count.min(10), "{logged:?}");
        assert!(
            with("index=0 kty=\"EC\"") == 2 && with("hush") == 0,
            "{logged:?}"
        );
        let error = format!("no usable key, {count} dropped; key 0 (EC): `x` or `y` does not");
        assert_eq!(with(&error), 1, "{logged:?}");
    }
}

/// Uses a real server with broken responses. The test makes the fetches itself, one after the other.
#[tokio::test]
async fn fault_b1_b4_keeps_the_last_keys_after_any_bad_response() {
    let large = format!(
        "{}{}",
        String::from_utf8_lossy(&set(&["b"])),
        " ".repeat(256 << 10)
    );
    let faults = [
        (Fault::json(set(&["a"])), FetchOutcome::Ok),
        (Fault::response(500, &[], set(&["b"])), FetchOutcome::Status),
        (Fault::response(204, &[], ""), FetchOutcome::Status),
        (
            Fault::redirect("http://127.0.0.1:1/keys"),
            FetchOutcome::Status,
        ),
        (Fault::html(), FetchOutcome::Invalid),
        (Fault::invalid_json(), FetchOutcome::Invalid),
        (Fault::deep_json(100_000), FetchOutcome::Invalid),
        (Fault::json("{\"keys\":[]}"), FetchOutcome::Invalid),
        (Fault::json(set(&["b", "b"])), FetchOutcome::Invalid),
        (Fault::json(large), FetchOutcome::TooLarge),
        (Fault::drip(set(&["b"]), SECOND / 50), FetchOutcome::Timeout),
        (Fault::never_respond(), FetchOutcome::Timeout),
        (Fault::stall_in_body(), FetchOutcome::Timeout),
        (Fault::reset_before_head(), FetchOutcome::Unreachable),
        (Fault::reset_in_body(), FetchOutcome::Unreachable),
        (Fault::length_too_long(), FetchOutcome::Unreachable),
        (Fault::invalid_chunk_size(), FetchOutcome::Unreachable),
        (Fault::json(set(&["c"])), FetchOutcome::Ok),
    ];
    let server = FaultServer::sequence(faults.iter().map(|(fault, _)| fault.clone())).await;
    let jwks_config = JwksConfig::default().timeout(SECOND / 4);
    let endpoint = server.url().parse().unwrap();
    let config = ClientConfig::default().max_response(jwks_config.max_body);
    let client = Client::new(&endpoint, config).unwrap();
    let outcomes = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&outcomes);
    let url = JwksUrl::new(format!("{}/keys", server.url()).parse().unwrap()).unwrap();
    let outcome = |fetched: Result<(), &FetchError>| {
        fetched.map_or_else(FetchError::outcome, |()| FetchOutcome::Ok)
    };
    let mut poller = Poller::new(client, &url, jwks_config, move |fetched| {
        recorded.lock().unwrap().push(outcome(fetched));
    });
    let shared = poller.shared();
    let mut first = None;
    for (index, (_, expected)) in faults.iter().enumerate() {
        let fetched = poller.fetch().await;
        assert_eq!(
            outcome(fetched.as_ref().copied()),
            *expected,
            "fetch {index}"
        );
        let current = shared.current.load_full().unwrap();
        let last = index + 1 == faults.len();
        assert!(current.keys.knows(Some(if last { "c" } else { "a" })));
        let first = first.get_or_insert_with(|| Arc::clone(&current.keys));
        assert_eq!(Arc::ptr_eq(first, &current.keys), !last, "fetch {index}");
    }
    let expected: Vec<_> = faults.iter().map(|(_, outcome)| *outcome).collect();
    assert_eq!(*outcomes.lock().unwrap(), expected);
    let seen = server.stats();
    assert!(seen.requests.iter().all(|request| request.path == "/keys"));
    assert_eq!(seen.requests.len(), faults.len());
}

/// Starts with one fetch from a server. Returns the kind of the error and the text of the start error.
async fn failed_start(endpoint: &str, client: ClientConfig) -> (Option<&'static str>, String) {
    let url = JwksUrl::new(format!("{endpoint}/keys").parse().unwrap()).unwrap();
    let client = Client::new(&url.endpoint(), client).unwrap();
    let kind = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&kind);
    let on_fetch = move |fetched: Result<(), &FetchError>| {
        *seen.lock().unwrap() = fetched.unwrap_err().kind();
    };
    let error = Jwks::start_with(client, &url, defaults(), on_fetch).await;
    let text = error.unwrap_err().to_string();
    (kind.lock().unwrap().take(), text)
}

#[tokio::test]
async fn fault_b19_a_failed_fetch_has_the_kind_and_the_cause_of_the_client() {
    let refusing = FaultServer::refusing().url();
    let (kind, text) = failed_start(&refusing, ClientConfig::default()).await;
    assert_eq!(kind, Some("connect_refused"));
    assert!(
        text.contains("connect_refused: Connection refused"),
        "{text}"
    );
    let server = FaultServer::start(Fault::response(500, &[], "")).await;
    let (kind, text) = failed_start(&server.url(), ClientConfig::default()).await;
    assert_eq!(kind, None);
    assert!(
        text.ends_with("status: 500 Internal Server Error"),
        "{text}"
    );
}

#[cfg(feature = "tls")]
#[tokio::test]
async fn fault_b19_a_failed_fetch_names_the_fault_of_the_certificate() {
    use tower_fanout_testkit::fault_server::tls::{CertificateAuthority, ServerTls};
    let authority = CertificateAuthority::new();
    for (certificate, expected, cause) in [
        (
            authority.issue_expired(&["localhost"]),
            "tls_expired",
            "certificate expired",
        ),
        (
            authority.issue(&["elsewhere"]),
            "tls_wrong_name",
            "not valid for name",
        ),
        (
            CertificateAuthority::new().issue(&["localhost"]),
            "tls_untrusted_issuer",
            "UnknownIssuer",
        ),
    ] {
        let tls = ServerTls::new(&certificate);
        let server = FaultServer::with_tls(&tls, |_| Fault::json(set(&["a"]))).await;
        let mut config = ClientConfig::default();
        config.tls.ca = Some(authority.ca_pem().into());
        let (kind, text) = failed_start(&server.url(), config).await;
        assert_eq!(kind, Some(expected), "{text}");
        assert!(text.contains(cause), "{text}");
    }
}

#[tokio::test]
async fn fetches_keys_from_a_server() {
    let server = FaultServer::start(Fault::json(set(&["a"]))).await;
    let url = format!("{}/keys?p=1", server.url()).parse().unwrap();
    let url = JwksUrl::new(url).unwrap();
    let jwks = Jwks::start(&url, JwksConfig::default(), |_| ()).await;
    assert!(knows(&jwks.unwrap(), "a"));
    let request = &server.stats().requests[0];
    assert_eq!(request.path, "/keys?p=1");
    assert!(
        request
            .header("accept")
            .unwrap()
            .contains("application/jwk-set+json")
    );
}

#[tokio::test(start_paused = true)]
async fn fault_b6_makes_one_fetch_per_cooldown_for_a_thousand_misses() {
    let (jwks, seen) = issuer(defaults(), SECOND, |_| good(&["a"])).await;
    let jwks = jwks.unwrap();
    let misses = || join_all((0..1000).map(|_| jwks.refetch()));
    misses().await;
    assert_eq!(seen.count(), 1, "only the first fetch so far");
    sleep(29 * SECOND).await;
    for round in 1..=3 {
        let before = Instant::now();
        misses().await;
        assert_eq!((seen.count(), before.elapsed()), (1 + round, SECOND));
        misses().await;
        assert_eq!((seen.count(), before.elapsed()), (1 + round, SECOND));
        sleep(29 * SECOND).await;
    }
}

/// Misses come at random times, some are canceled, and the latency of the issuer is random.
#[tokio::test(start_paused = true)]
async fn fault_b6_b9_fetches_never_overlap_and_respect_the_cooldown() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let latency = Duration::from_millis(random.u64(0..6000));
        let (jwks, seen) =
            issuer(defaults().start(Start::Degraded), latency, |_| good(&["a"])).await;
        let jwks = jwks.unwrap();
        let misses = (0..100).map(|_| {
            let (start, wait) = (random.u64(0..120_000), random.u64(0..8000));
            let jwks = jwks.clone();
            async move {
                sleep(Duration::from_millis(start)).await;
                let wait = Duration::from_millis(wait);
                timeout(wait, jwks.refetch()).await
            }
        });
        let misses: Vec<_> = misses.map(tokio::spawn).collect();
        join_all(misses).await;
        let gaps = seen.gaps();
        assert!(
            gaps.iter().all(|gap| *gap >= 30 * SECOND),
            "{seed}: {gaps:?}"
        );
        assert!((2..=5).contains(&seen.count()), "{seed}: {gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn fault_b7_a_new_key_is_known_after_one_fetch() {
    let (jwks, _) = issuer(defaults(), SECOND, |fetch| match fetch {
        0 => good(&["a"]),
        _ => good(&["a", "b"]),
    })
    .await;
    let jwks = jwks.unwrap();
    jwks.refetch().await;
    assert!(!knows(&jwks, "b"), "no fetch during the cooldown");
    sleep(30 * SECOND).await;
    let before = Instant::now();
    jwks.refetch().await;
    assert!(knows(&jwks, "b"));
    assert_eq!(before.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn fault_b8_b17_the_next_poll_removes_a_withdrawn_key() {
    let mut gaps = Vec::new();
    for _ in 0..50 {
        let (jwks, seen) = issuer(defaults(), SECOND, |fetch| match fetch {
            0 => good(&["a", "b"]),
            _ => good(&["a"]),
        })
        .await;
        let jwks = jwks.unwrap();
        assert!(knows(&jwks, "b"));
        sleep(11 * MINUTE + SECOND).await;
        assert!(!knows(&jwks, "b"));
        sleep(60 * MINUTE).await;
        gaps.extend(seen.gaps());
    }
    let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(*least >= 9 * MINUTE && *most <= 11 * MINUTE + SECOND / 100);
    assert!(
        *most - *least > MINUTE,
        "polls need jitter: {least:?} {most:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn fault_b9_a_canceled_caller_does_not_end_the_fetch() {
    let (jwks, seen) = issuer(defaults(), 4 * SECOND, |fetch| match fetch {
        0 => good(&["a"]),
        _ => good(&["b"]),
    })
    .await;
    let jwks = jwks.unwrap();
    sleep(30 * SECOND).await;
    let canceled = (0..100).map(|_| timeout(SECOND, jwks.refetch()));
    let (timed_out, ()) = tokio::join!(join_all(canceled), async {
        sleep(2 * SECOND).await;
        assert!(
            knows(&jwks, "a"),
            "the current keys stay in use during a fetch"
        );
        jwks.refetch().await;
    });
    assert!(timed_out.iter().all(Result::is_err));
    assert!(knows(&jwks, "b"));
    assert_eq!(seen.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_ends_the_polling() {
    let (jwks, seen) = issuer(defaults(), SECOND, |_| good(&["a"])).await;
    let jwks = jwks.unwrap();
    let other = jwks.clone();
    drop(jwks);
    sleep(12 * MINUTE).await;
    assert_eq!(seen.count(), 2);
    drop(other);
    sleep(60 * MINUTE).await;
    assert_eq!(seen.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_client_wakes_all_waiting_callers() {
    let (jwks, _) = issuer(defaults(), SECOND, |fetch| match fetch {
        0 => good(&["a"]),
        _ => panic!("on purpose"),
    })
    .await;
    let jwks = jwks.unwrap();
    advance(30 * SECOND).await;
    jwks.refetch().await;
    jwks.refetch().await;
    assert!(knows(&jwks, "a"));
}

#[tokio::test(start_paused = true)]
async fn fault_b3_a_panic_counts_as_a_failed_fetch_and_polling_continues() {
    let (jwks, seen) = issuer(defaults(), SECOND, |fetch| match fetch {
        0 => good(&["a"]),
        1 => panic!("on purpose"),
        _ => good(&["b"]),
    })
    .await;
    let jwks = jwks.unwrap();
    advance(30 * SECOND).await;
    jwks.refetch().await;
    assert!(knows(&jwks, "a"));
    sleep(35 * SECOND).await;
    assert!(knows(&jwks, "b"));
    assert_eq!(seen.count(), 3);
}
