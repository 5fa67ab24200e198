//! A downstream of the gateway: policy, state, client and last failure.

use std::{
    collections::HashMap,
    error::Error,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tower_fanout::{
    Branch, BranchError, Downstream, ErrorKind, Status, breaker_state,
    layers::{
        CallKey, Class, ClassifyHttp, ConcurrencyLayer, ConfigError,
        breaker::{self, State},
        per_key::Stats,
    },
};
use tower_fanout_http::{
    client::{Client, ClientTlsConfig},
    forward::ForwardHeaders,
    log::{ErrorChain, RateLimit},
};

use crate::{
    config::{ClientTlsFiles, DownstreamConfig, KeyTemplate, Replacement},
    inbound::{Inbound, Source},
};

type BoxError = Box<dyn Error + Send + Sync>;

/// A downstream, shared by all routes that call it.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Name in the configuration.
    pub(crate) name: String,
    /// Policy with the shared state of circuit breaker, concurrency limit and retry budget.
    pub(crate) downstream: Downstream<ClassifyHttp, Option<breaker::Handle>>,
    /// HTTP client for its endpoint.
    pub(crate) client: Client,
    /// Headers of the caller that are forwarded to it.
    pub(crate) forward: ForwardHeaders,
    /// The key of its calls. `None` if its policy has no limits per key.
    pub(crate) key: Option<KeyTemplate>,
    /// TLS settings as of the configuration, and the files of their certificates.
    tls: (ClientTlsConfig, ClientTlsFiles),
    failures: Failures,
}

/// The end of a call of a downstream.
struct End<'e> {
    /// The node that the call was made for.
    node: &'e str,
    /// Class of the last attempt that ended.
    class: Option<Class>,
    /// The error that ended the call.
    error: Option<&'e BranchError>,
    /// Status of the branch.
    branch: &'static str,
    /// `true` if a fallback answers for a failure of the downstream.
    is_replaced: bool,
}

/// The failures of a downstream itself, by the classes of its attempts. Neither a rejection of our own layers nor
/// the end of the time of a caller is a failure of it.
#[derive(Debug, Default)]
struct Failures {
    /// Kind and time of the last failure.
    last: Mutex<Option<(ErrorKind, SystemTime)>>,
    /// `true` if a fallback was needed for a failure since the last answer of the downstream.
    only_fallbacks: AtomicBool,
    /// Limits of the warnings by kind, so that each kind is logged at once.
    warnings: Mutex<HashMap<ErrorKind, RateLimit>>,
}

impl Failures {
    /// Records that the downstream itself has answered.
    fn record_answer(&self) {
        // Written only on a change, because every core reads it for each call.
        if self.only_fallbacks.load(Ordering::Relaxed) {
            self.only_fallbacks.store(false, Ordering::Relaxed);
        }
    }
}

/// Minimum time between two warnings of one kind for one downstream.
const WARN_EVERY: Duration = Duration::from_secs(60);

impl Backend {
    /// Creates a downstream without a recorded failure.
    ///
    /// # Errors
    /// Returns an error if its client or policy cannot be built.
    pub(crate) fn new(name: &str, config: &DownstreamConfig) -> Result<Self, ConfigError> {
        let classify = ClassifyHttp::new().with(config.policy.classify.clone())?;
        Ok(Self {
            name: name.to_owned(),
            downstream: Downstream::with_optional_breaker(name, config.policy.clone(), classify)?,
            client: Client::new(&config.endpoint, config.client.clone())?,
            forward: config.forward.clone(),
            key: config.key.clone(),
            tls: (config.client.tls.clone(), config.tls_files.clone()),
            failures: Failures::default(),
        })
    }

    /// Returns the files of the CAs and of the client certificate.
    #[must_use]
    pub(crate) const fn tls_files(&self) -> &ClientTlsFiles {
        &self.tls.1
    }

