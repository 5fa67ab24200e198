//! The course of a run: when nodes start, end and are cancelled.
#![allow(missing_docs)]

mod common;

use std::{num::NonZeroUsize, time::Duration};

use common::*;
use tokio::time::Instant;
use tower::{BoxError, ServiceExt, service_fn};
use tower_fanout::{
    BoundPlan, BranchError, Brownout, Choice, ErrorKind, FanOut, FanOutError, Plan, SelectError,
    Selection, SkipReason, Status, Strategy, Verdict,
    layers::{Call, CallContext, Deadline, Priority},
};

/// A request with a deadline.
struct WithDeadline(Call);

impl WithDeadline {
    fn after(timeout: Duration) -> Self {
        let mut call = Call::NONE;
        call.deadline = Deadline::after(Instant::now(), timeout);
        Self(call)
    }
}

impl CallContext for WithDeadline {
    fn call(&self) -> &Call {
        &self.0
    }

    fn call_mut(&mut self) -> Option<&mut Call> {
        Some(&mut self.0)
    }
}

async fn timed<T>(future: impl Future<Output = T>) -> (T, Duration) {
    let start = Instant::now();
    let output = future.await;
    (output, start.elapsed())
}

fn five_of_200_ms() -> FanOut<()> {
    let names = ["a", "b", "c", "d", "e"];
    FanOut::new(
        independent(names.map(|name| (name, slow(200))))
            .build()
            .unwrap(),
    )
}

fn statuses(report: &tower_fanout::Report) -> Vec<Status> {
    report.branches.iter().map(|branch| branch.status).collect()
}

#[tokio::test(start_paused = true)]
async fn five_services_take_as_long_as_the_slowest() {
    let (answer, elapsed) = timed(five_of_200_ms().oneshot(())).await;
    assert_eq!(statuses(answer.unwrap().report()), [Status::Success; 5]);
    assert_eq!(elapsed, ms(200));
}

#[tokio::test(start_paused = true)]
async fn dl_12_later_nodes_get_the_remaining_time_minus_the_margin() {
    let left = service_fn(|call: WithDeadline| async move {
        let deadline = call.call().deadline.unwrap();
        Ok::<_, BoxError>(deadline.remaining(Instant::now()))
    });
    let mut plan = Plan::builder::<WithDeadline>();
    let first = plan.node("first", slow(200), |_, _| Ok(())).key();
    let later = plan.node("later", left, |until: &WithDeadline, _| {
        Ok(WithDeadline(until.0.clone()))
    });
    let later = later.after(first).key();
    let answer = FanOut::new(plan.build().unwrap()).oneshot(WithDeadline::after(ms(400)));
    // The merge margin is a twentieth of the whole time, at most 50 ms.
    assert_eq!(*answer.await.unwrap().get(later).unwrap(), ms(180));
}

#[tokio::test(start_paused = true)]
async fn two_at_a_time_take_three_waves() {
    let (answer, elapsed) = timed(five_of_200_ms().max_concurrency(2).oneshot(())).await;
    let starts: Vec<_> = answer
        .unwrap()
        .report()
        .branches
        .iter()
        .map(|branch| branch.started.unwrap())
        .collect();
    assert_eq!(starts, [0, 0, 200, 200, 400].map(ms));
    assert_eq!(elapsed, ms(600));
}

