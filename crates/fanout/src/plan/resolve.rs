//! Finds the nodes that others name.

use std::collections::HashMap;

use super::{
    diagnostic::PlanDiagnostic,
    location::{PlanLocation, PlanPart},
};
use crate::suggest::nearest_name;

/// How one node names another.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    Key { plan: u64, index: usize },
    Name(Box<str>),
}

/// The nodes of a plan by name, and what is wrong with how they are named.
pub(super) struct Resolver<'n> {
    plan: u64,
    names: &'n [Box<str>],
    places: HashMap<&'n str, usize>,
    pub(super) problems: Vec<PlanDiagnostic>,
}

impl<'n> Resolver<'n> {
    /// Among the nodes called `names`, of which there is a problem for each that stands twice.
    pub(super) fn new(plan: u64, names: &'n [Box<str>]) -> Self {
        let mut problems = Vec::new();
        let mut places = HashMap::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            if places.insert(&**name, index).is_some() {
                let name = name.to_string();
                problems.push(PlanDiagnostic::DuplicateName { name });
            }
        }
        Self {
            plan,
            names,
            places,
            problems,
        }
    }

    /// The node that `part` of `node` refers to; a problem if there is none.
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
            Reference::Name(name) => match self.places.get(&*name) {
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
