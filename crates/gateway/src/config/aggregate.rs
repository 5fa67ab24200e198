//! Reads how the answers of a plan become one.

use std::time::Duration;

use tower_fanout::{ReturnWhen, Strategy};

use super::{reader::Field, value::span};

/// When an answer as a whole is a success, and when it leaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Aggregate {
    /// When it is a success.
    pub strategy: Strategy,
    /// When it leaves.
    pub return_when: ReturnWhen,
    /// How long optional services may still take when the required ones have ended.
    pub grace: Duration,
}

pub(super) fn aggregate(field: &Field<'_>) -> Aggregate {
    let mut section = field.section();
    let strategy = section.take("strategy").and_then(|field| field.get());
    let return_when = section.take("return_when").and_then(|field| field.get());
    let return_when = return_when.unwrap_or_default();
    let grace = section.take("grace");
    if let Some(field) = grace
        .as_ref()
        .filter(|_| return_when != ReturnWhen::Required)
    {
        field.warning(
            "no_effect",
            "a grace has an effect only with return_when: required",
            "set return_when, or leave out the grace",
        );
    }
    section.finish();
    Aggregate {
        strategy: strategy.unwrap_or_default(),
        return_when,
        grace: span(grace, Duration::ZERO),
    }
}
