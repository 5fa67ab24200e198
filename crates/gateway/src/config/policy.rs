//! Reads resilience policies.

use indexmap::IndexMap;
use tower_fanout::Policy;

use super::{reader::ValueReader, value::duration};

pub(super) fn policies(members: Vec<(String, ValueReader<'_>)>) -> IndexMap<String, Policy> {
    members
        .into_iter()
        .map(|(name, reader)| (name, policy(&reader)))
        .collect()
}

fn policy(reader: &ValueReader<'_>) -> Policy {
    let mut policy = Policy::default();
    let mut map = reader.as_map();
    map.set(
        "total_timeout",
        &mut policy.total_timeout,
        unless_off(duration),
    );
    map.set(
        "attempt_timeout",
        &mut policy.attempt_timeout,
        unless_off(duration),
    );
    policy.last_attempt_uses_deadline = map.is_on("last_attempt_uses_deadline");
    map.set("classify", &mut policy.classify, ValueReader::config);
    map.set("retry", &mut policy.retry, unless_off(ValueReader::config));
    map.set("hedge", &mut policy.hedge, unless_off(ValueReader::config));
    map.set(
        "circuit_breaker",
        &mut policy.circuit_breaker,
        unless_off(ValueReader::config),
    );
    map.set(
        "throttle",
        &mut policy.throttle,
        unless_off(ValueReader::config),
    );
    map.set(
        "concurrency",
        &mut policy.concurrency,
        unless_off(ValueReader::config),
    );
    map.finish();
    if reader.check(&policy) {
        policy
    } else {
        Policy::default()
    }
}

/// Reads a part of a policy with `read`. The word `off` is `None`, and so is an invalid part.
fn unless_off<'t, T>(
    read: impl FnOnce(&ValueReader<'t>) -> Option<T>,
) -> impl FnOnce(&ValueReader<'t>) -> Option<Option<T>> {
    |reader| Some((!reader.is_word("off")).then(|| read(reader)).flatten())
}
