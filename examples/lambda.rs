//! Layers around a function that a serverless runtime calls, in the shape of the crate `lambda_runtime`: the runtime
//! takes a tower service, and its event is a type that carries no metadata for layers. `map_request` wraps the
//! payload of the event in a `WithCall` with the deadline of the invocation.
//!
//! ```sh
//! cargo run -p tower-fanout-examples --example lambda
//! ```

use std::{error::Error, time::Duration};

use tokio::time::Instant;
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
use tower_fanout_layers::{
    BreakerConfig, BreakerLayer, ClassifyResult, ConfigError, Deadline, DeadlineLayer, LayerError,
    RetryConfig, RetryLayer, TimeoutLayer, WithCall,
};

/// An event of the runtime, with the time that is left for it.
struct Event<T> {
    payload: T,
    remaining: Duration,
}

/// The main loop of the runtime, for one event.
async fn run<T, S>(function: &S, payload: T) -> Result<S::Response, S::Error>
where
    S: Service<Event<T>, Error: Error> + Clone,
{
    let remaining = Duration::from_secs(3);
    function.clone().oneshot(Event { payload, remaining }).await
}

/// Builds the function from a user's number to a greeting. `users` is the service that it calls.
fn function<S>(
    users: S,
) -> Result<impl Service<Event<u32>, Response = String, Error = LayerError> + Clone, ConfigError>
where
    S: Service<WithCall<u32>, Response = &'static str, Error = LayerError> + Clone,
{
    let users = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryConfig::new(), ClassifyResult)?)
        // The circuit outlives an event, because the runtime keeps the function.
        .layer(BreakerLayer::new(
            "users",
            BreakerConfig::new(),
            ClassifyResult,
        )?)
        .layer(TimeoutLayer::new(Duration::from_millis(500))?)
        .service(users);
    Ok(ServiceBuilder::new()
        .map_request(|event: Event<u32>| {
            let end = Instant::now() + event.remaining;
            let deadline = Deadline::at(end).before(Duration::from_millis(100)); // to report the error
            WithCall::new(event.payload).idempotent().deadline(deadline)
        })
        .layer(DeadlineLayer::new(Duration::from_secs(60))?) // of two deadlines, the earlier applies
        .map_response(|name| format!("hello {name}"))
        .service(users))
}

/// The users of this example: a plain function.
async fn user(id: WithCall<u32>) -> Result<&'static str, LayerError> {
    match id.get() {
        7 => Ok("Ada"),
        _ => Err("no such user".into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let function = function(service_fn(user))?;
    println!("{}", run(&function, 7).await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tower_fanout_layers::{AsRejection, Failure, Rejection};
    use tower_fanout_testkit::script::ScriptedService;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failed_call_is_retried_and_a_circuit_outlives_an_event() {
        let users = ScriptedService::new()
            .fail(Failure::ConnectionReset)
            .respond("Ada");
        let function = function(users.clone()).unwrap();
        assert_eq!(run(&function, 7).await.unwrap(), "hello Ada");
        assert_eq!(users.calls(), 2);

        let function = super::function(service_fn(user)).unwrap();
        for _ in 0..2 {
            assert_eq!(
                run(&function, 8).await.unwrap_err().to_string(),
                "no such user"
            );
        }
        let error = run(&function, 7).await.unwrap_err();
        assert!(
            matches!(error.as_rejection(), Some(Rejection::CircuitOpen { .. })),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_ends_before_the_runtime_stops_the_function() {
        let function = function(ScriptedService::new().hang()).unwrap();
        let start = Instant::now();
        let error = run(&function, 7).await.unwrap_err();
        assert!(error.as_rejection().is_some(), "{error}");
        assert!(start.elapsed() <= Duration::from_millis(2_900));
    }
}
