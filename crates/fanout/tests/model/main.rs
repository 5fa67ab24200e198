//! Compares runs of random plans with a simple model.
#![allow(missing_docs)]

mod case;
mod choice;
mod makespan;
mod real;
mod reference;
mod same_answers;

use std::time::Duration;

use case::cases;
use proptest::{prelude::*, test_runner::Config};

/// Number of cases per property.
const CASES: u32 = 10_000;

fn config(cases: u32) -> Config {
    Config {
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..Config::with_cases(cases)
    }
}

proptest! {
    #![proptest_config(config(CASES))]

    #[test]
    fn a_run_matches_the_model(case in cases()) {
        let expected = reference::expect(&case);
        let real = real::run(&case);
        prop_assert_eq!(real.outcome, expected.clone());
        prop_assert!(real.peak <= case.max_concurrency, "{} nodes in flight", real.peak);
        prop_assert_eq!(real.left_running, 0);
        let Some(expected) = expected else { return Ok(()) };
        for (node, fate) in &expected.fates {
            let Some(started) = fate.started else { continue };
            for (dependency, _) in &case.nodes[*node].dependencies {
                let ended = expected.fates[dependency].ended;
                prop_assert!(ended.is_none_or(|ended| ended <= started), "{node} started too early");
            }
        }
        let late = case.deadline.is_some_and(|deadline| expected.elapsed > deadline);
        prop_assert!(!late, "the run took {} ms", expected.elapsed);
    }

    #[test]
    fn fault_g10_a_run_dropped_at_any_time_leaves_no_calls(case in cases(), at in 0u64..1500) {
        prop_assert_eq!(real::drop_at(&case, Duration::from_millis(at)), 0);
    }
}

proptest! {
    #![proptest_config(config(1000))]

    #[test]
    fn without_limits_a_run_takes_as_long_as_its_longest_path(case in cases()) {
        let mut case = case;
        case.unconstrain();
        let real = real::run(&case);
        prop_assert_eq!(real.outcome.map(|outcome| outcome.elapsed), Some(reference::critical_path(&case)));
    }
}
