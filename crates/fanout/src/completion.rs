//! Decides when a run ends before all of its nodes have ended. Pure.

use crate::{
    report::Branch,
    strategy::{ReturnWhen, Strategy},
};

/// Counts the nodes that end, and decides whether the run continues.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompletionPolicy {
    strategy: Strategy,
    return_when: ReturnWhen,
    /// Number of required nodes that have not ended.
    required: usize,
    /// Number of sinks that have not ended. A sink is a node on which no other node of the request
    /// depends.
    sinks: usize,
    /// Number of sinks that have an answer.
    answered: usize,
}

/// The decision after a node has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The other nodes continue.
    Continue,
    /// The other nodes continue until the grace period is over.
    Grace,
    /// The other nodes are cancelled.
    Stop,
}

impl CompletionPolicy {
    /// Creates the policy of a run with `required` required nodes and `sinks` sinks.
    pub(crate) const fn new(
        strategy: Strategy,
        return_when: ReturnWhen,
        required: usize,
        sinks: usize,
    ) -> Self {
        Self {
            strategy,
            return_when,
            required,
            sinks,
            answered: 0,
        }
    }

    /// Returns `true` if the end of a node may stop the run. Then it is processed before the other
    /// nodes that end at the same time.
    pub(crate) const fn may_stop(&self, answered: bool) -> bool {
        self.strategy.quorum().is_some() || !answered && matches!(self.strategy, Strategy::All)
    }

    /// Records the end of a branch and returns the decision. The branch of a node that was skipped
    /// by selection counts neither as required nor as a sink.
    pub(crate) fn on_end(&mut self, branch: &Branch) -> Decision {
        let answered = branch.status.is_answered();
        self.required -= usize::from(branch.required);
        self.sinks -= usize::from(branch.is_sink);
        self.answered += usize::from(branch.is_sink && answered);
        // Decided by success, or because too few nodes are left to reach the quorum.
        if let Some(needed) = self.strategy.quorum() {
            let decided = self.answered >= needed || self.answered + self.sinks < needed;
            return if decided {
                Decision::Stop
            } else {
                Decision::Continue
            };
        }
        if self.strategy == Strategy::All && branch.required && !answered {
            return Decision::Stop;
        }
        let complete = branch.required && self.required == 0;
        if complete && self.return_when == ReturnWhen::Required {
            Decision::Grace
        } else {
            Decision::Continue
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::outcome::Status;

    /// Returns the decisions after each of `ends`, given as `(required, answered)`. The run has
    /// four nodes, two of them required.
    fn decisions(strategy: Strategy, when: ReturnWhen, ends: &[(bool, bool)]) -> Vec<Decision> {
        let mut policy = CompletionPolicy::new(strategy, when, 2, 4);
        let ended = ends.iter().map(|&(required, answered)| Branch {
            required,
            is_sink: true,
            status: if answered {
                Status::Success
            } else {
                Status::Failed
            },
            ..Branch::default()
        });
        ended.map(|branch| policy.on_end(&branch)).collect()
    }

    #[test]
    fn each_strategy_stops_when_it_is_decided() {
        use Decision::{Continue, Stop};
        let all = ReturnWhen::All;
        assert_eq!(
            decisions(Strategy::All, all, &[(true, true), (true, false)]),
            [Continue, Stop]
        );
        let fails = [(true, false), (false, false), (true, false), (false, false)];
        assert_eq!(decisions(Strategy::Partial, all, &fails), [Continue; 4]);
        assert_eq!(decisions(Strategy::BestEffort, all, &fails), [Continue; 4]);
        assert_eq!(
            decisions(Strategy::First, all, &[(false, false), (true, true)]),
            [Continue, Stop]
        );
        let two = Strategy::Quorum(NonZeroUsize::new(2).unwrap());
        assert_eq!(
            decisions(two, all, &[(false, true), (true, false), (true, true)]),
            [Continue, Continue, Stop]
        );
        assert_eq!(
            decisions(two, all, &[(false, false), (true, false), (true, false)]),
            [Continue, Continue, Stop],
            "one node is left, and two answers are needed"
        );
    }

    #[test]
    fn grace_begins_when_the_last_required_node_has_ended() {
        let ends = [(false, true), (true, true), (true, false)];
        let decisions = |when| decisions(Strategy::Partial, when, &ends);
        assert_eq!(decisions(ReturnWhen::Required)[2], Decision::Grace);
        assert_eq!(
            decisions(ReturnWhen::Required)[..2],
            [Decision::Continue; 2]
        );
        assert_eq!(decisions(ReturnWhen::Deadline), [Decision::Continue; 3]);
    }
}
