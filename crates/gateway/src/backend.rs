//! A downstream of the gateway: policy, state, client and last failure.

use std::{
    error::Error,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde::Serialize;
use tower_fanout::{
    Branch, Downstream, ErrorKind, breaker_state,
    layers::{ClassifyHttp, ConcurrencyLayer, ConfigError, breaker::State},
};
use tower_fanout_http::{
    client::{Client, ClientTlsConfig},
    forward::ForwardHeaders,
};

use crate::config::{ClientTlsFiles, DownstreamConfig};

type BoxError = Box<dyn Error + Send + Sync>;

/// A downstream, shared by all routes that call it.
#[derive(Debug)]
pub(crate) struct Backend {
    /// Name in the configuration.
    pub(crate) name: String,
    /// Policy with the shared state of circuit breaker, concurrency limit and retry budget.
    pub(crate) downstream: Downstream<ClassifyHttp>,
    /// HTTP client for its endpoint.
    pub(crate) client: Client,
    /// Headers of the caller that are forwarded to it.
    pub(crate) forward: ForwardHeaders,
    /// TLS settings as of the configuration, and the files of their certificates.
    tls: (ClientTlsConfig, ClientTlsFiles),
    /// Kind and time of the last failure.
    last_failure: Mutex<Option<(ErrorKind, SystemTime)>>,
}

impl Backend {
    /// Creates a downstream without a recorded failure.
    ///
    /// # Errors
    /// Returns an error if its client or policy cannot be built.
    pub(crate) fn new(name: &str, config: &DownstreamConfig) -> Result<Self, ConfigError> {
        let classify = ClassifyHttp::new().with(config.policy.classify.clone())?;
        Ok(Self {
            name: name.to_owned(),
            downstream: Downstream::new(name, config.policy.clone(), classify)?,
            client: Client::new(&config.endpoint, config.client.clone())?,
            forward: config.forward.clone(),
            tls: (config.client.tls.clone(), config.tls_files.clone()),
            last_failure: Mutex::default(),
        })
    }

    /// Returns the files of the CAs and of the client certificate.
    #[must_use]
    pub(crate) const fn tls_files(&self) -> &ClientTlsFiles {
        &self.tls.1
    }

    /// Reads the files of the CAs and of the client certificate again. New connections use their contents.
    ///
    /// # Errors
    /// Returns an error if a file is unreadable or invalid. What is in use then stays in use.
    pub(crate) fn reload_tls(&self) -> Result<(), BoxError> {
        let (tls, files) = &self.tls;
        files.reload(tls.clone(), |tls| self.client.replace_tls(tls))
    }

    /// Returns the state of the circuit breaker, or `None` if it is off.
    #[must_use]
    pub(crate) fn breaker_state(&self) -> Option<State> {
        self.downstream
            .breaker()
            .map(tower_fanout::layers::breaker::Handle::state)
    }

    /// Records the failure of a completed branch, if it has one.
    pub(crate) fn record(&self, branch: &Branch) {
        if let Some(error) = &branch.error {
            *self.last_failure() = Some((error.kind(), SystemTime::now()));
        }
    }

    /// Returns the current health.
    #[must_use]
    pub(crate) fn health(&self) -> Health {
        let state = self.breaker_state();
        let limit = self.downstream.concurrency();
        let status = match state {
            Some(State::Open | State::ForcedOpen) => HealthStatus::Down,
            Some(State::HalfOpen) => HealthStatus::Degraded,
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
            last_failure: self.last_failure().map(|(kind, at)| LastFailure {
                kind: kind.as_str(),
                at: humantime::format_rfc3339_millis(at).to_string(),
            }),
        }
    }

    fn last_failure(&self) -> MutexGuard<'_, Option<(ErrorKind, SystemTime)>> {
        self.last_failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
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
    /// Status derived from the circuit breaker.
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
