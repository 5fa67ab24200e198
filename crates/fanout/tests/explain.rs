//! Explanations of requests, in all formats.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::*;
use proptest::prelude::{Strategy as _, any, prop, prop_assert_eq, proptest};
use tokio::time::Instant;
use tower_fanout::{
    BoundPlan, Explanation, FanOut, LatencyEstimate, Plan, Profile, ReturnWhen, SelectError,
    SkipReason, Strategy,
};

/// A downstream whose calls take at most `worst_cases` milliseconds, by the maximum number of
/// attempts.
fn takes(name: &str, worst_cases: &[u64]) -> Profile {
    Profile::new(name, LatencyEstimate::new())
        .attempts(worst_cases.len() as u32)
        .worst_cases(worst_cases.iter().map(|&worst| ms(worst)))
}

/// A page with a user, their orders, suggestions, and trends that only some tiers have.
fn page() -> BoundPlan<Request> {
    let mut plan = Plan::builder();
    let service = || slow(1);
    let user = plan
        .node("user", service(), |(), _| Ok(()))
        .expected(ms(30))
        .downstream(takes("users", &[100, 250]))
        .key();
    plan.node("orders", service(), |(), _| Ok(()))
        .after(user)
        .expected(ms(50))
        .downstream(takes("orders", &[200, 450]));
    plan.node("likes", service(), |(), _| Ok(()))
        .after_optional(user)
        .after_optional_named("trend")
        .optional()
        .expected(ms(20))
        .downstream(takes("likes", &[100]));
    plan.node("trend", service(), |(), _| Ok(()))
        .optional()
        .tiers(["pro"]);
    plan.build().unwrap()
}

fn explained(deadline: u64) -> Explanation {
    let fan_out = FanOut::new(page()).tier("free");
    fan_out.explain(&(), Some(ms(deadline))).unwrap()
}

#[test]
fn a_plan_is_explained_as_a_table() {
    assert_eq!(
        explained(600).to_string(),
        "\
strategy partial, deadline 600ms, expected 80ms, worst case 600ms
critical path: user → orders

wave  node    runs            after          start  expected  budget  attempts
1     user    required        -              0s     30ms      520ms   2
2     orders  required        user           30ms   50ms      540ms   2
2     likes   optional        user?, trend?  30ms   20ms      540ms   1
-     trend   skipped (tier)  -              -      -         -       1

warning[worst_case]: \"user\" → \"orders\" may take 700ms, but the deadline is 600ms
  at nodes.orders: lower the timeouts or the attempts in the policy of \"orders\", or raise the deadline
"
    );
}