    /// Reads the files of the CAs and of the client certificate. After the replacement, new connections use them.
    ///
    /// # Errors
    /// Returns an error if a file is unreadable or invalid. What is in use then stays in use.
    pub(crate) fn read_tls(&self) -> Result<Replacement<'_>, BoxError> {
        let (tls, files) = &self.tls;
        files.read(tls.clone(), |tls| self.client.replace_tls(tls))
    }

    /// Returns the state of the circuit breaker that all calls share, or `None` if it is off.
    #[must_use]
    pub(crate) fn breaker_state(&self) -> Option<State> {
        self.downstream.breaker().map(breaker::Handle::state)
    }

    /// Returns the key of a call for `inbound`, or `None` if the call has no key.
    #[must_use]
    pub(crate) fn call_key(&self, inbound: &Inbound) -> Option<CallKey> {
        let answers = None;
        self.key.as_ref()?.render(&Source { inbound, answers })
    }

    /// Returns the state of the circuit breaker that a call for `inbound` meets: that of its key, if each key has
    /// one. Returns `None` if the call meets none.
    #[must_use]
    pub(crate) fn breaker_state_for(&self, inbound: &Inbound) -> Option<State> {
        let Some(breakers) = self.downstream.breaker_per_key() else {
            return self.breaker_state();
        };
        // The breaker of a new key is closed.
        let breaker = breakers.get(&self.call_key(inbound));
        Some(breaker.map_or(State::Closed, |breaker| breaker.handle().state()))
    }

    /// Returns the numbers of the keys, by the part of the policy that exists once per key.
    pub(crate) fn key_stats(&self) -> impl Iterator<Item = (&'static str, Stats)> {
        let limits = self.downstream.concurrency_per_key();
        let breakers = self.downstream.breaker_per_key();
        let limits = limits.map(|limits| ("concurrency", limits.stats()));
        let breakers = breakers.map(|breakers| ("circuit_breaker", breakers.stats()));
        limits.into_iter().chain(breakers)
    }

    /// Records the end of a branch of `node`, and logs a failure of the downstream.
    pub(crate) fn record(&self, node: &str, branch: &Branch) {
        self.record_end(&End {
            node,
            class: branch.class,
            error: branch.error.as_ref(),
            branch: branch.status.as_str(),
            is_replaced: branch.status == Status::Fallback,
        });
    }

    /// Records the end of a call that this downstream got as the fallback of `node`, and logs a failure.
    ///
    /// `class` is the class of the last attempt that ended, and `error` the error of the call.
    pub(crate) fn record_fallback(
        &self,
        node: &str,
        class: Option<Class>,
        error: Option<&BranchError>,
    ) {
        self.record_end(&End {
            node,
            class,
            error,
            branch: Status::Fallback.as_str(),
            // Another step answers, or the branch fails because of another service.
            is_replaced: true,
        });
    }

    fn record_end(&self, end: &End<'_>) {
        let failures = &self.failures;
        let failure = match end.class {
            Some(Class::Failure(failure)) => failure,
            Some(class) if class.is_of_service() => return failures.record_answer(),
            // No attempt has ended, so nothing is known about the service.
            _ => return,
        };
        let of_service = |error: &&BranchError| {
            let kind = error.kind();
            !kind.is_rejection() && !kind.is_timeout()
        };
        // What ended the call, such as the deadline, hides the failure of the service before it.
        let error = match end.error.filter(of_service) {
            Some(error) => error.clone(),
            None => failure.into(),
        };
        if matches!(error.kind(), ErrorKind::Panic | ErrorKind::Internal) {
            return;
        }
        *locked(&failures.last) = Some((error.kind(), SystemTime::now()));
        if end.is_replaced {
            failures.only_fallbacks.store(true, Ordering::Relaxed);
        }
        self.warn(end, &error);
    }

    /// Logs a failure of the downstream with its cause, once per kind and [`WARN_EVERY`].
    fn warn(&self, end: &End<'_>, error: &BranchError) {
        let admitted = locked(&self.failures.warnings)
            .entry(error.kind())
            .or_insert_with(|| RateLimit::new(WARN_EVERY))
            .admit();
        let Some(suppressed) = admitted else { return };
        let cause = match error.source() {
            Some(source) => ErrorChain(source).to_string(),
            None => error.message().to_owned(),
        };
        let (downstream, kind) = (&*self.name, error.kind().as_str());
        let (node, branch) = (end.node, end.branch);
        tracing::warn!(
            downstream,
            node,
            kind,
            cause,
            branch,
            suppressed,
            "downstream failed"
        );
    }

    /// Returns the current health. The limits and circuit breakers of keys do not count, because the downstream
    /// serves the other keys.
    #[must_use]
    pub(crate) fn health(&self) -> Health {
        let state = self.breaker_state();
        let limit = self.downstream.concurrency();
        let status = match state {
            Some(State::Open | State::ForcedOpen) => HealthStatus::Down,
            Some(State::HalfOpen) => HealthStatus::Degraded,
            _ if self.failures.only_fallbacks.load(Ordering::Relaxed) => HealthStatus::Degraded,
            // Also without a circuit breaker, as there is then no other signal of health.
            _ => HealthStatus::Up,
        };
        Health {
            status,
            circuit_breaker_state: breaker_state(state),
            // A downstream has one endpoint.
            endpoints: Endpoints {
                healthy: u32::from(status != HealthStatus::Down),
                total: 1,
            },
            in_flight: limit.map_or(0, ConcurrencyLayer::in_flight),
            limit: limit.map(ConcurrencyLayer::limit),
            last_failure: locked(&self.failures.last).map(|(kind, at)| LastFailure {
                kind: kind.as_str(),
                at: humantime::format_rfc3339_millis(at).to_string(),
            }),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The health status of a downstream or of a route, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum HealthStatus {
    /// Usable.
    Up,
    /// Usable in part, or being probed.
    Degraded,
    /// Not usable.
    Down,
}

/// The health of a downstream, as the API reports it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Health {
    /// Status derived from the circuit breaker and the fallbacks.
    pub(crate) status: HealthStatus,
    circuit_breaker_state: &'static str,
    endpoints: Endpoints,
    in_flight: u32,
    limit: Option<u32>,
    last_failure: Option<LastFailure>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Endpoints {
    healthy: u32,
    total: u32,
}

#[derive(Clone, Debug, Serialize)]
struct LastFailure {
    kind: &'static str,
    at: String,
}
