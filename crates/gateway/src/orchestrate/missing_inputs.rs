//! Rejects requests whose input cannot be sent to the services, before anything is sent.

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use http::Request;
use tower_fanout::{BranchError, Choice, Strategy};
use tower_fanout_http::problem::{Code, FieldError, Problem};
use tower_fanout_json::{
    condition::EvalError,
    template::{Reference, RenderError, Root},
};

use crate::{
    inbound::{Inbound, Source},
    route::Route,
};

/// The input of the client request that makes a node fail.
enum BadInput {
    Missing(Reference),
    /// Values that cannot be sent.
    Unusable(Vec<Reference>),
}

/// Renders the requests of the nodes that run and read no responses of other nodes.
///
/// Returns a problem if the input of the client makes a required node or a condition in `failed` fail, or if it leaves
/// fewer nodes that could be sent than `strategy` needs.
pub(super) fn check(
    route: &Route,
    strategy: Strategy,
    inbound: &Inbound,
    choices: &[Choice],
    failed: Vec<(usize, BranchError)>,
) -> Result<Vec<Option<Arc<Request<Bytes>>>>, Problem> {
    let source = Source {
        inbound,
        answers: None,
    };
    let mut failures = condition_failures(choices, failed);
    // Remains empty, without an allocation, if no node reads a value.
    let mut prepared = Vec::new();
    for (node, choice) in choices.iter().enumerate() {
        let template = &route.templates[node];
        let reads = template.references().next().is_some();
        let has_failed = failures.iter().any(|(failed, _)| *failed == node);
        if choice.runs() && reads && !has_failed {
            prepared.resize(choices.len(), None);
            match template.prepare(&source) {
                Ok(request) => prepared[node] = request.map(Arc::new),
                Err(error) => failures.push((node, error.into())),
            }
        }
    }
    // The values of a hypothetical request may exist in a real one.
    failures.retain(|(_, input)| match input {
        BadInput::Missing(reference) => !inbound.is_unknown(&reference.root),
        BadInput::Unusable(_) => true,
    });
    if failures.is_empty() {
        return Ok(prepared);
    }
    let is_optional = |node: usize| {
        matches!(
            choices[node],
            Choice::Run { required: false } | Choice::Fail(_)
        )
    };
    // If a required node fails, it is the cause. If enough others can be sent, an optional one fails alone.
    if failures.iter().any(|(node, _)| !is_optional(*node))
        || can_succeed(route, strategy, choices, &failures)
    {
        failures.retain(|(node, _)| !is_optional(*node));
    }
    if failures.is_empty() {
        return Ok(prepared);
    }
    // Errors are reported in the order of the plan.
    failures.sort_by_key(|(node, _)| *node);
    Err(problem(route, &failures))
}

/// Returns the failures of conditions: those of required nodes in `failed`, and those of optional ones in `choices`.
fn condition_failures(
    choices: &[Choice],
    failed: Vec<(usize, BranchError)>,
) -> Vec<(usize, BadInput)> {
    let choices = choices.iter().enumerate();
    let optional = choices.filter_map(|(node, choice)| match choice {
        Choice::Fail(error) => Some((node, error.clone())),
        _ => None,
    });
    let failures = failed.into_iter().chain(optional);
    failures.map(|(node, error)| (node, error.into())).collect()
}

/// Returns `true` if enough nodes for `strategy` have their input, and so have the nodes that they need: any
/// node that runs, or as many sinks as the strategy counts.
fn can_succeed(
    route: &Route,
    strategy: Strategy,
    choices: &[Choice],
    failures: &[(usize, BadInput)],
) -> bool {
    let plan = route.fan_out.plan();
    let (mut is_blocked, mut is_sink) = (vec![false; choices.len()], vec![true; choices.len()]);
    failures
        .iter()
        .for_each(|(node, _)| is_blocked[*node] = true);
    // The nodes that a node needs come before it.
    for &node in plan.order() {
        let info = &plan.nodes()[node];
        is_blocked[node] |= info.hard_dependencies().any(|on| is_blocked[on]);
        if choices[node].runs() {
            info.dependencies().for_each(|on| is_sink[on] = false);
        }
    }
    let mut sent = (0..choices.len()).filter(|&node| choices[node].runs() && !is_blocked[node]);
    match strategy {
        Strategy::First => sent.any(|node| is_sink[node]),
        Strategy::Quorum(needed) => sent.filter(|&node| is_sink[node]).count() >= needed.get(),
        // Under `All` each node is required, so a failure is never that of an optional one.
        _ => sent.next().is_some(),
    }
}

/// Returns the problem of the failures, which are not empty.
fn problem(route: &Route, failures: &[(usize, BadInput)]) -> Problem {
    let (mut missing, mut unusable) = (Vec::new(), Vec::new());
    for (node, input) in failures {
        let name = &route.names()[*node];
        match input {
            BadInput::Missing(reference) => {
                let detail = format!("required by service \"{name}\"");
                missing.push(FieldError::new(pointer(reference), "missing", detail));
            }
            BadInput::Unusable(references) => unusable.extend(references.iter().map(|reference| {
                let detail = format!("cannot be used for service \"{name}\"");
                FieldError::new(pointer(reference), "unusable", detail)
            })),
        }
    }
    // Missing values take precedence, because no other value can be wrong without them.
    if missing.is_empty() {
        Problem::new(Code::BadParam).errors(unusable)
    } else {
        Problem::new(Code::MissingParam).errors(missing)
    }
}

impl From<RenderError> for BadInput {
    fn from(error: RenderError) -> Self {
        match error {
            RenderError::Missing(reference) => Self::Missing(reference),
            RenderError::Unusable(references) => Self::Unusable(references),
            RenderError::TooLarge { value, .. } => Self::Unusable(value.into_iter().collect()),
            _ => Self::Unusable(Vec::new()),
        }
    }
}

/// Converts the error of a condition.
impl From<BranchError> for BadInput {
    fn from(error: BranchError) -> Self {
        match error.source().and_then(<dyn Error>::downcast_ref) {
            Some(EvalError::Missing(reference)) => Self::Missing(reference.clone()),
            Some(
                EvalError::Unusable(Some(reference))
                | EvalError::NotBoolean(Some(reference))
                | EvalError::TooLarge(reference),
            ) => Self::Unusable(vec![reference.clone()]),
            _ => Self::Unusable(Vec::new()),
        }
    }
}

/// Returns a JSON pointer to the missing value in the client request.
fn pointer(reference: &Reference) -> String {
    let escaped = reference
        .path
        .iter()
        .map(|name| name.replace('~', "~0").replace('/', "~1"));
    let path = escaped.fold(String::new(), |path, name| path + "/" + &name);
    match reference.root {
        Root::Body => path,
        // Values outside the body get the name of their source as the first segment, such as `/query/id`.
        _ => format!("/{}{path}", reference.root),
    }
}
