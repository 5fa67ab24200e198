//! The steps of a chain, and what they are for.

use std::{future::Future, marker::PhantomData, pin::Pin, time::Duration};

use tokio::time::Instant;

use super::stale::StaleStore;
use crate::{
    classify::{Cause, Class},
    observe::FallbackKind,
};

pub(super) type Answering<Res, E> = Pin<Box<dyn Future<Output = Result<Res, E>> + Send>>;

pub(super) enum Step<Req, Res, E> {
    Answer(Box<dyn Fn() -> Res + Send + Sync>),
    Ask {
        kind: FallbackKind,
        ask: Box<dyn Fn(Req, Class) -> Answering<Res, E> + Send + Sync>,
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
    pub(super) const fn needs_request(&self) -> bool {
        matches!(self, Self::Ask { .. } | Self::Stale(_))
    }

    pub(super) const fn kind(&self) -> FallbackKind {
        match self {
            Self::Answer(_) => FallbackKind::Static,
            Self::Ask { kind, .. } => *kind,
            Self::Stale(_) => FallbackKind::Stale,
        }
    }
}

/// Whether a call that ended as `class` may be answered by a fallback at all.
pub(super) fn applies(class: Class, statuses: &[u16]) -> bool {
    match class {
        Class::Failure(_) | Class::Throttled { .. } | Class::Transient(_) | Class::Local(_) => true,
        Class::Answered(501 | 505) => true,
        Class::Answered(status) => statuses.contains(&status),
        Class::Unanswered { cause, .. } => cause == Cause::Deadline,
        Class::Success => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::table::{self, UNANSWERED, cut_off};

    #[test]
    fn a_fallback_may_answer_for_all_but_a_success_and_a_right_answer() {
        let never = [
            Class::Success,
            Class::Answered(404),
            cut_off(Cause::CallerGone, UNANSWERED - Duration::from_millis(1)),
            cut_off(Cause::CallerGone, UNANSWERED),
            cut_off(Cause::SiblingFailed, UNANSWERED),
            cut_off(Cause::HedgeLost, UNANSWERED),
        ];
        let never = never.map(|class| (class, false));
        table::check(|class| applies(class, &[]), &true, &never);
    }
}
