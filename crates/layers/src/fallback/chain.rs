//! The steps of a chain, and what they are for.

use std::{future::Future, marker::PhantomData, pin::Pin, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{outcomes::OutcomeSet, stale::StaleStore};
use crate::{classify::Class, deadline::Deadline, event::FallbackKind};

pub(super) type Answering<Res, E> = Pin<Box<dyn Future<Output = Result<Res, E>> + Send>>;

type Ask<Req, Res, E> = Box<dyn Fn(&Req, Class) -> Answering<Res, E> + Send + Sync>;

/// What all clones of a layer share, until one of them is changed.
pub(super) struct Chain<Req, Res, E> {
    pub(super) links: Vec<Arc<Link<Req, Res, E>>>,
    /// Makes a copy of the request, if a step needs one.
    pub(super) keep: Option<fn(&Req) -> Req>,
    /// What steps are for that do not say.
    pub(super) usual: OutcomeSet,
    pub(super) reserve: Duration,
}

/// A step, and what it is for, if it says.
pub(super) struct Link<Req, Res, E> {
    pub(super) outcomes: Option<OutcomeSet>,
    pub(super) step: Step<Req, Res, E>,
}

impl<Req, Res, E> Chain<Req, Res, E> {
    pub(super) fn new() -> Self {
        Self {
            links: Vec::new(),
            keep: None,
            usual: OutcomeSet::default(),
            reserve: Duration::ZERO,
        }
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = &Step<Req, Res, E>> {
        self.links.iter().map(|link| &link.step)
    }

    /// The steps for a call that ended as `class`, from place `from` on, with their places.
    pub(super) fn steps_for(
        &self,
        class: Class,
        from: usize,
    ) -> impl Iterator<Item = (usize, &Step<Req, Res, E>)> {
        let links = self.links.iter().enumerate().skip(from);
        links.filter_map(move |(place, link)| {
            let outcomes = link.outcomes.as_ref().unwrap_or(&self.usual);
            outcomes.contains(class).then_some((place, &link.step))
        })
    }

    /// The deadline of the call below, if something of it is kept back.
    pub(super) fn deadline(&self, deadline: Option<Deadline>) -> Option<Deadline> {
        let deadline = deadline.filter(|_| !self.reserve.is_zero())?;
        let third = deadline.remaining(Instant::now()) / 3;
        Some(deadline.before(self.reserve.min(third)))
    }
}

/// Its steps are shared; they need not be `Clone`, nor need what they are asked with.
impl<Req, Res, E> Clone for Chain<Req, Res, E> {
    fn clone(&self) -> Self {
        Self {
            links: self.links.clone(),
            keep: self.keep,
            usual: self.usual.clone(),
            reserve: self.reserve,
        }
    }
}

pub(super) enum Step<Req, Res, E> {
    Answer(Box<dyn Fn() -> Res + Send + Sync>),
    Ask {
        kind: FallbackKind,
        ask: Ask<Req, Res, E>,
    },
    Stale(Box<dyn Remembering<Req, Res>>),
}

/// Remembers good answers by their requests.
pub(super) trait Remembering<Req, Res>: Send + Sync {
    fn remember(&self, request: &Req, answer: &Res, now: Instant);

    fn recall(&self, request: &Req, now: Instant) -> Option<Res>;
}

/// A store, how to find a request in it, and how old its answers may be.
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

impl<K, Store, Key, Req, Res> Remembering<Req, Res> for Stale<K, Store, Key>
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
        let (answer, came) = self.store.get(&(self.key)(request)?)?;
        (now.saturating_duration_since(came) <= self.max_stale).then_some(answer)
    }
}

impl<Req, Res, E> Step<Req, Res, E> {
    pub(super) const fn kind(&self) -> FallbackKind {
        match self {
            Self::Answer(_) => FallbackKind::Static,
            Self::Ask { kind, .. } => *kind,
            Self::Stale(_) => FallbackKind::Stale,
        }
    }
}
