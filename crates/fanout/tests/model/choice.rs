//! Decides which nodes of a plan a request runs, independently of the crate.

use std::collections::BTreeMap;

use tower_fanout::{Selection, Strategy};

use crate::case::Case;

/// The nodes that run. The value is `true` for required ones.
pub(crate) type Runs = BTreeMap<usize, bool>;
/// The nodes that are skipped by selection, with the reason.
pub(crate) type Skipped = BTreeMap<usize, &'static str>;

/// Returns the nodes that `case` runs and skips, or `None` if the case cannot be run.
pub(crate) fn select(case: &Case) -> Option<(Runs, Skipped)> {
    let quorum = quorum(case.strategy);
    let mut asked: Runs = match &case.selection {
        Selection::Named { required, optional } => {
            let optional = optional.iter().map(|&node| (node, false));
            optional
                .chain(required.iter().map(|&node| (node, true)))
                .collect()
        }
        _ => case
            .nodes
            .iter()
            .map(|node| node.required)
            .enumerate()
            .collect(),
    };
    if quorum.is_some() {
        asked.values_mut().for_each(|required| *required = false);
    }
    let mut skipped = Skipped::new();
    let mut runs = pull_in(case, &asked, &skipped);
    let own_when = |node: &usize| case.nodes[*node].when == Some(false);
    skip("when", case, &runs, &mut skipped, own_when);
    runs = pull_in(case, &asked, &skipped);
    let own_tier = |node: &usize| case.nodes[*node].tiered && !case.tier;
    if runs
        .iter()
        .any(|(node, required)| *required && own_tier(node))
    {
        return None;
    }
    skip("tier", case, &runs, &mut skipped, own_tier);
    runs = pull_in(case, &asked, &skipped);
    if case.strategy == Strategy::All {
        runs.values_mut().for_each(|required| *required = true);
    }
    let sinks = runs
        .keys()
        .filter(|&&node| is_sink(case, &runs, node))
        .count();
    (sinks >= quorum.unwrap_or(1)).then_some((runs, skipped))
}

/// Skips the nodes in `runs` for which `own` is true, and all nodes that need a skipped one.
fn skip(
    reason: &'static str,
    case: &Case,
    runs: &Runs,
    skipped: &mut Skipped,
    own: impl Fn(&usize) -> bool,
) {
    let mut skips: Vec<usize> = runs.keys().copied().filter(own).collect();
    while !skips.is_empty() {
        skipped.extend(skips.iter().map(|&node| (node, reason)));
        let needs_skipped = |node: &usize| {
            let mut hard = case.nodes[*node].dependencies.iter().filter(|one| one.1);
            !skipped.contains_key(node) && hard.any(|one| skipped.contains_key(&one.0))
        };
        skips = runs.keys().copied().filter(needs_skipped).collect();
    }
}

/// Returns the nodes of `asked` that are not skipped, and their dependencies.
fn pull_in(case: &Case, asked: &Runs, skipped: &Skipped) -> Runs {
    let mut runs = Runs::new();
    let mut next: Vec<(usize, bool)> = asked
        .iter()
        .map(|(&node, &needed)| (node, needed))
        .collect();
    while let Some((node, required)) = next.pop() {
        let known = runs.get(&node).copied();
        if skipped.contains_key(&node) || known.is_some_and(|known| known || !required) {
            continue;
        }
        runs.insert(node, required);
        if case.nodes[node].when == Some(false) {
            continue;
        }
        let before = case.nodes[node].dependencies.iter();
        next.extend(before.map(|&(dependency, hard)| (dependency, required && hard)));
    }
    runs
}

/// Returns `true` if no node that runs depends on `node`.
pub(crate) fn is_sink(case: &Case, runs: &Runs, node: usize) -> bool {
    !runs.keys().any(|&other| depends(case, other, node))
}

/// Returns the number of answers that is enough, or `None` if the strategy does not count answers.
pub(crate) fn quorum(strategy: Strategy) -> Option<usize> {
    match strategy {
        Strategy::First => Some(1),
        Strategy::Quorum(needed) => Some(needed.get()),
        _ => None,
    }
}

/// Returns `true` if `node` depends on `on`.
pub(crate) fn depends(case: &Case, node: usize, on: usize) -> bool {
    case.nodes[node].dependencies.iter().any(|one| one.0 == on)
}
