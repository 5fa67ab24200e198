//! Configuration of the limits and circuit breakers per key.

use std::time::Duration;

use tower_fanout_layers::{
    ConfigError,
    breaker::BreakerConfig,
    concurrency::ConcurrencyConfig,
    config,
    config::{ConfigErrors, Validate},
    per_key::PerKeyConfig,
};

config! {
    /// Configuration of a concurrency limit and a circuit breaker for each key of the calls, such as the tenant.
    /// At least one of the two must be on.
    ///
    /// The key of a call is [`Call::key`](field@tower_fanout_layers::Call::key). All calls without a key share one
    /// limit and one breaker, as those of one more key.
    #[derive(Clone, Debug, PartialEq)]
    #[cfg_attr(
        feature = "serde",
        derive(serde::Serialize, serde::Deserialize),
        serde(deny_unknown_fields, default)
    )]
    #[cfg_attr(
        feature = "schemars",
        derive(schemars::JsonSchema),
        schemars(transform = config::schema::off)
    )]
    pub struct PerKeyPolicy {
        /// The form of the keys, for a program that makes [`Call::key`](field@tower_fanout_layers::Call::key) from
        /// a template. The layers do not read it. Defaults to `None`.
        pub key: Option<String> = None,
        /// The limit on concurrent calls of one key. Its `max` must be below that of the [limit of the
        /// downstream](field@crate::Policy::concurrency), which would otherwise not protect the other keys.
        /// Defaults to off.
        #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
        #[cfg_attr(feature = "schemars", schemars(with = "Option<ConcurrencyConfig>"))]
        pub concurrency: Option<ConcurrencyConfig> = None,
        /// The circuit breaker of one key. Its `consecutive_failures` must be below that of the [breaker of the
        /// downstream](field@crate::Policy::circuit_breaker), which would otherwise open for all keys as soon as
        /// one key fails. Defaults to off.
        #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
        #[cfg_attr(feature = "schemars", schemars(with = "Option<BreakerConfig>"))]
        pub circuit_breaker: Option<BreakerConfig> = None,
        /// Maximum number of keys with a state of their own, as in [`PerKeyConfig`]. Must be within 1 to
        /// 10,000,000; defaults to 10,000.
        pub max_keys: usize = PerKeyConfig::default().max_keys,
        /// Time without a call after which the state of a key may be forgotten, as in [`PerKeyConfig`]. Must be
        /// within 1 s to 24 h; defaults to 10 min.
        #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::duration"))]
        #[cfg_attr(feature = "schemars", schemars(with = "config::schema::Duration"))]
        pub idle_after: Duration = PerKeyConfig::default().idle_after,
    }
}

impl PerKeyPolicy {
    /// Returns the configuration of the maps of keys.
    pub(crate) fn keys(&self) -> PerKeyConfig {
        PerKeyConfig::new()
            .max_keys(self.max_keys)
            .idle_after(self.idle_after)
    }
}

impl Validate for PerKeyPolicy {
    fn errors(&self) -> Vec<ConfigError> {
        let mut errors = ConfigErrors::default()
            .nested("concurrency", &self.concurrency)
            .nested("circuit_breaker", &self.circuit_breaker)
            .into_vec();
        errors.extend(self.keys().errors());
        if self.concurrency.is_none() && self.circuit_breaker.is_none() {
            let expected = "expected \"concurrency\" or \"circuit_breaker\", or both; got neither";
            errors.push(ConfigError::new("concurrency", expected));
        }
        errors
    }
}
