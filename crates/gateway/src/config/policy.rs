//! Reads resilience policies.

use indexmap::IndexMap;
use tower_fanout::{PerKeyPolicy, Policy};

use super::{KeyTemplate, reader::ValueReader, text::Text, value::named};

/// A policy, and the key of its limits per key.
#[derive(Clone, Default)]
pub(super) struct KeyedPolicy {
    pub(super) policy: Policy,
    /// `None` if the policy has no limits per key.
    pub(super) key: Option<KeyTemplate>,
}

/// Reads the policies by name. One with an error is replaced by the default, so that references to it are valid.
pub(super) fn policies(
    files: IndexMap<String, Policy>,
    reader: &ValueReader<'_>,
) -> IndexMap<String, KeyedPolicy> {
    named(reader, "policies", files, |policy, reader| {
        keyed(reader, policy).unwrap_or_default()
    })
}

/// Checks the valid part of the policy at `reader`, and reads its key. Returns `None` if the policy has errors.
fn keyed(reader: &ValueReader<'_>, mut policy: Policy) -> Option<KeyedPolicy> {
    let at = reader.at("per_key");
    let has_part =
        |per_key: &PerKeyPolicy| per_key.concurrency.is_some() || per_key.circuit_breaker.is_some();
    let template = policy.per_key.as_ref().and_then(|per_key| {
        // A missing or invalid template is reported already.
        KeyTemplate::parse(per_key.key.as_ref()?).ok()
    });
    // A part with an error is not missing.
    let lacks_parts = policy
        .per_key
        .as_ref()
        .is_some_and(|per_key| !has_part(per_key));
    if lacks_parts && at.is_sound() {
        report_no_part(&at);
    }
    policy.per_key = policy.per_key.filter(has_part);
    let is_valid = reader.check(&policy) && !lacks_parts;
    is_valid.then_some(KeyedPolicy {
        policy,
        key: template,
    })
}

/// Reports limits per key at `per_key` that limit nothing.
fn report_no_part(per_key: &ValueReader<'_>) {
    if per_key.has("concurrency") || per_key.has("circuit_breaker") {
        let help = Some("set per_key: off".to_owned());
        let message = "concurrency and circuit_breaker of per_key are both off";
        per_key.error_with_help("invalid", message, help);
    } else {
        let message = "missing key \"concurrency\" or \"circuit_breaker\"";
        per_key.error("missing", message);
    }
}
