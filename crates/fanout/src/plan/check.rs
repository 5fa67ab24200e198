//! Checks the graph of a plan. Pure.

use super::{NodeInfo, PlanDiagnostic, PlanGraph, PlanLocation, PlanPart, Severity};

/// A read of another node's answer.
pub(super) struct Read {
    pub(super) node: usize,
    /// Position in the node's reads, from 0.
    pub(super) position: usize,
    pub(super) on: usize,
}

impl PlanGraph {
    /// Returns a problem for each read of a node that the reading node does not depend on.
    ///
    /// `loose` nodes have a dependency that could not be resolved. The ancestors of these nodes and
    /// their dependents are incomplete, so their reads are not checked.
    pub(super) fn foreign_reads(
        &self,
        reads: &[Read],
        loose: &[usize],
    ) -> impl Iterator<Item = PlanDiagnostic> {
        let depends = |node: usize, on: usize| self.ancestors.contains(node, on);
        let is_complete = move |node| !loose.iter().any(|&on| on == node || depends(node, on));
        let foreign = reads
            .iter()
            .filter(move |read| !depends(read.node, read.on) && is_complete(read.node));
        foreign.map(move |read| {
            let (node, on) = (&self.names[read.node], &self.names[read.on]);
            let is_circular = read.node == read.on || depends(read.on, read.node);
            PlanDiagnostic::new(
                Severity::Error,
                "not_a_dependency",
                PlanLocation::of(node, PlanPart::Reads(read.position)),
                format!("\"{node}\" reads \"{on}\", but does not depend on it"),
                match is_circular {
                    true => format!("remove this reference: \"{on}\" has to wait for this node"),
                    false => format!("make \"{node}\" depend on \"{on}\""),
                },
            )
        })
    }

    /// Returns the problem of a cycle, given as the nodes along it. Nodes are mostly declared after
    /// their dependencies, so a dependency on a later node is the most likely mistake. Each cycle
    /// has one.
    pub(super) fn cycle(&self, path: &[usize]) -> PlanDiagnostic {
        let steps = path.iter().zip(path.iter().cycle().skip(1));
        let (&node, &on) = steps
            .max_by_key(|(node, on)| on >= node)
            .expect("a cycle has a step");
        let around = path.iter().chain(path.first());
        PlanDiagnostic::new(
            Severity::Error,
            "cycle",
            self.dependency(node, on),
            format!("dependency cycle: {}", self.joined(around, " → ")),
            format!(
                "remove the dependency of \"{}\" on \"{}\"",
                self.names[node], self.names[on]
            ),
        )
    }

    /// Returns the names of `nodes`, separated by `separator`.
    pub(crate) fn joined<'n>(
        &self,
        nodes: impl IntoIterator<Item = &'n usize>,
        separator: &str,
    ) -> String {
        let names: Vec<&str> = nodes.into_iter().map(|&node| &*self.names[node]).collect();
        names.join(separator)
    }

    /// Returns the location where the dependency of `node` on `on` was declared.
    fn dependency(&self, node: usize, on: usize) -> PlanLocation {
        let mut dependencies = self.nodes[node].dependencies.iter();
        let found = dependencies.find(|dependency| dependency.node == on);
        let position = found.map_or(0, |dependency| dependency.declared as usize);
        PlanLocation::of(&self.names[node], PlanPart::After(position))
    }

    /// Returns, per node, whether every successful request needs it: required nodes, and the nodes
    /// that they need.
    fn needed(&self) -> Vec<bool> {
        let mut needed: Vec<bool> = self.nodes.iter().map(NodeInfo::is_required).collect();
        for &node in self.order.iter().rev() {
            if needed[node] {
                let hard = self.nodes[node].hard_dependencies();
                hard.for_each(|on| needed[on] = true);
            }
        }
        needed
    }

    /// Returns a problem for each needed node that no tier can use, because the node and the nodes
    /// it needs have no tier in common.
    pub(super) fn unreachable(&self) -> Vec<PlanDiagnostic> {
        let needed = self.needed();
        let mut problems = Vec::new();
        // The tiers that can use each node. `None` means all.
        let mut common: Vec<Option<Vec<&str>>> = vec![None; self.nodes.len()];
        let is_empty = |tiers: &Option<Vec<&str>>| tiers.as_ref().is_some_and(Vec::is_empty);
        for &node in &self.order {
            let info = &self.nodes[node];
            let own =
                (!info.tiers.is_empty()).then(|| info.tiers.iter().map(String::as_str).collect());
            let tiers = info
                .hard_dependencies()
                .fold(own, |tiers, on| both(tiers, common[on].as_deref()));
            let mut before = info.hard_dependencies();
            let begins_here = is_empty(&tiers) && !before.any(|on| is_empty(&common[on]));
            if needed[node] && begins_here {
                let (name, needs) = (&self.names[node], self.limited(node));
                problems.push(PlanDiagnostic::new(
                    Severity::Error,
                    "unreachable",
                    PlanLocation::of(name, PlanPart::Tiers),
                    format!(
                        "\"{name}\" is required, but no tier has all nodes that it needs: {needs}"
                    ),
                    format!("give these nodes a common tier, or make \"{name}\" optional"),
                ));
            }
            common[node] = tiers;
        }
        problems
    }

    /// Returns the nodes restricted to tiers among `node` and the nodes it needs, with their tiers.
    fn limited(&self, node: usize) -> String {
        let mut needs = vec![node];
        let mut next = 0;
        while let Some(&node) = needs.get(next) {
            next += 1;
            for on in self.nodes[node].hard_dependencies() {
                if !needs.contains(&on) {
                    needs.push(on);
                }
            }
        }
        needs.retain(|&node| !self.nodes[node].tiers.is_empty());
        let named = |node: usize| {
            let tiers = self.nodes[node].tiers.join(", ");
            format!("\"{}\" ({tiers})", self.names[node])
        };
        let needs: Vec<String> = needs.into_iter().map(named).collect();
        needs.join(", ")
    }

    /// Returns a problem for each unconditional, needed node that needs a conditional one.
    pub(crate) fn conditional_dependencies(&self) -> Vec<PlanDiagnostic> {
        let needed = self.needed();
        let unconditional = |node: &usize| needed[*node] && !self.nodes[*node].conditional;
        let mut problems = Vec::new();
        for node in (0..self.nodes.len()).filter(unconditional) {
            let on = self.nodes[node].hard_dependencies();
            problems.extend(on.filter(|&on| self.nodes[on].conditional).map(|on| {
                let (name, other) = (&self.names[node], &self.names[on]);
                PlanDiagnostic::new(
                    Severity::Warning,
                    "conditional_dependency",
                    self.dependency(node, on),
                    format!(
                        "\"{name}\" is required, but skipped if the condition of \"{other}\" is false"
                    ),
                    format!(
                        "make \"{other}\" an optional dependency, or give both nodes the same condition"
                    ),
                )
            }));
        }
        problems
    }
}

/// Returns the tiers that are in both lists. `None` means all tiers.
fn both<'t>(one: Option<Vec<&'t str>>, other: Option<&[&'t str]>) -> Option<Vec<&'t str>> {
    match (one, other) {
        (Some(mut one), Some(other)) => {
            one.retain(|tier| other.contains(tier));
            Some(one)
        }
        (one, other) => one.or_else(|| other.map(<[_]>::to_vec)),
    }
}