#[test]
fn a_plan_is_explained_as_a_diagram() {
    assert_eq!(
        explained(600).to_mermaid(),
        "\
flowchart LR
  %% strategy partial, deadline 600ms, expected 80ms, worst case 600ms
  n0[\"user<br>expected 30ms, budget 520ms\"]
  n1[\"orders<br>expected 50ms, budget 540ms\"]
  n2[\"likes<br>expected 20ms, budget 540ms\"]:::optional
  n3[\"trend<br>skipped (tier)\"]:::skipped
  n0 ==> n1
  n0 -.-> n2
  n3 -.-> n2
  class n0,n1 critical
  classDef critical stroke-width:3px
  classDef optional stroke-dasharray: 5 5
  classDef skipped fill:#eee,stroke:#bbb,color:#888
"
    );
}

#[cfg(feature = "serde")]
#[test]
fn a_plan_is_explained_as_json() {
    let json = serde_json::to_value(explained(600)).unwrap();
    let fix =
        "lower the timeouts or the attempts in the policy of \"orders\", or raise the deadline";
    assert_eq!(
        json,
        serde_json::json!({
            "strategy": "partial", "deadline": 600, "waves": [["user"], ["orders", "likes"]],
            "criticalPath": ["user", "orders"], "expected": 80, "worstCase": 600,
            "services": {
                "user": {
                    "required": true, "selected": true, "skipReason": null, "dependsOn": [],
                    "circuitBreakerState": "CLOSED",
                    "start": 0, "expected": 30, "budget": 520, "worstCaseAttempts": 2
                },
                "orders": {
                    "required": true, "selected": true, "skipReason": null, "dependsOn": ["user"],
                    "circuitBreakerState": "CLOSED",
                    "start": 30, "expected": 50, "budget": 540, "worstCaseAttempts": 2
                },
                "likes": {
                    "required": false, "selected": true, "skipReason": null,
                    "dependsOn": ["user", "trend"],
                    "circuitBreakerState": "CLOSED",
                    "start": 30, "expected": 20, "budget": 540, "worstCaseAttempts": 1
                },
                "trend": {
                    "required": false, "selected": false, "skipReason": "tier", "dependsOn": [],
                    "circuitBreakerState": "CLOSED",
                    "start": null, "expected": null, "budget": null, "worstCaseAttempts": 1
                }
            },
            "warnings": [{
                "code": "worst_case", "place": "nodes.orders",
                "message": "\"user\" → \"orders\" may take 700ms, but the deadline is 600ms",
                "fix": fix
            }]
        })
    );
}

#[test]
fn without_a_deadline_or_estimates_times_are_unknown() {
    let mut plan = Plan::builder();
    plan.node("user", slow(1), |(), _| Ok(())).expected(ms(30));
    plan.node("orders", slow(1), |(), _| Ok(()))
        .after_named("user");
    let explanation = FanOut::new(plan.build().unwrap())
        .explain(&(), None)
        .unwrap();
    assert_eq!((explanation.expected, explanation.worst_case), (None, None));
    // The longest time of the first node is unknown.
    assert_eq!(explanation.critical_path, [0]);
    assert_eq!(explanation.nodes[1].start, Some(ms(30)));
    assert_eq!(explanation.nodes[1].budget, None);
    assert!(explanation.warnings.is_empty());
}

#[test]
fn a_request_that_cannot_run_is_not_explained() {
    let strategy = Strategy::Quorum(9.try_into().unwrap());
    let error = FanOut::new(page()).strategy(strategy).explain(&(), None);
    assert!(matches!(error, Err(SelectError::Quorum { needed: 9, .. })));
}

#[test]
fn an_optional_node_without_enough_time_has_no_budget() {
    let explanation = explained(50);
    let budgets = explanation.nodes.iter().map(|node| node.budget);
    // The branches have 47.5 ms, and the second wave starts after 30 ms.
    let left = Duration::from_micros(17_500);
    let all = Duration::from_micros(47_500);
    assert_eq!(
        budgets.collect::<Vec<_>>(),
        [Some(all), Some(left), None, None]
    );
}

#[test]
fn a_required_node_reserves_no_budget_for_an_optional_one() {
    let budget = |required: bool| {
        let mut plan = Plan::builder();
        let first = plan.node("first", slow(1), |(), _| Ok(())).expected(ms(10));
        if !required {
            first.optional();
        }
        plan.node("second", slow(1), |(), _| Ok(()))
            .optional()
            .after_named("first")
            .expected(ms(40));
        let fan_out = FanOut::new(plan.build().unwrap());
        fan_out.explain(&(), Some(ms(100))).unwrap().nodes[0].budget
    };
    assert_eq!([true, false].map(budget), [Some(ms(95)), Some(ms(55))]);
}

/// A node of a random plan: its duration in milliseconds, whether it is required, and its
/// dependencies among the nodes before it.
type Random = (u64, bool, Vec<usize>);

fn random() -> impl proptest::strategy::Strategy<Value = Vec<Random>> {
    let node = (
        1u64..50,
        any::<bool>(),
        prop::collection::vec(any::<prop::sample::Index>(), 0..3),
    );
    prop::collection::vec(node, 1..12).prop_map(|nodes| {
        let before = |node: usize, picks: Vec<prop::sample::Index>| match node {
            0 => Vec::new(),
            _ => picks.into_iter().map(|pick| pick.index(node)).collect(),
        };
        let nodes = nodes.into_iter().enumerate();
        nodes
            .map(|(node, (time, required, picks))| (time, required, before(node, picks)))
            .collect()
    })
}

/// Returns the length and the nodes of the longest path to the end of `node`. Of equal paths, the
/// one through nodes that were declared first.
fn longest(nodes: &[Random], node: usize, time: &dyn Fn(usize) -> u64) -> (u64, Vec<usize>) {
    let ways = nodes[node]
        .2
        .iter()
        .map(|&before| longest(nodes, before, time));
    let best = ways.max_by_key(|(length, way)| (*length, std::cmp::Reverse(way[way.len() - 1])));
    let (length, mut way) = best.unwrap_or_default();
    way.push(node);
    (length + time(node), way)
}

fn plan_of(nodes: &[Random]) -> BoundPlan<Request> {
    let mut plan = Plan::builder();
    for (node, (time, required, after)) in nodes.iter().enumerate() {
        let mut added = plan
            .node(&node.to_string(), slow(*time), |(), _| Ok(()))
            .expected(ms(*time));
        for before in after {
            added = added.after_named(&before.to_string());
        }
        if !required {
            added.optional();
        }
    }
    plan.build().unwrap()
}

fn run(fan_out: &FanOut<Request>) -> (Duration, Vec<usize>, Vec<Option<Duration>>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let start = Instant::now();
        let answer = tower::ServiceExt::oneshot(fan_out.clone(), ())
            .await
            .unwrap();
        let report = answer.report();
        let starts = report.branches.iter().map(|branch| branch.started);
        (
            start.elapsed(),
            report.critical_path.clone(),
            starts.collect(),
        )
    })
}

proptest! {
    #[test]
    fn waves_and_the_critical_path_match_the_model(nodes in random()) {
        let explanation = FanOut::new(plan_of(&nodes)).explain(&(), None).unwrap();
        let ways = (0..nodes.len()).map(|node| longest(&nodes, node, &|node| nodes[node].0));
        let (length, way) = ways
            .max_by_key(|(length, way)| (*length, std::cmp::Reverse(way[way.len() - 1])))
            .unwrap();
        prop_assert_eq!(explanation.expected, Some(ms(length)));
        prop_assert_eq!(explanation.critical_path, way);
        for (wave, members) in explanation.waves.iter().enumerate() {
            for &node in members {
                let hops = longest(&nodes, node, &|_| 1).0;
                prop_assert_eq!(hops as usize, wave + 1);
            }
        }
        prop_assert_eq!(explanation.waves.iter().map(Vec::len).sum::<usize>(), nodes.len());
    }

    #[test]
    fn a_run_matches_its_explanation(nodes in random(), at_once in 1usize..5) {
        let fan_out = FanOut::new(plan_of(&nodes)).max_concurrency(at_once);
        let explanation = fan_out.explain(&(), None).unwrap();
        let (elapsed, critical_path, starts) = run(&fan_out);
        prop_assert_eq!(explanation.expected, Some(elapsed));
        prop_assert_eq!(explanation.critical_path, critical_path);
        let expected: Vec<_> = explanation.nodes.iter().map(|node| node.start).collect();
        prop_assert_eq!(expected, starts);
    }
}

#[test]
fn the_expected_time_depends_on_return_when() {
    let mut plan = Plan::builder::<()>();
    plan.node("fast", slow(1), |(), _| Ok(())).expected(ms(10));
    let long = plan.node("long", slow(1), |(), _| Ok(()));
    let long = long.optional().expected(ms(700)).key();
    let next = plan.node("next", slow(1), |(), _| Ok(())).optional();
    next.after(long).expected(ms(500));
    let fan_out = FanOut::new(plan.build().unwrap());
    let explained = |fan_out: FanOut<()>| {
        let explanation = fan_out.explain(&(), Some(ms(1000))).unwrap();
        (explanation.expected, explanation.critical_path)
    };
    assert_eq!(explained(fan_out.clone()), (Some(ms(700)), vec![1]));
    let explanation = fan_out.explain(&(), Some(ms(1000))).unwrap();
    assert_eq!(explanation.nodes[2].skip_reason, Some(SkipReason::NoTime));
    let first = fan_out.clone().strategy(Strategy::First);
    assert_eq!(explained(first), (Some(ms(10)), vec![0]));
    let required = fan_out.return_when(ReturnWhen::Required).grace(ms(50));
    assert_eq!(explained(required), (Some(ms(60)), vec![0]));
}
