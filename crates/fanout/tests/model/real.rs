//! Runs a case with the crate.

use std::{
    cell::RefCell,
    panic::resume_unwind,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, sleep, timeout},
};
use tower::{ServiceExt, service_fn};
use tower_fanout::{
    Branch, BranchError, ErrorKind, FanOut, FanOutError, FanOutResponse, Plan,
    layers::{CallContext, Deadline, Priority, WithCall},
};

use crate::{
    case::{Case, Ends},
    reference::{Fate, Outcome},
};

/// Counts the calls in flight, and their maximum.
#[derive(Clone, Default)]
struct Live(Arc<(AtomicUsize, AtomicUsize)>);

impl Live {
    fn enter(&self) -> Self {
        let now = self.0.0.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.1.fetch_max(now, Ordering::Relaxed);
        self.clone()
    }
}

/// The service of a node.
async fn answer(latency: u64, ends: Ends, live: Live) -> Result<(), BranchError> {
    struct Leave(Live);
    impl Drop for Leave {
        fn drop(&mut self) {
            self.0.0.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let _leave = Leave(live.enter());
    if latency > 0 {
        sleep(Duration::from_millis(latency)).await;
    }
    match ends {
        Ends::Answers => Ok(()),
        Ends::Fails => Err(BranchError::new(ErrorKind::Status, "no")),
        // Panics without a message on the console.
        Ends::Panics => resume_unwind(Box::new("no")),
        Ends::Never => std::future::pending().await,
    }
}

fn fan_out(case: &Case, live: &Live) -> FanOut<WithCall<()>> {
    let mut plan = Plan::builder();
    for (place, node) in case.nodes.iter().enumerate() {
        let (live, latency, ends) = (live.clone(), node.latency, node.ends);
        let service = service_fn(move |()| answer(latency, ends, live.clone()));
        let mut declared = plan
            .node(&place.to_string(), service, |_: &WithCall<()>, _| Ok(()))
            .priority(Priority::new(node.priority).unwrap());
        for (dependency, hard) in &node.dependencies {
            let name = dependency.to_string();
            declared = match hard {
                true => declared.after_named(&name),
                false => declared.after_optional_named(&name),
            };
        }
        if !node.required {
            declared = declared.optional();
        }
        if node.tiered {
            declared = declared.tiers(["pro"]);
        }
        if let Some(holds) = node.when {
            declared = declared.when(move |_| Ok(holds));
        }
        if node.fallback {
            declared = declared.cut_fallback(|_| Some(()));
        }
        if let Some(expected) = node.expected {
            declared.expected(Duration::from_millis(expected));
        }
    }
    FanOut::new(plan.build().unwrap())
        .selection(case.selection.clone())
        .tier(if case.tier { "pro" } else { "free" })
        .strategy(case.strategy)
        .return_when(case.return_when)
        .grace(Duration::from_millis(case.grace))
        .max_concurrency(case.max_concurrency)
}

fn request(case: &Case) -> WithCall<()> {
    let mut request = WithCall::new(());
    let timeout = case.deadline.map(Duration::from_millis);
    let deadline = timeout.and_then(|timeout| Deadline::after(Instant::now(), timeout));
    request.call_mut().unwrap().deadline = deadline;
    request
}

/// Blocks on `future`. The runtime, with its paused clock, is reused by all cases.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: RefCell<Runtime> = RefCell::new(
            Builder::new_current_thread().enable_time().start_paused(true).build().unwrap(),
        );
    }
    RUNTIME.with_borrow_mut(|runtime| runtime.block_on(future))
}

/// The observed result of a case.
pub(crate) struct Real {
    /// `None` if the run was not started.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) peak: usize,
    pub(crate) left_running: usize,
}

pub(crate) fn run(case: &Case) -> Real {
    let live = Live::default();
    let outcome = block_on(async {
        match fan_out(case, &live).oneshot(request(case)).await {
            Ok(answer) => Some(outcome(&answer, true)),
            Err(FanOutError::Failed { response, .. }) => Some(outcome(&response, false)),
            Err(_) => None,
        }
    });
    Real {
        outcome,
        peak: live.0.1.load(Ordering::Relaxed),
        left_running: live.0.0.load(Ordering::Relaxed),
    }
}

/// Returns the number of calls that are left after a run is dropped at `at`.
pub(crate) fn drop_at(case: &Case, at: Duration) -> usize {
    let live = Live::default();
    let _ = block_on(async { timeout(at, fan_out(case, &live).oneshot(request(case))).await });
    live.0.0.load(Ordering::Relaxed)
}

fn whole_ms(time: Duration) -> u64 {
    assert_eq!(time.subsec_nanos() % 1_000_000, 0, "{time:?}");
    u64::try_from(time.as_millis()).unwrap()
}

fn outcome(answer: &FanOutResponse, success: bool) -> Outcome {
    let report = answer.report();
    let fates = report
        .branches
        .iter()
        .map(|branch| (branch.node, fate(branch)));
    Outcome {
        fates: fates.collect(),
        elapsed: whole_ms(report.elapsed),
        success,
    }
}

fn fate(branch: &Branch) -> Fate {
    let error = branch.error.as_ref().map(|error| error.kind().as_str());
    let why = branch.skipped.map(|reason| reason.as_str()).or(error);
    let status = branch.status.as_str();
    Fate {
        status: why.map_or(status.into(), |why| format!("{status} {why}")),
        started: branch.started.map(whole_ms),
        ended: branch.ended().map(whole_ms),
    }
}
