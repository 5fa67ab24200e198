//! Reads resilience policies.

use indexmap::IndexMap;
use tower_fanout::Policy;

use super::reader::ValueReader;

/// Reads the policies by name. One with an error is replaced by the default, so that references to it are valid.
pub(super) fn policies(reader: &ValueReader<'_>) -> IndexMap<String, Policy> {
    let read: IndexMap<String, Policy> = reader.read().unwrap_or_default();
    let named = reader.entries().into_iter().map(|(name, reader)| {
        let policy = read.get(&name).filter(|policy| reader.check(*policy));
        (name, policy.cloned().unwrap_or_default())
    });
    named.collect()
}
