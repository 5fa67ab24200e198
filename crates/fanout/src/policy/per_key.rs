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
        schemars(transform = config::schema::fields_of::<PerKeyConfig>, transform = config::schema::off)
    )]
    pub struct PerKeyPolicy {
        /// The form of the keys, with placeholders that a request fills, such as `{jwt.sub}`. The gateway requires it.
        ///
        /// The layers do not read it. A program makes [the key of a call](field@tower_fanout_layers::Call::key) from
        /// it, or sets that key by other means.
        #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
        #[cfg_attr(
            feature = "schemars",
            schemars(with = "String", extend("format" = "key-template"), example = &"{jwt.sub}")
        )]
        pub key: Option<String> = None,
        /// The limit on concurrent calls of one key. Must always be below the [limit of the
        /// downstream](field@crate::Policy::concurrency), of which one key could otherwise take all permits: its
        /// `max`, or its `adaptive.max`, must be below `max`, or `adaptive.min`, of that limit. Defaults to off.
        #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
        #[cfg_attr(feature = "schemars", schemars(with = "Option<ConcurrencyConfig>"))]
        pub concurrency: Option<ConcurrencyConfig> = None,
        /// The circuit breaker of one key. The [breaker of the downstream](field@crate::Policy::circuit_breaker) must
        /// then be off, because the failures of one key would open it for all keys. Defaults to off.
        ///
        /// For the same reason, the throttle must be off, and the delay of hedges must not be learnt.
        ///
        /// If the service fails for all keys, the breaker of each key opens on its own. The calls until then are
        /// bounded by the attempt timeout, and by what the keys share: the limit, and the budget of retries or hedges.
        #[cfg_attr(feature = "serde", serde(with = "tower_fanout_layers::config::option"))]
        #[cfg_attr(feature = "schemars", schemars(with = "Option<BreakerConfig>"))]
        pub circuit_breaker: Option<BreakerConfig> = None,
        /// Maximum number of keys with a [state of their own](PerKeyConfig). Must be within 1 to
        /// 10,000,000; defaults to 10,000.
        pub max_keys: usize = PerKeyConfig::default().max_keys,
        /// Time after the start of its last call after which the state of a key may be [forgotten](PerKeyConfig). Must be
        /// within 1 s to 24 h, and above the longest time of an attempt with its waits; defaults to 10 min.
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
            let expected = "expected \"concurrency\" or \"circuit_breaker\", or both, got neither";
            errors.push(ConfigError::new("concurrency", expected));
        }
        errors
    }
}

#[cfg(all(test, feature = "schemars"))]
mod tests {
    use super::*;

    #[test]
    fn the_schema_has_the_limits_of_the_map_of_keys() {
        let schema = schemars::schema_for!(PerKeyPolicy);
        let fields = &schema.get("properties").unwrap();
        let keys = &fields["max_keys"];
        assert_eq!(
            (
                keys["minimum"].as_u64(),
                keys["maximum"].as_u64(),
                keys["default"].as_u64()
            ),
            (Some(1), Some(10_000_000), Some(10_000))
        );
        let idle = &fields["idle_after"];
        assert_eq!(
            (
                idle["x-minimum"].as_str(),
                idle["x-maximum"].as_str(),
                idle["default"].as_str()
            ),
            (Some("1s"), Some("24h"), Some("10m"))
        );
        let about = idle["description"].as_str().unwrap();
        assert!(about.contains("state of a key"), "its own: {about}");
    }
}
