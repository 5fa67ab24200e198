//! Configuration of `ClassifyHttp`.

use std::collections::BTreeMap;

use crate::config::{ConfigError, Validate};

/// Lowest and highest status of a response.
const LOWEST: u16 = 100;
const HIGHEST: u16 = 599;

crate::config! {
    serde
    /// Statuses whose class differs from the [standard classification](super).
    ///
    /// Configuration of `ClassifyHttp` (feature `http`).
    ///
    /// All lists are empty by default. Each status must be within 100 to 599, and may be in one list
    /// only. Each policy decides the effect of a class: for example, a status in `failure` is retried
    /// only if it is in the [`statuses`](field@crate::retry::RetryOn::statuses) of the retry. `RetryOn`
    /// accepts the statuses 200 to 599, so a status below 200 cannot be retried.
    #[derive(Eq)]
    pub struct ClassifyConfig {
        /// Statuses of a [success](super::Class::Success).
        #[cfg_attr(feature = "schemars", schemars(example = vec![404_u16], inner(range(min = LOWEST, max = HIGHEST))))]
        pub success: Vec<u16> = Vec::new(),
        /// Statuses that answer the request [finally](super::Class::NonRetryable), because another attempt would
        /// get the same response.
        #[cfg_attr(feature = "schemars", schemars(example = vec![409_u16], inner(range(min = LOWEST, max = HIGHEST))))]
        pub answered: Vec<u16> = Vec::new(),
        /// Statuses of a service that [cannot respond this time](super::Class::Transient).
        #[cfg_attr(feature = "schemars", schemars(example = vec![520_u16], inner(range(min = LOWEST, max = HIGHEST))))]
        pub transient: Vec<u16> = Vec::new(),
        /// Statuses of a service that [requests fewer calls](super::Class::Throttled), with an optional
        /// `Retry-After`. Every policy treats them as a 429.
        #[cfg_attr(feature = "schemars", schemars(example = vec![420_u16], inner(range(min = LOWEST, max = HIGHEST))))]
        pub throttled: Vec<u16> = Vec::new(),
        /// Statuses of a [failure](super::Class::Failure).
        #[cfg_attr(feature = "schemars", schemars(example = vec![418_u16], inner(range(min = LOWEST, max = HIGHEST))))]
        pub failure: Vec<u16> = Vec::new(),
    }
}

/// A class without its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Success,
    NonRetryable,
    Transient,
    Throttled,
    Failure,
}

impl ClassifyConfig {
    fn lists(&self) -> [(&'static str, Kind, &[u16]); 5] {
        [
            ("success", Kind::Success, &self.success),
            ("answered", Kind::NonRetryable, &self.answered),
            ("transient", Kind::Transient, &self.transient),
            ("throttled", Kind::Throttled, &self.throttled),
            ("failure", Kind::Failure, &self.failure),
        ]
    }

    /// Returns the configured class of `status`, or `None` if no list has the status.
    #[cfg(feature = "http")]
    pub(super) fn kind(&self, status: u16) -> Option<Kind> {
        let mut lists = self.lists().into_iter();
        lists.find_map(|(_, kind, statuses)| statuses.contains(&status).then_some(kind))
    }
}

impl Validate for ClassifyConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let mut seen = BTreeMap::new();
        let mut errors = Vec::new();
        for (field, _, statuses) in self.lists() {
            for status in statuses {
                if !(LOWEST..=HIGHEST).contains(status) {
                    let message = format!("must be within {LOWEST} to {HIGHEST}, got {status}");
                    errors.push(ConfigError::new(field, message));
                } else if let Some(first) = seen.get(status) {
                    let message = match *first == field {
                        true => format!("duplicate status {status}"),
                        false => format!("\"{first}\" has the same status {status}"),
                    };
                    errors.push(ConfigError::new(field, message));
                } else {
                    seen.insert(status, field);
                }
            }
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_duplicate_and_invalid_statuses() {
        let errors = |edit: fn(&mut ClassifyConfig)| {
            let mut config = ClassifyConfig::default();
            edit(&mut config);
            let errors = config.errors().into_iter();
            errors.map(|error| error.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(errors(|_| {}), [""; 0]);
        assert_eq!(errors(|all| all.success = vec![100, 599]), [""; 0]);
        for (edit, expected) in [
            (
                (|all| all.success = vec![99]) as fn(&mut ClassifyConfig),
                "success: must be within 100 to 599, got 99",
            ),
            (
                |all| all.failure = vec![600],
                "failure: must be within 100 to 599, got 600",
            ),
            (
                |all| all.throttled = vec![420, 420],
                "throttled: duplicate status 420",
            ),
            (
                |all| (all.answered, all.transient) = (vec![500], vec![409, 500]),
                "transient: \"answered\" has the same status 500",
            ),
        ] {
            assert_eq!(errors(edit), [expected]);
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn reads_the_lists_from_a_file() {
        let read = |text| {
            let config: ClassifyConfig = serde_json::from_str(text).map_err(|e| e.to_string())?;
            config.validate().map_err(|e| e.to_string())?;
            Ok::<_, String>(config)
        };
        let config = read(r#"{"failure": [404], "throttled": [420, 509]}"#).unwrap();
        assert_eq!(
            (&*config.failure, &*config.throttled),
            (&[404][..], &[420, 509][..])
        );
        for invalid in [r#"{"failure": [99]}"#, r#"{"fail": [404]}"#] {
            assert!(read(invalid).is_err(), "{invalid}");
        }
    }
}
