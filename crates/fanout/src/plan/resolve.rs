//! Resolves the references of nodes to other nodes.

use std::collections::HashMap;

use super::{
    diagnostic::PlanDiagnostic,
    location::{PlanLocation, PlanPart},
};
use crate::suggest::nearest_name;

/// A reference from one node to another.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    Key { plan: u64, index: usize },
    Name(Box<str>),
}

/// The nodes of a plan by name. Collects the problems of their names and references.
pub(super) struct Resolver<'n> {
    plan: u64,
    names: &'n [Box<str>],
    indices: HashMap<&'n str, usize>,
    pub(super) problems: Vec<PlanDiagnostic>,
}

impl<'n> Resolver<'n> {
    /// Creates a resolver for the nodes named `names`, with a problem for each duplicate name.
    pub(super) fn new(plan: u64, names: &'n [Box<str>]) -> Self {
        let mut problems = Vec::new();
        let mut indices = HashMap::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            if indices.insert(&**name, index).is_some() {
                let name = name.to_string();
                problems.push(PlanDiagnostic::DuplicateName { name });
            }
        }
        Self {
            plan,
            names,
            indices,
            problems,
        }
    }

    /// Returns the index of the node that `part` of `node` refers to. Records a problem if the
    /// reference cannot be resolved.
    pub(super) fn resolve(
        &mut self,
        node: usize,
        part: PlanPart,
        reference: Reference,
    ) -> Option<usize> {
        let place = || PlanLocation::part(&self.names[node], part);
        let problem = match reference {
            Reference::Key { plan, index } if plan == self.plan => return Some(index),
            Reference::Key { .. } => PlanDiagnostic::ForeignKey { place: place() },
            Reference::Name(name) => match self.indices.get(&*name) {
                Some(&index) => return Some(index),
                None => PlanDiagnostic::UnknownNode {
                    place: place(),
                    nearest: nearest_name(&name, self.names.iter().map(|known| &**known))
                        .map(str::to_owned),
                    name: name.into(),
                },
            },
        };
        self.problems.push(problem);
        None
    }
}
