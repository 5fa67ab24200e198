//! Tests of the methods that add layers to tower's `ServiceBuilder`.
#![cfg(feature = "tower")]
#![allow(missing_docs)]

use std::{any::type_name_of_val, convert::Infallible, time::Duration};

use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, CallErrorLayer, ClassifyResult, ConcurrencyConfig,
    ConcurrencyLayer, ConfigError, DeadlineLayer, Event, EventsLayer, FallbackLayer, HedgeConfig,
    HedgeLayer, LayerError, LayerErrorLayer, PerKeyConfig, PerKeyLayer, RetryConfig, RetryLayer,
    ServiceBuilderExt, ThrottleConfig, ThrottleLayer, TimeoutLayer, WithCall,
};

const SECOND: Duration = Duration::from_secs(1);

type Id = WithCall<u32>;

fn parity(id: &Id) -> u32 {
    id.get() % 2
}

fn fails() -> FallbackLayer<ClassifyResult, Id, &'static str, LayerError> {
    FallbackLayer::new(ClassifyResult).response("a guest")
}

/// The type of a builder lists its layers, so equal types have equal layers in equal order.
#[tokio::test(start_paused = true)]
async fn each_method_adds_its_layer_below_the_others() -> Result<(), BoxError> {
    let template = ConcurrencyLayer::new(ConcurrencyConfig::new())?;
    let with_methods = ServiceBuilder::new()
        .events(|_: Event| {})
        .fallback(ClassifyResult, |_| fails())
        .deadline(SECOND)?
        .retry_failures(RetryConfig::new(), ClassifyResult)?
        .hedge(HedgeConfig::new(), ClassifyResult)?
        .throttle(ThrottleConfig::new(), ClassifyResult)?
        .per_key(PerKeyConfig::new(), template.clone(), parity)?
        .concurrency(ConcurrencyConfig::new())?
        .circuit_breaker("users", BreakerConfig::new(), ClassifyResult)?
        .attempt_timeout(SECOND)?
        .layer_error()
        .call_error::<Infallible>();
    let breaker = BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult)?;
    let with_layers = ServiceBuilder::new()
        .layer(EventsLayer::new(|_: Event| {}))
        .layer(fails())
        .layer(DeadlineLayer::new(SECOND)?)
        .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult)?)
        .layer(HedgeLayer::new(HedgeConfig::new(), ClassifyResult)?)
        .layer(ThrottleLayer::new(ThrottleConfig::new(), ClassifyResult)?)
        .layer(PerKeyLayer::new(PerKeyConfig::new(), template, parity)?)
        .layer(ConcurrencyLayer::new(ConcurrencyConfig::new())?)
        .layer(breaker)
        .layer(TimeoutLayer::new(SECOND)?)
        .layer(LayerErrorLayer::new())
        .layer(CallErrorLayer::<fn(&Infallible) -> _>::new());
    assert_eq!(
        type_name_of_val(&with_methods),
        type_name_of_val(&with_layers)
    );

    let users = with_methods.service(service_fn(|id: Id| async move {
        match id.get() {
            7 => Ok::<_, Infallible>("Ada"),
            _ => std::future::pending().await,
        }
    }));
    let late = users.clone().oneshot(WithCall::new(8));
    assert_eq!(tokio::spawn(late).await??, "a guest");
    assert_eq!(users.oneshot(WithCall::new(7)).await?, "Ada");
    Ok(())
}

