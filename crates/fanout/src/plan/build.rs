//! Builds a plan from the descriptions of its nodes.

use std::sync::Arc;

use super::{
    Dependency, NodeInfo, NodeSpec, Plan, PlanError, PlanGraph, PlanPart,
    check::{self, Read},
    resolve::Resolver,
};

/// Validates `specs` and builds a plan with the id `id`, which the keys in `specs` have.
///
/// # Errors
/// Returns all errors of the graph.
pub(crate) fn build(id: u64, specs: Vec<NodeSpec>) -> Result<Plan, PlanError> {
    let names: Arc<[Box<str>]> = specs.iter().map(|spec| spec.name.clone()).collect();
    let mut resolver = Resolver::new(id, &names);
    let mut parts = Parts::default();
    for spec in specs {
        parts.add(spec, &mut resolver);
    }
    let mut problems = resolver.problems;
    let graph = check::graph(
        &names,
        &parts.nodes,
        &parts.reads,
        &parts.loose,
        &mut problems,
    );
    if !problems.is_empty() {
        return Err(PlanError { problems });
    }
    for (node, wave) in parts.nodes.iter_mut().zip(&graph.waves) {
        node.wave = *wave;
    }
    Ok(Plan {
        graph: Arc::new(PlanGraph {
            id,
            names,
            nodes: parts.nodes,
            dependents: graph.dependents,
            order: graph.order,
            ancestors: graph.ancestors,
        }),
    })
}

/// The nodes of a plan, with references resolved to indices.
#[derive(Default)]
struct Parts {
    nodes: Vec<NodeInfo>,
    reads: Vec<Read>,
    /// Nodes with a dependency that could not be resolved.
    loose: Vec<usize>,
}

impl Parts {
    fn add(&mut self, spec: NodeSpec, resolver: &mut Resolver<'_>) {
        let (index, mut info) = (self.nodes.len(), spec.info);
        for (position, reference) in spec.reads.into_iter().enumerate() {
            let on = resolver.resolve(index, PlanPart::Reads(position), reference);
            self.reads.extend(on.map(|on| Read {
                node: index,
                position,
                on,
            }));
        }
        for (position, (reference, hard)) in spec.after.into_iter().enumerate() {
            let Some(on) = resolver.resolve(index, PlanPart::After(position), reference) else {
                self.loose.push(index);
                continue;
            };
            match info.dependencies.iter_mut().find(|known| known.node == on) {
                // A dependency that is declared more than once is hard if one of the declarations
                // is.
                Some(known) => known.hard |= hard,
                None => info.dependencies.push(Dependency {
                    node: on,
                    declared: position as u32,
                    hard,
                }),
            }
        }
        self.nodes.push(info);
    }
}
