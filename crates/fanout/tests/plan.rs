//! Problems of plans: their codes, locations, messages and suggested fixes.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::*;
use tower::ServiceExt;
use tower_fanout::{
    BoundPlan, Bounds, FanOut, LatencyEstimate, Node as Added, Plan, PlanBuilder, PlanDiagnostic,
    Profile, Severity, SkipReason, Status,
};

type Builder = PlanBuilder<Request>;
type Declared<'p> = Added<'p, Request, &'static str>;

/// Adds a node and describes it further with `edit`.
fn add(plan: &mut Builder, name: &str, edit: impl FnOnce(Declared<'_>) -> Declared<'_>) {
    edit(plan.node(name, slow(1), |(), _| Ok(())));
}

fn built(declare: impl FnOnce(&mut Builder)) -> Result<BoundPlan<Request>, Vec<PlanDiagnostic>> {
    let mut plan = Plan::builder();
    declare(&mut plan);
    plan.build().map_err(|error| error.diagnostics().to_vec())
}

/// Returns the code, the location, the message and the fix of each problem.
fn summaries(problems: &[PlanDiagnostic]) -> Vec<[String; 4]> {
    let found = problems.iter().map(|problem| {
        let (what, place) = (problem.to_string(), problem.location.to_string());
        [problem.code.to_owned(), place, what, problem.help.clone()]
    });
    found.collect()
}

/// Returns the errors for which `build` rejects a plan.
fn refused(declare: impl FnOnce(&mut Builder)) -> Vec<[String; 4]> {
    let problems = built(declare).expect_err("the plan must be rejected");
    let errors = problems
        .iter()
        .all(|problem| problem.severity == Severity::Error);
    assert!(errors, "{problems:?}");
    summaries(&problems)
}

/// Returns the warnings of `check`.
fn warned(bounds: &Bounds, declare: impl FnOnce(&mut Builder)) -> Vec<[String; 4]> {
    let plan = built(declare).expect("the plan must be accepted");
    let problems = plan.plan().check(bounds);
    let warnings = problems
        .iter()
        .all(|problem| problem.severity == Severity::Warning);
    assert!(warnings, "{problems:?}");
    summaries(&problems)
}

fn within(deadline: u64) -> Bounds {
    Bounds::default().deadline(ms(deadline))
}

/// A downstream whose calls take at most `worst_cases` milliseconds, by the maximum number of
/// attempts.
fn takes(name: &str, worst_cases: &[u64]) -> Profile {
    let worst_cases = worst_cases.iter().map(|&worst| ms(worst));
    let attempts = worst_cases.len().max(1) as u32;
    Profile::new(name, LatencyEstimate::new())
        .attempts(attempts)
        .worst_cases(worst_cases)
}

mod errors {
    use super::*;

    #[test]
    fn fault_g6_unknown_names_get_a_suggestion() {
        let found = refused(|plan| {
            add(plan, "user", |node| node);
            add(plan, "orders", |node| {
                node.after_named("user")
                    .after_optional_named("usr")
                    .reads("stock")
            });
            add(plan, "user", |node| node);
        });
        assert_eq!(
            found,
            [
                [
                    "duplicate_name",
                    "nodes.user",
                    "duplicate node name \"user\"",
                    "rename one of the nodes"
                ],
                [
                    "unknown_node",
                    "nodes.orders.reads[0]",
                    "\"orders\" reads \"stock\", which is not in the plan",
                    "add a node \"stock\", or remove this reference"
                ],
                [
                    "unknown_node",
                    "nodes.orders.after[1]",
                    "\"orders\" depends on \"usr\", which is not in the plan",
                    "did you mean \"user\"?"
                ],
            ]
        );
        assert_eq!(
            refused(|_| {}),
            [["empty_plan", "nodes", "the plan has no nodes", "add a node"]]
        );
    }

    #[test]
    fn a_key_of_another_plan_is_an_error() {
        let mut other = Plan::builder::<()>();
        let foreign = other.node("other", slow(1), |(), _| Ok(())).key();
        let found = refused(|plan| add(plan, "a", |node| node.after(foreign)));
        assert_eq!(
            found,
            [[
                "foreign_key",
                "nodes.a.after[0]",
                "\"a\" uses a key of another plan",
                "use a key from the builder of this plan"
            ]]
        );
    }

    #[test]
    fn a_node_may_read_only_its_dependencies() {
        let found = refused(|plan| {
            add(plan, "user", |node| node.reads("orders"));
            add(plan, "prices", |node| node);
            add(plan, "orders", |node| {
                node.after_named("user").reads("user").reads("prices")
            });
        });
        assert_eq!(
            found,
            [
                [
                    "not_a_dependency",
                    "nodes.user.reads[0]",
                    "\"user\" reads \"orders\", but does not depend on it",
                    "remove this reference: \"orders\" has to wait for this node"
                ],
                [
                    "not_a_dependency",
                    "nodes.orders.reads[1]",
                    "\"orders\" reads \"prices\", but does not depend on it",
                    "make \"orders\" depend on \"prices\""
                ],
            ]
        );
    }

    #[test]
    fn fault_g6_a_cycle_is_reported_with_its_path_and_a_fix() {
        let found = refused(|plan| {
            add(plan, "user", |node| {
                node.after_named("config").after_named("prices")
            });
            add(plan, "config", |node| node);
            add(plan, "orders", |node| node.after_named("user"));
            add(plan, "prices", |node| node.after_named("orders"));
        });
        assert_eq!(
            found,
            [[
                "cycle",
                "nodes.user.after[1]",
                "dependency cycle: user → prices → orders → user",
                "remove the dependency of \"user\" on \"prices\""
            ]]
        );
        let found = refused(|plan| add(plan, "self", |node| node.after_named("self")));
        assert_eq!(
            found,
            [[
                "cycle",
                "nodes.self.after[0]",
                "dependency cycle: self → self",
                "remove the dependency of \"self\" on \"self\""
            ]]
        );
    }

    #[test]
    fn reads_are_not_checked_in_a_plan_with_a_cycle() {
        let found = refused(|plan| {
            add(plan, "a", |node| node.after_named("b"));
            add(plan, "b", |node| node.after_named("a").reads("a"));
        });
        assert_eq!(found.len(), 1, "{found:?}");
    }

    /// Adds the nodes 0 to `count`. Each depends on the one before it, and the first on `first`.
    fn chain(plan: &mut Builder, count: usize, first: Option<usize>) {
        for node in 0..count {
            let before = if node == 0 { first } else { Some(node - 1) };
            add(plan, &node.to_string(), |added| {
                let name = before.map(|before| before.to_string());
                name.iter()
                    .fold(added, |added, name| added.after_named(name))
            });
        }
    }

    #[test]
    fn reads_are_checked_in_plans_of_more_than_64_nodes() {
        let found = refused(|plan| {
            chain(plan, 130, None);
            add(plan, "reads", |node| {
                let reads = ["0", "63", "64", "99", "100", "129"];
                let node = node.after_named("99");
                reads.into_iter().fold(node, |node, on| node.reads(on))
            });
        });
        let places = found.iter().map(|[_, place, ..]| place.as_str());
        assert!(places.eq(["nodes.reads.reads[4]", "nodes.reads.reads[5]"]));
    }

    #[tokio::test(start_paused = true)]
    async fn fault_g6_deep_plans_build_and_long_cycles_are_reported() {
        for count in [100, 1000] {
            let plan = built(|plan| chain(plan, count, None)).unwrap();
            let fan_out = FanOut::new(plan);
            assert_eq!(fan_out.explain(&(), None).unwrap().waves.len(), count);
            let answer = fan_out.oneshot(()).await.unwrap();
            assert_eq!(answer.report().count(Status::Success), count);
            assert_eq!(answer.report().elapsed, ms(count as u64));
            let last = count - 1;
            let found = refused(|plan| chain(plan, count, Some(last)));
            let [code, place, what, fix] = &found[0];
            assert_eq!(
                (found.len(), &**code, &**place),
                (1, "cycle", "nodes.0.after[0]")
            );
            assert_eq!(what.matches(" → ").count(), count);
            assert_eq!(
                *fix,
                format!("remove the dependency of \"0\" on \"{last}\"")
            );
        }
    }

    #[test]
    fn a_required_node_shares_a_tier_with_all_nodes_it_needs() {
        let found = refused(|plan| {
            add(plan, "all", |node| node);
            add(plan, "user", |node| {
                node.optional().tiers(["free", "pro"]).after_named("all")
            });
            add(plan, "orders", |node| {
                node.optional().tiers(["pro", "max"]).after_named("user")
            });
            add(plan, "page", |node| {
                node.tiers(["free"]).after_named("orders")
            });
            add(plan, "more", |node| node.after_named("page"));
        });
        assert_eq!(
            found,
            [[
                "unreachable",
                "nodes.page.tiers",
                "\"page\" is required, but no tier has all nodes that it needs: \
                 \"page\" (free), \"orders\" (pro, max), \"user\" (free, pro)",
                "give these nodes a common tier, or make \"page\" optional"
            ]]
        );
    }

    #[test]
    fn an_optional_node_may_be_unreachable_unless_it_is_needed() {
        let declare = |required: bool| {
            built(|plan| {
                add(plan, "user", |node| node.optional().tiers(["free"]));
                add(plan, "orders", |node| {
                    node.optional().tiers(["pro"]).after_named("user")
                });
                add(plan, "page", |node| match required {
                    true => node.after_named("orders"),
                    false => node.after_optional_named("orders"),
                });
            })
        };
        assert!(declare(false).is_ok());
        assert_eq!(
            declare(true).unwrap_err()[0].location.to_string(),
            "nodes.orders.tiers"
        );
    }
}

mod warnings {
    use super::*;

    #[test]
    fn a_required_node_that_needs_a_conditional_one_is_a_warning() {
        let found = warned(&Bounds::default(), |plan| {
            add(plan, "config", |node| node);
            add(plan, "user", |node| node.when(|()| Ok(false)));
            add(plan, "orders", |node| {
                node.optional().after_named("config").after_named("user")
            });
            add(plan, "page", |node| {
                node.after_named("orders").after_optional_named("user")
            });
            add(plan, "same", |node| {
                node.after_named("user").when(|()| Ok(false))
            });
            add(plan, "extra", |node| node.after_named("user").optional());
        });
        assert_eq!(
            found,
            [[
                "conditional_dependency",
                "nodes.orders.after[1]",
                "\"orders\" is required, but skipped if the condition of \"user\" is false",
                "make \"user\" an optional dependency, or give both nodes the same condition"
            ]]
        );
    }

    #[test]
    fn the_first_node_of_a_path_that_misses_the_deadline_is_reported() {
        let declare = |plan: &mut Builder| {
            add(plan, "quick", |node| {
                node.downstream(takes("quick", &[100]))
            });
            add(plan, "user", |node| {
                node.downstream(takes("users", &[300, 800]))
            });
            add(plan, "orders", |node| {
                node.downstream(takes("orders", &[700]))
                    .after_named("user")
                    .after_named("quick")
            });
            add(plan, "page", |node| {
                node.downstream(takes("page", &[1])).after_named("orders")
            });
        };
        assert!(warned(&within(1501), declare).is_empty());
        let fix =
            "lower the timeouts or the attempts in the policy of \"user\", or raise the deadline";
        let found = warned(&within(1499), declare);
        assert_eq!(
            found,
            [[
                "worst_case",
                "nodes.orders",
                "\"user\" → \"orders\" may take 1s 500ms, but the deadline is 1s 499ms",
                fix
            ]]
        );
        // Without retries, the plan meets the deadline.
        assert!(warned(&within(1001).max_retries(0), declare).is_empty());
    }

    #[test]
    fn an_unbounded_worst_case_misses_any_deadline() {
        let found = warned(&within(60_000), |plan| {
            add(plan, "known", |node| node.downstream(takes("users", &[])));
        });
        assert_eq!(
            found[0][2],
            "\"known\" may take any time, but the deadline is 1m"
        );
    }

    #[test]
    fn expected_and_worst_case_times_are_separate_warnings() {
        let found = warned(&within(100), |plan| {
            add(plan, "user", |node| {
                node.expected(ms(60)).downstream(takes("users", &[90]))
            });
            add(plan, "orders", |node| {
                node.expected(ms(50))
                    .downstream(takes("orders", &[90]))
                    .after_named("user")
            });
        });
        let codes: Vec<_> = found
            .iter()
            .map(|[code, place, ..]| (&**code, &**place))
            .collect();
        assert_eq!(
            codes,
            [
                ("expected_time", "nodes.orders"),
                ("worst_case", "nodes.orders")
            ]
        );
        assert_eq!(
            found[0][2],
            "\"user\" → \"orders\" is expected to take 110ms, but the deadline is 100ms"
        );
        assert_eq!(found[0][3], "raise the deadline, or make \"user\" faster");
    }

    #[test]
    fn nodes_may_be_late_because_of_max_concurrency() {
        let declare = |plan: &mut Builder| {
            for name in ["a", "b", "c"] {
                add(plan, name, |node| node.downstream(takes(name, &[400])));
            }
        };
        assert!(warned(&within(800).max_concurrency(2_usize), declare).is_empty());
        assert_eq!(
            warned(&within(799).max_concurrency(2_usize), declare),
            [[
                "max_concurrency",
                "nodes",
                "all nodes, 2 at a time, may take 800ms, but the deadline is 799ms",
                "raise max_concurrency or the deadline, or lower the timeouts of the policies"
            ]]
        );
    }

    #[test]
    fn attempts_multiply_along_a_plan() {
        let declare = |plan: &mut Builder| {
            for name in ["a", "b", "c"] {
                add(plan, name, |node| {
                    node.downstream(takes("users", &[1, 2, 3, 4]))
                });
            }
            add(plan, "other", |node| {
                node.downstream(takes("others", &[1, 2, 3, 4]))
            });
            add(plan, "unknown", |node| node);
        };
        let bounds = Bounds::default();
        assert_eq!(
            warned(&bounds, declare),
            [[
                "amplification",
                "nodes.c",
                "one request may send 12 attempts to \"users\" (nodes a, b, c), but at most 10 are allowed",
                "limit a call of \"users\" to 3 attempts"
            ]]
        );
        // The retries that the nodes share bound the attempts: 3 nodes, and 3 retries.
        for (retries, bound, warns) in [
            (3, 6_u32, false),
            (3, 5, true),
            (1, 6, false),
            (0, 3, false),
        ] {
            let bounds = bounds
                .max_retries(retries)
                .max_attempts_per_downstream(bound);
            let found = warned(&bounds, declare);
            assert_eq!(!found.is_empty(), warns, "{retries} {bound}: {found:?}");
        }
        let fix =
            |bound: u32| warned(&bounds.max_attempts_per_downstream(bound), declare)[1][3].clone();
        assert_eq!(fix(3), "turn off retries and hedges for \"users\"");
        assert_eq!(
            fix(2),
            "call \"users\" from fewer nodes, with fewer attempts each"
        );
    }

    /// A fallback is called after the node's own downstream, and other nodes may call it directly.
    #[test]
    fn fallbacks_add_time_and_attempts() {
        let declare = |plan: &mut Builder| {
            let spare = || takes("spare", &[100, 200, 300]);
            let user = takes("users", &[1000]).fallback(spare());
            add(plan, "user", |node| node.downstream(user));
            add(plan, "team", |node| node.downstream(spare()));
        };
        let bounds = within(1300).max_attempts_per_downstream(6_u32);
        assert!(warned(&bounds, declare).is_empty());
        let bounds = within(1299).max_attempts_per_downstream(5_u32);
        let found = warned(&bounds, declare);
        assert_eq!(
            found.iter().map(|problem| &*problem[2]).collect::<Vec<_>>(),
            [
                "\"user\" may take 1s 300ms, but the deadline is 1s 299ms",
                "one request may send 6 attempts to \"spare\" (nodes user, team), but at most 5 are allowed"
            ]
        );
        // Each call may make one retry, but the request shares one.
        let bounds = within(1200)
            .max_retries(1)
            .max_attempts_per_downstream(3_u32);
        assert!(warned(&bounds, declare).is_empty());
        let found = warned(&within(2000), |plan| {
            let user = takes("users", &[1000]).fallback(takes("endless", &[]));
            add(plan, "user", |node| node.downstream(user));
        });
        assert_eq!(
            found[0][2],
            "\"user\" may take any time, but the deadline is 2s"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_dependency_declared_twice_is_hard_if_one_is() {
    let mut plan = Plan::builder();
    plan.node("user", broken(1), |(), _| Ok(())).optional();
    plan.node("orders", slow(1), |(), _| Ok(()))
        .optional()
        .after_optional_named("user")
        .after_named("user");
    plan.node("page", slow(1), |(), _| Ok(()));
    let answer = FanOut::new(plan.build().unwrap())
        .oneshot(())
        .await
        .unwrap();
    let skipped = answer.report().branches[1].skipped;
    assert_eq!(skipped, Some(SkipReason::Dependency));
}

#[test]
fn a_profile_knows_its_worst_case_by_attempts() {
    let profile = takes("users", &[10, 20, 30]);
    let longest = |attempts| {
        profile
            .worst_case()
            .longest_of(attempts)
            .map(|time| time.as_millis())
    };
    assert_eq!([0, 1, 2, 3, 9].map(longest), [10, 10, 20, 30, 30].map(Some));
    assert_eq!(profile.worst_case().longest(), Some(ms(30)));
    assert_eq!(profile.attempts(2).worst_case().longest_of(3), Some(ms(20)));
    assert_eq!(takes("users", &[]).worst_case().longest(), None::<Duration>);
    let users = downstream(|_| {}).profile().worst_case().clone();
    assert_eq!(
        (users.max_attempts(), users.longest_of(1)),
        (3, Some(ms(1000)))
    );
    assert_eq!(users.longest(), Some(ms(3 * 1000 + 150)));
}

#[test]
fn all_cycles_are_reported_and_a_typo_causes_one_error() {
    let mut plan = Plan::builder::<()>();
    for (node, on) in [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")] {
        plan.node(node, slow(1), |(), _| Ok(())).after_named(on);
    }
    let error = plan.build().unwrap_err();
    assert_eq!(error.diagnostics().len(), 2, "{error}");

    let mut plan = Plan::builder::<()>();
    plan.node("account", slow(1), |(), _| Ok(()));
    let user = plan.node("user", slow(1), |(), _| Ok(()));
    user.after_named("account");
    let orders = plan.node("orders", slow(1), |(), _| Ok(()));
    orders.after_named("usr").reads("account").reads("user");
    plan.node("other", slow(1), |(), _| Ok(())).reads("user");
    let error = plan.build().unwrap_err();
    let places: Vec<_> = (error.diagnostics().iter())
        .map(|problem| problem.location.to_string())
        .collect();
    assert_eq!(places, ["nodes.orders.after[0]", "nodes.other.reads[0]"]);
}