#[tokio::test(start_paused = true)]
async fn a_run_yields_each_node_when_it_ends() {
    let nodes = [("early", slow(1)), ("late", slow(2))];
    let fan_out = FanOut::new(independent(nodes).build().unwrap());
    let mut run = fan_out.run(()).unwrap();
    for ended in [0, 1] {
        let node = std::future::poll_fn(|cx| run.poll_next(cx)).await;
        let answers = [0, 1].map(|node| run.at::<&str>(node).copied());
        assert_eq!(node, Some(ended));
        assert_eq!(answers, [Some("ok"), (ended == 1).then_some("ok")]);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_g16_one_at_a_time_is_strictly_serial() {
    let (_, elapsed) = timed(five_of_200_ms().max_concurrency(1).oneshot(())).await;
    assert_eq!(elapsed, ms(1000));
}

#[tokio::test(start_paused = true)]
async fn ord_11_nodes_start_by_priority() {
    let notes = Notes::default();
    let mut plan = Plan::builder();
    for (name, priority) in [("one", 1), ("nine", 9), ("five", 5)] {
        let notes = notes.clone();
        let service = node(move || {
            notes.add(name);
            async { Ok("ok") }
        });
        plan.node(name, service, |(), _| Ok(()))
            .priority(Priority::new(priority).unwrap());
    }
    FanOut::new(plan.build().unwrap())
        .max_concurrency(1)
        .oneshot(())
        .await
        .unwrap();
    assert_eq!(notes.take(), ["nine", "five", "one"]);
}

#[tokio::test(start_paused = true)]
async fn required_nodes_start_before_optional_ones_of_a_higher_priority() {
    let mut plan = Plan::builder();
    plan.node("optional", slow(10), |(), _| Ok(()))
        .optional()
        .priority(Priority::MAX);
    plan.node("required", slow(10), |(), _| Ok(()));
    let answer = FanOut::new(plan.build().unwrap())
        .max_concurrency(1)
        .oneshot(())
        .await
        .unwrap();
    let started = |node: usize| answer.report().branches[node].started.unwrap();
    assert!(started(1) < started(0));
}

#[tokio::test(start_paused = true)]
async fn ord_12_a_service_that_is_never_ready_delays_no_other_node() {
    let never_ready = tower::ServiceBuilder::new()
        .layer(tower::limit::ConcurrencyLimitLayer::new(0))
        .service(slow(1));
    let mut plan = Plan::builder();
    plan.node("stuck", boxed(never_ready), |_: &WithDeadline, _| Ok(()))
        .optional();
    plan.node("fine", slow(10), |_, _| Ok(()));
    let (answer, elapsed) =
        timed(FanOut::new(plan.build().unwrap()).oneshot(WithDeadline::after(ms(1000)))).await;
    let answer = answer.unwrap();
    assert_eq!(answer.report().branches[1].elapsed, Some(ms(10)));
    assert_eq!(
        answer.report().branches[0].error.as_ref().unwrap().kind(),
        ErrorKind::Deadline
    );
    assert_eq!(elapsed, ms(1000));
}

#[tokio::test(start_paused = true)]
async fn ord_14_a_panic_fails_only_its_branch() {
    let mut plan = Plan::builder();
    plan.node(
        "calls",
        node(|| async { panic!("in the service") }),
        |(), _| Ok(()),
    )
    .optional();
    plan.node("makes", slow(1), |(), _| -> Result<(), BranchError> {
        panic!("in the request")
    })
    .optional();
    plan.node("fine", slow(1), |(), _| Ok(()));
    let answer = FanOut::new(plan.build().unwrap())
        .oneshot(())
        .await
        .unwrap();
    for branch in &answer.report().branches[..2] {
        assert_eq!(branch.status, Status::Failed);
        assert_eq!(branch.error.as_ref().unwrap().kind(), ErrorKind::Panic);
    }
    assert_eq!(answer.report().branches[2].status, Status::Success);
}

#[tokio::test(start_paused = true)]
async fn fault_g1_all_cancels_the_rest_at_the_first_failure() {
    let in_flight = InFlight::default();
    let counted = in_flight.clone();
    let counting = node(move || {
        let running = counted.enter();
        async move {
            let _running = running;
            std::future::pending().await
        }
    });
    let plan = independent([("broken", broken(10)), ("hangs", counting)])
        .build()
        .unwrap();
    let (error, elapsed) = timed(FanOut::new(plan).strategy(Strategy::All).oneshot(())).await;
    let FanOutError::Failed { verdict, response } = error.unwrap_err() else {
        panic!("the run was begun");
    };
    assert_eq!(elapsed, ms(10));
    assert_eq!(verdict, Verdict::Failed);
    assert_eq!(
        statuses(response.report()),
        [Status::Failed, Status::Cancelled]
    );
    assert_eq!((in_flight.now(), in_flight.peak()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn fault_g2_g3_partial_needs_required_nodes_and_never_cancels() {
    for (required_breaks, succeeds) in [(false, true), (true, false)] {
        let mut plan = Plan::builder();
        plan.node(
            "required",
            if required_breaks { broken(5) } else { slow(5) },
            |(), _| Ok(()),
        );
        plan.node(
            "optional",
            if required_breaks {
                slow(50)
            } else {
                broken(50)
            },
            |(), _| Ok(()),
        )
        .optional();
        let (result, elapsed) = timed(FanOut::new(plan.build().unwrap()).oneshot(())).await;
        assert_eq!(elapsed, ms(50), "the other required node is awaited");
        assert_eq!(result.is_ok(), succeeds);
        let report = match &result {
            Ok(answer) => answer.report(),
            Err(FanOutError::Failed { response, .. }) => response.report(),
            Err(error) => panic!("{error}"),
        };
        assert!(!report.is_complete());
    }
}

#[tokio::test(start_paused = true)]
async fn fault_g4_best_effort_fails_only_if_nothing_succeeds() {
    let plan = independent([("broken", broken(5)), ("fine", slow(5))])
        .build()
        .unwrap();
    let answer = FanOut::new(plan)
        .strategy(Strategy::BestEffort)
        .oneshot(())
        .await
        .unwrap();
    assert_eq!(statuses(answer.report()), [Status::Failed, Status::Success]);
    let plan = independent([("a", broken(5)), ("b", broken(5))])
        .build()
        .unwrap();
    assert!(
        FanOut::new(plan)
            .strategy(Strategy::BestEffort)
            .oneshot(())
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn fault_g5_dependents_of_a_failed_node_are_skipped() {
    let mut plan = Plan::builder();
    let root = plan
        .node("root", broken(5), |(), _| Ok(()))
        .optional()
        .key();
    let hard = plan
        .node("hard", slow(5), |(), _| Ok(()))
        .after(root)
        .optional()
        .key();
    plan.node("harder", slow(5), |(), _| Ok(()))
        .after(hard)
        .optional();
    plan.node("soft", slow(5), |(), _| Ok(()))
        .after_optional(root)
        .optional();
    let answer = FanOut::new(plan.build().unwrap())
        .oneshot(())
        .await
        .unwrap();
    let report = answer.report();
    assert_eq!(
        statuses(report),
        [
            Status::Failed,
            Status::Skipped,
            Status::Skipped,
            Status::Success
        ]
    );
    assert_eq!(report.branches[2].skipped, Some(SkipReason::Dependency));
    assert_eq!(report.branches[3].started, Some(ms(5)));
    assert_eq!(report.critical_path, [0, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_node_starts_when_ready_and_reads_its_dependencies() {
    let mut plan = Plan::builder();
    let quick = plan.node("quick", slow(10), |(), _| Ok(())).key();
    plan.node("long", slow(100), |(), _| Ok(()));
    let next = plan
        .node(
            "next",
            tower::service_fn(|word: String| async move { Ok::<_, BoxError>(word.len()) }),
            move |(), out| Ok(out.get(quick)?.to_uppercase()),
        )
        .after(quick)
        .key();
    let mut answer = FanOut::new(plan.build().unwrap())
        .oneshot(())
        .await
        .unwrap();
    assert_eq!(answer.report().branches[2].started, Some(ms(10)));
    assert_eq!(answer.take(next), Some(2));
    assert_eq!(answer.get(next), None);
}

#[tokio::test(start_paused = true)]
async fn reading_a_node_that_is_no_dependency_fails_the_branch() {
    let mut plan = Plan::builder();
    let late = plan.node("late", slow(10), |(), _| Ok(())).key();
    plan.node("hasty", slow(1), move |(), out| out.get(late).map(|_| ()))
        .optional();
    let answer = FanOut::new(plan.build().unwrap())
        .oneshot(())
        .await
        .unwrap();
    let error = answer.report().branches[1].error.clone().unwrap();
    assert_eq!(error.kind(), ErrorKind::Template);
    let cure = r#""hasty" reads "late" but does not depend on it: add .after(late)"#;
    assert_eq!(error.message(), cure);
}

#[tokio::test(start_paused = true)]
async fn reading_a_dependency_without_an_answer_does_not_advise_another_order() {
    let mut plan = Plan::builder();
    let failing = tower::service_fn(|()| async { Err::<(), _>(BoxError::from("down")) });
    let down = plan.node("down", failing, |(), _| Ok(())).optional().key();
    plan.node("next", slow(1), move |(), out| out.get(down).map(|_| ()))
        .after_optional(down)
        .optional();
    let answer = FanOut::new(plan.build().unwrap()).strategy(Strategy::BestEffort);
    let error = answer.oneshot(()).await.unwrap_err();
    let FanOutError::Failed { response, .. } = error else {
        panic!("{error}");
    };
    let error = response.report().branches[1].error.clone().unwrap();
    assert_eq!(error.message(), "no answer from \"down\"");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_readable_only_by_dependents() {
    let mut plan = Plan::builder();
    let quick = plan.node("quick", slow(1), |(), _| Ok(())).key();
    let first = plan.node("first", slow(10), |(), _| Ok(())).key();
    let next = plan.node("next", slow(1), move |(), out| out.get(quick).map(|_| ()));
    let next = next.after(first).optional().key();
    let far = plan.node("far", slow(1), move |(), out| out.get(first).map(|_| ()));
    far.after_optional(next);
    let answer = FanOut::new(plan.build().unwrap()).oneshot(());
    let report = answer.await.unwrap().report().clone();
    let error = report.branches[2].error.as_ref().unwrap();
    let cure = r#""next" reads "quick" but does not depend on it: add .after(quick)"#;
    assert_eq!(error.message(), cure);
    assert_eq!(
        report.branches[3].status,
        Status::Success,
        "an indirect dependency may be read"
    );
}

#[tokio::test(start_paused = true)]
async fn fault_g9_the_deadline_ends_the_run_with_the_answers_so_far() {
    let mut plan = Plan::builder();
    for (name, service) in [
        ("a", slow(10)),
        ("b", slow(20)),
        ("c", hanging()),
        ("d", hanging()),
    ] {
        plan.node(name, service, |_: &WithDeadline, _| Ok(()))
            .optional();
    }
    let last = plan.node("e", slow(30), |_, _| Ok(())).key();
    plan.node("f", hanging(), |_, _| Ok(()))
        .after(last)
        .optional();
    let plan = plan.build().unwrap();
    let (answer, elapsed) = timed(
        FanOut::new(plan.clone())
            .max_concurrency(4)
            .oneshot(WithDeadline::after(ms(500))),
    )
    .await;
    let report = answer.unwrap().report().clone();
    assert_eq!(elapsed, ms(500));
    assert!(report.timed_out);
    assert_eq!(report.count(Status::Success), 3);
    assert_eq!(report.count(Status::Failed), 3);

    let all = FanOut::new(plan)
        .strategy(Strategy::All)
        .oneshot(WithDeadline::after(ms(500)))
        .await;
    assert!(matches!(
        all.unwrap_err(),
        FanOutError::Failed {
            verdict: Verdict::Timeout,
            ..
        }
    ));
}

#[tokio::test(start_paused = true)]
async fn without_time_optional_nodes_are_skipped_and_required_ones_start() {
    let mut plan = Plan::builder();
    let first = plan
        .node("first", slow(95), |_: &WithDeadline, _| Ok(()))
        .key();
    plan.node("optional", hanging(), |_, _| Ok(()))
        .after(first)
        .optional();
    plan.node("required", slow(1), |_, _| Ok(())).after(first);
    let answer = FanOut::new(plan.build().unwrap())
        .oneshot(WithDeadline::after(ms(100)))
        .await
        .unwrap();
    let branches = &answer.report().branches;
    assert_eq!(branches[1].skipped, Some(SkipReason::NoTime));
    assert_eq!(branches[2].status, Status::Success);
}

#[tokio::test(start_paused = true)]
async fn fault_g10_dropping_the_run_drops_every_branch() {
    let in_flight = InFlight::default();
    let nodes = ["a", "b", "c"].map(|name| {
        let in_flight = in_flight.clone();
        let service = node(move || {
            let running = in_flight.enter();
            async move {
                let _running = running;
                std::future::pending().await
            }
        });
        (name, service)
    });
    let future = FanOut::new(independent(nodes).build().unwrap()).oneshot(());
    assert!(tokio::time::timeout(ms(5), future).await.is_err());
    assert_eq!((in_flight.now(), in_flight.peak()), (0, 3));
}

#[tokio::test(start_paused = true)]
async fn fault_g17_max_concurrency_is_never_exceeded() {
    let in_flight = InFlight::default();
    let mut plan = Plan::builder();
    for place in 0..40 {
        let in_flight = in_flight.clone();
        let service = node(move || {
            let running = in_flight.enter();
            async move {
                tokio::time::sleep(ms(1 + place % 7)).await;
                drop(running);
                Ok("ok")
            }
        });
        plan.node(&format!("n{place}"), service, |(), _| Ok(()));
    }
    FanOut::new(plan.build().unwrap())
        .max_concurrency(5)
        .oneshot(())
        .await
        .unwrap();
    assert_eq!((in_flight.now(), in_flight.peak()), (0, 5));
}

mod selection {
    use super::*;

    fn plan() -> BoundPlan<()> {
        let mut plan = Plan::builder();
        let user = plan.node("user", slow(1), |(), _| Ok(())).optional().key();
        plan.node("orders", slow(1), |(), _| Ok(()))
            .after(user)
            .optional();
        plan.node("team", slow(1), |(), _| Ok(()))
            .optional()
            .tiers(["pro"]);
        plan.node("social", slow(1), |(), _| Ok(())).optional();
        plan.build().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn fault_e11_dependencies_of_a_named_node_are_selected_with_it() {
        let fan_out = FanOut::new(plan()).selection(Selection::named(&[1], &[]));
        let answer = fan_out.oneshot(()).await.unwrap();
        let branches = &answer.report().branches;
        let chosen: Vec<_> = branches
            .iter()
            .map(|branch| (branch.node, branch.required))
            .collect();
        assert_eq!(chosen, [(0, true), (1, true)]);
    }

    #[tokio::test(start_paused = true)]
    async fn fault_e10_a_node_of_another_tier_is_skipped_or_forbidden() {
        let answer = FanOut::new(plan()).tier("free").oneshot(()).await.unwrap();
        let team = answer.report().branch(2).unwrap();
        assert_eq!(team.skipped, Some(SkipReason::Tier));
        assert!(answer.report().is_complete());
        let error = FanOut::new(plan())
            .tier("free")
            .selection(Selection::named(&[2], &[]))
            .oneshot(())
            .await;
        let Err(FanOutError::Select(SelectError::TierForbidden { nodes })) = error else {
            panic!("{error:?}");
        };
        assert_eq!(nodes, [2]);
        let answer = FanOut::new(plan()).tier("pro").oneshot(()).await.unwrap();
        assert_eq!(answer.report().count(Status::Success), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_false_condition_skips_dependents_without_failing_the_run() {
        let mut plan = Plan::builder::<u32>();
        let odd = plan
            .node("odd", slow(1), |_, _| Ok(()))
            .when(|n| Ok(n % 2 == 1));
        let odd = odd.key();
        plan.node("needs", slow(1), |_, _| Ok(())).after(odd);
        plan.node("may", slow(1), |_, _| Ok(())).after_optional(odd);
        let fan_out = FanOut::new(plan.build().unwrap());
        let answer = fan_out.clone().oneshot(2).await.unwrap();
        let skipped = answer.report().branches.iter().map(|branch| branch.skipped);
        let when = Some(SkipReason::When);
        assert_eq!(skipped.collect::<Vec<_>>(), [when, when, None]);
        assert!(answer.report().is_complete());
        let answer = fan_out.oneshot(1).await.unwrap();
        assert_eq!(answer.report().count(Status::Success), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_test_run_skips_dependents_without_failing_the_run() {
        let mut plan = Plan::builder();
        let write = plan.node("write", slow(1), |(), _| Ok(())).changes_state();
        let write = write.key();
        plan.node("needs", slow(1), |(), _| Ok(())).after(write);
        plan.node("reads", slow(1), |(), _| Ok(()));
        let answer = FanOut::new(plan.build().unwrap()).test(true).oneshot(());
        let answer = answer.await.unwrap();
        let skipped = answer.report().branches.iter().map(|branch| branch.skipped);
        let test = Some(SkipReason::Test);
        assert_eq!(skipped.collect::<Vec<_>>(), [test, test, None]);
        assert!(!answer.report().is_complete());
    }

    #[tokio::test(start_paused = true)]
    async fn fault_g20_a_panicking_condition_fails_its_request() {
        let mut plan = Plan::builder::<u32>();
        plan.node("half", slow(1), |_, _| Ok(()))
            .when(|n| Ok(2 / n > 0));
        let fan_out = FanOut::new(plan.build().unwrap());
        let error = fan_out.clone().oneshot(0).await;
        assert!(matches!(
            error,
            Err(FanOutError::Select(SelectError::ConditionPanicked {
                node: 0
            }))
        ));
        assert!(fan_out.oneshot(1).await.is_ok());
    }

    /// The conditions of `first`, `second`, which needs it, and `extra`, which is optional, each
    /// fail.
    fn with_failing_conditions() -> FanOut<()> {
        fn fails(name: &'static str) -> impl Fn(&()) -> Result<bool, BranchError> {
            move |()| Err(BranchError::template(name))
        }
        let mut plan = Plan::builder();
        let first = plan.node("first", slow(1), |(), _| Ok(())).optional();
        let first = first.when(fails("first")).key();
        let second = plan.node("second", slow(1), |(), _| Ok(()));
        second.after(first).when(fails("second"));
        let extra = plan.node("extra", slow(1), |(), _| Ok(())).optional();
        extra.when(fails("extra"));
        plan.node("plain", slow(1), |(), _| Ok(())).optional();
        FanOut::new(plan.build().unwrap())
    }

    #[test]
    fn failed_conditions_of_required_nodes_are_reported_together() {
        let run = |required| Choice::Run { required };
        let error = with_failing_conditions().choose(&()).unwrap_err();
        let SelectError::ConditionFailed { failed, choices } = error else {
            panic!("{error:?}");
        };
        let failed: Vec<_> = (failed.iter())
            .map(|(node, error)| (*node, error.message()))
            .collect();
        assert_eq!(failed, [(0, "first"), (1, "second")]);
        let extra = Choice::Fail(BranchError::template("extra"));
        assert_eq!(choices, [run(true), run(true), extra, run(false)]);
        let all = with_failing_conditions().strategy(Strategy::All);
        let Err(SelectError::ConditionFailed { failed, .. }) = all.choose(&()) else {
            panic!("every node is required");
        };
        assert_eq!(failed.len(), 3);
    }

    #[tokio::test]
    async fn a_failed_condition_fails_an_optional_node() {
        let fails = |name| Choice::Fail(BranchError::template(name));
        let plain = Choice::Run { required: false };
        let expected = [fails("first"), fails("second"), fails("extra"), plain];
        let optional = Selection::named(&[], &[0, 1, 2, 3]);
        let named = with_failing_conditions().selection(optional);
        assert_eq!(named.choose(&()).unwrap(), expected);
        let first = with_failing_conditions().strategy(Strategy::First);
        assert_eq!(first.choose(&()).unwrap(), expected);
        let answer = named.oneshot(()).await.unwrap();
        let branches = answer.report().branches.iter();
        let ends = branches.map(|branch| {
            let error = branch
                .error
                .as_ref()
                .map(|error| (error.kind(), error.message()));
            (branch.status, error)
        });
        let failed = |name| (Status::Failed, Some((ErrorKind::Template, name)));
        let plain = (Status::Success, None);
        assert_eq!(
            ends.collect::<Vec<_>>(),
            [failed("first"), failed("second"), failed("extra"), plain]
        );
    }

    #[test]
    fn failed_conditions_that_leave_too_few_nodes_fail_the_request() {
        let only = |nodes| with_failing_conditions().selection(Selection::named(&[], nodes));
        for fan_out in [
            only(&[0, 2]),
            only(&[2, 3]).strategy(Strategy::Quorum(NonZeroUsize::new(2).unwrap())),
        ] {
            let Err(SelectError::ConditionFailed { failed, choices }) = fan_out.choose(&()) else {
                panic!("too few nodes are left");
            };
            assert!(failed.is_empty());
            assert_eq!(choices[2], Choice::Fail(BranchError::template("extra")));
        }
        let answer = only(&[2, 3]).choose(&());
        assert!(answer.is_ok());
    }

    #[tokio::test]
    async fn a_node_that_needs_one_with_a_failed_condition_is_skipped() {
        let mut plan = Plan::builder();
        let base = plan.node("base", slow(1), |(), _| Ok(())).optional();
        let base = base.when(|()| Err(BranchError::template("base"))).key();
        let next = plan.node("next", slow(1), |(), _| Ok(())).optional();
        next.after(base);
        plan.node("plain", slow(1), |(), _| Ok(()));
        let answer = FanOut::new(plan.build().unwrap())
            .oneshot(())
            .await
            .unwrap();
        let branches = &answer.report().branches;
        assert_eq!(branches[0].status, Status::Failed);
        assert_eq!(branches[1].skipped, Some(SkipReason::Dependency));
        assert_eq!(branches[2].status, Status::Success);
    }

    #[test]
    fn a_brownout_keeps_a_node_that_runs() {
        let mut plan = Plan::builder();
        let never = plan.node("never", slow(1), |(), _| Ok(())).optional();
        never.priority(Priority::MAX).when(|()| Ok(false));
        plan.node("runs", slow(1), |(), _| Ok(())).optional();
        let fan_out = FanOut::new(plan.build().unwrap()).brownout(Brownout::new(1.0));
        let runs = Choice::Run { required: false };
        let choices = fan_out.choose(&()).unwrap();
        assert_eq!(choices, [Choice::Skip(SkipReason::When), runs]);
    }

    #[test]
    fn a_node_with_a_failed_condition_needs_no_dependencies() {
        let mut plan = Plan::builder();
        let base = plan.node("base", slow(1), |(), _| Ok(())).optional().key();
        let extra = plan.node("extra", slow(1), |(), _| Ok(())).optional();
        extra
            .after(base)
            .when(|()| Err(BranchError::template("extra")));
        plan.node("plain", slow(1), |(), _| Ok(())).optional();
        let fan_out = FanOut::new(plan.build().unwrap()).selection(Selection::named(&[], &[1, 2]));
        let choices = fan_out.choose(&()).unwrap();
        let plain = Choice::Run { required: false };
        let extra = Choice::Fail(BranchError::template("extra"));
        assert_eq!(choices, [Choice::Out, extra, plain]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_brownout_sheds_low_priorities_first_and_never_all() {
        let mut plan = Plan::builder();
        let base = plan.node("base", slow(1), |(), _| Ok(())).optional().key();
        for (name, priority) in [("one", 1), ("five", 5), ("nine", 9)] {
            let node = plan.node(name, slow(1), |(), _| Ok(())).optional();
            let node = node.priority(Priority::new(priority).unwrap());
            if name == "nine" {
                node.after(base);
            }
        }
        let fan_out = FanOut::new(plan.build().unwrap());
        let runs = async |load: f64, tier_weight: f64| {
            let brownout = Brownout::new(load).tier_weight(tier_weight);
            let answer = fan_out
                .clone()
                .brownout(brownout)
                .oneshot(())
                .await
                .unwrap();
            let branches = answer.report().branches.iter();
            let runs = branches.filter(|branch| branch.status == Status::Success);
            let runs: Vec<_> = runs.map(|branch| branch.node).collect();
            let shed = answer.report().branches.len() - runs.len();
            let reasons = answer
                .report()
                .branches
                .iter()
                .filter_map(|branch| branch.skipped);
            assert_eq!(
                reasons
                    .filter(|reason| *reason == SkipReason::Brownout)
                    .count(),
                shed
            );
            runs
        };
        assert_eq!(runs(0.0, 0.0).await, [0, 1, 2, 3]);
        assert_eq!(runs(f64::NAN, 0.0).await, [0, 1, 2, 3]);
        assert_eq!(
            runs(0.15, 0.0).await,
            [0, 2, 3],
            "the nodes that `nine` needs stay"
        );
        assert_eq!(
            runs(0.15, 0.6).await,
            [0, 1, 2, 3],
            "a higher tier keeps more"
        );
        assert_eq!(
            runs(0.5, 0.0).await,
            [0, 2, 3],
            "a priority of ten times the load stays"
        );
        assert_eq!(runs(0.9, 0.0).await, [0, 3]);
        assert_eq!(
            runs(1.0, 1.0).await,
            [0, 3],
            "the node of the highest priority stays"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn dependencies_of_skipped_nodes_do_not_run() {
        let mut plan = Plan::builder();
        let user = plan.node("user", slow(1), |(), _| Ok(())).optional().key();
        plan.node("of another tier", slow(1), |(), _| Ok(()))
            .after(user)
            .tiers(["pro"]);
        let never = plan
            .node("never", slow(1), |(), _| Ok(()))
            .when(|()| Ok(false))
            .key();
        plan.node("needs both", slow(1), |(), _| Ok(()))
            .after(user)
            .after(never);
        plan.node("fine", slow(1), |(), _| Ok(()));
        let fan_out = FanOut::new(plan.build().unwrap()).tier("free");
        for selection in [
            Selection::named(&[4], &[1]),
            Selection::named(&[3, 4], &[]),
            Selection::named(&[3, 4], &[1]),
        ] {
            let answer = fan_out.clone().selection(selection).oneshot(()).await;
            let report = answer.unwrap().report().clone();
            assert!(
                report.branch(0).is_none(),
                "the request does not ask for it"
            );
            assert_eq!(report.count(Status::Success), 1);
        }
        // If the request asks for the node, it runs, and is required if the plan says so.
        let fan_out = fan_out.selection(Selection::named(&[3, 4], &[0]));
        let report = fan_out.oneshot(()).await.unwrap().report().clone();
        assert!(!report.branch(0).unwrap().required);
        assert_eq!(report.count(Status::Success), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_brownout_leaves_enough_for_the_strategy() {
        let two = std::num::NonZeroUsize::new(2).unwrap();
        for (strategy, runs) in [
            (Strategy::Quorum(two), vec![2, 3]),
            (Strategy::First, vec![3]),
            (Strategy::BestEffort, vec![3]),
            (Strategy::All, vec![0, 1, 2, 3]),
        ] {
            let mut plan = Plan::builder();
            for (name, priority) in [("zero", 0), ("one", 1), ("two", 2), ("three", 3)] {
                let node = plan.node(name, slow(1), |(), _| Ok(())).optional();
                node.priority(Priority::new(priority).unwrap());
            }
            let fan_out = FanOut::new(plan.build().unwrap())
                .strategy(strategy)
                .brownout(Brownout::new(1.0));
            let choices = fan_out.choose(&()).unwrap();
            let chosen = (0..4).filter(|&node| matches!(choices[node], Choice::Run { .. }));
            assert_eq!(chosen.collect::<Vec<_>>(), runs, "{strategy:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn fault_e14_nothing_left_to_run_is_an_error() {
        for selection in [Selection::named(&[], &[]), Selection::named(&[], &[2])] {
            let error = FanOut::new(plan()).selection(selection).oneshot(()).await;
            assert!(matches!(
                error,
                Err(FanOutError::Select(SelectError::Nothing))
            ));
        }
    }
}
