//! Configuration of `ClassifyHttp`.

use std::collections::BTreeSet;

use crate::config::{ConfigError, Validate};

/// Configuration of `ClassifyHttp` (feature `http`): statuses whose class differs from the
/// [table](super). All lists are empty by default.
///
/// A status is of one class only, and is one, 100 to 599. What a policy does with a class is up to
/// the policy: a status that is said to be a failure is retried if the retry's
/// [`statuses`](crate::retry::RetryOn::statuses) name it, say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(deny_unknown_fields, default)
)]
#[non_exhaustive]
pub struct ClassifyConfig {
    /// The service did what it was asked: [`Class::Success`](super::Class::Success).
    pub success: Vec<u16>,
    /// Another attempt would get the same answer: [`Class::NonRetryable`](super::Class::NonRetryable).
    pub answered: Vec<u16>,
    /// The service could not answer this time: [`Class::Transient`](super::Class::Transient).
    pub transient: Vec<u16>,
    /// The service asks for fewer calls, and may say by `Retry-After` for how long:
    /// [`Class::Throttled`](super::Class::Throttled). Every policy takes it for a 429.
    pub throttled: Vec<u16>,
    /// The service failed: [`Class::Failure`](super::Class::Failure).
    pub failure: Vec<u16>,
}

crate::setters! {
    ClassifyConfig {
        success: Vec<u16>,
        answered: Vec<u16>,
        transient: Vec<u16>,
        throttled: Vec<u16>,
        failure: Vec<u16>,
    }
}

/// The class of a status, without what else there is to know of it.
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

    /// What is said of `status`, if anything is.
    #[cfg(feature = "http")]
    pub(super) fn kind(&self, status: u16) -> Option<Kind> {
        let mut lists = self.lists().into_iter();
        lists.find_map(|(_, kind, statuses)| statuses.contains(&status).then_some(kind))
    }
}

impl Validate for ClassifyConfig {
    fn errors(&self) -> Vec<ConfigError> {
        let mut named = BTreeSet::new();
        let mut problems = Vec::new();
        for (field, _, statuses) in self.lists() {
            for status in statuses {
                if !(100..=599).contains(status) {
                    let message = format!("{status} is not within 100 to 599");
                    problems.push(ConfigError::new(field, message));
                } else if !named.insert(status) {
                    let message = format!("{status} is named twice");
                    problems.push(ConfigError::new(field, message));
                }
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_named_once_and_is_one() {
        let problems = |edit: fn(&mut ClassifyConfig)| {
            let mut settings = ClassifyConfig::default();
            edit(&mut settings);
            let problems = settings.errors().into_iter();
            problems
                .map(|problem| problem.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(problems(|_| {}), [""; 0]);
        assert_eq!(problems(|all| all.success = vec![100, 599]), [""; 0]);
        for (edit, problem) in [
            (
                (|all| all.success = vec![99]) as fn(&mut ClassifyConfig),
                "success: 99 is not within 100 to 599",
            ),
            (
                |all| all.failure = vec![600],
                "failure: 600 is not within 100 to 599",
            ),
            (
                |all| all.throttled = vec![420, 420],
                "throttled: 420 is named twice",
            ),
            (
                |all| (all.answered, all.transient) = (vec![500], vec![409, 500]),
                "transient: 500 is named twice",
            ),
        ] {
            assert_eq!(problems(edit), [problem]);
        }
    }

    #[cfg(feature = "serde")]
    #[test]
    fn the_lists_are_read_from_a_file() {
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
        for wrong in [r#"{"failure": [99]}"#, r#"{"fail": [404]}"#] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
