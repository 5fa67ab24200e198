//! A chain of fallback steps, and the results that each step covers.

use std::{future::Future, marker::PhantomData, pin::Pin, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{outcomes::OutcomeSet, stale::StaleStore};
use crate::{
    classify::Class,
    clock,
    deadline::Deadline,
    event::{FallbackKind, Sinks},
    rejection::BoxError,
};

pub(super) type StepFuture<Res, E> = Pin<Box<dyn Future<Output = Result<Res, E>> + Send>>;

type CallStep<Req, Res, E> = Box<dyn Fn(&Req, Class) -> StepFuture<Res, E> + Send + Sync>;

/// The chain that all clones of a layer share until one of them is changed.
pub(super) struct Chain<Req, Res, E> {
    pub(super) steps: Vec<Arc<ChainStep<Req, Res, E>>>,
    /// Clones the request. `None` if no step needs the request.
    pub(super) keep: Option<fn(&Req) -> Req>,
    pub(super) reserve: Duration,
    /// Describes a result that a step replaces. `None` describes it by its class.
    pub(super) describe: Option<Describe<Res, E>>,
    pub(super) events: Sinks,
}

/// Returns the error of a result that a step replaces.
pub(super) type Describe<Res, E> = Arc<dyn Fn(Result<&Res, &E>) -> BoxError + Send + Sync>;

/// A step and the results that it covers.
pub(super) struct ChainStep<Req, Res, E> {
    pub(super) outcomes: OutcomeSet,
    pub(super) step: Step<Req, Res, E>,
}

impl<Req, Res, E> Chain<Req, Res, E> {
    pub(super) fn new() -> Self {
        Self {
            steps: Vec::new(),
            keep: None,
            reserve: Duration::ZERO,
            describe: None,
            events: Sinks::default(),
        }
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = &Step<Req, Res, E>> {
        self.steps.iter().map(|entry| &entry.step)
    }

    /// Returns the steps from index `from` on that cover `class`, with their indices.
    pub(super) fn steps_for(
        &self,
        class: Class,
        from: usize,
    ) -> impl Iterator<Item = (usize, &Step<Req, Res, E>)> {
        let steps = self.steps.iter().enumerate().skip(from);
        steps.filter_map(move |(index, entry)| {
            (entry.outcomes.contains(class)).then_some((index, &entry.step))
        })
    }

    /// Returns the earlier deadline for the layers below, or `None` if no time is reserved.
    #[inline(always)]
    pub(super) fn deadline(&self, deadline: Option<Deadline>) -> Option<Deadline> {
        let deadline = deadline.filter(|_| !self.reserve.is_zero())?;
        // A long reserve must leave most of the time to the call itself.
        let third = deadline.remaining(clock::now()) / 3;
        Some(deadline.before(self.reserve.min(third)))
    }
}

/// Clones share their steps, so neither a step nor its input has to be `Clone`.
impl<Req, Res, E> Clone for Chain<Req, Res, E> {
    fn clone(&self) -> Self {
        Self {
            steps: self.steps.clone(),
            keep: self.keep,
            reserve: self.reserve,
            describe: self.describe.clone(),
            events: self.events.clone(),
        }
    }
}

pub(super) enum Step<Req, Res, E> {
    Static(Box<dyn Fn(Class) -> Res + Send + Sync>),
    Call {
        kind: FallbackKind,
        call: CallStep<Req, Res, E>,
    },
    Stale(Box<dyn ResponseStore<Req, Res>>),
}

/// Stores good responses and returns them for equal requests.
pub(super) trait ResponseStore<Req, Res>: Send + Sync {
    fn remember(&self, request: &Req, answer: &Res, now: Instant);

    fn recall(&self, request: &Req, now: Instant) -> Option<Res>;
}

/// A store, the function that returns a request's key, and the maximum age of a response.
pub(super) struct Stale<K, Store, Key> {
    store: Store,
    key: Key,
    max_stale: Duration,
    keys: PhantomData<fn() -> K>,
}

impl<K, Store, Key> Stale<K, Store, Key> {
    pub(super) const fn new(store: Store, key: Key, max_stale: Duration) -> Self {
        Self {
            store,
            key,
            max_stale,
            keys: PhantomData,
        }
    }
}

impl<K, Store, Key, Req, Res> ResponseStore<Req, Res> for Stale<K, Store, Key>
where
    Store: StaleStore<K, Res>,
    Key: Fn(&Req) -> Option<K> + Send + Sync,
{
    fn remember(&self, request: &Req, answer: &Res, now: Instant) {
        if let Some(key) = (self.key)(request) {
            self.store.put(key, answer, now);
        }
    }

    fn recall(&self, request: &Req, now: Instant) -> Option<Res> {
        let (answer, arrived) = self.store.get(&(self.key)(request)?)?;
        (now.saturating_duration_since(arrived) <= self.max_stale).then_some(answer)
    }
}

impl<Req, Res, E> Step<Req, Res, E> {
    pub(super) const fn kind(&self) -> FallbackKind {
        match self {
            Self::Static(_) => FallbackKind::Static,
            Self::Call { kind, .. } => *kind,
            Self::Stale(_) => FallbackKind::Stale,
        }
    }
}
