//! Reads resilience policies.

use indexmap::IndexMap;
use tower_fanout::Policy;

use super::{reader::ValueReader, value::Span};

pub(super) fn policies(members: Vec<(String, ValueReader<'_>)>) -> IndexMap<String, Policy> {
    members
        .into_iter()
        .map(|(name, reader)| (name, policy(&reader)))
        .collect()
}

fn policy(reader: &ValueReader<'_>) -> Policy {
    let mut policy = Policy::default();
    let mut map = reader.as_map();
    if let Some(reader) = map.take("total_timeout") {
        policy.total_timeout = unless_off(&reader, |reader| reader.get()).map(|Span(span)| span);
    }
    if let Some(reader) = map.take("attempt_timeout") {
        policy.attempt_timeout = unless_off(&reader, |reader| reader.get()).map(|Span(span)| span);
    }
    if let Some(reader) = map.take("last_attempt_uses_deadline") {
        policy.last_attempt_uses_deadline = reader.get().unwrap_or_default();
    }
    if let Some(reader) = map.take("classify") {
        policy.classify = reader.config().unwrap_or_default();
    }
    if let Some(reader) = map.take("retry") {
        policy.retry = unless_off(&reader, ValueReader::config);
    }
    if let Some(reader) = map.take("hedge") {
        policy.hedge = unless_off(&reader, ValueReader::config);
    }
    if let Some(reader) = map.take("circuit_breaker") {
        policy.circuit_breaker = unless_off(&reader, ValueReader::config);
    }
    if let Some(reader) = map.take("throttle") {
        policy.throttle = unless_off(&reader, ValueReader::config);
    }
    if let Some(reader) = map.take("concurrency") {
        policy.concurrency = unless_off(&reader, ValueReader::config);
    }
    map.finish();
    if reader.check(&policy) {
        policy
    } else {
        Policy::default()
    }
}

/// Reads a part of a policy. Returns `None` for the word `off`.
fn unless_off<'t, T>(
    reader: &ValueReader<'t>,
    read: impl FnOnce(&ValueReader<'t>) -> Option<T>,
) -> Option<T> {
    (!reader.is_word("off")).then(|| read(reader)).flatten()
}
