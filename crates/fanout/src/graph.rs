//! Algorithms on dependency graphs: topological sort, cycles, waves and ancestors. Pure.

use std::{cmp::Reverse, collections::VecDeque, iter, time::Duration};

/// For each node, the nodes it depends on.
pub(crate) type Edges = [Vec<usize>];

/// Returns the nodes in topological order. If the graph has cycles, returns cycles that must all be
/// broken, each as the nodes along it.
///
/// Kahn's algorithm, in O(nodes + edges). Nodes that are equal stay in order of declaration.
pub(crate) fn sort(edges: &Edges) -> Result<Vec<usize>, Vec<Vec<usize>>> {
    let dependents = reverse(edges);
    let mut missing: Vec<usize> = edges.iter().map(Vec::len).collect();
    let mut ready: VecDeque<usize> = (0..edges.len())
        .filter(|&node| missing[node] == 0)
        .collect();
    let mut order = Vec::with_capacity(edges.len());
    let mut cycles = Vec::new();
    while order.len() < edges.len() {
        let Some(node) = ready.pop_front() else {
            // Continue as if the nodes of the cycle waited for nothing, to find further cycles
            // behind it.
            let cycle = cycle(edges, &missing);
            cycle.iter().for_each(|&node| missing[node] = 0);
            ready.extend(&cycle);
            cycles.push(cycle);
            continue;
        };
        order.push(node);
        for &dependent in &dependents[node] {
            if missing[dependent] > 0 {
                missing[dependent] -= 1;
                if missing[dependent] == 0 {
                    ready.push_back(dependent);
                }
            }
        }
    }
    if cycles.is_empty() {
        Ok(order)
    } else {
        Err(cycles)
    }
}

/// Returns a cycle among the nodes with missing dependencies. Each of them depends on another such
/// node, so following these edges leads back to a visited node.
fn cycle(edges: &Edges, missing: &[usize]) -> Vec<usize> {
    let mut path = Vec::new();
    let mut node = missing
        .iter()
        .position(|&count| count > 0)
        .expect("a cycle leaves nodes over");
    loop {
        if let Some(start) = path.iter().position(|&seen| seen == node) {
            path.drain(..start);
            return path;
        }
        path.push(node);
        node = *edges[node]
            .iter()
            .find(|&&dependency| missing[dependency] > 0)
            .expect("a node that was left over depends on another");
    }
}

/// Returns, for each node, the nodes that depend on it.
pub(crate) fn reverse(edges: &Edges) -> Vec<Vec<usize>> {
    let mut reversed = vec![Vec::new(); edges.len()];
    for (node, dependencies) in edges.iter().enumerate() {
        for &dependency in dependencies {
            reversed[dependency].push(node);
        }
    }
    reversed
}

/// For each node, its direct and indirect dependencies. One bit per pair of nodes.
#[derive(Debug, Default)]
pub(crate) struct Ancestors {
    bits: Vec<u64>,
    words: usize,
}

impl Ancestors {
    pub(crate) fn new(order: &[usize], edges: &Edges) -> Self {
        let words = order.len().div_ceil(64);
        let mut bits = vec![0; order.len() * words];
        for &node in order {
            for &dependency in &edges[node] {
                bits[node * words + dependency / 64] |= 1 << (dependency % 64);
                for word in 0..words {
                    bits[node * words + word] |= bits[dependency * words + word];
                }
            }
        }
        Self { bits, words }
    }

    /// Returns `true` if `node` depends on `other`, directly or indirectly.
    pub(crate) fn contains(&self, node: usize, other: usize) -> bool {
        let word = self.bits.get(node * self.words + other / 64);
        other / 64 < self.words && word.is_some_and(|word| word >> (other % 64) & 1 == 1)
    }
}

/// Returns, for each node, the earliest wave in which it could start if all nodes took equally
/// long.
pub(crate) fn waves(order: &[usize], edges: &Edges) -> Vec<usize> {
    let mut wave = vec![0; order.len()];
    for &node in order {
        wave[node] = edges[node]
            .iter()
            .map(|&dependency| wave[dependency] + 1)
            .max()
            .unwrap_or(0);
    }
    wave
}

/// Returns the nodes that determine the end of `last`, from the first to `last` itself. Each one is
/// the last to end among the nodes that come `before` the next. `end` is `None` for a node that did
/// not run.
pub(crate) fn critical_path<I: Iterator<Item = usize>>(
    last: Option<usize>,
    before: impl Fn(usize) -> I,
    end: impl Fn(usize) -> Option<Duration>,
) -> Vec<usize> {
    let mut path: Vec<usize> =
        iter::successors(last, |&node| last_to_end(before(node), &end)).collect();
    path.reverse();
    path
}

/// Returns the last of `nodes` to end. Of nodes that end at the same time, the one declared first
/// counts.
pub(crate) fn last_to_end(
    nodes: impl Iterator<Item = usize>,
    end: impl Fn(usize) -> Option<Duration>,
) -> Option<usize> {
    let ended = nodes.filter_map(|node| Some((end(node)?, Reverse(node))));
    ended.max().map(|(_, Reverse(node))| node)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cycle_contains_only_its_own_nodes() {
        // 0 depends on the cycle 1 → 2 → 3 → 1 without being on it.
        let edges = [vec![1], vec![2], vec![3], vec![1]];
        assert_eq!(sort(&edges), Err(vec![vec![1, 2, 3]]));
        assert_eq!(sort(&[vec![0]]), Err(vec![vec![0]]));
        let two = [vec![1], vec![0], vec![1], vec![4], vec![3, 2]];
        assert_eq!(sort(&two), Err(vec![vec![0, 1], vec![3, 4]]));
    }

    #[test]
    fn waves_and_ancestors_of_a_diamond() {
        let edges = [vec![], vec![0], vec![0], vec![1, 2], vec![]];
        let order = sort(&edges).unwrap();
        assert_eq!(waves(&order, &edges), [0, 1, 1, 2, 0]);
        let ancestors = Ancestors::new(&order, &edges);
        let of = |node| -> Vec<_> {
            (0..9)
                .filter(|&other| ancestors.contains(node, other))
                .collect()
        };
        assert_eq!(
            (0..5).map(of).collect::<Vec<_>>(),
            [vec![], vec![0], vec![0], vec![0, 1, 2], vec![]]
        );
    }

    proptest! {
        #[test]
        fn fault_g6_random_graphs_are_sorted_or_have_a_real_cycle(
            edges in (1usize..40).prop_flat_map(|n| {
                prop::collection::vec(prop::collection::btree_set(0..n, 0..3), n)
            })
        ) {
            let edges: Vec<Vec<usize>> = edges.into_iter().map(|set| set.into_iter().collect()).collect();
            match sort(&edges) {
                Ok(order) => {
                    let position = |node| order.iter().position(|&other| other == node).unwrap();
                    for (node, dependencies) in edges.iter().enumerate() {
                        for &dependency in dependencies {
                            prop_assert!(position(dependency) < position(node));
                        }
                    }
                }
                Err(cycles) => {
                    prop_assert!(!cycles.is_empty());
                    for cycle in cycles {
                        for (step, &node) in cycle.iter().enumerate() {
                            let next = cycle[(step + 1) % cycle.len()];
                            prop_assert!(edges[node].contains(&next), "{node} does not depend on {next}");
                        }
                    }
                }
            }
        }
    }
}
