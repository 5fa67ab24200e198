//! Serializes an explanation.

use serde::{Serialize, Serializer};

use super::{Explanation, NodeExplanation};
use crate::{
    millis::Millis,
    outcome::{SkipReason, breaker_state},
    plan::PlanDiagnostic,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole<'e> {
    strategy: &'static str,
    deadline: Option<Millis>,
    waves: Vec<Vec<&'e str>>,
    critical_path: Vec<&'e str>,
    expected: Option<Millis>,
    worst_case: Option<Millis>,
    services: Services<'e>,
    warnings: &'e [PlanDiagnostic],
}

impl Serialize for Explanation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let waves = self.waves.iter().map(|wave| self.names(wave).collect());
        let whole = Whole {
            strategy: self.strategy.as_str(),
            deadline: self.deadline.map(Millis),
            waves: waves.collect(),
            critical_path: self.names(&self.critical_path).collect(),
            expected: self.expected.map(Millis),
            worst_case: self.worst_case.map(Millis),
            services: Services(self),
            warnings: &self.warnings,
        };
        whole.serialize(serializer)
    }
}

/// Serializes nodes as a map by name, in order of declaration.
struct Services<'e>(&'e Explanation);

impl Serialize for Services<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let services = self
            .0
            .nodes
            .iter()
            .map(|node| (&*node.name, self.service(node)));
        serializer.collect_map(services)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Service<'e> {
    required: bool,
    selected: bool,
    skip_reason: Option<&'static str>,
    depends_on: Vec<&'e str>,
    circuit_breaker_state: &'static str,
    start: Option<Millis>,
    expected: Option<Millis>,
    budget: Option<Millis>,
    worst_case_attempts: u32,
}

impl<'e> Services<'e> {
    fn service(&self, node: &NodeExplanation) -> Service<'e> {
        let nodes = &self.0.nodes;
        let depends_on = node
            .depends_on
            .iter()
            .map(|&(other, _)| &*nodes[other].name);
        Service {
            required: node.required,
            selected: node.selected,
            skip_reason: node.skip_reason.map(SkipReason::as_str),
            depends_on: depends_on.collect(),
            circuit_breaker_state: breaker_state(node.breaker),
            start: node.start.map(Millis),
            expected: node.expected.map(Millis),
            budget: node.budget.map(Millis),
            worst_case_attempts: node.worst_case_attempts,
        }
    }
}
