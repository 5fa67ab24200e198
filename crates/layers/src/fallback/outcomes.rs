//! The set of results that a fallback step covers.

use crate::classify::{Cause, Class, Failure};

outcome_list! {
    /// The results of a call that a fallback step covers. By default, all that the flags in the table cover.
    ///
    /// | class of the result | flag |
    /// |---|---|
    /// | [`Class::Failure`] except [`Failure::AttemptTimeout`], [`Class::Transient`], 501, 505 | [`failure`](field@Self::failure) |
    /// | [`Class::Throttled`] | [`throttled`](field@Self::throttled) |
    /// | [`Class::Rejected`], [`DeadlineBeforeSend`](crate::Rejection::DeadlineBeforeSend) included | [`local`](field@Self::local) |
    /// | [`Failure::AttemptTimeout`], [`Class::Unanswered`] with [`Cause::Deadline`] | [`timeout`](field@Self::timeout) |
    /// | [`Class::NonRetryable`] except 501 and 505 | only by [`statuses`](field@Self::statuses) |
    /// | [`Class::Success`], [`Class::Unanswered`] with another cause | never covered |
    ///
    /// In a file, the value is a list of words and statuses, such as `[timeout, local, 503]`. A list replaces
    /// the default.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct OutcomeSet {
        words {
            /// The service failed or could not respond: an error, a 5xx (501 and 505 included), 408 or 425, but
            /// not a timeout.
            ///
            /// The classes in the table above decide, so a classifier that gives a status another class changes
            /// the result.
            failure,
            /// The service requested fewer calls with a 429.
            throttled,
            /// A layer rejected the call locally before it was sent: an open circuit, a full limit, an exhausted
            /// quota, too little time.
            local,
            /// The attempt timed out or the deadline passed.
            timeout,
        }
        /// Statuses, unless the classifier treats the response as a success. Empty by default.
        ///
        /// In a file, a status must be within 200 to 599. A set that code creates is not checked.
        statuses = Vec::new()
    }
}

impl OutcomeSet {
    /// Returns `true` if a result of `class` is in the set. Always `false` if no caller waits for the
    /// response.
    pub(super) fn contains(&self, class: Class) -> bool {
        let listed = |status| self.statuses.contains(&status);
        match class {
            Class::Success => false,
            Class::Failure(Failure::AttemptTimeout) => self.timeout,
            Class::Failure(Failure::Status { code, .. }) => self.failure || listed(code),
            Class::Failure(_) => self.failure,
            Class::Transient(status) | Class::NonRetryable(status @ (501 | 505)) => {
                self.failure || listed(status)
            }
            Class::NonRetryable(status) => listed(status),
            Class::Throttled { .. } => self.throttled || listed(429),
            Class::Rejected(_) => self.local,
            Class::Unanswered { cause, .. } => self.timeout && cause == Cause::Deadline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::table::{self, ROWS, THROTTLED, UNANSWERED, cut_off, status};

    #[test]
    fn the_default_covers_all_but_successes_and_correct_responses() {
        let without_caller = [Cause::CallerGone, Cause::SiblingFailed, Cause::HedgeLost];
        let never = |class: &Class| match class {
            Class::Success | Class::NonRetryable(404) => true,
            Class::Unanswered { cause, .. } => without_caller.contains(cause),
            _ => false,
        };
        let never: Vec<_> = ROWS.into_iter().filter(never).collect();
        assert_eq!(never.len(), 6);
        let never: Vec<_> = never.into_iter().map(|class| (class, false)).collect();
        table::check(|class| OutcomeSet::default().contains(class), &true, &never);
    }

    #[test]
    fn each_word_covers_its_own_results() {
        let check = |edit: fn(&mut OutcomeSet), classes: &[Class]| {
            let mut set = OutcomeSet::nothing();
            edit(&mut set);
            let classes: Vec<_> = classes.iter().map(|class| (*class, true)).collect();
            table::check(|class| set.contains(class), &false, &classes);
        };
        let timeouts = [
            Class::Failure(Failure::AttemptTimeout),
            cut_off(Cause::Deadline, UNANSWERED),
            cut_off(Cause::Deadline, table::SHORT),
        ];
        check(|set| set.timeout = true, &timeouts);
        check(|set| set.throttled = true, &[THROTTLED]);
        let is_local = |class: &Class| matches!(class, Class::Rejected(_));
        let locals: Vec<_> = ROWS.into_iter().filter(is_local).collect();
        check(|set| set.local = true, &locals);
        let is_failure = |class: &Class| match class {
            Class::Failure(failure) => *failure != Failure::AttemptTimeout,
            Class::NonRetryable(status) => *status > 500,
            Class::Transient(_) => true,
            _ => false,
        };
        let failures: Vec<_> = ROWS.into_iter().filter(is_failure).collect();
        check(|set| set.failure = true, &failures);
        check(
            |set| set.statuses = vec![404, 408, 429, 501, 503],
            &[
                Class::NonRetryable(404),
                Class::Transient(408),
                THROTTLED,
                Class::NonRetryable(501),
                status(503),
            ],
        );
    }

    #[cfg(feature = "serde")]
    #[test]
    fn a_set_is_a_list_of_words_and_statuses() {
        let text = r#"["local","timeout",503]"#;
        let set: OutcomeSet = serde_json::from_str(text).unwrap();
        let mut expected = OutcomeSet::nothing();
        (expected.local, expected.timeout) = (true, true);
        expected.statuses = vec![503];
        assert_eq!(set, expected);
        assert_eq!(serde_json::to_string(&set).unwrap(), text);
        for (wrong, message) in [
            (
                r#"["timeouts"]"#,
                "expected a status or one of failure, throttled, local, timeout, got \"timeouts\"",
            ),
            ("[199]", "must be within 200 to 599, got 199"),
        ] {
            let error = serde_json::from_str::<OutcomeSet>(wrong).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
