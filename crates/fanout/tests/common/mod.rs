//! Services and plans for the tests.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tower::{BoxError, Layer, Service, service_fn, util::BoxCloneSyncService};
use tower_fanout::{
    Downstream, Plan, PlanBuilder, Policy,
    layers::{ClassifyResult, Failure, WithCall},
};

/// The whole request of the tests, which carries no data.
pub(crate) type Request = ();
pub(crate) type Node = BoxCloneSyncService<(), &'static str, BoxError>;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Answers after `delay`.
pub(crate) fn slow(delay: u64) -> Node {
    node(move || async move {
        tokio::time::sleep(ms(delay)).await;
        Ok("ok")
    })
}

/// Fails after `delay`.
pub(crate) fn broken(delay: u64) -> Node {
    node(move || async move {
        tokio::time::sleep(ms(delay)).await;
        Err("broken".into())
    })
}

pub(crate) fn hanging() -> Node {
    node(std::future::pending)
}

pub(crate) fn node<F, Fut>(answer: F) -> Node
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<&'static str, BoxError>> + Send + 'static,
{
    BoxCloneSyncService::new(service_fn(move |()| answer()))
}

pub(crate) fn boxed<S>(service: S) -> Node
where
    S: Service<(), Response = &'static str, Error = BoxError, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
{
    BoxCloneSyncService::new(service)
}

/// A plan of independent, required nodes.
pub(crate) fn independent(
    nodes: impl IntoIterator<Item = (&'static str, Node)>,
) -> PlanBuilder<Request> {
    let mut plan = Plan::builder();
    for (name, service) in nodes {
        plan.node(name, service, |(), _| Ok(()));
    }
    plan
}

/// Counts the calls in flight, and their maximum.
#[derive(Clone, Default)]
pub(crate) struct InFlight(Arc<(AtomicUsize, AtomicUsize)>);

impl InFlight {
    pub(crate) fn enter(&self) -> impl Drop + use<> {
        struct Leave(InFlight);
        impl Drop for Leave {
            fn drop(&mut self) {
                self.0.0.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Leave(self.clone())
    }

    pub(crate) fn now(&self) -> usize {
        self.0.0.load(Ordering::SeqCst)
    }

    pub(crate) fn peak(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

/// A list of names, in the order in which they were added.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<&'static str>>>);

impl Notes {
    pub(crate) fn add(&self, name: &'static str) {
        self.0.lock().unwrap().push(name);
    }

    pub(crate) fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub(crate) type Answer = Result<&'static str, BoxError>;

/// A downstream with attempts of at most one second, unless `edit` changes that.
pub(crate) fn downstream(edit: impl FnOnce(&mut Policy)) -> Downstream<ClassifyResult> {
    let mut policy = Policy::new().attempt_timeout(ms(1000));
    edit(&mut policy);
    Downstream::new("users", policy, ClassifyResult).unwrap()
}

/// An idempotent request.
pub(crate) fn idempotent_request() -> WithCall<()> {
    WithCall::new(()).idempotent()
}

/// The whole stack around `answer`.
pub(crate) fn around<F, Fut, B>(
    downstream: &Downstream<ClassifyResult, B>,
    answer: F,
) -> impl Service<WithCall<()>, Response = &'static str, Error = BoxError, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
where
    F: Fn() -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    let service = service_fn(move |_: WithCall<()>| answer());
    downstream.layer(service)
}

pub(crate) fn failed() -> BoxError {
    Box::new(Failure::ConnectionReset)
}
