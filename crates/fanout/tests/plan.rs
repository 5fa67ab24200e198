//! What is wrong with plans: what is said of it, where it is, and what to do about it.
#![allow(missing_docs)]

mod common;

use std::time::Duration;

use common::*;
use tower::ServiceExt;
use tower_fanout::{
    BoundPlan, Bounds, FanOut, LatencyEstimate, Node as Added, Plan, PlanBuilder, PlanDiagnostic,
    Profile, Severity, SkipReason, Status,
};

type Builder = PlanBuilder<Ask>;
type Declared<'p> = Added<'p, Ask, &'static str>;

/// Adds a node that `edit` says more about.
fn add(plan: &mut Builder, name: &str, edit: impl FnOnce(Declared<'_>) -> Declared<'_>) {
    edit(plan.node(name, slow(1), |(), _| Ok(())));
}

fn built(declare: impl FnOnce(&mut Builder)) -> Result<BoundPlan<Ask>, Vec<PlanDiagnostic>> {
    let mut plan = Plan::builder();
    declare(&mut plan);
    plan.build().map_err(|error| error.diagnostics().to_vec())
}

/// The code, the place, the words and the fix of each problem.
fn told(problems: &[PlanDiagnostic]) -> Vec<[String; 4]> {
    let told = problems.iter().map(|problem| {
        let (what, place) = (problem.to_string(), problem.place().to_string());
        [problem.code().to_owned(), place, what, problem.help()]
    });
    told.collect()
}

/// What `build` says of a plan that it refuses.
fn refused(declare: impl FnOnce(&mut Builder)) -> Vec<[String; 4]> {
    let problems = built(declare).expect_err("the plan was taken");
    let errors = problems
        .iter()
        .all(|problem| problem.severity() == Severity::Error);
    assert!(errors, "{problems:?}");
    told(&problems)
}

/// What `check` says of a plan.
fn warned(bounds: &Bounds, declare: impl FnOnce(&mut Builder)) -> Vec<[String; 4]> {
    let plan = built(declare).expect("the plan was refused");
    let problems = plan.plan().check(bounds);
    let warnings = problems
        .iter()
        .all(|problem| problem.severity() == Severity::Warning);
    assert!(warnings, "{problems:?}");
    told(&problems)
}

fn within(deadline: u64) -> Bounds {
    Bounds::default().deadline(ms(deadline))
}

/// A downstream that takes so many milliseconds at most, by the number of attempts.
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
    fn fault_g6_names_that_are_not_there_get_the_nearest_one() {
        let told = refused(|plan| {
            add(plan, "user", |node| node);
            add(plan, "orders", |node| {
                node.after_named("user")
                    .after_optional_named("usr")
                    .reads("stock")
            });
            add(plan, "user", |node| node);
        });
        assert_eq!(
            told,
            [
                [
                    "duplicate_name",
                    "nodes.user",
                    "two nodes are called \"user\"",
                    "call one of them otherwise"
                ],
                [
                    "unknown_node",
                    "nodes.orders.reads[0]",
                    "\"orders\" reads \"stock\", which is not in the plan",
                    "declare a node \"stock\", or take this out"
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
            [[
                "empty_plan",
                "nodes",
                "the plan has no nodes",
                "declare a node"
            ]]
        );
    }

    #[test]
    fn a_key_of_another_plan_is_no_dependency() {
        let mut other = Plan::builder::<()>();
        let foreign = other.node("other", slow(1), |(), _| Ok(())).key();
        let told = refused(|plan| add(plan, "a", |node| node.after(foreign)));
        assert_eq!(
            told,
            [[
                "foreign_key",
                "nodes.a.after[0]",
                "\"a\" depends on a key of another plan",
                "take a key that the builder of this plan gave"
            ]]
        );
    }

    #[test]
    fn what_is_read_must_come_before() {
        let told = refused(|plan| {
            add(plan, "user", |node| node.reads("orders"));
            add(plan, "prices", |node| node);
            add(plan, "orders", |node| {
                node.after_named("user").reads("user").reads("prices")
            });
        });
        assert_eq!(
            told,
            [
                [
                    "not_a_dependency",
                    "nodes.user.reads[0]",
                    "\"user\" reads \"orders\", which it does not come after",
                    "do not read \"orders\", which has to wait for this one"
                ],
                [
                    "not_a_dependency",
                    "nodes.orders.reads[1]",
                    "\"orders\" reads \"prices\", which it does not come after",
                    "let \"orders\" come after \"prices\""
                ],
            ]
        );
    }

    #[test]
    fn fault_g6_a_cycle_is_told_with_its_path_and_the_edge_to_take_out() {
        let told = refused(|plan| {
            add(plan, "user", |node| {
                node.after_named("config").after_named("prices")
            });
            add(plan, "config", |node| node);
            add(plan, "orders", |node| node.after_named("user"));
            add(plan, "prices", |node| node.after_named("orders"));
        });
        assert_eq!(
            told,
            [[
                "cycle",
                "nodes.user.after[1]",
                "these nodes wait for each other: user → prices → orders → user",
                "let \"user\" not come after \"prices\""
            ]]
        );
        let told = refused(|plan| add(plan, "self", |node| node.after_named("self")));
        assert_eq!(
            told,
            [[
                "cycle",
                "nodes.self.after[0]",
                "these nodes wait for each other: self → self",
                "let \"self\" not come after \"self\""
            ]]
        );
    }

    #[test]
    fn a_cycle_hides_what_is_read() {
        let told = refused(|plan| {
            add(plan, "a", |node| node.after_named("b"));
            add(plan, "b", |node| node.after_named("a").reads("a"));
        });
        assert_eq!(told.len(), 1, "{told:?}");
    }

    /// Nodes 0 to `count`, each after the one before it, and the first after `first`.
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

    #[tokio::test(start_paused = true)]
    async fn fault_g6_depth_is_no_problem_and_a_cycle_of_any_length_is_named() {
        for count in [100, 1000] {
            let plan = built(|plan| chain(plan, count, None)).unwrap();
            assert_eq!(plan.plan().nodes()[count - 1].wave(), count - 1);
            let answer = FanOut::new(plan).oneshot(()).await.unwrap();
            assert_eq!(answer.report().count(Status::Success), count);
            assert_eq!(answer.report().elapsed, ms(count as u64));
            let last = count - 1;
            let told = refused(|plan| chain(plan, count, Some(last)));
            let [code, place, what, fix] = &told[0];
            assert_eq!(
                (told.len(), &**code, &**place),
                (1, "cycle", "nodes.0.after[0]")
            );
            assert_eq!(what.matches(" → ").count(), count);
            assert_eq!(*fix, format!("let \"0\" not come after \"{last}\""));
        }
    }

    #[test]
    fn a_required_node_has_a_tier_in_common_with_all_it_needs() {
        let told = refused(|plan| {
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
            told,
            [[
                "unreachable",
                "nodes.page.tiers",
                "\"page\" is required, and no tier has all that it needs: \
                 \"page\" (free), \"orders\" (pro, max), \"user\" (free, pro)",
                "give them a tier in common, or make \"page\" optional"
            ]]
        );
    }

    #[test]
    fn an_optional_node_may_be_out_of_reach_unless_a_required_one_needs_it() {
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
            declare(true).unwrap_err()[0].place().to_string(),
            "nodes.orders.tiers"
        );
    }
}

mod warnings {
    use super::*;

    #[test]
    fn a_required_node_should_not_need_one_that_may_not_be_there() {
        let told = warned(&Bounds::default(), |plan| {
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
            told,
            [[
                "conditional_dependency",
                "nodes.orders.after[1]",
                "\"orders\" is required, but skipped where the condition of \"user\" does not hold",
                "make \"user\" an optional dependency, or take its condition for both"
            ]]
        );
    }

    #[test]
    fn the_first_node_of_a_path_that_the_deadline_cuts_is_told() {
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
            "shorten the attempt_timeout of \"user\", set its total_timeout, or try it less often";
        let told = warned(&within(1499), declare);
        assert_eq!(
            told,
            [[
                "worst_case",
                "nodes.orders",
                "the worst case of user → orders is 1s 500ms, and the deadline 1s 499ms",
                fix
            ]]
        );
        // Without retries, it is in time.
        assert!(warned(&within(1001).max_retries(0), declare).is_empty());
    }

    #[test]
    fn what_has_no_end_is_too_long() {
        let told = warned(&within(60_000), |plan| {
            add(plan, "known", |node| node.downstream(takes("users", &[])));
        });
        assert_eq!(
            told[0][2],
            "the worst case of known is without end, and the deadline 1m"
        );
    }

    #[test]
    fn what_is_expected_to_be_late_is_told_apart() {
        let told = warned(&within(100), |plan| {
            add(plan, "user", |node| {
                node.expected(ms(60)).downstream(takes("users", &[90]))
            });
            add(plan, "orders", |node| {
                node.expected(ms(50))
                    .downstream(takes("orders", &[90]))
                    .after_named("user")
            });
        });
        let codes: Vec<_> = told
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
            told[0][2],
            "the expected time of user → orders is 110ms, and the deadline 100ms"
        );
        assert_eq!(
            told[0][3],
            "give the request more time, or make \"user\" faster"
        );
    }

    #[test]
    fn nodes_that_wait_for_their_turn_may_be_late_for_it() {
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
                "the worst case of all nodes, 2 at once, is 800ms, and the deadline 799ms",
                "let more nodes run at once, or each take less time"
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
                "one request may send 12 attempts to \"users\", by a, b, c: more than 10",
                "let a call of \"users\" make 3 attempts at most"
            ]]
        );
        // What a request shares of retries bounds what it sends: 3 nodes, and 3 retries.
        for (retries, bound, warns) in [
            (3, 6_u32, false),
            (3, 5, true),
            (1, 6, false),
            (0, 3, false),
        ] {
            let bounds = bounds
                .max_retries(retries)
                .max_attempts_per_downstream(bound);
            let told = warned(&bounds, declare);
            assert_eq!(!told.is_empty(), warns, "{retries} {bound}: {told:?}");
        }
        let fix =
            |bound: u32| warned(&bounds.max_attempts_per_downstream(bound), declare)[1][3].clone();
        assert_eq!(fix(3), "neither retry nor hedge \"users\"");
        assert_eq!(fix(2), "ask \"users\" from 2 nodes at most");
    }

    /// What is asked instead is asked after the node's own, and may be what others ask for themselves.
    #[test]
    fn what_is_asked_instead_takes_time_and_attempts_too() {
        let declare = |plan: &mut Builder| {
            let spare = || takes("spare", &[100, 200, 300]);
            let user = takes("users", &[1000]).fallback(spare());
            add(plan, "user", |node| node.downstream(user));
            add(plan, "team", |node| node.downstream(spare()));
        };
        let bounds = within(1300).max_attempts_per_downstream(6_u32);
        assert!(warned(&bounds, declare).is_empty());
        let bounds = within(1299).max_attempts_per_downstream(5_u32);
        let told = warned(&bounds, declare);
        assert_eq!(
            told.iter().map(|problem| &*problem[2]).collect::<Vec<_>>(),
            [
                "the worst case of user is 1s 300ms, and the deadline 1s 299ms",
                "one request may send 6 attempts to \"spare\", by user, team: more than 5"
            ]
        );
        // One retry for each, of which they share one.
        let bounds = within(1200)
            .max_retries(1)
            .max_attempts_per_downstream(3_u32);
        assert!(warned(&bounds, declare).is_empty());
        let told = warned(&within(2000), |plan| {
            let user = takes("users", &[1000]).fallback(takes("endless", &[]));
            add(plan, "user", |node| node.downstream(user));
        });
        assert_eq!(
            told[0][2],
            "the worst case of user is without end, and the deadline 2s"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_dependency_that_is_said_twice_is_as_hard_as_it_was_said() {
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
fn all_cycles_are_named_and_a_slip_blames_nobody_else() {
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
        .map(|problem| problem.place().to_string())
        .collect();
    assert_eq!(places, ["nodes.orders.after[0]", "nodes.other.reads[0]"]);
}