/// Returns the texts in backticks in `line`.
fn names(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn the_table_of_methods_has_each_method_with_its_layer() {
    let (mut rows, mut methods, mut layer) = (Vec::new(), Vec::new(), "");
    for line in include_str!("../src/builder.rs").lines() {
        if line.starts_with("/// | ") {
            let mut cells = line.split(" | ").filter_map(|cell| names(cell).next());
            rows.extend(cells.next().zip(cells.next()));
        } else if line.starts_with("    /// Adds a") {
            layer = names(line).next().unwrap();
        } else if let Some(method) = line.strip_prefix("    fn ") {
            methods.push((method.split(['(', '<']).next().unwrap(), layer));
        }
    }
    rows.sort_unstable();
    methods.sort_unstable();
    assert!(methods.len() > 10, "found only {methods:?}");
    assert_eq!(rows, methods);
}

#[test]
fn an_invalid_configuration_is_an_error_of_the_method() {
    fn message<T>(added: Result<T, ConfigError>) -> String {
        added.err().unwrap().to_string()
    }
    let builder = ServiceBuilder::new;
    let template = ConcurrencyLayer::new(ConcurrencyConfig::new()).unwrap();
    let retry = RetryConfig::new().max_attempts(0);
    let hedge = HedgeConfig::new().max_hedges(0);
    let throttle = ThrottleConfig::new().k(0.5);
    let keys = PerKeyConfig::new().max_keys(0);
    let breaker = BreakerConfig::new().min_calls(0);
    let messages = [
        message(builder().deadline(Duration::ZERO)),
        message(builder().attempt_timeout(Duration::ZERO)),
        message(builder().concurrency(ConcurrencyConfig::new().max(0))),
        message(builder().retry_failures(retry, ClassifyResult)),
        message(builder().hedge(hedge, ClassifyResult)),
        message(builder().throttle(throttle, ClassifyResult)),
        message(builder().per_key(keys, template, parity)),
        message(builder().circuit_breaker("users", breaker, ClassifyResult)),
    ];
    let fields = [
        "DeadlineConfig.total",
        "TimeoutConfig.timeout",
        "ConcurrencyConfig.max",
        "RetryConfig.max_attempts",
        "HedgeConfig.max_hedges",
        "ThrottleConfig.k",
        "PerKeyConfig.max_keys",
        "BreakerConfig.min_calls",
    ];
    for (message, field) in messages.iter().zip(fields) {
        assert!(
            message.starts_with(&format!("{field}: must be ")),
            "{message}"
        );
    }
}

#[cfg(feature = "chaos")]
#[tokio::test]
async fn chaos_is_injected_below_the_other_layers() -> Result<(), BoxError> {
    use tower_fanout_layers::{
        Failure,
        chaos::{ChaosConfig, Injected, Injection, Rule},
    };

    let inject = |_: Injected<&'static str>| Err(LayerError::from("chaos"));
    let reset = Rule::new(1.0, Injection::Error(Failure::ConnectionReset));
    let users = ServiceBuilder::new()
        .fallback(ClassifyResult, |_| fails())
        .chaos(ChaosConfig::new().enabled(true).rules(vec![reset]), inject)?
        .service(service_fn(|_: Id| async { Ok("Ada") }));
    assert_eq!(users.oneshot(WithCall::new(7)).await?, "a guest");

    let status = Rule::new(1.0, Injection::Status(7));
    let invalid = ServiceBuilder::new()
        .chaos::<_, Id>(ChaosConfig::new().rules(vec![status]), inject)
        .err();
    assert!(invalid.unwrap().to_string().contains("got 7"));
    Ok(())
}

#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn bodies_are_repeatable_and_have_a_timeout() -> Result<(), BoxError> {
    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt, Channel, Full};
    use tower_fanout_layers::{AsRejection, Class, Failure, Rejection};

    let classify = |response: Result<&Response<_>, &LayerError>, _: Duration| match response {
        Ok(_) => Class::Success,
        Err(_) => Class::Failure(Failure::Other),
    };
    let (_sender, stalled) = Channel::<Bytes, BoxError>::new(1);
    let stalled = std::sync::Mutex::new(Some(stalled));
    let stalled = std::sync::Arc::new(stalled);
    let calls = std::sync::atomic::AtomicU32::new(0);
    let calls = std::sync::Arc::new(calls);
    let service = ServiceBuilder::new()
        .upload(16)
        .retry_failures(RetryConfig::new(), classify)?
        .body_timeout(SECOND)?
        .service(service_fn(move |request: Request<_>| {
            let (calls, stalled) = (calls.clone(), stalled.clone());
            async move {
                let body = BodyExt::collect(request.into_body()).await?.to_bytes();
                assert_eq!(body, "tea");
                match calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                    0 => Err(LayerError::from("a hiccup")),
                    _ => Ok(Response::new(stalled.lock().unwrap().take().unwrap())),
                }
            }
        }));
    let request = Request::put("/").body(Full::<Bytes>::from("tea"))?;
    let response = service.oneshot(request).await?;
    let error = response.into_body().collect().await.unwrap_err();
    assert_eq!(error.as_rejection(), Some(Rejection::AttemptTimeout));
    assert!(ServiceBuilder::new().body_timeout(Duration::ZERO).is_err());
    Ok(())
}
