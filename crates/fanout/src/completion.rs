//! When a run is over before all of its nodes are. Pure.

use crate::strategy::{ReturnWhen, Strategy};

/// Counts the nodes that ended, and says what that means for the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompletionPolicy {
    strategy: Strategy,
    return_when: ReturnWhen,
    /// Required nodes that have not ended.
    required: usize,
    /// Nodes that nothing depends on and that have not ended.
    last: usize,
    /// How many of those were answered.
    answered: usize,
}

/// What a node that ended has to do with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeOutcome {
    pub(crate) required: bool,
    pub(crate) is_sink: bool,
    pub(crate) answered: bool,
}

/// What follows when a node has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The others go on.
    Continue,
    /// They have the grace left.
    Grace,
    /// They are cancelled.
    Stop,
}

impl CompletionPolicy {
    /// A run of so many nodes of which so many are `required`, and on so many of which nothing depends.
    pub(crate) const fn new(
        strategy: Strategy,
        return_when: ReturnWhen,
        required: usize,
        last: usize,
    ) -> Self {
        Self {
            strategy,
            return_when,
            required,
            last,
            answered: 0,
        }
    }

    /// Whether the end of a node may stop the run at once, before others that ended at the same time.
    pub(crate) const fn may_stop(&self, answered: bool) -> bool {
        self.strategy.quorum().is_some() || !answered && matches!(self.strategy, Strategy::All)
    }

    pub(crate) fn ended(&mut self, node: NodeOutcome) -> Decision {
        self.required -= usize::from(node.required);
        self.last -= usize::from(node.is_sink);
        self.answered += usize::from(node.is_sink && node.answered);
        if let Some(needed) = self.strategy.quorum() {
            let decided = self.answered >= needed || self.answered + self.last < needed;
            return if decided {
                Decision::Stop
            } else {
                Decision::Continue
            };
        }
        if self.strategy == Strategy::All && node.required && !node.answered {
            return Decision::Stop;
        }
        let complete = node.required && self.required == 0;
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

    /// What follows each of these ends of four nodes of which two are required: `(required, answered)`.
    fn follows(strategy: Strategy, when: ReturnWhen, ends: &[(bool, bool)]) -> Vec<Decision> {
        let mut completion = CompletionPolicy::new(strategy, when, 2, 4);
        let ended = ends.iter().map(|&(required, answered)| NodeOutcome {
            required,
            is_sink: true,
            answered,
        });
        ended.map(|node| completion.ended(node)).collect()
    }

    #[test]
    fn each_strategy_ends_when_it_is_decided() {
        use Decision::{Continue, Stop};
        let all = ReturnWhen::All;
        assert_eq!(
            follows(Strategy::All, all, &[(true, true), (true, false)]),
            [Continue, Stop]
        );
        let fails = [(true, false), (false, false), (true, false), (false, false)];
        assert_eq!(follows(Strategy::Partial, all, &fails), [Continue; 4]);
        assert_eq!(follows(Strategy::BestEffort, all, &fails), [Continue; 4]);
        assert_eq!(
            follows(Strategy::First, all, &[(false, false), (true, true)]),
            [Continue, Stop]
        );
        let two = Strategy::Quorum(NonZeroUsize::new(2).unwrap());
        assert_eq!(
            follows(two, all, &[(false, true), (true, false), (true, true)]),
            [Continue, Continue, Stop]
        );
        assert_eq!(
            follows(two, all, &[(false, false), (true, false), (true, false)]),
            [Continue, Continue, Stop],
            "one is left, and two are needed"
        );
    }

    #[test]
    fn grace_begins_when_the_last_required_node_has_ended() {
        let ends = [(false, true), (true, true), (true, false)];
        let follows = |when| follows(Strategy::Partial, when, &ends);
        assert_eq!(follows(ReturnWhen::Required)[2], Decision::Grace);
        assert_eq!(follows(ReturnWhen::Required)[..2], [Decision::Continue; 2]);
        assert_eq!(follows(ReturnWhen::Deadline), [Decision::Continue; 3]);
    }
}
