//! When a run is over before all of its nodes are. Pure.

use crate::strategy::{ReturnWhen, Strategy};

/// Counts the nodes that ended, and says what that means for the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
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
pub(crate) struct Ended {
    pub(crate) required: bool,
    pub(crate) is_last: bool,
    pub(crate) answered: bool,
}

/// What follows when a node has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// The others go on.
    GoOn,
    /// They have the grace left.
    Grace,
    /// They are cancelled.
    Stop,
}

impl Ending {
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

    pub(crate) fn ended(&mut self, node: Ended) -> Then {
        self.required -= usize::from(node.required);
        self.last -= usize::from(node.is_last);
        self.answered += usize::from(node.is_last && node.answered);
        if let Some(needed) = self.strategy.quorum() {
            let decided = self.answered >= needed || self.answered + self.last < needed;
            return if decided { Then::Stop } else { Then::GoOn };
        }
        if self.strategy == Strategy::All && node.required && !node.answered {
            return Then::Stop;
        }
        let complete = node.required && self.required == 0;
        if complete && self.return_when == ReturnWhen::Required {
            Then::Grace
        } else {
            Then::GoOn
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    /// What follows each of these ends of four nodes of which two are required: `(required, answered)`.
    fn follows(strategy: Strategy, when: ReturnWhen, ends: &[(bool, bool)]) -> Vec<Then> {
        let mut ending = Ending::new(strategy, when, 2, 4);
        let ended = ends.iter().map(|&(required, answered)| Ended {
            required,
            is_last: true,
            answered,
        });
        ended.map(|node| ending.ended(node)).collect()
    }

    #[test]
    fn each_strategy_ends_when_it_is_decided() {
        use Then::{GoOn, Stop};
        let all = ReturnWhen::All;
        assert_eq!(
            follows(Strategy::All, all, &[(true, true), (true, false)]),
            [GoOn, Stop]
        );
        let fails = [(true, false), (false, false), (true, false), (false, false)];
        assert_eq!(follows(Strategy::Partial, all, &fails), [GoOn; 4]);
        assert_eq!(follows(Strategy::BestEffort, all, &fails), [GoOn; 4]);
        assert_eq!(
            follows(Strategy::First, all, &[(false, false), (true, true)]),
            [GoOn, Stop]
        );
        let two = Strategy::Quorum(NonZeroUsize::new(2).unwrap());
        assert_eq!(
            follows(two, all, &[(false, true), (true, false), (true, true)]),
            [GoOn, GoOn, Stop]
        );
        assert_eq!(
            follows(two, all, &[(false, false), (true, false), (true, false)]),
            [GoOn, GoOn, Stop],
            "one is left, and two are needed"
        );
    }

    #[test]
    fn grace_begins_when_the_last_required_node_has_ended() {
        let ends = [(false, true), (true, true), (true, false)];
        let follows = |when| follows(Strategy::Partial, when, &ends);
        assert_eq!(follows(ReturnWhen::Required)[2], Then::Grace);
        assert_eq!(follows(ReturnWhen::Required)[..2], [Then::GoOn; 2]);
        assert_eq!(follows(ReturnWhen::Deadline), [Then::GoOn; 3]);
    }
}
