//! The steps of a chain, and what they are for.

use std::{future::Future, pin::Pin};

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
}

impl<Req, Res, E> Step<Req, Res, E> {
    pub(super) const fn needs_request(&self) -> bool {
        matches!(self, Self::Ask { .. })
    }

    pub(super) const fn kind(&self) -> FallbackKind {
        match self {
            Self::Answer(_) => FallbackKind::Static,
            Self::Ask { kind, .. } => *kind,
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
