//! Shares the time and the retries of a request among its nodes. Pure.

use std::time::Duration;

/// Minimum time with which the layers still send a call, by default: see
/// [`RetryConfig::min_useful`](tower_fanout_layers::RetryConfig::min_useful).
pub(crate) const MIN_USEFUL: Duration = Duration::from_millis(10);

/// Returns the time kept back for merging, out of the time that a request has.
pub(crate) fn merge_margin(time: Duration) -> Duration {
    (time / 20).min(Duration::from_millis(50))
}

/// Returns the maximum number of retries that all branches of a request make together, where each
/// branch may make `retries`.
pub(crate) fn shared_retries(retries: u8, branches: usize) -> u32 {
    let shared = u32::try_from(branches.div_ceil(2)).unwrap_or(u32::MAX);
    shared.max(retries.into())
}

/// Returns `true` if a node reserves time for a node that depends on it. A required node reserves
/// no time for an optional one.
pub(crate) const fn reserves_time_for(required: bool, for_required: bool) -> bool {
    for_required || !required
}

/// Returns the share of the remaining time, `left`, that a node may use, or `None` if the node must
/// be skipped for lack of time.
///
/// `after` is the expected time of the nodes after this one. It is kept back, unless less than the
/// node's own `expected` time would remain. In that case, the node may use all of `left`. A
/// required node always starts. An optional node starts only if it can finish in time.
pub(crate) fn time_slice(
    required: bool,
    left: Duration,
    expected: Duration,
    after: Duration,
) -> Option<Duration> {
    let expected = expected.max(MIN_USEFUL);
    if !required && left < expected {
        return None;
    }
    let kept = left.saturating_sub(after);
    Some(if kept >= expected { kept } else { left })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_reserves_time_only_if_it_keeps_its_own() {
        let ms = Duration::from_millis;
        let slice = |required, left, expected, after| {
            time_slice(required, ms(left), ms(expected), ms(after)).map(|time| time.as_millis())
        };
        for required in [true, false] {
            assert_eq!(slice(required, 100, 30, 40), Some(60));
            assert_eq!(slice(required, 100, 60, 40), Some(60));
            assert_eq!(slice(required, 100, 61, 40), Some(100));
            assert_eq!(
                slice(required, 100, 0, 91),
                Some(100),
                "9 ms are less than the useful minimum"
            );
            assert_eq!(slice(required, 100, 100, 0), Some(100));
        }
        assert_eq!(slice(true, 100, 101, 0), Some(100));
        assert_eq!(slice(false, 100, 101, 0), None);
        assert_eq!(slice(true, 9, 0, 0), Some(9));
        assert_eq!(slice(false, 9, 0, 0), None);
    }

    #[test]
    fn a_required_node_reserves_no_time_for_an_optional_one() {
        let cases = [(true, true), (false, true), (false, false), (true, false)];
        let reserves =
            cases.map(|(required, for_required)| reserves_time_for(required, for_required));
        assert_eq!(reserves, [true, true, true, false]);
    }
}
