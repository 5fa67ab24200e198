//! Reads policies.

use indexmap::IndexMap;
use tower_fanout::Policy;

use super::{reader::ValueReader, value::Span};

pub(super) fn policies(members: Vec<(String, ValueReader<'_>)>) -> IndexMap<String, Policy> {
    members
        .into_iter()
        .map(|(name, field)| (name, policy(&field)))
        .collect()
}

fn policy(field: &ValueReader<'_>) -> Policy {
    let mut policy = Policy::default();
    let mut section = field.section();
    if let Some(field) = section.take("total_timeout") {
        policy.total_timeout = unless_off(&field, |field| field.get()).map(|Span(span)| span);
    }
    if let Some(field) = section.take("attempt_timeout") {
        policy.attempt_timeout = unless_off(&field, |field| field.get()).map(|Span(span)| span);
    }
    if let Some(field) = section.take("last_attempt_uses_deadline") {
        policy.last_attempt_uses_deadline = field.get().unwrap_or_default();
    }
    if let Some(field) = section.take("classify") {
        policy.classify = field.settings().unwrap_or_default();
    }
    if let Some(field) = section.take("retry") {
        policy.retry = unless_off(&field, ValueReader::settings);
    }
    if let Some(field) = section.take("hedge") {
        policy.hedge = unless_off(&field, ValueReader::settings);
    }
    if let Some(field) = section.take("circuit_breaker") {
        policy.circuit_breaker = unless_off(&field, ValueReader::settings);
    }
    if let Some(field) = section.take("throttle") {
        policy.throttle = unless_off(&field, ValueReader::settings);
    }
    if let Some(field) = section.take("concurrency") {
        policy.concurrency = unless_off(&field, ValueReader::settings);
    }
    section.finish();
    if field.check(&policy) {
        policy
    } else {
        Policy::default()
    }
}

/// A part of a policy, which the word `off` turns off.
fn unless_off<'t, T>(
    field: &ValueReader<'t>,
    read: impl FnOnce(&ValueReader<'t>) -> Option<T>,
) -> Option<T> {
    (!field.is_word("off")).then(|| read(field)).flatten()
}
