//! Unit tests of a stack of layers, without network, server or waiting. A scripted service responds,
//! tokio's paused clock advances the time, and the testkit's laws check the contracts of tower.
//!
//! ```sh
//! cargo test -p tower-fanout-examples --example unit_test
//! ```

use std::time::Duration;

use tower::{Service, ServiceBuilder};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, ClassifyResult, ConfigError, LayerError, RetryConfig, RetryLayer,
    TimeoutLayer, WithCall, retry::Jitter,
};

/// A service that returns the price of an item.
trait Prices:
    Service<WithCall<u32>, Response = u32, Error = LayerError, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Prices for S where
    S: Service<WithCall<u32>, Response = u32, Error = LayerError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// Builds the stack under test: two attempts of 100 ms each, and a breaker that opens at the third
/// failure in a row.
fn careful(prices: impl Prices) -> Result<impl Prices, ConfigError> {
    let retry = RetryConfig::new().max_attempts(2).jitter(Jitter::None);
    let breaker = BreakerConfig::new().consecutive_failures(3);
    Ok(ServiceBuilder::new()
        .layer(RetryLayer::new(retry, ClassifyResult)?)
        .layer(BreakerLayer::new("prices", breaker, ClassifyResult)?)
        .layer(TimeoutLayer::new(Duration::from_millis(100))?)
        .service(prices))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use tower::{ServiceExt, service_fn};

    let prices = service_fn(|request: WithCall<u32>| async move { Ok(request.get() * 3) });
    println!("{}", careful(prices)?.oneshot(WithCall::new(7)).await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use tower::ServiceExt;
    use tower_fanout_layers::{AsRejection, Rejection};
    use tower_fanout_testkit::{
        laws::{Laws, Traffic},
        script::ScriptedService,
    };

    use super::*;

    fn prices() -> ScriptedService<WithCall<u32>, u32, LayerError> {
        ScriptedService::new()
    }

    fn ask() -> WithCall<u32> {
        WithCall::new(7).idempotent()
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_attempt_times_out_and_is_retried_after_a_pause() {
        let prices = prices().hang().respond(21);
        let start = Instant::now();
        let service = careful(prices.clone()).unwrap();
        assert_eq!(service.oneshot(ask()).await.unwrap(), 21);
        // Timeout of the first attempt plus the pause; exact, because the clock is paused.
        assert_eq!(start.elapsed(), Duration::from_millis(100 + 50));
        assert_eq!((prices.calls(), prices.cancelled()), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_breaker_opens_after_three_failures() {
        let prices = prices().fail("down");
        let service = careful(prices.clone()).unwrap();
        for _ in 0..5 {
            service.clone().oneshot(ask()).await.unwrap_err();
        }
        let error = service.oneshot(ask()).await.unwrap_err();
        let rejection = error.as_rejection();
        assert!(
            matches!(rejection, Some(Rejection::CircuitOpen { .. })),
            "{error}"
        );
        assert_eq!(prices.calls(), 3);
    }

    /// Numbered requests and responses, so that the laws can match them.
    #[derive(Clone)]
    struct Numbered;

    impl Traffic for Numbered {
        type Request = WithCall<u32>;
        type Response = u32;
        type Error = LayerError;

        fn request(&self, number: u64) -> WithCall<u32> {
            WithCall::new(number as u32).idempotent()
        }
        fn request_number(&self, request: &WithCall<u32>) -> u64 {
            u64::from(*request.get())
        }
        fn response(&self, number: u64) -> u32 {
            number as u32
        }
        fn response_number(&self, response: &u32) -> u64 {
            u64::from(*response)
        }
        fn error(&self) -> LayerError {
            "down".into()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_stack_keeps_the_laws_of_tower() {
        let laws = Laws::new(Numbered, |prices| careful(prices).unwrap());
        laws.check().await;
    }
}
