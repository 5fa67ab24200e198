//! Conversions of errors into problems, and of problems into responses of axum handlers.

use tower_fanout_layers::{AsRejection, Failure, Rejection};

use super::{Code, Problem};

/// Converts any error that layers accept: by its rejection, or else by its failure. So `?` converts the error
/// of a stack in a function that returns a `Problem`, such as a handler of axum (feature `axum`).
///
/// | rejection or failure | code |
/// |---|---|
/// | `AttemptTimeout`, `Deadline`, `DeadlineBeforeSend` | [`Code::UpstreamTimeout`], 504 |
/// | `CircuitOpen`, `NoEndpoint` | [`Code::UpstreamUnavailable`], 503 |
/// | `AtCapacity`, `Evicted`, `QueueTimeout`, `ClientThrottled`, `DescriptorLimit` | [`Code::Overloaded`], 503 |
/// | `RateLimited` | [`Code::RateLimited`], 429 |
/// | [`Failure::Other`], [`Failure::Panic`], and all other rejections | [`Code::Internal`], 500 |
/// | all other failures, such as [`Failure::Connect`] | [`Code::UpstreamFailed`], 502 |
///
/// `Overloaded` and `RateLimited` describe this server. If a downstream call was rejected, your service can
/// respond with [`Code::UpstreamUnavailable`] instead.
///
/// The problem has no text of the error. The response has `Retry-After` if [`Rejection::retry_after`] returns a
/// time.
///
/// The error of a failed `FanOut` becomes `UpstreamTimeout`, `UpstreamUnavailable` or `UpstreamFailed` by the causes.
impl<E: AsRejection> From<E> for Problem {
    fn from(error: E) -> Self {
        match error.as_rejection() {
            Some(rejection) => {
                Self::new(of_rejection(rejection)).retry_after(rejection.retry_after())
            }
            None => Self::new(of_failure(error.failure())),
        }
    }
}

const fn of_rejection(rejection: Rejection) -> Code {
    match rejection {
        Rejection::AttemptTimeout | Rejection::Deadline | Rejection::DeadlineBeforeSend => {
            Code::UpstreamTimeout
        }
        Rejection::CircuitOpen { .. } | Rejection::NoEndpoint => Code::UpstreamUnavailable,
        Rejection::AtCapacity
        | Rejection::Evicted
        | Rejection::QueueTimeout
        | Rejection::ClientThrottled
        | Rejection::DescriptorLimit => Code::Overloaded,
        Rejection::RateLimited { .. } => Code::RateLimited,
        _ => Code::Internal,
    }
}

const fn of_failure(failure: Failure) -> Code {
    match failure {
        Failure::AttemptTimeout => Code::UpstreamTimeout,
        Failure::Other | Failure::Panic => Code::Internal,
        _ => Code::UpstreamFailed,
    }
}

/// Without a correlation id in the body: the response of a handler does not know its request.
/// [`CorrelationLayer`](crate::correlation::CorrelationLayer) adds the header.
#[cfg(feature = "axum")]
impl axum_core::response::IntoResponse for Problem {
    fn into_response(self) -> axum_core::response::Response {
        Self::into_response(self, None)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tower_fanout_layers::{BoxError, CallError, LayerError};

    use super::*;

    fn code(error: impl AsRejection) -> Code {
        Problem::from(error).code()
    }

    #[test]
    fn er_05_an_error_becomes_the_problem_of_its_rejection_or_failure() {
        assert_eq!(code(Rejection::Deadline), Code::UpstreamTimeout);
        let boxed = || BoxError::from(Rejection::AtCapacity);
        assert_eq!(code(boxed()), Code::Overloaded);
        assert_eq!(code(LayerError::from(boxed())), Code::Overloaded);
        let failed = |failure| LayerError::from(failure);
        assert_eq!(code(failed(Failure::Connect)), Code::UpstreamFailed);
        assert_eq!(code(failed(Failure::AttemptTimeout)), Code::UpstreamTimeout);
        assert_eq!(code(failed(Failure::Panic)), Code::Internal);
        assert_eq!(code(LayerError::from("the inside")), Code::Internal);
        let failure = Failure::Protocol;
        let error = CallError::Inner { error: (), failure };
        assert_eq!(code(error), Code::UpstreamFailed);
        let retry_after = Duration::from_secs(7);
        let problem = Problem::from(LayerError::from(Rejection::RateLimited { retry_after }));
        assert!(problem.to_json(None).contains("\"retryAfter\":7"));
    }

    #[cfg(feature = "axum")]
    #[tokio::test]
    async fn er_01_er_05_a_stack_compiles_in_an_axum_handler_closure() {
        use axum::{Router, body::Body, extract::Path, routing::get};
        use tower::{ServiceBuilder, ServiceExt, service_fn};
        use tower_fanout_layers::{
            BreakerConfig, BreakerLayer, ClassifyResult, TimeoutLayer, WithCall,
        };

        let breaker = BreakerLayer::new("users", BreakerConfig::new(), ClassifyResult).unwrap();
        let users = ServiceBuilder::new()
            .layer(breaker)
            .layer(TimeoutLayer::new(Duration::from_secs(1)).unwrap())
            .service(service_fn(|id: WithCall<u32>| async move {
                match id.into_inner() {
                    0 => Err(LayerError::from(Failure::Connect)),
                    id => Ok(format!("user {id}")),
                }
            }));
        let plain = users.clone();
        let app = Router::new()
            .route(
                "/plain/{id}",
                get(move |Path(id)| async move {
                    match plain.oneshot(WithCall::new(id)).await {
                        Ok(name) => name,
                        Err(error) => error.to_string(),
                    }
                }),
            )
            .route(
                "/{id}",
                get(async move |Path(id)| -> Result<String, Problem> {
                    Ok(users.clone().oneshot(WithCall::new(id)).await?)
                }),
            );
        for (path, status) in [
            ("/plain/7", 200),
            ("/plain/0", 200),
            ("/7", 200),
            ("/0", 502),
        ] {
            let request = http::Request::get(path).body(Body::empty()).unwrap();
            let response = app.clone().oneshot(request).await.unwrap();
            assert_eq!(response.status(), status, "{path}");
        }
    }
}
