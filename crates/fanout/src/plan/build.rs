//! Builds a plan from the descriptions of its nodes.

use std::{collections::HashMap, sync::Arc};

use super::{
    Dependency, NodeSpec, Plan, PlanDiagnostic, PlanError, PlanGraph, PlanLocation, PlanPart,
    Reference, Severity, check::Read,
};
use crate::{
    graph::{self, Ancestors},
    suggest::nearest_name,
};

/// Validates `specs` and builds a plan with the id `id`, which the keys in `specs` have.
///
/// # Errors
/// Returns all errors of the graph.
pub(crate) fn build(id: u64, specs: Vec<NodeSpec>) -> Result<Plan, PlanError> {
    let names: Arc<[Box<str>]> = specs.iter().map(|spec| spec.name.clone()).collect();
    let mut resolver = Resolver::new(id, &names);
    let (mut nodes, mut reads) = (Vec::with_capacity(names.len()), Vec::new());
    // Nodes with a dependency that could not be resolved.
    let mut loose = Vec::new();
    for (node, spec) in specs.into_iter().enumerate() {
        let mut info = spec.info;
        for (position, reference) in spec.reads.into_iter().enumerate() {
            let on = resolver.resolve(node, PlanPart::Reads(position), reference);
            reads.extend(on.map(|on| Read { node, position, on }));
        }
        for (position, (reference, hard)) in spec.after.into_iter().enumerate() {
            let Some(on) = resolver.resolve(node, PlanPart::After(position), reference) else {
                loose.push(node);
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
        nodes.push(info);
    }
    let mut problems = resolver.problems;
    let edges: Vec<Vec<usize>> = nodes
        .iter()
        .map(|node| node.dependencies().collect())
        .collect();
    let mut graph = PlanGraph {
        id,
        names,
        nodes,
        dependents: graph::reverse(&edges),
        order: Vec::new(),
        ancestors: Ancestors::default(),
    };
    match graph::sort(&edges) {
        Ok(order) => {
            graph.ancestors = Ancestors::new(&order, &edges);
            graph.order = order;
            problems.extend(graph.foreign_reads(&reads, &loose));
            problems.extend(graph.unreachable());
        }
        // Ancestors are defined only without cycles, so reads are not checked.
        Err(cycles) => problems.extend(cycles.iter().map(|path| graph.cycle(path))),
    }
    if !problems.is_empty() {
        return Err(PlanError { problems });
    }
    Ok(Plan {
        graph: Arc::new(graph),
    })
}

/// Maximum number of problems with a suggestion of a similar name.
const MOST_SUGGESTIONS: usize = 100;

/// The nodes of a plan by name. Collects the problems of their names and references.
struct Resolver<'n> {
    plan: u64,
    names: &'n [Box<str>],
    indices: HashMap<&'n str, usize>,
    problems: Vec<PlanDiagnostic>,
}

impl<'n> Resolver<'n> {
    /// Creates a resolver for the nodes named `names`, with a problem for each duplicate name.
    fn new(plan: u64, names: &'n [Box<str>]) -> Self {
        let mut resolver = Self {
            plan,
            names,
            indices: HashMap::with_capacity(names.len()),
            problems: Vec::new(),
        };
        if names.is_empty() {
            let whole = PlanLocation::default();
            resolver.error("empty_plan", whole, "the plan has no nodes", "add a node");
        }
        for (index, name) in names.iter().enumerate() {
            if resolver.indices.insert(name, index).is_some() {
                resolver.error(
                    "duplicate_name",
                    PlanLocation::of(name, None),
                    format!("duplicate node name \"{name}\""),
                    "rename one of the nodes",
                );
            }
        }
        resolver
    }

    /// Returns the index of the node that `part` of `node` refers to. Records a problem if the
    /// reference cannot be resolved.
    fn resolve(&mut self, node: usize, part: PlanPart, reference: Reference) -> Option<usize> {
        let node = &self.names[node];
        let location = PlanLocation::of(node, part);
        match reference {
            Reference::Key { plan, index } if plan == self.plan => return Some(index),
            Reference::Key { .. } => self.error(
                "foreign_key",
                location,
                format!("\"{node}\" uses a key of another plan"),
                "use a key from the builder of this plan",
            ),
            Reference::Name(name) => {
                if let Some(&index) = self.indices.get(&*name) {
                    return Some(index);
                }
                let does = match part {
                    PlanPart::Reads(_) => "reads",
                    _ => "depends on",
                };
                let message = format!("\"{node}\" {does} \"{name}\", which is not in the plan");
                let known = self.names.iter().map(|known| &**known);
                // All names are compared with only some of the unknown ones, of which a plan may have thousands.
                let is_compared = self.problems.len() < MOST_SUGGESTIONS;
                let nearest = is_compared.then(|| nearest_name(&name, known)).flatten();
                let help = match nearest {
                    Some(nearest) => format!("did you mean \"{nearest}\"?"),
                    None => format!("add a node \"{name}\", or remove this reference"),
                };
                self.error("unknown_node", location, message, help);
            }
        }
        None
    }

    fn error(
        &mut self,
        code: &'static str,
        location: PlanLocation,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let problem = PlanDiagnostic::new(Severity::Error, code, location, message, help);
        self.problems.push(problem);
    }
}
