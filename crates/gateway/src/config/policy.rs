//! Reads resilience policies.

use indexmap::IndexMap;
use tower_fanout::{PerKeyPolicy, Policy};

use super::{KeyTemplate, key::key, reader::ValueReader};

/// A policy, and the key of its limits per key.
#[derive(Clone, Default)]
pub(super) struct KeyedPolicy {
    pub(super) policy: Policy,
    /// `None` if the policy has no limits per key.
    pub(super) key: Option<KeyTemplate>,
}

/// Reads the policies by name. One with an error is replaced by the default, so that references to it are valid.
pub(super) fn policies(
    mut read: IndexMap<String, Policy>,
    reader: &ValueReader<'_>,
) -> IndexMap<String, KeyedPolicy> {
    let named = reader
        .members("policies")
        .into_iter()
        .map(|(name, reader)| {
            let policy = read.get_mut(&name).map(std::mem::take);
            (
                name,
                policy
                    .and_then(|policy| keyed(&reader, policy))
                    .unwrap_or_default(),
            )
        });
    named.collect()
}

/// Checks the valid part of the policy at `reader`, and reads its key. Returns `None` if the policy has errors.
fn keyed(reader: &ValueReader<'_>, mut policy: Policy) -> Option<KeyedPolicy> {
    let at = reader.at("per_key");
    let has_part =
        |per_key: &PerKeyPolicy| per_key.concurrency.is_some() || per_key.circuit_breaker.is_some();
    // A part with an error is not missing.
    policy.per_key = policy
        .per_key
        .filter(|per_key| has_part(per_key) || at.is_sound());
    let template = policy.per_key.as_ref().and_then(|per_key| {
        let Some(template) = &per_key.key else {
            if at
                .tree
                .members()
                .is_some_and(|members| !members.contains_key("key"))
            {
                at.error("missing", "missing key \"key\"");
            }
            return None;
        };
        key(&reader.at("per_key.key"), template)
    });
    let is_valid = reader.check(&policy);
    is_valid.then_some(KeyedPolicy {
        policy,
        key: template,
    })
}
