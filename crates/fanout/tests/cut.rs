//! Branches that the run ends get their static fallback, and a run without an answer is no success.
#![allow(missing_docs)]

mod common;

use common::*;
use tower::{ServiceExt, service_fn};
use tower_fanout::{
    Branch, BranchError, Cut, ErrorKind, FanOut, FanOutError, FanOutResponse, Plan, Report,
    ReturnWhen, SkipReason, Status, Strategy, Verdict,
    layers::{CallContext, Deadline, Rejection, WithCall},
};

/// Returns the common cause of a run of optional nodes that end with these errors, or the report of
/// a success.
async fn all_optional(errors: &[Option<BranchError>]) -> Result<Report, Verdict> {
    let mut plan = Plan::builder();
    for (place, error) in errors.iter().cloned().enumerate() {
        let service = service_fn(move |()| {
            let error = error.clone();
            async move { error.map_or(Ok(()), Err) }
        });
        plan.node(&place.to_string(), service, |(), _| Ok(()))
            .optional();
    }
    match FanOut::new(plan.build().unwrap()).oneshot(()).await {
        Ok(answer) => Ok(answer.report().clone()),
        Err(FanOutError::Failed { verdict, .. }) => Err(verdict),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn fault_g23_partial_without_required_nodes_needs_an_answer() {
    let timeout = || Some(Rejection::AttemptTimeout.into());
    let busy = || Some(Rejection::AtCapacity.into());
    let failed = || Some(BranchError::new(ErrorKind::Status, "500"));
    assert_eq!(
        all_optional(&[timeout()]).await.unwrap_err(),
        Verdict::Timeout
    );
    let unavailable = all_optional(&[busy(), busy()]).await.unwrap_err();
    assert!(matches!(unavailable, Verdict::Unavailable { .. }));
    for errors in [vec![failed()], vec![timeout(), busy()]] {
        assert_eq!(all_optional(&errors).await.unwrap_err(), Verdict::Failed);
    }
    let one = all_optional(&[failed(), None, timeout()]).await.unwrap();
    assert_eq!(one.count(Status::Success), 1);
}

#[tokio::test]
async fn fault_g23_a_node_that_was_not_chosen_has_not_failed() {
    let mut plan = Plan::builder();
    plan.node("when", slow(1), |(), _| Ok(()))
        .when(|()| Ok(false))
        .optional();
    plan.node("tier", slow(1), |(), _| Ok(()))
        .tiers(["pro"])
        .optional();
    plan.node("test", slow(1), |(), _| Ok(()))
        .changes_state()
        .optional();
    plan.node("after", slow(1), |(), _| Ok(()))
        .after_named("when")
        .optional();
    let runs = plan.node("runs", slow(1), |(), _| Ok(())).optional().key();
    let fan_out = FanOut::new(plan.build().unwrap()).test(true);
    let report = fan_out.oneshot(()).await.unwrap().report().clone();
    assert_eq!(report.count(Status::Skipped), 4);
    // A run in which nothing failed is a success, although nothing answered.
    let mut empty = report.clone();
    empty.branches.retain(|branch| branch.node != runs.index());
    assert_eq!(Strategy::Partial.verdict(&empty), None);
}

#[tokio::test(start_paused = true)]
async fn fault_g23_the_deadline_cancels_all_optional_nodes() {
    let mut plan = Plan::builder::<WithCall<()>>();
    plan.node("late", hanging(), |_, _| Ok(())).optional();
    plan.node("waits", slow(1), |_, _| Ok(()))
        .after_named("late")
        .optional();
    let fan_out = FanOut::new(plan.build().unwrap()).return_when(ReturnWhen::Deadline);
    let error = fan_out.oneshot(within(100)).await.unwrap_err();
    let FanOutError::Failed { verdict, response } = error else {
        panic!("{error}");
    };
    assert_eq!(verdict, Verdict::Timeout);
    assert_eq!(response.report().count(Status::Cancelled), 2);
}

/// Returns a request with this time in milliseconds.
fn within(millis: u64) -> WithCall<()> {
    let mut request = WithCall::new(());
    let now = tokio::time::Instant::now();
    request.call_mut().unwrap().deadline = Deadline::after(now, ms(millis));
    request
}

/// A required node, one that hangs, and two in a row after it. All but the first have fallbacks.
fn with_fallbacks(must: Node) -> FanOut<WithCall<()>> {
    let mut plan = Plan::builder::<WithCall<()>>();
    plan.node("must", must, |_, _| Ok(()));
    for (name, after) in [
        ("late", None),
        ("next", Some("late")),
        ("last", Some("next")),
    ] {
        let node = plan.node(name, hanging(), |_, _| Ok(())).optional();
        let node = node.cut_fallback(|cut| {
            Some(match cut {
                Cut::Running => "running",
                _ => "not started",
            })
        });
        if let Some(after) = after {
            node.after_named(after);
        }
    }
    FanOut::new(plan.build().unwrap())
}

/// Returns the fallback of each node after the first, and the branches.
fn fallbacks(answer: &FanOutResponse) -> Vec<&'static str> {
    let branches = &answer.report().branches[1..];
    assert!(branches.iter().all(|b| b.status == Status::Fallback));
    (1..4).map(|node| *answer.at(node).unwrap()).collect()
}

fn assert_were_not_started(branches: &[Branch]) {
    for branch in branches {
        assert!(
            branch.error.is_none() && branch.skipped.is_some(),
            "{branch:?}"
        );
        assert!(!branch.was_called());
    }
}

#[tokio::test(start_paused = true)]
async fn fault_g24_the_end_of_the_grace_period_answers_with_the_fallback() {
    let fan_out = with_fallbacks(slow(20))
        .return_when(ReturnWhen::Required)
        .grace(ms(50));
    let answer = fan_out.oneshot(within(1000)).await.unwrap();
    assert_eq!(
        fallbacks(&answer),
        ["running", "not started", "not started"]
    );
    let report = answer.report();
    assert_eq!((report.elapsed, report.timed_out), (ms(70), false));
    assert!(report.is_complete());
    let error = report.branches[1].error.as_ref().unwrap();
    assert_eq!(error.message(), "no answer within the grace period");
    assert_were_not_started(&report.branches[2..]);
}

#[tokio::test(start_paused = true)]
async fn fault_g24_the_deadline_answers_with_the_fallback() {
    for when in [ReturnWhen::All, ReturnWhen::Deadline] {
        let fan_out = with_fallbacks(slow(20)).return_when(when);
        let answer = fan_out.oneshot(within(1000)).await.unwrap();
        assert_eq!(
            fallbacks(&answer),
            ["running", "not started", "not started"]
        );
        let report = answer.report();
        assert!(report.timed_out);
        let error = report.branches[1].error.as_ref().unwrap();
        assert_eq!(error.kind(), ErrorKind::Deadline);
        assert_were_not_started(&report.branches[3..]);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_g24_a_failed_dependency_answers_with_the_fallback() {
    let mut plan = Plan::builder();
    plan.node("fails", broken(5), |(), _| Ok(())).optional();
    plan.node("needs", hanging(), |(), _| Ok(()))
        .after_optional_named("may")
        .after_named("fails")
        .optional()
        .cut_fallback(|_| Some("instead"));
    plan.node("reads", slow(5), |(), _| Ok(()))
        .after_named("needs")
        .optional();
    plan.node("may", slow(1), |(), _| Ok(())).optional();
    let answer = FanOut::new(plan.build().unwrap())
        .oneshot(())
        .await
        .unwrap();
    let branches = &answer.report().branches;
    assert_eq!(branches[1].status, Status::Fallback);
    assert_eq!(branches[1].skipped, Some(SkipReason::Dependency));
    assert!(!branches[1].was_called());
    assert_eq!(branches[2].status, Status::Success);
    assert_eq!(answer.at::<&str>(1), Some(&"instead"));
}

#[tokio::test(start_paused = true)]
async fn fault_g24_what_is_not_cut_gets_no_fallback() {
    // The call itself failed, the strategy was decided, or the caller turned fallbacks off.
    let mut plan = Plan::builder::<WithCall<()>>();
    plan.node("fails", broken(5), |_, _| Ok(()))
        .cut_fallback(|_| Some("no"));
    plan.node("hangs", hanging(), |_, _| Ok(()))
        .cut_fallback(|_| Some("no"));
    let fan_out = FanOut::new(plan.build().unwrap());
    let first = fan_out.clone().strategy(Strategy::All);
    let mut off = within(100);
    off.call_mut().unwrap().fallback = false;
    for (fan_out, request, statuses) in [
        (first, within(100), [Status::Failed, Status::Cancelled]),
        (fan_out, off, [Status::Failed, Status::Failed]),
    ] {
        let error = fan_out.oneshot(request).await.unwrap_err();
        let FanOutError::Failed { response, .. } = error else {
            panic!("{error}");
        };
        let branches = &response.report().branches;
        assert_eq!([branches[0].status, branches[1].status], statuses);
    }
}

#[tokio::test(start_paused = true)]
async fn fault_g24_a_fallback_that_panics_leaves_the_branch_as_it_is() {
    let mut plan = Plan::builder();
    plan.node("must", slow(1), |_, _| Ok(()));
    plan.node("panics", hanging(), |_, _| Ok(()))
        .optional()
        .cut_fallback(|_| std::panic::resume_unwind(Box::new("no")));
    plan.node("has none", hanging(), |_, _| Ok(()))
        .optional()
        .cut_fallback(|_| None);
    let fan_out = FanOut::new(plan.build().unwrap()).return_when(ReturnWhen::Required);
    let answer = fan_out.oneshot(within(1000)).await.unwrap();
    assert_eq!(answer.report().count(Status::Cancelled), 2);
    assert!(!answer.report().timed_out);
}
